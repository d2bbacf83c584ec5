"""How steps are written on the command line."""

import pytest

from ops.cli.rollouts import parse_steps
from ops.errors import Usage


def test_steps_are_shares_and_times() -> None:
    """Percent with one decimal; seconds, minutes or hours; five minutes where nothing is said."""
    assert parse_steps("0.5%:90s, 10%:5m,100%:1h") == [
        {"permille": 5, "bake_s": 90.0},
        {"permille": 100, "bake_s": 300.0},
        {"permille": 1000, "bake_s": 3600.0},
    ]
    assert parse_steps("100%") == [{"permille": 1000, "bake_s": 300.0}]


@pytest.mark.parametrize("text", ["", "10", "10:5m", "%:5m", "10%:", "10%,,20%", "1.25%:1m"])
def test_what_is_no_step_is_named(text: str) -> None:
    """With what should have been written."""
    with pytest.raises(Usage, match="write SHARE%:TIME"):
        parse_steps(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("10%:5", "--steps 5: is no time span"),
        ("10%:0s", "--steps 0s: that is no time at all"),
        ("10%:8d", "--steps 8d: is too long: at most 7d"),
        ("50%:5m,10%:5m", "'10%:5m': shares rise"),
        ("10%:5m,10%:5m", "shares rise"),
        ("101%", "to 100% at most"),
        ("0%:5m", "shares rise"),
    ],
)
def test_a_step_that_cannot_be_is_wrong_usage(text: str, said: str) -> None:
    """Said here, by the option, and not by the control plane's field names."""
    with pytest.raises(Usage, match=said):
        parse_steps(text)
