"""Running one drill, from a fleet that is well to a report, whatever happens in between.

Reads from the top: `run` is the drill; what it waits for is in `measure`, what it breaks in `faults`, what
ends it in `guard`, and what it came to in `judge`.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from ops import status
from ops.drill import judge, measure, ready
from ops.drill.course import Course
from ops.drill.faults import Faults
from ops.drill.ground import Ground
from ops.drill.guard import Guard
from ops.drill.history import decisions_since
from ops.drill.load import Load
from ops.drill.ports import Injectors, Register
from ops.drill.record import DrillRecordData, Injected, TargetLoad
from ops.drill.recorder import Recorder
from ops.drill.scope import Scope, places, resolve, route_of
from ops.drill.share import Shares
from ops.drill.sight import HeadSeen, Sight, Stopped
from ops.drill.tally import Tally
from ops.drill.traffic import Traffic
from ops.errors import Bad, OpsError
from shared.clock import Clock
from shared.supervise import Supervisor
from shared.vocabulary.drill import Drill, Progress
from shared.vocabulary.status import DrillReport

READY_POLL_S = 0.25
ANSWERS_LATE_S = 2
"""Seconds after which a second's requests have come back, or are too late to compare."""
WHOLE_S = 2.0
"""For how long everything has its whole load again, where loads are judged."""


@dataclass(frozen=True, slots=True)
class Told:
    """How a drill stands, for whoever watches it."""

    drill: Drill
    course: Course
    tally: Tally


@dataclass(frozen=True, slots=True)
class Done:
    """What a drill came to."""

    report: DrillReport
    data: DrillRecordData


class Runner:
    """One drill on one ground. `tell` is called with every change worth showing."""

    def __init__(
        self,
        drill: Drill,
        ground: Ground,
        *,
        name: str,
        sight: Sight,
        register: Register,
        injectors: Injectors,
        clock: Clock,
        tell: Callable[[Told], None],
        load: Load | Traffic | None = None,
    ) -> None:
        self.drill, self.spec, self.ground = drill, drill.spec, ground
        self.sight, self.clock, self.name, self._tell = sight, clock, name, tell
        self.scope = resolve(drill.spec, ground.terrain)
        self.course = Course(clock)
        self.load = load or load_of(ground, self.scope, sight, drill, clock)
        self.recorder = Recorder(register, drill, name, clock=clock, progress=self._progress, stop=sight.stop)
        self.faults = Faults(
            places(drill.spec, ground.terrain, drill=drill.id),
            injectors,
            clock=clock,
            on_record=self.recorder.tell,
            lapsed=sight.stop,
            author=drill.author,
            reason=f"drill {drill.id}: {drill.reason}"[:512],
        )
        self.guard = Guard(
            drill.spec.guard,
            self.scope,
            ground.fleet,
            sight,
            self.load.tallies,
            active=lambda: self.course.phase not in ("preparing", "reporting"),
        )
        route = route_of(drill.spec, ground.fleet).id if drill.spec.load.source == "drill" else ""
        self.shares = Shares(route)
        self._compared = 0
        """Seconds whose shares have been compared."""

    async def run(self) -> Done:
        """Run it; whatever happens, undo what it did. Never raises for a drill that went badly."""
        course = self.course
        course.begun_utc = self.clock.now()
        patient = False
        try:
            async with Supervisor() as loops:
                loops.start("edges", self.sight.follow_edges)
                loops.start("control-planes", self.sight.follow_control_planes)
                loops.start("record", self.recorder.keep)
                loops.start("faults", self.faults.keep)
                loops.start("show", self._show)
                try:
                    await self._prepare(loops)
                    before = await self._warm(loops)
                    await self._fault(loops, before)
                    await self._recover(before)
                except Stopped as stopped:
                    course.abort(str(stopped))
                except OpsError as error:
                    course.fail(error)
                patient = True
                await self._undo(patient=True)
        finally:
            # Cancelled, or broken by a mistake of ours: nobody waits any longer, and nothing may stay.
            if not patient:
                await self._undo(patient=False)
        course.enter("reporting")
        return await self._report()

    async def _prepare(self, loops: Supervisor) -> None:
        """Raises Bad, Unreachable, Stopped where nothing may be broken now."""
        policy = self.ground.fleet.policy
        await ready.unhindered(self.spec, self.scope, self.ground.fleet, self.sight, self.course)
        deadline = self.clock.monotonic() + ready.TIMEOUT_S + ready.still_s(policy)
        while True:
            if not status.is_good(await self.ground.status(self.sight.client)):
                told = "the fleet is not well, so nothing was broken: see `leeward status`"
            elif moving := ready.restless(self.spec, self.scope, self.ground.fleet, self.sight):
                told = f"nothing was broken, for decisions are not at rest: {'; '.join(moving[:5])}"
            else:
                break
            if self.clock.monotonic() >= deadline:
                raise Bad(told)
            await self.sight.pause(READY_POLL_S)
        loops.start("load", self.load.run)
        loops.start("guard", self.guard.run)
        loops.start("shares", self._compare_shares)

    async def _warm(self, loops: Supervisor) -> HeadSeen:
        """Steady load; returns what is planned before anything is broken."""
        self.course.enter("warm")
        await self.sight.pause(self.spec.warm_s)
        if not self.sight.heads:
            raise Bad("no control plane said what is in force, so nothing was broken")
        leader = self.sight.leader
        self.course.note(
            "steady",
            decision=str(self.sight.head),
            leader=leader.id if leader else None,
            leader_struck=leader is not None and leader.id in self.scope.dead,
        )
        return self.sight.heads[-1]

    async def _fault(self, loops: Supervisor, before: HeadSeen) -> None:
        """Broken, for as long as it is held and until the fleet has reacted."""
        self.course.enter("fault")
        await self.faults.plan()
        zero = self.course.inject()
        self.load.tallies.begin(zero)
        self.course.note(
            "injected", faults=[f"{each.what.fault} at {each.place.where}" for each in self.faults.all][:10]
        )
        first, *later = self.faults.delays
        loops.spawn("later faults", self._put_later(later))
        await asyncio.gather(
            self._put(first),
            measure.reaction(self.course, self.spec, self.scope, self.ground.terrain, self.sight, before),
        )
        await self.sight.pause(self.spec.hold_s - (self.clock.monotonic() - zero))
        if not self.spec.expect.moves:
            measure.watch_moves(self.course, self.sight, before)

    async def _recover(self, before: HeadSeen) -> None:
        self.course.enter("recovery")
        await self._undo(patient=True)
        await measure.recovery(self.course, self.spec, self.scope, self.ground.terrain, self.sight, before)
        if not self.spec.expect.moves:
            measure.watch_moves(self.course, self.sight, before)
        if self.spec.expect.max_load_permille is not None:
            await self.sight.pause(WHOLE_S)

    async def _put(self, delay_s: float) -> None:
        try:
            await self.faults.put(delay_s)
        except OpsError as error:
            # Ends the waits beside it: there is nothing to react to.
            self.sight.stop(f"a fault could not be put in place: {error}")

    async def _put_later(self, delays: list[float]) -> None:
        begun, passed = self.clock.monotonic(), 0.0
        for delay_s in delays:
            passed = self.clock.monotonic() - begun
            await asyncio.sleep(max(0.0, delay_s - passed))
            self.course.note("injected", delayed_s=delay_s)
            await self._put(delay_s)

    async def _undo(self, *, patient: bool) -> None:
        """Once what was put is undone, the second call finds nothing to do."""
        told = await self.faults.undo(patient=patient)
        self.course.failures += told
        if self.course.injected_at is not None and self.course.mended_at is None:
            self.load.tallies.mended(self.course.mended())
            self.course.note("mended")

    async def _compare_shares(self) -> None:
        """Each second that is complete, what targets were given beside what they were planned."""
        if not isinstance(self.load, Load):
            return
        while True:
            await asyncio.sleep(0.5)
            self._compare_until(self.clock.monotonic() - ANSWERS_LATE_S)

    def _compare_until(self, at: float) -> None:
        zero = self.course.injected_at
        while zero is not None and at - zero >= self._compared + 1:
            self._compare_second(zero, self._compared)
            self._compared += 1

    def _compare_second(self, zero: float, second: int) -> None:
        start, end = zero + second - 1, zero + second + 2
        heads = [head for head in self.sight.heads if start <= head.at < end]
        earlier = [head for head in self.sight.heads if head.at < start]
        plans = [head.plan for head in (*earlier[-1:], *heads)]
        mended = self.course.mended_at
        lost = self.scope.targets if mended is None or end - 1 < mended else frozenset()
        self.shares.add(self.load.tallies.by_target(second), plans, leave_out=lost)

    async def _show(self) -> None:
        while True:
            self._tell(self.told)
            await asyncio.sleep(0.25)

    @property
    def told(self) -> Told:
        """How it stands."""
        return Told(self.drill, self.course, self.load.tallies.tally)

    def _progress(self) -> Progress:
        tally = self.load.tallies.tally
        return Progress(
            phase=self.course.phase,
            injections=self.faults.planned,
            timeline=self.course.ordered,
            requests=tally.requests,
            failed=tally.failed,
            degraded=tally.degraded,
        )

    async def _report(self) -> Done:
        tallies = self.load.tallies
        self.guard.look()
        self._compare_until(self.clock.monotonic())
        worst_load = max(self.shares.worst.values(), default=None)
        report = judge.report(
            self.spec,
            self.course,
            tallies.tally,
            drill=self.drill.id,
            rails=self.guard.rails(),
            worst_load=worst_load,
            during=self._during(),
            failed=list(tallies.failures),
        )
        return Done(report, await self._data())

    def _during(self) -> int:
        """Requests while the fault was there; of real traffic, in readings that it is part of."""
        tallies, course = self.load.tallies, self.course
        if not isinstance(self.load, Traffic) or course.mended_at is None:
            return tallies.of("during").requests
        part_s = self.load.window_s / 2
        return tallies.between(-part_s, course.seconds(course.mended_at) + part_s)

    async def _data(self) -> DrillRecordData:
        course, now = self.course, self.clock.monotonic()
        injected_utc = course.injected_utc or self.clock.now()

        def seconds(at: datetime) -> float:
            return (at - injected_utc).total_seconds()

        return DrillRecordData(
            id=self.drill.id,
            spec=self.spec,
            author=self.drill.author,
            reason=self.drill.reason,
            runner=self.name,
            injected_at=course.injected_utc,
            held_s=None if course.mended_at is None else course.seconds(course.mended_at),
            ended_s=course.seconds(now) if course.injected_at is not None else 0.0,
            regions=self.ground.terrain.regions,
            struck_regions=tuple(sorted(self.scope.regions)),
            struck_targets=tuple(sorted(self.scope.targets)),
            seconds=tuple(self.load.tallies.seconds()),
            figures=tuple(self.load.tallies.figures(until=now)),
            decisions=await decisions_since(
                self.sight.planes, course.begun_utc or injected_utc, seconds=seconds
            ),
            injections=tuple(self._injected()),
            loads=tuple(self._loads()),
            failed=self.load.tallies.examples(zero=now if course.injected_at is None else course.injected_at),
        )

    def _injected(self) -> list[Injected]:
        seconds = self.course.seconds
        return [
            Injected.model_validate(
                {
                    "n": fault.n,
                    "by": fault.what.by,
                    "fault": fault.what.fault,
                    "where": fault.place.where,
                    "state": fault.state,
                    "planned_s": seconds(fault.planned_at),
                    "done_s": None if fault.done_at is None else seconds(fault.done_at),
                    "undone_s": None if fault.undone_at is None else seconds(fault.undone_at),
                }
            )
            for fault in self.faults.all
            if fault.planned_at is not None
        ]

    def _loads(self) -> list[TargetLoad]:
        return [
            TargetLoad(
                target=target.id,
                region=target.region,
                planned_permille_of_capacity=self.guard.planned.get(target.id),
                given_permille_of_plan=self.shares.worst.get(target.id),
            )
            for target in self.ground.fleet.targets
            if target.id in self.guard.planned or target.id in self.shares.worst
        ]


def load_of(ground: Ground, scope: Scope, sight: Sight, drill: Drill, clock: Clock) -> Load | Traffic:
    """What is watched: requests of the drill's own, or those that edges report."""
    if drill.spec.load.source == "traffic":
        return Traffic(sight, clock=clock)
    return Load(
        drill.spec.load,
        [edge for edge in ground.terrain.edges if edge.id in scope.asked],
        clock=clock,
        key=ground.key,
        regions={target.id: target.region for target in ground.fleet.targets},
        is_whole=ground.is_whole,
    )
