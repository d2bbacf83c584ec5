"""Whether a valid fleet may take the place of the one in force, by what is known at this moment.

A fleet that contradicts itself was refused before (`shared.vocabulary.config.problems`). Here the
question is what it would do to traffic: objections stand until an operator insists, warnings are said.
"""

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet

from control_plane.core.consent import lasting
from control_plane.core.orders import Orders, orders_of, placings
from control_plane.core.roster import Placing, roster_of
from shared.vocabulary.base import Message
from shared.vocabulary.config import Fleet, FleetConfig, Target
from shared.vocabulary.override import Override
from shared.vocabulary.rollout import Rollout
from shared.vocabulary.terms import Role, Verdict
from shared.vocabulary.view import HealthView

USABLE = (Verdict.HEALTHY, Verdict.DEGRADED)


class Finding(Message):
    """One consequence. `where` is the path of the item in the fleet it concerns: `routes.chat`."""

    where: str
    what: str


class Judgement(Message):
    """What speaks against it."""

    objections: tuple[Finding, ...] = ()
    """Refused, unless forced."""
    warnings: tuple[Finding, ...] = ()


def judge(
    old: Fleet | None,
    new: Fleet,
    *,
    view: HealthView | None,
    edges: Mapping[str, Sequence[str]],
    overrides: Sequence[Override],
    rollouts: Sequence[Rollout],
) -> Judgement:
    """Objections and warnings to `new` in the place of `old`.

    `edges` maps each region to its edges heard of lately; the orders are those in force. Without an
    `old` nothing can be lost.
    """
    if old is None:
        return Judgement()
    orders = orders_of(overrides, rollouts, view.as_of) if view is not None else Orders()
    objections = [
        *_emptied(old, new, view, orders),
        *_abandoned(new, edges),
        *_undermined(new, rollouts),
        *_locked(old, new),
    ]
    warnings = [*_dropped(old, new), *_unwatched(new), *_pointless(new, orders.overrides), *_blind(new, view)]
    if view is None:
        warnings.append(Finding(where="", what="no health view yet: nobody can say what is usable"))
    return Judgement(objections=tuple(objections), warnings=tuple(warnings))


def _emptied(old: Fleet, new: Fleet, view: HealthView | None, orders: Orders) -> Iterator[Finding]:
    """Routes that would lose every target known to work. One that is new, or whose endpoint is another
    than was probed, is not known to work until a prober has said so. One that `orders` keep out, or that
    is a candidate, or on trial, is nobody to be left with."""
    usable = {health.id for health in view.targets if health.verdict in USABLE} if view is not None else set()
    proven = {name for name in usable if _same_endpoint(old, new, name)}
    before, after = _placings(old, orders), _placings(new, orders)
    for i, route in enumerate(new.routes):
        if route.id not in before:
            continue
        had = before[route.id].members & usable
        if had and not lasting(after[route.id], orders) & proven:
            held_back = {barred.target for barred in after[route.id].barred} & usable
            yield Finding(
                where=f"routes[{i}]",
                what=f"route {route.id} would be left without a target that is known to work: "
                f"{_listed(had)} would go"
                + (f", and {_listed(held_back)} may not be used. " if held_back else ". ")
                + "Add the new ones first, and remove these once those are HEALTHY and take the traffic",
            )


def _same_endpoint(old: Fleet, new: Fleet, target: str) -> bool:
    before, after = old.targets_by_id.get(target), new.targets_by_id.get(target)
    return before is not None and after is not None and _endpoint(before) == _endpoint(after)


def _endpoint(target: Target) -> tuple[object, ...]:
    return (target.url, target.model, target.dialect, target.credential)


def _placings(fleet: Fleet, orders: Orders) -> Mapping[str, Placing]:
    return placings(roster_of(FleetConfig(config_version=0, fleet=fleet)), orders)


def _locked(old: Fleet, new: Fleet) -> Iterator[Finding]:
    if old.client_keys and not new.client_keys:
        yield Finding(
            where="client_keys", what="no client key would be left: the edges would refuse every request"
        )


def _abandoned(new: Fleet, edges: Mapping[str, Sequence[str]]) -> Iterator[Finding]:
    regions = {region.id for region in new.regions}
    for region in sorted(edges.keys() - regions):
        yield Finding(
            where="regions",
            what=f"region {region} would be gone, and {_listed(edges[region])} still serves there: "
            "no decision would name its clients. Stop its edges first",
        )


def _undermined(new: Fleet, rollouts: Sequence[Rollout]) -> Iterator[Finding]:
    for rollout in rollouts:
        if rollout.state != "RUNNING":
            continue
        route = new.routes_by_id.get(rollout.spec.route)
        members = {name for tier in route.tiers for name in tier.targets} if route is not None else set()
        lost = [name for name in rollout.spec.targets if name not in members]
        if lost:
            yield Finding(
                where=f"routes.{rollout.spec.route}",
                what=f"rollout {rollout.id} is under way and would lose {_listed(lost)}. Abort it first",
            )


def _dropped(old: Fleet, new: Fleet) -> Iterator[Finding]:
    for route in old.routes:
        if route.id not in new.routes_by_id:
            asked = _listed((*route.match.models, *route.match.paths))
            yield Finding(where="routes", what=f"route {route.id} goes: requests for {asked} will be refused")


def _unwatched(new: Fleet) -> Iterator[Finding]:
    for i, target in enumerate(new.targets):
        if not new.check_regions_of(target):
            yield Finding(
                where=f"targets[{i}]", what=f"no monitor watches {target.id}: it can never be HEALTHY"
            )


def _pointless(new: Fleet, overrides: Sequence[Override]) -> Iterator[Finding]:
    known = {
        *(region.id for region in new.regions),
        *new.targets_by_id,
        *new.routes_by_id,
    }
    for override in overrides:
        spec = override.spec
        named = (spec.region, spec.target, spec.route, spec.clients, *spec.weights)
        lost = [name for name in named if name is not None and name not in known]
        if lost:
            yield Finding(
                where="", what=f"{spec.kind} {override.id} names {_listed(lost)}, which would be gone"
            )


def _blind(new: Fleet, view: HealthView | None) -> Iterator[Finding]:
    """Probers left in regions that are no more: they run, and nobody counts their votes."""
    regions = {region.id for region in new.regions}
    for source in view.sources if view is not None else ():
        if source.role is Role.PROBER and source.fresh and source.vantage not in regions:
            yield Finding(
                where="regions",
                what=f"{source.id} still probes from {source.vantage}: its votes will not count",
            )


def _listed(names: Sequence[str] | AbstractSet[str], most: int = 5) -> str:
    ordered = sorted(names)
    more = f" and {len(ordered) - most} more" if len(ordered) > most else ""
    return ", ".join(ordered[:most]) + more
