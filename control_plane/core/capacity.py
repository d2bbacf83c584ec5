"""Capacity: how the demand of all routes and client regions fits into the targets they share.

1. Natural plans, as if capacity were no question. Where they fit, they are the plan, and nothing is
   remembered. Without edges' reports nothing is known of demand, and this is all there is.
2. Where they do not fit, the routes that share targets with an overloaded one are planned together, by
   one waterfall into the rooms of their targets: `capacity_headroom_permille` of each capacity, and of
   a target on the ramp only its step's part of that. Before anything is shed, headroom and ramp give way.
   So no target is ever planned more than its capacity, whatever fails over to it.
3. Weights that an operator set by hand are carried out as they are, and take their room first.

A plan that is limited is made for the demand held in memory (see `load`); it ends when what is held and
what is seen both fit the natural plan. Where even all that is usable carries too little, `panic` widens
what is usable.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache
from typing import NamedTuple

from control_plane.core.load import Seeing, held, revised, unheard
from control_plane.core.memory import HeldDemand, RouteMemory
from control_plane.core.panic import PANIC_ENDED, Panic, panic_of, sparing_the_dead
from control_plane.core.roster import ByIdentity, Placing
from control_plane.core.route import NOTHING, RoutePart, RoutePlan, Scene, doubtful, readmitting
from control_plane.core.standing import FULL
from control_plane.core.waterfall import Parts, Rooms, Stream, pour
from control_plane.core.weights import Poured, decided, natural, stream_of
from shared.vocabulary.config import FleetConfig, Policy
from shared.vocabulary.decision import Decision, Reason

MAX_NAMED = 20
"""Targets in the figures of one reason."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What planning needs to know beside the parts."""

    config: FleetConfig
    scene: Scene
    seeing: Seeing
    documents: Mapping[str, Decision]
    """In force."""


def plan_all(parts: Mapping[str, RoutePart], limits: Limits) -> Mapping[str, RoutePlan]:
    """The plan of every route, all within the capacity of the targets."""
    plans = {route: _natural_plan(part) for route, part in parts.items()}
    remembered = limits.scene.memory.routes
    limited = {route for route in parts if route in remembered and remembered[route].demand}
    if not limits.seeing and not limited:
        return plans
    over = _overloaded(parts, limits)
    for together in _sharing(parts, over) if over else ():
        plans |= _plan_together({route: parts[route] for route in together}, limits)
    for route in limited - {route for route, plan in plans.items() if plan.memory.demand}:
        plans[route] = replace(plans[route], figures=tuple(_fits(parts[route].placing, limits)))
    return plans


# ------------------------------------------------------------ natural plans


def _natural_plan(part: RoutePart) -> RoutePlan:
    if part.memory is NOTHING:
        return _untouched_plan(ByIdentity(part))
    memory = part.memory.model_copy(update={"demand": {}, "planned_at": None, "panic": False})
    return _natural_with(part, memory)


@lru_cache(maxsize=4096)
def _untouched_plan(part: ByIdentity[RoutePart]) -> RoutePlan:
    return _natural_with(part.value, NOTHING)


def _natural_with(part: RoutePart, memory: RouteMemory) -> RoutePlan:
    return RoutePlan(
        regions={
            region: natural(part.placing, region, limited, last).decision
            for region, (limited, last) in part.regions.items()
        },
        absent=part.absent,
        resorts=part.resorts,
        memory=memory,
    )


def _fits(placing: Placing, limits: Limits) -> Iterable[Reason]:
    """What there is to say when the natural plan fits again."""
    values = {"limited": False, "demand_inflight": _total(_demand(placing, limits))}
    yield Reason(code="CAPACITY", values=values)
    if limits.scene.memory.routes[placing.route.id].panic:
        yield PANIC_ENDED


# ------------------------------------------------------------ demand


def _demand(placing: Placing, limits: Limits) -> dict[str, HeldDemand]:
    """Client region -> the demand to plan for, where it is known."""
    route = placing.route.id
    before = limits.scene.memory.routes.get(route, NOTHING)
    policy = limits.scene.policy
    settled = _settled(before, policy, limits.scene.now)
    document = limits.documents.get(route)
    demand: dict[str, HeldDemand] = {}
    for region in placing.tiers:
        seen, had = limits.seeing.at(route, region), before.demand.get(region)
        in_force = document.regions.get(region) if document is not None else None
        shed_permille = in_force.shed_permille if in_force is not None else 0
        if had is not None and seen is None and not limits.seeing.deaf:
            if (still := unheard(had, policy, limits.scene.now)) is not None:
                demand[region] = still
        elif had is not None:
            demand[region] = revised(
                had,
                seen,
                shed_permille=shed_permille,
                settled=settled,
                policy=policy,
                now=limits.scene.now,
            )
        elif seen is not None and seen.inflight:
            demand[region] = held(seen)
    return demand


def _most(placing: Placing, limits: Limits) -> dict[str, float]:
    """Client region -> the most that may be under way, by what is seen and by what is held."""
    seen = {region: each.inflight for region, each in limits.seeing.of(placing.route.id).items()}
    before = limits.scene.memory.routes.get(placing.route.id, NOTHING)
    if not before.demand:
        return seen
    return {
        region: max(each.inflight, seen.get(region, 0.0)) for region, each in _demand(placing, limits).items()
    }


def _settled(before: RouteMemory, policy: Policy, now: datetime) -> bool:
    """Whether the edges' windows lie after the last change of the plan; a change in the future was now."""
    if before.planned_at is None:
        return True
    least_s = max(policy.demand_settle_s, policy.passive_window_s)
    return not 0 <= (now - before.planned_at).total_seconds() < least_s


def _overloaded(parts: Mapping[str, RoutePart], limits: Limits) -> set[str]:
    """Targets to which natural plans give more than is to be planned on them."""
    load: dict[str, float] = {}
    for part in parts.values():
        for region, inflight in _most(part.placing, limits).items():
            if not inflight or region not in part.regions:
                continue
            for target, share in natural(part.placing, region, *part.regions[region]).shares.items():
                load[target] = load.get(target, 0.0) + inflight * share
    if not load:
        return set()
    ramping = _ramping(parts.values())
    return {
        target for target, inflight in load.items() if inflight > _planned(target, ramping, limits.config)
    }


def _ramping(parts: Iterable[RoutePart]) -> dict[str, int]:
    found: dict[str, int] = {}
    for part in parts:
        for target, permille in part.ramping.items():
            found[target] = max(permille, found.get(target, 0))
    return found


def _planned(target: str, ramping: Mapping[str, int], config: FleetConfig) -> float:
    """What plans may give it before they spill."""
    capacity = config.fleet.targets_by_id[target].capacity_inflight
    headroom = config.fleet.policy.capacity_headroom_permille
    return capacity * headroom * ramping.get(target, FULL) / FULL**2


def _sharing(parts: Mapping[str, RoutePart], over: set[str]) -> list[list[str]]:
    """The routes that one overloaded target concerns, and those they share targets with, in turn."""
    routes_of: dict[str, list[str]] = {}
    for route, part in parts.items():
        for target in part.placing.permitted:
            routes_of.setdefault(target, []).append(route)
    groups: list[list[str]] = []
    grouped: set[str] = set()
    for target in sorted(over):
        waiting = [route for route in routes_of[target] if route not in grouped]
        group: set[str] = set()
        while waiting:
            route = waiting.pop()
            if route not in group:
                group.add(route)
                waiting += [
                    other
                    for member in parts[route].placing.permitted
                    for other in routes_of[member]
                    if other not in group
                ]
        if group:
            grouped |= group
            groups.append(sorted(group))
    return groups


# ------------------------------------------------------------ limited plans


class Ask(NamedTuple):
    """One stream, as a key."""

    placing: ByIdentity[Placing]
    region: str
    parts: Parts
    last: tuple[str, ...]
    inflight: float


def _plan_together(parts: Mapping[str, RoutePart], limits: Limits) -> dict[str, RoutePlan]:
    demands = {route: _demand(part.placing, limits) for route, part in parts.items()}
    totals = {route: _total(demand) for route, demand in demands.items()}
    panics = panic_of(parts, totals, limits.config, limits.scene)
    used = {
        route: sparing_the_dead(
            readmitting(part, doubtful(part.placing, part, limits.scene), limits.scene), limits.scene
        )
        if panics[route].on
        else part
        for route, part in parts.items()
    }
    asks = tuple(
        Ask(ByIdentity(part.placing), region, *part.regions[region], demands[route][region].inflight)
        for route, part in used.items()
        for region in part.regions
        if region in demands[route] and demands[route][region].inflight
    )
    poured = _poured(asks, tuple(sorted(_ramping(used.values()).items())), ByIdentity(limits.config))
    return {
        route: _limited_plan(part, poured, demands[route], panics[route], limits)
        for route, part in used.items()
    }


@lru_cache(maxsize=64)
def _poured(
    asks: tuple[Ask, ...], ramping: tuple[tuple[str, int], ...], config: ByIdentity[FleetConfig]
) -> Mapping[tuple[str, str], Poured]:
    """By route and region. Remembered, because nearly every pass asks the same."""
    streams = {
        (ask.placing.value.route.id, ask.region): (
            ask,
            stream_of(ask.placing.value, ask.region, ask.parts, ask.last, demand=ask.inflight),
        )
        for ask in asks
    }
    rooms = _rooms([stream for _, stream in streams.values()], dict(ramping), config.value)
    for _, stream in streams.values():
        for target, amount in stream.taken.items():
            rooms.take(target, amount)
    pour([stream for _, stream in streams.values()], rooms)
    return {
        key: decided(stream, tiers=len(ask.placing.value.tiers[ask.region]))
        for key, (ask, stream) in streams.items()
    }


def _rooms(streams: Sequence[Stream], ramping: Mapping[str, int], config: FleetConfig) -> Rooms:
    targets = {target for stream in streams for stage in stream.stages for target in stage.members}
    return Rooms(
        planned={target: _planned(target, ramping, config) for target in targets},
        most={target: float(config.fleet.targets_by_id[target].capacity_inflight) for target in targets},
    )


def _limited_plan(
    part: RoutePart,
    poured: Mapping[tuple[str, str], Poured],
    demand: Mapping[str, HeldDemand],
    panic: Panic,
    limits: Limits,
) -> RoutePlan:
    route = part.placing.route.id
    regions = {
        region: poured.get((route, region)) or natural(part.placing, region, limited, last)
        for region, (limited, last) in part.regions.items()
    }
    before = limits.scene.memory.routes.get(route, NOTHING)
    document = limits.documents.get(route)
    stands = (
        document is not None
        and before.demand == demand
        and all(
            region in document.regions and document.regions[region].substance == each.decision.substance
            for region, each in regions.items()
        )
    )
    memory = part.memory.model_copy(
        update={
            "demand": dict(demand),
            "planned_at": before.planned_at if stands else limits.scene.now,
            "panic": panic.on,
        }
    )
    return RoutePlan(
        regions={region: each.decision for region, each in regions.items()},
        absent=part.absent,
        resorts=part.resorts,
        memory=memory,
        figures=(*_figures(part, regions, demand, before), *panic.figures),
    )


def _figures(
    part: RoutePart, regions: Mapping[str, Poured], demand: Mapping[str, HeldDemand], before: RouteMemory
) -> Iterable[Reason]:
    values: dict[str, object] = {"limited": True, "demand_inflight": _total(demand)}
    if before.demand and before.demand != demand:
        values["from_inflight"] = _total(before.demand)
    yield Reason(code="CAPACITY", values=values)
    for region, each in regions.items():
        if region not in demand:
            continue
        inflight = round(demand[region].inflight, 1)
        usual = natural(part.placing, region, *part.regions[region]).shares
        to = {
            target: round(1000 * (share - usual.get(target, 0.0)))
            for target, share in each.shares.items()
            if share - usual.get(target, 0.0) >= 0.001
        }
        if to:
            named = dict(sorted(to.items(), key=lambda item: (-item[1], item[0]))[:MAX_NAMED])
            yield Reason(
                code="SPILL",
                region=region,
                values={"demand_inflight": inflight, "spilled_permille": sum(to.values()), "to": named},
            )
        if shed_permille := each.decision.shed_permille:
            yield Reason(
                code="SHED",
                region=region,
                values={"demand_inflight": inflight, "shed_permille": shed_permille},
            )


def _total(demand: Mapping[str, HeldDemand]) -> float:
    return round(sum(each.inflight for each in demand.values()), 1)
