"""The drill `region-outage`: everything in one region dies at once, and comes back.

Hypothesis: clients of the other regions notice nothing. Their edges leave the dead targets by
decision, whoever has to decide it, and take them back when they live again.
"""

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from ops.drill.load import Load
from ops.drill.sight import Sight, Stopped, version_with, version_without
from ops.errors import OpsError
from shared.clock import Clock
from shared.supervise import Supervisor
from shared.vocabulary.base import Version
from shared.vocabulary.status import DrillEvent, DrillReport, GuardRail
from shared.vocabulary.terms import EdgeMode, Verdict

NAME = "region-outage"
MIN_SUCCESS_RATE = 0.99
GUARD_AFTER_REQUESTS = 50
"""Below, a single failed request would cross the line."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How long the drill takes over its steps, and how long it waits for the fleet's."""

    warm_s: float = 2.0
    """Steady load before the fault,"""
    settle_s: float = 2.0
    """and after the fleet has reacted to it."""
    guard_s: float = 0.2
    react_timeout_s: float = 30.0
    recover_timeout_s: float = 60.0


DEFAULT_PACE = Pace()


class Ground(Protocol):
    """What the drill may do to the region."""

    async def kill(self) -> None:
        """Everything in it, at once."""
        ...

    async def restore(self) -> None:
        """Everything in it, as it was. Safe to call when nothing is broken."""
        ...


@dataclass(frozen=True, slots=True)
class Scope:
    """Whom it concerns."""

    region: str
    targets: frozenset[str]
    """Those that stand in the region."""
    survivors: tuple[str, ...]
    """Edges of the other regions."""
    edges: tuple[str, ...]
    """All of them."""
    etcd_leader_inside: bool = False
    """Whether etcd's own leader stands in the region: leases then begin anew, and succession is later."""


@dataclass(slots=True)
class Course:
    """A drill under way: what happened when, in ms from the injection."""

    clock: Clock
    pace: Pace
    injected_at: float | None = None
    injected_utc: datetime | None = None
    timeline: list[DrillEvent] = field(default_factory=list)
    detect_ms: float | None = None
    decide_ms: float | None = None
    apply_ms: float | None = None
    recovered_ms: float | None = None
    trace_id: str | None = None
    worst_rate: float = 1.0
    aborted: bool = False
    failures: list[str] = field(default_factory=list)

    def inject(self) -> None:
        """From now on times count."""
        self.injected_at, self.injected_utc = self.clock.monotonic(), self.clock.now()

    def note(self, event: str, *, stated: datetime | None = None, **values: Any) -> float:
        """Write into the timeline; returns when it was, in ms.

        Seeing is late by up to a poll. `stated` is the fleet's own time of the event (a local stack
        has one clock); it is taken where it is possible: after the injection, not after it was seen.
        """
        seen_ms = 0.0 if self.injected_at is None else (self.clock.monotonic() - self.injected_at) * 1000
        at_ms = seen_ms
        if stated is not None and self.injected_utc is not None:
            stated_ms = (stated - self.injected_utc).total_seconds() * 1000
            at_ms = stated_ms if 0 <= stated_ms <= seen_ms else seen_ms
        self.timeline.append(DrillEvent(at_ms=round(at_ms, 1), event=event, values=values))
        return round(at_ms, 1)


async def run(
    scope: Scope, *, ground: Ground, sight: Sight, load: Load, clock: Clock, pace: Pace = DEFAULT_PACE
) -> DrillReport:
    """Run the drill; whatever happens, mend what it broke. Returns the report, never raises for a
    drill that went badly. `sight.stop` ends it early."""
    course = Course(clock, pace)
    try:
        async with Supervisor() as loops:
            loops.start("edges", sight.follow_edges)
            loops.start("control-planes", sight.follow_control_planes)
            loops.start("load", load.run)
            loops.start("guard", lambda: _guard(course, sight, load))
            await _follow_script(course, scope, ground, sight)
    except Stopped as stopped:
        course.aborted = True
        course.failures.append(str(stopped))
        course.note("aborted", reason=str(stopped))
    except OpsError as error:
        course.failures.append(str(error))
        course.note("failed", reason=str(error))
    finally:
        await ground.restore()
    return _report(course, load)


async def _follow_script(course: Course, scope: Scope, ground: Ground, sight: Sight) -> None:
    await sight.pause(course.pace.warm_s)
    before = sight.head
    led = sight.leader is not None and sight.leader.region == scope.region
    course.note(
        "steady",
        decision=str(before),
        leader=sight.leader.id if sight.leader else None,
        leader_in_region=led,
    )
    course.inject()
    course.note("killed", region=scope.region, leader_died=led, etcd_leader_died=scope.etcd_leader_inside)
    await ground.kill()
    await _together(
        _detection(course, scope, sight),
        _reaction(course, scope, sight, before),
        _succession(course, sight, led=led),
    )
    if course.detect_ms is not None and course.decide_ms is not None:
        # Whoever decides has concluded; the replica that was asked may conclude later than the leader.
        course.detect_ms = min(course.detect_ms, course.decide_ms)
    await sight.pause(course.pace.settle_s)
    await ground.restore()
    await _recovery(course, scope, sight)


async def _together(*waits: Awaitable[None]) -> None:
    """All of them to their end; then raise what the first of them raised."""
    for result in await asyncio.gather(*waits, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result


async def _detection(course: Course, scope: Scope, sight: Sight) -> None:
    def gone() -> bool | None:
        verdicts = [sight.verdicts.get(target, Verdict.UNKNOWN) for target in scope.targets]
        return all(verdict is not Verdict.HEALTHY for verdict in verdicts) or None

    if await sight.until(gone, timeout_s=course.pace.react_timeout_s):
        course.detect_ms = course.note(
            "detected",
            stated=max(
                (sight.since[target] for target in scope.targets if target in sight.since), default=None
            ),
            replica=sight.replica,
            verdicts={target: sight.verdicts[target].value for target in sorted(scope.targets)},
        )
    else:
        course.failures.append(f"no control plane noticed within {course.pace.react_timeout_s:.0f} s")


async def _reaction(course: Course, scope: Scope, sight: Sight, before: Version) -> None:
    decided = await sight.until(
        lambda: version_without(sight.documents, scope.targets, after=before),
        timeout_s=course.pace.react_timeout_s,
    )
    if decided is None:
        course.failures.append(
            f"no decision left the region's targets within {course.pace.react_timeout_s:.0f} s"
        )
        return
    document = max(sight.documents.values(), key=lambda one: one.version)
    course.trace_id = document.traceparent.split("-")[1] if document.traceparent else None
    course.decide_ms = course.note(
        "decided", stated=document.decided_at, decision=str(decided), by=document.term.holder
    )
    await _applied(course, sight, scope.survivors, decided)


async def _applied(course: Course, sight: Sight, edges: Sequence[str], version: Version) -> None:
    waiting = list(edges)

    def next_one() -> str | None:
        return next((edge for edge in waiting if sight.all_serve([edge], version)), None)

    while waiting:
        edge = await sight.until(next_one, timeout_s=course.pace.react_timeout_s)
        if edge is None:
            course.failures.append(
                f"{', '.join(waiting)} did not apply {version} within {course.pace.react_timeout_s:.0f} s"
            )
            return
        waiting.remove(edge)
        applied_ms = course.note(
            "applied", stated=sight.states[edge].applied_at, edge=edge, decision=str(version)
        )
        course.apply_ms = max(applied_ms, course.apply_ms or 0.0)


async def _succession(course: Course, sight: Sight, *, led: bool) -> None:
    """When the leader died with its region: wait for the next one."""
    if not led or sight.leader is None:
        return
    old = sight.leader

    def successor() -> str | None:
        now = sight.leader
        return now.id if now is not None and now.epoch > old.epoch else None

    new = await sight.until(successor, timeout_s=course.pace.react_timeout_s)
    if new is None:
        course.failures.append(f"nobody leads after {old.id}, {course.pace.react_timeout_s:.0f} s later")
    else:
        course.note("new leader", leader=new, old=old.id)


async def _recovery(course: Course, scope: Scope, sight: Sight) -> None:
    course.note("restored", region=scope.region)
    mended_at = course.clock.monotonic()
    before = sight.head
    deadline_s = course.pace.recover_timeout_s

    def back() -> Version | None:
        return version_with(sight.documents, scope.targets, after=before)

    version = await sight.until(back, timeout_s=deadline_s)
    if version is None:
        course.failures.append(f"no decision took the region back within {deadline_s:.0f} s")
        return
    course.note("readmitted", decision=str(version))

    def everywhere() -> bool | None:
        fresh = all(
            edge in sight.states and sight.states[edge].mode is EdgeMode.FRESH for edge in scope.edges
        )
        return (fresh and sight.all_serve(scope.edges, version)) or None

    if await sight.until(everywhere, timeout_s=deadline_s):
        course.recovered_ms = round((course.clock.monotonic() - mended_at) * 1000, 1)
        course.note("recovered", decision=str(version))
    else:
        course.failures.append(f"not every edge served {version} within {deadline_s:.0f} s")


async def _guard(course: Course, sight: Sight, load: Load) -> None:
    """End the drill when it hurts more than it may."""
    while True:
        await asyncio.sleep(course.pace.guard_s)
        tally = load.tally()
        if tally.requests >= GUARD_AFTER_REQUESTS:
            course.worst_rate = min(course.worst_rate, tally.success_rate)
            if tally.success_rate < MIN_SUCCESS_RATE:
                sight.stop(f"guard rail: success rate {tally.success_rate:.4f} is below {MIN_SUCCESS_RATE}")


def _report(course: Course, load: Load) -> DrillReport:
    tally = load.tally()
    worst = min(course.worst_rate, tally.success_rate)
    kept = worst >= MIN_SUCCESS_RATE
    failures = list(course.failures)
    if not kept and not course.aborted:
        failures.append(f"success rate {tally.success_rate:.4f} is below {MIN_SUCCESS_RATE}")
    failures += [f"request through {sample.edge}: {sample.detail}" for sample in load.failures()[:10]]
    passed = not course.aborted and not course.failures and kept
    return DrillReport(
        drill=NAME,
        outcome="PASSED" if passed else "ABORTED" if course.aborted else "FAILED",
        detect_ms=course.detect_ms,
        decide_ms=course.decide_ms,
        apply_ms=course.apply_ms,
        recovered_ms=course.recovered_ms,
        requests=tally.requests,
        failed=tally.failed,
        degraded=tally.degraded,
        success_rate=round(tally.success_rate, 6),
        guard_rails=(GuardRail(name="success_rate", limit=MIN_SUCCESS_RATE, worst=round(worst, 6), ok=kept),),
        timeline=tuple(sorted(course.timeline, key=lambda event: event.at_ms)),
        trace_id=course.trace_id,
        report_html=None,
        failures=tuple(failures),
    )
