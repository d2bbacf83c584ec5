import random
from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from prober.core.jobs import Job
from prober.core.schedule import FIRST_WITHIN_S, JITTER, LATE_S, Schedule
from shared.vocabulary.config import Monitor, Target

ALL = 1_000_000


def job(name: str, interval_s: float = 1.0) -> Job:
    target = Target(id=name, provider="p", model="m", region="r", url="http://h")
    return Job(target, Monitor(id="http", kind="http", interval_s=interval_s, timeout_s=interval_s))


def jobs(count: int, interval_s: float = 1.0) -> list[Job]:
    return [job(f"t{n:05d}", interval_s) for n in range(count)]


def schedule(seed: int = 1, **changed: Any) -> Schedule:
    rng = random.Random(seed)
    return Schedule(**{"start": rng.random(), "draw": rng.random, **changed})


def run(plan: Schedule, *, begin: float, end: float) -> dict[str, list[float]]:
    """When each target was probed, by a loop that wakes exactly when something is due."""
    times: dict[str, list[float]] = {}
    while (due := plan.next_at()) is not None and due <= end:
        now = max(begin, due)
        for taken in plan.take(now, most=ALL):
            times.setdefault(taken.target.id, []).append(now)
    return times


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32), count=st.integers(1, 40), interval_s=st.floats(0.05, 120.0))
def test_every_job_keeps_its_pace(seed: int, count: int, interval_s: float) -> None:
    """After its first probe, a job is probed once per interval, within the jitter, without drift."""
    plan = schedule(seed)
    plan.replace(jobs(count, interval_s), now=1000.0)
    times = run(plan, begin=1000.0, end=1000.0 + 20.5 * interval_s)
    assert len(times) == count
    for probed in times.values():
        assert probed[0] - 1000.0 <= min(interval_s, FIRST_WITHIN_S)
        gaps = [later - earlier for earlier, later in pairwise(probed[1:])]
        assert all(
            interval_s * (1 - JITTER) - 1e-6 <= gap <= interval_s * (1 + JITTER) + 1e-6 for gap in gaps
        )
        assert 19 <= len(probed) <= 22


def test_probes_spread_over_the_interval() -> None:
    """At any moment the load is even: of 200 jobs a second, no 50 ms sees more than twice its share."""
    plan = schedule()
    plan.replace(jobs(200), now=0.0)
    times = [at % 1.0 for probed in run(plan, begin=0.0, end=10.0).values() for at in probed if at >= 2.0]
    slots = [0] * 20
    for at in times:
        slots[int(at * 20)] += 1
    assert max(slots) <= 2 * len(times) / 20


def test_probers_with_another_start_are_not_in_step() -> None:
    """Two vantages do not hit a target in the same moment, for ever."""
    first, second = schedule(1), schedule(2)
    for plan in (first, second):
        plan.replace(jobs(1), now=0.0)
    assert first.next_at() != second.next_at()


def test_a_pause_is_not_caught_up_in_a_burst() -> None:
    """After 30 s of standing still, no job runs at once; each goes on at its next point."""
    plan = schedule()
    plan.replace(jobs(100), now=0.0)
    run(plan, begin=0.0, end=5.0)
    resumed = 35.0
    assert plan.take(resumed, most=ALL) == []
    assert plan.skipped == 100
    times = run(plan, begin=resumed, end=resumed + 1.6)
    assert len(times) == 100
    assert max(len(probed) for probed in times.values()) <= 2


def test_a_hiccup_is_made_up_for_once() -> None:
    """A loop that was held up for less than it takes to be late probes each overdue job once."""
    plan = schedule()
    plan.replace(jobs(10, 0.1), now=0.0)
    run(plan, begin=0.0, end=1.0)
    taken = plan.take(1.0 + LATE_S * 0.9, most=ALL)
    assert sorted(each.target.id for each in taken) == [f"t{n:05d}" for n in range(10)]
    assert plan.take(1.0 + LATE_S * 0.9, most=ALL) == []


def test_what_is_over_the_limit_stays_due_oldest_first() -> None:
    """A full prober loses no job, it takes the longest overdue first."""
    plan = schedule()
    plan.replace(jobs(10), now=0.0)
    first = plan.take(0.99, most=4)
    rest = plan.take(0.99, most=ALL)
    assert len(first) == 4
    assert {each.key for each in first}.isdisjoint(each.key for each in rest)


def test_a_changed_configuration_keeps_the_phases() -> None:
    """Jobs that stay are probed when they would have been; new ones join without moving them."""
    before, after = schedule(draw=lambda: 0.5), schedule(draw=lambda: 0.5)
    for plan in (before, after):
        plan.replace(jobs(50), now=0.0)
        run(plan, begin=0.0, end=3.0)
    after.replace([*jobs(50)[10:], *[job(f"new{n}") for n in range(20)]], now=3.0)
    expected, got = run(before, begin=3.0, end=6.0), run(after, begin=3.0, end=6.0)
    assert all(got[each.target.id] == expected[each.target.id] for each in jobs(50)[10:])
    assert not any(each.target.id in got for each in jobs(50)[:10])
    assert all(f"new{n}" in got for n in range(20))


def test_a_changed_interval_takes_effect_within_the_new_one() -> None:
    """Nobody waits out a minute that is no longer configured."""
    plan = schedule()
    plan.replace([job("t", 60.0)], now=0.0)
    run(plan, begin=0.0, end=10.0)
    plan.replace([job("t", 1.0)], now=10.0)
    due = plan.next_at()
    assert due is not None
    assert 10.0 < due <= 11.6


def test_another_pace_holds_from_now_on() -> None:
    """One job hurried is due after the new wait, the others stay where they were, and it can be calmed
    again: the points it had before are void."""
    plan = schedule()
    plan.replace(jobs(3, 60.0), now=0.0)
    run(plan, begin=0.0, end=10.0)
    others = {key: due for key, due in plan._due.items() if key[0] != "t00001"}
    assert plan.pace(("t00001", "http"), 2.0, now=10.0)
    hurried = run(plan, begin=10.0, end=20.0)["t00001"]
    assert 10.0 + 2.0 * (1 - JITTER) <= hurried[0] <= 10.0 + 2.0 * (1 + JITTER)
    assert 4 <= len(hurried) <= 5
    assert not plan.pace(("t00001", "http"), 500.0, now=20.0)
    calmed = run(plan, begin=20.0, end=500.0)
    assert "t00001" not in calmed
    assert all(calmed[key[0]][0] == due for key, due in others.items() if due > 20.0)


def test_the_same_pace_moves_nothing() -> None:
    """A job that is told its pace after every probe is not put off by it."""
    plan = schedule()
    plan.replace(jobs(1), now=0.0)
    due = plan.next_at()
    assert not plan.pace(("t00000", "http"), 1.0, now=0.5)
    assert plan.next_at() == due


def test_a_pace_that_changes_all_the_time_takes_no_memory() -> None:
    """Void points are thrown away, however far in the future they lie."""
    plan = schedule()
    plan.replace(jobs(10), now=0.0)
    for n in range(5000):
        plan.pace(("t00000", "http"), 100.0 + n % 7, now=0.0)
    assert len(plan._queue) < 200


def test_nothing_to_do_is_nothing_due() -> None:
    """An empty fleet makes no wake-ups."""
    plan = schedule()
    plan.replace(jobs(3), now=0.0)
    plan.replace([], now=1.0)
    assert plan.next_at() is None
    assert plan.take(100.0, most=ALL) == []
