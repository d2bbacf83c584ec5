"""By what the fleet itself shows that it noticed a fault, and that it is whole again. Pure, over a Sight."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from ops.drill.scope import Scope, Terrain
from ops.drill.sight import Sight
from shared.vocabulary.decision import Decision
from shared.vocabulary.terms import Verdict


@dataclass(frozen=True, slots=True)
class Noticed:
    """What was seen."""

    by: str
    """Whose view it was."""
    values: Mapping[str, object] = field(default_factory=dict)
    stated: datetime | None = None
    """When, by the fleet's own word."""


Sign = Callable[[Sight], Noticed | None]


def sign_of(scope: Scope, terrain: Terrain, before: Sight) -> Sign | None:
    """What to look for; None where a fault leaves no sign in the fleet's own view (an etcd member).

    Of several kinds of struck things the first of these speaks: targets, observers, control planes,
    buses, probers and edges.
    """
    dead = {part.kind: part for part in terrain.parts if part.id in scope.dead}
    if scope.targets:
        return _of_targets(scope)
    if scope.observers:
        return _of_observers(scope)
    if "control-plane" in dead:
        return _of_planes(scope, terrain, before)
    if "bus" in dead:
        return _of_buses(scope, terrain)
    if {"prober", "edge"} & dead.keys():
        return _of_sources(scope)
    return None


def ailments(sight: Sight, scope: Scope) -> list[str]:
    """What keeps the fleet from being whole, in words."""
    view = sight.view
    if not sight.reached or view is None:
        return ["no control plane answers"]
    found = [] if sight.leader is not None else ["nobody leads"]
    found += [f"{edge} is not FRESH" for edge in scope.edges if not sight.all_fresh([edge])]
    found += [
        f"{edge} does not serve {sight.head}"
        for edge in scope.edges
        if not sight.all_serve([edge], sight.head)
    ]
    found += [f"the bus of {bus.region} is not reached" for bus in view.buses if not bus.reachable]
    found += [f"{source.role.value} {source.id} is silent" for source in view.sources if not source.fresh]
    found += [f"{region} is set aside" for region in view.set_aside]
    found += [
        f"{one.id} is {one.verdict.value}" for one in view.targets if one.verdict is not Verdict.HEALTHY
    ]
    return found


def living_regions(sight: Sight, scope: Scope) -> int | None:
    """Regions with a target outside the drill's scope that is not DOWN and that operators have not drained;
    None where no view tells. What is UNKNOWN counts: a replica that has just been started knows nothing yet,
    and that is no outage."""
    if not sight.reached or sight.view is None:
        return None
    out = scope.targets | _drained(sight.documents.values())
    return len(
        {
            target.region
            for target in sight.view.targets
            if target.id not in out and target.verdict is not Verdict.DOWN
        }
    )


def _drained(documents: Iterable[Decision]) -> set[str]:
    """Targets that take no part at an operator's word, in every route that names them."""
    drained: set[str] = set()
    open_to_some: set[str] = set()
    for document in documents:
        out = {each.target for each in document.excluded if each.by == "operator" and each.region is None}
        drained |= out
        open_to_some |= {each.target for each in document.excluded} - out
        for region in document.regions.values():
            open_to_some |= {target.id for tier in region.tiers for target in tier.targets} - out
    return drained - open_to_some


def _of_targets(scope: Scope) -> Sign:
    """All of them where all are lost, else any."""

    def seen(sight: Sight) -> Noticed | None:
        if sight.view is None:
            return None
        struck = [target for target in sight.view.targets if target.id in scope.targets]
        sick = [target for target in struck if target.verdict is not Verdict.HEALTHY]
        if not sick or (scope.leaves_all and len(sick) < len(struck)):
            return None
        times = [target.since for target in sick if target.since is not None]
        return Noticed(
            sight.view.replica,
            {
                "verdicts": {
                    target.id: target.verdict.value for target in sorted(sick, key=lambda one: one.id)
                }
            },
            (max if scope.leaves_all else min)(times, default=None),
        )

    return seen


def _of_observers(scope: Scope) -> Sign:
    def seen(sight: Sight) -> Noticed | None:
        if sight.view is None:
            return None
        contrary = {
            vote.vantage
            for target in sight.view.targets
            for vote in target.votes
            if vote.vantage in scope.observers and vote.verdict is Verdict.DOWN
        }
        if not contrary:
            return None
        aside = sorted(scope.observers & set(sight.view.set_aside))
        return Noticed(sight.view.replica, {"vote DOWN": sorted(contrary), "set aside": aside})

    return seen


def _of_planes(scope: Scope, terrain: Terrain, before: Sight) -> Sign:
    """None that answers, or another leader, or the silence of one."""
    planes = {part.id for part in terrain.parts if part.kind == "control-plane"}
    old = before.leader
    if planes <= scope.dead:
        return lambda sight: None if sight.reached else Noticed("the runner", {"answers": "no control plane"})
    if old is not None and old.id in scope.dead:
        epoch = old.epoch

        def another(sight: Sight) -> Noticed | None:
            now = sight.leader
            return Noticed(now.id, {"leader": now.id}) if now is not None and now.epoch > epoch else None

        return another
    return _of_sources(scope)


def _of_buses(scope: Scope, terrain: Terrain) -> Sign:
    regions = {part.region for part in terrain.parts if part.kind == "bus" and part.id in scope.dead}

    def seen(sight: Sight) -> Noticed | None:
        if sight.view is None:
            return None
        lost = [bus.region for bus in sight.view.buses if bus.region in regions and not bus.reachable]
        return Noticed(sight.view.replica, {"buses": lost}) if lost else None

    return seen


def _of_sources(scope: Scope) -> Sign:
    def seen(sight: Sight) -> Noticed | None:
        if sight.view is None:
            return None
        silent = [source.id for source in sight.view.sources if source.id in scope.dead and not source.fresh]
        return Noticed(sight.view.replica, {"silent": silent}) if silent else None

    return seen
