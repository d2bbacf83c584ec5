"""What is usual of a figure, and when it is out of the usual."""

from hypothesis import given, settings
from hypothesis import strategies as st

from control_plane.core.baseline import BLOCK, FIRST_BLOCK, UNLEARNT, Baseline, learn, usual
from control_plane.core.trend import PATIENCE, Rule, Trend, line_of, step

RULE = Rule(deviations=5, floor=100, ratio=1.5, windows_in=3, windows_out=6)
WARNING = Rule(deviations=5, floor=100, ratio=1.5, windows_in=3, windows_out=6, warn=True)
PANEL = 7


def learnt(values: list[float], hour: int = 9, baseline: Baseline = UNLEARNT) -> Baseline:
    for value in values:
        baseline = learn(baseline, value, hour)
    return baseline


def after(trend: Trend, values: list[float | None], *, hour: int = 9, rule: Rule = RULE) -> Trend:
    for value in values:
        trend = step(trend, value, panel=PANEL, hour=hour, rule=rule)
    return trend


def steady(usual_ms: float = 120.0, spread_ms: float = 20.0) -> Trend:
    """Half an hour around `usual_ms`."""
    around = [usual_ms + spread_ms * (place % 5 - 2) / 2 for place in range(180)]
    return after(Trend(), around)  # type: ignore[arg-type]


def test_nothing_is_usual_before_the_first_block() -> None:
    """A cold replica judges nothing: five minutes at the default pace."""
    assert usual(learnt([5.0] * (FIRST_BLOCK - 1)), 9) == ()
    assert len(usual(learnt([5.0] * FIRST_BLOCK), 9)) == 2
    cold = after(Trend(), [5.0] * (FIRST_BLOCK - 1) + [900.0] * 1)
    assert not cold.out


def test_median_and_deviation_are_those_of_the_block() -> None:
    """The median, and 1.4826 times the median absolute deviation; an outlier changes neither."""
    values = [100.0, 110.0, 120.0, 130.0, 140.0] * 6
    values[0] = 1_000_000.0
    norm, _ = usual(learnt(values), 9)
    assert norm.median == 120.0
    assert abs(norm.deviation - 14.826) < 0.01


def test_an_hour_has_its_own_norm() -> None:
    """What is slow at night is usual at noon: the higher limit of the hour's and all hours' counts."""
    baseline = learnt([50.0] * FIRST_BLOCK, hour=3)
    baseline = learnt([400.0] * BLOCK, hour=12, baseline=baseline)
    assert [norm.median for norm in usual(baseline, 12)] == [400.0, 225.0]
    assert line_of(usual(baseline, 12), RULE).usual == 400.0
    assert line_of(usual(baseline, 3), RULE).limit < line_of(usual(baseline, 12), RULE).limit


def test_a_block_ends_with_its_hour() -> None:
    """Figures of one hour do not enter another's norm; too few of them enter none."""
    baseline = learnt([50.0] * FIRST_BLOCK, hour=3)
    few = learnt([90.0], hour=5, baseline=learnt([700.0] * 11, hour=4, baseline=baseline))
    assert len(usual(few, 4)) == 1
    enough = learnt([90.0], hour=5, baseline=learnt([700.0] * 12, hour=4, baseline=baseline))
    assert usual(enough, 4)[0].median == 700.0


def test_out_of_the_usual_takes_several_windows_and_so_does_the_way_back() -> None:
    """Three in a row make it, six in a row below half of the way end it; one between starts anew."""
    trend = steady()
    assert not after(trend, [480.0, 480.0, 130.0, 480.0, 480.0]).out
    trend = after(trend, [480.0] * 3)
    assert trend.out
    assert trend.case is not None
    assert round(trend.case.value) == 480
    assert 100 < trend.case.line.usual < 140
    trend = after(trend, [120.0] * 5 + [400.0] + [120.0] * 5)
    assert trend.out
    assert not after(trend, [120.0]).out


def test_floors_make_nothing_of_small_figures() -> None:
    """1 ms that becomes 3 ms, however steady it was, and 1 s that becomes 1.4 s: nothing."""
    assert not after(steady(1.0, 0.0), [3.0] * 50).out
    assert not after(steady(1000.0, 0.0), [1400.0] * 50).out
    assert after(steady(1000.0, 0.0), [1600.0] * 3).out


def test_another_panel_is_not_compared() -> None:
    """When the nearest vantage falls silent, the others' higher median is not a slower target; when it
    stays away, the baseline begins anew."""
    trend = steady()
    for _ in range(PATIENCE):
        trend = step(trend, 700.0, panel=PANEL + 1, hour=9, rule=RULE)
        assert not trend.out
    trend = step(trend, 700.0, panel=PANEL + 1, hour=9, rule=RULE)
    assert (trend.panel, usual(trend.baseline, 9)) == (PANEL + 1, ())
    back = step(
        step(steady(), 700.0, panel=PANEL + 1, hour=9, rule=RULE), 120.0, panel=PANEL, hour=9, rule=RULE
    )
    assert len(usual(back.baseline, 9)) == 2


def test_nothing_is_held_against_a_target_that_nobody_sees() -> None:
    """Without figures for as long as it takes to come back, it is not out of the usual any more."""
    trend = after(steady(), [480.0] * 3)
    assert after(trend, [None] * 5).out
    assert not after(trend, [None] * 6).out


def test_a_lasting_change_becomes_usual_in_hours_not_minutes() -> None:
    """What is out of the usual is learnt clipped: half an hour does not make it the norm, a day does."""
    trend = after(steady(), [10_000.0] * BLOCK)
    assert all(norm.median < 200.0 for norm in usual(trend.baseline, 9)), (
        "one block of a fault moves it little"
    )
    trend = after(steady(), [300.0] * 180)
    assert trend.out
    assert not after(trend, [300.0] * 6 * 60 * 24).out


def test_a_rise_is_foretold_before_the_limit() -> None:
    """A steady climb is warned of while below the limit; without being asked for, it is not."""
    climb: list[float | None] = [120.0 + 12.0 * place for place in range(1, 8)]
    warned = after(steady(), climb, rule=WARNING)
    assert (warned.warned, warned.out) == (True, False)
    assert not after(steady(), climb).warned
    assert not after(warned, [120.0] * 6, rule=WARNING).warned
    noise: list[float | None] = [125.0, 110.0, 131.0, 118.0, 122.0, 134.0] * 10
    assert not after(steady(), noise, rule=WARNING).warned


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 10_000), min_size=1, max_size=150), st.integers(0, 23))
def test_what_stays_below_the_floor_is_never_out(values: list[float], hour: int) -> None:
    """Whatever came before, a figure within the floor of zero is never out of the usual for long."""
    trend = after(Trend(), list(values), hour=hour)
    assert not after(trend, [0.0] * RULE.windows_out, hour=hour).out


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(st.none(), st.floats(0, 1e6)), max_size=200))
def test_it_never_turns_faster_than_the_rule(values: list[float | None]) -> None:
    """Between two turns lie at least as many windows as the rule asks for."""
    trend, turned_at = Trend(), -1000
    for at, value in enumerate(values):
        before = trend.out
        trend = step(trend, value, panel=PANEL, hour=0, rule=RULE)
        if trend.out != before:
            assert at - turned_at >= RULE.windows_in
            turned_at = at
