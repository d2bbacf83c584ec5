"""How many tokens an answer says it took, read off its last bytes where they say so. Of every request, so it
looks at little; what a recorded request tells is `excerpt`.

OpenAI `usage.prompt_tokens` and `completion_tokens`; its Responses and Anthropic's Messages `usage.input_tokens`
and `output_tokens`; Gemini `usageMetadata.promptTokenCount`, `candidatesTokenCount` and `thoughtsTokenCount`. Every dialect writes them
at the end of an answer or of a stream. Nothing is decoded for it: inside a JSON text a quotation mark is escaped,
so that what a model writes cannot look like the `"usage` after which they are looked for. The last one counts, for in
streams it is the sum.
"""

import re
from typing import Final

import msgspec

TAIL_BYTES: Final = 2048
"""Where it stands, if anywhere: looking through more would cost long answers more than it tells."""

_MARK: Final = b'"usage'
_PROMPT: Final = re.compile(rb'promptTokenCount"\s*:\s*([0-9]{1,12})')
_THOUGHTS: Final = re.compile(rb'thoughtsTokenCount"\s*:\s*([0-9]{1,12})')
"""Gemini counts what was thought apart from what was said; both are written and paid."""
_NAMES: Final = (
    (
        re.compile(rb'prompt_tokens"\s*:\s*([0-9]{1,12})'),
        re.compile(rb'completion_tokens"\s*:\s*([0-9]{1,12})'),
    ),
    (re.compile(rb'input_tokens"\s*:\s*([0-9]{1,12})'), re.compile(rb'output_tokens"\s*:\s*([0-9]{1,12})')),
    (
        _PROMPT,
        re.compile(rb'candidatesTokenCount"\s*:\s*([0-9]{1,12})'),
    ),
)
"""Each begins with a literal, which the regex engine looks for by itself: of every request, so it must be quick."""


class Tokens(msgspec.Struct, frozen=True):
    """Of one answer; 0 where it does not say."""

    read: int = 0
    written: int = 0


NONE: Final = Tokens()


def tokens_of(content: bytes) -> Tokens:
    """What the end of `content` says; NONE itself when nothing."""
    at = content.rfind(_MARK, max(0, len(content) - TAIL_BYTES))
    if at < 0:
        return NONE
    for reads, writes in _NAMES:
        read, written = reads.search(content, at), writes.search(content, at)
        if read is not None or written is not None:
            thought = _THOUGHTS.search(content, at) if reads is _PROMPT else None
            return Tokens(
                int(read[1]) if read is not None else 0,
                (int(written[1]) if written is not None else 0) + (int(thought[1]) if thought else 0),
            )
    return NONE
