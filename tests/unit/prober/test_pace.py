from datetime import UTC, datetime
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prober.core.counters import Finding, Track, step
from prober.core.pace import EASING, SLOWING, WATCHED, paced_s, stable_after, wanted_s
from shared.vocabulary.config import Monitor
from shared.vocabulary.terms import Outcome
from tests.unit.prober.prober_world import monitor

NOW = datetime(2030, 1, 1, tzinfo=UTC)
LETTERS = {
    ".": Outcome.OK,
    "s": Outcome.SLOW,
    "t": Outcome.THROTTLED,
    "f": Outcome.FAILED,
    "R": Outcome.REFUSED,
}
HURRIED, USUAL, LEISURELY = 1.0, 10.0, 100.0
PACED = monitor(
    interval_s=USUAL, min_interval_s=HURRIED, max_interval_s=LEISURELY, consecutive_down=2, consecutive_up=3
)
STABLE = stable_after(PACED)
outcomes = st.text(alphabet=list(LETTERS), max_size=150)


def tracks(letters: str, paced: Monitor = PACED) -> list[Track]:
    """Before the first of `letters`, and after each."""
    known = [Track()]
    for letter in letters:
        known.append(step(known[-1], Finding(LETTERS[letter], 1.0), paced, now=NOW, traceparent=None))
    return known


def after(letters: str) -> Track:
    return tracks(letters)[-1]


def waits(letters: str, paced: Monitor = PACED) -> list[float]:
    """The wait after each of `letters`."""
    return [wanted_s(track, paced) for track in tracks(letters, paced)[1:]]


@pytest.mark.parametrize(
    ("letters", "wait_s"),
    [
        ("", USUAL),
        (".", HURRIED),
        ("..", HURRIED),
        ("...", USUAL),
        ("t", USUAL),
        ("f", HURRIED),
        ("...f", HURRIED),
        ("...f.", HURRIED),
        ("...ff", HURRIED),
        ("...ff" + "f" * WATCHED, HURRIED),
        ("...ff" + "f" * (WATCHED + 1), HURRIED * EASING),
        ("...ff" + "f" * 100, USUAL),
        ("...ff" + "f" * 100 + ".", HURRIED),
        ("...ff" + "f" * 100 + "...", HURRIED),
        ("...ff....t", USUAL),
        ("...ff" + "." * 50, USUAL),
        ("...sssss", USUAL),
        ("." * STABLE, USUAL),
        ("." * (STABLE + 1), USUAL * SLOWING),
        ("." * (STABLE + 200), LEISURELY),
        ("." * (STABLE + 200) + "s", USUAL),
        ("." * (STABLE + 200) + "s.", USUAL),
        ("." * (STABLE + 200) + "f", HURRIED),
        ("." * (STABLE + 200) + "t", USUAL),
    ],
)
def test_the_pace_by_story(letters: str, wait_s: float) -> None:
    """In doubt it hurries, and eases off; long well it slows down; throttled it keeps to what is configured."""
    assert wanted_s(after(letters), PACED) == pytest.approx(wait_s)


@settings(deadline=None)
@given(outcomes)
def test_without_bounds_nothing_moves_the_pace(letters: str) -> None:
    """Who configures one interval gets that one, whatever happens."""
    plain = monitor(interval_s=USUAL)
    assert set(waits(letters, plain)) <= {USUAL}


@settings(deadline=None)
@given(outcomes, st.integers(1, 5), st.integers(1, 5))
def test_the_pace_stays_within_its_bounds(letters: str, down: int, up: int) -> None:
    """No story makes it faster or slower than the operator allows."""
    paced = PACED.model_copy(update={"consecutive_down": down, "consecutive_up": up})
    assert all(HURRIED <= wait <= LEISURELY for wait in waits(letters, paced))


@settings(deadline=None)
@given(outcomes)
def test_a_surprise_is_followed_up_at_once(letters: str) -> None:
    """Whatever came before, the outcome that contradicts the state makes the next probe an early one."""
    surprise = "." if after(letters).state == "DOWN" else "f"
    assert wanted_s(after(letters + surprise), PACED) == HURRIED


@settings(deadline=None)
@given(outcomes)
def test_a_dead_target_costs_no_more_than_any_in_the_end(letters: str) -> None:
    """The hurry for one that stays DOWN is bounded: a few dozen probes later the pace is the usual one, and
    it never gets faster on the way."""
    dead = waits(letters + "R" * 40)[len(letters) + 2 :]
    assert dead[-1] == USUAL
    assert all(earlier <= later for earlier, later in pairwise(dead))


@settings(deadline=None)
@given(outcomes)
def test_good_news_only_ever_slow_down(letters: str) -> None:
    """Once UP, each further OK means the same wait or a longer one, up to the longest."""
    calm = waits(letters + "." * (STABLE + 60))[len(letters) + 3 :]
    assert all(earlier <= later for earlier, later in pairwise(calm))
    assert calm[-1] == LEISURELY


@pytest.mark.parametrize(("interval_s", "probes"), [(0.25, 2400), (1.0, 600), (60.0, 20), (3600.0, 20)])
def test_long_means_ten_minutes_and_twenty_probes(interval_s: float, probes: int) -> None:
    """A fast monitor does not call half a minute long, nor a slow one three answers."""
    assert stable_after(monitor(interval_s=interval_s, timeout_s=0.1)) == probes


def test_an_endless_run_has_a_pace() -> None:
    """No run is too long for the arithmetic."""
    for endless in (
        Track(state="UP", good=10**9, fine=10**9, last=Finding(Outcome.OK, 1.0)),
        Track(state="DOWN", bad=10**9, since_doubt=10**9, last=Finding(Outcome.FAILED, 1.0)),
    ):
        assert wanted_s(endless, PACED) in (USUAL, LEISURELY)


@pytest.mark.parametrize(
    ("wanted", "carried", "paced"),
    [
        (HURRIED, 0.0, HURRIED),
        (HURRIED, USUAL, HURRIED),
        (HURRIED, USUAL + 1, USUAL + 1),
        (USUAL, USUAL + 1, USUAL + 1),
        (LEISURELY, USUAL + 1, LEISURELY),
        (USUAL, float("inf"), 86_400.0),
    ],
)
def test_doubt_spends_what_the_configured_pace_leaves(wanted: float, carried: float, paced: float) -> None:
    """A surplus under the ceiling may be spent in a hurry; without one the pace is what the ceiling carries."""
    assert paced_s(wanted, carried, PACED) == paced
