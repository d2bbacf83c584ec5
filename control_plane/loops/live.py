"""One picture for all who watch: taken at most once a second, and told as a snapshot and its differences.

A picture is a two-level mapping: sections, and items by name. Readers have no queue. Each remembers the
number of the last picture it was sent; what changed since is kept for the last `KEPT` pictures, encoded
once for everybody, and whoever is further behind gets a snapshot. Nobody watching: nothing is taken, for
readers themselves drive it; the first whose wait is over takes the picture for all.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any

from control_plane.loops.stream import Seat, Seats, event
from control_plane.ports import TooManyReaders
from shared.clock import Clock
from shared.vocabulary.base import canonical_json

PACE_S = 1.0
CLOCK_S = 5.0
"""A reader hears something so often, if only the time: silence then means a dead connection."""
KEPT = 60
MAX_KEPT_BYTES = 8 * 1024 * 1024
MAX_READERS = 200

Picture = Mapping[str, Mapping[str, Any]]
"""Section -> item -> JSON value."""


class Live:
    """`follow` is one reader's stream.

    Its events: `snapshot` with `{sections}`, then `change` with `{sections}` where an item that is null is
    gone; and `clock` with `{at}`, this replica's UTC time, after each of these and every five seconds. The
    id is `<life>-<number>`: a reader that comes back with it, to the same replica, is told what it missed.
    """

    def __init__(self, *, clock: Clock, life: str) -> None:
        self._clock = clock
        self._life = life
        self._picture: Picture = {}
        self._number = 0
        self._snapshot: tuple[int, bytes] | None = None
        self._changes: deque[tuple[int, bytes]] = deque(maxlen=KEPT)
        self._taken_at = float("-inf")
        self._seats = Seats(MAX_READERS)
        self._closed = asyncio.Event()

    def close(self) -> None:
        """End every stream; readers go to another replica."""
        self._closed.set()

    def follow(self, take: Callable[[], Picture], *, after: str = "") -> AsyncGenerator[bytes, None]:
        """Encoded events for one reader, which may name the last one it has seen. `take` makes the picture,
        the same for all readers. Raises TooManyReaders at once."""
        if self._closed.is_set():
            raise TooManyReaders
        return self._follow(self._seats.take(), take, after)

    async def _follow(
        self, seat: Seat, take: Callable[[], Picture], after: str
    ) -> AsyncGenerator[bytes, None]:
        try:
            at = self._number_of(after)
            said_at = float("-inf")
            while not self._closed.is_set():
                self._look(take)
                frames = self._since(at)
                at = self._number
                if frames or self._clock.monotonic() - said_at >= CLOCK_S:
                    said_at = self._clock.monotonic()
                    yield b"".join((*frames, self._time()))
                else:
                    await self._pause()
        finally:
            self._seats.leave(seat)

    async def _pause(self) -> None:
        """Until the next picture is due, or all ends."""
        due_s = max(0.0, self._taken_at + PACE_S - self._clock.monotonic())
        try:
            async with asyncio.timeout(due_s):
                await self._closed.wait()
        except TimeoutError:
            return

    def _look(self, take: Callable[[], Picture]) -> None:
        """Take the picture if it is time."""
        now = self._clock.monotonic()
        if now - self._taken_at < PACE_S:
            return
        self._taken_at = now
        picture = take()
        changes = differences(self._picture, picture)
        self._picture = picture
        if changes or self._number == 0:
            self._number += 1
            self._changes.append((self._number, self._event("change", changes)))
            while sum(len(frame) for _, frame in self._changes) > MAX_KEPT_BYTES:
                self._changes.popleft()

    def _since(self, at: int) -> list[bytes]:
        """What a reader who has seen picture `at` must hear; 0 has seen none."""
        if at == self._number:
            return []
        missed = [frame for number, frame in self._changes if number > at]
        if at and len(missed) == self._number - at:
            return missed
        if self._snapshot is None or self._snapshot[0] != self._number:
            self._snapshot = (self._number, self._event("snapshot", self._picture))
        return [self._snapshot[1]]

    def _event(self, name: str, sections: Picture) -> bytes:
        return event(name, canonical_json({"sections": sections}), id=f"{self._life}-{self._number}")

    def _time(self) -> bytes:
        return event("clock", canonical_json({"at": self._clock.now().isoformat()}))

    def _number_of(self, after: str) -> int:
        """The number in an event's id, 0 unless it is one of this life's."""
        life, _, number = after.rpartition("-")
        known = life == self._life and number.isascii() and number.isdigit() and len(number) < 16
        return int(number) if known and 0 < int(number) <= self._number else 0


def differences(old: Picture, new: Picture) -> dict[str, dict[str, Any]]:
    """What makes `new` of `old`: changed items by section, null for those that are gone."""
    found: dict[str, dict[str, Any]] = {}
    nothing: Mapping[str, Any] = {}
    for section in old.keys() | new.keys():
        before, after = old.get(section, nothing), new.get(section, nothing)
        changed = {name: item for name, item in after.items() if name not in before or before[name] != item}
        changed.update(dict.fromkeys(before.keys() - after.keys()))
        if changed:
            found[section] = changed
    return found
