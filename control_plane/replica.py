"""One control-plane replica: its loops, wired, and what it answers to the API.

The same object runs in production, in tests and in the simulation; only the ports given to it differ.
It reads no clock but the given one, draws on no randomness but the given one, and starts nothing that
`stop` does not end.
"""

import random
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass

from control_plane.catalogue.loader import builtin
from control_plane.core.fold import EventFold
from control_plane.core.onward import Course
from control_plane.loops.announce import Announcer
from control_plane.loops.archive import Backups
from control_plane.loops.blobs import Blobs, Missing
from control_plane.loops.collect import Collector
from control_plane.loops.drill_watch import DrillWatch
from control_plane.loops.drills import Drills
from control_plane.loops.edges import EdgeTable
from control_plane.loops.lead import Lead, advertised_url
from control_plane.loops.ledger import Records
from control_plane.loops.live import Live, Picture
from control_plane.loops.mirror import Mirror
from control_plane.loops.observe import Heard, Observer
from control_plane.loops.operations import Operations
from control_plane.loops.overrides import Clearance, Desk
from control_plane.loops.publish import Publisher
from control_plane.loops.pulse import Pulse
from control_plane.loops.reconcile import Reconciler
from control_plane.loops.restore import Restorer
from control_plane.loops.rollouts import Rollouts
from control_plane.loops.seen import Seen, check_ack
from control_plane.loops.stage import Stager
from control_plane.loops.stream import Hub
from control_plane.loops.versions import Versions
from control_plane.loops.view import Viewer
from control_plane.metrics import Metrics
from control_plane.ports import (
    Archive,
    ConfigCentre,
    EdgeRecord,
    EtcdView,
    Grounds,
    InForce,
    LeaderRecord,
    LeaderView,
    LogEntry,
    NotKept,
    OverrideDesk,
    RolloutDesk,
    Transition,
)
from control_plane.ports_alerts import Outgoing
from control_plane.ports_drills import DrillDesk
from control_plane.watch import Watch
from shared.clock import Clock
from shared.ports import Bus, Coordination
from shared.supervise import Supervisor
from shared.telemetry import Telemetry
from shared.vocabulary.audit import AuditEntry
from shared.vocabulary.base import Version
from shared.vocabulary.config import Fleet, FleetConfig
from shared.vocabulary.decision import Ack, Beat, Decision
from shared.vocabulary.node import Node
from shared.vocabulary.view import BusHealth, HealthView

FINISH_S = 2.0
"""Longest that a graceful end waits for the write under way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Office:
    """The loops that act only while this replica leads; `Lead` says whether it does."""

    reconciler: Reconciler
    """Decides and commits."""
    publisher: Publisher
    """Tells the buses, and gives the Beats."""
    collector: Collector
    """Drops from etcd what nothing names any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Desks:
    """Where operators write, on any replica; and the loops by which the leader carries their orders on."""

    configs: Versions
    archive: Backups
    overrides: Desk
    clearance: Clearance
    """Clears away overrides that are long over."""
    rollouts: Rollouts
    stager: Stager
    """Moves rollouts from step to step."""
    drills: Drills
    drill_watch: DrillWatch
    """Begins those that are due, and ends those that lost their runner."""


class Replica:
    """Implements `control_plane.ports.Answers`. `start` runs its loops, `stop` ends them gracefully;
    leaving the supervisor without `stop` is a crash, as far as anybody else can tell.

    `buses` maps each region to its bus; several regions may share one. `boot` numbers this life, by the
    wall clock where nobody kept count. `outgoing` is the way to webhooks; without it nobody is told. Must
    be made inside the loop.
    """

    def __init__(
        self,
        node: Node,
        *,
        fleet: Fleet | None,
        buses: Mapping[str, Bus],
        store: Coordination,
        clock: Clock,
        rng: random.Random,
        telemetry: Telemetry,
        boot: int | None = None,
        outgoing: Outgoing | None = None,
    ) -> None:
        self.node = node
        self._buses = buses
        self._store = store
        self._clock = clock
        self._rng = rng
        self._telemetry = telemetry
        self._file_config = FleetConfig(config_version=0, fleet=fleet) if fleet is not None else None
        self._metrics = metrics = Metrics()
        self._nudge, self._news = Pulse(), Pulse()
        self._blobs = Blobs(store)
        self._heard = heard = Heard(EventFold(), EdgeTable(clock), Seen())
        self._last_beat: Beat | None = None
        self._lead = Lead(store, node=node, clock=clock, rng=rng, metrics=metrics, on_change=self._nudge.fire)
        self._mirror = Mirror(
            store,
            self._blobs,
            clock=clock,
            rng=rng,
            etcd_beat_s=node.timings.etcd_beat_s,
            metrics=metrics,
            on_change=self._mirrored,
        )
        self._viewer = Viewer(
            heard.fold,
            replica=node.id,
            clock=clock,
            metrics=metrics,
            config=self._config,
            buses=self._bus_healths,
            log=self.log,
        )
        self._announcer = Announcer(
            node,
            boot=int(clock.now().timestamp()) if boot is None else boot,
            config=self._config,
            clock=clock,
        )
        self._desks = self._made_desks()
        self._observers = {id(bus): self._observer(bus) for bus in self._distinct()}
        self._office = self._made_office(seed=fleet)
        self._hub = Hub(
            store,
            self._mirror,
            replica=node.id,
            region=node.region,
            news=self._news,
            metrics=metrics,
            own_beat=self._own_beat,
        )
        self._live = Live(clock=clock, life=f"{node.id}.{int(clock.now().timestamp() * 1000)}")
        self._watch = self._made_watch(outgoing)

    def start(self, supervisor: Supervisor) -> None:
        """Run every loop."""
        supervisor.start("mirror", self._mirror.run)
        for bus in self._distinct():
            observer = self._observers[id(bus)]
            supervisor.start(f"observe {bus.region}", observer.run)
            supervisor.start(f"dead letters {bus.region}", observer.run_dlq)
            supervisor.start(f"announce {bus.region}", lambda bus=bus: self._announcer.run(bus))  # type: ignore[misc]
            supervisor.start(f"publish {bus.region}", lambda bus=bus: self._office.publisher.run_lane(bus))  # type: ignore[misc]
        supervisor.start("view", self._viewer.run)
        supervisor.start("lead", self._lead.run)
        supervisor.start("reconcile", self._office.reconciler.run)
        supervisor.start("beats", self._office.publisher.run_beats)
        supervisor.start("etcd beats", self._office.publisher.run_etcd_beats)
        supervisor.start("stage", self._desks.stager.run)
        supervisor.start("collect", self._office.collector.run)
        supervisor.start("drills", self._desks.drill_watch.run)
        supervisor.start("clear overrides", self._desks.clearance.run)
        self._watch.start(supervisor)

    async def stop(self) -> None:
        """Finish the write under way, resign, and send stream readers elsewhere."""
        self._hub.close()
        self._live.close()
        await self._office.reconciler.stop(min(FINISH_S, self.node.timings.drain_s))
        await self._lead.resign()

    # ------------------------------------------------------------ Answers

    @property
    def archive(self) -> Archive:
        return self._desks.archive

    @property
    def configs(self) -> ConfigCentre:
        return self._desks.configs

    @property
    def overrides(self) -> OverrideDesk:
        return self._desks.overrides

    def audit(self) -> Sequence[AuditEntry]:
        return self._mirror.audit()

    @property
    def rollouts(self) -> RolloutDesk:
        return self._desks.rollouts

    @property
    def drills(self) -> DrillDesk:
        return self._desks.drills

    def unready(self) -> Sequence[str]:
        return () if self._mirror.listed else ("etcd has not been read yet",)

    def view(self) -> HealthView | None:
        return self._viewer.current()

    def history(self, target: str) -> Sequence[Transition]:
        return self._viewer.history(target)

    def leader(self) -> LeaderView:
        term = self._lead.term
        record = self._mirror.leader
        if term is not None:
            record = LeaderRecord(
                id=self.node.id, region=self.node.region, url=advertised_url(self.node), epoch=term.epoch
            )
        return LeaderView(leader=record, leading=term is not None, beat_age_s=self._mirror.beat_age_s)

    def in_force(self) -> InForce:
        return self._mirror.in_force

    def log(self) -> Sequence[LogEntry]:
        return self._mirror.log()

    async def documents_of(self, version: Version) -> tuple[LogEntry | None, Sequence[bytes]]:
        entry = self._mirror.entry(version)
        force = self._mirror.in_force
        refs = force.head.routes if force.head is not None else {}
        texts = {
            route: raw
            for route, raw in force.documents.items()
            if refs[route][0] == version.seq and Decision.model_validate_json(raw).version == version
        }
        if entry is None and not texts:
            raise NotKept(str(version))
        for route, sha in entry.changed if entry is not None else ():
            if route not in texts:
                try:
                    texts[route] = await self._blobs.read(sha)
                except Missing:
                    raise NotKept(f"{version}: the document of {route}") from None
        return entry, [texts[route] for route in sorted(texts)]

    async def grounds(self) -> Grounds:
        records = Records(self._store, self._blobs, clock=self._clock, metrics=self._metrics)
        ledger = await records.load()
        return Grounds(
            config=ledger.in_force.config,
            course=Course(ledger.in_force.head, ledger.documents, ledger.memory, ledger.generation),
            overrides=ledger.in_force.overrides,
            rollouts=ledger.in_force.rollouts,
        )

    def edges(self) -> Sequence[EdgeRecord]:
        return self._heard.edges.records()

    def acknowledge(self, ack: Ack) -> None:
        check_ack(ack)
        self._heard.seen.ack(ack)
        self._heard.edges.apply(ack, received_at=self._clock.monotonic(), via="http")

    def follow(self) -> AsyncGenerator[bytes, None]:
        return self._hub.follow()

    def etcd(self) -> EtcdView:
        return EtcdView(self._mirror.following and self._watch.etcd.reachable, self._mirror.heard_age_s)

    def live(self, take: Callable[[], Picture], *, after: str) -> AsyncGenerator[bytes, None]:
        return self._live.follow(take, after=after)

    def metrics(self) -> bytes:
        for bus in self._distinct():
            self._metrics.bus_reachable.labels(bus.region).set(bus.reachable)
        self._watch.measure()
        return self._metrics.render()

    # ------------------------------------------------------------ wiring

    def _observer(self, bus: Bus) -> Observer:
        return Observer(
            bus,
            self._heard,
            clock=self._clock,
            telemetry=self._telemetry,
            metrics=self._metrics,
            on_change=self._nudge.fire,
            on_gap=lambda: self._office.publisher.lost(bus.region),
            leading=lambda: self._lead.term is not None,
        )

    def _made_office(self, *, seed: Fleet | None) -> _Office:
        """`seed` is the fleet that a leader writes where etcd has none."""
        records = Records(self._store, self._blobs, clock=self._clock, metrics=self._metrics)
        publisher = Publisher(
            lead=self._lead,
            store=self._store,
            source=f"/{self.node.region}/{self.node.id}",
            timings=self.node.timings,
            clock=self._clock,
            rng=self._rng,
            telemetry=self._telemetry,
            metrics=self._metrics,
            on_beat=self._beaten,
            on_doubt=lambda: reconciler.doubt(),
        )
        reconciler = Reconciler(
            lead=self._lead,
            records=records,
            mirror=self._mirror,
            viewer=self._viewer,
            seen=self._heard.seen,
            folds=self._heard.folds,
            publisher=publisher,
            nudge=self._nudge,
            warm=lambda: all(observer.caught_up for observer in self._observers.values()),
            seed=seed,
            author=self.node.id,
            tick_s=self.node.timings.reconcile_s,
            clock=self._clock,
            rng=self._rng,
            telemetry=self._telemetry,
            metrics=self._metrics,
        )
        collector = Collector(self._store, records, lead=self._lead, clock=self._clock, metrics=self._metrics)
        return _Office(reconciler=reconciler, publisher=publisher, collector=collector)

    def _made_watch(self, outgoing: Outgoing | None) -> Watch:
        return Watch(
            self._store,
            node=self.node,
            lead=self._lead,
            mirror=self._mirror,
            view=self.view,
            edges=self.edges,
            config=self._config,
            observers=tuple(self._observers.values()),
            outgoing=outgoing,
            clock=self._clock,
            rng=self._rng,
            metrics=self._metrics,
        )

    def _made_desks(self) -> _Desks:
        store, blobs, clock, name = self._store, self._blobs, self._clock, self.node.id
        seen, view, in_force = self._heard.seen, self.view, self.in_force
        operations = Operations(store, blobs, replica=name, clock=clock)
        stager = Stager(operations, lead=self._lead, in_force=in_force, view=view, replica=name, clock=clock)
        shelf, lead = self._mirror.drills, self._lead
        drills = Drills(
            operations,
            store,
            blobs,
            shelf=shelf,
            catalogue=builtin(),
            in_force=in_force,
            view=view,
            clock=clock,
        )
        restorer = Restorer(store, blobs, seen=seen, replica=name, clock=clock)
        return _Desks(
            configs=Versions(store, blobs, operations, seen=seen, view=view, edges=self.edges, clock=clock),
            archive=Backups(store, restorer, replica=name, clock=clock),
            overrides=Desk(operations, self._mirror, view=view, clock=clock),
            clearance=Clearance(operations, self._mirror, lead=self._lead, replica=name, clock=clock),
            rollouts=Rollouts(operations, stager, in_force=in_force, view=view, clock=clock),
            stager=stager,
            drills=drills,
            drill_watch=DrillWatch(
                drills, operations, store, shelf=shelf, lead=lead, replica=name, clock=clock
            ),
        )

    def _distinct(self) -> list[Bus]:
        return list({id(bus): bus for bus in self._buses.values()}.values())

    def _config(self) -> FleetConfig | None:
        return self._mirror.in_force.config or self._file_config

    def _bus_healths(self) -> tuple[BusHealth, ...]:
        return tuple(
            BusHealth(
                region=region,
                bootstrap=",".join(self.node.buses[region].bootstrap) if region in self.node.buses else "",
                reachable=bus.reachable,
                caught_up=self._observers[id(bus)].caught_up,
            )
            for region, bus in self._buses.items()
        )

    def _mirrored(self) -> None:
        self._news.fire()
        self._nudge.fire()

    def _beaten(self, beat: Beat) -> None:
        self._last_beat = beat
        self._news.fire()

    def _own_beat(self) -> Beat | None:
        """The last Beat of the term under way, when it is ours."""
        term, beat = self._lead.term, self._last_beat
        return beat if term is not None and beat is not None and beat.epoch == term.epoch else None
