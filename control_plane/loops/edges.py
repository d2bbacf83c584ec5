"""What edges say of themselves, by bus and by HTTP: newest word each, bounded in number and age."""

from dataclasses import dataclass
from typing import Literal

from control_plane.ports import EdgeRecord
from shared.clock import Clock
from shared.vocabulary.decision import Ack

MAX_EDGES = 20_000
FORGET_S = 3_600.0
REBORN_S = 30.0
"""After this silence a smaller boot number is believed: the edge lost its state directory."""


@dataclass(slots=True)
class _Word:
    ack: Ack
    received_at: float
    via: Literal["bus", "http"]


class EdgeTable:
    """Keeps the greatest `(boot, ack)` of each edge, so order and duplicates do not matter."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._words: dict[str, _Word] = {}

    def apply(self, ack: Ack, *, received_at: float, via: Literal["bus", "http"]) -> bool:
        """Take an ack; True when it is news."""
        held = self._words.get(ack.edge)
        if held is not None and (held.ack.boot, held.ack.ack) >= (ack.boot, ack.ack):
            reborn = ack.boot < held.ack.boot and received_at - held.received_at > REBORN_S
            if not reborn:
                return False
        if held is None and len(self._words) >= MAX_EDGES:
            self._forget(older_than_s=FORGET_S)
            if len(self._words) >= MAX_EDGES:
                return False
        self._words[ack.edge] = _Word(ack, received_at, via)
        return True

    def records(self) -> list[EdgeRecord]:
        """All edges heard of within the hour, by id."""
        self._forget(older_than_s=FORGET_S)
        now = self._clock.monotonic()
        return [
            EdgeRecord(word.ack, max(0.0, now - word.received_at), word.via)
            for _, word in sorted(self._words.items())
        ]

    def _forget(self, *, older_than_s: float) -> None:
        before = self._clock.monotonic() - older_than_s
        for edge in [edge for edge, word in self._words.items() if word.received_at < before]:
            del self._words[edge]
