"""Where all targets stand at this moment: every trajectory taken one step, globally and per region.

Global: by the verdict. Regional: by what the client region itself sees, and but for live traffic only
while the target is not out for everybody:

    its live traffic fails                                  DOWN, hard: out for its clients
    its own vote is DOWN, and its live traffic does well    as if UP: the prober is what is broken
    its own vote is DOWN, and there is little traffic       DOWN, soft: moved last for its clients
    else                                                    UP, or UNKNOWN when the verdict is

Going out globally absorbs what regions held against the target softly.

Who returns climbs the ramp by what live traffic and probes say meanwhile: badly when more than
`ramp_error_permille` of its attempts break off, by more than chance explains, so-so when it is DEGRADED or advised to be spared.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from math import sqrt
from typing import Literal

from control_plane.core.fold import BROKEN
from control_plane.core.memory import Memory, Standing
from control_plane.core.sparing import spare
from control_plane.core.standing import FULL, Sight, step
from shared.vocabulary.config import Policy
from shared.vocabulary.terms import Outcome, Verdict
from shared.vocabulary.view import PassiveSummary, TargetHealth

UP = (Verdict.HEALTHY, Verdict.DEGRADED)
RAMP_BROKEN = 3
"""Fewer broken attempts than these are accidents, whatever their rate."""
Z95 = 1.96
"""Standard deviations to either side of a normal distribution's mean that hold 95 % of it."""


@dataclass(frozen=True, slots=True)
class Standings:
    """All targets and regions that are not plainly in."""

    targets: Mapping[str, Standing]
    regional: Mapping[str, Mapping[str, Standing]]
    """Client region -> target."""
    turned: frozenset[str]
    """Targets whose phase, evidence or step changed somewhere, against the memory they came from: their
    routes are written anew even where no weight changes, or the change would not be remembered."""
    spared: Mapping[str, datetime] = field(default_factory=dict)
    """Target -> since when it is moved last for all clients, being at its account's limit."""


def advance(
    memory: Memory,
    healths: Sequence[TargetHealth],
    policy: Policy,
    *,
    routed: frozenset[str],
    regions: frozenset[str],
    now: datetime,
) -> Standings:
    """One step of every trajectory of the `routed` targets; who is not in view stays as it was.

    With `policy.automatic` off all stay as they were.
    """
    targets = {target: standing for target, standing in memory.targets.items() if target in routed}
    regional = {
        region: {target: standing for target, standing in standings.items() if target in routed}
        for region, standings in memory.regional.items()
        if region in regions
    }
    turned: set[str] = set()
    held_in: dict[str, set[str]] = {}
    for region, standings in regional.items():
        for target in standings:
            held_in.setdefault(target, set()).add(region)
    for health in healths if policy.automatic else ():
        target = health.id
        before = targets.get(target)
        of_note = health.accused_in
        if before is None and not of_note and target not in held_in and health.verdict is not Verdict.DOWN:
            continue
        if target not in routed:
            continue
        after = before
        if before is not None or health.verdict is Verdict.DOWN:
            after = step(before, _global_sight(health, policy), policy, now)
            _put(targets, target, after)
            if _turns(before, after):
                turned.add(target)
        out = after is not None and after.phase == "OUT"
        for region in (of_note | held_in.get(target, set())) & regions:
            held = regional.get(region, {}).get(target)
            sight = _regional_sight(region, health, policy)
            if not out or sight.hard:
                now_held = step(held, sight, policy, now)
            else:
                now_held = held if held is not None and held.hard else None
            if _turns(held, now_held):
                turned.add(target)
            _put(regional.setdefault(region, {}), target, now_held)
    spared = spare(memory.spared, healths if policy.automatic else (), routed=routed, now=now)
    turned |= spared.keys() ^ memory.spared.keys()
    held_by = {region: held for region, held in regional.items() if held}
    return Standings(targets, held_by, frozenset(turned), spared)


def _put(standings: dict[str, Standing], target: str, standing: Standing | None) -> None:
    if standing is None:
        standings.pop(target, None)
    else:
        standings[target] = standing


def _turns(before: Standing | None, after: Standing | None) -> bool:
    return after is not None and after != before


def _global_sight(health: TargetHealth, policy: Policy) -> Sight:
    unknown_since = health.since if health.verdict is Verdict.UNKNOWN else None
    doing = _doing(health, health.passive, policy)
    return Sight(health.verdict, health.hard, unknown_since, doing, _served(health.passive))


def _doing(
    health: TargetHealth, passive: Sequence[PassiveSummary], policy: Policy
) -> Literal["well", "so-so", "badly"]:
    attempts = sum(summary.attempts for summary in passive)
    broken = sum(summary.counts.get(outcome, 0) for summary in passive for outcome in BROKEN)
    if broken >= RAMP_BROKEN and least_share(broken, attempts) * 1000 > policy.ramp_error_permille:
        return "badly"
    if health.verdict is Verdict.DEGRADED or health.caution_permille < FULL:
        return "so-so"
    return "well"


def _served(passive: Sequence[PassiveSummary]) -> bool | None:
    if not any(summary.attempts for summary in passive):
        return None
    return any(summary.counts.get(outcome, 0) for summary in passive for outcome in Outcome if outcome.good)


def least_share(broken: int, attempts: int) -> float:
    """The lower end of the Wilson interval (95 %) of a share seen as `broken` of `attempts`, more than 0."""
    share, spread = broken / attempts, Z95**2 / attempts
    centre = share + spread / 2
    return (centre - sqrt(spread * (share * (1 - share) + spread / 4))) / (1 + spread)


def _regional_sight(region: str, health: TargetHealth, policy: Policy) -> Sight:
    passive = next((summary for summary in health.passive if summary.region == region), None)
    if passive is not None and passive.failing:
        return Sight(Verdict.DOWN, hard=True)
    own = next((vote.verdict for vote in health.votes if vote.vantage == region), Verdict.UNKNOWN)
    if own is Verdict.DOWN:
        return Sight(Verdict.HEALTHY if _answers(passive, policy) else Verdict.DOWN)
    live = (passive,) if passive is not None else ()
    doing, served = _doing(health, live, policy), _served(live)
    if own in UP or health.verdict in UP:
        return Sight(Verdict.HEALTHY, doing=doing, served=served)
    return Sight(Verdict.UNKNOWN, unknown_since=health.since, doing=doing, served=served)


def _answers(passive: PassiveSummary | None, policy: Policy) -> bool:
    if passive is None or passive.attempts < policy.passive_min_attempts:
        return False
    return sum(passive.counts.get(outcome, 0) for outcome in BROKEN) * 2 < passive.attempts
