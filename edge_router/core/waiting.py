"""Heads that are stated but not in force, because something they name has not arrived.

Bounded by number and by time, the least recently stated going first, never by version: a stray head
of an enormous version must not push out the one that the leader restates every two seconds.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from edge_router.core.freshness import Order
from edge_router.core.holdings import HeldDocument, HeldHead
from shared.vocabulary.base import Version

MAX_WAITING = 8
EXPIRES_S = 60.0
"""A head that nobody has stated for this long is nobody's."""
RESYNC_AFTER_S = 3.0
RESYNC_CAP_S = 60.0


@dataclass(slots=True)
class Waiting:
    """One head, what it lacks, and what was heard about it. Times are monotonic."""

    held: HeldHead
    missing: set[str]
    """Hashes of documents not held."""
    stated_at: float
    resync_at: float
    resync_pause_s: float = RESYNC_AFTER_S
    order: Order | None = None
    """Of the greatest new Beat that states it,"""
    beat_at: float | None = None
    """and when the last live one came."""

    def stated(self, order: Order, at: float | None) -> None:
        """By a new Beat: received live at `at`, or None out of a snapshot."""
        self.order = order if self.order is None else max(self.order, order)
        self.beat_at = self.beat_at if at is None else at


class WaitingRoom:
    """All of them, by hash, the least recently stated first."""

    def __init__(self) -> None:
        self._by_sha: dict[str, Waiting] = {}

    def __iter__(self) -> Iterator[Waiting]:
        return iter(self._by_sha.values())

    def get(self, sha: str) -> Waiting | None:
        """The one with this hash."""
        return self._by_sha.get(sha)

    def restate(self, sha: str, now: float) -> bool:
        """It was stated once more; False when it does not wait here."""
        waiting = self._by_sha.pop(sha, None)
        if waiting is None:
            return False
        waiting.stated_at = now
        self._by_sha[sha] = waiting
        return True

    def add(self, held: HeldHead, missing: set[str], now: float) -> None:
        """Let `held` wait for `missing`; may turn out another."""
        self._by_sha[held.sha] = Waiting(held, missing, now, now + RESYNC_AFTER_S)
        while len(self._by_sha) > MAX_WAITING:
            del self._by_sha[next(iter(self._by_sha))]

    def drop(self, sha: str) -> None:
        """It was refused."""
        del self._by_sha[sha]

    def drop_up_to(self, version: Version) -> None:
        """`version` is in force: it and everything older waits no more."""
        self._by_sha = {sha: w for sha, w in self._by_sha.items() if w.held.version > version}

    def greatest_first(self) -> list[Waiting]:
        """By version."""
        return sorted(self._by_sha.values(), key=lambda waiting: waiting.held.version, reverse=True)

    def has_version(self, version: Version) -> bool:
        """Whether a head of this version waits, whatever its content."""
        return any(waiting.held.version == version for waiting in self)

    def wants(self, sha: str) -> bool:
        """Whether the document with this hash is missing to any."""
        return any(sha in waiting.missing for waiting in self)

    def arrived(self, sha: str) -> None:
        """The document with this hash is held now."""
        for waiting in self:
            waiting.missing.discard(sha)

    def names(self, document: HeldDocument) -> bool:
        """Whether any of them needs `document`."""
        route, sha = document.decision.route, document.sha
        return any(waiting.held.head.routes.get(route, (0, ""))[1] == sha for waiting in self)

    def names_config(self, version: int) -> bool:
        """Whether any of them needs a configuration of this version."""
        return any(waiting.held.head.config_version == version for waiting in self)

    def overdue(self, now: float) -> list[Waiting]:
        """Those for which it is time to read everything again; each at growing intervals. Forgets those
        that nobody states any more."""
        self._by_sha = {sha: w for sha, w in self._by_sha.items() if now - w.stated_at <= EXPIRES_S}
        overdue = [waiting for waiting in self if now >= waiting.resync_at]
        for waiting in overdue:
            waiting.resync_pause_s = min(RESYNC_CAP_S, waiting.resync_pause_s * 2)
            waiting.resync_at = now + waiting.resync_pause_s
        return overdue
