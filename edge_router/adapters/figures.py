"""The edge's metrics: plain integers on the request path, read by Prometheus when it asks.

A prometheus_client counter costs 0.9 us a step for its lock and its labels; this loop has one thread and knows
its labels, so a dict entry does, and a collector turns them into samples at scrape time.
"""

from bisect import bisect_left
from collections.abc import Container, Iterable, Iterator
from typing import TYPE_CHECKING, Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from edge_router.core.admission import State
from edge_router.core.loads import Ended
from edge_router.core.tenants import OTHER, TURN_S, Busiest
from edge_router.core.tokens import Tokens
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


BROKEN: Final = 1
"""In the place of a status: the answer had begun well and could not be completed."""
DEGRADED: Final = 2
"""In the place of a status: the answer was stored, ruled or static, not a target's."""
TASK_RESULTS: Final = ("served", "degraded", "failed", "refused", "abandoned")
_ABANDONED: Final = 499


class _Spread:
    """A histogram."""

    __slots__ = ("buckets", "sum_s")

    def __init__(self) -> None:
        self.buckets = [0] * (len(BUCKETS_S) + 1)
        self.sum_s = 0.0

    def add(self, seconds: float) -> None:
        self.buckets[bisect_left(BUCKETS_S, seconds)] += 1
        self.sum_s += seconds

    def samples(self) -> list[tuple[str, float]]:
        """Cumulative, as Prometheus wants them."""
        buckets, total = [], 0
        for bound, count in zip((*BUCKETS_S, float("inf")), self.buckets, strict=True):
            total += count
            buckets.append(("+Inf" if bound == float("inf") else repr(bound), float(total)))
        return buckets


class _RouteFigures:
    __slots__ = (
        "broken",
        "degraded",
        "first_bytes",
        "moves",
        "seconds",
        "statuses",
        "tenants",
        "tokens_read",
        "tokens_written",
    )

    def __init__(self) -> None:
        self.statuses: dict[int, int] = {}
        self.seconds = _Spread()
        self.first_bytes = _Spread()
        self.moves = 0
        self.broken = 0
        self.degraded = 0
        self.tenants: dict[str, dict[int, int]] = {OTHER: {}}
        """By status, BROKEN or DEGRADED."""
        self.tokens_read = self.tokens_written = 0


class Figures:
    """Counts by route, by tenant, and those that have neither. `answered`, `first_byte` and `used` are on the
    path of a request."""

    __slots__ = (
        "_broken",
        "_busiest",
        "_recoveries",
        "_refused",
        "_routes",
        "_streams",
        "_turn_at",
        "budget_spent",
    )

    def __init__(self) -> None:
        self._routes: dict[str, _RouteFigures] = {}
        self._refused: dict[str, int] = {}
        self._broken: dict[str, int] = {}
        self._streams: dict[str, int] = dict.fromkeys(("complete", "broken", "abandoned"), 0)
        self._recoveries: dict[tuple[str, str], int] = {}
        self._busiest = Busiest()
        self._turn_at = 0.0
        self.budget_spent = 0
        """Times a request could not move on because the budget was spent."""

    # ------------------------------------------------------------ counting

    def answered(
        self,
        route: str,
        status: int,
        seconds: float,
        code: str = "",
        *,
        tenant: str = OTHER,
        instead: int = 0,
    ) -> None:
        """A request has its answer; `code` when the edge itself gave it. `instead`: BROKEN or DEGRADED, where
        the status says too much."""
        figures = self._routes.get(route) or self._route(route)
        statuses = figures.statuses
        statuses[status] = statuses.get(status, 0) + 1
        spread = figures.seconds
        spread.buckets[bisect_left(BUCKETS_S, seconds)] += 1
        spread.sum_s += seconds
        counts = figures.tenants.get(tenant)
        if counts is None:
            counts = self._counts(figures, tenant)
        result = instead or status
        counts[result] = counts.get(result, 0) + 1
        if instead == BROKEN:
            figures.broken += 1
        elif instead == DEGRADED:
            figures.degraded += 1
        if code:
            self.refused(code)

    def first_byte(self, route: str, seconds: float) -> None:
        """Something of a streamed answer goes to the client."""
        (self._routes.get(route) or self._route(route)).first_bytes.add(seconds)

    def used(self, route: str, tokens: Tokens) -> None:
        """Tokens, as the answer told them."""
        figures = self._routes.get(route) or self._route(route)
        figures.tokens_read += tokens.read
        figures.tokens_written += tokens.written

    def moved(self, route: str) -> None:
        """A request moves on to another target."""
        (self._routes.get(route) or self._route(route)).moves += 1

    def refused(self, code: str) -> None:
        """The edge answered in a target's place."""
        self._refused[code] = self._refused.get(code, 0) + 1

    def broke_off(self, error: str) -> None:
        """An answer that had begun could not be completed."""
        self._broken[error] = self._broken.get(error, 0) + 1

    def stream_ended(self, end: str) -> None:
        """A stream that had begun: complete, broken, or abandoned by its client."""
        self._streams[end] += 1

    def recovered(self, how: str, result: str) -> None:
        """A broken stream of a route that resumes them: what was tried, and what came of it."""
        key = (how, result)
        self._recoveries[key] = self._recoveries.get(key, 0) + 1

    def _route(self, route: str) -> _RouteFigures:
        figures = self._routes[route] = _RouteFigures()
        return figures

    def _counts(self, figures: _RouteFigures, tenant: str) -> dict[int, int]:
        if not self._busiest.takes(tenant):
            return figures.tenants[OTHER]
        counts: dict[int, int] = {}
        figures.tenants[tenant] = counts
        return counts

    # ------------------------------------------------------------ now and then

    def turn(self, now: float) -> None:
        """Let tenants that have become busier be counted by name; to be called every second or so."""
        if now - self._turn_at < TURN_S:
            return
        self._turn_at = now
        totals: dict[str, int] = {}
        for figures in self._routes.values():
            for tenant, counts in figures.tenants.items():
                totals[tenant] = totals.get(tenant, 0) + sum(counts.values())
        for tenant in self._busiest.turn(totals):
            # Its counts go with it: moved among the others, they would look like a burst of theirs.
            for figures in self._routes.values():
                figures.tenants.pop(tenant, None)

    def keep(self, routes: Container[str]) -> None:
        """Forget routes that are gone."""
        for route in [route for route in self._routes if route not in routes]:
            del self._routes[route]

    def ended(self) -> dict[str, Ended]:
        """Requests of each route that have had their answer; failed is any of 5xx, broken off, or degraded."""
        return {
            route: Ended(
                sum(figures.statuses.values()),
                sum(count for status, count in figures.statuses.items() if status >= 500)
                + figures.broken
                + figures.degraded,
            )
            for route, figures in self._routes.items()
        }

    # ------------------------------------------------------------ for Prometheus

    def metrics(self) -> Iterator[Metric]:
        """Everything counted here."""
        yield from self._by_route()
        tasks = CounterMetricFamily(
            "leeward_edge_tasks",
            "Requests by what their client got: served, degraded, failed, refused (its own fault), abandoned.",
            labels=("route", "tenant", "result"),
        )
        for route, figures in self._routes.items():
            for tenant, counts in figures.tenants.items():
                if counts:
                    for result, count in _by_result(counts).items():
                        tasks.add_metric((route, tenant, result), count)
        yield tasks
        yield _counter("leeward_edge_refused", "Answers given by the edge itself.", "reason", self._refused)
        yield _counter(
            "leeward_edge_broken_answers", "Answers broken off after they had begun.", "error", self._broken
        )
        yield _counter(
            "leeward_edge_stream_ends", "Streams that had begun, by how they ended.", "end", self._streams
        )
        recoveries = CounterMetricFamily(
            "leeward_edge_stream_recoveries",
            "Attempts to resume broken streams: how (none: no target was asked), and what came of it.",
            labels=("how", "result"),
        )
        for key, count in self._recoveries.items():
            recoveries.add_metric(key, count)
        yield recoveries
        yield CounterMetricFamily(
            "leeward_edge_budget_spent",
            "Moves refused because the retry budget was spent.",
            value=self.budget_spent,
        )

    def _by_route(self) -> Iterator[Metric]:
        requests = CounterMetricFamily(
            "leeward_edge_requests",
            "Requests that had an answer, by status class.",
            labels=("route", "status"),
        )
        seconds = HistogramMetricFamily(
            "leeward_edge_request_seconds", "From the request's last byte to the answer's.", labels=("route",)
        )
        first = HistogramMetricFamily(
            "leeward_edge_ttft_seconds",
            "From the request's last byte to the first of a streamed answer.",
            labels=("route",),
        )
        moves = CounterMetricFamily(
            "leeward_edge_failovers", "Times a request moved on to another target.", labels=("route",)
        )
        tokens = CounterMetricFamily(
            "leeward_edge_tokens", "Tokens, where answers told them.", labels=("route", "direction")
        )
        for route, figures in self._routes.items():
            for status_class, count in sorted(_by_class(figures.statuses).items()):
                requests.add_metric((route, status_class), count)
            seconds.add_metric((route,), figures.seconds.samples(), figures.seconds.sum_s)
            first.add_metric((route,), figures.first_bytes.samples(), figures.first_bytes.sum_s)
            moves.add_metric((route,), figures.moves)
            tokens.add_metric((route, "read"), figures.tokens_read)
            tokens.add_metric((route, "written"), figures.tokens_written)
        yield from (requests, seconds, first, moves, tokens)


class EdgeCollector(Collector):
    """What a scrape sees."""

    def __init__(self, gateway: "Gateway") -> None:
        self._gateway = gateway

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        gateway = self._gateway
        yield from gateway.figures.metrics()
        yield from gateway.rungs.metrics()
        yield from self._by_target()
        if gateway.fault_filter is not None:
            yield _counter(
                "leeward_edge_fault_filter_attempts",
                "Attempts that a drill's fault has struck, by fault.",
                "fault",
                gateway.fault_filter.struck,
            )
            yield GaugeMetricFamily(
                "leeward_edge_fault_filter_faults",
                "Faults that drills have put in force.",
                value=len(gateway.fault_filter.shown(gateway.monotonic())),
            )
        yield GaugeMetricFamily(
            "leeward_edge_connections", "Connections of clients.", value=len(gateway.clients)
        )
        yield GaugeMetricFamily("leeward_edge_active", "Requests under way.", value=len(gateway.exchanges))
        yield GaugeMetricFamily(
            "leeward_edge_retry_budget_used",
            "Requests under way that have moved on beyond their free move.",
            value=gateway.extra_active,
        )
        yield GaugeMetricFamily(
            "leeward_edge_reserved_bytes",
            "Bytes of request bodies under way, and of answers that are held.",
            value=gateway.reserved_bytes,
        )
        yield GaugeMetricFamily(
            "leeward_edge_upstream_connections", "Connections to targets.", value=gateway.upstream_connections
        )
        mode = GaugeMetricFamily("leeward_edge_mode", "1 for the mode the edge is in.", labels=("mode",))
        for candidate in EdgeMode:
            mode.add_metric((candidate.value,), float(gateway.mode is candidate))
        yield mode

    def _by_target(self) -> Iterator[Metric]:
        gateway = self._gateway
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
        cooling = GaugeMetricFamily(
            "leeward_edge_cooling_seconds",
            "How much longer a target is spared, of those that are.",
            labels=("target",),
        )
        exhausted = GaugeMetricFamily(
            "leeward_edge_quota_exhausted",
            "1 for a target that is spared because its account's quota is used up.",
            labels=("target",),
        )
        now = gateway.monotonic()
        for lane in gateway.lanes():
            target = lane.entry.id
            if now < lane.spared.until:
                cooling.add_metric((target,), lane.spared.until - now)
            if now < lane.spared.exhausted_until:
                exhausted.add_metric((target,), 1.0)
            for outcome, count in {Outcome.OK: lane.answers, **lane.totals}.items():
                attempts.add_metric((target, outcome.value), count)
            billed.add_metric((target,), lane.possibly_billed)
            inflight.add_metric((target,), lane.inflight)
            for state in State:
                admission.add_metric((target, state.value), float(lane.admission.state is state))
        yield from (attempts, billed, inflight, admission, cooling, exhausted)


def _by_class(statuses: dict[int, int]) -> dict[str, int]:
    classes: dict[str, int] = {}
    for status, count in statuses.items():
        name = f"{status // 100}xx"
        classes[name] = classes.get(name, 0) + count
    return classes


def _by_result(counts: dict[int, int]) -> dict[str, int]:
    results = dict.fromkeys(TASK_RESULTS, 0)
    for status, count in counts.items():
        results[_result(status)] += count
    return results


def _result(status: int) -> str:
    if status == DEGRADED:
        return "degraded"
    if status == BROKEN or status >= 500:
        return "failed"
    if status == _ABANDONED:
        return "abandoned"
    return "refused" if status >= 400 else "served"


def _counter(name: str, text: str, label: str, counts: dict[str, int]) -> CounterMetricFamily:
    family = CounterMetricFamily(name, text, labels=(label,))
    for value, count in counts.items():
        family.add_metric((value,), count)
    return family
