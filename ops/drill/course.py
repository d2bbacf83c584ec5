"""The course of one drill: which phase it is in, what happened when, and what was measured.

preparing  who is struck is worked out, and the fleet must be well
warm       steady load, nothing is broken
fault      every fault is put on record, then put in place, and kept
recovery   every fault is undone, and the fleet takes back what it left
reporting  whatever became of it, it ends here
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from ops.errors import OpsError
from shared.clock import Clock
from shared.vocabulary.drill import MAX_EVENTS
from shared.vocabulary.status import DrillEvent

Phase = Literal["preparing", "warm", "fault", "recovery", "reporting"]

NEXT: Mapping[Phase, frozenset[Phase]] = {
    "preparing": frozenset({"warm", "reporting"}),
    "warm": frozenset({"fault", "reporting"}),
    "fault": frozenset({"recovery", "reporting"}),
    "recovery": frozenset({"reporting"}),
    "reporting": frozenset(),
}
"""Any phase may end in the report; otherwise they follow each other."""


@dataclass(slots=True)
class Course:
    """A drill under way. Times in ms from the injection, `recovered_ms` from the end of the fault."""

    clock: Clock
    phase: Phase = "preparing"
    begun_utc: datetime | None = None
    injected_at: float | None = None
    injected_utc: datetime | None = None
    mended_at: float | None = None
    timeline: list[DrillEvent] = field(default_factory=list)
    detect_ms: float | None = None
    decide_ms: float | None = None
    apply_ms: float | None = None
    recovered_ms: float | None = None
    moves: list[str] = field(default_factory=list)
    """Targets of which a decision changed somebody's part, in words: `alpha-eu-west by 1.7`."""
    held_down: dict[str, str] = field(default_factory=dict)
    """Struck target -> why it had to stay out for longer than one that goes out for the first time."""
    trace_id: str | None = None
    aborted: bool = False
    failures: list[str] = field(default_factory=list)

    def enter(self, phase: Phase) -> None:
        """Go on to `phase`; raises ValueError where that does not follow."""
        if phase not in NEXT[self.phase]:
            raise ValueError(f"{phase} does not follow {self.phase}")
        self.phase = phase

    def inject(self) -> float:
        """From now on times count; returns now, on the clock's monotonic time."""
        self.injected_at, self.injected_utc = self.clock.monotonic(), self.clock.now()
        return self.injected_at

    def mended(self) -> float:
        """The fault has gone; returns now."""
        self.mended_at = self.clock.monotonic()
        return self.mended_at

    def abort(self, reason: str) -> None:
        """It ends before its time."""
        self.aborted = True
        self.failures.append(reason)
        self.note("aborted", reason=reason)

    def fail(self, error: OpsError) -> None:
        """It could not be carried out."""
        self.failures.append(str(error))
        self.note("failed", reason=str(error))

    def note(self, event: str, *, stated: datetime | None = None, **values: Any) -> float:
        """Write into the timeline; returns when it was, in ms.

        Seeing is late by up to a poll. `stated` is the fleet's own time of the event (a local stack
        has one clock); it is taken where it is possible: after the injection, not after it was seen.
        """
        seen_ms = 0.0 if self.injected_at is None else (self.clock.monotonic() - self.injected_at) * 1000
        at_ms = seen_ms
        if stated is not None and self.injected_utc is not None:
            stated_ms = (stated - self.injected_utc).total_seconds() * 1000
            at_ms = stated_ms if 0 <= stated_ms <= seen_ms else seen_ms
        if len(self.timeline) < MAX_EVENTS:
            self.timeline.append(DrillEvent(at_ms=round(at_ms, 1), event=event, values=values))
        return round(at_ms, 1)

    @property
    def ordered(self) -> tuple[DrillEvent, ...]:
        """The timeline by time."""
        return tuple(sorted(self.timeline, key=lambda event: event.at_ms))

    def seconds(self, at: float) -> float:
        """A monotonic time in seconds from the injection; from now where nothing was injected."""
        zero = self.clock.monotonic() if self.injected_at is None else self.injected_at
        return round(at - zero, 3)
