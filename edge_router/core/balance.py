"""Whether JSON that is too long to be kept has come to its end, told from its brackets as it goes by.

A text that was cut anywhere leaves a bracket or a string open; so one that has none left is whole, if it was JSON at
all; and nothing but white space may follow. One that begins as the envelope of an error is no answer. What stands
between the brackets is not looked at. Cost: 1.4 ms a MiB of numbers, 9.5 ms of short strings.
"""

import re
from itertools import accumulate
from typing import Final

_STRING: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_STRING_END: Final = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_ERROR: Final = re.compile(
    rb'[ \t\r\n]*\{[ \t\r\n]*(?:"type"[ \t\r\n]*:[ \t\r\n]*"error"[ \t\r\n]*,[ \t\r\n]*)?'
    rb'"error"[ \t\r\n]*:[ \t\r\n]*(?:\{|"[^"])'
)
"""OpenAI's, Google's and Anthropic's envelopes, as far as they stand at the head."""
_NO_BRACKETS: Final = bytes(set(range(256)) - set(b"{}[]"))
_GAP: Final = b"0"
"""Stands where a string stood."""
_STEP: Final = {ord("{"): 1, ord("["): 1, ord("}"): -1, ord("]"): -1}
_DEEP: Final = 16
"""Levels above the outermost, within one piece, up to which its end is told exactly."""
_MOST_BRACKETS: Final = 4096


class Balance:
    """Fed with a JSON text, piece by piece. `wrong` when it cannot be one object or array."""

    __slots__ = ("_depth", "_open", "_started", "wrong")

    def __init__(self) -> None:
        self._open = b""
        """The string under way, as far as its end depends on it: a quotation mark, or that and a backslash."""
        self._depth = 0
        self._started = False
        self.wrong = False

    @property
    def whole(self) -> bool:
        """Whether everything that was opened is closed."""
        return self._started and not self._depth and not self._open and not self.wrong

    def feed(self, piece: bytes) -> None:
        """The next piece."""
        if not piece:
            return
        if self._open:
            begun = self._open[1:] + piece
            end = _STRING_END.match(begun)
            if end is None:
                self._open = b'"' + _unfinished(begun)
                return
            piece = begun[end.end() :]
            self._open = b""
        if not self._started and _ERROR.match(piece) is not None:
            self.wrong = True
        piece = _STRING.sub(_GAP, piece)
        at = piece.find(b'"')
        if at >= 0:
            self._open = b'"' + _unfinished(piece[at + 1 :])
            piece = piece[:at] + _GAP
        stripped = piece.strip()
        if not stripped:
            return
        if not self._started:
            self._started = True
            self.wrong = self.wrong or stripped[:1] not in (b"{", b"[")
        elif not self._depth:
            self.wrong = True  # something behind the end
        opened = piece.count(b"{") + piece.count(b"[")
        closed = piece.count(b"}") + piece.count(b"]")
        before = self._depth
        self._depth += opened - closed
        if self._depth < 0 or (before <= closed and _ends_within(stripped, before)):
            self.wrong = True


def _ends_within(piece: bytes, depth: int) -> bool:
    """Whether a text comes to its end in `piece`, which begins at `depth`, and something stands behind that."""
    brackets = piece.translate(None, _NO_BRACKETS)
    levels = brackets[1:] if not depth else brackets
    for _ in range(_DEEP):
        # What opens and closes within says nothing about the outermost bracket.
        levels = levels.replace(b"[]", b"").replace(b"{}", b"")
    if len(levels) > _MOST_BRACKETS or 0 not in accumulate(
        map(_STEP.__getitem__, levels), initial=depth or 1
    ):
        return False
    for place, level in enumerate(accumulate(map(_STEP.__getitem__, brackets), initial=depth)):
        if place and not level:
            return place < len(brackets) or piece[-1:] not in (b"}", b"]")
    return False


def _unfinished(text: bytes) -> bytes:
    """A backslash at the end of an open string, whose partner is still to come."""
    backslashes = len(text) - len(text.rstrip(b"\\"))
    return b"\\" if backslashes % 2 else b""
