"""decide: from configuration, view and memory to the next head, or to nothing.

Level-based: it reads everything and compares what should hold with the documents in force; it never
trusts an event. Constant input gives None. The rules stand where they are carried out: `standing`
(hold-down, ramp), `advance` (regional refinement), `soften` (soft evidence, caution), `last_resort`
(nobody left), `route` (all of these for one route, and freezes), `load` (demand), `waterfall` (who gets
what), `capacity` (all routes within it), `panic`.

A route's document is written anew when its weights change, when something about its targets turned
that must be remembered, when the configuration version or the generation is another one; and only
then. Everything else in force stays as it is, byte for byte. A route that the configuration dropped
gets a last document, `removed`, and leaves the head.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from control_plane.core.advance import Standings, advance
from control_plane.core.capacity import Limits, plan_all
from control_plane.core.load import Seeing
from control_plane.core.memory import Memory, RouteMemory
from control_plane.core.orders import NO_NEWS, NO_ORDERS, Orders, news_about, news_of, placings
from control_plane.core.returning import eased, returning
from control_plane.core.roster import Placing, Roster, roster_of
from control_plane.core.route import NOTHING, RoutePart, RoutePlan, Scene, part_route, untouched
from control_plane.core.standing import FULL
from control_plane.core.wording import Case, evidence_of, exclusions_of, forced_by, reasons_of
from shared.vocabulary.base import sha256_hex
from shared.vocabulary.config import FleetConfig
from shared.vocabulary.decision import Decision, Head, Reason, RouteRef, Term
from shared.vocabulary.view import HealthView


@dataclass(frozen=True, slots=True)
class Proposal:
    """A commit to be made: the next head, the documents it changes, what to remember."""

    head: Head
    """`seq` is the previous one + 1."""
    documents: Mapping[str, Decision]
    """Changed and removed routes only, all at the head's version."""
    memory: Memory


@dataclass(frozen=True, slots=True)
class Restored:
    """A backup that was put back."""

    backup: str
    """The version it leads up to."""
    by: str
    """Who did."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """What all documents of one proposal have in common."""

    generation: int
    seq: int
    config_version: int
    term: Term
    now: datetime
    traceparent: str | None
    restored: Restored | None


def decide(
    config: FleetConfig,
    view: HealthView,
    head: Head | None,
    documents: Mapping[str, Decision],
    memory: Memory,
    *,
    orders: Orders = NO_ORDERS,
    generation: int,
    term: Term,
    now: datetime,
    traceparent: str | None,
    restored: Restored | None = None,
) -> Proposal | None:
    """The next head with the routes that change, or None when nothing does.

    `documents` are the ones in force, by route, as `head` names them; `memory` is what was committed
    with it; `orders` are operators' and rollouts'. `generation` is at least the head's; a greater one rewrites every route,
    and `restored` says so where a restore is why it is greater.
    """
    stamp = Stamp(
        generation=generation,
        seq=head.seq + 1 if head else 1,
        config_version=config.config_version,
        term=term,
        now=now,
        traceparent=traceparent,
        restored=restored,
    )
    roster = roster_of(config)
    placed, news = placings(roster, orders), news_of(memory.overrides, orders, memory.rollouts)
    scene = _scene(config, view, memory, roster, now)
    if news.ended:
        scene = _eased(scene, placings(roster, Orders(memory.overrides, memory.rollouts)), placed)
    standings = scene.standings
    plans = plan_all(_parts(placed, scene), Limits(config, scene, Seeing(view), documents))
    changed: dict[str, Decision] = {}
    remembered: dict[str, RouteMemory] = {}
    for route, placing in placed.items():
        plan = plans[route]
        if plan.memory is not NOTHING and plan.memory != NOTHING:
            remembered[route] = plan.memory
        in_force = documents.get(route) if head and route in head.routes else None
        causes = _causes(in_force, head, route, stamp)
        told = news_about(news, roster.placings[route]) if news else NO_NEWS
        if causes or told or _differs(plan, in_force, placing, standings, memory):
            by = _frozen_by(placing, view)
            case = Case(placing, plan, standings, memory, scene.healths, scene.policy, now, told, by)
            changed[route] = _document(case, causes, stamp)
    for route in sorted(head.routes if head else ()):
        if route not in placed:
            changed[route] = _removal(route, stamp)
    if not changed and head is not None:
        return None
    after = Memory(
        targets=standings.targets,
        regional=standings.regional,
        spared=standings.spared,
        routes=remembered,
        overrides=orders.overrides,
        rollouts=orders.rollouts,
    )
    return Proposal(_head(head, changed, stamp), changed, after)


def _scene(config: FleetConfig, view: HealthView, memory: Memory, roster: Roster, now: datetime) -> Scene:
    policy = config.fleet.policy
    standings = advance(
        memory,
        view.targets,
        policy,
        routed=roster.routed,
        regions=frozenset(region.id for region in config.fleet.regions),
        now=now,
    )
    return Scene(
        standings=standings,
        healths={health.id: health for health in view.targets},
        advice={
            health.id: health.caution_permille for health in view.targets if health.caution_permille < FULL
        },
        memory=memory,
        policy=policy,
        now=now,
        everything_frozen=any(not freeze.targets for freeze in view.freezes),
        frozen=frozenset(target for freeze in view.freezes for target in freeze.targets),
        only_silence=all(freeze.targets or freeze.cause == "MOST_SILENT" for freeze in view.freezes),
    )


def _eased(scene: Scene, before: Mapping[str, Placing], placed: Mapping[str, Placing]) -> Scene:
    """With those on the ramp whom no drain keeps out any more."""
    back = returning(before, placed)
    standings = eased(
        scene.standings,
        back,
        placed,
        scene.memory.routes,
        watched=scene.healths.keys(),
        policy=scene.policy,
        now=scene.now,
    )
    return replace(scene, standings=standings)


def _parts(placed: Mapping[str, Placing], scene: Scene) -> dict[str, RoutePart]:
    """The parts in every route; one with which nothing is the matter costs next to nothing."""
    standings = scene.standings
    noted = {*standings.targets, *scene.advice, *standings.turned, *standings.spared}
    for held in standings.regional.values():
        noted |= held.keys()
    return {
        route: untouched(placing)
        if route not in scene.memory.routes and noted.isdisjoint(placing.members)
        else part_route(placing, scene)
        for route, placing in placed.items()
    }


def _frozen_by(placing: Placing, view: HealthView) -> str:
    causes = [
        freeze.cause
        for freeze in view.freezes
        if not freeze.targets or not placing.members.isdisjoint(freeze.targets)
    ]
    return " ".join(dict.fromkeys(["OPERATOR", *causes] if placing.frozen else causes))


def _causes(in_force: Decision | None, head: Head | None, route: str, stamp: Stamp) -> list[Reason]:
    """What forces a new document, whatever the weights."""
    if head is None or route not in head.routes:
        return [Reason(code="INITIAL")]
    causes: list[Reason] = []
    if stamp.generation > head.generation:
        values: dict[str, object] = {"from": head.generation, "to": stamp.generation}
        if stamp.restored is not None:
            values |= {"backup": stamp.restored.backup, "restored_by": stamp.restored.by}
        causes.append(Reason(code="GENERATION_RAISED", values=values))
    if in_force is None:
        causes.append(Reason(code="REVISED", values={"why": "the document in force is missing"}))
    elif in_force.config_version != stamp.config_version:
        values = {"from": in_force.config_version, "to": stamp.config_version}
        causes.append(Reason(code="CONFIG_CHANGED", values=values))
    return causes


def _differs(
    plan: RoutePlan, in_force: Decision | None, placing: Placing, standings: Standings, memory: Memory
) -> bool:
    if in_force is None or in_force.regions.keys() != plan.regions.keys():
        return True
    if not standings.turned.isdisjoint(placing.members):
        return True
    before = memory.routes.get(placing.route.id, NOTHING)
    after = plan.memory
    if (before.frozen, before.panic, before.demand) != (after.frozen, after.panic, after.demand):
        return True
    return any(
        decided is not in_force.regions[region] and decided.substance != in_force.regions[region].substance
        for region, decided in plan.regions.items()
    )


def _document(case: Case, causes: list[Reason], stamp: Stamp) -> Decision:
    reasons = (*causes, *reasons_of(case))
    if not reasons:
        reasons = (Reason(code="REVISED", values={"why": "the same input is decided otherwise now"}),)
    return Decision(
        route=case.placing.route.id,
        generation=stamp.generation,
        seq=stamp.seq,
        config_version=stamp.config_version,
        regions=case.plan.regions,
        excluded=exclusions_of(case),
        reasons=reasons,
        evidence=evidence_of(case, reasons),
        forced_by=forced_by(case.placing),
        decided_at=stamp.now,
        term=stamp.term,
        traceparent=stamp.traceparent,
    )


def _removal(route: str, stamp: Stamp) -> Decision:
    return Decision(
        route=route,
        generation=stamp.generation,
        seq=stamp.seq,
        config_version=stamp.config_version,
        removed=True,
        reasons=(Reason(code="ROUTE_REMOVED", values={"config_version": stamp.config_version}),),
        decided_at=stamp.now,
        term=stamp.term,
        traceparent=stamp.traceparent,
    )


def _head(head: Head | None, changed: Mapping[str, Decision], stamp: Stamp) -> Head:
    routes: dict[str, RouteRef] = dict(head.routes) if head else {}
    for route, document in changed.items():
        if document.removed:
            routes.pop(route, None)
        else:
            routes[route] = (document.seq, sha256_hex(document.canonical()))
    return Head(
        generation=stamp.generation,
        seq=stamp.seq,
        config_version=stamp.config_version,
        routes=routes,
    )
