"""How a fleet reacts to a fault, and how it comes back: waits over a Sight that write into a Course."""

import asyncio
from collections.abc import Awaitable, Iterable

from ops.drill.course import Course
from ops.drill.plans import (
    excluded_in,
    given_to,
    moved,
    names,
    plan_of,
    version_with_less,
    version_without,
)
from ops.drill.scope import Scope, Terrain
from ops.drill.sight import HeadSeen, Sight
from ops.drill.signs import ailments, sign_of
from shared.vocabulary.base import Version
from shared.vocabulary.decision import Decision
from shared.vocabulary.drill import DrillSpec

SETTLE_S = 12.0
"""For at least how long, after it has recovered, the plan is waited for to be as it was: the rate at which
traffic returns is policy, and no part of the judgement."""


async def reaction(
    course: Course, spec: DrillSpec, scope: Scope, terrain: Terrain, sight: Sight, before: HeadSeen
) -> None:
    """Everything the fleet is expected to do while the fault lasts, all at the same time."""
    waits = [_detection(course, spec, scope, terrain, sight), _succession(course, spec, scope, sight)]
    if spec.expect.moves:
        waits.append(_departure(course, spec, scope, sight, before))
    await _together(waits)
    if course.detect_ms is not None and course.decide_ms is not None:
        # Whoever decides has concluded; the replica that was asked may conclude later than the leader.
        course.detect_ms = min(course.detect_ms, course.decide_ms)


async def recovery(
    course: Course, spec: DrillSpec, scope: Scope, terrain: Terrain, sight: Sight, before: HeadSeen
) -> None:
    """From the end of the fault until nothing is left of it; then, unjudged, until the plan is as it was."""
    at_end, mended_at = sight.heads[-1], course.clock.monotonic()
    limit_s = spec.recover_timeout_s
    left = _has_left(scope, at_end, before, less=spec.expect.moves and course.decide_ms is not None)

    def back() -> Version | None:
        if _newly_out(scope, sight, before):
            return None
        if left and not _given_more(scope, sight, at_end, before):
            return None
        # Of what was lost altogether, to be taken back is the sign; all else must be found well, too.
        found_well = (left and scope.leaves_all) or not ailments(sight, scope)
        return sight.head if found_well else None

    version = await sight.until(back, timeout_s=limit_s)
    course.held_down = _held_down(scope, sight, before)
    if course.held_down:
        course.note("held down for longer", targets=course.held_down)
    if version is None:
        rest = "; ".join(ailments(sight, scope)[:5]) or "decisions do not take back what they left"
        course.failures.append(f"not recovered within {limit_s:.0f} s: {rest}")
        return
    if left:
        course.note("readmitted", decision=str(version))

    def everywhere() -> bool | None:
        return (sight.all_fresh(scope.edges) and sight.all_serve(scope.edges, version)) or None

    if await sight.until(everywhere, timeout_s=limit_s):
        course.recovered_ms = round((course.clock.monotonic() - mended_at) * 1000, 1)
        course.note("recovered", decision=str(version))
        await _as_before(
            course, scope, sight, before, timeout_s=max(SETTLE_S, 1.5 * terrain.fleet.policy.ramp_s)
        )
    else:
        course.failures.append(f"not every edge served {version} within {limit_s:.0f} s")


def watch_moves(course: Course, sight: Sight, before: HeadSeen) -> None:
    """Note which decisions since `before` changed anybody's part."""
    known = {each.rpartition(" by ")[2] for each in course.moves}
    for head in sight.heads:
        if head.at >= before.at and head.version > before.version and str(head.version) not in known:
            course.moves += [f"{target} by {head.version}" for target in moved(before.plan, head.plan)]


def _has_left(scope: Scope, at_end: HeadSeen, before: HeadSeen, *, less: bool) -> bool:
    """Whether struck targets are out; or, where `less` counts as left, have less than before."""
    if any(target in scope.targets for _, target, _ in at_end.excluded - before.excluded):
        return True
    return less and given_to(at_end.plan, scope.targets) < given_to(before.plan, scope.targets)


def _newly_out(scope: Scope, sight: Sight, before: HeadSeen) -> bool:
    """Whether a struck target is out that was not before."""
    return any(target in scope.targets for _, target, _ in excluded_in(sight.documents) - before.excluded)


def _given_more(scope: Scope, sight: Sight, at_end: HeadSeen, before: HeadSeen) -> bool:
    """Whether a decision after the end of the fault gives struck targets more, or as much as before. How
    fast it goes on from there is policy."""
    given = given_to(plan_of(sight.documents), scope.targets)
    enough = given > given_to(at_end.plan, scope.targets) or given >= given_to(before.plan, scope.targets)
    return sight.head > at_end.version and enough


def _held_down(scope: Scope, sight: Sight, before: HeadSeen) -> dict[str, str]:
    """Struck targets that had to stay out for longer, because they had gone out not long before."""
    return {
        reason.target: f"{reason.values['hold_down_s']:g} s at least, after {reason.values['flaps']} flaps"
        for head in sight.since(before)
        for reason in head.leaving
        if reason.target in scope.targets and reason.values.get("flaps") and "hold_down_s" in reason.values
    }


async def _detection(course: Course, spec: DrillSpec, scope: Scope, terrain: Terrain, sight: Sight) -> None:
    sign = sign_of(scope, terrain, sight)
    if sign is None:
        return
    look = sign
    noticed = await sight.until(lambda: look(sight), timeout_s=_patience(course, spec))
    if noticed is not None:
        course.detect_ms = course.note(
            "detected", stated=noticed.stated, replica=noticed.by, **noticed.values
        )
    elif spec.expect.detect_ms is not None:
        course.failures.append("the fleet showed no sign of the fault")


async def _departure(course: Course, spec: DrillSpec, scope: Scope, sight: Sight, before: HeadSeen) -> None:
    def decided() -> Decision | None:
        if scope.leaves_all:
            version = version_without(sight.documents, scope.targets, after=before.version)
        else:
            version = version_with_less(
                sight.documents, scope.targets, before=before.plan, after=before.version
            )
        return None if version is None else _answering(scope, sight, before)

    document = await sight.until(decided, timeout_s=spec.react_timeout_s)
    if document is None:
        course.failures.append(f"no decision left the struck targets within {spec.react_timeout_s:.0f} s")
        return
    version = document.version
    course.trace_id = document.traceparent.split("-")[1] if document.traceparent else None
    course.decide_ms = course.note(
        "decided", stated=document.decided_at, decision=str(version), by=document.term.holder
    )
    await _applied(course, spec, scope, sight, version)


def _answering(scope: Scope, sight: Sight, before: HeadSeen) -> Decision | None:
    """The newest document that is an answer to the fault: it says that struck targets go, or has them out.
    Others give them less as well, when targets that were out return."""
    since = sight.since(before)
    named = any(names(reason, scope.targets, scope.regions) for head in since for reason in head.leaving)
    if not named and not _newly_out(scope, sight, before):
        return None
    gone = {
        route
        for route, target, _ in excluded_in(sight.documents) - before.excluded
        if target in scope.targets
    }
    answers = [
        document
        for route, document in sight.documents.items()
        if document.version > before.version
        and (route in gone or any(names(reason, scope.targets, scope.regions) for reason in document.reasons))
    ]
    newer = answers or [one for one in sight.documents.values() if one.version > before.version]
    return max(newer, key=lambda one: one.version, default=None)


async def _applied(course: Course, spec: DrillSpec, scope: Scope, sight: Sight, version: Version) -> None:
    waiting = list(scope.living)

    def next_one() -> str | None:
        return next((edge for edge in waiting if sight.all_serve([edge], version)), None)

    while waiting:
        edge = await sight.until(next_one, timeout_s=spec.react_timeout_s)
        if edge is None:
            told = ", ".join(waiting)
            course.failures.append(f"{told} did not apply {version} within {spec.react_timeout_s:.0f} s")
            return
        waiting.remove(edge)
        applied_ms = course.note(
            "applied", stated=sight.states[edge].applied_at, edge=edge, decision=str(version)
        )
        course.apply_ms = max(applied_ms, course.apply_ms or 0.0)


async def _succession(course: Course, spec: DrillSpec, scope: Scope, sight: Sight) -> None:
    """When the leader died and others live: wait for the next one."""
    old = sight.leader
    planes = (
        {source.id for source in sight.view.sources if source.role == "control-plane"}
        if sight.view
        else set()
    )
    if old is None or old.id not in scope.dead or planes <= scope.dead:
        return

    def successor() -> str | None:
        now = sight.leader
        return now.id if now is not None and now.epoch > old.epoch else None

    new = await sight.until(successor, timeout_s=spec.react_timeout_s)
    if new is None:
        course.failures.append(f"nobody leads after {old.id}, {spec.react_timeout_s:.0f} s later")
    else:
        course.note("new leader", leader=new, old=old.id)


async def _as_before(
    course: Course, scope: Scope, sight: Sight, before: HeadSeen, *, timeout_s: float
) -> None:
    def same() -> bool | None:
        return (not moved(before.plan, plan_of(sight.documents)) and not ailments(sight, scope)) or None

    if await sight.until(same, timeout_s=timeout_s):
        course.note("planned as before", decision=str(sight.head))
    else:
        differs = moved(before.plan, plan_of(sight.documents))
        course.note("not planned as before", targets=differs, ailments=ailments(sight, scope)[:5])


def _patience(course: Course, spec: DrillSpec) -> float:
    """How long a sign is waited for: no longer than the fault lasts where nobody judges it."""
    return (
        spec.react_timeout_s if spec.expect.detect_ms is not None else min(spec.hold_s, spec.react_timeout_s)
    )


async def _together(waits: Iterable[Awaitable[None]]) -> None:
    """All of them to their end; then raise what the first of them raised."""
    for result in await asyncio.gather(*waits, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result
