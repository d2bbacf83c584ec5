"""How many tokens a request may take, guessed before it is sent: for keys whose tokens are limited, and for no others.

A token of English is about four bytes of text (OpenAI, "What are tokens and how to count them"); JSON around it makes
the guess a little too high, other scripts too low. What an answer may have is what the request allows it, under
whatever name its dialect has for that, times the answers it wants; `UNSAID` where it says nothing. The answer's own
usage corrects the guess.
"""

from typing import Any, Final

import msgspec

from edge_router.core.decoding import UNREADABLE

BYTES_PER_TOKEN: Final = 4
UNSAID: Final = 256
"""Tokens of an answer that nobody has bounded."""
_MOST: Final = 10_000_000
_CHOICES: Final = 128


class _Generation(msgspec.Struct):
    maxOutputTokens: Any = None  # noqa: N815  (Gemini's name)
    candidateCount: Any = None  # noqa: N815


class _Asked(msgspec.Struct):
    max_tokens: Any = None
    max_completion_tokens: Any = None
    max_output_tokens: Any = None
    n: Any = None
    generationConfig: _Generation | None = None  # noqa: N815  (Gemini's name)


_READER: Final = msgspec.json.Decoder(_Asked)


def estimated_tokens(body: bytes, *, writes: bool = True) -> int:
    """Of the request `body`, read and written together. `writes` is false where the answer has no text
    (embeddings)."""
    read = -(-len(body) // BYTES_PER_TOKEN)
    if not writes:
        return read
    try:
        asked = _READER.decode(body)
    except UNREADABLE:
        return read + UNSAID
    generation = asked.generationConfig or _Generation()
    allowed = (
        asked.max_completion_tokens,
        asked.max_output_tokens,
        asked.max_tokens,
        generation.maxOutputTokens,
    )
    written = next((value for value in map(_count, allowed) if value), UNSAID)
    answers = _count(asked.n) or _count(generation.candidateCount) or 1
    return read + min(_MOST, written * min(answers, _CHOICES))


def _count(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= _MOST else 0
