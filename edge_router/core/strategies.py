"""How one of a tier's ready targets is chosen where a mere draw by weight does not do.

weights      The decision's weight says how often a target is considered: one with a tenth of the
             greatest weight in a tenth of the draws. So a returning target gets its part of the ramp
             and no more, however cheap, fast or fitting it is. Equals share by weight.
cost         The cheapest of those considered.
score        The best sum of latency (the best one's by its own), success (share of complete answers
             lately) and room (of its capacity), each from 0 to 1, times the route's coefficients.
hash         Weighted rendezvous: the greatest -weight / ln(u), u a hash of key and target in (0, 1).
             Parts are exactly as the weights say, a key keeps its target while that stands, and when
             one goes only its keys move (Schindelhauer and Schomaker, "Weighted distributed hash tables", 2005).
"""

from collections.abc import Callable, Sequence
from hashlib import blake2b
from math import log
from typing import Final, Protocol

from edge_router.core.table import Candidate, ScoreWeights, TargetEntry

AFFINITY_BYTES: Final = 1024
"""Of the conversation's beginning: the part that a provider's cache of prompts can know from earlier calls."""
_MESSAGES: Final = (b'"messages"', b'"input"', b'"prompt"', b'"contents"')


class Fitness(Protocol):
    """What scoring needs to know of a target."""

    inflight: int
    success: float
    """Share of its attempts lately that brought a complete answer; 1.0 without any."""

    @property
    def latency_ms(self) -> float:
        """Expected; 0 when nothing is known."""
        ...


def cheapest(ready: Sequence[Candidate], draw: Callable[[], float]) -> Candidate:
    """The one with the lowest price."""
    return _leading(ready, [-candidate.target.price for candidate in ready], draw)


def best_score(
    ready: Sequence[Candidate],
    fitness: Callable[[TargetEntry], Fitness],
    weights: ScoreWeights,
    draw: Callable[[], float],
) -> Candidate:
    """The one with the highest score."""
    known = [ms for candidate in ready if (ms := fitness(candidate.target).latency_ms) > 0.0]
    fastest = min(known, default=0.0)

    def score(candidate: Candidate) -> float:
        target = candidate.target
        fit = fitness(target)
        quick = fastest / fit.latency_ms if fit.latency_ms > 0.0 else 1.0
        room = max(0.0, 1.0 - fit.inflight / target.capacity_inflight)
        return weights.latency * quick + weights.success * fit.success + weights.load * room

    return _leading(ready, [score(candidate) for candidate in ready], draw)


def rendezvous(ready: Sequence[Candidate], key: bytes) -> Candidate:
    """The one to which `key` belongs."""

    def height(candidate: Candidate) -> float:
        digest = blake2b(key, digest_size=8, key=candidate.target.id.encode()).digest()
        return -candidate.weight / log((int.from_bytes(digest) + 0.5) / 2.0**64)

    return max(ready, key=height)


def affinity(body: bytes | bytearray | memoryview, tenant: str) -> bytes:
    """The key of a request: its tenant and how its conversation begins. A later turn of the same conversation
    has the same, once the beginning is longer than AFFINITY_BYTES or its first message alone decides."""
    head = bytes(body[: 16 * AFFINITY_BYTES])
    found = [at for name in _MESSAGES if (at := head.find(name)) >= 0]
    begin = min(found, default=0)
    return tenant.encode() + b"\0" + head[begin : begin + AFFINITY_BYTES].split(b"}", 1)[0]


def _leading(ready: Sequence[Candidate], points: Sequence[float], draw: Callable[[], float]) -> Candidate:
    """Of those with the most points, by weight; but those with less weight than others are passed over as
    often as they have less."""
    most = max(candidate.weight for candidate in ready)
    for level in sorted(set(points), reverse=True):
        equals = [candidate for candidate, own in zip(ready, points, strict=True) if own == level]
        greatest = max(candidate.weight for candidate in equals)
        if greatest == most or draw() * most < greatest:
            return _by_weight(equals, draw)
    raise AssertionError("whoever has the greatest weight is never passed over")


def _by_weight(equals: Sequence[Candidate], draw: Callable[[], float]) -> Candidate:
    if len(equals) == 1:
        return equals[0]
    point = draw() * sum(candidate.weight for candidate in equals)
    for candidate in equals:
        point -= candidate.weight
        if point < 0:
            return candidate
    return equals[-1]
