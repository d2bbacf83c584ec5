"""Whether what a model said is what was expected: by its words, not by how it dressed them.

    "**Ready!**"      is "ready"              "I am already here"   is not
    "It is 4."        is "4"                  "It is 42."           is not

Compared without case, accents' encoding (NFKC), punctuation, symbols and white space. Where words are
told apart by spaces, only whole words count: a letter or digit next to the expected text makes it
another word. Scripts without case (Chinese, Japanese, Thai …) mostly write without spaces, so there any
place will do.
"""

import unicodedata
from typing import Final

THINKING: Final = "<think>"
THOUGHT: Final = "</think>"


def spoken(text: str) -> str | None:
    """`text` without the thoughts that open weights often begin with; None when it is nothing but an
    unfinished thought."""
    text = text.strip()
    if not text.startswith(THINKING):
        return text
    _, ended, said = text.partition(THOUGHT)
    return said.strip() if ended else None


def says(text: str, expected: str) -> bool:
    """Whether `text` contains `expected`, in the sense above. `expected` must have a letter or digit."""
    words, wanted = _bare(text), _bare(expected)
    at = words.find(wanted)
    while at >= 0:
        end = at + len(wanted)
        if not _runs_on(words, at) and not _runs_on(words, end):
            return True
        at = words.find(wanted, at + 1)
    return False


def _bare(text: str) -> str:
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join("".join(c if unicodedata.category(c)[0] in "LMN" else " " for c in folded).split())


def _runs_on(text: str, at: int) -> bool:
    """Whether a word goes on across position `at`."""
    return 0 < at < len(text) and _spaced(text[at - 1]) and _spaced(text[at])


def _spaced(character: str) -> bool:
    return character.isdecimal() or character.lower() != character.upper()
