"""Weights: what the waterfall gave, as a document says it.

Whole numbers throughout: permille with exact sums, by largest remainder, the odd ones to whoever stands
first. A share or weight is therefore right to within one permille, which is the grain of a decision.

A tier without share has weights all the same, as if all traffic reached it: edges turn to it within a
request. Who is usable and gets nothing stands in its tier with weight 0, a stand-by, in order of
preference.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from control_plane.core.roster import ByIdentity, Placing
from control_plane.core.standing import FULL
from control_plane.core.waterfall import Parts, Stage, Stream, pour_alone, stages_of
from shared.vocabulary.decision import DecidedTier, RegionDecision, WeightedTarget


@dataclass(frozen=True, slots=True, eq=False)
class Poured:
    """What the clients of one region do, and what that gives to whom."""

    decision: RegionDecision
    shares: Mapping[str, float]
    """Target -> its part of the traffic, as decided. They sum to 1 without what is shed."""


def natural(placing: Placing, region: str, parts: Parts, last: tuple[str, ...]) -> Poured:
    """What the edges of `region` do for the route of `placing` while capacity is no question.

    The same object for the same arguments, while it is remembered.
    """
    return _natural(ByIdentity(placing), region, parts, last)


def stream_of(
    placing: Placing, region: str, parts: Parts, last: tuple[str, ...], *, demand: float = 1.0
) -> Stream:
    """The stream of the clients of `region`; where weights are set by hand, it has been poured already."""
    part_of = dict(parts)
    stream = Stream(demand, stages_of(placing, region, part_of, last), part_of, placing.staged)
    by_hand = _by_hand(placing, region, stream)
    if total := sum(by_hand.values()):
        stream.taken = {target: demand * weight / total for target, weight in by_hand.items()}
        stream.left = 0.0
    return stream


def shares_alone(placing: Placing, region: str, parts: Parts) -> dict[str, int]:
    """Target -> its part of the route's traffic in millionths, for trying out; stand-bys are left out."""
    stream = stream_of(placing, region, parts, ())
    pour_alone(stream)
    return {target: round(share * FULL * FULL) for target, share in stream.taken.items()}


def shares(decision: RegionDecision) -> Mapping[str, int]:
    """Target -> its part of the route's traffic in millionths; stand-bys are left out."""
    return {
        target.id: tier.share_permille * target.weight_permille
        for tier in decision.tiers
        for target in tier.targets
        if tier.share_permille and target.weight_permille
    }


def decided(stream: Stream, *, tiers: int) -> Poured:
    """What was poured, in the form of a decision with so many `tiers`."""
    by_tier: list[list[str]] = [[] for _ in range(tiers)]
    for stage in stream.stages:
        if not stage.staged:
            by_tier[stage.tier] += stage.members
    for stage in stream.stages:
        if stage.staged:
            by_tier[stage.tier] += stage.members
    taken = stream.taken
    amounts = [[taken.get(target, 0.0) for target in members] for members in by_tier]
    split = apportion([*map(sum, amounts), max(0.0, stream.left)], FULL)
    if split[-1] == FULL and any(by_tier):
        # Less than the grain: an edge must not be told to turn everybody away while somebody can serve.
        split[next(number for number, members in enumerate(by_tier) if members)] = 1
        split[-1] -= 1
    decided_tiers: list[DecidedTier] = []
    given: dict[str, float] = {}
    for number, members in enumerate(by_tier):
        if members and not any(amounts[number]):
            amounts[number] = _unused(stream, number, members)
        weights = apportion(amounts[number], FULL)
        targets = tuple(map(_weighted, members, weights))
        decided_tiers.append(DecidedTier(share_permille=split[number], targets=targets))
        for target, weight in zip(members, weights, strict=True):
            if weight and split[number]:
                given[target] = split[number] * weight / FULL**2
    return Poured(RegionDecision(tiers=tuple(decided_tiers), shed_permille=split[-1]), given)


def apportion(amounts: Sequence[float], whole: int) -> list[int]:
    """`whole` in the proportion of `amounts`, by largest remainder; zeros where all are zero."""
    total = sum(amounts)
    if not total:
        return [0] * len(amounts)
    exact = [amount * whole / total for amount in amounts]
    parts = [int(each) for each in exact]
    odd = whole - sum(parts)
    if not odd:
        return parts
    # Rounded, so that thirds are equal and the first of them is the first in the list.
    by_remainder = sorted(range(len(exact)), key=lambda place: round(parts[place] - exact[place], 9))
    for place in by_remainder[:odd]:
        parts[place] += 1
    return parts


def _by_hand(placing: Placing, region: str, stream: Stream) -> dict[str, int]:
    """The weights that an operator set, of those who are usable."""
    fixed = placing.fixed.get(region)
    if not fixed:
        return {}
    usable = [target for stage in stream.stages for target in stage.members]
    weights = {target: fixed.get(target, 0) * stream.parts.get(target, FULL) for target in usable}
    return {target: weight for target, weight in weights.items() if weight}


def _unused(stream: Stream, tier: int, members: Sequence[str]) -> list[float]:
    """How a tier without share would split the traffic."""
    stages: list[Stage] = [stage for stage in stream.stages if stage.tier == tier]
    alone = Stream(1.0, stages, stream.parts, stream.staged)
    pour_alone(alone)
    return [alone.taken.get(target, 0.0) for target in members]


@lru_cache(maxsize=8192)
def _natural(placing: ByIdentity[Placing], region: str, parts: Parts, last: tuple[str, ...]) -> Poured:
    stream = stream_of(placing.value, region, parts, last)
    pour_alone(stream)
    return decided(stream, tiers=len(placing.value.tiers[region]))


@lru_cache(maxsize=65_536)
def _weighted(target: str, weight: int) -> WeightedTarget:
    return WeightedTarget(id=target, weight_permille=weight)
