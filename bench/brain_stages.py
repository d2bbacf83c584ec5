"""From an event to the edges, stage by stage: event in, decision committed, on the bus, applied.

Three control planes, three edges and three etcd members, on the embedded broker (one a region) or on one Apache
Kafka. The bench is all three probers: it tells that a target is refused, on every bus at once, and hears what
follows by its own watch on etcd and its own consumer on each bus; when an edge applied, the edge itself says in
its ack, by the same machine's clock. No target runs and nothing is probed, so nothing but the path is measured.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import httpx2
import yaml

from bench.brain_stack import CLOCK, free_block, quick_fleet, spread
from ops.client import edge_state, open_client
from ops.local import bus, etcd, nodes
from ops.local.fleet import REGIONS
from ops.local.nodes import Blueprint
from ops.local.processes import Kind, Launcher, ProcessRecord, stop_all
from shared import keys
from shared.adapters.etcd import EtcdStore
from shared.adapters.kafka import KafkaBus
from shared.supervise import Supervisor
from shared.topics import ACKS, DECISIONS, HEALTH
from shared.vocabulary.base import Version
from shared.vocabulary.decision import Ack, Decision, Head
from shared.vocabulary.health import HealthEvent, ProbeState
from shared.vocabulary.node import BusAddress, EtcdAddress
from shared.vocabulary.terms import Outcome, Role
from tests.support.brokers import BROKERS, running

ROUND_S = 0.5
LIMIT_S = 30.0
QUIET_S = 0.6
"""Without a new head for so long, nothing is under way."""
EMBEDDED, APACHE = "embedded", "apache"
EMBEDDED_WAIT_MS = 5
"""The embedded broker answers a fetch only when its wait is over: our own hearing must add little."""
HOST = bus.HOST

Found = TypeVar("Found")


async def stages(broker: str, *, runs: int, scratch: Path) -> dict[str, Any]:
    """`stage_<broker>_*`: milliseconds from the event, p50 and p99; only a note where `broker` is not at hand."""
    if broker == APACHE and (reason := BROKERS[APACHE].why_not()):
        return {f"stage_{broker}": f"not measured: {reason}"}
    spans: dict[str, list[float]] = {"committed": [], "on_bus": [], "applied": []}
    async with _deployment(broker, scratch) as path:
        for run in range(runs):
            target = path.targets[run % len(path.targets)]
            for name, ms in (await path.fault(target)).items():
                spans[name].append(ms)
    figures: dict[str, Any] = {f"stage_{broker}_runs": runs}
    for name, values in spans.items():
        figures |= spread(f"stage_{broker}_{name}", values)
    return figures


@dataclass(slots=True)
class _Heard:
    """What the bench has heard so far."""

    heads: list[tuple[datetime, Head]] = field(default_factory=list)
    documents: dict[tuple[str, str], tuple[datetime, Decision]] = field(default_factory=dict)
    """Bus, route -> the latest."""
    acks: dict[str, Ack] = field(default_factory=dict)
    """Edge -> its latest."""


class _Path:
    """The measured path. `run` starts its loops; times are this machine's wall clock, as the edges' are."""

    def __init__(self, plan: Blueprint, store: EtcdStore, buses: Sequence[KafkaBus]) -> None:
        self.targets = [target.id for target in plan.fleet.targets]
        self._monitors = [monitor.id for monitor in plan.fleet.monitors]
        self._routes = [route.id for route in plan.fleet.routes]
        self._regions = plan.regions
        self._store = store
        self._buses = {each.region: each for each in buses}
        self._heard = _Heard()
        self._changed = asyncio.Event()
        self._down: frozenset[str] = frozenset()
        self._seq = 0
        self._whole: list[object] | None = None
        """What is decided while every target is up."""

    def run(self, supervisor: Supervisor) -> None:
        """Tell rounds, and hear etcd and every bus."""
        supervisor.start("rounds", self._tell_rounds)
        supervisor.start("etcd", self._hear_etcd)
        for bus_ in self._buses.values():
            supervisor.start(f"bus-{bus_.region}", lambda bus_=bus_: self._hear_bus(bus_))  # type: ignore[misc]

    async def fault(self, target: str) -> dict[str, float]:
        """Once all is whole, tell that `target` is refused; ms until each stage has heard."""
        await self._until(self._quiet)
        if self._whole is None:
            self._whole = self._weights()
        before = self._heard.heads[-1][1].version
        self._down = frozenset({target})
        began = CLOCK.now()
        await self._tell_all([target])
        committed_at, version = await self._until(lambda: self._commit_after(before))
        on_bus_at = await self._until(lambda: self._on_all_buses(version))
        applied_at = await self._until(lambda: self._on_all_edges(version))
        self._down = frozenset()
        await self._tell_all([target])
        moments = {"committed": committed_at, "on_bus": on_bus_at, "applied": applied_at}
        return {name: (at - began) / timedelta(milliseconds=1) for name, at in moments.items()}

    # ------------------------------------------------------------ looking

    def _quiet(self) -> bool:
        """Whether every target is fully back, and nothing under way."""
        if len(self._heard.documents) < len(self._buses) * len(self._routes) or not self._heard.heads:
            return False
        at, head = self._heard.heads[-1]
        if self._whole is not None and self._weights() != self._whole:
            return False
        return CLOCK.now() - at > timedelta(seconds=QUIET_S) and bool(self._on_all_edges(head.version))

    def _commit_after(self, version: Version) -> tuple[datetime, Version] | None:
        return next(((at, head.version) for at, head in self._heard.heads if head.version > version), None)

    def _on_all_buses(self, version: Version) -> datetime | None:
        """When the last bus gave the last of that version's documents back."""
        found = [at for at, document in self._heard.documents.values() if document.version >= version]
        return max(found) if len(found) == len(self._buses) * len(self._routes) else None

    def _on_all_edges(self, version: Version) -> datetime | None:
        """When the last edge began to serve that version."""
        found = [ack.applied_at for ack in self._heard.acks.values() if ack.version >= version]
        return max(found) if len(found) == len(self._regions) else None

    def _weights(self) -> list[object]:
        latest = sorted(self._heard.documents.items())
        return [
            (key, sorted((region, decided.substance) for region, decided in document.regions.items()))
            for key, (_, document) in latest
        ]

    async def _until(self, look: Callable[[], Found | None]) -> Found:
        """What `look` finds, asked again whenever something was heard. Raises TimeoutError."""
        async with asyncio.timeout(LIMIT_S):
            while True:
                self._changed.clear()
                if found := look():
                    return found
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._changed.wait(), 0.05)

    # ------------------------------------------------------------ hearing and telling

    async def _hear_etcd(self) -> None:
        record, revision = await self._store.get(keys.DECISIONS_HEAD)
        if record is not None:
            self._heard.heads.append((CLOCK.now(), Head.model_validate_json(record.value)))
        async for batch in self._store.watch(keys.DECISIONS_HEAD, from_revision=revision + 1):
            for change in batch.changes:
                if change.value is not None:
                    self._heard.heads.append((CLOCK.now(), Head.model_validate_json(change.value)))
                    self._changed.set()

    async def _hear_bus(self, bus_: KafkaBus) -> None:
        async for batch in bus_.consume([DECISIONS, ACKS], start="beginning"):
            now = CLOCK.now()
            for record in batch.records:
                if record.value is None:
                    continue
                if record.topic == ACKS:
                    ack = Ack.model_validate_json(record.value)
                    self._heard.acks[ack.edge] = ack
                else:
                    document = Decision.model_validate_json(record.value)
                    self._heard.documents[bus_.region, document.route] = (now, document)
                self._changed.set()

    async def _tell_rounds(self) -> None:
        while True:
            await self._tell_all(self.targets)
            await asyncio.sleep(ROUND_S)

    async def _tell_all(self, targets: Sequence[str]) -> None:
        self._seq += 1
        await asyncio.gather(*(self._tell(region, targets, self._seq) for region in self._regions))

    async def _tell(self, region: str, targets: Sequence[str], seq: int) -> None:
        now = CLOCK.now()
        event = HealthEvent(
            kind="probe",
            source=f"prober-{region}",
            role=Role.PROBER,
            vantage=region,
            boot=1,
            seq=seq,
            observed_at=now,
            probes=tuple(
                _state(target, monitor, now, down=target in self._down)
                for target in targets
                for monitor in self._monitors
            ),
        )
        bus_ = self._buses.get(region) or next(iter(self._buses.values()))
        await bus_.publish(HEALTH, key=event.source.encode(), value=event.model_dump_json().encode())


def _state(target: str, monitor: str, now: datetime, *, down: bool) -> ProbeState:
    return ProbeState(
        target=target,
        monitor=monitor,
        state="DOWN" if down else "UP",
        consecutive_good=0 if down else 9,
        consecutive_bad=9 if down else 0,
        outcome=Outcome.REFUSED if down else Outcome.OK,
        hard=down,
        latency_ms=5.0,
        latency_ms_p50=5.0,
        latency_ms_p99=5.0,
        probed_at=now,
        changed_at=now,
        interval_s=1.0,
    )


# ---------------------------------------------------------------- what is measured


@asynccontextmanager
async def _deployment(broker: str, scratch: Path) -> AsyncIterator[_Path]:
    """etcd, buses, control planes and edges, running; every edge serves a confirmed decision."""
    base = free_block()
    state_dir = scratch / broker
    plan = Blueprint(
        state_dir=state_dir,
        port_base=base,
        regions=REGIONS,
        fleet=quick_fleet(base),
        simulated=False,
        credentials={},
    )
    kinds = {Kind.ETCD, Kind.EDGE, Kind.CONTROL_PLANE} | ({Kind.BUS} if broker == EMBEDDED else set())
    chosen = [record for record in nodes.records(plan) if record.kind in kinds]
    nodes.write_node_files(plan)
    async with AsyncExitStack() as exits:
        shared = None
        if broker == APACHE:
            shared = (await exits.enter_async_context(running(APACHE))).bootstrap
            _use_one_bus(state_dir / "nodes", shared)
        launcher = Launcher()
        started: list[ProcessRecord] = []
        exits.callback(lambda: stop_all(started, grace_s=3.0, launcher=launcher))
        foundations = [record for record in chosen if record.kind in (Kind.ETCD, Kind.BUS)]
        for record in foundations:
            Path(plan.state_dir / "data" / record.id).mkdir(parents=True, exist_ok=True)
            started.append(launcher.launch(record))
        await _poll(lambda: _foundations_up(foundations))
        started += [launcher.launch(record) for record in chosen if record not in foundations]
        edges = [record.admin_url or "" for record in chosen if record.kind is Kind.EDGE]
        async with open_client() as client:
            await _poll(lambda: _confirmed(client, edges))
        yield await _connected(plan, shared, exits)


async def _connected(plan: Blueprint, shared: str | None, exits: AsyncExitStack) -> _Path:
    """The bench's own clients, with their loops running."""
    ports = [plan.ports(region) for region in plan.regions]
    store = EtcdStore(
        EtcdAddress(endpoints=tuple(f"{HOST}:{each.etcd_client}" for each in ports)), clock=CLOCK
    )
    exits.push_async_callback(store.close)
    brokers = {region: f"{HOST}:{plan.ports(region).bus}" for region in plan.regions}
    if shared is not None:
        brokers = {plan.regions[0]: shared}
    buses = []
    for region, bootstrap in brokers.items():
        address = BusAddress(
            bootstrap=(bootstrap,),
            fetch_max_wait_ms=500 if shared else EMBEDDED_WAIT_MS,
            replication_factor=1,
        )
        buses.append(KafkaBus(region, address, client_id="bench", clock=CLOCK))
        exits.push_async_callback(buses[-1].close)
    path = _Path(plan, store, buses)
    path.run(await exits.enter_async_context(Supervisor()))
    return path


def _use_one_bus(folder: Path, bootstrap: str) -> None:
    """Every node's buses become the one at `bootstrap`."""
    for file in folder.glob("*.yaml"):
        content = yaml.safe_load(file.read_text())
        for address in content["node"]["buses"].values():
            address.clear()
            address |= {"bootstrap": [bootstrap], "replication_factor": 1}
        file.write_text(yaml.safe_dump(content))


async def _foundations_up(records: Sequence[ProcessRecord]) -> bool:
    up = [
        await (
            etcd.is_up(each.ports["client"]) if each.kind is Kind.ETCD else bus.is_up(each.ports["listen"])
        )
        for each in records
    ]
    return all(up)


async def _confirmed(client: httpx2.AsyncClient, edges: Sequence[str]) -> bool:
    states = [await edge_state(client, url) for url in edges]
    return all(state is not None and state.confirmed for state in states)


async def _poll(what: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(60):
        while not await what():
            await asyncio.sleep(0.1)
