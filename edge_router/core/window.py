"""What an edge saw of one target in the last seconds: attempts by outcome, and quantiles of latency.

Slots of 250 ms in a ring of 10 s. Latencies fall into bins a quarter of an octave wide, so a quantile
is right to within 10 %, and a slot costs only the bins that were hit. Adding costs under 1 us.
"""

from collections import deque
from math import exp2, log2
from typing import Final, NamedTuple

import msgspec

from shared.vocabulary.health import QUALITY_RESULTS
from shared.vocabulary.terms import Outcome

SLOT_S: Final = 0.25
SLOTS: Final = 41
"""Ten seconds, and the one under way."""
_PER_OCTAVE: Final = 4
_LEAST_MS: Final = 2.0**-6


class Reading(NamedTuple):
    """A window, read. Quantiles are of attempts that brought an answer, 0 when there was none; those of the
    first byte are of streams, where there were any."""

    counts: dict[Outcome, int]
    latency_ms_p50: float
    latency_ms_p99: float
    ttft_ms_p50: float
    ttft_ms_p99: float
    latency_ms_mean: float
    good_age_s: float | None
    """Since the last complete answer, at most a slot too long; None when there was none."""


BROKEN: Final = frozenset({Outcome.REFUSED, Outcome.FAILED, Outcome.TIMED_OUT})
"""Attempts that brought nothing, whoever made them."""


class Bins(msgspec.Struct):
    """A window as counts, which can be added up: those of several windows read as one that saw it all."""

    counts: dict[Outcome, int] = msgspec.field(default_factory=dict)
    latency: dict[int, int] = msgspec.field(default_factory=dict)
    """By bin, as `ttft`."""
    ttft: dict[int, int] = msgspec.field(default_factory=dict)
    answered_at: float | None = None
    """Monotonic beginning of the last slot with a complete answer; None when there was none."""
    broken_at: float | None = None
    """The same, of the last slot with an attempt that came to one of `BROKEN`."""

    def add(self, other: "Bins") -> None:
        """Take in what `other` counted of the same time."""
        for outcome, count in other.counts.items():
            self.counts[outcome] = self.counts.get(outcome, 0) + count
        _merge(self.latency, other.latency)
        _merge(self.ttft, other.ttft)
        self.answered_at = _later(self.answered_at, other.answered_at)
        self.broken_at = _later(self.broken_at, other.broken_at)

    def read(self, now: float) -> Reading:
        """Quantiles and ages."""
        latency, first = self.latency, self.ttft or self.latency
        return Reading(
            self.counts,
            _quantile(latency, 0.5),
            _quantile(latency, 0.99),
            _quantile(first, 0.5),
            _quantile(first, 0.99),
            _mean(latency),
            None if self.answered_at is None else max(0.0, now - self.answered_at),
        )


class Lately:
    """How many of the last `most` answers were wrong. The caller numbers them, from 1, right and
    wrong together, so that a right one costs nothing here."""

    __slots__ = ("_from", "_most", "_wrong")

    def __init__(self, most: int = QUALITY_RESULTS) -> None:
        self._from = 0
        self._most = most
        self._wrong: deque[int] = deque(maxlen=most)

    def wrong(self, number: int) -> None:
        """The answer with this `number` was wrong."""
        self._wrong.append(number)

    def restart(self, number: int) -> None:
        """What came up to `number` is long ago and counts no more."""
        self._from = number

    def read(self, number: int) -> tuple[int, int]:
        """Answers judged, and the wrong ones among them, when `number` was the last."""
        begin = max(self._from, number - self._most)
        return number - begin, sum(begin < wrong <= number for wrong in self._wrong)


class _Slot:
    __slots__ = ("answers", "counts", "latency", "tick", "ttft")

    def __init__(self, tick: int) -> None:
        self.tick = tick
        self.answers = 0
        self.counts: dict[Outcome, int] = {}
        """Of all but complete answers."""
        self.latency: dict[int, int] = {}
        self.ttft: dict[int, int] = {}
        """Where it differs from the latency: streams."""


class Window:
    """Mutable; one per target."""

    __slots__ = ("_slot", "_slots")

    def __init__(self) -> None:
        self._slots: deque[_Slot] = deque(maxlen=SLOTS)
        self._slot = _Slot(-1)

    def add(self, outcome: Outcome, now: float) -> None:
        """An attempt came to `outcome` at `now`, without a complete answer."""
        counts = self._at(now).counts
        counts[outcome] = counts.get(outcome, 0) + 1

    def add_answer(self, latency_ms: float, now: float) -> None:
        """An answer was complete, and there all at once, after `latency_ms`: OK."""
        slot = self._slot
        if slot.tick != int(now / SLOT_S):
            slot = self._at(now)
        slot.answers += 1
        bin_ = int(log2(latency_ms) * _PER_OCTAVE + _OFFSET) if latency_ms > _LEAST_MS else 0
        slot.latency[bin_] = slot.latency.get(bin_, 0) + 1

    def add_stream(self, latency_ms: float, ttft_ms: float, now: float) -> None:
        """An answer was complete after `latency_ms`, its first byte there after `ttft_ms`: OK."""
        self.add_answer(latency_ms, now)
        ttft = self._slot.ttft
        bin_ = int(log2(ttft_ms) * _PER_OCTAVE + _OFFSET) if ttft_ms > _LEAST_MS else 0
        ttft[bin_] = ttft.get(bin_, 0) + 1

    def read(self, now: float, window_s: float) -> Reading:
        """The last `window_s`, to the slot."""
        return self.bins(now, window_s).read(now)

    def bins(self, now: float, window_s: float) -> Bins:
        """The same, unread."""
        oldest = int((now - window_s) / SLOT_S)
        bins = Bins()
        counts = bins.counts
        for slot in self._slots:
            if slot.tick >= oldest:
                if slot.counts:
                    for outcome, count in slot.counts.items():
                        counts[outcome] = counts.get(outcome, 0) + count
                    if not slot.counts.keys().isdisjoint(BROKEN):
                        bins.broken_at = slot.tick * SLOT_S
                if slot.answers:
                    bins.answered_at = slot.tick * SLOT_S
                    counts[Outcome.OK] = counts.get(Outcome.OK, 0) + slot.answers
                _merge(bins.latency, slot.latency)
                _merge(bins.ttft, slot.ttft)
        return bins

    def _at(self, now: float) -> _Slot:
        tick = int(now / SLOT_S)
        slot = self._slot
        if slot.tick != tick:
            slot = self._slot = _Slot(tick)
            self._slots.append(slot)
        return slot


_OFFSET: Final = 6 * _PER_OCTAVE


def _merge(into: dict[int, int], bins: dict[int, int]) -> None:
    for bin_, count in bins.items():
        into[bin_] = into.get(bin_, 0) + count


def _later(one: float | None, other: float | None) -> float | None:
    return one if other is None else other if one is None else max(one, other)


def _middle(bin_: int) -> float:
    return exp2((bin_ - _OFFSET + 0.5) / _PER_OCTAVE)


def _mean(bins: dict[int, int]) -> float:
    """Of the bins' middles."""
    answers = sum(bins.values())
    return round(sum(_middle(bin_) * count for bin_, count in bins.items()) / answers, 3) if answers else 0.0


def _quantile(bins: dict[int, int], q: float) -> float:
    """The middle of the bin in which the quantile falls."""
    rank = q * sum(bins.values())
    for bin_ in sorted(bins):
        rank -= bins[bin_]
        if rank <= 0:
            return round(_middle(bin_), 3)
    return 0.0
