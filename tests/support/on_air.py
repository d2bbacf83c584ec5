"""A whole control plane behind real sockets, in this process and on real time, over in-memory etcd and Kafka;
with probers that say what they are told to see, and edges that follow. For what a browser looks at."""

import asyncio
import random
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx2

from control_plane import app
from shared import topics
from shared.adapters.memory import MemoryBroker, MemoryClient, MemoryStore
from shared.clock import SystemClock
from shared.supervise import Supervisor
from shared.telemetry import NoTelemetry
from shared.vocabulary.config import Fleet
from shared.vocabulary.decision import Ack
from shared.vocabulary.health import HealthEvent, PassiveWindow, ProbeState, RouteLoad
from shared.vocabulary.node import Node, NodeFile
from shared.vocabulary.terms import EdgeMode, Outcome, Role
from tests.support.processes import HOST, free_ports, until

REGIONS = ("us-east", "eu-west", "ap-south")
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def fleet_of(regions: Sequence[str] = REGIONS, *, per_region: int = 2, drills: bool = True) -> Fleet:
    """`per_region` targets of alternating providers in each region; the route chat has a tier of each
    provider, embed the first alone."""
    providers = ("alpha", "beta", "gamma", "delta")[: max(1, min(4, per_region))]
    placed = [
        (provider, f"{provider}-{region}" + (f"-{number}" if per_region > len(providers) else ""), region)
        for region in regions
        for number in range(1, per_region // len(providers) + 1)
        for provider in providers
    ]
    tiers = [{"targets": [name for who, name, _ in placed if who == provider]} for provider in providers]
    return Fleet.model_validate(
        {
            "regions": [{"id": region} for region in regions],
            "targets": [
                {
                    "id": name,
                    "provider": provider,
                    "model": f"{provider}-1",
                    "region": region,
                    "url": "http://a.test/v1",
                }
                for provider, name, region in placed
            ],
            "monitors": [{"id": "http", "kind": "http"}],
            "routes": [
                {"id": "chat", "match": {"models": ["chat"]}, "tiers": tiers},
                {"id": "embed", "match": {"models": ["embed"]}, "tiers": tiers[:1]},
            ],
            "policy": {"ramp_s": 1.0},
            "drills": {"enabled": drills},
        }
    )


@dataclass
class OnAir:
    """The control plane's servers, and what the world around it looks like. Change the fields at any time."""

    fleet: Fleet
    store: MemoryStore
    brokers: Mapping[str, MemoryBroker]
    urls: dict[str, str] = field(default_factory=dict)
    """Where each replica answers."""
    links: dict[str, MemoryClient] = field(default_factory=dict)
    """Each replica's connection to etcd."""
    stops: dict[str, asyncio.Event] = field(default_factory=dict)
    down: set[str] = field(default_factory=set)
    """Targets that refuse connections, whoever asks."""
    doubted: set[tuple[str, str]] = field(default_factory=set)
    """(vantage, target): only that vantage finds it DOWN."""
    silent: set[str] = field(default_factory=set)
    """Regions whose prober says nothing."""
    stuck: set[str] = field(default_factory=set)
    """Regions whose edge applies nothing any more."""
    client: httpx2.AsyncClient = field(default_factory=lambda: httpx2.AsyncClient(trust_env=False, timeout=5))

    @property
    def url(self) -> str:
        """The first replica's."""
        return next(iter(self.urls.values()))

    async def get(self, path: str) -> Any:
        """The JSON there, asked of the first replica; None while it does not answer so."""
        try:
            answer = await self.client.get(self.url + path)
        except httpx2.HTTPError:
            return None
        return answer.json() if answer.is_success else None

    async def give(self, **order: Any) -> Any:
        """An override, given over HTTP by ann for ten minutes."""
        order = {"author": "ann", "reason": "new racks", "for_s": 600, **order}
        answer = await self.client.post(self.url + "/v1/overrides", json=order)
        assert answer.status_code == 201, answer.text
        return answer.json()

    async def carried(self, kind: str, name: str) -> None:
        """Wait until some decision says `kind` of `name`."""

        async def said() -> bool:
            found = await self.get("/v1/decisions")
            return found is not None and any(
                reason["code"] == kind
                and name in (reason["target"] or "", *map(str, reason["values"].values()))
                for decision in found["decisions"]
                for reason in decision["reasons"]
            )

        await until(said, within_s=20, what=f"no decision says {kind} of {name}")

    async def prober(self, region: str) -> None:
        """Twice a second, everything."""
        bus, clock, number = self.brokers[region].bus(f"prober-{region}"), SystemClock(), 0
        while True:
            number += 1
            if region not in self.silent:
                now = clock.now()
                event = HealthEvent(
                    kind="probe",
                    source=f"prober-{region}",
                    role=Role.PROBER,
                    vantage=region,
                    boot=1,
                    seq=number,
                    observed_at=now,
                    config_version=1,
                    probes=tuple(self._state(target.id, region, now) for target in self.fleet.targets),
                )
                await bus.publish(topics.HEALTH, key=event.source.encode(), value=event.canonical())
            await asyncio.sleep(0.5)

    def _state(self, target: str, region: str, now: Any) -> ProbeState:
        bad = target in self.down or (region, target) in self.doubted
        return ProbeState(
            target=target,
            monitor="http",
            state="DOWN" if bad else "UP",
            consecutive_good=0 if bad else 9,
            consecutive_bad=9 if bad else 0,
            outcome=Outcome.REFUSED if bad else Outcome.OK,
            detail="connect ECONNREFUSED" if bad else "",
            hard=bad,
            latency_ms=12.0,
            latency_ms_p50=12.0,
            latency_ms_p99=30.0,
            probed_at=now,
            changed_at=now,
            interval_s=0.5,
            traceparent=TRACE if bad else None,
        )

    async def edge(self, region: str) -> None:
        """Twice a second: what it serves, and the requests that went where the decision says."""
        bus, clock, number = self.brokers[region].bus(f"edge-{region}"), SystemClock(), 0
        held: tuple[Any, Any] = (None, None)
        while True:
            number += 1
            current = await self.get("/v1/decisions/current")
            if current is not None and current["head"] is not None:
                if region not in self.stuck and (held[0] is None or held[0]["version"] != current["version"]):
                    held = (current, clock.now())
                await bus.publish(
                    topics.ACKS, key=b"edge", value=self._ack(region, number, *held).canonical()
                )
                event = self._traffic(region, number, held[0]["documents"], clock.now())
                await bus.publish(topics.HEALTH, key=event.source.encode(), value=event.canonical())
            await asyncio.sleep(0.5)

    def _ack(self, region: str, number: int, held: Any, applied_at: Any) -> Ack:
        generation, _, seq = held["version"].partition(".")
        return Ack(
            edge=f"edge-{region}",
            region=region,
            boot=1,
            ack=number,
            mode=EdgeMode.STALE if region in self.stuck else EdgeMode.FRESH,
            generation=int(generation),
            seq=int(seq),
            config_version=held["head"]["config_version"],
            beat_age_s=45.0 if region in self.stuck else 0.4,
            applied_at=applied_at,
        )

    def _traffic(self, region: str, number: int, documents: Any, now: Any) -> HealthEvent:
        counts: dict[str, int] = {}
        for document in documents:
            for tier in document["regions"].get(region, {"tiers": ()})["tiers"]:
                for target in tier["targets"]:
                    share = tier["share_permille"] * target["weight_permille"] // 1000
                    counts[target["id"]] = counts.get(target["id"], 0) + share // 10
        return HealthEvent(
            kind="passive",
            source=f"edge-{region}",
            role=Role.EDGE,
            vantage=region,
            boot=1,
            seq=number,
            observed_at=now,
            config_version=1,
            passive=tuple(
                PassiveWindow(target=name, window_s=10.0, counts={Outcome.OK: count}, latency_ms_mean=180.0)
                for name, count in counts.items()
                if count
            ),
            routes=tuple(
                RouteLoad(route=route.id, inflight=4.0, requests=100, failed=0, window_s=10.0)
                for route in self.fleet.routes
            ),
        )


@asynccontextmanager
async def on_air(
    fleet: Fleet | None = None, *, replicas: Sequence[str] = ("cp-us-east",), quiet: bool = False
) -> AsyncIterator[OnAir]:
    """The fleet with these replicas, until the end; all well, and every edge with the first decision, unless
    `quiet`."""
    fleet, rng, clock = fleet or fleet_of(), random.Random(1), SystemClock()
    regions = [region.id for region in fleet.regions]
    world = OnAir(
        fleet,
        MemoryStore(rng=rng),
        {region: MemoryBroker(region, clock=clock, rng=rng) for region in regions},
    )
    async with world.client, Supervisor() as extras:
        tasks = [await _replica(world, name, extras) for name in replicas]
        for region in () if quiet else regions:
            extras.start(f"prober {region}", lambda region=region: world.prober(region))  # type: ignore[misc]
            extras.start(f"edge {region}", lambda region=region: world.edge(region))  # type: ignore[misc]
        try:
            if not quiet:
                await _settled(world)
            yield world
        finally:
            for stop in world.stops.values():
                stop.set()
            async with asyncio.timeout(20):
                await asyncio.gather(*tasks)


async def _replica(world: OnAir, name: str, extras: Supervisor) -> "asyncio.Task[Any]":
    (port,) = free_ports(1)
    regions = list(world.brokers)
    node = Node.model_validate(
        {
            "role": "control-plane",
            "id": name,
            "region": name.removeprefix("cp-"),
            "state_dir": "/nowhere",
            "listen": f"{HOST}:{port}",
            "buses": dict.fromkeys(regions, "127.0.0.1:9092"),
            "etcd": {"endpoints": ["127.0.0.1:2379"]},
            "timings": {"lease_ttl_s": 2, "beat_s": 0.5, "etcd_beat_s": 0.5},
        }
    )
    stop, started = asyncio.Event(), asyncio.Event()
    world.stops[name], world.urls[name] = stop, f"http://{HOST}:{port}"
    world.links[name] = etcd = world.store.client(name)
    task = extras.spawn(
        name,
        app.serve(
            NodeFile(node=node, fleet=world.fleet),
            buses={region: broker.bus(name) for region, broker in world.brokers.items()},
            store=etcd,
            clock=SystemClock(),
            rng=random.Random(name),
            telemetry=NoTelemetry(random.Random(name)),
            stop=stop,
            started=started.set,
        ),
    )
    async with asyncio.timeout(10):
        await started.wait()
    return task


async def _settled(world: OnAir) -> None:
    async def follows() -> bool:
        found, health = await world.get("/v1/edges"), await world.get("/v1/health")
        return (
            found is not None
            and health is not None
            and health["status"] == "healthy"
            and len(found["edges"]) == len(world.brokers)
            and all(edge["behind"] == 0 for edge in found["edges"])
            and found["head"] != "0.0"
        )

    await until(follows, within_s=30, what="the edges do not follow a first decision")
