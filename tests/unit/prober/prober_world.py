"""A small world for the prober's loops: virtual time, a bus that records, targets that answer as told."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from prober.core.counters import Finding
from prober.core.jobs import Job
from shared.ports import Batch, Record, Unavailable
from shared.vocabulary.config import Fleet, Monitor, Region, Route, RouteMatch, RouteTier, Target
from shared.vocabulary.health import HealthEvent
from shared.vocabulary.terms import Outcome
from tests.simulation.virtual_time import NodeClock, VirtualTimeLoop

OK = Finding(Outcome.OK, 5.0)
REFUSED = Finding(Outcome.REFUSED, 1.0, hard=True, detail="connect ECONNREFUSED")
FAILED = Finding(Outcome.FAILED, 1.0, detail="status 503")


def target(name: str = "t", **fields: Any) -> Target:
    return Target(**{"id": name, "provider": "p", "model": "m", "region": "r", "url": "http://h:1", **fields})


def monitor(name: str = "http", **fields: Any) -> Monitor:
    return Monitor(**{"id": name, "kind": "http", **fields})


def fleet(targets: Sequence[Target], monitors: Sequence[Monitor]) -> Fleet:
    return Fleet(
        regions=(Region(id="r"),),
        targets=tuple(targets),
        monitors=tuple(monitors),
        routes=(
            Route(id="chat", match=RouteMatch(models=("m",)), tiers=(RouteTier(targets=(targets[0].id,)),)),
        ),
    )


@dataclass
class Told:
    """One event that reached the bus."""

    at: float
    key: bytes | None
    value: bytes
    headers: Mapping[str, bytes]

    @property
    def event(self) -> HealthEvent:
        return HealthEvent.model_validate_json(self.value)


@dataclass
class RecordingBus:
    """A bus that keeps what it is told, and is away while `away`; consumers get what `feed` gives."""

    clock: NodeClock
    region: str = "r"
    away: bool = False
    latency_s: float = 0.001
    told: list[Told] = field(default_factory=list)
    attempts: int = 0
    reachable: bool = True
    _feed: asyncio.Queue[Batch] = field(default_factory=asyncio.Queue)

    async def publish(
        self,
        topic: str,
        *,
        key: bytes | None,
        value: bytes | None,
        headers: Mapping[str, bytes] | None = None,
        timeout_s: float = 2.0,
    ) -> None:
        self.attempts += 1
        await asyncio.sleep(0.25 if self.away else self.latency_s)
        if self.away:
            raise Unavailable("away")
        assert topic == "leeward.health.v1"
        assert value is not None
        self.told.append(Told(self.clock.monotonic(), key, value, headers or {}))

    async def consume(
        self, topics: Sequence[str], *, start: Literal["beginning", "end"] | float, idle_s: float = 1.0
    ) -> AsyncIterator[Batch]:
        assert list(topics) == ["leeward.config.v1"]
        assert start == "beginning"
        while True:
            batch = await self._feed.get()
            if batch.gap:
                raise Unavailable("10 s without an answer")
            yield batch

    def feed(self, *values: bytes | None) -> None:
        """Let the config topic bring `values`."""
        records = tuple(Record("leeward.config.v1", 0, n, b"fleet", v, (), 0) for n, v in enumerate(values))
        self._feed.put_nowait(Batch(records, caught_up=True))

    def fail_reader(self) -> None:
        """Let the reader meet a bus that does not answer."""
        self._feed.put_nowait(Batch((), caught_up=False, gap=True))

    async def close(self) -> None: ...


@dataclass
class ToldProbe:
    """Targets that answer as `answer` says, after `takes_s`."""

    answer: Callable[[Job], Finding | None] = lambda job: OK
    takes_s: float = 0.005
    running: int = 0
    most: int = 0
    probed: list[str] = field(default_factory=list)

    async def probe(self, job: Job) -> Finding | None:
        self.running += 1
        self.most = max(self.most, self.running)
        self.probed.append(job.target.id)
        try:
            await asyncio.sleep(self.takes_s)
            return self.answer(job)
        finally:
            self.running -= 1

    async def close(self) -> None: ...


def in_virtual_time(story: Callable[[NodeClock, random.Random], Awaitable[None]]) -> None:
    """Run `story` on a loop whose hours pass at once; nothing it starts may outlive it."""
    loop = VirtualTimeLoop()
    try:
        loop.run_until_complete(story(NodeClock(loop), random.Random(7)))
        assert not asyncio.all_tasks(loop)
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
