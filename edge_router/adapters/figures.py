"""The edge's metrics: plain integers on the request path, read by Prometheus when it asks.

A prometheus_client counter costs 0.9 us a step for its lock and its labels; this loop has one thread and knows
its labels, so a dict entry does, and a collector turns them into samples at scrape time.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from edge_router.core.admission import State
from edge_router.core.loads import Ended
from shared.vocabulary.terms import EdgeMode, Outcome

if TYPE_CHECKING:
    from edge_router.adapters.gateway import Gateway

BUCKETS_S: Final = (
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
    60.0,
    300.0,
)


class _RouteFigures:
    __slots__ = ("buckets", "moves", "statuses", "sum_s")

    def __init__(self) -> None:
        self.statuses: dict[int, int] = {}
        self.buckets = [0] * (len(BUCKETS_S) + 1)
        self.sum_s = 0.0
        self.moves = 0


class Figures:
    """Counts by route, and those that have none."""

    __slots__ = ("_broken", "_refused", "_routes", "budget_spent")

    def __init__(self) -> None:
        self._routes: dict[str, _RouteFigures] = {}
        self._refused: dict[str, int] = {}
        self._broken: dict[str, int] = {}
        self.budget_spent = 0
        """Times a request could not move on because the budget was spent."""

    def answered(self, route: str, status: int, seconds: float, code: str = "") -> None:
        """A request has its answer; `code` when the edge itself gave it."""
        figures = self._routes.get(route)
        if figures is None:
            figures = self._routes[route] = _RouteFigures()
        statuses = figures.statuses
        statuses[status] = statuses.get(status, 0) + 1
        figures.buckets[bisect_left(BUCKETS_S, seconds)] += 1
        figures.sum_s += seconds
        if code:
            self.refused(code)

    def moved(self, route: str) -> None:
        """A request moves on to another target."""
        figures = self._routes.get(route)
        if figures is None:
            figures = self._routes[route] = _RouteFigures()
        figures.moves += 1

    def refused(self, code: str) -> None:
        """The edge answered in a target's place."""
        self._refused[code] = self._refused.get(code, 0) + 1

    def broke_off(self, error: str) -> None:
        """An answer that had begun could not be completed."""
        self._broken[error] = self._broken.get(error, 0) + 1

    def ended(self) -> dict[str, Ended]:
        """Requests of each route that have had their answer; failed is any of 5xx."""
        return {
            route: Ended(
                sum(figures.statuses.values()),
                sum(count for status, count in figures.statuses.items() if status >= 500),
            )
            for route, figures in self._routes.items()
        }

    def metrics(self) -> Iterator[Metric]:
        """For Prometheus."""
        requests = CounterMetricFamily(
            "leeward_edge_requests",
            "Requests that had an answer, by status class.",
            labels=("route", "status"),
        )
        seconds = HistogramMetricFamily(
            "leeward_edge_request_seconds", "From the request's last byte to the answer's.", labels=("route",)
        )
        moves = CounterMetricFamily(
            "leeward_edge_failovers", "Times a request moved on to another target.", labels=("route",)
        )
        for route, figures in self._routes.items():
            for status_class, count in sorted(_by_class(figures.statuses).items()):
                requests.add_metric((route, status_class), count)
            buckets, total = [], 0
            for bound, count in zip((*BUCKETS_S, float("inf")), figures.buckets, strict=True):
                total += count
                buckets.append(("+Inf" if bound == float("inf") else repr(bound), total))
            seconds.add_metric((route,), buckets, figures.sum_s)
            moves.add_metric((route,), figures.moves)
        yield requests
        yield seconds
        yield moves
        yield _counter("leeward_edge_refused", "Answers given by the edge itself.", "reason", self._refused)
        yield _counter(
            "leeward_edge_broken_answers", "Answers broken off after they had begun.", "error", self._broken
        )
        yield CounterMetricFamily(
            "leeward_edge_budget_spent",
            "Moves refused because the retry budget was spent.",
            value=self.budget_spent,
        )


class EdgeCollector(Collector):
    """What a scrape sees."""

    def __init__(self, gateway: "Gateway") -> None:
        self._gateway = gateway

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        gateway = self._gateway
        yield from gateway.figures.metrics()
        attempts = CounterMetricFamily(
            "leeward_edge_attempts", "Attempts at targets, by outcome.", labels=("target", "outcome")
        )
        billed = CounterMetricFamily(
            "leeward_edge_possibly_billed",
            "Attempts that were sent, and whose answer nobody got.",
            labels=("target",),
        )
        inflight = GaugeMetricFamily("leeward_edge_inflight", "Requests at a target.", labels=("target",))
        admission = GaugeMetricFamily(
            "leeward_edge_admission", "1 for the state a target is in.", labels=("target", "state")
        )
        for lane in gateway.lanes():
            target = lane.entry.id
            for outcome, count in {Outcome.OK: lane.answers, **lane.totals}.items():
                attempts.add_metric((target, outcome.value), count)
            billed.add_metric((target,), lane.possibly_billed)
            inflight.add_metric((target,), lane.inflight)
            for state in State:
                admission.add_metric((target, state.value), float(lane.admission.state is state))
        yield attempts
        yield billed
        yield inflight
        yield admission
        yield GaugeMetricFamily(
            "leeward_edge_connections", "Connections of clients.", value=len(gateway.clients)
        )
        yield GaugeMetricFamily("leeward_edge_active", "Requests under way.", value=len(gateway.exchanges))
        yield GaugeMetricFamily(
            "leeward_edge_upstream_connections", "Connections to targets.", value=gateway.upstream_connections
        )
        mode = GaugeMetricFamily("leeward_edge_mode", "1 for the mode the edge is in.", labels=("mode",))
        for candidate in EdgeMode:
            mode.add_metric((candidate.value,), float(gateway.mode is candidate))
        yield mode


def _by_class(statuses: dict[int, int]) -> dict[str, int]:
    classes: dict[str, int] = {}
    for status, count in statuses.items():
        name = f"{status // 100}xx"
        classes[name] = classes.get(name, 0) + count
    return classes


def _counter(name: str, text: str, label: str, counts: dict[str, int]) -> CounterMetricFamily:
    family = CounterMetricFamily(name, text, labels=(label,))
    for value, count in counts.items():
        family.add_metric((value,), count)
    return family
