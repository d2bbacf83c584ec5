"""Real traffic instead of a drill's own: nothing is sent, what edges report is taken for samples.

Edges report sums over a sliding window, so a reading is taken once in each window. Streams and degraded
answers are not told apart in it, and a latency is the mean of a target's answers.
"""

import asyncio

from ops.drill.sight import Sight
from ops.drill.tally import Sample, Tallies
from shared.clock import Clock
from shared.vocabulary.view import HealthView, RouteTraffic

POLL_S = 0.25


class Traffic:
    """Readings of `sight`'s view, until the supervisor stops."""

    def __init__(self, sight: Sight, *, clock: Clock) -> None:
        self.tallies = Tallies()
        self._sight = sight
        self._clock = clock
        self.window_s = 0.0
        """The longest that a reading sums up."""
        self._read_at: dict[tuple[str, str], float] = {}

    async def run(self) -> None:
        """Read until cancelled."""
        while True:
            view = self._sight.view
            if self._sight.reached and view is not None:
                self.read(view, self._clock.monotonic())
            await asyncio.sleep(POLL_S)

    def read(self, view: HealthView, now: float) -> None:
        """Count what has ended since the last reading."""
        latency = _latency_by_region(view)
        for load in view.loads:
            key = (load.route, load.region)
            self.window_s = max(self.window_s, load.window_s)
            if now - self._read_at.setdefault(key, now) < load.window_s:
                continue
            self._read_at[key] = now
            for ok, requests in ((True, load.requests - load.failed), (False, load.failed)):
                if requests > 0:
                    self.tallies.add(self._sample(load, now, ok, requests, latency.get(load.region, 0.0)))

    @staticmethod
    def _sample(load: RouteTraffic, now: float, ok: bool, requests: int, latency_ms: float) -> Sample:
        return Sample(
            at=now - load.window_s / 2,
            edge=f"edges of {load.region}",
            client=load.region,
            latency_ms=latency_ms,
            ok=ok,
            detail="" if ok else f"{requests} of {load.requests} requests of route {load.route}",
            requests=requests,
        )


def _latency_by_region(view: HealthView) -> dict[str, float]:
    """Mean over the answers that each client region's edges report."""
    sums: dict[str, tuple[float, int]] = {}
    for target in view.targets:
        for seen in target.passive:
            answers = sum(count for outcome, count in seen.counts.items() if outcome in ("OK", "SLOW"))
            ms, number = sums.get(seen.region, (0.0, 0))
            sums[seen.region] = (ms + seen.latency_ms_mean * answers, number + answers)
    return {region: ms / number for region, (ms, number) in sums.items() if number}
