"""The metrics that every process has, whatever it is: what runs, since when, and how well its event loop keeps time.

A loop that is late is late with everything: probes, Beats, requests. So its lag is the first thing to look at, and
it is measured where it is felt, by a short sleep.
"""

import asyncio
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from prometheus_client import CollectorRegistry, ProcessCollector, disable_created_metrics
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from shared.clock import Clock

SLEEP_S: Final = 0.25
SECONDS: Final = 15
"""How far back the worst lag is told: a scrape every 15 s misses nothing."""


def new_registry() -> CollectorRegistry:
    """An empty registry. From now on this process leaves out the `_created` series, which would nearly double
    the number of all: Prometheus tells a counter that began anew by its value."""
    disable_created_metrics()  # type: ignore[no-untyped-call]  # the client has left out its annotation
    return CollectorRegistry()


class LoopLag:
    """How late the event loop woke. `run` is its loop."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._worst: deque[float] = deque(maxlen=SECONDS)
        self.tasks = 0
        """Of the loop, as last counted: once a second."""

    @property
    def worst_s(self) -> float:
        """In the last `SECONDS`."""
        return max(self._worst, default=0.0)

    async def run(self) -> None:
        """For ever."""
        while True:
            worst = 0.0
            for _ in range(round(1.0 / SLEEP_S)):
                before = self._clock.monotonic()
                await asyncio.sleep(SLEEP_S)
                worst = max(worst, self._clock.monotonic() - before - SLEEP_S)
            self._worst.append(worst)
            self.tasks = len(asyncio.all_tasks())


class ProcessFigures(Collector):
    """What a scrape sees of the process itself; `restarts` counts by loop, as the supervisor does."""

    def __init__(
        self, *, role: str, node: str, region: str, lag: LoopLag, restarts: Mapping[str, int], clock: Clock
    ) -> None:
        self._about = {"version": installed_version(), "role": role, "node": node, "region": region}
        self._lag = lag
        self._restarts = restarts
        self._clock = clock
        self._began = clock.monotonic()

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        about = GaugeMetricFamily(
            "leeward_build_info", "1; what runs here is in the labels.", labels=list(self._about)
        )
        about.add_metric(list(self._about.values()), 1.0)
        yield about
        yield GaugeMetricFamily(
            "leeward_process_uptime_seconds", "Since it started.", value=self._clock.monotonic() - self._began
        )
        yield GaugeMetricFamily(
            "leeward_process_loop_lag_seconds",
            f"How late the event loop woke, the worst of {SECONDS} s.",
            value=self._lag.worst_s,
        )
        yield GaugeMetricFamily(
            "leeward_process_tasks", "Tasks of the event loop, counted once a second.", value=self._lag.tasks
        )
        restarts = CounterMetricFamily(
            "leeward_process_loop_restarts", "Loops that failed and were started again.", labels=("loop",)
        )
        for loop, count in sorted(self._restarts.items()):
            restarts.add_metric((loop,), count)
        yield restarts


def watch_process(
    registry: CollectorRegistry,
    *,
    role: str,
    node: str,
    region: str,
    restarts: Mapping[str, int],
    clock: Clock,
) -> LoopLag:
    """Register everything about this process, memory and CPU from /proc too; the caller runs what is returned."""
    lag = LoopLag(clock)
    registry.register(
        ProcessFigures(role=role, node=node, region=region, lag=lag, restarts=restarts, clock=clock)
    )
    ProcessCollector(registry=registry)
    return lag


def installed_version() -> str:
    """Of Leeward; `unknown` in a source tree that is not installed."""
    try:
        return version("leeward")
    except PackageNotFoundError:
        return "unknown"
