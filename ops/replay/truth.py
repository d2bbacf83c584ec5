"""What was true, by the events themselves: when was a target down, whatever anybody concluded?

An outage of a target is a time in which at least 900 permille of the probers that spoke of it within
`source_timeout_s` had a bad outcome last (REFUSED, FAILED, TIMED_OUT or GARBLED, by any of their
monitors). Where one region's edges alone saw at least 900 permille of their attempts break (at least
as many attempts as make live traffic count), it is an outage for that region's clients. It began when
the last of those who saw it did; whoever has died with its region is no longer among them.

Single outcomes and not states: no counter, quorum or damping of any policy is in it, so every policy
is measured by the same. Silence is no outage; one under way ends when its last word is stale. Gaps of
up to a second are bridged, and what is shorter than a second is none.

A prober notices at its next probe, a window holds its last seconds: the beginning of an outage is late
by up to the probe interval and timeout, and that of one seen in live traffic alone by a few seconds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from control_plane.core.fold import broken
from shared.vocabulary.config import Policy
from shared.vocabulary.health import HealthEvent, PassiveWindow

BAD_PERMILLE = 900
BRIDGED = timedelta(seconds=1)
LEAST = timedelta(seconds=1)
MAX_INTERVALS = 200_000

Key = tuple[str, str | None]
"""Target, and the client region for which it was down; None: for all."""
Interval = tuple[datetime, datetime]


@dataclass(frozen=True, slots=True)
class Outages:
    """All outages of a recording."""

    intervals: Mapping[Key, Sequence[Interval]]
    """In order of time, without overlap."""

    def of(self, target: str, region: str) -> list[Interval]:
        """When `target` was down for the clients of `region`."""
        both = [*self.intervals.get((target, None), ()), *self.intervals.get((target, region), ())]
        return _merged(both, timedelta(0))

    def listed(self) -> list[tuple[Key, Interval]]:
        """Each once, in order of time: one that a region sees of what is an outage for all is not told."""
        found: list[tuple[Key, Interval]] = []
        for (target, region), intervals in self.intervals.items():
            whole = self.intervals.get((target, None), ()) if region is not None else ()
            found += [
                ((target, region), each)
                for each in intervals
                if not any(overlap_s(each, other) for other in whole)
            ]
        return sorted(found, key=lambda each: (each[1], each[0][0], each[0][1] or ""))


def overlap_s(one: Interval, other: Interval) -> float:
    """Seconds that both have in common."""
    return max(0.0, (min(one[1], other[1]) - max(one[0], other[0])).total_seconds())


@dataclass(slots=True)
class _Source:
    region: str
    boot: int
    seq: int
    probes: "dict[str, _Probed]" = field(default_factory=dict)
    """By target."""
    windows: dict[str, tuple[datetime, PassiveWindow]] = field(default_factory=dict)


@dataclass(slots=True)
class _Probed:
    """What one prober last said of one target."""

    named_at: datetime
    bad: dict[str, bool] = field(default_factory=dict)
    """Whether the last outcome was bad, by monitor."""
    bad_since: datetime | None = None
    """When it began to be, by any monitor; None while all are good."""


class Witness:
    """Hears the events in order of time and keeps the outages."""

    def __init__(self, policy: Policy) -> None:
        self._timeout = timedelta(seconds=policy.source_timeout_s)
        self._least_attempts = policy.passive_min_attempts
        self._sources: dict[str, _Source] = {}
        self._about: dict[str, set[str]] = {}
        """Target -> ids of sources that ever spoke of it."""
        self._looked_at: dict[str, datetime] = {}
        self._open: dict[Key, datetime] = {}
        self._closed: dict[Key, list[Interval]] = {}
        self._count = 0

    def hear(self, event: HealthEvent, at: datetime) -> None:
        """Take in one event that arrived at `at`."""
        source = self._sources.get(event.source)
        if source is None or event.boot > source.boot:
            source = self._sources[event.source] = _Source(event.vantage, event.boot, event.seq)
        elif (event.boot, event.seq) <= (source.boot, source.seq):
            return
        source.seq, source.region = event.seq, event.vantage
        named: dict[str, None] = {}
        for state in event.probes:
            named[state.target] = None
            probed = source.probes.setdefault(state.target, _Probed(at))
            probed.named_at = at
            probed.bad[state.monitor] = state.outcome.counts_down
        for window in event.passive:
            named[window.target] = None
            source.windows[window.target] = (at, window)
        for target in named:
            if (held := source.probes.get(target)) is not None:
                held.bad_since = (held.bad_since or at) if any(held.bad.values()) else None
            self._about.setdefault(target, set()).add(event.source)
            self._look(target, at)

    def finish(self, at: datetime) -> Outages:
        """Everything, what is still under way included until `at`."""
        for key in list(self._open):
            self._mark(key, False, min(at, self._looked_at[key[0]] + self._timeout))
        found: dict[Key, list[Interval]] = {}
        for key, intervals in self._closed.items():
            lasting = [each for each in _merged(intervals, BRIDGED) if each[1] - each[0] >= LEAST]
            if lasting:
                found[key] = lasting
        return Outages(found)

    def _look(self, target: str, at: datetime) -> None:
        before = self._looked_at.get(target)
        if before is not None and at - before > self._timeout:
            for key in [key for key in self._open if key[0] == target]:
                self._mark(key, False, before + self._timeout)
        self._looked_at[target] = at
        fresh_from = at - self._timeout
        voices: list[datetime | None] = []
        seen: dict[str, tuple[int, int]] = {}
        for name in self._about[target]:
            source = self._sources[name]
            probed = source.probes.get(target)
            if probed is not None and probed.named_at >= fresh_from:
                voices.append(probed.bad_since)
            told_at, window = source.windows.get(target, (None, None))
            if window is not None and told_at is not None and told_at >= fresh_from:
                attempts, broke = seen.get(source.region, (0, 0))
                seen[source.region] = (attempts + sum(window.counts.values()), broke + broken(window))
        against = [since for since in voices if since is not None]
        down = bool(voices) and len(against) * 1000 >= BAD_PERMILLE * len(voices)
        # Where a voice that still said good has just fallen silent, the others had been right for a while.
        self._mark((target, None), down, max(against) if down else at)
        silent = [key[1] for key in self._open if key[0] == target and key[1] not in (None, *seen)]
        for region in silent:
            self._mark((target, region), False, at)
        for region, (attempts, broke) in seen.items():
            enough = attempts >= self._least_attempts
            self._mark((target, region), enough and broke * 1000 >= BAD_PERMILLE * attempts, at)

    def _mark(self, key: Key, down: bool, at: datetime) -> None:
        if down:
            self._open.setdefault(key, at)
            return
        began = self._open.pop(key, None)
        if began is not None and self._count < MAX_INTERVALS:
            self._count += 1
            self._closed.setdefault(key, []).append((began, at))


def _merged(intervals: Sequence[Interval], gap: timedelta) -> list[Interval]:
    merged: list[Interval] = []
    for began, ended in sorted(intervals):
        if merged and began - merged[-1][1] <= gap:
            merged[-1] = (merged[-1][0], max(merged[-1][1], ended))
        else:
            merged.append((began, ended))
    return merged
