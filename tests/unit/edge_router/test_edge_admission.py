"""Local ejection: every state under every event, and the promises of the module's head."""

import itertools
from dataclasses import replace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_router.adapters.lane import Lane
from edge_router.adapters.spared import Accounts
from edge_router.core.admission import (
    BENCH_CAP_S,
    BENCH_S,
    CLEAN,
    DEMERITS,
    EJECT_AT,
    FORGIVE_S,
    Admission,
    Event,
    State,
    admits,
    after_outcome,
    after_window,
    step,
)
from edge_router.core.choose import Readiness
from edge_router.core.cooling import Cooling
from edge_router.core.table import Origin, TargetEntry
from shared.vocabulary.terms import Dialect, Outcome

ENTRY = TargetEntry(
    "alpha", "east", Origin("http", "h", 1), b"h", b"", b'"m"', Dialect.OPENAI, None, 64, False
)


def failing(admission: Admission, now: float) -> Admission:
    """After as many failures in a row as eject."""
    for _ in range(EJECT_AT):
        admission = after_outcome(admission, Outcome.REFUSED, now)
    return admission


@pytest.mark.parametrize(("state", "event"), list(itertools.product(State, Event)))
def test_every_state_has_an_answer_to_every_event(state: State, event: Event) -> None:
    """The table is complete."""
    assert step(Admission(state=state, until=5.0), event, 10.0).state in State


@pytest.mark.parametrize(
    ("outcomes", "state"),
    [
        ([Outcome.REFUSED] * 2, State.ADMITTING),
        ([Outcome.REFUSED] * 3, State.EJECTED),
        ([Outcome.TIMED_OUT], State.ADMITTING),
        ([Outcome.TIMED_OUT] * 2, State.EJECTED),
        ([Outcome.FAILED] * 2, State.ADMITTING),
        ([Outcome.FAILED] * 3, State.EJECTED),
        ([Outcome.FAILED, Outcome.GARBLED, Outcome.FAILED], State.EJECTED),
        ([Outcome.FAILED, Outcome.FAILED, Outcome.OK, Outcome.FAILED], State.ADMITTING),
        ([Outcome.THROTTLED] * 50, State.ADMITTING),
    ],
)
def test_what_ejects(outcomes: list[Outcome], state: State) -> None:
    """Consecutive demerits; a good answer clears them, a throttled one adds none."""
    admission = CLEAN
    for outcome in outcomes:
        admission = after_outcome(admission, outcome, 1.0)
    assert admission.state is state


def test_the_bench_is_followed_by_one_trial_at_a_time() -> None:
    """Nothing is admitted until then, and nothing more while the trial runs."""
    ejected = failing(CLEAN, 100.0)
    assert not admits(ejected, 100.0 + BENCH_S - 0.01)
    assert admits(ejected, 100.0 + BENCH_S)
    trial = step(ejected, Event.TRIAL, 101.0)
    assert trial.state is State.PROBATION
    assert not admits(trial, 101.5)
    assert admits(step(trial, Event.DROPPED, 102.0), 102.0)
    assert after_outcome(trial, Outcome.OK, 102.0).state is State.ADMITTING
    assert after_outcome(trial, Outcome.FAILED, 102.0).state is State.EJECTED


def test_the_bench_grows_to_its_cap_and_good_conduct_forgets() -> None:
    """1, 2, 4 … 60 s; after a minute without fault it starts at 1 s again."""
    now, admission, benches = 0.0, CLEAN, []
    for _ in range(9):
        admission = failing(admission, now)
        benches.append(admission.until - now)
        now = admission.until
        admission = step(admission, Event.TRIAL, now)
    assert benches == [1, 2, 4, 8, 16, 32, BENCH_CAP_S, BENCH_CAP_S, BENCH_CAP_S]
    back = after_outcome(admission, Outcome.OK, now)
    assert failing(back, now + 1.0).until - now - 1.0 == BENCH_CAP_S
    assert failing(back, now + FORGIVE_S).until - now - FORGIVE_S == BENCH_S
    assert after_outcome(back, Outcome.OK, now + FORGIVE_S) is CLEAN


def test_late_results_do_not_lengthen_the_bench() -> None:
    """Requests that were under way when the target was ejected fail too: that is no news."""
    ejected = failing(CLEAN, 0.0)
    assert after_outcome(ejected, Outcome.REFUSED, 0.5).until == ejected.until


@given(st.lists(st.tuples(st.sampled_from([*DEMERITS, "trial", "dropped"]), st.floats(0, 30)), max_size=60))
def test_a_target_always_gets_another_chance(history: list) -> None:
    """Whatever happens, within the longest bench it is admitted again, unless a trial is under way."""
    now, admission = 0.0, CLEAN
    for what, wait in history:
        now += wait
        if what == "trial":
            if admits(admission, now):
                admission = step(admission, Event.TRIAL, now)
        elif what == "dropped":
            admission = step(admission, Event.DROPPED, now)
        else:
            admission = after_outcome(admission, what, now)
    assert admission.trial or admits(admission, now + BENCH_CAP_S)


@pytest.mark.parametrize(
    ("counts", "state"),
    [
        ({Outcome.OK: 10, Outcome.FAILED: 10}, State.EJECTED),
        ({Outcome.OK: 11, Outcome.FAILED: 9}, State.ADMITTING),
        ({Outcome.OK: 5, Outcome.FAILED: 9}, State.ADMITTING),
        ({Outcome.OK: 10, Outcome.GARBLED: 4, Outcome.TIMED_OUT: 6}, State.EJECTED),
        ({Outcome.OK: 10, Outcome.THROTTLED: 90}, State.ADMITTING),
    ],
)
def test_a_share_of_failures_ejects(counts: dict[Outcome, int], state: State) -> None:
    """Half of twenty; being throttled is no failure."""
    assert after_window(CLEAN, counts, 5.0).state is state


def test_who_is_admitted_again_begins_anew() -> None:
    """What failed before it was ejected does not eject it again."""
    lane = Lane(ENTRY, cast(Any, None), {})
    for n in range(40):
        lane.begin(n / 10)
        if n % 2:
            lane.ended(Outcome.FAILED, n / 10, trial=False)
        else:
            lane.won(n / 10, 0.01, 0.01)
    lane.refresh(4.0)
    assert lane.admission.state is State.EJECTED
    assert lane.begin(5.5)
    lane.won(5.5, 0.01, 0.01)
    lane.refresh(6.0)
    assert lane.admission.state is State.ADMITTING


def _entry(name: str, **other: Any) -> TargetEntry:
    return replace(ENTRY, id=name, **other)


def test_targets_of_one_account_cool_together() -> None:
    """Same address, credential and model: one limit. Another of any of them: another limit."""
    accounts = Accounts()
    names: dict[str, dict[str, Any]] = {
        "one": {},
        "twin": {"region": "west", "capacity_inflight": 3},
        "other-model": {"model_json": b'"n"'},
        "other-credential": {"credential": "second"},
        "other-host": {"origin": Origin("http", "i", 1)},
        "other-path": {"base_path": b"/deployments/x"},
    }
    lanes = {
        name: Lane(_entry(name, **more), cast(Any, None), {}, accounts=accounts)
        for name, more in names.items()
    }
    lanes["one"].cool(Cooling(5.0), 100.0)
    assert {name for name, lane in lanes.items() if lane.readiness(101.0) is Readiness.COOLING} == {
        "one",
        "twin",
    }
    assert {name for name, lane in lanes.items() if lane.readiness(105.1) is Readiness.READY} == set(names)
    # One that is first used while the account cools, cools too.
    late = Lane(_entry("late"), cast(Any, None), {}, accounts=accounts)
    assert late.readiness(101.0) is Readiness.COOLING
    # And one whose target moves to another account does not.
    lanes["twin"].bind(_entry("twin", model_json=b'"n"'), cast(Any, None), {})
    assert lanes["twin"].readiness(101.0) is Readiness.READY


def test_accounts_are_forgotten_with_their_lanes() -> None:
    """State is bounded by the targets there are."""
    accounts = Accounts()
    for number in range(100):
        lane = Lane(_entry("x", model_json=b"%d" % number), cast(Any, None), {}, accounts=accounts)
        lane.leave()
    del lane
    assert len(accounts) == 0


def test_a_cooling_is_told_once_at_once() -> None:
    """Not for each 429 of a storm; again when the next begins, and when the quota turns out to be used up."""
    told: list[int] = []
    lane = Lane(ENTRY, cast(Any, None), {}, turned=lambda: told.append(1))
    for n in range(50):
        lane.cool(Cooling(5.0), 100.0 + n * 0.01)
    assert len(told) == 1
    lane.cool(Cooling(600.0, exhausted=True), 101.0)
    assert len(told) == 2
    window = lane.passive(102.0, 10.0)
    assert window is not None
    assert (window.quota_exhausted, window.cooling_s) == (True, pytest.approx(599.0))
    lane.cool(Cooling(1.0), 800.0)
    assert len(told) == 3
    window = lane.passive(800.5, 10.0)
    assert window is not None
    assert not window.quota_exhausted


def test_an_ejection_for_its_share_says_so_and_one_for_a_run_does_not() -> None:
    """Whoever chooses may keep the first kind in."""
    counts = {Outcome.OK: 10, Outcome.FAILED: 10}
    assert after_window(CLEAN, counts, 50.0).by_share
    assert not failing(CLEAN, 50.0).by_share
    again = after_outcome(after_window(CLEAN, counts, 50.0), Outcome.OK, 51.0)
    assert (again.state, again.by_share) == (State.ADMITTING, False)
