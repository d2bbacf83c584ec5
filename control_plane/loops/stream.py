"""The second path to the edges: server-sent events from any replica, fed by its own copy of etcd.

A reader has no queue. It remembers what it was sent, and is sent the difference to what is in force
now; a slow reader therefore skips states instead of holding them, and one that does not read at all
is cut off by the API's send timeout. The stream begins with everything, after etcd has confirmed
that this replica is not behind; without etcd it begins with the last known, and `hello` says so.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from weakref import WeakSet

from control_plane.loops.mirror import Mirror
from control_plane.loops.pulse import Pulse
from control_plane.metrics import Metrics
from control_plane.ports import InForce, TooManyReaders
from shared import keys
from shared.ports import Coordination, PortError
from shared.vocabulary.base import canonical_json
from shared.vocabulary.decision import Beat

PING_S = 5.0
CONFIRM_S = 2.0
"""Longest wait for etcd's word before a snapshot."""
MAX_READERS = 5_000
CHUNK_BYTES = 64 * 1024
PING = b": ping\n\n"


class Seat:
    """One reader's place."""

    __slots__ = ("__weakref__",)


class Seats:
    """At most `most` readers, counted from when they are let in and not from their first read. A seat is free again
    when it is left, or when nobody holds it any more: a response that never starts runs no code that could leave."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._taken: WeakSet[Seat] = WeakSet()

    def take(self) -> Seat:
        """Raises TooManyReaders. To be held by the reader alone."""
        if len(self._taken) >= self._most:
            raise TooManyReaders
        seat = Seat()
        self._taken.add(seat)
        return seat

    def leave(self, seat: Seat) -> None:
        """Twice is once."""
        self._taken.discard(seat)


class Hub:
    """`follow` is one reader's stream. `news` must fire whenever the mirror changes."""

    def __init__(
        self,
        store: Coordination,
        mirror: Mirror,
        *,
        replica: str,
        region: str,
        news: Pulse,
        metrics: Metrics,
        own_beat: Callable[[], Beat | None],
    ) -> None:
        self._store = store
        self._mirror = mirror
        self._replica = replica
        self._region = region
        self._news = news
        self._metrics = metrics
        self._own_beat = own_beat
        self._seats = Seats(MAX_READERS)
        self._closed = False

    def close(self) -> None:
        """End every stream; readers go to another replica."""
        self._closed = True
        self._news.fire()

    def follow(self) -> AsyncGenerator[bytes, None]:
        """Encoded events for one reader. Raises TooManyReaders at once."""
        if self._closed:
            raise TooManyReaders
        return self._follow(self._seats.take())

    async def _follow(self, seat: Seat) -> AsyncGenerator[bytes, None]:
        self._metrics.stream_readers.inc()
        try:
            confirmed = await self._confirm()
            hello = {"replica": self._replica, "region": self._region, "confirmed": confirmed}
            yield event("hello", canonical_json(hello))
            sent = InForce()
            order = (-1, -1, -1)
            while not self._closed:
                seen = self._news.count
                force = self._mirror.in_force
                for chunk in _joined(differences(sent, force)):
                    yield chunk
                sent = force
                beat = self._beat()
                if beat is not None and beat.order > order:
                    order = beat.order
                    yield event("beat", beat.canonical(), id=str(force.version))
                if await self._news.wait(seen, PING_S) == seen:
                    yield PING
        finally:
            self._seats.leave(seat)
            self._metrics.stream_readers.dec()

    def _beat(self) -> Beat | None:
        """The newest Beat that may be believed: the leader's own, here and now, or etcd's."""
        own, mirrored = self._own_beat(), self._mirror.live_beat()
        if own is None or mirrored is None:
            return own or mirrored
        return max(own, mirrored, key=lambda beat: beat.order)

    async def _confirm(self) -> bool:
        """Whether the mirror has reached what etcd holds at this moment, linearizably."""
        try:
            async with asyncio.timeout(CONFIRM_S):
                head, _ = await self._store.get(keys.DECISIONS_HEAD)
                wanted = 0 if head is None else head.mod_revision
                while self._mirror.revision_of(keys.DECISIONS_HEAD) < wanted or not self._mirror.following:
                    await self._news.wait(self._news.count, CONFIRM_S)
        except (PortError, TimeoutError):
            return False
        return True


def event(name: str, data: bytes, *, id: str | None = None) -> bytes:  # noqa: A002  (the field's own name)
    """One server-sent event; `data` is JSON on a single line (WHATWG HTML, section 9.2.6)."""
    head = b"event: " + name.encode() + b"\n"
    if id is not None:
        head += b"id: " + id.encode() + b"\n"
    return head + b"data: " + data + b"\n\n"


def differences(sent: InForce, force: InForce) -> Iterator[bytes]:
    """What a reader who holds `sent` must hear to hold `force`: configuration, documents, head."""
    if force.config_sha and force.config_sha != sent.config_sha:
        yield event("config", force.config_raw)
    if force.head is None or force.head_sha == sent.head_sha:
        return
    before = sent.head.routes if sent.head is not None else {}
    for route, ref in force.head.routes.items():
        known = before.get(route)
        if known is None or known[1] != ref[1]:
            yield event("decision", force.documents[route])
    yield event("head", force.head_raw, id=str(force.version))


def _joined(frames: Iterator[bytes]) -> Iterator[bytes]:
    """Frames in portions, so that a snapshot of many routes is not as many writes."""
    portion: list[bytes] = []
    size = 0
    for frame in frames:
        portion.append(frame)
        size += len(frame)
        if size >= CHUNK_BYTES:
            yield b"".join(portion)
            portion, size = [], 0
    if portion:
        yield b"".join(portion)
