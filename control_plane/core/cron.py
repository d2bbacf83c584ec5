"""Cron expressions, in UTC: five fields, as Debian's cron reads them (`cronsim`).

`next_after` and `last_until` look at most fifty years far; an expression that names no day of any
year, the 31st of February, has neither.
"""

from datetime import UTC, datetime, timedelta

from cronsim import CronSim, CronSimError

FIELDS = "minute, hour, day of the month, month, weekday"


def fault(expression: str) -> str | None:
    """What is wrong with it, in a sentence; None when nothing is."""
    count = len(expression.split())
    if count != 5:
        return f"{expression!r} has {count} fields and not five: write {FIELDS}, as in '0 3 * * 1'"
    try:
        CronSim(expression, datetime(2000, 1, 1, tzinfo=UTC))
    except CronSimError as error:
        return f"{expression!r}: {error}; write {FIELDS}, as in '0 3 * * 1'"
    if next_after(expression, datetime(2000, 1, 1, tzinfo=UTC)) is None:
        return f"{expression!r} never comes: no year has that day"
    return None


def next_after(expression: str, at: datetime) -> datetime | None:
    """The first time after `at`. Raises CronSimError for what `fault` names."""
    return next(CronSim(expression, at.astimezone(UTC)), None)


def last_until(expression: str, at: datetime) -> datetime | None:
    """The last time that is not after `at`. Raises as `next_after`."""
    above = at.astimezone(UTC).replace(microsecond=0) + timedelta(seconds=1)
    return next(CronSim(expression, above, reverse=True), None)
