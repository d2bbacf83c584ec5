"""Orders: what operators and rollouts make of the placings, before health has its say.

drain      takes its targets out of the placing: they are barred, by an operator, until it ends
pin        names whom a client region uses before all others
weights    fix who gets how much of a client region's traffic
freeze     suspends automatic removals
rollout    stages its targets: so much of their tier's traffic, and no more; what is staged at nothing
           (a candidate without a rollout, a rollout that went back) is barred by policy

Of several pins and weights for the same clients of a route the newest governs; of several drains of a
target the one that ends last is named. What an order names and the configuration has not is ignored.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import lru_cache

from control_plane.core.roster import Barred, ByIdentity, Group, Placing, Roster
from shared.vocabulary.override import Override, OverrideSpec
from shared.vocabulary.rollout import Rollout

FULL = 1000


@dataclass(frozen=True, slots=True)
class Orders:
    """The overrides in force, the newest last, and the rollouts on record, by id."""

    overrides: tuple[Override, ...] = ()
    rollouts: tuple[Rollout, ...] = ()
    ended: tuple[Override, ...] = field(default=(), compare=False)
    """Overrides on record that hold no more: they shape nothing, but tell how they ended."""

    def __hash__(self) -> int:
        return hash((*(each.id for each in self.overrides), *(each.id for each in self.rollouts)))


NO_ORDERS = Orders()


@dataclass(frozen=True, slots=True)
class News:
    """What has changed in the orders since the last decision."""

    given: tuple[Override, ...] = ()
    ended: tuple[Override, ...] = ()
    moved: tuple[Rollout, ...] = ()
    """Rollouts that have begun, or stand at another step or in another state."""
    dropped: tuple[Rollout, ...] = ()
    """Rollouts that are off the record, as they were."""

    def __bool__(self) -> bool:
        return bool(self.given or self.ended or self.moved or self.dropped)


NO_NEWS = News()


def orders_of(overrides: Sequence[Override], rollouts: Sequence[Rollout], now: datetime) -> Orders:
    """Those that hold at `now`, of what is on record."""
    if not overrides and not rollouts:
        return NO_ORDERS
    newest_last = sorted(overrides, key=lambda each: (each.n, each.id))
    return Orders(
        overrides=tuple(each for each in newest_last if each.holds(now)),
        rollouts=tuple(rollouts),
        ended=tuple(each for each in newest_last if not each.holds(now)),
    )


def news_of(before: tuple[Override, ...], orders: Orders, rollouts: tuple[Rollout, ...] = ()) -> News:
    """What `orders` have, and lack, against the overrides and `rollouts` of the last decision."""
    if before == orders.overrides and rollouts == orders.rollouts:
        return NO_NEWS
    had = {each.id: each for each in before}
    has = {each.id: each for each in orders.overrides}
    told = {each.id: each for each in orders.ended}
    stood = {each.id: each for each in rollouts}
    stand = {each.id for each in orders.rollouts}
    return News(
        given=tuple(each for each in orders.overrides if had.get(each.id) != each),
        ended=tuple(told.get(each.id, each) for each in before if has.get(each.id) != each),
        moved=tuple(each for each in orders.rollouts if stood.get(each.id) != each),
        dropped=tuple(each for each in rollouts if each.id not in stand),
    )


def news_about(news: News, placing: Placing) -> News:
    """Of `news` what concerns the route of `placing`, a placing of the roster."""
    if not news:
        return NO_NEWS
    stands = _stands(placing)
    return News(
        given=tuple(each for each in news.given if _concerns(each.spec, placing, stands)),
        ended=tuple(each for each in news.ended if _concerns(each.spec, placing, stands)),
        moved=tuple(each for each in news.moved if each.spec.route == placing.route.id),
        dropped=tuple(each for each in news.dropped if each.spec.route == placing.route.id),
    )


def placings(roster: Roster, orders: Orders) -> Mapping[str, Placing]:
    """The placing of every route under `orders`; the same objects for the same orders."""
    return _placings(ByIdentity(roster), orders)


def drained_by(spec: OverrideSpec, placing: Placing) -> tuple[str, ...]:
    """The targets that a drain takes out of the route of `placing`; none for other kinds."""
    if spec.kind != "drain" or spec.route not in (None, placing.route.id):
        return ()
    stands = _stands(placing)
    return tuple(target for target in placing.permitted if _names(spec, target, stands))


@lru_cache(maxsize=8)
def _placings(roster: ByIdentity[Roster], orders: Orders) -> Mapping[str, Placing]:
    return {route: _under(placing, orders) for route, placing in roster.value.placings.items()}


def _under(placing: Placing, orders: Orders) -> Placing:
    """`placing` with everything that concerns it carried out; itself when nothing does."""
    stands = _stands(placing)
    overrides = tuple(each for each in orders.overrides if _concerns(each.spec, placing, stands))
    rollouts = [each for each in orders.rollouts if each.spec.route == placing.route.id]
    if not overrides and not rollouts and not placing.staged:
        return placing
    drains = _drains(overrides, placing, stands)
    staged = {**placing.staged, **_staged(rollouts, placing)}
    idle = [target for target, permille in staged.items() if not permille and target not in drains]
    out = frozenset((*drains, *idle))
    left = tuple(target for target in placing.permitted if target not in out)
    preferred, fixed = _steered(overrides, placing.tiers, left, stands)
    return replace(
        placing,
        permitted=left,
        members=frozenset(left),
        barred=(
            *placing.barred,
            *(_barred(target, drain) for target, drain in drains.items()),
            *(Barred(target, _why_idle(target, rollouts)) for target in idle),
        ),
        tiers=_without(placing.tiers, out) if out else placing.tiers,
        preferred=preferred,
        fixed=fixed,
        staged={target: permille for target, permille in staged.items() if target not in out},
        frozen=any(each.spec.kind == "freeze" for each in overrides),
        overrides=overrides,
    )


def _stands(placing: Placing) -> dict[str, str]:
    """Permitted target -> its region."""
    tiers = next(iter(placing.tiers.values()), ())
    return {target: group.region for tier in tiers for group in tier for target in group.targets}


def _concerns(spec: OverrideSpec, placing: Placing, stands: Mapping[str, str]) -> bool:
    if spec.route is not None and spec.route != placing.route.id:
        return False
    return spec.kind == "freeze" or any(_names(spec, target, stands) for target in placing.permitted)


def _names(spec: OverrideSpec, target: str, stands: Mapping[str, str]) -> bool:
    if spec.kind == "weights":
        return target in spec.weights
    return target == spec.target if spec.target is not None else stands[target] == spec.region


def _drains(
    overrides: Iterable[Override], placing: Placing, stands: Mapping[str, str]
) -> dict[str, Override]:
    """Drained target -> the drain that holds it out longest."""
    found: dict[str, Override] = {}
    for target in placing.permitted:
        drains = [
            each for each in overrides if each.spec.kind == "drain" and _names(each.spec, target, stands)
        ]
        if drains:
            found[target] = max(drains, key=lambda each: each.expires_at)
    return found


def _barred(target: str, drain: Override) -> Barred:
    reason = f"drained by {drain.author}: {drain.reason}"
    return Barred(target, reason[:512], by="operator", until=drain.expires_at)


def _why_idle(target: str, rollouts: Iterable[Rollout]) -> str:
    for rollout in rollouts:
        if target in rollout.spec.targets:
            return f"rollout {rollout.id} {rollout.state.lower().replace('_', ' ')}: {rollout.outcome}"[:512]
    return "candidate: no rollout has brought it in"


def _without(
    tiers: Mapping[str, tuple[tuple[Group, ...], ...]], drained: frozenset[str]
) -> dict[str, tuple[tuple[Group, ...], ...]]:
    """The tiers keep their places; groups that are empty now go."""

    def left(groups: tuple[Group, ...]) -> tuple[Group, ...]:
        kept = [
            (group, tuple(target for target in group.targets if target not in drained)) for group in groups
        ]
        return tuple(
            group if targets == group.targets else Group(group.region, targets)
            for group, targets in kept
            if targets
        )

    return {region: tuple(left(groups) for groups in by_tier) for region, by_tier in tiers.items()}


def _steered(
    overrides: Iterable[Override], clients: Iterable[str], left: tuple[str, ...], stands: Mapping[str, str]
) -> tuple[dict[str, frozenset[str]], dict[str, dict[str, int]]]:
    """Whom pins and weights make each client region use; `overrides` come with the newest last."""
    newest: dict[str, OverrideSpec] = {}
    for spec in (each.spec for each in overrides if each.spec.kind in ("pin", "weights")):
        newest |= dict.fromkeys([region for region in clients if spec.clients in (None, region)], spec)
    preferred: dict[str, frozenset[str]] = {}
    fixed: dict[str, dict[str, int]] = {}
    for region, spec in newest.items():
        named = [target for target in left if _names(spec, target, stands)]
        if spec.kind == "pin" and named:
            preferred[region] = frozenset(named)
        elif spec.kind == "weights" and any(spec.weights[target] for target in named):
            fixed[region] = _split({target: spec.weights[target] for target in named})
    return preferred, fixed


def _staged(rollouts: Iterable[Rollout], placing: Placing) -> dict[str, int]:
    """Within each tier the targets of a rollout share its permille equally."""
    staged: dict[str, int] = {}
    for rollout in rollouts:
        for tier in placing.route.tiers:
            there = [target for target in rollout.spec.targets if target in tier.targets]
            if there:
                staged |= _split(dict.fromkeys(there, 1), rollout.permille)
    return staged


def _split(weights: Mapping[str, int], whole: int = FULL) -> dict[str, int]:
    """`whole` in the proportion of `weights`, exactly; the first with weight takes the odd ones."""
    total = sum(weights.values())
    split = {target: weight * whole // total for target, weight in weights.items()}
    first = next(target for target, weight in weights.items() if weight)
    split[first] += whole - sum(split.values())
    return split
