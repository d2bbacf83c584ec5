"""One edge process, built by hand."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web
from prometheus_client import CollectorRegistry

from edge_router.adapters.interpreter import settle, uncollected
from edge_router.core.fault_filter import FaultFilter
from edge_router.core.follow import Follower
from edge_router.core.limits import Limits
from edge_router.core.rebuild import TableBuilder
from edge_router.core.table import RouteTable, build_table
from edge_router.loops.acknowledge import Acknowledge
from edge_router.loops.alarms import Alarms
from edge_router.loops.carry import Carrier
from edge_router.loops.follow import FollowBus, FollowStream, keep_time
from edge_router.loops.keep import Keep
from edge_router.loops.quota import QuotaWatch
from edge_router.loops.recall import cold_start
from edge_router.loops.report import Report
from edge_router.loops.status import Status
from edge_router.metrics import Metrics
from edge_router.ports import ControlPlane, Crew, LastKnownGood, Recalled, Serving
from shared.admin import AdminServer, http_url, serve_admin, split_address
from shared.backoff import Backoff
from shared.boot import next_boot
from shared.clock import Clock, SystemClock
from shared.log import get_logger
from shared.metrics import new_registry, watch_process
from shared.ports import Bus
from shared.signals import ended_by_signal
from shared.supervise import Supervisor
from shared.telemetry import Telemetry
from shared.vocabulary.config import Fleet
from shared.vocabulary.node import Node, NodeFile

log = get_logger(__name__)

MakeServing = Callable[[Any, Supervisor, CollectorRegistry], Serving[Any]]
"""Builds the data path around its first table, or what else `Outside.build` makes."""


async def run(file: NodeFile, *, started: Callable[[], None] | None = None) -> None:
    """Serve until cancelled, or told to end by SIGTERM or SIGINT; then drain within `timings.drain_s`
    and return with everything released.

    `started` is called once the data plane listens, which is as soon as there is anything to serve by:
    a last-known-good file, the node file's fleet, or whatever first arrives. Raises OSError when an
    address cannot be bound or a file of TLS not used.
    """
    # Heavy libraries are imported where a process is about to need them, not where tests look in.
    from edge_router.adapters.certificates import both_sides
    from edge_router.adapters.credentials import resolve_all
    from edge_router.adapters.gateway import Gateway
    from edge_router.adapters.shared_faults import fault_filter_of
    from edge_router.adapters.store import DiskStore
    from edge_router.adapters.workers import in_workers
    from edge_router.core.handover import plan_of
    from shared.adapters.kafka import KafkaBus
    from shared.adapters.otel import telemetry_from_env

    node, clock, rng = file.node, SystemClock(), random.Random()
    certificate, target_tls = both_sides(node)
    # Workers resolve them for themselves: a secret is where it is needed, and nowhere else.
    credentials, missing = resolve_all(node.credentials) if node.workers == 1 else ({}, {})
    async with AsyncExitStack() as held:
        telemetry = telemetry_from_env(service="leeward-edge", node=node.id, region=node.region)
        held.push_async_callback(telemetry.close)
        control_plane = _control_plane(node)
        held.push_async_callback(control_plane.close)
        bus: Bus | None = None
        if node.region in node.buses:
            bus = KafkaBus(node.region, node.buses[node.region], client_id=node.id, clock=clock)
            held.push_async_callback(bus.close)

        faults = fault_filter_of(node, rng)

        def gateway(
            table: RouteTable, supervisor: Supervisor, registry: CollectorRegistry
        ) -> Serving[RouteTable]:
            return Gateway(
                edge_id=node.id,
                region=node.region,
                table=table,
                credentials=credentials,
                clock=clock,
                rng=rng,
                telemetry=telemetry,
                supervisor=supervisor,
                registry=registry,
                limits=Limits(**node.limits.model_dump()),
                fault_filter=faults,
                certificate=certificate,
                target_tls=target_tls,
            )

        outside = Outside(
            bus=bus,
            control_plane=control_plane,
            store=DiskStore(Path(node.state_dir) / node.id),
            make_serving=gateway if node.workers == 1 else in_workers(node, clock, rng, faults),
            build=build_table if node.workers == 1 else plan_of,
            clock=clock,
            telemetry=telemetry,
            rng=rng,
            fault_filter=faults,
        )
        boot = next_boot(Path(node.state_dir), node.id, clock=clock)
        with ended_by_signal() as ended:
            await serve(node, file.fleet, outside, boot=boot, ended=ended, started=started, missing=missing)


def _control_plane(node: Node) -> ControlPlane:
    from edge_router.adapters.stream import HttpControlPlane, Presented
    from shared.tls import client_context

    return HttpControlPlane(
        token=Presented(node.control_plane_token, urls=node.control_planes)
        if node.control_plane_token is not None
        else None,
        tls=client_context(node.control_plane_tls) if node.control_plane_tls is not None else None,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside:
    """Everything an edge touches; tests and the simulation bring their own."""

    bus: Bus | None
    """Its region's; None for an edge that follows by HTTP alone."""
    control_plane: ControlPlane
    store: LastKnownGood
    make_serving: MakeServing
    clock: Clock
    telemetry: Telemetry
    rng: random.Random
    fault_filter: FaultFilter | None = None
    """Where the node file allows one."""
    build: Callable[..., Any] = build_table
    """Makes, with the arguments and errors of `build_table`, what `make_serving` serves by."""


async def serve(
    node: Node,
    fleet: Fleet | None,
    outside: Outside,
    *,
    boot: int,
    ended: asyncio.Event,
    started: Callable[[], None] | None = None,
    missing: Mapping[str, str] | None = None,
) -> None:
    """An edge until `ended`, then drained. It closes none of what is outside. `missing` are the
    credentials that could not be had, by name, with the reason."""
    recalled = await outside.store.recall()
    async with Supervisor() as supervisor:
        edge = Edge(node, fleet, recalled, outside, boot=boot, supervisor=supervisor)
        edge.warn(recalled.damaged, missing or {})
        try:
            await edge.open_admin()
            edge.start_loops()
            opening = supervisor.spawn("open", edge.open(started))
            ending = supervisor.spawn("end", ended.wait())
            await asyncio.wait({opening, ending}, return_when=asyncio.FIRST_COMPLETED)
            if opening.done():
                opening.result()
            await ending
            await edge.drain(node.timings.drain_s)
        finally:
            await edge.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Paths:
    """The two by which an edge hears the control plane."""

    stream: FollowStream
    bus: FollowBus | None
    """None where the region has none."""

    def resync(self) -> None:
        """Read both again from their beginning."""
        self.stream.resync()
        if self.bus is not None:
            self.bus.resync()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tellers:
    """What an edge says of itself, in the life that its boot number names."""

    acknowledge: Acknowledge
    """Which head it serves."""
    report: Report
    """How its targets do."""
    status: Status
    """Everything, to whoever asks."""


class Edge:
    """The parts of one edge, and how they are wired."""

    def __init__(
        self,
        node: Node,
        fleet: Fleet | None,
        recalled: Recalled,
        outside: Outside,
        *,
        boot: int,
        supervisor: Supervisor,
    ) -> None:
        clock = outside.clock
        self._node = node
        self._outside = outside
        self._supervisor = supervisor
        self._serving: Serving[RouteTable] | None = None
        self._bound: tuple[str, int] | None = None
        self._admin: AdminServer | None = None
        self._has_table = asyncio.Event()
        self._registry = new_registry()
        self._metrics = metrics = Metrics(self._registry)
        self._alarms = Alarms(clock=clock, metrics=metrics)

        self._builder = TableBuilder(node.region, outside.build)
        began = clock.monotonic()
        follower, effects, kept = cold_start(recalled, fleet, fresh=self._follower, now=began)
        self._carrier = carrier = Carrier(
            edge=node.id,
            region=node.region,
            follower=follower,
            clock=clock,
            telemetry=outside.telemetry,
            alarms=self._alarms,
            metrics=metrics,
        )
        self._paths = self._made_paths()
        self._tellers = self._made_tellers(boot=boot, began=began)
        self._keep = Keep(
            store=outside.store,
            alarms=self._alarms,
            metrics=metrics,
            on_settled=self._tellers.acknowledge.nudge,
        )
        carrier.read_ahead = uncollected(self._builder.read_ahead)
        carrier.on_table = self._has_table.set
        carrier.on_kept = self._keep.put
        carrier.on_acknowledge = self._acknowledge_unless_unwritten
        carrier.on_resync = self._paths.resync
        if kept is not None:
            self._keep.holds(kept)
        carrier.carry_out(effects)

    def warn(self, damaged: Sequence[str], missing: Mapping[str, str]) -> None:
        """Say what was found amiss at the start."""
        for damage in damaged:
            self._alarms.ring("LKG_DAMAGED", damage)
        for name, problem in missing.items():
            self._alarms.ring("CREDENTIAL_MISSING", f"{name}: {problem}")

    async def open_admin(self) -> None:
        """Listen on the admin address, if there is one. Raises OSError."""
        if self._node.admin_listen is not None:
            node = self._node
            lag = watch_process(
                self._registry,
                role=node.role.value,
                node=node.id,
                region=node.region,
                restarts=self._supervisor.failures,
                clock=self._outside.clock,
            )
            self._supervisor.start("lag", lag.run)
            self._admin = await serve_admin(
                self._node.admin_listen,
                registry=self._registry,
                ready=self._tellers.status.why_not_ready,
                status=self._tellers.status.as_json,
                measure=self._measure,
                more=self._fault_panel(),
            )

    def _measure(self) -> Awaitable[None] | None:
        status = self._tellers.status
        status.measure(self._metrics)
        return None if status.crew is None else status.crew.measured()

    def _fault_panel(self) -> Callable[[web.Application], None] | None:
        faults = self._outside.fault_filter
        if faults is None:
            return None
        from edge_router.adapters.fault_panel import routes

        log.warning("fault filter is on: drills may break this edge's attempts by /faults")
        return routes(faults, clock=self._outside.clock)

    def start_loops(self) -> None:
        """Everything that goes on for ever."""
        start, outside = self._supervisor.start, self._outside
        paths, tellers, bus = self._paths, self._tellers, outside.bus
        start("time", lambda: keep_time(self._carrier, outside.clock))
        start("keep", self._keep.run)
        start("quota", QuotaWatch(serving=lambda: self._serving, alarms=self._alarms).run)
        start("follow stream", paths.stream.run)
        start(
            "acknowledge http",
            lambda: tellers.acknowledge.run_http(outside.control_plane, lambda: paths.stream.followed),
        )
        if bus is not None and paths.bus is not None:
            start("follow bus", paths.bus.run_state)
            start("follow beats", paths.bus.run_beats)
            start("report", lambda: tellers.report.run(bus))
            start("acknowledge bus", lambda: tellers.acknowledge.run_bus(bus))

    async def open(self, started: Callable[[], None] | None) -> None:
        """Wait until there is something to serve by, then listen. Raises OSError."""
        await self._has_table.wait()
        table, listen = self._carrier.table, self._node.listen
        assert table is not None
        assert listen is not None
        serving = self._outside.make_serving(table, self._supervisor, self._registry)
        if isinstance(serving, Crew):
            serving.on_alarm, serving.on_over = self._alarms.ring, self._alarms.clear
            self._tellers.status.crew, self._tellers.acknowledge.settled = serving, serving.settled
        self._bound = await serving.start(*split_address(listen))
        self._serving = serving
        self._carrier.attach(serving)
        settle()
        log.info(
            "edge serves",
            url=self._url(),
            admin_url=self._admin_url(),
            decision=str(self._carrier.follower.version),
        )
        if started is not None:
            started()

    async def drain(self, timeout_s: float) -> None:
        """Say that this edge is not to be asked any more, and finish what is under way."""
        self._tellers.status.draining = True
        if self._serving is not None:
            log.info("edge drains", timeout_s=timeout_s)
            await self._serving.drain(timeout_s)

    async def close(self) -> None:
        """Stop listening, at once unless it was drained."""
        if not self._tellers.status.draining:
            await self.drain(0.0)
        if self._admin is not None:
            await self._admin.close()

    # ------------------------------------------------------------ wiring

    def _made_paths(self) -> _Paths:
        outside, carrier = self._outside, self._carrier
        clock, rng, bus = outside.clock, outside.rng, outside.bus
        return _Paths(
            stream=FollowStream(
                urls=self._node.control_planes,
                control_plane=outside.control_plane,
                carrier=carrier,
                clock=clock,
                backoff=Backoff(rng=rng),
            ),
            bus=FollowBus(bus=bus, carrier=carrier, clock=clock, rng=rng) if bus is not None else None,
        )

    def _made_tellers(self, *, boot: int, began: float) -> _Tellers:
        """`began` is when this life did, monotonic."""
        node, outside, carrier = self._node, self._outside, self._carrier
        clock, metrics = outside.clock, self._metrics
        acknowledge = Acknowledge(
            edge=node.id,
            region=node.region,
            boot=boot,
            round_s=node.timings.round_s,
            url=self._url,
            admin_url=self._admin_url,
            carrier=carrier,
            clock=clock,
            metrics=metrics,
        )
        report = Report(
            edge=node.id,
            region=node.region,
            boot=boot,
            passive_s=node.timings.passive_s,
            round_s=node.timings.round_s,
            serving=lambda: self._serving,
            carrier=carrier,
            clock=clock,
            telemetry=outside.telemetry,
            metrics=metrics,
        )
        status = Status(
            edge=node.id,
            region=node.region,
            boot=boot,
            carrier=carrier,
            stream=self._paths.stream,
            bus=outside.bus,
            alarms=self._alarms,
            supervisor=self._supervisor,
            clock=clock,
            started_at=began,
            serving=lambda: self._serving,
            url=self._url,
            admin_url=self._admin_url,
            faults=outside.fault_filter,
        )
        return _Tellers(acknowledge=acknowledge, report=report, status=status)

    def _follower(self) -> Follower[RouteTable]:
        timings = self._node.timings
        return Follower(
            build=self._builder,
            expect=self._builder.expect,
            fresh_s=timings.fresh_s,
            static_s=timings.static_s,
            started_at=self._outside.clock.monotonic(),
        )

    def _acknowledge_unless_unwritten(self) -> None:
        """What waits to be written is acknowledged afterwards, so that no restart takes back what was said."""
        if not self._keep.pending:
            self._tellers.acknowledge.nudge()

    def _url(self) -> str | None:
        scheme = "http" if self._node.listen_tls is None else "https"
        return self._node.advertise_url or (
            None if self._bound is None else http_url(*self._bound, scheme=scheme)
        )

    def _admin_url(self) -> str | None:
        return self._node.admin_advertise_url or (None if self._admin is None else self._admin.url)
