"""Drills, judged: whether one may begin, when a schedule is due, which records have lost their runner
and which may go.

A drill that may begin leaves enough regions with a target that answers and that it does not take
out, nor an operator has drained. Taken out counts a target of which at least half the requests fail: what
is slow, or fails now and then, still answers. Verdicts are the view's: nobody relies on what is UNKNOWN.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from fnmatch import fnmatchcase

from control_plane.core.cron import last_until
from shared.vocabulary.config import Fleet, Target
from shared.vocabulary.drill import Drill, DrillFault, DrillRequest, DrillSchedule, DrillSpec
from shared.vocabulary.drill_policy import DAYS, BlockedWindow, DrillPolicy
from shared.vocabulary.override import Override
from shared.vocabulary.terms import Verdict
from shared.vocabulary.view import HealthView

EVERYWHERE = "*"
OUT_PERMILLE = 500
"""A fault that hits so much of a target's requests takes it out."""
START_WITHIN_S = 120.0
"""A schedule's time that is longer past is passed over: whoever planned for 03:00 did not plan for 04:00."""
KEPT = 50
"""Drills that stay on record when they are over."""
_SLOWER = frozenset({"latency", "slow_ttft", "clock_skew"})


class Unknown(LookupError):
    """No built-in drill has this name."""


def resolved(request: DrillRequest, catalogue: Mapping[str, DrillSpec]) -> DrillSpec:
    """The spec that is asked for, with its region and duration. Raises Unknown."""
    spec = request.spec
    if request.name is not None:
        spec = catalogue.get(request.name)
        if spec is None:
            known = ", ".join(sorted(catalogue)) or "none"
            raise Unknown(f"no built-in drill {request.name!r}; there is {known}")
    assert spec is not None  # one of the two, by the model
    given = {"region": request.region, "hold_s": request.hold_s}
    return spec.model_copy(update={name: value for name, value in given.items() if value is not None})


def misfits(spec: DrillSpec, fleet: Fleet) -> list[str]:
    """What of the spec does not fit the fleet, a sentence each: regions, providers and targets that are
    not there, and a region that is needed and not said."""
    regions = {region.id for region in fleet.regions}
    found = []
    if spec.region is not None and spec.region not in regions:
        found.append(f"no region {spec.region!r}: there is {', '.join(sorted(regions))}")
    for number, fault in enumerate(spec.faults, start=1):
        found += [f"fault {number}, {fault.fault}: {what}" for what in _misfits(fault, spec, fleet, regions)]
    return found


def _misfits(fault: DrillFault, spec: DrillSpec, fleet: Fleet, regions: Collection[str]) -> Iterator[str]:
    providers = {target.provider for target in fleet.targets}
    if not fault.regions and spec.region is None:
        yield "strikes the drill's own region, and none is given: say which"
    for region in fault.regions:
        if region not in regions and region != EVERYWHERE:
            yield f"no region {region!r}"
    for provider in fault.providers:
        if provider not in providers:
            yield f"no provider {provider!r}"
    for pattern in fault.targets:
        if not any(fnmatchcase(target.id, pattern) for target in fleet.targets):
            yield f"no target matches {pattern!r}"


def taken_out(spec: DrillSpec, fleet: Fleet) -> frozenset[str]:
    """Targets that do not answer, or badly, while the drill lasts."""
    return frozenset(
        target.id
        for fault in spec.faults
        if _takes_out(fault)
        for target in fleet.targets
        if _hit(fault, spec, target)
    )


def _takes_out(fault: DrillFault) -> bool:
    if fault.fault in _SLOWER or fault.share_permille < OUT_PERMILLE:
        return False
    # A partition by the panel is between probers and targets: clients still reach them.
    return not fault.processes or (fault.by == "stack" and "targets" in fault.processes)


def _hit(fault: DrillFault, spec: DrillSpec, target: Target) -> bool:
    regions = fault.regions or (spec.region,)
    return (
        (EVERYWHERE in regions or target.region in regions)
        and (not fault.providers or target.provider in fault.providers)
        and (not fault.targets or any(fnmatchcase(target.id, pattern) for pattern in fault.targets))
    )


def drained(fleet: Fleet, overrides: Iterable[Override], now: datetime) -> frozenset[str]:
    """Targets that the drains in force at `now` leave no route: drained from every one that names them."""
    drains = [each.spec for each in overrides if each.spec.kind == "drain" and each.holds(now)]
    found = set()
    for target in fleet.targets:
        there = [each for each in drains if each.target == target.id or each.region == target.region]
        if not there:
            continue
        named_by = {
            route.id for route in fleet.routes if any(target.id in tier.targets for tier in route.tiers)
        }
        if any(each.route is None for each in there) or named_by <= {each.route for each in there}:
            found.add(target.id)
    return frozenset(found)


def left(
    spec: DrillSpec, fleet: Fleet, view: HealthView, now: datetime, *, overrides: Iterable[Override]
) -> list[str]:
    """Regions with a target that answers, that is not drained and that the drill does not take out, in the
    fleet's order."""
    answering = (
        {health.id for health in view.targets if health.verdict in (Verdict.HEALTHY, Verdict.DEGRADED)}
        - taken_out(spec, fleet)
        - drained(fleet, overrides, now)
    )
    alive = {target.region for target in fleet.targets if target.id in answering}
    return [region.id for region in fleet.regions if region.id in alive]


def blocked(policy: DrillPolicy, now: datetime) -> str | None:
    """Why no drill may begin at `now`, in a sentence; None when one may."""
    if not policy.enabled:
        return "drills are switched off in this fleet (fleet.drills.enabled)"
    for window in policy.blocked:
        if (until := _until(window, now)) is not None:
            return f"drills are blocked until {until:%Y-%m-%d %H:%M} UTC: {window.reason}"
    return None


def _until(window: BlockedWindow, now: datetime) -> datetime | None:
    """The end of the window that `now` is in; a window over midnight belongs to the day it begins on."""
    now = now.astimezone(UTC)
    for begins_on in (now.date(), now.date() - timedelta(days=1)):
        if window.days and DAYS[begins_on.weekday()] not in window.days:
            continue
        begin = _moment(begins_on, window.start)
        end = _moment(begins_on, window.end)
        if end <= begin:
            end += timedelta(days=1)
        if begin <= now < end:
            return end
    return None


def _moment(day: date, clock: str) -> datetime:
    hour, _, minute = clock.partition(":")
    return datetime.combine(day, time(int(hour), int(minute)), tzinfo=UTC)


def refusals(
    spec: DrillSpec,
    fleet: Fleet,
    view: HealthView | None,
    now: datetime,
    *,
    overrides: Collection[Override],
) -> list[str]:
    """Why it must not begin at `now`, a sentence each; empty when it may. `overrides` are those on record.
    That there is another drill is for the caller to see."""
    if (why := blocked(fleet.drills, now)) is not None:
        return [why]
    if found := misfits(spec, fleet):
        return found
    if view is None:
        return ["this replica knows nothing of health yet: try again in a moment"]
    least = max(fleet.drills.min_regions, spec.guard.min_regions)
    remaining = left(spec, fleet, view, now, overrides=overrides)
    if len(remaining) < least:
        said = (
            f"{len(remaining)} regions with a target that answers would be left ({', '.join(remaining)})"
            if remaining
            else "no region with a target that answers would be left"
        )
        besides = len(left(spec, fleet, view, now, overrides=())) > len(remaining)
        return [f"{said}, and {least} must be{'; drained ones do not count' if besides else ''}"]
    return []


@dataclass(frozen=True, slots=True)
class Due:
    """A schedule's time has come."""

    at: datetime
    missed: bool
    """Too long ago to begin now."""


def due(schedule: DrillSchedule, now: datetime) -> Due | None:
    """The last time that was not acted upon yet; those before it are passed over with it."""
    since = schedule.last_at or schedule.created_at
    at = last_until(schedule.cron, now)
    if at is None or at <= since:
        return None
    return Due(at, missed=(now - at).total_seconds() > START_WITHIN_S)


def lapsed(drills: Sequence[Drill], active: str | None) -> list[Drill]:
    """Those that wait or run by their records while nobody holds their claim."""
    return [drill for drill in drills if not drill.over and drill.id != active]


def orphaned(drill: Drill, now: datetime) -> Drill:
    """The record of a lapsed one, ended."""
    note = "its runner is gone" if drill.state == "RUNNING" else "nobody took it up in time"
    return drill.model_copy(update={"state": "ABORTED", "ended_at": now, "note": note})


def surplus(drills: Sequence[Drill], kept: int = KEPT) -> list[Drill]:
    """Those that are over and need not be kept, oldest first."""
    over = sorted((drill for drill in drills if drill.over), key=lambda drill: drill.n)
    return over[: max(0, len(over) - kept)]
