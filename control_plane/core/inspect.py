"""The last check before a commit: is this proposal safe, whatever made it?

Written apart from `decide` and sharing none of its code: it reads the configuration itself and counts
for itself, so that a mistake there is caught here. Absolute rules only, without memory or clock:

* the head names every configured route and no other, by the hash of what is proposed;
* every client region has an entry, every tier its place, every target its tier;
* weights and shares are whole permille and sum to 1000;
* nobody is used whom residency, an operator's drain, or an exclusion not made by health bars, nor a
  candidate that no rollout has brought in: panic or not;
* traffic goes somewhere while any permitted target exists, and, unless removals are suspended, not only
  to targets known to be dead while one answers; and to none of them beside others in a panic;
* no target is planned more than its capacity (`inspect_load`).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from control_plane.core.decide import Proposal
from control_plane.core.inspect_load import load_faults
from control_plane.core.orders import NO_ORDERS, Orders
from shared.vocabulary.base import sha256_hex
from shared.vocabulary.config import FleetConfig, Route
from shared.vocabulary.decision import DecidedTier, Decision, RegionDecision
from shared.vocabulary.terms import Verdict
from shared.vocabulary.view import HealthView

UP = (Verdict.HEALTHY, Verdict.DEGRADED)
MAX_DOCUMENT_BYTES = 8_000_000
MAX_LISTED = 50
"""Refusals beyond these say nothing new."""


def refusals(
    proposal: Proposal,
    config: FleetConfig,
    view: HealthView,
    *,
    documents: Mapping[str, Decision] | None = None,
    orders: Orders = NO_ORDERS,
) -> list[str]:
    """What is unsafe about `proposal`, in words; empty when it may be committed.

    `documents` are in force, `orders` those it was decided under.
    """
    found: list[str] = []
    for fault in _faults(proposal, config, view, documents or {}, orders):
        found.append(fault)
        if len(found) == MAX_LISTED:
            break
    return found


def refused_routes(
    proposal: Proposal,
    config: FleetConfig,
    view: HealthView,
    *,
    orders: Orders = NO_ORDERS,
) -> frozenset[str]:
    """The routes whose own documents in `proposal` are unsafe, whatever the others say."""
    routes = {route.id: route for route in config.fleet.routes}
    facts = _facts(config, view, orders)
    return frozenset(
        name
        for name, document in proposal.documents.items()
        if any(_faults_of(name, document, routes, facts, proposal, config))
    )


def _faults(
    proposal: Proposal,
    config: FleetConfig,
    view: HealthView,
    documents: Mapping[str, Decision],
    orders: Orders,
) -> Iterator[str]:
    yield from _head_faults(proposal, config)
    routes = {route.id: route for route in config.fleet.routes}
    facts = _facts(config, view, orders)
    in_force = {route: document for route, document in documents.items() if route in proposal.head.routes}
    yield from load_faults(proposal, config, view, in_force, _by_hand(config, orders))
    for name, document in proposal.documents.items():
        for fault in _faults_of(name, document, routes, facts, proposal, config):
            yield f"route {name}: {fault}"


def _faults_of(
    name: str,
    document: Decision,
    routes: Mapping[str, Route],
    facts: "Facts",
    proposal: Proposal,
    config: FleetConfig,
) -> Iterator[str]:
    """Of one document."""
    yield from _document_faults(name, document, proposal, config)
    if document.removed:
        if name in routes:
            yield "removed, but configured"
    elif name not in routes:
        yield "not configured"
    else:
        panics = name in proposal.memory.routes and proposal.memory.routes[name].panic
        yield from _route_faults(document, routes[name], facts, panics=panics)


def _head_faults(proposal: Proposal, config: FleetConfig) -> Iterator[str]:
    head = proposal.head
    if head.config_version != config.config_version:
        yield f"head names configuration {head.config_version}, not {config.config_version}"
    configured = {route.id for route in config.fleet.routes}
    if missing := configured - head.routes.keys():
        yield f"head lacks routes {sorted(missing)}"
    if unknown := head.routes.keys() - configured:
        yield f"head names unknown routes {sorted(unknown)}"
    for route, (seq, sha) in head.routes.items():
        document = proposal.documents.get(route)
        if document is None:
            if seq >= head.seq:
                yield f"head names {route} at {seq} without a document"
        elif (seq, sha) != (document.seq, sha256_hex(document.canonical())):
            yield f"head names another document of {route} than the one proposed"


def _document_faults(name: str, document: Decision, proposal: Proposal, config: FleetConfig) -> Iterator[str]:
    if document.route != name:
        yield f"is a document of {document.route}"
    if document.version != proposal.head.version:
        yield f"has version {document.version}, the head {proposal.head.version}"
    if document.config_version != config.config_version:
        yield f"is for configuration {document.config_version}, not {config.config_version}"
    if not document.reasons:
        yield "gives no reason"
    if (size := len(document.canonical())) > MAX_DOCUMENT_BYTES:
        yield f"has {size} bytes"


@dataclass(frozen=True, slots=True)
class Facts:
    """What every route is held against."""

    regions: frozenset[str]
    stands: Mapping[str, str]
    """Target -> region."""
    dead: frozenset[str]
    """Globally DOWN on hard evidence."""
    answering: Mapping[str, frozenset[str]]
    """Client region -> targets that are up, and do not fail in its live traffic."""
    orders: Orders
    suspended: frozenset[str] | None
    """Routes whose automatic removals are suspended; None for all."""


def _facts(config: FleetConfig, view: HealthView, orders: Orders) -> Facts:
    freezes = [each.spec.route for each in orders.overrides if each.spec.kind == "freeze"]
    everywhere = bool(view.freezes) or None in freezes or not config.fleet.policy.automatic
    regions = frozenset(region.id for region in config.fleet.regions)
    up = frozenset(health.id for health in view.targets if health.verdict in UP)
    failing: dict[str, set[str]] = {region: set() for region in regions}
    for health in view.targets:
        for summary in health.passive:
            if summary.failing and summary.region in failing:
                failing[summary.region].add(health.id)
    return Facts(
        regions=regions,
        stands={target.id: target.region for target in config.fleet.targets},
        dead=frozenset(
            health.id for health in view.targets if health.verdict is Verdict.DOWN and health.hard
        ),
        answering={region: up - failing[region] for region in regions},
        orders=orders,
        suspended=None if everywhere else frozenset(route for route in freezes if route is not None),
    )


def _by_hand(config: FleetConfig, orders: Orders) -> set[tuple[str, str]]:
    """`(route, client region)` whose weights an operator has set."""
    specs = [each.spec for each in orders.overrides if each.spec.kind == "weights"]
    return {
        (spec.route, region.id)
        for spec in specs
        for region in config.fleet.regions
        if spec.route is not None and spec.clients in (None, region.id)
    }


def _kept_out(route: Route, facts: Facts) -> set[str]:
    """Targets of `route` that drains and rollouts keep out of it."""
    out: set[str] = set()
    for spec in (each.spec for each in facts.orders.overrides if each.spec.kind == "drain"):
        if spec.route in (None, route.id):
            out |= {
                target
                for target, region in facts.stands.items()
                if target == spec.target or region == spec.region
            }
    rollouts = [each for each in facts.orders.rollouts if each.spec.route == route.id]
    brought_in = {target for each in rollouts for target in each.spec.targets if each.permille}
    candidates = {target for tier in route.tiers for target in tier.candidates}
    untried = candidates | {target for each in rollouts for target in each.spec.targets}
    return out | (untried - brought_in)


def _route_faults(document: Decision, route: Route, facts: Facts, *, panics: bool) -> Iterator[str]:
    if document.regions.keys() != facts.regions:
        yield f"is for regions {sorted(document.regions)}, not {sorted(facts.regions)}"
    permitted = {
        target
        for tier in route.tiers
        for target in tier.targets
        if target in facts.stands and (route.residency is None or facts.stands[target] in route.residency)
    }
    suspended = facts.suspended is None or route.id in facts.suspended
    kept_out = _kept_out(route, facts)
    for region, decided in document.regions.items():
        banned = kept_out | {
            each.target
            for each in document.excluded
            if each.by != "auto" and (each.region is None or each.region == region)
        }
        for fault in _shape_faults(decided, route, permitted - banned):
            yield f"{region}: {fault}"
        for fault in _reach_faults(
            decided, region, permitted - banned, facts, suspended=suspended, panics=panics
        ):
            yield f"{region}: {fault}"


def _shape_faults(decided: RegionDecision, route: Route, usable: set[str]) -> Iterator[str]:
    if len(decided.tiers) != len(route.tiers):
        yield f"{len(decided.tiers)} tiers, configured are {len(route.tiers)}"
        return
    for number, (tier, configured) in enumerate(zip(decided.tiers, route.tiers, strict=True), start=1):
        for fault in _tier_faults(tier, set(configured.targets), usable):
            yield f"tier {number}: {fault}"
    shares = [decided.shed_permille, *(tier.share_permille for tier in decided.tiers)]
    if not all(_is_permille(share) for share in shares):
        yield "a share is not a whole permille"
    elif sum(shares) != 1000:
        yield f"shares and shed_permille sum to {sum(shares)}"


def _tier_faults(tier: DecidedTier, configured: set[str], usable: set[str]) -> Iterator[str]:
    names = [target.id for target in tier.targets]
    if len(set(names)) != len(names):
        yield "names a target twice"
    if strangers := set(names) - configured:
        yield f"names {sorted(strangers)}, which do not stand in it"
    if banned := (set(names) & configured) - usable:
        yield f"uses {sorted(banned)}, which policy or an operator excludes"
    weights = [target.weight_permille for target in tier.targets]
    if not all(_is_permille(weight) for weight in weights):
        yield "a weight is not a whole permille"
    elif weights and sum(weights) != 1000:
        yield f"weights sum to {sum(weights)}"
    if tier.share_permille and not weights:
        yield "has a share and no target"


def _reach_faults(
    decided: RegionDecision, region: str, usable: set[str], facts: Facts, *, suspended: bool, panics: bool
) -> Iterator[str]:
    used = {
        target.id
        for tier in decided.tiers
        for target in tier.targets
        if tier.share_permille and target.weight_permille
    }
    if usable and not used:
        yield "sends traffic nowhere, although a permitted target exists"
    if suspended:
        return
    if panics and used & facts.dead and used - facts.dead:
        yield f"uses {sorted(used & facts.dead)} in a panic, which are known to be dead"
    if used and used <= facts.dead and (answering := usable & facts.answering.get(region, frozenset())):
        yield f"uses only dead targets, although {min(answering)} answers"


def _is_permille(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 1000
