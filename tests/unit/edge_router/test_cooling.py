"""How long a throttling target is spared, by each way in which providers say so."""

from datetime import UTC, datetime

import pytest

from edge_router.core.cooling import COOL_MOST_S, QUOTA_COOL_S, cooling_of
from edge_router.core.error_body import About, Told
from edge_router.core.wire import ResponseHead, parse_response_head

NOW = datetime(2026, 11, 1, 12, 0, 0, tzinfo=UTC)
NOTHING = Told(About.OTHER)


def response(*fields: str) -> ResponseHead:
    lines = ["HTTP/1.1 429 X", "content-type: application/json", *fields, "", ""]
    return parse_response_head("\r\n".join(lines).encode())


@pytest.mark.parametrize(
    ("fields", "seconds"),
    [
        (("x-a: b",), 1.0),
        (("Retry-After: 7",), 7.0),
        (("retry-after: 1.5",), 1.5),
        (("retry-after: 0",), 0.5),
        (("retry-after: -5",), 1.0),
        (("retry-after: 99999999",), 600.0),
        (("retry-after: 9999999999999999999999",), 1.0),
        (("retry-after: soon",), 1.0),
        (("retry-after: ",), 1.0),
        (("retry-after: Sun, 01 Nov 2026 12:00:30 GMT",), 30.0),
        (("retry-after: Sun, 01 Nov 2026 11:00:00 GMT",), 0.5),
        (("retry-after: Sun, 01 Nov 2099 11:00:00 GMT",), 600.0),
        # The target's clock is an hour ahead, and an hour behind: its own Date says so.
        (("date: Sun, 01 Nov 2026 13:00:00 GMT", "retry-after: Sun, 01 Nov 2026 13:00:20 GMT"), 20.0),
        (("date: Sun, 01 Nov 2026 11:00:00 GMT", "retry-after: Sun, 01 Nov 2026 11:00:20 GMT"), 20.0),
        (("date: nonsense", "retry-after: Sun, 01 Nov 2026 12:00:20 GMT"), 20.0),
        (("retry-after-ms: 1200",), 1.2),
        (("retry-after-ms: 1200", "retry-after: 2"), 1.2),
        (("retry-after-ms: x", "retry-after: 2"), 2.0),
    ],
)
def test_retry_after(fields: tuple[str, ...], seconds: float) -> None:
    """Seconds or a date, read by the target's own clock, clamped to 0.5 to 600 s."""
    cooling = cooling_of(response(*fields), NOTHING, NOW)
    assert (cooling.seconds, cooling.exhausted) == (pytest.approx(seconds), False)


@pytest.mark.parametrize(
    ("fields", "seconds"),
    [
        (("x-ratelimit-reset-requests: 1s",), 1.0),
        (("x-ratelimit-reset-tokens: 6m0s",), 360.0),
        (("x-ratelimit-reset-tokens: 1m2.5s",), 62.5),
        (("x-ratelimit-reset-tokens: 720ms",), 0.72),
        (("x-ratelimit-reset-tokens: 20ms",), 0.5),
        (("x-ratelimit-reset-tokens: 24h0m0s",), 600.0),
        (("x-ratelimit-reset-tokens: tomorrow",), 1.0),
        (("x-ratelimit-reset-tokens: ",), 1.0),
        # The one that is empty decides, not the one that is filled again first.
        (
            (
                "x-ratelimit-remaining-requests: 99",
                "x-ratelimit-reset-requests: 1s",
                "x-ratelimit-remaining-tokens: 0",
                "x-ratelimit-reset-tokens: 6s",
            ),
            6.0,
        ),
        (("x-ratelimit-reset-requests: 8s", "x-ratelimit-reset-tokens: 3s"), 3.0),
        (("anthropic-ratelimit-tokens-reset: 2026-11-01T12:00:09Z",), 9.0),
        (
            (
                "anthropic-ratelimit-requests-remaining: 40",
                "anthropic-ratelimit-requests-reset: 2026-11-01T12:00:01Z",
                "anthropic-ratelimit-input-tokens-remaining: 0",
                "anthropic-ratelimit-input-tokens-reset: 2026-11-01T12:00:33Z",
            ),
            33.0,
        ),
        (("date: Sun, 01 Nov 2026 11:59:00 GMT", "anthropic-ratelimit-tokens-reset: 2026-11-01T11:59:04Z"), 4.0),
        (("anthropic-ratelimit-tokens-reset: 2026-11-01T12:00:09",), 1.0),
        (("x-ratelimit-reset-tokens: 6m0s", "retry-after: 2"), 2.0),
    ],
)  # fmt: skip
def test_limits_that_say_when_they_are_filled_again(fields: tuple[str, ...], seconds: float) -> None:
    """OpenAI's durations and Anthropic's instants, where there is no Retry-After."""
    assert cooling_of(response(*fields), NOTHING, NOW).seconds == pytest.approx(seconds)


def test_the_word_of_a_body_counts_after_the_heads() -> None:
    """Google says in the error how long to wait."""
    told = Told(About.OTHER, 34.5)
    assert cooling_of(response(), told, NOW).seconds == 34.5
    assert cooling_of(response("retry-after: 3"), told, NOW).seconds == 3.0
    assert cooling_of(response(), Told(About.OTHER, 1e9), NOW).seconds == COOL_MOST_S


def test_a_used_up_quota_is_ten_minutes_whatever_else_is_said() -> None:
    """And it says that it is one."""
    cooling = cooling_of(response("retry-after: 1"), Told(About.QUOTA), NOW)
    assert cooling == (QUOTA_COOL_S, True)
