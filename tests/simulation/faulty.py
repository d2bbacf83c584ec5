"""What stands between the real loops and the simulated world: probes, disks, HTTP and pauses that can fail on command."""

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from control_plane.replica import Replica
from edge_router.adapters.stream import KINDS, EventParser
from edge_router.core.table import RouteTable
from edge_router.ports import Kept, Recalled, StoreError, StreamEvent
from prober.core.counters import Finding
from prober.core.jobs import Job
from shared.adapters.memory import MemoryBus, MemoryClient
from shared.ports import Batch, Compare, Delete, KeyValue, Put, Snapshot, StoreHealth, TxnResult, Unavailable
from shared.vocabulary.base import NO_VERSION
from shared.vocabulary.decision import Ack
from shared.vocabulary.health import PassiveWindow, RouteLoad
from shared.vocabulary.terms import EdgeMode, Outcome
from tests.simulation.virtual_time import NodeClock


@dataclass(slots=True)
class Truth:
    """What is really so, whatever anybody believes."""

    down: set[str] = field(default_factory=set)
    blind: set[str] = field(default_factory=set)
    """Regions whose probers reach no target."""
    accusers: dict[str, set[str]] = field(default_factory=dict)
    """Target -> vantages that ever had a bad probe of it."""


@dataclass(slots=True)
class WorldProbe:
    """`prober.ports.Probe` on the truth."""

    vantage: str
    truth: Truth
    rng: random.Random

    async def probe(self, job: Job) -> Finding | None:
        """Refused at once when the target is down, timed out when this vantage is blind."""
        await asyncio.sleep(self.rng.uniform(0.001, 0.05))
        target = job.target.id
        if self.vantage in self.truth.blind or target in self.truth.down:
            self.truth.accusers.setdefault(target, set()).add(self.vantage)
            return Finding(Outcome.REFUSED, 1.0, hard=True, detail="connect ECONNREFUSED")
        return Finding(Outcome.OK, 5.0)

    async def close(self) -> None:
        """Nothing is held."""


class Machine:
    """One machine's clock and whether its processes run. A paused one neither sends nor hears."""

    def __init__(self, clock: NodeClock) -> None:
        self.clock = clock
        self._runs = asyncio.Event()
        self._runs.set()

    @property
    def paused(self) -> bool:
        """Between `pause` and `resume`."""
        return not self._runs.is_set()

    def pause(self) -> None:
        """SIGSTOP."""
        self._runs.clear()
        self.clock.pause()

    def resume(self) -> None:
        """SIGCONT: time has jumped, and whatever was about to be sent is sent now."""
        self.clock.resume()
        self._runs.set()

    async def runs(self) -> None:
        """Wait while paused."""
        await self._runs.wait()


class PausableStore:
    """`shared.ports.Coordination` of a process that may be paused just before it writes."""

    def __init__(self, client: MemoryClient, machine: Machine) -> None:
        self.client = client
        self._machine = machine

    async def get(self, key: str) -> tuple[KeyValue | None, int]:
        await self._machine.runs()
        return await self.client.get(key)

    async def list(self, prefix: str) -> Snapshot:
        await self._machine.runs()
        return await self.client.list(prefix)

    async def commit(self, compares: Sequence[Compare], then: Sequence[Put | Delete]) -> TxnResult:
        await self._machine.runs()
        return await self.client.commit(compares, then)

    async def watch(self, prefix: str, *, from_revision: int) -> AsyncGenerator[Any, None]:
        async with aclosing(self.client.watch(prefix, from_revision=from_revision)) as batches:
            async for batch in batches:
                await self._machine.runs()
                yield batch

    async def grant(self, ttl_s: int) -> int:
        await self._machine.runs()
        return await self.client.grant(ttl_s)

    async def keep_alive(self, lease: int) -> float:
        await self._machine.runs()
        return await self.client.keep_alive(lease)

    async def revoke(self, lease: int) -> None:
        await self._machine.runs()
        await self.client.revoke(lease)

    async def compact(self, revision: int) -> None:
        await self._machine.runs()
        await self.client.compact(revision)

    async def health(self) -> StoreHealth:
        return await self.client.health()

    async def close(self) -> None:
        await self.client.close()


class PausableBus:
    """`shared.ports.Bus` of a process that may be paused just before it publishes."""

    def __init__(self, bus: MemoryBus, machine: Machine) -> None:
        self.bus = bus
        self.region = bus.region
        self._machine = machine

    @property
    def reachable(self) -> bool:
        return self.bus.reachable

    async def publish(
        self,
        topic: str,
        *,
        key: bytes | None,
        value: bytes | None,
        headers: Mapping[str, bytes] | None = None,
        timeout_s: float = 2.0,
    ) -> None:
        await self._machine.runs()
        await self.bus.publish(topic, key=key, value=value, headers=headers, timeout_s=timeout_s)

    async def consume(
        self, topics: Sequence[str], *, start: Literal["beginning", "end"] | float, idle_s: float = 1.0
    ) -> AsyncGenerator[Batch, None]:
        async with aclosing(self.bus.consume(topics, start=start, idle_s=idle_s)) as batches:
            async for batch in batches:
                await self._machine.runs()
                yield batch

    async def close(self) -> None:
        await self.bus.close()


@dataclass(slots=True)
class MemoryDisk:
    """`edge_router.ports.LastKnownGood` that survives a crash of the edge; `broken` refuses writes."""

    kept: tuple[Kept, ...] = ()
    broken: bool = False

    async def recall(self) -> Recalled:
        seen = max((kept.seen for kept in self.kept), default=NO_VERSION)
        return Recalled(self.kept, seen)

    async def keep(self, kept: Kept) -> None:
        await asyncio.sleep(0.005)
        if self.broken:
            raise StoreError("no space left on device")
        self.kept = (kept, *self.kept)[:3]


@dataclass(slots=True)
class RecordedServing:
    """The data path of a simulated edge: tells `on_swap` what it is given to serve by."""

    table: RouteTable
    on_swap: Callable[[RouteTable], None]
    mode: EdgeMode = EdgeMode.STALE
    turned: asyncio.Event = field(default_factory=asyncio.Event)

    async def start(self, host: str, port: int) -> tuple[str, int]:
        self.on_swap(self.table)
        return host, port

    async def drain(self, timeout_s: float) -> None:
        """Nothing is under way."""

    def swap(self, table: RouteTable, *, applied_in: str | None = None) -> None:
        self.table = table
        self.on_swap(table)

    def passive(self, window_s: float) -> tuple[PassiveWindow, ...]:
        return ()

    def loads(self, window_s: float) -> tuple[RouteLoad, ...]:
        return ()


@dataclass(slots=True)
class HttpPath:
    """`edge_router.ports.ControlPlane` of one edge: the replicas' own stream, without the sockets."""

    replicas: Mapping[str, Replica]
    """By URL; one that is not there refuses connections."""
    cut: bool = False

    @asynccontextmanager
    async def stream(self, url: str) -> AsyncIterator[AsyncIterator[StreamEvent]]:
        async with aclosing(self._events(url)) as events:
            yield events

    async def _events(self, url: str) -> AsyncGenerator[StreamEvent, None]:
        await asyncio.sleep(0.002)
        replica = self._reach(url)
        parser, snapshot = EventParser(), True
        async with aclosing(replica.follow()) as chunks:
            async for chunk in chunks:
                if self._reach(url) is not replica:
                    raise Unavailable("connection reset")
                for name, data in parser.feed(chunk):
                    if (kind := KINDS.get(name)) is not None:
                        yield StreamEvent(kind, data, live=not (snapshot and kind == "beat"))
                        snapshot = snapshot and kind != "beat"

    async def acknowledge(self, url: str, ack: bytes, headers: Mapping[str, str]) -> None:
        await asyncio.sleep(0.002)
        self._reach(url).acknowledge(Ack.model_validate_json(ack))

    async def close(self) -> None:
        """Nothing is held."""

    def _reach(self, url: str) -> Replica:
        if self.cut or url not in self.replicas:
            raise Unavailable(f"{url}: connection refused")
        return self.replicas[url]
