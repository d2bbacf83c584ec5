"""decide: from configuration, view and memory to the next head, or to nothing.

Level-based: it reads everything and compares what should hold with the documents in force; it never
trusts an event. Constant input gives None. The rules stand where they are carried out: `standing`
(hold-down, ramp), `advance` (regional refinement), `soften` (soft evidence), `last_resort` (freeze),
`weights` (who gets what); `route` puts them together for one route.

A route's document is written anew when its weights change, when something about its targets turned
that must be remembered, when the configuration version or the generation is another one; and only
then. Everything else in force stays as it is, byte for byte. A route that the configuration dropped
gets a last document, `removed`, and leaves the head.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from control_plane.core.advance import Standings, advance
from control_plane.core.memory import Memory, RouteMemory
from control_plane.core.roster import Placing, roster_of
from control_plane.core.route import RoutePlan, plan_route
from control_plane.core.wording import Case, evidence_of, exclusions_of, reasons_of
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
class Stamp:
    """What all documents of one proposal have in common."""

    generation: int
    seq: int
    config_version: int
    term: Term
    now: datetime
    traceparent: str | None


def decide(
    config: FleetConfig,
    view: HealthView,
    head: Head | None,
    documents: Mapping[str, Decision],
    memory: Memory,
    *,
    generation: int,
    term: Term,
    now: datetime,
    traceparent: str | None,
) -> Proposal | None:
    """The next head with the routes that change, or None when nothing does.

    `documents` are the ones in force, by route, as `head` names them; `memory` is what was committed
    with it. `generation` is at least the head's; a greater one rewrites every route.
    """
    stamp = Stamp(
        generation=generation,
        seq=head.seq + 1 if head else 1,
        config_version=config.config_version,
        term=term,
        now=now,
        traceparent=traceparent,
    )
    roster = roster_of(config)
    policy = config.fleet.policy
    healths = {health.id: health for health in view.targets}
    standings = advance(
        memory,
        view.targets,
        policy,
        routed=roster.routed,
        regions=frozenset(region.id for region in config.fleet.regions),
        now=now,
    )
    changed: dict[str, Decision] = {}
    remembered: dict[str, RouteMemory] = {}
    for route, placing in roster.placings.items():
        plan = plan_route(placing, standings, healths, memory, policy, now)
        if plan.memory != RouteMemory():
            remembered[route] = plan.memory
        in_force = documents.get(route) if head and route in head.routes else None
        causes = _causes(in_force, head, route, stamp)
        if causes or _differs(plan, in_force, placing, standings, memory):
            case = Case(placing, plan, standings, memory, healths, policy, now)
            changed[route] = _document(case, causes, stamp)
    for route in sorted(head.routes if head else ()):
        if route not in roster.placings:
            changed[route] = _removal(route, stamp)
    if not changed and head is not None:
        return None
    after = Memory(targets=standings.targets, regional=standings.regional, routes=remembered)
    return Proposal(_head(head, changed, stamp), changed, after)


def _causes(in_force: Decision | None, head: Head | None, route: str, stamp: Stamp) -> list[Reason]:
    """What forces a new document, whatever the weights."""
    if head is None or route not in head.routes:
        return [Reason(code="INITIAL")]
    causes: list[Reason] = []
    if stamp.generation > head.generation:
        values = {"from": head.generation, "to": stamp.generation}
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
    if memory.routes.get(placing.route.id, RouteMemory()).frozen != plan.memory.frozen:
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
