"""The adaptive limit against a service that slows down beyond its capacity, in virtual time."""

import heapq
import random
from collections import Counter
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from edge_router.core.entrance import Permit
from edge_router.core.overload import SHARES, AdaptiveLimit, Signal
from edge_router.core.tokens import NONE
from shared.vocabulary.client_key import Priority
from shared.vocabulary.overload import Overload

DEADLINE_S = 2.0
SERVICE_S = 0.2


@dataclass
class Run:
    """What came of the requests of a run."""

    good: Counter[Priority] = field(default_factory=Counter)
    shed: Counter[Priority] = field(default_factory=Counter)
    asked: Counter[Priority] = field(default_factory=Counter)
    limits: list[int] = field(default_factory=list)


def run(
    *,
    load: float,
    capacity: int = 20,
    slow_factor: float = 4.0,
    limited: bool = True,
    priorities: tuple[Priority, ...] = (Priority.NORMAL,),
    bounds: Overload | None = None,
    tail_s: float = 0.0,
    seconds: float = 60.0,
    settle_s: float = 15.0,
) -> Run:
    """Requests at `load` times the capacity; beyond `capacity` at once each takes `slow_factor` times the overhang
    longer, as the simulator's fault `capacity` does, and after `DEADLINE_S` its client has gone. Counted from
    `settle_s` on."""
    rng, limit, seen = random.Random(3), AdaptiveLimit(bounds or Overload(), 0.0), Run()
    rate = load * capacity / SERVICE_S
    events: list[tuple[float, int, tuple[int, float, Priority, bool] | None]] = [(0.0, 0, None)]
    number = busy = 0
    while events:
        now, _, ending = heapq.heappop(events)
        if now > seconds:
            break
        number += 1
        if ending is not None:
            ticket, took_s, priority, fine = ending
            busy -= 1
            if limited:
                if fine:
                    limit.seen(ticket, Signal.WHOLE, "alpha", took_s)
                limit.leave(ticket, Signal.WHOLE, "alpha", None if fine else took_s)
            seen.good[priority] += fine and now > settle_s
            continue
        heapq.heappush(events, (now + rng.expovariate(rate), number, None))
        priority = rng.choice(priorities)
        seen.asked[priority] += now > settle_s
        ticket = limit.enter(priority, Signal.WHOLE, now) if limited else 0
        if ticket is None:
            seen.shed[priority] += now > settle_s
            continue
        busy += 1
        took_s = SERVICE_S * rng.uniform(0.8, 1.2) + (rng.expovariate(1 / tail_s) if tail_s else 0.0)
        if busy > capacity:
            took_s *= slow_factor * busy / capacity
        fine = took_s <= DEADLINE_S
        took_s = min(took_s, DEADLINE_S)
        heapq.heappush(events, (now + took_s, number, (ticket, took_s, priority, fine)))
        seen.limits.append(limit.limit)
    return seen


def goodput(seen: Run, capacity: int = 20, seconds: float = 45.0) -> float:
    return seen.good.total() / (capacity / SERVICE_S * seconds)


@pytest.mark.parametrize("capacity", [8, 20, 100])
@pytest.mark.parametrize("slow_factor", [2.0, 4.0, 8.0])
def test_at_twice_the_capacity_most_of_it_still_does_good(capacity: int, slow_factor: float) -> None:
    """FAULTS row 23: at least 80 % where there would be next to nothing."""
    how = {"load": 2.0, "capacity": capacity, "slow_factor": slow_factor}
    assert goodput(run(**how), capacity) >= 0.8
    assert goodput(run(**how, limited=False), capacity) <= 0.1


@pytest.mark.parametrize("load", [0.1, 0.3])
def test_nobody_is_turned_away_while_there_is_room(load: float) -> None:
    """Answers of very different lengths are no overload, nor is a quiet route."""
    seen = run(load=load, capacity=200, tail_s=0.1)
    assert seen.shed.total() == 0


def test_the_less_urgent_are_turned_away_first() -> None:
    """Of three priorities in equal parts at twice the capacity, the high one is served nearly whole."""
    seen = run(load=1.5, capacity=100, priorities=tuple(Priority))
    served = {priority: seen.good[priority] / seen.asked[priority] for priority in Priority}
    assert served[Priority.HIGH] >= 0.9
    assert served[Priority.HIGH] > served[Priority.NORMAL] > served[Priority.LOW]
    alone = run(load=1.5, capacity=100, priorities=(Priority.LOW,))
    assert goodput(alone, 100) >= 0.8, "low priority alone may use what there is"


def test_what_is_slower_from_now_on_becomes_the_usual() -> None:
    """A model that takes three times as long is no overload for ever."""
    limit, now = AdaptiveLimit(Overload(), 0.0), 0.0
    lowest = 1000
    for window in range(600):
        now, took_s = now + 0.5, 0.2 if window < 40 else 0.6
        tickets = [limit.enter(Priority.NORMAL, Signal.TTFT, now) for _ in range(30)]
        for ticket in tickets:
            if ticket is not None:
                limit.seen(ticket, Signal.TTFT, "alpha", took_s)
                limit.leave(ticket, Signal.TTFT, "alpha", None)
        lowest = min(lowest, limit.limit)
    assert lowest < 20, "it was taken for overload at first"
    assert limit.limit > 30


def test_a_failover_to_a_target_that_is_always_slower_is_no_overload() -> None:
    """Each target is compared with itself: the route keeps its room when its traffic goes elsewhere."""
    rng, limit, now = random.Random(4), AdaptiveLimit(Overload(), 0.0), 0.0
    usual_s = {"near": 0.15, "far": 0.4}
    turned = 0
    under_way: list[tuple[float, int, str, float]] = []
    while now < 90.0:
        now += rng.expovariate(100.0)
        while under_way and under_way[0][0] <= now:
            _, ticket, target, took_s = heapq.heappop(under_way)
            limit.seen(ticket, Signal.TTFT, target, took_s)
            limit.leave(ticket, Signal.TTFT, target, None)
        target = "near" if now < 30 else "far"
        took_s = usual_s[target] * rng.uniform(0.8, 1.3)
        entered = limit.enter(Priority.NORMAL, Signal.TTFT, now)
        if entered is None:
            turned += now > 5
        else:
            heapq.heappush(under_way, (now + took_s, entered, target, took_s))
    assert turned == 0
    assert limit.limit >= 40


@settings(max_examples=60)
@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["enter", "seen", "leave", "gone", "rebind"]),
            st.sampled_from(list(Priority)),
            st.sampled_from(list(Signal)),
            st.floats(0, 5),
        ),
        max_size=300,
    ),
    divide_by=st.integers(1, 4),
)
def test_it_keeps_its_bounds_whatever_happens(
    steps: list[tuple[str, Priority, Signal, float]], divide_by: int
) -> None:
    """Never fewer than its least nor more than its most, never more let in than there is room, nothing left over."""
    bounds = Overload(min_concurrency=2, initial_concurrency=8, max_concurrency=40)
    limit, now = AdaptiveLimit(bounds, 0.0, divide_by=divide_by), 0.0
    open_: list[tuple[int, Signal, float]] = []
    for what, priority, signal, gap in steps:
        now += gap
        if what == "enter":
            before = limit.under_way
            ticket = limit.enter(priority, signal, now)
            if ticket is not None:
                assert before < max(1, int(limit.limit * SHARES[priority] + 1))
                open_.append((ticket, signal, now))
        elif what == "rebind":
            bounds = Overload(min_concurrency=1, initial_concurrency=3, max_concurrency=10)
            limit.rebind(bounds)
        elif open_:
            ticket, its, began = open_.pop(0)
            if what == "seen":
                limit.seen(ticket, its, priority.value, now - began)
            limit.leave(ticket, its, priority.value, now - began if what == "gone" else None)
        assert max(1, bounds.min_concurrency // divide_by) <= limit.limit
        assert limit.limit <= max(1, bounds.max_concurrency / divide_by)
        assert limit.under_way == len(open_)


@pytest.mark.parametrize(
    "wrong",
    [
        {"min_concurrency": 30},
        {"max_concurrency": 5},
        {"min_concurrency": 0},
        {"tolerance": 1.0},
        {"tolerance": float("nan")},
    ],
)
def test_bounds_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    """With the name of the field, or of the two that contradict each other."""
    with pytest.raises(ValidationError) as refused:
        Overload.model_validate(wrong)
    assert next(iter(wrong)) in str(refused.value)


def test_answers_that_no_target_gave_say_nothing_about_the_targets_pace() -> None:
    """Stored answers come at once: however many, they do not hide that the target takes ten times as long."""
    limit = AdaptiveLimit(Overload(initial_concurrency=40), 0.0)

    def serve(now: float, target: str, took_s: float) -> None:
        ticket = limit.enter(Priority.HIGH, Signal.WHOLE, now)
        assert ticket is not None
        permit = Permit(None, 0, b"", limit, ticket, Signal.WHOLE)
        permit.close(200, "", NONE, target, took_s, broken=False)

    for took_s in (0.1, 1.0):
        now = took_s * 10
        for _ in range(10):
            serve(now, "a", took_s)
            for _ in range(20):
                serve(now, "", 0.0)
    before = limit.limit
    serve(20.0, "a", 1.0)
    assert limit.limit < before
