"""What this edge carries of each route: the demand by which the control plane plans capacity.

In-flight is sampled and not counted at every request: four samples a second, averaged over the window,
are the mean that Little's law speaks of, and cost the path of a request nothing. What is turned away
ends at once and so is missing from in-flight, but not from `requests`.
"""

from collections import deque
from collections.abc import Mapping
from typing import Final, NamedTuple

from shared.vocabulary.health import RouteLoad

SAMPLE_S: Final = 0.25
SAMPLES: Final = 41
"""Ten seconds, and the one under way."""


class Ended(NamedTuple):
    """Requests of one route that have ended since it was first served, or served again."""

    requests: int = 0
    failed: int = 0

    def since(self, before: "Ended") -> "Ended":
        """Those since `before`, nothing where the count began anew in between."""
        return Ended(max(self.requests - before.requests, 0), max(self.failed - before.failed, 0))


_NONE: Final = Ended()


class _Sample(NamedTuple):
    at: float
    inflight: Mapping[str, int]
    ended: Mapping[str, Ended]


class Loads:
    """Mutable; one per edge. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._samples: deque[_Sample] = deque(maxlen=SAMPLES)

    def due(self, now: float) -> bool:
        """Whether the next sample is to be taken."""
        return not self._samples or now - self._samples[-1].at >= SAMPLE_S

    def sample(self, inflight: Mapping[str, int], ended: Mapping[str, Ended], now: float) -> None:
        """Take in how many requests of each route are under way now, and have ended so far."""
        self._samples.append(_Sample(now, inflight, ended))

    def read(self, now: float, window_s: float) -> tuple[RouteLoad, ...]:
        """The routes with traffic in the last `window_s`, in the order of their names."""
        window = [sample for sample in self._samples if sample.at >= now - window_s]
        if not window:
            return ()
        first, last = window[0].ended, window[-1].ended
        routes = {route for sample in window for route in sample.inflight}
        ended = {route: count.since(first.get(route, _NONE)) for route, count in last.items()}
        routes |= {route for route, count in ended.items() if count != _NONE}
        return tuple(
            RouteLoad(
                route=route,
                inflight=round(sum(sample.inflight.get(route, 0) for sample in window) / len(window), 3),
                requests=ended.get(route, _NONE).requests,
                failed=ended.get(route, _NONE).failed,
                window_s=window_s,
            )
            for route in sorted(routes)
        )
