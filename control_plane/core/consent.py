"""Consent: whether an operator's order may be given, by the configuration and what is known of health.

A drain is objected to when it takes the last target that answers (HEALTHY or DEGRADED, and not failing
in the client region's own traffic) from a route for some client region; an operator may force it. What
a rollout stages at less than its tier's whole traffic is on trial, and nobody to be left with. The end
of a rollout is asked the same. What cannot be carried out at all (`faults`) is refused, forced or not.

Routes that the drain does not touch are none of its business: they may be in trouble already.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from control_plane.core.advance import UP
from control_plane.core.orders import FULL, Orders, drained_by, placings
from control_plane.core.roster import Placing, roster_of
from shared.vocabulary.config import Fleet, FleetConfig
from shared.vocabulary.override import Override, OverrideSpec
from shared.vocabulary.view import HealthView

MAX_NAMED = 10
WORTH_SAYING_PERMILLE = 700
"""Below this load on the survivors nobody needs to be told."""


@dataclass(frozen=True, slots=True)
class Stranded:
    """A route that an order leaves without an answering target, for these client regions."""

    route: str
    regions: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.route} in {', '.join(self.regions[:MAX_NAMED])}"


def faults(spec: OverrideSpec, fleet: Fleet, in_force: Sequence[Override]) -> list[str]:
    """Why `spec` makes no sense in `fleet`, or beside the overrides `in_force`; empty when it does."""
    return [*_unknown(spec, fleet), *_repeated(spec, in_force)] or [*_empty(spec, fleet)]


def stranded(
    spec: OverrideSpec, config: FleetConfig, view: HealthView | None, orders: Orders
) -> tuple[Stranded, ...]:
    """The routes that `spec` would leave without anybody who answers. `orders` are those in force and
    the new one. Without a `view` nobody is known to answer."""
    roster = roster_of(config)
    answering = _answering(config.fleet, view)
    found = []
    for route, placing in placings(roster, orders).items():
        if not drained_by(spec, roster.placings[route]):
            continue
        if lost := _lost(placing, answering, orders):
            found.append(lost)
    return tuple(found)


def bereft(
    route: str, config: FleetConfig, view: HealthView | None, *, before: Orders, after: Orders
) -> Stranded | None:
    """Whom `route` would be left without anybody who answers, when `after` are in force in the place of
    `before`; None where that takes no target from it, whoever answers."""
    roster = roster_of(config)
    placing = placings(roster, after).get(route)
    if placing is None or placing.members >= placings(roster, before)[route].members:
        return None
    return _lost(placing, _answering(config.fleet, view), after)


def lasting(placing: Placing, orders: Orders) -> frozenset[str]:
    """The permitted that a route can be left with: not those on trial at a part of their tier's traffic."""
    on_trial = {
        target
        for rollout in orders.rollouts
        if rollout.spec.route == placing.route.id and rollout.permille < FULL
        for target in rollout.spec.targets
    }
    return placing.members - on_trial


def warnings(
    spec: OverrideSpec, config: FleetConfig, view: HealthView | None, orders: Orders
) -> tuple[str, ...]:
    """What an operator should know about `spec`, by the load that edges report now."""
    if view is None:
        return ()
    roster = roster_of(config)
    said = []
    for route, placing in placings(roster, orders).items():
        inflight = sum(load.inflight for load in view.loads if load.route == route)
        if not inflight or not drained_by(spec, roster.placings[route]):
            continue
        capacity = _capacity(placing, config.fleet, view)
        permille = round(1000 * inflight / capacity) if capacity else None
        if permille is None:
            said.append(
                f"route {route}: {inflight:g} requests are under way, and nobody is left to carry them"
            )
        elif permille >= WORTH_SAYING_PERMILLE:
            said.append(
                f"route {route}: the survivors would carry {permille / 10:g} % of their capacity "
                f"({inflight:.0f} of {capacity} at once)"
            )
    return tuple(said[:MAX_NAMED])


def _lost(placing: Placing, answering: Mapping[str, frozenset[str]], orders: Orders) -> Stranded | None:
    left = lasting(placing, orders)
    lost = tuple(region for region in placing.tiers if answering[region].isdisjoint(left))
    return Stranded(placing.route.id, lost) if lost else None


def _unknown(spec: OverrideSpec, fleet: Fleet) -> Iterator[str]:
    regions = {region.id for region in fleet.regions}
    for region in (spec.region, spec.clients):
        if region is not None and region not in regions:
            yield f"there is no region {region!r}; there are {_some(sorted(regions))}"
    for target in (spec.target, *spec.weights):
        if target is not None and target not in fleet.targets_by_id:
            yield f"there is no target {target!r} in the configuration"
    if spec.route is not None and spec.route not in fleet.routes_by_id:
        yield f"there is no route {spec.route!r}; there are {_some(sorted(fleet.routes_by_id))}"


def _empty(spec: OverrideSpec, fleet: Fleet) -> Iterator[str]:
    """Everything it names exists, and yet it names nobody."""
    if spec.route is None:
        if spec.region is not None and all(target.region != spec.region for target in fleet.targets):
            yield f"no target stands in {spec.region}"
        return
    route = fleet.routes_by_id[spec.route]
    members = [fleet.targets_by_id[target] for tier in route.tiers for target in tier.targets]
    stands = {
        target.id: target.region
        for target in members
        if route.residency is None or target.region in route.residency
    }
    for target in (spec.target, *spec.weights):
        if target is not None and target not in stands:
            yield f"route {route.id} may not use {target}"
    if spec.region is not None and spec.region not in stands.values():
        yield f"route {route.id} may use no target in {spec.region}"


def _repeated(spec: OverrideSpec, in_force: Sequence[Override]) -> Iterator[str]:
    for override in in_force:
        if override.spec == spec:
            yield f"{override.id} by {override.author} says the same, until {override.expires_at:%Y-%m-%dT%H:%M:%SZ}"


def _answering(fleet: Fleet, view: HealthView | None) -> Mapping[str, frozenset[str]]:
    """Client region -> the targets that answer there."""
    healths = view.targets if view is not None else ()
    up = frozenset(health.id for health in healths if health.verdict in UP)
    failing = {
        (summary.region, health.id) for health in healths for summary in health.passive if summary.failing
    }
    return {
        region.id: frozenset(target for target in up if (region.id, target) not in failing)
        for region in fleet.regions
    }


def _capacity(placing: Placing, fleet: Fleet, view: HealthView) -> int:
    """Requests at once that the route's answering targets take, though other routes may want them too."""
    up = {health.id for health in view.targets if health.verdict in UP}
    return sum(fleet.targets_by_id[target].capacity_inflight for target in placing.permitted if target in up)


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return ", ".join(names[:MAX_NAMED]) + more
