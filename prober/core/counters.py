"""What a run of outcomes means: UP, DOWN or UNKNOWN, and whether the evidence is hard.

    states   UNKNOWN   no counter has been filled since the job began
             UP        `consecutive_up` good outcomes in a row, more recently than
             DOWN      `consecutive_down` bad ones in a row
    counters A good outcome fills one and empties the other, and so does a bad one. THROTTLED empties
             both: it proves life, so no bad run goes on across it, but no work was done either.
    hard     The run of bad outcomes ends in hard ones, as many as it takes to be DOWN (or is all hard
             while it is shorter). Not simply all of the run: a server killed in the middle of an answer
             breaks that one off (soft) and refuses ever after (hard), and must not stay soft for that.

To change the states, change TRANSITIONS, `ProbeState.state` and docs/VOCABULARY.md together.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from shared.vocabulary.config import Monitor
from shared.vocabulary.health import QUALITY_RESULTS
from shared.vocabulary.terms import Outcome

State = Literal["UP", "DOWN", "UNKNOWN"]
Filled = Literal["good", "bad", "neither"]

TRANSITIONS: Final[Mapping[tuple[State, Filled], State]] = {
    ("UNKNOWN", "good"): "UP",
    ("UNKNOWN", "bad"): "DOWN",
    ("UNKNOWN", "neither"): "UNKNOWN",
    ("UP", "good"): "UP",
    ("UP", "bad"): "DOWN",
    ("UP", "neither"): "UP",
    ("DOWN", "good"): "UP",
    ("DOWN", "bad"): "DOWN",
    ("DOWN", "neither"): "DOWN",
}
"""By the state before and the counter that this outcome has filled."""

KNOWING: Final = ("chat", "embedding")
"""Kinds of monitors that know what a right answer is; others see only that there is one."""

STANDSTILL_S: Final = 0.5
"""A probe that ends this much after its deadline shows that this process stood still, not its target."""

REMEMBERED: Final = 20
"""Latencies kept for the quantiles. The 99th percentile of so few is their maximum."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one probe came to."""

    outcome: Outcome
    latency_ms: float
    hard: bool = False
    detail: str = ""
    tokens_in: int | None = None
    tokens_out: int | None = None
    """As the target counted them, where it did."""
    unjudged: bool = False
    """An answer that ended before it could be compared with what was expected, by no fault of its own."""


@dataclass(frozen=True, slots=True)
class Track:
    """What is known of one job between two probes."""

    state: State = "UNKNOWN"
    good: int = 0
    bad: int = 0
    hard_bad: int = 0
    """Hard outcomes at the end of the bad run."""
    fine: int = 0
    """Outcomes OK in a row."""
    since_doubt: int | None = None
    """Probes since the last outcome that spoke against the state; None when none ever did."""
    latencies_ms: tuple[float, ...] = ()
    """Of the last good outcomes, oldest first. A refusal is quick and says nothing about speed."""
    last: Finding | None = None
    probed_at: datetime | None = None
    changed_at: datetime | None = None
    traceparent: str | None = None
    """Of the probe that changed `state`."""
    judged: int = 0
    """Answers so far, where the monitor knows what is right; up to `QUALITY_RESULTS`."""
    wrong: int = 0
    """The last `judged` answers as bits, the newest lowest: 1 where it was wrong."""

    def hard(self, monitor: Monitor) -> bool:
        """Whether the present run of bad outcomes is hard evidence."""
        return 0 < min(self.bad, monitor.consecutive_down) <= self.hard_bad

    def on_the_verge(self, monitor: Monitor) -> bool:
        """Whether the next outcome may change `state`: then its probe is worth a span."""
        return (self.state != "UP" and self.good + 1 >= monitor.consecutive_up) or (
            self.state != "DOWN" and self.bad + 1 >= monitor.consecutive_down
        )


def step(
    track: Track, finding: Finding, monitor: Monitor, *, now: datetime, traceparent: str | None
) -> Track:
    """The track after one more probe, which ended at `now`."""
    outcome = finding.outcome
    good = track.good + 1 if outcome.good else 0
    bad = track.bad + 1 if outcome.counts_down else 0
    hard_bad = track.hard_bad + 1 if outcome.counts_down and finding.hard else 0
    filled: Filled = (
        "good" if good >= monitor.consecutive_up else "bad" if bad >= monitor.consecutive_down else "neither"
    )
    state = TRANSITIONS[track.state, filled]
    changed = state != track.state or track.changed_at is None
    doubtful = outcome.good if track.state == "DOWN" else outcome.counts_down
    since_doubt = None if track.since_doubt is None else track.since_doubt + 1
    judged, wrong = _judged(track, finding, monitor)
    return Track(
        state=state,
        good=good,
        bad=bad,
        hard_bad=hard_bad,
        fine=track.fine + 1 if outcome is Outcome.OK else 0,
        since_doubt=0 if doubtful else since_doubt,
        latencies_ms=(*track.latencies_ms, finding.latency_ms)[-REMEMBERED:]
        if outcome.good
        else track.latencies_ms,
        last=finding,
        probed_at=now,
        changed_at=now if changed else track.changed_at,
        traceparent=traceparent if state != track.state else track.traceparent,
        judged=judged,
        wrong=wrong,
    )


def _judged(track: Track, finding: Finding, monitor: Monitor) -> tuple[int, int]:
    """`judged` and `wrong` after `finding`; one that brought no answer changes neither."""
    outcome = finding.outcome
    if monitor.kind not in KNOWING or finding.unjudged or not (outcome.good or outcome is Outcome.GARBLED):
        return track.judged, track.wrong
    kept = (1 << QUALITY_RESULTS) - 1
    return min(QUALITY_RESULTS, track.judged + 1), (track.wrong << 1 | (outcome is Outcome.GARBLED)) & kept


def credible(finding: Finding, monitor: Monitor) -> bool:
    """Whether `finding` tells of the target. After a stop of this process (SIGSTOP, a sleeping host,
    no processor) the deadlines of all probes under way have passed, whatever has arrived meanwhile."""
    return finding.latency_ms <= (monitor.timeout_s + STANDSTILL_S) * 1000


def quantile(values: Sequence[float], q: float) -> float:
    """The smallest value that at least the share `q` of `values` does not exceed (nearest rank); 0.0
    of nothing."""
    if not values:
        return 0.0
    return sorted(values)[max(0, math.ceil(q * len(values)) - 1)]
