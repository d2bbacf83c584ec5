"""What the API asks and tells about drills beside the records themselves (`drill`)."""

from typing import Annotated, Literal, Self

from pydantic import AwareDatetime, ConfigDict, Field, StringConstraints

from shared.vocabulary.base import Id, Message
from shared.vocabulary.drill import Drill, DrillRequest, DrillSchedule, DrillSpec, State, Stop
from shared.vocabulary.override import Author


class DrillBrief(Message):
    """One drill in a list. Figures are null until there is a report; times in ms as in `DrillReport`."""

    id: Id
    n: int
    drill: str
    """The name of its spec."""
    region: Id | None
    author: Author
    reason: str
    schedule: Id | None
    state: State
    requested_at: AwareDatetime
    started_at: AwareDatetime | None
    ended_at: AwareDatetime | None
    runner: Author | None
    phase: Literal["preparing", "warm", "fault", "recovery", "reporting"]
    """Meaningful while it is RUNNING."""
    requests: int
    failed: int
    degraded: int
    """By the report, or by the last progress."""
    stop: Stop | None
    note: str
    success_rate: float | None
    detect_ms: float | None
    decide_ms: float | None
    apply_ms: float | None
    recovered_ms: float | None
    has_page: bool
    """Whether `GET /v1/drills/{id}/report` has something to show."""

    @classmethod
    def of(cls, drill: Drill) -> Self:
        """Of the whole record."""
        report = drill.report
        counted = report if report is not None else drill.progress
        return cls(
            **{name: getattr(drill, name) for name in _SAME},
            note=drill.note or (report.failures[0] if report is not None and report.failures else ""),
            drill=drill.spec.drill,
            region=drill.spec.region,
            phase=drill.progress.phase,
            requests=counted.requests,
            failed=counted.failed,
            degraded=counted.degraded,
            success_rate=report.success_rate if report is not None else None,
            detect_ms=report.detect_ms if report is not None else None,
            decide_ms=report.decide_ms if report is not None else None,
            apply_ms=report.apply_ms if report is not None else None,
            recovered_ms=report.recovered_ms if report is not None else None,
            has_page=drill.report_sha is not None,
        )


_SAME = (
    *("id", "n", "author", "reason", "schedule", "state", "requested_at", "started_at", "ended_at"),
    *("runner", "stop"),
)


class ScheduleReport(Message):
    """A schedule, and when it comes due next; null when never."""

    schedule: DrillSchedule
    next_at: AwareDatetime | None


class DrillList(Message):
    """`GET /v1/drills`."""

    enabled: bool
    """`fleet.drills.enabled`, the master switch."""
    blocked: str | None
    """Why none may begin at this moment; null when one may."""
    active: Id | None
    """The one that is DUE or RUNNING."""
    drills: tuple[DrillBrief, ...]
    """The newest first."""
    schedules: tuple[ScheduleReport, ...]


class ScheduleList(Message):
    """`GET /v1/drills/schedules`."""

    schedules: tuple[ScheduleReport, ...]


class DrillCatalogue(Message):
    """`GET /v1/drills/catalogue`: the built-in drills, by name."""

    drills: tuple[DrillSpec, ...]


class DrillClaim(Message):
    """The body of `POST /v1/drills/{id}/claim`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    runner: Author


class ScheduleOrder(Message):
    """The body of `POST /v1/drills/schedules`. Who orders it, and why, is said in `request`, and holds
    for every drill that comes of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Id
    cron: Annotated[str, StringConstraints(min_length=9, max_length=128), Field(examples=["0 3 * * 1"])]
    """Minute, hour, day of the month, month, weekday; in UTC."""
    request: DrillRequest
