"""Where all targets stand at this moment: every trajectory taken one step, globally and per region.

Global: by the verdict. Regional: by what the client region itself sees, and but for live traffic only
while the target is not out for everybody:

    its live traffic fails                                  DOWN, hard: out for its clients
    its own vote is DOWN, and its live traffic does well    as if UP: the prober is what is broken
    its own vote is DOWN, and there is little traffic       DOWN, soft: moved last for its clients
    else                                                    UP, or UNKNOWN when the verdict is

Going out globally absorbs what regions held against the target softly.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from control_plane.core.fold import BROKEN
from control_plane.core.memory import Memory, Standing
from control_plane.core.standing import Sight, step
from shared.vocabulary.config import Policy
from shared.vocabulary.terms import Verdict
from shared.vocabulary.view import PassiveSummary, TargetHealth

UP = (Verdict.HEALTHY, Verdict.DEGRADED)


@dataclass(frozen=True, slots=True)
class Standings:
    """All targets and regions that are not plainly in."""

    targets: Mapping[str, Standing]
    regional: Mapping[str, Mapping[str, Standing]]
    """Client region -> target."""
    turned: frozenset[str]
    """Targets whose phase or evidence changed somewhere, against the memory they came from: their
    routes are written anew even where no weight changes, or the change would not be remembered."""


def advance(
    memory: Memory,
    healths: Iterable[TargetHealth],
    policy: Policy,
    *,
    routed: frozenset[str],
    regions: frozenset[str],
    now: datetime,
) -> Standings:
    """One step of every trajectory of the `routed` targets; who is not in view stays as it was."""
    targets = {target: standing for target, standing in memory.targets.items() if target in routed}
    regional = {
        region: {target: standing for target, standing in standings.items() if target in routed}
        for region, standings in memory.regional.items()
        if region in regions
    }
    turned: set[str] = set()
    remembered = {target for standings in regional.values() for target in standings}
    for health in healths:
        target = health.id
        if target not in routed:
            continue
        before = memory.targets.get(target)
        after = before
        if before is not None or health.verdict is Verdict.DOWN:
            after = step(before, _global_sight(health), policy, now)
            _put(targets, target, after)
            if _turns(before, after):
                turned.add(target)
        if target not in remembered and not _seen_failing(health):
            continue
        out = after is not None and after.phase == "OUT"
        for region in _regions_of_note(target, health, memory) & regions:
            held = memory.regional.get(region, {}).get(target)
            sight = _regional_sight(region, health, policy)
            if not out or sight.hard:
                now_held = step(held, sight, policy, now)
            else:
                now_held = held if held is not None and held.hard else None
            if _turns(held, now_held):
                turned.add(target)
            _put(regional.setdefault(region, {}), target, now_held)
    return Standings(targets, {region: held for region, held in regional.items() if held}, frozenset(turned))


def _put(standings: dict[str, Standing], target: str, standing: Standing | None) -> None:
    if standing is None:
        standings.pop(target, None)
    else:
        standings[target] = standing


def _turns(before: Standing | None, after: Standing | None) -> bool:
    if after is None:
        return False
    if before is None:
        return True
    return (before.phase, before.since, before.hard) != (after.phase, after.since, after.hard)


def _seen_failing(health: TargetHealth) -> bool:
    for vote in health.votes:
        if vote.verdict is Verdict.DOWN:
            return True
    return any(summary.failing for summary in health.passive)


def _regions_of_note(target: str, health: TargetHealth, memory: Memory) -> frozenset[str]:
    return frozenset(
        [region for region, standings in memory.regional.items() if target in standings]
        + [vote.vantage for vote in health.votes if vote.verdict is Verdict.DOWN]
        + [summary.region for summary in health.passive if summary.failing]
    )


def _global_sight(health: TargetHealth) -> Sight:
    unknown_since = health.since if health.verdict is Verdict.UNKNOWN else None
    return Sight(health.verdict, health.hard, unknown_since)


def _regional_sight(region: str, health: TargetHealth, policy: Policy) -> Sight:
    passive = next((summary for summary in health.passive if summary.region == region), None)
    if passive is not None and passive.failing:
        return Sight(Verdict.DOWN, hard=True)
    own = next((vote.verdict for vote in health.votes if vote.vantage == region), Verdict.UNKNOWN)
    if own is Verdict.DOWN:
        return Sight(Verdict.HEALTHY if _does_well(passive, policy) else Verdict.DOWN)
    if own in UP or health.verdict in UP:
        return Sight(Verdict.HEALTHY)
    return Sight(Verdict.UNKNOWN, unknown_since=health.since)


def _does_well(passive: PassiveSummary | None, policy: Policy) -> bool:
    if passive is None or passive.attempts < policy.passive_min_attempts:
        return False
    return sum(passive.counts.get(outcome, 0) for outcome in BROKEN) * 2 < passive.attempts
