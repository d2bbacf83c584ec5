"""The passive window: counts that slide, quantiles that are near enough."""

import random

import pytest

from edge_router.core.window import Window
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
    assert Window().read(5.0, 10.0) == ({}, 0.0, 0.0, 0.0, 0.0)
