"""The passive window: counts that slide, quantiles that are near enough."""

import random

import pytest

from edge_router.core.window import Lately, Window
from shared.vocabulary.terms import Outcome


def test_counts_slide_out_of_the_window() -> None:
    """What is older than the window no longer counts."""
    window = Window()
    for second in range(20):
        window.add(Outcome.OK if second % 2 else Outcome.FAILED, second + 0.1)
    assert window.read(20.0, 10.0).counts == {Outcome.OK: 5, Outcome.FAILED: 5}
    assert window.read(20.0, 2.0).counts == {Outcome.OK: 1, Outcome.FAILED: 1}
    assert window.read(60.0, 10.0).counts == {}


@pytest.mark.parametrize("scale", [0.05, 1.0, 20.0, 5000.0])
def test_quantiles_are_right_to_within_a_tenth(scale: float) -> None:
    """p50 and p99 against the sorted samples, from microseconds to minutes."""
    rng = random.Random(3)
    window = Window()
    samples = [scale * rng.lognormvariate(0, 0.5) for _ in range(5000)]
    for sample in samples:
        window.add_stream(sample, sample / 2, 1.0)
    samples.sort()
    got = window.read(1.0, 10.0)
    assert got.latency_ms_p50 == pytest.approx(samples[2500], rel=0.12, abs=0.02)
    assert got.latency_ms_p99 == pytest.approx(samples[4950], rel=0.12, abs=0.02)
    assert got.ttft_ms_p50 == pytest.approx(samples[2500] / 2, rel=0.12, abs=0.02)


def test_an_empty_window_reads_as_nothing() -> None:
    """No attempts, no quantiles."""
    assert Window().read(5.0, 10.0) == ({}, 0.0, 0.0, 0.0, 0.0, 0.0, None)


def test_the_mean_is_that_of_all_answers() -> None:
    """Right to a tenth, where the median would not notice the few slow ones."""
    window = Window()
    for number in range(100):
        window.add_answer(1000.0 if number % 10 == 0 else 100.0, 1.0)
    got = window.read(1.0, 10.0)
    assert got.latency_ms_mean == pytest.approx(190.0, rel=0.1)
    assert got.latency_ms_p50 == pytest.approx(100.0, rel=0.1)


def test_the_age_of_the_last_good_answer() -> None:
    """At most a slot too old, never too young; failures are no answers."""
    window = Window()
    window.add_answer(5.0, 2.1)
    window.add(Outcome.REFUSED, 6.0)
    age_s = window.read(7.0, 10.0).good_age_s
    assert age_s is not None
    assert 4.9 <= age_s <= 4.9 + 0.25
    assert window.read(30.0, 10.0).good_age_s is None


def test_the_wrong_among_the_last_hundred() -> None:
    """What is further back than a hundred answers, or before traffic last paused, is not counted."""
    lately = Lately()
    assert lately.read(0) == (0, 0)
    for number in (1, 2, 50):
        lately.wrong(number)
    assert lately.read(60) == (60, 3)
    assert lately.read(101) == (100, 2)
    assert lately.read(150) == (100, 0)
    lately.wrong(160)
    lately.restart(160)
    assert lately.read(170) == (10, 0)
    for number in range(171, 400):
        lately.wrong(number)
    assert lately.read(399) == (100, 100)
