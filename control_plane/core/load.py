"""How much there is to carry: the demand of each route from each client region, in requests under way.

Seen      the edges' reports, summed over the fresh edges of a region; a region with a fresh edge that says
          nothing of a route has no demand there; a region without a fresh edge is unknown.
Held      a plan that capacity limits is made for one demand, which is remembered with it; otherwise every
          report would move traffic. It is revised only

              up    at once, when what is seen exceeds it by more than `demand_rise_permille`
              down  when what is seen falls short by more than `demand_fall_permille`, did so already
                    `demand_settle_s` before, and the plan has stood for as long; to half at most. So edges
                    that restart all together, and report little for a while, bring no traffic home
Dropped   when its edges have been silent for `UNHEARD_SETTLES` x `demand_settle_s` while other regions'
          were heard: nobody is turned away for clients that nobody hears of. While no edge at all is
          heard, it is the control plane that is deaf, and everything stays.

What is seen depends on what was decided, and must not drive it in a circle:

* Where requests are shed, those under way are too few. Then demand rises with the requests that clients
  make, which count those turned away, and falls with what is under way, scaled up by what was shed.
* Where a plan spills to slower targets, requests take longer and more are under way, though no more are
  made. So one request is never thought to hold a place for longer than `SLOWER_MOST` times what it held
  before the spill. Edges guard each target's capacity by themselves meanwhile.
"""

from collections.abc import Mapping
from datetime import datetime
from math import sqrt
from typing import NamedTuple

from control_plane.core.memory import HeldDemand
from shared.vocabulary.config import Policy
from shared.vocabulary.terms import Role
from shared.vocabulary.view import HealthView

SLOWER_MOST = 2.0
ONE_REQUEST = 1.0
"""Demands that differ by less are equal."""
UNHEARD_SETTLES = 4.0
"""Of `demand_settle_s`: so long a silence is no restart."""
SIGMAS = 3.0
"""Requests come by chance: so many standard deviations of their number (its root) are no news."""


class Seen(NamedTuple):
    """What the edges of one region report of one route."""

    inflight: float
    requests_per_s: float = 0.0
    requests: int = 0
    """Behind the rate."""


class Seeing:
    """The demand that one view reports. `inflight` by route, then client region."""

    def __init__(self, view: HealthView) -> None:
        self._loads: dict[str, dict[str, Seen]] = {}
        for load in view.loads:
            rate = load.requests / load.window_s if load.window_s else 0.0
            self._loads.setdefault(load.route, {})[load.region] = Seen(load.inflight, rate, load.requests)
        self._known = frozenset(
            source.vantage for source in view.sources if source.role is Role.EDGE and source.fresh
        )

    def __bool__(self) -> bool:
        """Whether anybody has any demand."""
        return bool(self._loads)

    @property
    def deaf(self) -> bool:
        """Whether no edge is heard at all."""
        return not self._known

    def of(self, route: str) -> Mapping[str, Seen]:
        """Client region -> what is seen there; regions without a word are left out."""
        return self._loads.get(route, {})

    def at(self, route: str, region: str) -> Seen | None:
        """What is seen; None when unknown."""
        seen = self._loads.get(route, {}).get(region)
        return _NONE if seen is None and region in self._known else seen


_NONE = Seen(0.0)


def held(seen: Seen) -> HeldDemand:
    """What a plan that begins to be limited is made for."""
    rate = seen.requests_per_s
    return HeldDemand(
        inflight=seen.inflight,
        requests_per_s=rate,
        most_per_request_s=SLOWER_MOST * seen.inflight / rate if rate else None,
    )


def unheard(before: HeldDemand, policy: Policy, now: datetime) -> HeldDemand | None:
    """What is held of a region whose edges are silent while others are heard; None when it is dropped."""
    since = before.unheard_since
    if since is None or since > now:
        return before.model_copy(update={"unheard_since": now})
    dropped = (now - since).total_seconds() >= UNHEARD_SETTLES * policy.demand_settle_s
    return None if dropped else before


def revised(
    before: HeldDemand,
    seen: Seen | None,
    *,
    shed_permille: int,
    settled: bool,
    policy: Policy,
    now: datetime,
) -> HeldDemand:
    """What the plan is made for now; the same object when that is unchanged. `shed_permille` is in force,
    `settled` says whether the plan has stood for long enough."""
    if seen is None:
        return before
    if before.unheard_since is not None:
        before = before.model_copy(update={"unheard_since": None})
    rate = seen.requests_per_s
    by_rate = before.inflight * rate / before.requests_per_s if before.requests_per_s else None
    rises, chance = _rises(before, seen, by_rate, shedding=shed_permille > 0, settled=settled)
    if rises > before.inflight * (1 + policy.demand_rise_permille / 1000 + chance) + ONE_REQUEST:
        return before.model_copy(update={"inflight": rises, "requests_per_s": rate})
    if not settled:
        return before
    falls = seen.inflight * 1000 / (1000 - shed_permille) if shed_permille < 1000 else by_rate
    return _fallen(before, before.inflight if falls is None else falls, rate, policy, now)


def _rises(
    before: HeldDemand, seen: Seen, by_rate: float | None, *, shedding: bool, settled: bool
) -> tuple[float, float]:
    """What may be under way now, for a rise; and how much of a rise is chance, as a part.

    Figures of before a change of the plan belong to another plan: until it has settled, both what is
    under way and what is asked must have risen.
    """
    if by_rate is None:
        rises = before.inflight if shedding else seen.inflight
    elif not settled:
        rises = min(seen.inflight, by_rate)
    else:
        rises = by_rate if shedding else seen.inflight
    if before.most_per_request_s is not None:
        rises = min(rises, before.most_per_request_s * seen.requests_per_s)
    counted = (shedding or not settled) and seen.requests
    return rises, SIGMAS / sqrt(seen.requests) if counted else 0.0


def _fallen(before: HeldDemand, falls: float, rate: float, policy: Policy, now: datetime) -> HeldDemand:
    least = before.inflight * (1 - policy.demand_fall_permille / 1000)
    if falls >= least or before.inflight <= ONE_REQUEST:
        return before
    low_s = (now - before.low_since).total_seconds() if before.low_since is not None else -1.0
    if not 0 <= low_s <= 2 * policy.demand_settle_s:
        return before.model_copy(update={"low_since": now})
    if low_s < policy.demand_settle_s:
        return before
    half = before.inflight / 2
    fallen = {"inflight": falls, "requests_per_s": rate}
    if falls < half:
        fallen = {"inflight": half, "requests_per_s": before.requests_per_s / 2}
    return before.model_copy(update={**fallen, "low_since": now})
