"""What the load came to: per second, per period, per target; bounded however long a drill lasts.

Pure: samples go in, figures come out. Times are the clock's monotonic seconds until `begin` and
`mended` have said what the drill's own seconds and periods are.
"""

import itertools
import math
from array import array
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ops.drill.record import MAX_FAILED, MAX_SECONDS, FailedRequest, Figures, Period, Second

MAX_WAITING = 50_000
"""Samples from before the injection that are kept to be sorted by it."""
MAX_FAILURES = 200
MAX_DETAIL = 300
"""Characters of what was wrong with one."""
MAX_LATENCIES = 200_000
"""In one period; later ones then count for everything but its quantiles."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One request and what came of it; with `requests` other than 1, several that ended alike."""

    at: float
    """When it left, on the clock's monotonic time."""
    edge: str
    client: str
    """The edge's region."""
    latency_ms: float
    ok: bool
    degraded: bool = False
    streamed: bool = False
    lost: bool = False
    """A stream that ended as if complete and was not, or without an error in-band. Never `ok`."""
    detail: str = ""
    """Why it failed, in a few words; empty when it did not."""
    target: str = ""
    serving: str = ""
    """The target's region."""
    requests: int = 1


@dataclass(frozen=True, slots=True)
class Tally:
    """Requests so far. A degraded answer counts as failed in `success_rate`."""

    requests: int = 0
    failed: int = 0
    degraded: int = 0
    streams: int = 0
    lost: int = 0

    @property
    def success_rate(self) -> float:
        """1.0 while there were none."""
        return 1.0 if not self.requests else (self.requests - self.failed - self.degraded) / self.requests


@dataclass(slots=True)
class _Sum:
    requests: int = 0
    failed: int = 0
    degraded: int = 0
    streams: int = 0
    lost: int = 0
    latencies: "array[float]" = field(default_factory=lambda: array("f"))

    def add(self, sample: Sample) -> None:
        self.requests += sample.requests
        self.failed += 0 if sample.ok else sample.requests
        self.degraded += sample.requests if sample.ok and sample.degraded else 0
        self.streams += sample.streamed
        self.lost += sample.lost
        if sample.ok and not sample.degraded and len(self.latencies) < MAX_LATENCIES:
            self.latencies.append(sample.latency_ms)

    @property
    def tally(self) -> Tally:
        return Tally(self.requests, self.failed, self.degraded, self.streams, self.lost)


@dataclass(slots=True)
class _Bucket(_Sum):
    by_client: Counter[str] = field(default_factory=Counter)
    by_serving: Counter[str] = field(default_factory=Counter)
    by_target: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By client region and target,"""
    by_both: Counter[tuple[str, str]] = field(default_factory=Counter)
    """and by client region and the target's."""

    def add(self, sample: Sample) -> None:
        # `super()` without arguments does not work in a dataclass with slots: the class is made anew.
        _Sum.add(self, sample)
        self.by_client[sample.client] += sample.requests
        if sample.serving:
            self.by_serving[sample.serving] += sample.requests
            self.by_both[sample.client, sample.serving] += sample.requests
        if sample.target:
            self.by_target[sample.client, sample.target] += sample.requests


class Tallies:
    """Everything that the samples came to."""

    def __init__(self) -> None:
        self.failures: deque[Sample] = deque(maxlen=MAX_FAILURES)
        """The last that failed, oldest first."""
        self._whole = _Sum()
        self._periods: dict[Period, _Sum] = {"before": _Sum(), "during": _Sum(), "after": _Sum()}
        self._seconds: dict[int, _Bucket] = {}
        self._waiting: deque[Sample] = deque(maxlen=MAX_WAITING)
        self._first: float | None = None
        self._zero: float | None = None
        self._mended: float | None = None

    def begin(self, at: float) -> None:
        """The fault begins: second 0."""
        self._zero = at
        waiting, self._waiting = self._waiting, deque(maxlen=1)
        for sample in waiting:
            self._place(sample, at)

    def mended(self, at: float) -> None:
        """The fault is gone."""
        self._mended = at

    def add(self, sample: Sample) -> None:
        """Count one that has come back."""
        self._whole.add(sample)
        self._first = sample.at if self._first is None else min(self._first, sample.at)
        if not sample.ok:
            self.failures.append(sample)
        if self._zero is None:
            self._waiting.append(sample)
        else:
            self._place(sample, self._zero)

    @property
    def tally(self) -> Tally:
        """Of all so far."""
        return self._whole.tally

    def of(self, period: Period) -> Tally:
        """Of one period so far."""
        return self._periods[period].tally

    def between(self, start_s: float, end_s: float) -> int:
        """Requests that left in these seconds of the drill."""
        return sum(each.requests for second, each in self._seconds.items() if start_s <= second < end_s)

    def latency_ms_p99(self, *, of_seconds: int) -> tuple[int, float] | None:
        """Over the last seconds with answers: how many answers, and their p99. None before the fault."""
        last = sorted(self._seconds)[-of_seconds:]
        found = [ms for second in last if second >= 0 for ms in self._seconds[second].latencies]
        return (len(found), quantile(found, 0.99)) if found else None

    def by_target(self, second: int) -> Mapping[tuple[str, str], int]:
        """Requests of one second by client region and the target that answered."""
        bucket = self._seconds.get(second)
        return bucket.by_target if bucket is not None else {}

    def seconds(self) -> Iterator[Second]:
        """One after another from the first to the last, empty ones included, at most MAX_SECONDS."""
        known = self._seconds
        if not known:
            return
        for at in range(min(known), min(max(known) + 1, min(known) + MAX_SECONDS)):
            yield _second(at, known.get(at) or _Bucket())

    def figures(self, *, until: float) -> Sequence[Figures]:
        """Each period that there was; `until` is now."""
        zero = until if self._zero is None else self._zero
        mended = until if self._mended is None else self._mended
        borders: tuple[tuple[Period, float, float], ...] = (
            ("before", self._first if self._first is not None else zero, zero),
            ("during", zero, max(zero, mended)),
            ("after", max(zero, mended), until),
        )
        if self._zero is None:
            # Nothing was injected: all of it came before.
            for sample in self._waiting:
                self._periods["before"].add(sample)
            self._waiting.clear()
        return [
            _figures(period, start - zero, end - zero, self._periods[period])
            for period, start, end in borders
            if end > start
        ]

    def examples(self, *, zero: float) -> tuple[FailedRequest, ...]:
        """The first of `failures`, at most MAX_FAILED, with times from `zero`."""
        return tuple(
            FailedRequest(
                at_s=round(sample.at - zero, 3),
                client=sample.client,
                target=sample.target,
                latency_ms=round(sample.latency_ms, 1),
                detail=sample.detail[:MAX_DETAIL],
            )
            for sample in itertools.islice(self.failures, MAX_FAILED)
        )

    def _place(self, sample: Sample, zero: float) -> None:
        self._periods[self._period(sample.at, zero)].add(sample)
        second = math.floor(sample.at - zero)
        bucket = self._seconds.get(second)
        if bucket is None:
            if len(self._seconds) >= MAX_SECONDS:
                return
            bucket = self._seconds[second] = _Bucket()
        bucket.add(sample)

    def _period(self, at: float, zero: float) -> Period:
        if at < zero:
            return "before"
        return "during" if self._mended is None or at < self._mended else "after"


def quantile(values: Iterable[float], part: float) -> float:
    """The smallest value that at least `part` of all do not exceed (nearest rank); raises ValueError
    for none."""
    ordered = sorted(values)
    if not ordered:
        raise ValueError("no values")
    return ordered[max(0, math.ceil(part * len(ordered)) - 1)]


def _quantiles(latencies: Sequence[float]) -> tuple[float | None, float | None]:
    if not latencies:
        return None, None
    return round(quantile(latencies, 0.5), 1), round(quantile(latencies, 0.99), 1)


def _second(at: int, bucket: _Bucket) -> Second:
    p50, p99 = _quantiles(bucket.latencies)
    served: dict[str, dict[str, int]] = {}
    for (client, serving), requests in sorted(bucket.by_both.items()):
        served.setdefault(client, {})[serving] = requests
    return Second(
        at_s=at,
        ok=bucket.requests - bucket.failed - bucket.degraded,
        failed=bucket.failed,
        degraded=bucket.degraded,
        lost_streams=bucket.lost,
        latency_ms_p50=p50,
        latency_ms_p99=p99,
        by_client=dict(sorted(bucket.by_client.items())),
        by_serving=dict(sorted(bucket.by_serving.items())),
        served=served,
    )


def _figures(period: Period, start: float, end: float, found: _Sum) -> Figures:
    p50, p99 = _quantiles(found.latencies)
    return Figures(
        period=period,
        from_s=round(start, 3),
        to_s=round(end, 3),
        requests=found.requests,
        failed=found.failed,
        degraded=found.degraded,
        success_rate=round(found.tally.success_rate, 6),
        streams=found.streams,
        lost_streams=found.lost,
        latency_ms_p50=p50,
        latency_ms_p99=p99,
    )
