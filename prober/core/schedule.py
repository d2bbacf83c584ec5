"""When each job is due.

    invariant  A job's probes lie on a grid of its own, at `(n + phase) * interval` of monotonic time, each
               moved by a jitter of at most JITTER / 2 of the interval to either side. The grid depends on
               nothing but phase and interval: late probes do not shift it, a changed configuration
               leaves it where it was, and a pause skips points instead of catching up on them. Another
               pace is another grid with the same phase, entered after one whole interval.

Phases are the golden-ratio sequence from a start that the caller draws: however many jobs there are
and whenever they are added, they lie evenly over the interval (the additive recurrence of lowest
discrepancy; Knuth, TAOCP 3, section 6.4, theorem S), and two probers are not in step.
"""

import heapq
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from prober.core.jobs import Job, Key
from shared.vocabulary.monitor import Monitor

GOLDEN: Final = (math.sqrt(5) - 1) / 2

JITTER: Final = 0.1
"""Share of the interval over which one probe moves. Enough to fall out of step with whatever else is
periodic, and a probe that takes its whole timeout still ends before most successors are due."""

FIRST_WITHIN_S: Final = 5.0
"""A new job is first probed within this time even when its interval is longer: after a start, whoever
waits for a verdict does not wait for minutes; a mass restart still spreads."""

SPARE: Final = 64
"""Void entries that the queue may hold, besides one for every job, before it is built anew."""

LATE_S: Final = 1.0
"""A probe later than this, and than its interval, is skipped. After a pause of the whole process every
job is overdue at once; run together, they would measure our own crowd and not their targets."""


class Schedule:
    """The grid of every job, and which point is next. Deterministic: holds no clock and draws nothing.

    `draw` gives uniform values in [0, 1); it belongs to the caller.
    """

    def __init__(self, *, start: float, draw: Callable[[], float]) -> None:
        self._start = start
        self._draw = draw
        self._given = 0
        self._jobs: dict[Key, Job] = {}
        self._phases: dict[Key, float] = {}
        self._intervals_s: dict[Key, float] = {}
        self._due: dict[Key, float] = {}
        self._queue: list[tuple[float, Key]] = []
        """By time; an entry whose time is not the one in `_due` is void."""
        self.skipped = 0
        """Points passed over because they were too late."""

    @property
    def jobs(self) -> Mapping[Key, Job]:
        """What is scheduled."""
        return self._jobs

    def replace(self, jobs: Iterable[Job], *, now: float) -> None:
        """Schedule exactly `jobs`. Those that were scheduled keep their phase, and their pace and next
        point too when they are configured to be as fast as before."""
        fresh = {job.key: job for job in jobs}
        self._phases = {key: phase for key, phase in self._phases.items() if key in fresh}
        self._due = {
            key: due
            for key, due in self._due.items()
            if key in fresh and _pacing(fresh[key].monitor) == _pacing(self._jobs[key].monitor)
        }
        self._intervals_s = {
            key: self._intervals_s[key] if key in self._due else job.monitor.interval_s
            for key, job in fresh.items()
        }
        for key, job in fresh.items():
            if key not in self._phases:
                self._phases[key] = (self._start + self._given * GOLDEN) % 1.0
                self._given += 1
                self._due[key] = now + self._phases[key] * min(job.monitor.interval_s, FIRST_WITHIN_S)
            elif key not in self._due:
                self._due[key] = self._after(key, now)
        self._jobs = fresh
        self._rebuild()

    def pace(self, key: Key, interval_s: float, *, now: float) -> bool:
        """From now on `key` is due every `interval_s`, the first time that long after `now`; whether it is
        due sooner for that. The same pace as before moves nothing."""
        if interval_s == self._intervals_s[key]:
            return False
        before = self._due[key]
        self._intervals_s[key] = interval_s
        self._due[key] = now + interval_s * (1 + self._jitter())
        heapq.heappush(self._queue, (self._due[key], key))
        if len(self._queue) > 2 * len(self._due) + SPARE:
            self._rebuild()
        return self._due[key] < before

    def next_at(self) -> float | None:
        """When the next job is due; None when there is none."""
        while self._queue and self._queue[0][0] != self._due[self._queue[0][1]]:
            heapq.heappop(self._queue)
        return self._queue[0][0] if self._queue else None

    def take(self, now: float, *, most: int) -> list[Job]:
        """At most `most` jobs that are due, the longest overdue first; each is due again at its next
        point after `now`. Those left over stay due."""
        taken: list[Job] = []
        while len(taken) < most and (due := self.next_at()) is not None and due <= now:
            key = self._queue[0][1]
            if now - due > max(LATE_S, self._intervals_s[key]):
                self.skipped += 1
            else:
                taken.append(self._jobs[key])
            self._due[key] = self._after(key, now)
            heapq.heapreplace(self._queue, (self._due[key], key))
        return taken

    def _rebuild(self) -> None:
        self._queue = [(due, key) for key, due in self._due.items()]
        heapq.heapify(self._queue)

    def _after(self, key: Key, now: float) -> float:
        """The next grid point, jittered. One nearer than half an interval is passed over, so that a
        probe off the grid (the first, or a late one) is not followed by another at once."""
        phase, interval = self._phases[key], self._intervals_s[key]
        point = math.floor((now + interval / 2) / interval - phase) + 1
        return (point + phase + self._jitter()) * interval

    def _jitter(self) -> float:
        return (self._draw() - 0.5) * JITTER


def _pacing(monitor: Monitor) -> tuple[float, float | None, float | None]:
    return monitor.interval_s, monitor.min_interval_s, monitor.max_interval_s
