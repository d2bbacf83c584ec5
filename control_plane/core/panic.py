"""Panic: when what is left can carry less than half of what is asked, doubtful targets are better than none.

Of a route, over all its tiers: the capacity of the targets it may use now, against its demand. A target
that serves several routes counts for each by its part of their demand. Below `panic_permille` the route
uses again whoever is kept out, or short, on no hard evidence: DEGRADED, UNKNOWN and softly DOWN targets.
Never one that is out on hard evidence, be it the last resort's, and never one that policy or a person
bars. It ends when those
that need no panic can carry `ENDS_AT` times as much as where it begins, so that it does not come and go.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from control_plane.core.route import NOTHING, RoutePart, Scene, doubtful
from shared.vocabulary.config import FleetConfig
from shared.vocabulary.decision import Reason
from shared.vocabulary.terms import Verdict

ENDS_AT = 1.5


@dataclass(frozen=True, slots=True)
class Panic:
    """Whether one route is in it, and what there is to say."""

    on: bool
    figures: tuple[Reason, ...] = ()


CALM = Panic(on=False)
PANIC_ENDED = Reason(code="PANIC", values={"ended": True})


def panic_of(
    parts: Mapping[str, RoutePart], demand: Mapping[str, float], config: FleetConfig, scene: Scene
) -> Mapping[str, Panic]:
    """For each route of those that share targets; `demand` is theirs, in requests under way."""
    usable = {route: _usable(part) for route, part in parts.items()}
    asked: dict[str, float] = {}
    for route, targets in usable.items():
        for target in targets:
            asked[target] = asked.get(target, 0.0) + demand[route]
    capacity = config.fleet.targets_by_id

    def carries(route: str) -> float:
        return sum(
            capacity[target].capacity_inflight * demand[route] / asked[target]
            for target in usable[route]
            if asked[target]
        )

    return {route: _panic(part, carries(route), demand[route], scene) for route, part in parts.items()}


def sparing_the_dead(part: RoutePart, scene: Scene) -> RoutePart:
    """`part` in a panic, without those that the last resort keeps though they are DOWN on hard evidence,
    where it leaves anybody else."""
    regions, resorts, absent = dict(part.regions), dict(part.resorts), dict(part.absent)
    for region, resort in part.resorts.items():
        limited, last = part.regions[region]
        out = {target for target, each in limited if not each}
        used = [target for target in _taking_part(part) if target not in out]
        dead = [target for target in used if _dead(target, scene)]
        if len(dead) == len(used):
            continue
        parts = {**dict(limited), **dict.fromkeys(dead, 0)}
        regions[region] = (tuple(sorted(parts.items())), last)
        resorts[region] = replace(resort, targets=resort.targets - set(dead))
        absent |= {target: (*absent.get(target, ()), region) for target in dead}
    return replace(part, regions=regions, resorts=resorts, absent=absent)


def _taking_part(part: RoutePart) -> list[str]:
    """Whom no rollout keeps out."""
    return [target for target in part.placing.permitted if part.placing.staged.get(target, 1)]


def _dead(target: str, scene: Scene) -> bool:
    health, standing = scene.healths.get(target), scene.standings.targets.get(target)
    if health is None or health.verdict is not Verdict.DOWN:
        return False
    return health.hard or (standing is not None and standing.hard)


def _panic(part: RoutePart, carried: float, demand: float, scene: Scene) -> Panic:
    was = scene.memory.routes.get(part.placing.route.id, NOTHING).panic
    below = scene.policy.panic_permille / 1000 * (ENDS_AT if was else 1.0) * demand
    back = sorted(doubtful(part.placing, part, scene)) if carried < below else []
    if back and scene.policy.automatic:
        values = {"usable_inflight": round(carried, 1), "demand_inflight": demand, "readmitted": back}
        return Panic(True, (Reason(code="PANIC", values=values),))
    if was:
        return Panic(False, (PANIC_ENDED,))
    return CALM


def _usable(part: RoutePart) -> list[str]:
    """Targets that some client region uses without panic."""
    everywhere = len(part.regions)
    return [target for target in _taking_part(part) if len(part.absent.get(target, ())) < everywhere]
