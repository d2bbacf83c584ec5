"""How many requests of a route may be under way: found by watching how long they take, not configured.

theory     Up to the capacity of what is behind it, more requests at once bring more answers and each takes as long
           as ever; beyond it they only wait for each other (Little's law), and clients that give up waiting turn
           work into waste. So the limit rises until answers get slow, falls, and stays near the place where that
           was. The signal is a ratio of times to their own recent usual, as in Netflix's concurrency-limits
           (Gradient2) and Envoy's adaptive concurrency filter; the steps are those of TCP: slow start, then
           multiplicative decrease (RFC 5681), then back up fast to where it got slow and slowly beyond
           (CUBIC, RFC 9438).
window     Once in `WINDOW_S`, if enough has been seen: the median of the times seen against the usual, for streams
           (to the first token) and others (to the end) and each target by themselves, and of these the mean by
           how many were seen: a failover to a target that is always slower is no overload. Seen is only what
           began after the last change: what began before tells of the old limit. What is still waited for counts
           where it is worse, by the wait of the middle one: under a great overload nothing ends at all.
usual      Follows downwards fast and upwards by `DRIFT` of the way a window: an overload does not become the
           usual while it is being fought, a model that is slower from now on does in some minutes.
priority   Each may fill a share of the limit: what is left above it is for those that are more urgent. Nothing
           queues: a wait here would be added to the wait that is the problem, and clients retry by themselves.
"""

from enum import Enum
from math import sqrt
from statistics import median
from typing import Final

from shared.vocabulary.client_key import Priority
from shared.vocabulary.overload import Overload

WINDOW_S: Final = 0.5
ENOUGH: Final = 8
"""Times seen in a window that make it count; fewer are added to the next."""
MOST: Final = 512
"""Times kept of one window and target."""
MOST_TARGETS: Final = 256
"""Whose usual is known; the one known first is forgotten first."""
DECREASE: Final = 0.8
DEEPEST: Final = 0.5
"""Of the limit, that one window can take away."""
DRIFT: Final = 0.005
FALL: Final = 0.5
"""The same, downwards."""
BELOW: Final = 0.92
"""Of the limit at which it got slow: where it stays for a while."""
LEAST_PATIENCE: Final = 8
MOST_PATIENCE: Final = 128
"""Windows to stay there."""
USED: Final = 0.7
"""A limit of which less than this was in use is not what holds anything back, and does not rise."""
SHARES: Final = {Priority.HIGH: 1.0, Priority.NORMAL: 0.9, Priority.LOW: 0.6}
RETRY_S: Final = {Priority.HIGH: 1.0, Priority.NORMAL: 2.0, Priority.LOW: 4.0}


class Signal(Enum):
    """Whose time: streams are timed to their first token, others to their end."""

    TTFT = "ttft"
    WHOLE = "whole"


class _Times:
    """The times of one signal at one target: in this window, and as usual."""

    __slots__ = ("seen", "usual_s")

    def __init__(self) -> None:
        self.seen: list[float] = []
        self.usual_s = 0.0

    def turn(self) -> tuple[float, int]:
        """How much slower than usual, and how many were seen; (0.0, 0) when they are too few. Ends the window."""
        count = len(self.seen)
        if count < ENOUGH:
            return 0.0, 0
        middle = median(self.seen)
        self.seen.clear()
        usual_s = self.usual_s or middle
        self.usual_s = usual_s + (middle - usual_s) * (DRIFT if middle > usual_s else FALL)
        return (middle / usual_s if usual_s else 1.0), count


class AdaptiveLimit:
    """One route's. Mutable; times are monotonic seconds. `divide_by` is the number of workers."""

    __slots__ = (
        "_ceiling",
        "_changed_at",
        "_divide_by",
        "_hold",
        "_limit",
        "_patience",
        "_peak",
        "_refused",
        "_tickets",
        "_times",
        "_waiting",
        "_window_at",
        "bounds",
        "under_way",
    )

    def __init__(self, bounds: Overload, now: float, *, divide_by: int = 1) -> None:
        self.bounds = bounds
        self._divide_by = divide_by
        self._limit = max(1.0, bounds.initial_concurrency / divide_by)
        self._ceiling = 0.0
        """Where it last got slow; 0 for never."""
        self._window_at = self._changed_at = now
        self._peak = self._hold = 0
        self._refused = False
        self._patience = LEAST_PATIENCE
        self.under_way = 0
        self._times: dict[Signal, dict[str, _Times]] = {signal: {} for signal in Signal}
        self._waiting: dict[Signal, dict[int, float]] = {signal: {} for signal in Signal}
        self._tickets = 0

    @property
    def limit(self) -> int:
        """Requests that may be under way."""
        return int(self._limit)

    def rebind(self, bounds: Overload) -> None:
        """The configuration has changed; what was learned stays, within the new bounds."""
        self.bounds = bounds
        self._move(self._limit, self._changed_at)

    def enter(self, priority: Priority, signal: Signal, now: float) -> int | None:
        """Let a request begin: the ticket by which it is known, or None when there is no room for its priority."""
        if now - self._window_at >= WINDOW_S:
            self._turn(now)
        if self.under_way >= max(1, int(self._limit * SHARES[priority])):
            self._refused = True
            return None
        self.under_way += 1
        self._peak = max(self._peak, self.under_way)
        self._tickets += 1
        self._waiting[signal][self._tickets] = now
        return self._tickets

    def seen(self, ticket: int, signal: Signal, target: str, took_s: float) -> None:
        """What is timed of a request has come, `took_s` after it was sent to `target`."""
        began = self._waiting[signal].pop(ticket, None)
        if began is not None and began >= self._changed_at:
            self._note(self._of(signal, target), took_s)

    def leave(self, ticket: int, signal: Signal, target: str, waited_s: float | None) -> None:
        """A request has ended. `waited_s`: it gave up waiting for what is timed after so long, so that would have
        taken longer; None when its end says nothing about the targets' pace."""
        self.under_way -= 1
        began = self._waiting[signal].pop(ticket, None)
        if began is not None and began >= self._changed_at and waited_s is not None:
            times = self._of(signal, target)
            if waited_s > times.usual_s > 0:
                self._note(times, waited_s)

    def _of(self, signal: Signal, target: str) -> _Times:
        known = self._times[signal]
        times = known.get(target)
        if times is None:
            if len(known) >= MOST_TARGETS:
                del known[next(iter(known))]
            times = known[target] = _Times()
        return times

    def _note(self, times: _Times, took_s: float) -> None:
        if len(times.seen) < MOST:
            times.seen.append(took_s)

    def _turn(self, now: float) -> None:
        """End a window: move the limit by what was seen in it."""
        self._window_at = now
        peak, self._peak = self._peak, self.under_way
        refused, self._refused = self._refused, False
        self._hold -= 1
        ratio = max(self._ratio(signal, now) for signal in Signal)
        tolerance = self.bounds.tolerance
        if ratio > tolerance:
            tried = 0.0 < self._ceiling * BELOW < self._limit and self._hold <= 0
            self._slow_at(self._limit if refused else min(self._limit, peak + 1.0))
            # Where a careful try was what made it slow, taking that back is enough.
            deep = self._limit * max(DEEPEST, min(DECREASE, tolerance / ratio))
            self._move(max(deep, self._ceiling * BELOW - 1.0) if tried else deep, now)
        elif ratio > 0.0 and (refused or peak >= self._limit * USED):
            self._move(self._limit + self._step(), self._changed_at)

    def _slow_at(self, ceiling: float) -> None:
        """It got slow with so many under way. The more often that is at about the same place, the longer it keeps
        a little below it before it tries again: each try is paid for by those who then wait."""
        same = abs(ceiling - self._ceiling) <= max(2.0, self._ceiling / 4)
        self._patience = min(self._patience * 2, MOST_PATIENCE) if same else LEAST_PATIENCE
        self._hold = self._patience
        self._ceiling = ceiling

    def _step(self) -> float:
        """How far to rise: doubling while nothing was ever slow, then fast to a little below where it got slow, and
        carefully from there."""
        if self._ceiling == 0.0:
            return self._limit
        below = self._ceiling * BELOW - self._limit
        if below > 0.0:
            return max(min(1.0, below), below / 2)
        if self._hold > 0:
            return 0.0
        return max(0.5, sqrt(self._limit) / (10 if self._limit < self._ceiling * 1.2 else 1))

    def _move(self, limit: float, changed_at: float) -> None:
        bounds = self.bounds
        least = max(1.0, bounds.min_concurrency / self._divide_by)
        self._limit = min(max(limit, least), max(least, bounds.max_concurrency / self._divide_by))
        if changed_at > self._changed_at:
            self._changed_at = changed_at
            for known in self._times.values():
                for times in known.values():
                    times.seen.clear()

    def _ratio(self, signal: Signal, now: float) -> float:
        """How much slower than usual this signal is; 0.0 when too little is known."""
        known = self._times[signal].values()
        turned = [times.turn() for times in known]
        count = sum(seen for _, seen in turned)
        mean = sum(ratio * seen for ratio, seen in turned) / count if count else 0.0
        slowest_s = max((times.usual_s for times in known), default=0.0)
        return max(mean, self._waited(signal, now) / slowest_s) if slowest_s else mean

    def _waited(self, signal: Signal, now: float) -> float:
        """How long the middle one of those waits that began after the last change; 0.0 when they are few. They are
        kept in the order in which they began, and the limit bounds them."""
        since = self._changed_at
        waiting = [began for began in self._waiting[signal].values() if began >= since]
        return now - waiting[len(waiting) // 2] if len(waiting) >= ENOUGH else 0.0
