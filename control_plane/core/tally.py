"""Tally: the fleet at a glance, counted from what the conclusions already sum."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final

from control_plane.core.fold import Source
from shared.vocabulary.decision import Reason
from shared.vocabulary.terms import Outcome
from shared.vocabulary.view import HealthSummary, PassiveSummary, RouteSummary, RouteTraffic

HOUR_S: Final = 3_600.0


def removals(log: Iterable[tuple[datetime, Sequence[Reason]]], now: datetime) -> int:
    """Targets that health took out within the hour before `now`; `log` is the timeline, oldest first.

    Out of all routes or of the traffic of one region, at once or in the steps of soft evidence: it counts
    once until the target is back. A commit logs 50 reasons at most, so of a greater failure not all count.
    """
    out: set[str] = set()
    found = 0
    for at, reasons in log:
        for reason in reasons:
            if reason.target is None:
                continue
            if reason.code in ("TARGET_UP", "RAMP_STEP"):
                out.discard(reason.target)
            elif reason.code == "TARGET_DOWN" and reason.target not in out:
                out.add(reason.target)
                found += (now - at).total_seconds() <= HOUR_S
    return found


def loads_of(sources: Iterable[Source], *, timeout_s: float, monotonic: float) -> tuple[RouteTraffic, ...]:
    """What the edges among the fresh `sources` carry, per route and region, in that order of names."""
    sums: dict[tuple[str, str], tuple[float, int, int, float]] = {}
    for source in sources:
        for route, word in source.loads.items():
            load = word.load
            if monotonic > word.named_at + max(load.window_s, timeout_s):
                continue
            inflight, requests, failed, window_s = sums.get((route, source.vantage), (0.0, 0, 0, 0.0))
            sums[route, source.vantage] = (
                inflight + load.inflight,
                requests + load.requests,
                failed + min(load.failed, load.requests),
                max(window_s, load.window_s),
            )
    return tuple(
        RouteTraffic(
            route=route,
            region=region,
            inflight=round(inflight, 3),
            requests=requests,
            failed=failed,
            window_s=window_s,
        )
        for (route, region), (inflight, requests, failed, window_s) in sorted(sums.items())
    )


def summary(
    passive: Iterable[Sequence[PassiveSummary]],
    loads: Sequence[RouteTraffic],
    *,
    failovers_last_hour: int,
    silent: Sequence[str],
) -> HealthSummary:
    """The whole, from the targets' sums of live traffic, the routes' and what others have counted."""
    attempts = good = 0
    total_ms = 0.0
    for of_target in passive:
        for each in of_target:
            answers = each.counts.get(Outcome.OK, 0) + each.counts.get(Outcome.SLOW, 0)
            attempts += each.attempts
            good += answers
            total_ms += answers * each.latency_ms_mean
    return HealthSummary(
        failovers_last_hour=failovers_last_hour,
        attempts=attempts,
        success_permille=good * 1000 // attempts if attempts else None,
        response_ms_mean=round(total_ms / good, 1) if good else None,
        routes=_routes(loads),
        silent=tuple(silent),
    )


def _routes(loads: Sequence[RouteTraffic]) -> tuple[RouteSummary, ...]:
    by_route: dict[str, list[RouteTraffic]] = {}
    for load in loads:
        by_route.setdefault(load.route, []).append(load)
    found = []
    for route, parts in by_route.items():
        requests = sum(part.requests for part in parts)
        failed = sum(part.failed for part in parts)
        found.append(
            RouteSummary(
                route=route,
                requests=requests,
                success_permille=(requests - failed) * 1000 // requests if requests else None,
                inflight=round(sum(part.inflight for part in parts), 3),
            )
        )
    return tuple(found)
