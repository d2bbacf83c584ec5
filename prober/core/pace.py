"""How soon a target is asked again: sooner while it is in doubt, later when it has long been well.

    in doubt   An outcome spoke against the state: a bad one of a target that was not DOWN, a good one of
               one that was. That probe and the WATCHED after it are followed by the next within
               `min_interval_s`; then each wait is EASING times the last, until it is `interval_s`
               again. So the doubt is over soon, and a target that stays DOWN costs no more than any.
    not known  A first run of good outcomes goes on at `min_interval_s`: somebody waits for the verdict.
    well       After STABLE_PROBES outcomes OK in a row, and as many as STABLE_S of `interval_s` hold, each
               wait is SLOWING times the last, up to `max_interval_s`. SLOW ends that at once.
    throttled  `interval_s`: whoever says that it is at its limit is not asked more.

Probes are counted, and not the time that they took: a clock that steps changes no pace. Without
`min_interval_s` and `max_interval_s` the pace is `interval_s`, always.

The ceiling on cost stands above all of it (`cost.carried_s`): what it carries beyond the configured
pace may be spent on doubt at once, and where it does not carry even that, probes are spread evenly over
the hour. They would otherwise all be sent at its beginning, and its rest be blindness.
"""

import math
from typing import Final

from prober.core.counters import Track
from shared.vocabulary.monitor import Monitor
from shared.vocabulary.terms import Outcome

WATCHED: Final = 10
"""Probes at the pace of doubt after the last that was surprising: enough for the counters to be filled
several times over, few enough that after a minute of 5 s probes a dead target is left in peace."""
EASING: Final = 1.5
STABLE_PROBES: Final = 20
STABLE_S: Final = 600.0
SLOWING: Final = 1.1
"""Gently: the gap in which a fault goes unnoticed grows by a tenth of itself at a time."""
MANY: Final = 300
"""Exponents end here, far beyond any bound (1.1 ** 300 is 2.6e12) and far below what overflows."""
LONGEST_S: Final = 86_400.0
"""As `ProbeState.interval_s` allows."""


def wanted_s(track: Track, monitor: Monitor) -> float:
    """The wait that the evidence asks for, in seconds; between `min_interval_s` and `max_interval_s`."""
    usual = monitor.interval_s
    hurried = monitor.min_interval_s or usual
    if track.last is None or track.last.outcome is Outcome.THROTTLED:
        return usual
    if track.state == "UNKNOWN" and track.last.outcome.good:
        return hurried
    if track.since_doubt is not None:
        eased = hurried * _grown(EASING, track.since_doubt - WATCHED)
        if eased < usual:
            return eased
    if track.state == "UP":
        return min(
            monitor.max_interval_s or usual, usual * _grown(SLOWING, track.fine - stable_after(monitor))
        )
    return usual


def stable_after(monitor: Monitor) -> int:
    """How many outcomes OK in a row make a target one that has long been well."""
    return max(STABLE_PROBES, math.ceil(STABLE_S / monitor.interval_s))


def paced_s(wanted_s: float, carried_s: float, monitor: Monitor) -> float:
    """The wait, in seconds: `wanted_s` while the ceiling carries the configured pace beside it, else not
    less than `carried_s`, the shortest even wait that it does carry."""
    if carried_s <= monitor.interval_s:
        return wanted_s
    return min(max(wanted_s, carried_s), LONGEST_S)


def _grown(factor: float, times: int) -> float:
    return factor ** min(max(times, 0), MANY)
