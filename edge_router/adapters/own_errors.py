"""Errors of the edge's own: what nobody expected, and what must end one request and nothing else.

Whoever calls into a request from a place that others depend on (the sweep, a drain, a connection's reads) catches what
it raises, notes it here, and ends that request. One that comes again and again is logged once with its traceback.
"""

from collections import Counter
from typing import Final

from shared.log import get_logger

log = get_logger(__name__)

MAX_KINDS: Final = 64
"""Told apart; what is beyond is counted, not logged."""


class OwnErrors:
    """Counted since the process began."""

    __slots__ = ("counts",)

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        """By where it was caught, and its type; at most `MAX_KINDS` and `other`."""

    def note(self, where: str, error: Exception) -> None:
        """`error` was caught at `where`; the first of each kind is logged with its traceback."""
        kind = f"{where} {type(error).__name__}"
        if kind not in self.counts and len(self.counts) >= MAX_KINDS:
            kind = "other"
        self.counts[kind] += 1
        if self.counts[kind] == 1:
            log.error("an error of the edge's own ended what it was about", where=where, exc_info=error)
