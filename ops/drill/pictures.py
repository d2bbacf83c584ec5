"""What the plots of a drill's report show: success, requests and latency second by second, and who served
whom. From the record to `plots.Plot`; draws nothing.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from ops.drill.plots import COLOURS, Limit, Mark, Plot, Series
from ops.drill.record import DrillRecordData, Second
from shared.vocabulary.status import DrillReport

MAX_STEPS = 150
"""Moments of one plot: a longer drill is drawn coarser."""
MAX_VALUES = 2_600
"""Of all plots together, so that a page stays small."""
MAX_CLIENTS = 6
"""Client regions with a plot of their own: those with most requests."""
OTHERS = "other regions"


@dataclass(frozen=True, slots=True)
class Pictures:
    """The plots of one page."""

    success: Plot
    requests: Plot
    latency: Plot
    traffic: tuple[Plot, ...]
    """One per client region."""
    clients_left_out: int
    marks: tuple[Mark, ...]
    """What the letters on all of them mean."""


def pictures(report: DrillReport, record: DrillRecordData) -> Pictures | None:
    """The plots of a drill; None when it measured nothing."""
    if not record.seconds:
        return None
    clients = _clients(record.seconds)
    drawn = clients[:MAX_CLIENTS]
    values_a_step = 9 + len(drawn) * (min(COLOURS, _serving(record.seconds)) + 2)
    seconds, step_s = _steps(record.seconds, min(MAX_STEPS, MAX_VALUES // values_a_step))
    at_s = [second.at_s for second in seconds]
    marks = _marks(report, record)
    # Held by a drill that never came to its end: until that end.
    fault = (
        (0.0, record.held_s if record.held_s is not None else record.ended_s) if record.injected_at else None
    )

    def plot(title: str, unit: str, series: Sequence[Series], **more: object) -> Plot:
        return Plot(title, unit, at_s, step_s, series, fault=fault, marks=marks, **more)  # type: ignore[arg-type]

    lowest = record.spec.guard.min_success_permille / 10
    good = [_good_percent(second) for second in seconds]
    pace = f"{step_s:g} s together" if step_s > 1 else "Second by second"
    limit_ms = record.spec.guard.max_latency_ms_p99
    return Pictures(
        success=plot(
            "Success rate",
            "% of requests",
            [Series("answered well", good)],
            limits=[Limit(lowest, f"guard rail {lowest:g} %")],
            floor=_floor([lowest, *(value for value in good if value is not None)]),
            ceiling=100.0,
            note=f"{pace}, by when a request left; a degraded answer counts as failed. "
            "The guard rail judges the drill as a whole.",
        ),
        requests=plot(
            "Requests",
            "per second",
            [
                Series("answered well", [second.ok / step_s for second in seconds]),
                Series("degraded", [second.degraded / step_s for second in seconds], ink=5),
                Series("failed", [second.failed / step_s for second in seconds], ink=1),
            ],
        ),
        latency=plot(
            "Latency of what was answered well",
            "ms",
            [
                Series("half are faster than (p50)", [second.latency_ms_p50 for second in seconds]),
                Series("99 % are faster than (p99)", [second.latency_ms_p99 for second in seconds]),
            ],
            limits=[] if limit_ms is None else [Limit(limit_ms, f"guard rail {limit_ms:g} ms")],
        ),
        traffic=tuple(
            plot(f"Clients in {client}, by the region that answered", "requests per second", series)
            for client, series in _traffic(seconds, drawn, record.regions, step_s)
        ),
        clients_left_out=len(clients) - len(drawn),
        marks=marks,
    )


def _steps(seconds: Sequence[Second], at_most: int) -> tuple[list[Second], float]:
    """One after another without gaps, and how long each is: seconds, or as many as needed together."""
    known = {round(second.at_s): second for second in seconds}
    first, last = min(known), max(known)
    by = -(-(last - first + 1) // at_most)
    return [
        _together(start, [known[at] for at in range(start, start + by) if at in known])
        for start in range(first, last + 1, by)
    ], float(by)


def _together(start: int, seconds: Sequence[Second]) -> Second:
    """Counts are added; of latencies p50 is the mean and p99 the worst, as they cannot be added."""
    middles = [second.latency_ms_p50 for second in seconds if second.latency_ms_p50 is not None]
    served: dict[str, Counter[str]] = {}
    for second in seconds:
        for client, by_serving in second.served.items():
            served.setdefault(client, Counter()).update(by_serving)
    return Second(
        at_s=start,
        ok=sum(second.ok for second in seconds),
        failed=sum(second.failed for second in seconds),
        degraded=sum(second.degraded for second in seconds),
        latency_ms_p50=sum(middles) / len(middles) if middles else None,
        latency_ms_p99=max(
            (second.latency_ms_p99 for second in seconds if second.latency_ms_p99 is not None), default=None
        ),
        served=served,
    )


def _clients(seconds: Sequence[Second]) -> list[str]:
    """Those with most requests first."""
    asked: Counter[str] = Counter()
    for second in seconds:
        for client, by_serving in second.served.items():
            asked[client] += sum(by_serving.values())
    return [client for client, _ in sorted(asked.items(), key=lambda one: (-one[1], one[0]))]


def _serving(seconds: Sequence[Second]) -> int:
    """How many regions answered anything."""
    return len({region for second in seconds for each in second.served.values() for region in each})


def _traffic(
    seconds: Sequence[Second], clients: Sequence[str], regions: Sequence[str], step_s: float
) -> list[tuple[str, list[Series]]]:
    """Per client region the same series in the same order, so that a colour means one region throughout."""
    total: Counter[str] = Counter()
    for second in seconds:
        for by_serving in second.served.values():
            total.update(by_serving)
    named = sorted(total, key=lambda region: (-total[region], region))[: COLOURS - 1]
    order = {region: place for place, region in enumerate(regions)}
    named.sort(key=lambda region: (order.get(region, len(order)), region))
    others = len(total) > len(named)

    def one(client: str) -> list[Series]:
        served = [second.served.get(client, {}) for second in seconds]
        series = [Series(region, [each.get(region, 0) / step_s for each in served]) for region in named]
        if others:
            rest = [sum(n for region, n in each.items() if region not in named) / step_s for each in served]
            series.append(Series(OTHERS, rest))
        return series

    return [(client, one(client)) for client in sorted(clients, key=lambda name: (order.get(name, 0), name))]


def _marks(report: DrillReport, record: DrillRecordData) -> tuple[Mark, ...]:
    """The moments by which a drill is measured, as far as they came."""
    found = [
        Mark(after_ms / 1000, name)
        for name, after_ms in (
            ("detected", report.detect_ms),
            ("decided", report.decide_ms),
            ("applied by all edges concerned", report.apply_ms),
        )
        if after_ms is not None
    ]
    if record.held_s is not None and report.recovered_ms is not None:
        found.append(Mark(record.held_s + report.recovered_ms / 1000, "recovered"))
    return tuple(found)


def _good_percent(second: Second) -> float | None:
    asked = second.ok + second.failed + second.degraded
    return 100.0 * second.ok / asked if asked else None


def _floor(values: Sequence[float]) -> float:
    """A round value below all of them, 90 at most: a dip of one per cent is to be seen."""
    return max(0.0, min(90.0, (min(values) - 1) // 10 * 10))
