"""Control-plane replicas over in-memory servers on virtual time: an hour of protocol in a second."""

import asyncio
import json
import random
import zlib
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any

from control_plane.ports_alerts import Outgoing
from control_plane.replica import Replica
from shared import keys, topics
from shared.adapters.memory import MemoryBroker, MemoryBus, MemoryClient, MemoryStore
from shared.supervise import Supervisor
from shared.telemetry import NoTelemetry, Telemetry
from shared.vocabulary.base import Version
from shared.vocabulary.config import Fleet
from shared.vocabulary.decision import Ack, Beat, Decision, Head
from shared.vocabulary.health import HealthEvent, ProbeState
from shared.vocabulary.node import Node
from shared.vocabulary.terms import EdgeMode, Outcome, Role
from tests.simulation.virtual_time import NodeClock, VirtualTimeLoop

REGIONS = ("east", "west", "south")
TTL_S = 5


def fleet(regions: tuple[str, ...] = REGIONS, *, routes: tuple[str, ...] = ("chat",)) -> Fleet:
    """An alpha and a beta in each region; every route has the alphas first."""
    tiers = [{"targets": [f"{kind}-{region}" for region in regions]} for kind in ("alpha", "beta")]
    return Fleet.model_validate(
        {
            "regions": [{"id": region} for region in regions],
            "targets": [
                {
                    "id": f"{kind}-{region}",
                    "provider": kind,
                    "model": "m",
                    "region": region,
                    "url": f"http://{kind}.{region}/v1",
                }
                for kind in ("alpha", "beta")
                for region in regions
            ],
            "monitors": [{"id": "http", "kind": "http"}],
            "routes": [{"id": route, "match": {"models": [route]}, "tiers": tiers} for route in routes],
        }
    )


@dataclass(slots=True)
class Running:
    """One replica and the connections it was given."""

    replica: Replica
    supervisor: Supervisor
    etcd: MemoryClient
    buses: Mapping[str, MemoryBus]

    @property
    def leads(self) -> bool:
        """By its own deadline."""
        return self.replica.leader().leading

    async def stop(self) -> None:
        """As SIGTERM does."""
        await self.replica.stop()
        await self.supervisor.stop()

    async def crash(self) -> None:
        """As SIGKILL does: whatever it holds runs out by itself."""
        await self.supervisor.stop()


@dataclass
class World:
    """The servers, the probers, and every replica that was started."""

    loop: VirtualTimeLoop
    rng: random.Random
    clock: NodeClock
    store: MemoryStore
    brokers: dict[str, MemoryBroker]
    extras: Supervisor
    down: set[str] = field(default_factory=set)
    """Targets that every prober finds refusing connections."""
    silent: set[str] = field(default_factory=set)
    """Regions whose prober says nothing."""
    running: list[Running] = field(default_factory=list)

    async def start(
        self,
        name: str = "cp-east",
        *,
        seed: Fleet | None = None,
        wrap: Callable[[MemoryClient], Any] = lambda client: client,
        wrap_bus: Callable[[MemoryBus], Any] = lambda bus: bus,
        timings: Mapping[str, Any] | None = None,
        telemetry: Telemetry | None = None,
        outgoing: Outgoing | None = None,
    ) -> Running:
        """Run a replica; `wrap` may put faults between it and etcd, `wrap_bus` between it and each bus."""
        etcd = self.store.client(name)
        buses = {region: wrap_bus(broker.bus(name)) for region, broker in self.brokers.items()}
        supervisor = Supervisor()
        replica = Replica(
            node(name, timings=timings),
            fleet=fleet() if seed is None else seed,
            buses=buses,
            store=wrap(etcd),
            clock=self.clock,
            rng=random.Random(self.rng.random()),
            telemetry=telemetry or NoTelemetry(random.Random(self.rng.random())),
            outgoing=outgoing,
        )
        replica.start(supervisor)
        one = Running(replica, supervisor, etcd, buses)
        self.running.append(one)
        return one

    def probe(self) -> None:
        """From now on a prober in every region tells what it sees, twice a second, on its own bus."""
        for region in self.brokers:
            self.extras.start(f"prober {region}", lambda region=region: self._prober(region))  # type: ignore[misc]

    async def say(self, region: str, topic: str, key: str, value: bytes) -> None:
        """Put one message on a bus."""
        await self.brokers[region].bus("someone").publish(topic, key=key.encode(), value=value)

    async def ack(self, version: Version, *, number: int = 1, **more: Any) -> Ack:
        """An edge in `east` says that it serves `version`."""
        ack = Ack.model_validate(
            {
                "edge": "edge-east",
                "region": "east",
                "boot": 1,
                "ack": number,
                "mode": EdgeMode.FRESH,
                "generation": version.generation,
                "seq": version.seq,
                "config_version": 1,
                "applied_at": self.clock.now(),
                **more,
            }
        )
        await self.say("east", topics.ACKS, ack.edge, ack.canonical())
        return ack

    def value(self, key: str) -> bytes | None:
        """What etcd holds, whoever can reach it."""
        found = self.store.read(key, exact=True)
        return found[0].value if found else None

    def head(self) -> Head | None:
        """The head in etcd."""
        raw = self.value(keys.DECISIONS_HEAD)
        return None if raw is None else Head.model_validate_json(raw)

    def version(self) -> Version:
        """Of the head in etcd; 0.0 without one."""
        head = self.head()
        return Version(0, 0) if head is None else head.version

    def log(self) -> list[dict[str, Any]]:
        """All log entries in etcd, oldest first."""
        return [json.loads(item.value) for item in self.store.read(keys.DECISIONS_LOG)]

    def on_bus(self, region: str, topic: str) -> list[bytes]:
        """Values a bus holds, in order."""
        logs = self.brokers[region].logs
        return [
            r.value for (name, _), log in logs.items() if name == topic for r in log if r.value is not None
        ]

    def documents(self, region: str) -> dict[str, Decision]:
        """The newest document of each route on a bus."""
        found = (Decision.model_validate_json(raw) for raw in self.on_bus(region, topics.DECISIONS))
        return {document.route: document for document in found}

    def beats(self, region: str) -> list[Beat]:
        """Every Beat on a bus."""
        return [Beat.model_validate_json(raw) for raw in self.on_bus(region, topics.BEATS)]

    def leaders(self) -> list[Running]:
        """All that believe to lead."""
        return [one for one in self.running if one.leads]

    def used(self) -> set[str]:
        """Targets that any region is to use, by the documents on the first bus."""
        return {
            target.id
            for document in self.documents(next(iter(self.brokers))).values()
            for region in document.regions.values()
            for tier in region.tiers
            for target in tier.targets
        }

    async def until(self, what: Callable[[], Any], *, within_s: float) -> float:
        """Virtual seconds until `what` holds; fails when it does not in time."""
        began = self.loop.time()
        while not what():
            assert self.loop.time() - began < within_s, f"not within {within_s} s"
            await asyncio.sleep(0.01)
        return self.loop.time() - began

    async def _prober(self, region: str) -> None:
        bus, number = self.brokers[region].bus(f"prober-{region}"), 0
        while True:
            await asyncio.sleep(0.5)
            number += 1
            if region in self.silent:
                continue
            event = self.event(region, number)
            try:
                await bus.publish(topics.HEALTH, key=event.source.encode(), value=event.canonical())
            except Exception:  # a bus that is down; the next round says it again
                continue

    def event(self, region: str, number: int, *, boot: int = 1) -> HealthEvent:
        """What the prober of `region` says: everything is up but `down`."""
        now = self.clock.now()
        return HealthEvent(
            kind="probe",
            source=f"prober-{region}",
            role=Role.PROBER,
            vantage=region,
            boot=boot,
            seq=number,
            observed_at=now,
            config_version=1,
            probes=tuple(self._state(target.id, now) for target in fleet().targets),
        )

    def _state(self, target: str, now: Any) -> ProbeState:
        bad = target in self.down
        return ProbeState(
            target=target,
            monitor="http",
            state="DOWN" if bad else "UP",
            consecutive_good=0 if bad else 9,
            consecutive_bad=9 if bad else 0,
            outcome=Outcome.REFUSED if bad else Outcome.OK,
            hard=bad,
            latency_ms=1.0,
            latency_ms_p50=1.0,
            latency_ms_p99=1.0,
            probed_at=now,
            changed_at=now,
            interval_s=0.5,
            traceparent=f"00-{zlib.crc32(target.encode()):032x}-{1:016x}-01" if bad else None,
        )


def node(name: str, *, timings: Mapping[str, Any] | None = None) -> Node:
    """`node:` of a replica; the addresses are never used."""
    return Node.model_validate(
        {
            "role": "control-plane",
            "id": name,
            "region": name.removeprefix("cp-"),
            "state_dir": "/nowhere",
            "listen": "127.0.0.1:7100",
            "buses": dict.fromkeys(REGIONS, "127.0.0.1:9092"),
            "etcd": {"endpoints": ["127.0.0.1:2379"]},
            "timings": {"lease_ttl_s": TTL_S, **(timings or {})},
        }
    )


def play(story: Callable[[World], Coroutine[Any, Any, None]], *, seed: int = 1) -> None:
    """Run `story` in a fresh world on virtual time, and leave no task behind."""
    loop = VirtualTimeLoop()
    try:
        loop.run_until_complete(_staged(loop, story, seed))
        assert not asyncio.all_tasks(loop)
    finally:
        loop.close()


async def _staged(loop: VirtualTimeLoop, story: Callable[[World], Awaitable[None]], seed: int) -> None:
    rng = random.Random(seed)
    clock = NodeClock(loop)
    async with Supervisor() as extras:
        world = World(
            loop=loop,
            rng=rng,
            clock=clock,
            store=MemoryStore(rng=rng),
            brokers={region: MemoryBroker(region, clock=clock, rng=rng) for region in REGIONS},
            extras=extras,
        )
        try:
            await story(world)
        finally:
            for one in world.running:
                await one.crash()
