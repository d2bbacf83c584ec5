"""What an answer says of itself: the model that gave it and the tokens it cost, read from its first and last bytes.

Only answers of recorded requests are read, and never their text: inside a JSON string a quote is escaped, so that
no pattern here can match what a model wrote. Field sources: OpenAI "Chat Completions" and "Responses" (`usage`),
Anthropic "Messages" (`usage` of `message_start` and `message_delta`), Gemini "GenerateContentResponse"
(`usageMetadata`).
"""

import re
from typing import Final, NamedTuple

HEAD_BYTES: Final = 4096
"""Of an answer's beginning: the model, and the input tokens of `message_start`."""
TAIL_BYTES: Final = 4096
"""Of its end: the usage."""


class Told(NamedTuple):
    """None and empty where the answer does not tell."""

    model: str = ""
    input_tokens: int | None = None
    output_tokens: int | None = None


class Excerpt:
    """The beginning and the end of an answer that passes by."""

    __slots__ = ("_head", "_tail")

    def __init__(self) -> None:
        self._head = self._tail = b""

    def passed(self, content: bytes) -> None:
        """More of it."""
        if len(self._head) < HEAD_BYTES:
            self._head += content[: HEAD_BYTES - len(self._head)]
        self._tail = (
            (self._tail + content)[-TAIL_BYTES:] if len(content) < TAIL_BYTES else content[-TAIL_BYTES:]
        )

    def told(self) -> Told:
        """What it has said so far."""
        model = _MODEL.search(self._head)
        return Told(
            model[1].decode("utf-8", "replace") if model else "",
            _last(_INPUT, self._head, self._tail),
            _last(_OUTPUT, self._head, self._tail),
        )


_MODEL: Final = re.compile(rb'"model(?:Version)?"\s*:\s*"([^"\\\r\n]{1,128})"')
_INPUT: Final = re.compile(rb'"(?:prompt_tokens|input_tokens|promptTokenCount)"\s*:\s*(\d{1,12})')
_OUTPUT: Final = re.compile(rb'"(?:completion_tokens|output_tokens|candidatesTokenCount)"\s*:\s*(\d{1,12})')


def _last(pattern: re.Pattern[bytes], head: bytes, tail: bytes) -> int | None:
    """The latest number: streams repeat their usage, the last one holds."""
    for part in (tail, head):
        found = pattern.findall(part)
        if found:
            return int(found[-1])
    return None
