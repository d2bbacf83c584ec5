"""Weights: who gets which part of a route's traffic in one client region.

The rule, a waterfall. Within a tier the targets stand in groups, one per region, nearest first; those
moved last come after all others. The first group takes everything, equally split; the groups behind
it have weight 0 and are stand-bys in that order. A target with only a *part* (on the ramp, or leaving
on soft evidence) takes that part of its equal share; the rest stays with the full members of its
group, or, where there is none, flows on to the next group, and from the last group to the next tier.
What nobody takes in full, because everybody has only a part, goes to those who have some.

Whole numbers throughout: permille, exact sums, the odd ones to whoever stands first.

Capacity has its seam here: a group that may carry only so much of the demand is a group whose members
have parts. Nothing sets parts by capacity yet, so `shed_permille` is 0 while anybody is left.
"""

from collections.abc import Iterable, Iterator, Mapping, Set
from functools import lru_cache

from control_plane.core.roster import ByIdentity, Group, Placing
from control_plane.core.standing import FULL
from shared.vocabulary.decision import DecidedTier, RegionDecision, WeightedTarget

Parts = tuple[tuple[str, int], ...]
"""Targets with less than their full part, sorted: `(id, permille)`. 0: not used at all."""


def region_decision(placing: Placing, region: str, parts: Parts, last: tuple[str, ...]) -> RegionDecision:
    """What the edges of `region` do for the route of `placing`; `last` names who is moved last.

    The same object for the same arguments, while it is remembered.
    """
    return _region_decision(ByIdentity(placing), region, parts, last)


def decision_with(placing: Placing, region: str, parts: Parts, last: tuple[str, ...] = ()) -> RegionDecision:
    """The same, not remembered: for trying out."""
    part_of, behind = dict(parts), frozenset(last)
    tiers = [_tier(groups, part_of, behind) for groups in placing.tiers[region]]
    left = FULL
    taken: list[int] = []
    for _, takes in tiers:
        share = left * takes // FULL
        taken.append(share)
        left -= share
    first = next((number for number, (weights, _) in enumerate(tiers) if weights), None)
    if first is not None:
        taken[first] += left
        left = 0
    return RegionDecision(
        tiers=tuple(
            DecidedTier(
                share_permille=share,
                targets=tuple(_weighted(target, weight) for target, weight in weights.items()),
            )
            for (weights, _), share in zip(tiers, taken, strict=True)
        ),
        shed_permille=left,
    )


def _tier(groups: Iterable[Group], parts: Mapping[str, int], last: Set[str]) -> tuple[dict[str, int], int]:
    """The weights within one tier, in order of preference, and the permille it can take."""
    weights: dict[str, int] = {}
    left = FULL
    for members in _in_order(groups, parts, last):
        ration = left
        full = [target for target in members if parts.get(target, FULL) == FULL]
        for target in members:
            weights[target] = ration * min(FULL, parts.get(target, FULL)) // (FULL * len(members))
        left = ration - sum(weights[target] for target in members)
        if full:
            _spread(weights, full, left + sum(weights[target] for target in full))
            left = 0
    takes = FULL - left
    if left and weights:
        _scale(weights, takes)
    return weights, takes


def _in_order(groups: Iterable[Group], parts: Mapping[str, int], last: Set[str]) -> Iterator[list[str]]:
    behind: list[list[str]] = []
    for group in groups:
        usable = [target for target in group.targets if parts.get(target, FULL)]
        if front := [target for target in usable if target not in last]:
            yield front
        if back := [target for target in usable if target in last]:
            behind.append(back)
    yield from behind


def _spread(weights: dict[str, int], targets: list[str], total: int) -> None:
    each, odd = divmod(total, len(targets))
    for place, target in enumerate(targets):
        weights[target] = each + (place < odd)


def _scale(weights: dict[str, int], total: int) -> None:
    """Bring weights that sum to `total` to a sum of 1000; whoever stands first takes the odd ones."""
    for target, weight in weights.items():
        weights[target] = weight * FULL // total if total else 0
    weights[next(iter(weights))] += FULL - sum(weights.values())


def shares(decision: RegionDecision) -> Mapping[str, int]:
    """Target -> its part of the route's traffic in millionths; stand-bys are left out."""
    return {
        target.id: tier.share_permille * target.weight_permille
        for tier in decision.tiers
        for target in tier.targets
        if tier.share_permille and target.weight_permille
    }


@lru_cache(maxsize=4096)
def _region_decision(
    placing: ByIdentity[Placing], region: str, parts: Parts, last: tuple[str, ...]
) -> RegionDecision:
    return decision_with(placing.value, region, parts, last)


@lru_cache(maxsize=65_536)
def _weighted(target: str, weight: int) -> WeightedTarget:
    return WeightedTarget(id=target, weight_permille=weight)
