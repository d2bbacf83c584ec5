"""The whole of Leeward on virtual time: real loops of three probers, three control planes and three edges."""

import asyncio
import random
from collections import deque
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from control_plane.replica import Replica
from edge_router import app as edge_app
from edge_router.app import Outside
from edge_router.core.table import RouteTable
from prober import app as prober_app
from shared import keys
from shared.adapters.memory import MemoryBroker, MemoryBus, MemoryClient
from shared.supervise import Supervisor
from shared.telemetry import NoTelemetry
from shared.vocabulary.base import NO_VERSION
from shared.vocabulary.config import Fleet
from shared.vocabulary.node import Node
from shared.vocabulary.override import Override
from shared.vocabulary.terms import EdgeMode
from tests.simulation.checkers import Broken, EdgeHistory, JudgedStore, Ledger, check_published
from tests.simulation.faulty import (
    HttpPath,
    Machine,
    MemoryDisk,
    PausableBus,
    PausableStore,
    RecordedServing,
    Truth,
    WorldProbe,
)
from tests.simulation.virtual_time import START, NodeClock, VirtualTimeLoop

REGIONS = ("us-east", "eu-west", "ap-south")
PROVIDERS = ("alpha", "beta")
TARGETS = tuple(f"{provider}-{region}" for provider in PROVIDERS for region in REGIONS)
TIMINGS = {"lease_ttl_s": 5, "reconcile_s": 0.25, "round_s": 1.0, "beat_s": 2.0}


def fleet() -> Fleet:
    """Two providers in each region; probed every second, ramped in four."""
    return Fleet.model_validate(
        {
            "regions": [{"id": region} for region in REGIONS],
            "targets": [
                {
                    "id": f"{provider}-{region}",
                    "provider": provider,
                    "model": provider,
                    "region": region,
                    "url": f"http://{provider}.{region}/v1",
                }
                for provider in PROVIDERS
                for region in REGIONS
            ],
            "monitors": [{"id": "http", "kind": "http", "interval_s": 1.0, "timeout_s": 0.9}],
            "routes": [
                {
                    "id": "chat",
                    "match": {"models": ["chat"]},
                    "tiers": [
                        {"targets": [f"{provider}-{region}" for region in REGIONS]} for provider in PROVIDERS
                    ],
                }
            ],
            "policy": {"ramp_s": 4.0, "hold_down_cap_s": 8.0},
        }
    )


class World:
    """Servers, machines, and what runs on them. Everything that a fault may touch is an attribute."""

    def __init__(self, loop: VirtualTimeLoop, rng: random.Random) -> None:
        self.loop = loop
        self.rng = rng
        self.truth = Truth()
        self.ledger = Ledger(self.truth)
        self.store = JudgedStore(rng=random.Random(rng.random()))
        self.store.ledger = self.ledger
        self.brokers = {
            region: _JudgedBroker(region, self.ledger, clock=NodeClock(loop), rng=random.Random(rng.random()))
            for region in REGIONS
        }
        self.machines = {
            f"{kind}-{region}": Machine(NodeClock(loop))
            for kind in ("cp", "edge", "prober")
            for region in REGIONS
        }
        self.etcd = {f"cp-{region}": self.store.client(f"cp-{region}") for region in REGIONS}
        self.buses: dict[str, dict[str, MemoryBus]] = {}
        self.replicas: dict[str, Replica] = {}
        self.disks = {f"edge-{region}": MemoryDisk() for region in REGIONS}
        self.http = {f"edge-{region}": HttpPath(_ByUrl(self)) for region in REGIONS}
        self.servings: dict[str, RecordedServing] = {}
        self.histories = {f"edge-{region}": EdgeHistory(f"edge-{region}", self.ledger) for region in REGIONS}
        self.boots: dict[str, int] = {}
        self.running: dict[str, Supervisor] = {}
        self.trace: deque[str] = deque(maxlen=400)
        self.broken: list[str] = []
        self.restored_at = float("-inf")
        """When etcd last went back in time. It forgets leases, so for up to a TTL the former holder
        believes in one that is gone: the fence, not the lease, is what keeps it from writing."""

    # ------------------------------------------------------------ processes

    async def start(self, name: str) -> None:
        """Start a process that does not run."""
        if name in self.running:
            return
        self.say(f"start {name}")
        supervisor = self.running[name] = Supervisor()
        self.boots[name] = self.boots.get(name, 0) + 1
        {"cp": self._start_cp, "edge": self._start_edge, "prober": self._start_prober}[name.split("-")[0]](
            name, supervisor
        )

    async def crash(self, name: str) -> None:
        """SIGKILL: whatever it held runs out by itself."""
        supervisor = self.running.pop(name, None)
        if supervisor is None:
            return
        self.say(f"crash {name}")
        self.machines[name].resume()
        self.replicas.pop(name, None)
        self.servings.pop(name, None)
        await supervisor.stop()
        if name in self.histories:
            held = self.disks[name].kept
            self.histories[name].restarted(held[0].version if held else NO_VERSION)

    async def stop(self, name: str) -> None:
        """SIGTERM to a control plane: it finishes its write and resigns."""
        if name in self.replicas and not self.machines[name].paused:
            self.say(f"stop {name}")
            await self.replicas[name].stop()
        await self.crash(name)

    def _start_cp(self, name: str, supervisor: Supervisor) -> None:
        machine, region = self.machines[name], name.removeprefix("cp-")
        client = self.etcd[name] = self.store.client(name)
        buses = self.buses[name] = {other: self.brokers[other].bus(name) for other in REGIONS}
        replica = self.replicas[name] = Replica(
            Node.model_validate(
                {
                    "role": "control-plane",
                    "id": name,
                    "region": region,
                    "state_dir": "/nowhere",
                    "listen": "127.0.0.1:7100",
                    "advertise_url": url_of(name),
                    "etcd": {"endpoints": ["127.0.0.1:2379"]},
                    "buses": dict.fromkeys(REGIONS, "127.0.0.1:9092"),
                    "timings": TIMINGS,
                }
            ),
            fleet=fleet(),
            buses={other: PausableBus(bus, machine) for other, bus in buses.items()},
            store=PausableStore(client, machine),
            clock=machine.clock,
            rng=random.Random(self.rng.random()),
            telemetry=NoTelemetry(random.Random(self.rng.random())),
        )
        replica.start(supervisor)

    def _start_edge(self, name: str, supervisor: Supervisor) -> None:
        machine, region = self.machines[name], name.removeprefix("edge-")
        bus = self.brokers[region].bus(name)
        self.buses[name] = {region: bus}
        history = self.histories[name]

        def make(table: RouteTable, *_: Any) -> RecordedServing:
            def swapped(table: RouteTable) -> None:
                self.say(f"{name} serves {table.head}")
                self.judge(lambda: history.serves(table.head, _content(table)))

            serving = self.servings[name] = RecordedServing(table, swapped)
            return serving

        node = Node.model_validate(
            {
                "role": "edge",
                "id": name,
                "region": region,
                "state_dir": "/nowhere",
                "listen": "127.0.0.1:7200",
                "buses": {region: "127.0.0.1:9092"},
                "control_planes": [url_of(f"cp-{other}") for other in REGIONS],
                "timings": TIMINGS,
            }
        )
        outside = Outside(
            bus=PausableBus(bus, machine),
            control_plane=self.http[name],
            store=self.disks[name],
            make_serving=make,
            clock=machine.clock,
            telemetry=NoTelemetry(random.Random(self.rng.random())),
            rng=random.Random(self.rng.random()),
        )
        supervisor.spawn(
            name, edge_app.serve(node, fleet(), outside, boot=self.boots[name], ended=asyncio.Event())
        )

    def _start_prober(self, name: str, supervisor: Supervisor) -> None:
        machine, region = self.machines[name], name.removeprefix("prober-")
        bus = self.brokers[region].bus(name)
        self.buses[name] = {region: bus}
        supervisor.spawn(
            name,
            prober_app.serve(
                node=Node.model_validate(
                    {
                        "role": "prober",
                        "id": name,
                        "region": region,
                        "state_dir": "/nowhere",
                        "buses": {region: "127.0.0.1:9092"},
                        "timings": TIMINGS,
                    }
                ),
                fleet=fleet(),
                boot=self.boots[name],
                bus=PausableBus(bus, machine),
                probe=WorldProbe(region, self.truth, random.Random(self.rng.random())),
                clock=machine.clock,
                telemetry=NoTelemetry(random.Random(self.rng.random())),
                rng=random.Random(self.rng.random()),
            ),
        )

    # ------------------------------------------------------------ judging

    def say(self, what: str) -> None:
        """One line of the run's trace."""
        self.trace.append(f"{self.loop.time():9.3f} {what}")

    def judge(self, check: Callable[[], None]) -> None:
        """A broken invariant inside a loop must end the run, not be logged and retried by a supervisor."""
        try:
            check()
        except Broken as error:
            self.broken.append(f"{self.loop.time():.3f} {error}")

    def check_now(self) -> None:
        """What must hold at any moment. Raises Broken."""
        if self.broken or self.store.broken:
            raise Broken([*self.broken, *self.store.broken][0])
        leading = [
            name
            for name, replica in self.replicas.items()
            if replica.leader().leading and not self.machines[name].paused
        ]
        if len(leading) > 1 and self.loop.time() - self.restored_at > TIMINGS["lease_ttl_s"]:
            raise Broken(f"{leading} lead at once, each by its own deadline")

    def drained(self) -> set[str]:
        """The targets that operators have out at this moment, by what the store holds and by true time."""
        now = START + timedelta(seconds=self.loop.time())
        found: set[str] = set()
        for item in self.store.read(keys.OVERRIDES):
            override = Override.model_validate_json(item.value)
            if override.spec.kind == "drain" and override.holds(now):
                found |= {
                    target
                    for target in TARGETS
                    if target == override.spec.target or target.endswith(f"-{override.spec.region}")
                }
        return found

    def unsettled(self) -> str | None:
        """After everything was mended: what is not yet as it must be in the end; None when all is."""
        head = self.store.read("decisions/head", exact=True)
        if not head:
            return "no head"
        stated = self.ledger.last
        for name, serving in self.servings.items():
            if serving.table.head != stated:
                return f"{name} serves {serving.table.head}, the store holds {stated}"
            if serving.mode is not EdgeMode.FRESH:
                return f"{name} is {serving.mode.value}"
        if len(self.servings) < len(REGIONS):
            return "an edge does not serve"
        drained = self.drained()
        for name, serving in self.servings.items():
            tiers = serving.table.routes["chat"].tiers
            used = {candidate.target.id for tier in tiers for candidate in tier.weighted}
            if used & drained:
                return f"{name} uses {sorted(used & drained)}, which are drained"
            if used & self.truth.down:
                return f"{name} uses {sorted(used & self.truth.down)}, which are down"
            own = f"alpha-{name.removeprefix('edge-')}"
            first = [candidate.target.id for candidate in tiers[0].weighted] if tiers else []
            if own not in self.truth.down | drained and first != [own]:
                return f"{name} uses {first}, not its own {own}"
        return None


class _JudgedBroker(MemoryBroker):
    """A broker that looks at every message it is given."""

    def __init__(self, region: str, ledger: Ledger, **more: Any) -> None:
        super().__init__(region, **more)
        self._ledger = ledger
        self.broken: list[str] = []

    def accept(
        self, topic: str, key: bytes | None, value: bytes | None, headers: Mapping[str, bytes]
    ) -> None:
        if value is not None:
            try:
                check_published(self._ledger, topic, value, where=f"the bus of {self.region}")
            except Broken as error:
                self.broken.append(str(error))
        super().accept(topic, key, value, headers)


class _ByUrl(Mapping[str, Replica]):
    """The replicas that run, by URL."""

    def __init__(self, world: World) -> None:
        self._world = world

    def __getitem__(self, url: str) -> Replica:
        name = url.removeprefix("http://")
        replica = self._world.replicas.get(name)
        if replica is None or self._world.machines[name].paused:
            raise KeyError(url)
        return replica

    def __iter__(self) -> Any:
        return iter([url_of(name) for name in self._world.replicas])

    def __len__(self) -> int:
        return len(self._world.replicas)


def url_of(name: str) -> str:
    """Where edges find a replica."""
    return f"http://{name}"


def _content(table: RouteTable) -> str:
    route = table.routes["chat"]
    return repr(
        [
            (
                tier.number,
                tier.share,
                [(c.target.id, c.weight) for c in tier.weighted],
                [c.target.id for c in tier.standby],
            )
            for tier in route.tiers
        ]
    )


def client_links(world: World, name: str) -> list[Any]:
    """Every link of one process: to its buses, and to etcd."""
    links: list[Any] = [bus.link for bus in world.buses.get(name, {}).values()]
    etcd: MemoryClient | None = world.etcd.get(name)
    return [*links, etcd.link] if etcd is not None else links
