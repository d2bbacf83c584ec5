"""Workers merged: what N of them saw of a split trace reads as if one had seen it all."""

import random

import pytest

from edge_router.core.merge import Coolings, LoadPart, TargetPart, by_target, merged, merged_loads, summed
from edge_router.core.share import WHOLE, Share
from edge_router.core.window import Bins, Window
from shared.vocabulary.terms import Outcome

WINDOW_S = 10.0


def part(window: Window, now: float, **more: object) -> TargetPart:
    fields: dict[str, object] = {
        "inflight": 0,
        "admission": "ADMITTING",
        "broken_run": 0,
        "cool_until": 0.0,
        "exhausted_until": 0.0,
        "judged": 0,
        "garbled": 0,
    }
    return TargetPart(
        target="t",
        window_s=WINDOW_S,
        bins=window.bins(now, WINDOW_S),
        **{**fields, **more},  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("workers", [1, 2, 7])
def test_parts_of_a_split_trace_read_as_the_whole(workers: int) -> None:
    """Counts, quantiles, mean and the age of the last good answer are those of one process, to the last digit."""
    rng = random.Random(workers)
    whole, parts = Window(), [Window() for _ in range(workers)]
    now = 1000.0
    for _ in range(4000):
        now += rng.expovariate(300.0)
        mine = rng.choice(parts)
        draw = rng.random()
        if draw < 0.1:
            outcome = rng.choice([Outcome.FAILED, Outcome.TIMED_OUT, Outcome.THROTTLED, Outcome.GARBLED])
            for window in (whole, mine):
                window.add(outcome, now)
        else:
            latency = rng.lognormvariate(3.0, 1.5)
            for window in (whole, mine):
                if draw < 0.5:
                    window.add_answer(latency, now)
                else:
                    window.add_stream(latency, latency / 3, now)
    now += 0.4
    of_parts = merged([part(window, now) for window in parts], now)
    assert of_parts == merged([part(whole, now)], now)
    reading = whole.read(now, WINDOW_S)
    assert of_parts.counts == reading.counts
    assert sum(of_parts.counts.values()) > 2000
    assert (of_parts.latency_ms_p99, of_parts.ttft_ms_p50) == (reading.latency_ms_p99, reading.ttft_ms_p50)
    assert of_parts.good_age_s == reading.good_age_s


def test_quantiles_are_not_averaged() -> None:
    """One slow worker of two, with one answer in a hundred: the edge's median is the fast one's."""
    fast, slow = Window(), Window()
    for _ in range(99):
        fast.add_answer(10.0, 5.0)
    slow.add_answer(10_000.0, 5.0)
    window = merged([part(fast, 5.0), part(slow, 5.0)], 5.0)
    assert window.latency_ms_p50 == pytest.approx(10.0, rel=0.1)
    assert window.latency_ms_p99 == pytest.approx(10.0, rel=0.1)


def broken_until(at: float, *, good_at: float | None = None) -> Window:
    window = Window()
    if good_at is not None:
        window.add_answer(5.0, good_at)
    window.add(Outcome.REFUSED, at)
    return window


def good_at(at: float) -> Window:
    window = Window()
    window.add_answer(5.0, at)
    return window


def test_a_target_is_given_up_when_one_has_and_none_has_had_an_answer_since() -> None:
    """The ejecting worker speaks for the edge, until another has an answer."""
    ejected = part(broken_until(8.0), 9.0, admission="EJECTED", broken_run=3)
    for other in (
        part(good_at(6.0), 9.0),
        part(Window(), 9.0),
        part(broken_until(8.5, good_at=7.0), 9.0, broken_run=2),
    ):
        assert merged([ejected, other], 9.0).admission == "EJECTED"
        assert merged([other, ejected], 9.0).broken_run == 3 + other.broken_run
    since = part(good_at(8.6), 9.0)
    assert merged([ejected, since], 9.0).admission == "ADMITTING"
    assert merged([ejected, since], 9.0).broken_run == 0
    on_trial = part(broken_until(8.0), 9.0, admission="PROBATION", broken_run=3)
    assert merged([on_trial, part(Window(), 9.0)], 9.0).admission == "PROBATION"
    assert merged([on_trial, ejected], 9.0).admission == "EJECTED"


def test_what_is_under_way_and_judged_adds_up_and_the_longest_cooling_counts() -> None:
    """Counts of things are sums; until when a target is spared is the last moment that any worker has heard."""
    one = part(Window(), 5.0, inflight=3, judged=50, garbled=2, cool_until=7.5)
    other = part(Window(), 5.0, inflight=4, judged=30, garbled=1, cool_until=6.0)
    window = merged([one, other], 5.0)
    assert (window.inflight, window.judged, window.garbled, window.cooling_s) == (7, 80, 3, 2.5)
    assert merged([other], 9.0).cooling_s == 0.0


def test_parts_are_found_by_target_and_bins_are_left_as_they_were() -> None:
    """Merging twice gives the same twice."""
    one, other = part(good_at(5.0), 5.0), part(good_at(5.0), 5.0)
    found = by_target([[one], [other], []])
    assert list(found) == ["t"]
    assert merged(found["t"], 5.0) == merged(found["t"], 5.0)
    assert one.bins.counts == {Outcome.OK: 1}
    assert Bins().read(1.0).counts == {}


def test_a_cooling_is_news_once() -> None:
    """Told back by those who were told, it is not told again; a longer one is, and one that is over is forgotten."""
    coolings = Coolings()
    first = part(Window(), 5.0, cool_until=35.0)
    assert coolings.news([first, part(Window(), 5.0)], 5.0) == {"t": (35.0, 0.0)}
    assert coolings.news([part(Window(), 5.0, cool_until=35.0 + 1e-9)], 5.2) == {}
    assert coolings.news([part(Window(), 5.0, cool_until=50.0)], 6.0) == {"t": (50.0, 0.0)}
    assert coolings.news([first], 60.0) == {}
    later = part(Window(), 5.0, cool_until=80.0)
    later.target = "u"
    assert coolings.news([later], 61.0) == {"u": (80.0, 0.0)}
    assert coolings.until == {"u": (80.0, 0.0)}
    later.exhausted_until = 80.0
    assert coolings.news([later], 61.0) == {"u": (80.0, 80.0)}
    assert merged([later, first], 61.0).quota_exhausted
    assert not merged([later, first], 81.0).quota_exhausted


def test_loads_of_a_route_add_up() -> None:
    """In the order of the routes' names, each once."""
    told = [
        [LoadPart("b", 1.25, 10, 1, 10.0)],
        [LoadPart("a", 2, 3, 0, 10.0), LoadPart("b", 0.5, 5, 2, 10.0)],
    ]
    assert [(load.route, load.inflight, load.requests, load.failed) for load in merged_loads(told)] == [
        ("a", 2.0, 3, 0),
        ("b", 1.75, 15, 3),
    ]
    assert summed([{"x": 1}, {"x": 2, "y": 3}]) == {"x": 3, "y": 3}


@pytest.mark.parametrize("of", [1, 2, 3, 64])
@pytest.mark.parametrize("total", [64, 100, 256, 1_000_001])
def test_shares_sum_to_the_limit_and_differ_by_one_at_most(of: int, total: int) -> None:
    """Whoever's limit it is."""
    for name in ("", "alpha", "beta"):
        parts = [Share(index, of).part(total, name) for index in range(of)]
        assert sum(parts) == total
        assert max(parts) - min(parts) <= 1


def test_everybody_has_at_least_one_and_the_rest_is_dealt_by_name() -> None:
    """Three over four workers: one each. What is left over does not always go to the same worker."""
    assert [Share(index, 4).part(3) for index in range(4)] == [1, 1, 1, 1]
    favoured = {max(range(4), key=lambda index: Share(index, 4).part(5, f"t{n}")) for n in range(40)}
    assert favoured == {0, 1, 2, 3}
    assert WHOLE.part(0) == 0
