"""Times as an operator types them: `2026-11-22T19:30:00Z`, `19:30` would be ambiguous and is refused,
`30m` is half an hour ago."""

import re
from datetime import UTC, datetime, timedelta

from ops.errors import Usage

_UNITS_S = {"s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}
_SPAN = re.compile(r"^([0-9]+(?:\.[0-9]+)?)([smhd])$")
_DAY_S = 86_400.0
MAX_SPAN_S = 31 * _DAY_S


def span_s(text: str, *, option: str = "", most_s: float = MAX_SPAN_S) -> float:
    """`90s`, `30m`, `2h` or `1d` as seconds. Raises Usage, which names the `option` it was given to."""
    found = _SPAN.match(text)
    said = f"{option} {text}".strip()
    if found is None:
        raise Usage(f"{said}: is no time span: write 90s, 30m, 2h or 1d")
    seconds = float(found[1]) * _UNITS_S[found[2]]
    if seconds == 0:
        raise Usage(f"{said}: that is no time at all: write 90s, 30m, 2h or 1d")
    if seconds > most_s:
        raise Usage(f"{said}: is too long: at most {most_s / _DAY_S:g}d")
    return seconds


def moment(text: str, *, now: datetime) -> datetime:
    """A span before `now`, or an ISO 8601 time, UTC where it names no zone. Raises Usage."""
    if _SPAN.match(text):
        return now - timedelta(seconds=span_s(text))
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise Usage(f"{text!r} is no time: write 2026-11-22T19:30:00Z, or 30m for half an hour ago") from None
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)


def is_moment(text: str) -> bool:
    """Whether `moment` would take it; else it is the name of a file."""
    try:
        moment(text, now=datetime.fromtimestamp(0, UTC))
    except Usage:
        return False
    return True
