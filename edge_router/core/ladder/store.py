"""Answers that were given, kept in memory for when they are asked for again.

bounded     in bytes, in entries, and each answer by itself; the one that was used the longest ago goes first. A flood
            of different requests therefore costs others their stored answers, never the edge its memory
whose       the key begins with the client key's id: no tenant is ever given what another was told
forgotten   what is past its route's limits goes with `sweep`, and so do routes that are gone. Nothing is on disk
"""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Final, NamedTuple

STORE_BYTES: Final = 32 * 1024 * 1024
STORE_ENTRIES: Final = 16_384
ANSWER_BYTES: Final = 256 * 1024
"""Of one answer."""
ENTRY_BYTES: Final = 512
"""What an entry takes besides its answer: key, tuples, objects. Measured at 390."""
SWEEP_S: Final = 10.0


class Key(NamedTuple):
    """What an answer is stored under."""

    tenant: str
    route: str
    digest: bytes


class Stored(NamedTuple):
    """A whole answer, as the target gave it or its stream said it. `at` is monotonic."""

    body: bytes
    at: float


class AnswerStore:
    """Mutable; one per process."""

    __slots__ = ("_answers", "_most_bytes", "_most_entries", "_swept_at", "bytes", "evicted")

    def __init__(self, *, most_bytes: int = STORE_BYTES, most_entries: int = STORE_ENTRIES) -> None:
        self._answers: OrderedDict[Key, Stored] = OrderedDict()
        self._most_bytes = most_bytes
        self._most_entries = most_entries
        self._swept_at = 0.0
        self.bytes = 0
        self.evicted = 0
        """Answers that had to go for others."""

    def __len__(self) -> int:
        return len(self._answers)

    def find(self, key: Key) -> Stored | None:
        """The answer under `key`, of whatever age."""
        stored = self._answers.get(key)
        if stored is not None:
            self._answers.move_to_end(key)
        return stored

    def keep(self, key: Key, body: bytes, now: float) -> bool:
        """Store an answer in the place of an older one; False when it is too large."""
        if len(body) > ANSWER_BYTES or len(body) + ENTRY_BYTES > self._most_bytes:
            return False
        self._drop(key)
        self._answers[key] = Stored(body, now)
        self.bytes += len(body) + ENTRY_BYTES
        while self.bytes > self._most_bytes or len(self._answers) > self._most_entries:
            self._drop(next(iter(self._answers)))
            self.evicted += 1
        return True

    def sweep(self, limits_s: Mapping[str, float], now: float) -> None:
        """Forget what is older than its route's limit, and routes that have none; every `SWEEP_S`."""
        if now - self._swept_at < SWEEP_S:
            return
        self._swept_at = now
        for key in [
            key for key, stored in self._answers.items() if now - stored.at > limits_s.get(key.route, -1.0)
        ]:
            self._drop(key)

    def _drop(self, key: Key) -> None:
        stored = self._answers.pop(key, None)
        if stored is not None:
            self.bytes -= len(stored.body) + ENTRY_BYTES
