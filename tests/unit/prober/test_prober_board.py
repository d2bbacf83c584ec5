from datetime import UTC, datetime, timedelta

from prober.core.board import Board
from prober.core.counters import Finding
from prober.core.jobs import Job
from shared.vocabulary.terms import Outcome
from tests.unit.prober.prober_world import OK, REFUSED, monitor, target

START = datetime(2030, 1, 1, tzinfo=UTC)
TRACE = f"00-{1:032x}-{1:016x}-01"


def board(*jobs: Job) -> Board:
    made = Board()
    made.replace(jobs)
    return made


def feed(made: Board, job: Job, *findings: Finding, trace: str | None = TRACE) -> list[bool]:
    """Apply findings one second apart; which of them were news."""
    news = []
    for n, finding in enumerate(findings):
        applied = made.apply(job, finding, now=START + timedelta(seconds=n), traceparent=trace)
        assert applied is not None
        news.append(applied.news)
    return news


def test_news_is_what_readers_would_act_on() -> None:
    """The first outcome, another state, another outcome and another hardness; not one more of the same."""
    job = Job(target(), monitor(consecutive_up=2, consecutive_down=2))
    made = board(job)
    assert feed(made, job, OK, OK, OK, OK) == [True, True, False, False]
    assert feed(made, job, REFUSED, REFUSED, REFUSED) == [True, True, False]


def test_what_has_been_told_is_no_news_until_it_changes() -> None:
    """A change between making an event and the bus taking it stays news."""
    job = Job(target(), monitor())
    made = board(job)
    feed(made, job, OK)
    states = made.states()
    assert made.news() == (job.key,)
    made.apply(job, REFUSED, now=START + timedelta(seconds=9), traceparent=None)
    made.told(states)
    assert made.news() == (job.key,)
    made.told(made.states())
    assert made.news() == ()


def test_the_trace_of_a_change_waits_until_it_is_told() -> None:
    """The probe that changed a state is named once, however many probes follow before the bus is back."""
    job = Job(target(), monitor(consecutive_down=1))
    made = board(job)
    feed(made, job, REFUSED)
    feed(made, job, Finding(Outcome.FAILED, 1.0), trace=None)
    assert made.untold_traces(made.states()) == (TRACE,)
    made.told(made.states())
    assert made.untold_traces(made.states()) == ()


def test_a_changed_pace_keeps_what_is_known_and_a_changed_place_forgets_it() -> None:
    """Thresholds and intervals are about us; another URL is another endpoint."""
    job = Job(target(), monitor())
    made = board(job)
    feed(made, job, OK, OK, OK)
    made.replace([Job(target(), monitor(interval_s=5.0, consecutive_up=9))])
    (state,) = made.states()
    assert (state.state, state.interval_s) == ("UP", 5.0)
    made.replace([Job(target(url="http://elsewhere"), monitor())])
    assert made.states() == ()
    assert made.news() == ()


def test_a_finding_about_a_former_endpoint_is_not_counted() -> None:
    """A probe that was under way when the fleet changed says nothing about the new place."""
    old, new = Job(target(), monitor()), Job(target(url="http://elsewhere"), monitor())
    made = board(new)
    assert made.apply(old, REFUSED, now=START, traceparent=None) is None
    made.replace([])
    assert made.apply(new, REFUSED, now=START, traceparent=None) is None
    assert made.states() == ()


def test_a_state_carries_its_figures() -> None:
    """What is published is the counters, the last outcome with its words, and the quantiles of good answers."""
    job = Job(target(), monitor())
    made = board(job)
    feed(made, job, *[Finding(Outcome.OK, float(ms)) for ms in range(1, 21)], REFUSED, REFUSED)
    (state,) = made.states()
    assert (state.state, state.consecutive_good, state.consecutive_bad) == ("DOWN", 0, 2)
    assert (state.outcome, state.hard, state.detail) == (Outcome.REFUSED, True, "connect ECONNREFUSED")
    assert (state.latency_ms, state.latency_ms_p50, state.latency_ms_p99) == (1.0, 10.0, 20.0)
    assert state.traceparent == TRACE
