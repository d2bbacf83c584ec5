"""The board: what this prober knows of every job, as it would say it now.

The one mutable value of this core. It holds absolute state and nothing else, so a bus that is away
costs no memory: whenever it is back, the newest state of each job is what is told.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from prober.core.counters import Finding, State, Track, quantile, step
from prober.core.jobs import Job, Key
from shared.vocabulary.health import ProbeState

UNTOUCHED: Final = Track()


@dataclass(frozen=True, slots=True)
class Applied:
    """What one finding did."""

    before: State
    after: State
    news: bool
    """Whether readers should hear of it at once: the state, the kind of outcome or its hardness is
    another one. Figures alone wait for the round."""


class Board:
    """Tracks by key, and which of them are news that nobody has been told yet."""

    def __init__(self) -> None:
        self._jobs: dict[Key, Job] = {}
        self._tracks: dict[Key, Track] = {}
        self._intervals_s: dict[Key, float] = {}
        self._news: dict[Key, str | None] = {}

    def __len__(self) -> int:
        return len(self._tracks)

    @property
    def jobs(self) -> Mapping[Key, Job]:
        """What is being watched, as configured now."""
        return self._jobs

    def track(self, key: Key) -> Track:
        """What is known of `key`; an untouched track when nothing is."""
        return self._tracks.get(key, UNTOUCHED)

    def replace(self, jobs: Iterable[Job]) -> None:
        """Watch exactly `jobs`. What is known is kept where the same is still asked at the same
        place, and forgotten elsewhere: another URL is another endpoint."""
        fresh = {job.key: job for job in jobs}
        kept = {
            key: track
            for key, track in self._tracks.items()
            if key in fresh and fresh[key].asks_the_same_of(self._jobs[key])
        }
        self._jobs, self._tracks = fresh, kept
        self._intervals_s = {key: pace for key, pace in self._intervals_s.items() if key in kept}
        self._news = {key: trace for key, trace in self._news.items() if key in kept}

    def apply(self, job: Job, finding: Finding, *, now: datetime, traceparent: str | None) -> Applied | None:
        """Count one finding of the probe with context `traceparent`. None, and nothing counted, when `job` is no longer watched as it was."""
        current = self._jobs.get(job.key)
        if current is None or not current.asks_the_same_of(job):
            return None
        before = self.track(job.key)
        after = step(before, finding, current.monitor, now=now, traceparent=traceparent)
        self._tracks[job.key] = after
        news = (
            before.state != after.state
            or before.last is None
            or before.last.outcome is not finding.outcome
            or before.hard(current.monitor) != after.hard(current.monitor)
        )
        if news:
            self._news[job.key] = traceparent if before.state != after.state else self._news.get(job.key)
        return Applied(before.state, after.state, news)

    def pace(self, key: Key, interval_s: float) -> None:
        """From now on `key` is probed every `interval_s`; said with its state, so that readers know until
        when that is fresh."""
        self._intervals_s[key] = interval_s

    def news(self) -> tuple[Key, ...]:
        """What changed and has not been told, oldest first."""
        return tuple(self._news)

    def untold_traces(self, states: Iterable[ProbeState]) -> tuple[str, ...]:
        """The contexts of the probes whose changes of state `states` will be the first to tell."""
        traces = (self._news.get((state.target, state.monitor)) for state in states)
        return tuple(trace for trace in traces if trace is not None)

    def told(self, states: Iterable[ProbeState]) -> None:
        """`states` have reached the bus; one that has changed since stays news."""
        for state in states:
            key = (state.target, state.monitor)
            track = self._tracks.get(key)
            if track is None or track.probed_at == state.probed_at:
                self._news.pop(key, None)

    def states(self, keys: Iterable[Key] | None = None) -> tuple[ProbeState, ...]:
        """What is known of `keys`, or of everything; jobs not probed yet are left out."""
        chosen = self._tracks if keys is None else (key for key in keys if key in self._tracks)
        return tuple(self._state(key) for key in chosen)

    def _state(self, key: Key) -> ProbeState:
        job = self._jobs[key]
        return _state(job, self._tracks[key], self._intervals_s.get(key, job.monitor.interval_s))


def _state(job: Job, track: Track, interval_s: float) -> ProbeState:
    last, probed_at, changed_at = track.last, track.probed_at, track.changed_at
    assert last is not None  # `step` sets all three
    assert probed_at is not None
    assert changed_at is not None
    return ProbeState(
        target=job.target.id,
        monitor=job.monitor.id,
        state=track.state,
        consecutive_good=track.good,
        consecutive_bad=track.bad,
        outcome=last.outcome,
        hard=track.hard(job.monitor),
        detail=last.detail,
        latency_ms=round(last.latency_ms, 3),
        latency_ms_p50=round(quantile(track.latencies_ms, 0.5), 3),
        latency_ms_p99=round(quantile(track.latencies_ms, 0.99), 3),
        probed_at=probed_at,
        changed_at=changed_at,
        interval_s=interval_s,
        traceparent=track.traceparent,
        judged=track.judged,
        garbled=track.wrong.bit_count(),
    )
