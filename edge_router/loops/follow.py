"""The two paths by which an edge hears the control plane, both always in use: its region's bus, and the
HTTP stream of a replica. Neither knows of the other; whichever is first is acted upon.

When a stated head stays incomplete, `resync` makes each path begin again: the compacted topics from
their beginning, the stream with a new snapshot.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

from edge_router.core.rebuild import LARGE_BYTES
from edge_router.core.signals import BeatSeen, ConfigSeen, DocumentSeen, Event, HeadSeen, Tick
from edge_router.loops.carry import Carrier
from edge_router.ports import ControlPlane, StreamEvent
from shared.backoff import Backoff
from shared.clock import Clock
from shared.cloudevents import context_of
from shared.log import get_logger
from shared.ports import Batch, Bus, PortError
from shared.topics import BEATS, CONFIG, DECISIONS

log = get_logger(__name__)

TICK_S: Final = 0.2
EVENTS_AT_ONCE: Final = 20
"""Between two looks at the rest of the event loop, where the requests are."""
LATE_S: Final = 3.0
"""After such a pause in reading a bus, what follows is a backlog: Beats in it say nothing about now."""
STEADY_S: Final = 15.0
"""A stream that lasted this long was a good one: its end is no reason to prefer another replica."""
REHOME_S: Final = 60.0
"""How long a replica of another region is followed before the own region's is tried again."""

Item = TypeVar("Item")


async def keep_time(carrier: Carrier[Any], clock: Clock) -> None:
    """Let the follower notice that time passes. For ever."""
    while True:
        await asyncio.sleep(TICK_S)
        carrier.hear(Tick(clock.now()), "clock")


class Interruptible:
    """A piece of work that somebody else may end early, as often as they like."""

    def __init__(self) -> None:
        self._scope: asyncio.Timeout | None = None

    def interrupt(self) -> None:
        """End what is under way; nothing happens when nothing is."""
        if self._scope is not None and not self._scope.expired():
            self._scope.reschedule(asyncio.get_running_loop().time())

    @asynccontextmanager
    async def work(self, at_most_s: float | None = None) -> AsyncIterator[None]:
        """Its body is left without an error on `interrupt`, or after `at_most_s`."""
        try:
            async with asyncio.timeout(at_most_s) as self._scope:
                yield
        except TimeoutError:
            return
        finally:
            self._scope = None


class FollowBus:
    """The loops that read one region's bus: `run_state` and `run_beats`."""

    def __init__(self, *, bus: Bus, carrier: Carrier[Any], clock: Clock, rng: random.Random) -> None:
        self._bus = bus
        self._carrier = carrier
        self._clock = clock
        self._rng = rng
        self._reading = Interruptible()
        self._beat_read_at: float | None = None

    def resync(self) -> None:
        """Read the compacted topics from their beginning."""
        self._reading.interrupt()

    async def run_state(self) -> None:
        """Configurations and documents. For ever."""
        backoff = Backoff(rng=self._rng)
        while True:
            try:
                async with (
                    self._reading.work(),
                    closing(self._bus.consume([CONFIG, DECISIONS], start="beginning")) as batches,
                ):
                    async for batch in batches:
                        backoff.reset()
                        await self._take(batch)
            except PortError as error:
                log.debug("bus cannot be followed, will go on trying", topics="state", error=str(error))
            await asyncio.sleep(backoff.next())

    async def run_beats(self) -> None:
        """Beats, from now on: an old one says nothing about now. For ever."""
        backoff = Backoff(rng=self._rng)
        while True:
            try:
                async with closing(self._bus.consume([BEATS], start="end")) as batches:
                    async for batch in batches:
                        backoff.reset()
                        now = self._clock.monotonic()
                        read_at, self._beat_read_at = self._beat_read_at, now
                        live = not batch.gap and (read_at is None or now - read_at <= LATE_S)
                        if batch.records:
                            self._carrier.bus_read(batch.records[-1].timestamp_ms)
                        for record in batch.records:
                            self._carrier.hear(BeatSeen(record.value or b"", live=live), "bus")
            except PortError as error:
                log.debug("bus cannot be followed, will go on trying", topics="beats", error=str(error))
            await asyncio.sleep(backoff.next())

    async def _take(self, batch: Batch) -> None:
        for number, record in enumerate(batch.records, start=1):
            value = record.value or b""
            if record.topic == CONFIG:
                await _ahead(self._carrier, value)
                self._carrier.hear(ConfigSeen(value), "bus")
            else:
                self._carrier.hear(DocumentSeen(value), "bus", context_of(record.headers))
            if number % EVENTS_AT_ONCE == 0:
                await asyncio.sleep(0)


class FollowStream:
    """The loop that follows one replica after another, in the order of `urls`, the own region's first."""

    def __init__(
        self,
        *,
        urls: Sequence[str],
        control_plane: ControlPlane,
        carrier: Carrier[Any],
        clock: Clock,
        backoff: Backoff,
    ) -> None:
        self._urls = tuple(urls)
        self._control_plane = control_plane
        self._carrier = carrier
        self._clock = clock
        self._backoff = backoff
        self._reading = Interruptible()
        self.followed: str | None = None
        """The replica whose stream is open."""

    def resync(self) -> None:
        """Ask for a new snapshot."""
        self._reading.interrupt()

    async def run(self) -> None:
        """For ever; at once, where there is no replica to follow."""
        place, said = 0, False
        while self._urls:
            began = self._clock.monotonic()
            url = self._urls[place]
            try:
                async with self._reading.work(REHOME_S if place else None):
                    await self._follow(url)
                log.info("stream ended", replica=url)
            except PortError as error:
                if self.followed is not None or not said:
                    log.warning("stream is not to be had, will try all replicas", error=str(error))
                said = True
            finally:
                self.followed = None
            if self._clock.monotonic() - began >= STEADY_S:
                place = 0
                self._backoff.reset()
            else:
                place = (place + 1) % len(self._urls)
            await asyncio.sleep(self._backoff.next())

    async def _follow(self, url: str) -> None:
        taken = 0
        async with self._control_plane.stream(url) as events:
            async for event in events:
                if self.followed is None:
                    self.followed = url
                    log.info("following", replica=url)
                news = _news(event)
                if news is not None:
                    if isinstance(news, ConfigSeen):
                        await _ahead(self._carrier, news.raw)
                    self._carrier.hear(news, "http")
                taken += 1
                if taken % EVENTS_AT_ONCE == 0:
                    await asyncio.sleep(0)


async def _ahead(carrier: Carrier[Any], raw: bytes) -> None:
    """Let the loop go on serving while a large configuration is read."""
    if len(raw) >= LARGE_BYTES:
        await asyncio.to_thread(carrier.read_ahead, raw)


_EVENTS: Final[Mapping[str, Callable[[bytes], Event]]] = {
    "config": ConfigSeen,
    "decision": DocumentSeen,
    "head": HeadSeen,
}


def _news(event: StreamEvent) -> Event | None:
    if event.kind == "beat":
        return BeatSeen(event.data, live=event.live)
    make = _EVENTS.get(event.kind)
    return None if make is None else make(event.data)


@asynccontextmanager
async def closing(stream: AsyncIterator[Item]) -> AsyncIterator[AsyncIterator[Item]]:
    """`stream`, closed on leaving: a consumer must not outlive the loop that reads it."""
    try:
        yield stream
    finally:
        close = getattr(stream, "aclose", None)
        if close is not None:
            await close()
