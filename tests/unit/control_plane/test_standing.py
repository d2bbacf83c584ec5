"""The ramp: a step back for more than chance, none at full weight, none up while nobody is served."""

from datetime import timedelta

import pytest
from brain_worlds import START

from control_plane.core.advance import least_share
from control_plane.core.memory import Standing
from control_plane.core.standing import Sight, step
from shared.vocabulary.config import Policy
from shared.vocabulary.terms import Verdict

POLICY = Policy(hold_down_cap_s=600, ramp_s=60)
BAD = Sight(Verdict.HEALTHY, doing="badly", served=True)
WELL = Sight(Verdict.HEALTHY, served=True)
NOBODY_SERVED = Sight(Verdict.HEALTHY, served=False)
UNTRIED = Sight(Verdict.HEALTHY)


def climbed(sight: Sight, *, seconds: int, permille: int = 100) -> list[int]:
    """The steps it stands on, second by second, when it is always seen so."""
    standing: Standing | None = Standing(phase="BACK", since=START, permille=permille, stepped_at=START)
    steps = []
    for second in range(seconds):
        standing = step(standing, sight, POLICY, START + timedelta(seconds=second))
        steps.append(1000 if standing is None else standing.permille)
    return steps


def test_at_full_weight_a_bad_window_takes_nothing() -> None:
    """The ramp is over: soft evidence, caution and DOWN judge as they judge everybody."""
    assert set(climbed(BAD, seconds=30, permille=1000)) == {1000}


def test_who_always_does_badly_is_not_out_for_ever() -> None:
    """It waits the cap at every step, the first included, and does not go to and fro."""
    steps = climbed(BAD, seconds=1300)
    assert steps == sorted(steps)
    assert (steps[599], steps[600], steps[1199], steps[1200]) == (100, 300, 300, 1000)


def test_soon_after_coming_back_a_bad_window_is_one_step_back() -> None:
    """From 30 % to 10 %, once the window that was bad lies after the last step."""
    assert climbed(BAD, seconds=15, permille=300) == [300] * 10 + [100] * 5


def test_no_step_up_while_no_attempt_is_answered() -> None:
    """However long. One answer ends that, and so does nobody's trying: a route without traffic must not hold
    its targets down for ever."""
    assert set(climbed(NOBODY_SERVED, seconds=3000)) == {100}
    standing = step(
        Standing(phase="BACK", since=START, permille=100, stepped_at=START), NOBODY_SERVED, POLICY, START
    )
    later = START + timedelta(seconds=100)
    held = step(standing, NOBODY_SERVED, POLICY, later)
    assert held is not None
    assert held.permille == 100
    for sight in (WELL, UNTRIED):
        after = step(held, sight, POLICY, later)
        assert after is not None
        assert after.permille == 300


@pytest.mark.parametrize(
    ("broken", "attempts", "beyond"), [(8, 100, False), (12, 200, False), (20, 100, True), (80, 1000, True)]
)
def test_a_share_beyond_the_limit_by_chance_is_none(broken: int, attempts: int, beyond: bool) -> None:
    """Of 5 %: eight in a hundred may be bad luck, eighty in a thousand are not."""
    assert (least_share(broken, attempts) > 0.05) == beyond
