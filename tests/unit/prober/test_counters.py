from datetime import UTC, datetime, timedelta
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prober.core.counters import REMEMBERED, TRANSITIONS, Finding, Track, quantile, step
from shared.vocabulary.config import Monitor
from shared.vocabulary.terms import Outcome

START = datetime(2030, 1, 1, tzinfo=UTC)
LETTERS = {
    ".": Finding(Outcome.OK, 10.0),
    "s": Finding(Outcome.SLOW, 900.0),
    "t": Finding(Outcome.THROTTLED, 5.0),
    "f": Finding(Outcome.FAILED, 5.0),
    "g": Finding(Outcome.GARBLED, 5.0),
    "R": Finding(Outcome.REFUSED, 1.0, hard=True),
    "T": Finding(Outcome.TIMED_OUT, 900.0, hard=True),
    "o": Finding(Outcome.TIMED_OUT, 900.0),
}


def monitor(down: int = 2, up: int = 3) -> Monitor:
    return Monitor(id="http", kind="http", consecutive_down=down, consecutive_up=up)


def after(outcomes: str, *, down: int = 2, up: int = 3) -> Track:
    track = Track()
    for n, letter in enumerate(outcomes):
        track = step(
            track,
            LETTERS[letter],
            monitor(down, up),
            now=START + timedelta(seconds=n),
            traceparent=f"00-{n + 1:032x}-{n + 1:016x}-01",
        )
    return track


@pytest.mark.parametrize(
    ("outcomes", "state"),
    [
        ("", "UNKNOWN"),
        ("..", "UNKNOWN"),
        ("...", "UP"),
        ("s.s", "UP"),
        ("f", "UNKNOWN"),
        ("ff", "DOWN"),
        ("...f", "UP"),
        ("...f.f.f.", "UP"),
        ("...fg", "DOWN"),
        ("...ff..", "DOWN"),
        ("...ff...", "UP"),
        ("...ff..f...", "UP"),
        ("...tttttttt", "UP"),
        ("tttttttt", "UNKNOWN"),
        ("...ftf", "UP"),
        ("ff.t..", "DOWN"),
    ],
)
def test_states_by_story(outcomes: str, state: str) -> None:
    """Runs of outcomes, not single ones, change the state; THROTTLED neither makes DOWN nor UP."""
    assert after(outcomes).state == state


@pytest.mark.parametrize(
    ("outcomes", "hard"),
    [
        ("...", False),
        ("...R", True),
        ("...RR", True),
        ("...RT", True),
        ("...fR", False),
        ("...Rf", False),
        ("...fRR", True),
        ("...ooooRR", True),
        ("...ooooR", False),
        ("...RRRRo", False),
        ("...RR.", False),
        ("...RRt", False),
    ],
)
def test_hardness_by_story(outcomes: str, hard: bool) -> None:
    """Hard is a run that ends in as many hard outcomes as DOWN takes, so one answer that broke off while
    the server died does not keep its death soft."""
    assert after(outcomes).hard(monitor()) is hard


@given(
    outcomes=st.text(alphabet=list(LETTERS), max_size=60),
    down=st.integers(1, 5),
    up=st.integers(1, 5),
)
def test_counters_tell_the_last_run(outcomes: str, down: int, up: int) -> None:
    """At any time, at most one counter is above zero, it is the length of the last run, and the state
    follows from the last run that was long enough."""
    track = after(outcomes, down=down, up=up)
    good = len(outcomes) - len(outcomes.rstrip(".s"))
    bad = len(outcomes) - len(outcomes.rstrip("fgRTo"))
    assert (track.good, track.bad) == (good, bad)
    state, runs = "UNKNOWN", (0, 0)
    for letter in outcomes:
        runs = (runs[0] + 1, 0) if letter in ".s" else (0, 0) if letter == "t" else (0, runs[1] + 1)
        state = "UP" if runs[0] >= up else "DOWN" if runs[1] >= down else state
    assert track.state == state


@given(
    outcomes=st.text(alphabet=list(LETTERS), max_size=30),
    down=st.integers(1, 4),
    up=st.integers(1, 4),
    letter=st.sampled_from(list(LETTERS)),
)
def test_only_a_track_on_the_verge_changes_its_state(outcomes: str, down: int, up: int, letter: str) -> None:
    """Whoever begins spans for tracks on the verge has one for every change."""
    before = after(outcomes, down=down, up=up)
    if step(before, LETTERS[letter], monitor(down, up), now=START, traceparent=None).state != before.state:
        assert before.on_the_verge(monitor(down, up))


def test_the_steady_state_is_not_on_the_verge() -> None:
    """A target that is well costs no spans."""
    assert not after("....").on_the_verge(monitor())
    assert not after("...ffff").on_the_verge(monitor())


def test_times_and_traces_are_those_of_the_change() -> None:
    """`changed_at` and the trace stay with the probe that changed the state."""
    track = after("...ffff")
    assert track.changed_at == START + timedelta(seconds=4)
    assert track.traceparent == f"00-{5:032x}-{5:016x}-01"
    assert track.probed_at == START + timedelta(seconds=6)


def test_latencies_are_those_of_good_answers_and_few() -> None:
    """A quick refusal does not make a target look fast, and memory does not grow."""
    assert after("...RRRff").latencies_ms == (10.0, 10.0, 10.0)
    assert len(after("." * 100).latencies_ms) == REMEMBERED


def test_a_monitor_that_knows_counts_the_wrong_of_the_last_hundred() -> None:
    """Right and wrong answers, by those who know; what brought no answer is neither."""
    knowing = Monitor(id="ask", kind="chat", prompt="2+2?", expect_answer="4")

    def judged(outcomes: str, monitor: Monitor = knowing) -> tuple[int, int]:
        track = Track()
        for letter in outcomes:
            track = step(track, LETTERS[letter], monitor, now=START, traceparent=None)
        return track.judged, track.wrong.bit_count()

    assert judged("") == (0, 0)
    assert judged("..g.sgRTfot") == (6, 2)
    assert judged("g" * 30 + "." * 80) == (100, 20)
    assert judged("g" * 300) == (100, 100)
    assert judged("..g.", Monitor(id="http", kind="http")) == (0, 0)


def test_the_table_is_complete() -> None:
    """Every state has an answer to every event."""
    states, events = ("UNKNOWN", "UP", "DOWN"), ("good", "bad", "neither")
    assert set(TRANSITIONS) == set(product(states, events))


def test_quantiles_are_nearest_rank() -> None:
    """Of 20 values the median is the tenth and the 99th percentile the greatest; of none it is 0."""
    values = [float(n) for n in range(20, 0, -1)]
    assert (quantile(values, 0.5), quantile(values, 0.99)) == (10.0, 20.0)
    assert quantile([7.0], 0.5) == 7.0
    assert quantile([], 0.99) == 0.0


def test_an_answer_that_could_not_be_compared_is_life_and_no_quality() -> None:
    """A model whose thoughts were cut off by our own limit is up, and neither right nor wrong."""
    chat = Monitor(id="chat", kind="chat", consecutive_up=2)
    track = Track()
    for unjudged in (True, True, False, True):
        finding = Finding(Outcome.OK, 1.0, unjudged=unjudged)
        track = step(track, finding, chat, now=START, traceparent=None)
    assert (track.state, track.good, track.judged, track.wrong) == ("UP", 4, 1, 0)
