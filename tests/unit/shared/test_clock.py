"""The wall clock that a drill has put off, and the one that cannot be."""

import os
from datetime import timedelta

import pytest

from shared.clock import SKEW_VARIABLE, STACK_VARIABLE, SystemClock, skew_asked_for

NEAR = timedelta(minutes=1)


def test_a_skew_moves_the_wall_clock_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """`now` is off by it from the start on; `monotonic` is not."""
    right = SystemClock()
    monkeypatch.setenv(STACK_VARIABLE, "/somewhere")
    monkeypatch.setenv(SKEW_VARIABLE, "-3600.0")
    off = SystemClock()
    monkeypatch.delenv(SKEW_VARIABLE)
    assert abs(right.now() - off.now() - timedelta(hours=1)) < NEAR
    assert abs(right.monotonic() - off.monotonic()) < 60
    assert abs(SystemClock().now() - right.now()) < NEAR


def test_outside_a_local_stack_there_is_no_skew(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that has strayed into a real deployment does nothing."""
    monkeypatch.delenv(STACK_VARIABLE, raising=False)
    monkeypatch.setenv(SKEW_VARIABLE, "3600")
    assert skew_asked_for() == 0.0


@pytest.mark.parametrize("text", ["soon", "nan", "inf", "1e12"])
def test_a_skew_that_is_none_is_told(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the variable's name, with what it takes."""
    monkeypatch.setenv(STACK_VARIABLE, os.sep)
    monkeypatch.setenv(SKEW_VARIABLE, text)
    with pytest.raises(ValueError, match=f"{SKEW_VARIABLE} takes seconds"):
        SystemClock()
