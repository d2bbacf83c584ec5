"""Which target a request goes to: the decision says who takes part and with what weight, the route's
strategy chooses among them, request by request.

    order        1. one tier is drawn by its share; what shares leave over is shed
                 2. inside it: targets with weight by the strategy, then stand-bys as written
                 3. the other tiers, in their order
                 4. last resort: targets that this edge itself has ejected, spread over all of them by weight, for
                    which of them is back is not known; then those that are cooling, the one due back first; then
                    those that the control plane excluded automatically. Better a doubtful target than an error;
                    never one that a person or policy excluded.
                 Never a target that is full, and none twice.
most ejected Of a route's targets no more than `max_ejected` are out for a mere share of failures: of those beyond, who
             still answer some, the best stay in. Who fails in a run has nobody's answers to offer and is out
             all the same (docs/decisions/0017). Envoy's `max_ejection_percent` is of one cluster's hosts, for any cause.
    cost, score, See `strategies`.
    hash
    weighted     The nth request takes the point n x 0.618… mod 1 on the line of weights. Multiples of the
                 golden ratio fill the line evenly at every length (three-distance theorem), so the split is
                 as smooth as nginx's smooth weighted round robin, in O(log n) and with a counter as state.
    skipping     The chosen one being unavailable, the draw is repeated among those that are available,
                 so that their part is shared out by weight and does not fall on one neighbour.
"""

from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Sequence
from enum import IntEnum
from itertools import accumulate
from math import exp
from typing import Final, Protocol

from edge_router.core.strategies import Fitness, best_score, cheapest, rendezvous
from edge_router.core.table import Candidate, RouteEntry, TargetEntry, TierEntry
from shared.vocabulary.terms import Strategy


class Readiness(IntEnum):
    """Whether a target can be sent a request now."""

    READY = 0
    DOUBTFUL = 1
    """Ejected or in trial: only as a last resort."""
    COOLING = 2
    """It said itself that it is at its limit: only after the doubtful ones."""
    FULL = 3
    """At `capacity_inflight`: not even then."""


READY: Final = Readiness.READY
"""Of every request, and a constant costs 60 ns less than a member looked up in its class (Python 3.11)."""


class Standing(Fitness, Protocol):
    """What choosing needs to know of a target at the moment."""

    def readiness(self, now: float) -> Readiness:
        """Whether it can be sent a request."""
        ...

    def due(self, now: float) -> float:
        """When a doubtful or cooling target is expected back, monotonic seconds."""
        ...

    @property
    def cost(self) -> float:
        """Expected wait: peak-EWMA of the latency x (outstanding + 1)."""
        ...

    @property
    def partial(self) -> bool:
        """Whether it is ejected for its share of failures, and answers some."""
        ...


class Nobody(Exception):
    """No target is left for a request. `full` when there are some, all at capacity; `shed` when the
    decision says to turn this share away."""

    def __init__(self, *, full: bool = False, shed: bool = False) -> None:
        super().__init__("all full" if full else "shed" if shed else "none left")
        self.full = full
        self.shed = shed


class Chooser:
    """Chooses for one edge; its state are the counters of `weighted` and `round_robin`.

    `standing` gives a target's standing, `draw` a uniform number in [0, 1).
    """

    def __init__(
        self, standing: Callable[[TargetEntry], Standing], draw: Callable[[], float], *, offset: float
    ) -> None:
        self._standing = standing
        self._draw = draw
        self._offset = offset
        self._turns: dict[tuple[str, int], int] = {}

    def first(self, route: RouteEntry, now: float, key: bytes = b"") -> Candidate:
        """Where a new request goes; `key` is what the strategy `hash` goes by. Raises Nobody."""
        tier = route.only or self._tier(route)
        weighted = tier.weighted
        strategy = route.strategy
        if strategy is _WEIGHTED or strategy is _ROUND_ROBIN:
            turn = self._turn(route, tier.number)
            if len(weighted) == 1:
                candidate = weighted[0]
            elif strategy is _WEIGHTED:
                candidate = weighted[bisect_right(tier.cumulative, turn * GOLDEN % 1.0)]
            else:
                candidate = weighted[turn % len(weighted)]
            if self._standing(candidate.target).readiness(now) is READY:
                return candidate
        return self._any(route, tier, (), now, key)

    def another(
        self, route: RouteEntry, tried: Collection[str], now: float, key: bytes = b"", *, last: bool = False
    ) -> Candidate:
        """Where a request goes that `tried` (target ids) could not serve. Its `last` attempt goes to a tier
        that has not failed it yet, if there is one: targets of one tier are of one kind, and what broke
        two of them may well have broken all. Raises Nobody."""
        if not route.tiers:
            return self._resort(route, tried, now)
        drawn = route.only or route.tiers[0]
        if last:
            untried = (tier for tier in route.tiers if not _has_any(tier, tried))
            drawn = next((tier for tier in untried if self._offers(tier, now)), drawn)
        return self._any(route, drawn, tried, now, key)

    def __len__(self) -> int:
        return len(self._turns)

    def keep(self, routes: Collection[str]) -> None:
        """Forget the counters of routes that are gone."""
        self._turns = {key: turn for key, turn in self._turns.items() if key[0] in routes}

    def _turn(self, route: RouteEntry, tier: int) -> int:
        key = (route.id, tier)
        turn = self._turns.get(key)
        if turn is None:
            # Edges that start together must not step in time.
            turn = int(self._offset * 1_000_000)
        self._turns[key] = turn + 1
        return turn

    def _tier(self, route: RouteEntry) -> TierEntry:
        place = bisect_right(route.shares, self._turn(route, 0) * GOLDEN % 1.0)
        if place >= len(route.tiers):
            if route.tiers and route.shares[-1] >= 1.0:
                return route.tiers[-1]
            raise Nobody(shed=True)
        return route.tiers[place]

    def _any(
        self, route: RouteEntry, drawn: TierEntry, tried: Collection[str], now: float, key: bytes
    ) -> Candidate:
        for tier in (drawn, *(tier for tier in route.tiers if tier is not drawn)):
            ready = [c for c in tier.weighted if c.target.id not in tried and self._is_ready(c, now)]
            some_out = not ready or len(ready) + len(tried) < len(tier.weighted)
            if some_out and (kept := self._kept_in(route, now)):
                ready += [c for c in tier.weighted if c.target.id not in tried and c.target.id in kept]
            if ready:
                return ready[0] if len(ready) == 1 else self._best(route, tier, ready, key)
            for candidate in tier.standby:
                if candidate.target.id not in tried and self._is_ready(candidate, now):
                    return candidate
        return self._resort(route, tried, now)

    def _best(self, route: RouteEntry, tier: TierEntry, ready: Sequence[Candidate], key: bytes) -> Candidate:
        strategy = route.strategy
        if strategy is Strategy.ROUND_ROBIN:
            return ready[self._turn(route, tier.number) % len(ready)]
        if strategy is Strategy.LEAST_CONNECTIONS:
            return min(
                self._shuffled(ready), key=lambda c: (self._standing(c.target).inflight + 1) / c.weight
            )
        if strategy is Strategy.LATENCY:
            one, other = self._by_weight(ready), self._by_weight(ready)
            return min(one, other, key=lambda c: self._standing(c.target).cost)
        if strategy is Strategy.COST:
            return cheapest(ready, self._draw)
        if strategy is Strategy.SCORE:
            return best_score(ready, self._standing, route.score, self._draw)
        if strategy is Strategy.HASH:
            return rendezvous(ready, key)
        return self._by_weight(ready)

    def _by_weight(self, ready: Sequence[Candidate]) -> Candidate:
        # A stand-by, which only a last resort draws, counts as next to nothing.
        sums = list(accumulate(candidate.weight or 1 for candidate in ready))
        return ready[min(bisect_right(sums, self._draw() * sums[-1]), len(ready) - 1)]

    def _shuffled(self, ready: Sequence[Candidate]) -> Iterable[Candidate]:
        """From a random place on, so that equals are not always settled in favour of the first."""
        at = int(self._draw() * len(ready))
        return (*ready[at:], *ready[:at])

    def _resort(self, route: RouteEntry, tried: Collection[str], now: float) -> Candidate:
        full = False
        doubtful: list[Candidate] = []
        cooling: list[tuple[float, Candidate]] = []
        for tier in route.tiers:
            for candidate in (*tier.weighted, *tier.standby):
                if candidate.target.id in tried:
                    continue
                standing = self._standing(candidate.target)
                readiness = standing.readiness(now)
                if readiness is Readiness.FULL:
                    full = True
                elif readiness is Readiness.COOLING:
                    cooling.append((standing.due(now), candidate))
                else:
                    doubtful.append(candidate)
        if doubtful:
            return self._by_weight(doubtful)
        if cooling:
            return min(cooling, key=lambda one: one[0])[1]
        for candidate in route.last_resort:
            if candidate.target.id not in tried:
                if self._standing(candidate.target).readiness(now) is not Readiness.FULL:
                    return candidate
                full = True
        raise Nobody(full=full)

    def _kept_in(self, route: RouteEntry, now: float) -> Collection[str]:
        """Targets that are ejected for their share of failures and stay in, for too many are out."""
        partial: list[tuple[float, str]] = []
        out = total = 0
        for tier in route.tiers:
            for candidate in (*tier.weighted, *tier.standby):
                total += 1
                standing = self._standing(candidate.target)
                if standing.readiness(now) is Readiness.DOUBTFUL:
                    out += 1
                    if standing.partial:
                        partial.append((-standing.success, candidate.target.id))
        beyond = out - int(total * route.max_ejected)
        return [target for _, target in sorted(partial)[:beyond]] if beyond > 0 else ()

    def _offers(self, tier: TierEntry, now: float) -> bool:
        return any(self._is_ready(candidate, now) for candidate in (*tier.weighted, *tier.standby))

    def _is_ready(self, candidate: Candidate, now: float) -> bool:
        return self._standing(candidate.target).readiness(now) is Readiness.READY


def _has_any(tier: TierEntry, targets: Collection[str]) -> bool:
    return any(candidate.target.id in targets for candidate in (*tier.weighted, *tier.standby))


def not_longer(route: RouteEntry, target: TargetEntry) -> list[str]:
    """Targets of `route` that are not known to have a longer context than `target`; all, where its own is unknown."""
    places = (c for tier in route.tiers for c in (*tier.weighted, *tier.standby))
    return [
        candidate.target.id
        for candidate in (*places, *route.last_resort)
        if not 0 < target.context_length < candidate.target.context_length
    ]


GOLDEN: Final = 0.6180339887498949
_WEIGHTED: Final = Strategy.WEIGHTED
_ROUND_ROBIN: Final = Strategy.ROUND_ROBIN


class PeakEwma:
    """Expected latency in ms: jumps up to a peak at once, decays over `DECAY_S`
    (Finagle's peak-EWMA: a slow answer is news, a fast one is one of many)."""

    __slots__ = ("_at", "value")

    DECAY_S: Final = 10.0

    def __init__(self) -> None:
        self.value = 0.0
        self._at = 0.0

    def add(self, sample_ms: float, now: float) -> None:
        """One more answer took `sample_ms`."""
        if sample_ms >= self.value:
            self.value = sample_ms
        else:
            kept = exp((self._at - now) / self.DECAY_S)
            self.value = self.value * kept + sample_ms * (1.0 - kept)
        self._at = now
