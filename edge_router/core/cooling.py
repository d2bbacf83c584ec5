"""For how long a target that throttles is spared, by its own word.

order      a used-up quota: 10 min, whatever else is said
           `retry-after-ms`, as OpenAI and Azure send it
           `Retry-After`, seconds or a date (RFC 9110, section 10.2.3). A date is read against the
           answer's own `Date`: two clocks that disagree must not make a second an hour
           the body's word (google.rpc.RetryInfo)
           when the limits are said to be filled again: of those with nothing left the last, else the
           first. OpenAI "Rate limits" (`x-ratelimit-reset-requests: 6m0s`), Anthropic "Rate limits"
           (`anthropic-ratelimit-tokens-reset`, RFC 3339)
           `COOL_UNSAID_S`
clamped    an absurd word must neither hammer the target nor bury it
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final, NamedTuple

from edge_router.core.error_body import About, Told
from edge_router.core.wire import ResponseHead

COOL_LEAST_S: Final = 0.5
COOL_MOST_S: Final = 600.0
COOL_UNSAID_S: Final = 1.0
"""When a 429 does not say for how long."""
QUOTA_COOL_S: Final = 600.0
"""A quota that is used up does not come back within a minute, whatever Retry-After says."""


class Cooling(NamedTuple):
    """How long to spare a target, and whether its account's quota is used up."""

    seconds: float
    exhausted: bool = False


UNSAID: Final = Cooling(COOL_UNSAID_S)


def cooling_of(head: ResponseHead, told: Told, now: datetime) -> Cooling:
    """What a throttling answer says; `now` is this edge's wall clock, for answers without a `Date`."""
    if told.about is About.QUOTA:
        return Cooling(QUOTA_COOL_S, exhausted=True)
    fields = _fields(head.forward)
    at = _date(fields.get("date")) or now
    said = _milliseconds(fields.get("retry-after-ms"))
    if said is None:
        said = _retry_after(fields.get("retry-after"), at)
    if said is None:
        said = told.retry_s
    if said is None:
        said = _until_reset(fields, at)
    return UNSAID if said is None else Cooling(min(max(said, COOL_LEAST_S), COOL_MOST_S))


def _fields(lines: bytes) -> Mapping[str, str]:
    """Header lines by name, the first of each."""
    fields: dict[str, str] = {}
    for line in lines.decode("latin-1").split("\r\n"):
        name, colon, value = line.partition(": ")
        if colon:
            fields.setdefault(name, value)
    return fields


def _milliseconds(value: str | None) -> float | None:
    return float(value) / 1000 if value is not None and _NUMBER.fullmatch(value) else None


def _retry_after(value: str | None, at: datetime) -> float | None:
    if value is None:
        return None
    if _NUMBER.fullmatch(value):
        return float(value)
    date = _date(value)
    return None if date is None else (date - at).total_seconds()


def _date(value: str | None) -> datetime | None:
    """An HTTP date (RFC 9110, section 5.6.7)."""
    if value is None:
        return None
    try:
        date = parsedate_to_datetime(value)
    except ValueError:
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)


def _until_reset(fields: Mapping[str, str], at: datetime) -> float | None:
    """Until the limits that have nothing left are filled again; where none is said to be empty, until the
    first is: the request was larger than what was left of some."""
    empty: list[float] = []
    others: list[float] = []
    for name, value in fields.items():
        found = _RESET.fullmatch(name)
        if found is None:
            continue
        seconds = _duration(value) if found["openai"] else _instant(value, at)
        if seconds is not None:
            left = fields.get(
                _REMAINING[found["openai"] is not None] % (found["openai"] or found["anthropic"])
            )
            (empty if left == "0" else others).append(seconds)
    return max(empty) if empty else min(others, default=None)


def _duration(value: str) -> float | None:
    """`6m0s`, `1s`, `20ms`, `1h2m3.5s`, as Go writes them."""
    if _DURATION.fullmatch(value) is None or not value:
        return None
    return sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(value))


def _instant(value: str, at: datetime) -> float | None:
    """Seconds until a time as RFC 3339 writes it."""
    try:
        instant = datetime.fromisoformat(value)
    except ValueError:
        return None
    return (instant - at).total_seconds() if instant.tzinfo else None


_NUMBER: Final = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,9})?")
_PART: Final = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(ms|h|m|s)")
_DURATION: Final = re.compile(rf"(?:{_PART.pattern}){{1,4}}")
_UNITS: Final = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_RESET: Final = re.compile(
    r"x-ratelimit-reset-(?P<openai>requests|tokens)"
    r"|anthropic-ratelimit-(?P<anthropic>requests|tokens|input-tokens|output-tokens)-reset"
)
_REMAINING: Final = {True: "x-ratelimit-remaining-%s", False: "anthropic-ratelimit-%s-remaining"}
