"""Cron expressions: what is wrong with one, its next time and its last."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.core.cron import fault, last_until, next_after

NOW = datetime(2030, 1, 4, 12, 0, 30, tzinfo=UTC)
"""A Friday."""


@pytest.mark.parametrize(
    ("expression", "after", "before"),
    [
        ("0 3 * * 1", "2030-01-07T03:00", "2029-12-31T03:00"),
        ("*/15 * * * *", "2030-01-04T12:15", "2030-01-04T12:00"),
        ("30 2 1 * *", "2030-02-01T02:30", "2030-01-01T02:30"),
        ("0 0 29 2 *", "2032-02-29T00:00", "2028-02-29T00:00"),
        ("0 9 * * mon-fri", "2030-01-07T09:00", "2030-01-04T09:00"),
    ],
)
def test_times_around_a_moment(expression: str, after: str, before: str) -> None:
    """In UTC."""
    assert fault(expression) is None
    assert next_after(expression, NOW) == datetime.fromisoformat(f"{after}+00:00")
    assert last_until(expression, NOW) == datetime.fromisoformat(f"{before}+00:00")


def test_a_time_is_its_own_last() -> None:
    """To the microsecond: not a moment before."""
    noon = datetime(2030, 1, 4, 12, 0, tzinfo=UTC)
    assert last_until("0 12 * * *", noon) == noon
    assert last_until("0 12 * * *", noon + timedelta(microseconds=1)) == noon
    assert last_until("0 12 * * *", noon - timedelta(microseconds=1)) == noon - timedelta(days=1)


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("0 3 * *", "has 4 fields and not five"),
        ("0 0 3 * * 1", "has 6 fields and not five"),
        ("@weekly", "has 1 fields and not five"),
        ("60 3 * * 1", "Bad minute"),
        ("0 3 * * funday", "Bad day-of-week"),
        ("0 3 31 2 *", "Bad day-of-month"),
        ("0 3 30 feb mon", None),
    ],
)
def test_what_is_wrong_is_said(expression: str, said: str | None) -> None:
    """With the form it must have."""
    found = fault(expression)
    assert (found is None) == (said is None)
    if said is not None:
        assert found is not None
        assert said in found
        assert "0 3 * * 1" in found


@given(st.text(alphabet="0123456789*/-,#LW AMONFEB", max_size=24))
def test_nothing_but_the_words_comes_of_garbage(expression: str) -> None:
    """Every expression has times, or a fault in words."""
    if fault(expression) is None:
        after = next_after(expression, NOW)
        assert after is not None
        assert after > NOW
        assert last_until(expression, after) == after
