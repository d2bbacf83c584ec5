"""One edge's figures from the parts of its workers: what an edge in one process would have told.

counts      are summed, bins too, and quantiles are read from the sums: quantiles cannot be averaged. The slots
            that bins come from begin at the same moments in all workers, by the machine's monotonic clock.
a run of    counts on only while nobody has had a good answer since: a worker whose last broken attempt is older
failures    than another's last answer adds nothing to it (to the slot, a quarter of a second).
admission   Each worker ejects for itself. The edge as a whole has given a target up when some worker has and no
            other has had an answer since.
the last    `judged` and `garbled` are sums: each worker looks at its share of the edge's last answers.
hundred
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Literal, get_args

import msgspec

from edge_router.core.window import Bins
from shared.vocabulary.health import PassiveWindow, RouteLoad

AdmissionName = Literal["ADMITTING", "PROBATION", "EJECTED"]
_WORSE: Final = {name: badness for badness, name in enumerate(get_args(AdmissionName))}


class TargetPart(msgspec.Struct, array_like=True):
    """What one worker saw of one target in the window. Times are monotonic seconds."""

    target: str
    window_s: float
    bins: Bins
    inflight: int
    admission: AdmissionName
    broken_run: int
    cool_until: float
    exhausted_until: float
    """Until when its account counts as having no quota left."""
    judged: int
    garbled: int


def merged(parts: Sequence[TargetPart], now: float) -> PassiveWindow:
    """What all of them saw of their one target; `parts` is not empty."""
    bins = Bins()
    for part in parts:
        bins.add(part.bins)
    reading = bins.read(now)
    return PassiveWindow(
        target=parts[0].target,
        window_s=parts[0].window_s,
        counts=reading.counts,
        latency_ms_p50=reading.latency_ms_p50,
        latency_ms_p99=reading.latency_ms_p99,
        latency_ms_mean=reading.latency_ms_mean,
        ttft_ms_p50=reading.ttft_ms_p50,
        ttft_ms_p99=reading.ttft_ms_p99,
        good_age_s=reading.good_age_s,
        judged=sum(part.judged for part in parts),
        garbled=sum(part.garbled for part in parts),
        inflight=sum(part.inflight for part in parts),
        admission=_admission(parts),
        broken_run=sum(part.broken_run for part in parts if not _answered_since(part, parts)),
        cooling_s=max(0.0, max(part.cool_until for part in parts) - now),
        quota_exhausted=any(now < part.exhausted_until for part in parts),
    )


def by_target(parts: Iterable[Sequence[TargetPart]]) -> dict[str, list[TargetPart]]:
    """What every worker told, target by target."""
    found: dict[str, list[TargetPart]] = {}
    for told in parts:
        for part in told:
            found.setdefault(part.target, []).append(part)
    return found


class Coolings:
    """Until when targets are spared, as any worker has heard: what one is told by a target, the others need not ask.
    Mutable; bounded by the targets that are cooling."""

    def __init__(self) -> None:
        self.until: dict[str, tuple[float, float]] = {}
        """And until when their quota is used up."""

    def news(self, parts: Sequence[TargetPart], now: float) -> dict[str, tuple[float, float]]:
        """What of a worker's report the others do not know yet."""
        news = {
            part.target: (part.cool_until, part.exhausted_until)
            for part in parts
            if part.cool_until > now and self._is_longer(part)
        }
        if news:
            self.until = {target: ends for target, ends in self.until.items() if ends[0] > now} | news
        return news

    def _is_longer(self, part: TargetPart) -> bool:
        until, exhausted_until = self.until.get(part.target, (0.0, 0.0))
        return part.cool_until > until + _SAME_S or part.exhausted_until > exhausted_until + _SAME_S


_SAME_S: Final = 0.01
"""Nearer to each other, two ends of a cooling are one, told and told back."""


class LoadPart(msgspec.Struct, array_like=True):
    """What one worker carried of one route; as RouteLoad."""

    route: str
    inflight: float
    requests: int
    failed: int
    window_s: float


def merged_loads(parts: Iterable[Sequence[LoadPart]]) -> tuple[RouteLoad, ...]:
    """What all of them carried, by route, in the order of their names."""
    sums: dict[str, LoadPart] = {}
    for told in parts:
        for part in told:
            known = sums.get(part.route)
            sums[part.route] = part if known is None else _both(known, part)
    return tuple(
        RouteLoad(
            route=load.route,
            inflight=round(load.inflight, 3),
            requests=load.requests,
            failed=load.failed,
            window_s=load.window_s,
        )
        for _, load in sorted(sums.items())
    )


def summed(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Counts by name, added up."""
    total: dict[str, int] = {}
    for each in counts:
        for name, count in each.items():
            total[name] = total.get(name, 0) + count
    return total


def _both(one: LoadPart, other: LoadPart) -> LoadPart:
    return LoadPart(
        one.route,
        one.inflight + other.inflight,
        one.requests + other.requests,
        one.failed + other.failed,
        one.window_s,
    )


def _admission(parts: Sequence[TargetPart]) -> AdmissionName:
    worst = max(parts, key=lambda part: _WORSE[part.admission])
    if worst.admission != "ADMITTING" and _answered_since(worst, parts):
        return "ADMITTING"
    return worst.admission


def _answered_since(part: TargetPart, parts: Sequence[TargetPart]) -> bool:
    """Whether another worker, which admits the target, has had an answer since this one's last broken attempt."""
    broken_at = part.bins.broken_at
    return any(
        other is not part
        and other.admission == "ADMITTING"
        and other.bins.answered_at is not None
        and (broken_at is None or other.bins.answered_at > broken_at)
        for other in parts
    )
