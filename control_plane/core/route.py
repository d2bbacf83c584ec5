"""One route: from where its targets stand to what each client region does.

Every target has a part, the permille it gets of what would naturally be its weight: 1000 when in, the
ramp's when coming back, what is kept when leaving on soft evidence, 0 when out; for a client region
the lesser of the global and the regional one. `weights` turns parts into weights.

UNKNOWN and DEGRADED targets are in, with full part: nothing is moved on a suspicion.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from control_plane.core.advance import UP, Standings
from control_plane.core.last_resort import Candidate, Resort, last_resort
from control_plane.core.memory import Memory, RouteMemory, Standing
from control_plane.core.roster import Placing
from control_plane.core.soften import Held, may_move, move
from control_plane.core.standing import FULL
from control_plane.core.weights import decision_with, region_decision, shares
from shared.vocabulary.config import Policy
from shared.vocabulary.decision import RegionDecision
from shared.vocabulary.terms import Verdict
from shared.vocabulary.view import TargetHealth


@dataclass(frozen=True, slots=True)
class RoutePlan:
    """What is decided for one route."""

    regions: Mapping[str, RegionDecision]
    absent: Mapping[str, tuple[str, ...]]
    """Permitted target -> the client regions in whose tiers it does not appear. Only such as do so."""
    resorts: Mapping[str, Resort]
    """Client region -> the last resort it is on."""
    memory: RouteMemory


def plan_route(
    placing: Placing,
    standings: Standings,
    healths: Mapping[str, TargetHealth],
    memory: Memory,
    policy: Policy,
    now: datetime,
) -> RoutePlan:
    """The plan for the route of `placing`, given where its targets stand now and what was remembered."""
    before = memory.routes.get(placing.route.id, RouteMemory())
    concerned = [target for target in placing.permitted if target in standings.targets]
    leaving = _leaving(concerned, standings, healths)
    kept = _kept(concerned, standings, memory, before)
    movable = [target for target in leaving if kept[target]]
    moved_at = before.soft_moved_at
    stuck = bool(leaving) and not _better_off(placing, leaving, concerned, standings)
    if movable and not stuck and may_move(before, policy, now):
        kept = move(kept, movable, lambda given: _held(placing, _parts(concerned, standings, given)), policy)
        moved_at = now
    parts = _parts(concerned, standings, kept)
    regions: dict[str, RegionDecision] = {}
    resorts: dict[str, Resort] = {}
    absent: dict[str, list[str]] = {}
    for region in placing.tiers:
        there, last = _regional(placing, region, parts, standings)
        if len(there) == len(placing.permitted) and not any(there.values()) and there:
            resort = last_resort(_candidates(placing, region, standings, healths))
            resorts[region] = resort
            there = {target: FULL if target in resort.targets else 0 for target in placing.permitted}
        for target, part in there.items():
            if part == 0:
                absent.setdefault(target, []).append(region)
        limited = tuple(sorted((target, part) for target, part in there.items() if part < FULL))
        regions[region] = region_decision(placing, region, limited, last)
    frozen = stuck or any(resort.frozen for resort in resorts.values())
    return RoutePlan(
        regions=regions,
        absent={target: tuple(names) for target, names in absent.items()},
        resorts=resorts,
        memory=RouteMemory(
            soft_moved_at=moved_at,
            kept={target: permille for target, permille in kept.items() if permille},
            frozen=frozen,
        ),
    )


def part_of(standing: Standing | None, kept: int | None) -> int:
    """The part of a target with this global standing, of which soft evidence left `kept`."""
    if standing is None:
        return FULL
    if standing.phase == "OUT":
        return 0 if standing.hard else kept or 0
    return max(1, standing.permille, kept or 0)


def _leaving(concerned: list[str], standings: Standings, healths: Mapping[str, TargetHealth]) -> list[str]:
    """Out on soft evidence, and still seen DOWN."""
    return [
        target
        for target in concerned
        if (standing := standings.targets[target]).phase == "OUT"
        and not standing.hard
        and (health := healths.get(target)) is not None
        and health.verdict is Verdict.DOWN
    ]


def _kept(concerned: list[str], standings: Standings, memory: Memory, before: RouteMemory) -> dict[str, int]:
    """What soft evidence has left to each target before this step; a new leaver has what it had."""
    kept: dict[str, int] = {}
    for target in concerned:
        standing = standings.targets[target]
        if standing.phase == "OUT" and not standing.hard:
            kept[target] = part_of(memory.targets.get(target), before.kept.get(target))
        elif standing.phase == "BACK" and before.kept.get(target, 0) > standing.permille:
            kept[target] = before.kept[target]
    return kept


def _better_off(placing: Placing, leaving: list[str], concerned: list[str], standings: Standings) -> bool:
    """Whether somebody in the route is not out."""
    if len(concerned) < len(placing.permitted):
        return True
    return any(standings.targets[target].phase == "BACK" for target in concerned if target not in leaving)


def _parts(concerned: list[str], standings: Standings, kept: Mapping[str, int]) -> dict[str, int]:
    return {target: part_of(standings.targets[target], kept.get(target)) for target in concerned}


def _held(placing: Placing, parts: Mapping[str, int]) -> Held:
    limited = tuple(sorted((target, part) for target, part in parts.items() if part < FULL))
    return {region: shares(decision_with(placing, region, limited)) for region in placing.tiers}


def _regional(
    placing: Placing, region: str, parts: Mapping[str, int], standings: Standings
) -> tuple[dict[str, int], tuple[str, ...]]:
    """The parts of the concerned targets for the clients of `region`, and who is moved last there."""
    there = dict(parts)
    last: list[str] = []
    for target, standing in standings.regional.get(region, {}).items():
        if target not in placing.members:
            continue
        if standing.phase == "OUT" and not standing.hard:
            last.append(target)
            continue
        there[target] = min(there.get(target, FULL), part_of(standing, None))
    return there, tuple(sorted(last))


def _candidates(
    placing: Placing, region: str, standings: Standings, healths: Mapping[str, TargetHealth]
) -> dict[str, Candidate]:
    candidates: dict[str, Candidate] = {}
    held_here = standings.regional.get(region, {})
    for target in placing.permitted:
        health = healths.get(target)
        verdict = health.verdict if health else Verdict.UNKNOWN
        fails_here = health is not None and any(
            summary.failing and summary.region == region for summary in health.passive
        )
        out = [standings.targets.get(target), held_here.get(target)]
        keeping = [standing for standing in out if standing is not None and standing.phase == "OUT"]
        candidates[target] = Candidate(
            Verdict.DOWN if fails_here and verdict in UP else verdict,
            max(keeping, key=lambda standing: standing.since),
        )
    return candidates
