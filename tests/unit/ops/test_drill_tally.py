"""What the load came to: seconds, periods and totals, bounded."""

import pytest

from ops.drill.tally import MAX_FAILURES, Sample, Tallies, Tally, quantile


def sample(
    at: float, *, ok: bool = True, degraded: bool = False, lost: bool = False, ms: float = 5.0
) -> Sample:
    return Sample(
        at=at,
        edge="edge-us",
        client="us",
        latency_ms=ms,
        ok=ok,
        degraded=degraded,
        streamed=lost,
        lost=lost,
        detail="" if ok else "status 503",
        target="alpha-us" if ok else "",
        serving="us" if ok else "",
    )


def test_a_degraded_answer_counts_as_failed() -> None:
    """In the success rate, not in `failed`."""
    tallies = Tallies()
    for each in (sample(1), sample(2, degraded=True), sample(3, ok=False), sample(4)):
        tallies.add(each)
    assert tallies.tally == Tally(requests=4, failed=1, degraded=1)
    assert tallies.tally.success_rate == 0.5
    assert Tally().success_rate == 1.0


def test_seconds_count_from_the_injection() -> None:
    """What left before it has a negative second, wherever it was when the fault began; gaps are there."""
    tallies = Tallies()
    tallies.add(sample(98.2))
    tallies.begin(100.0)
    tallies.add(sample(99.9))
    tallies.add(sample(100.0, ok=False))
    tallies.add(sample(102.5, ms=40.0))
    seconds = list(tallies.seconds())
    assert [(one.at_s, one.ok, one.failed) for one in seconds] == [
        (-2, 1, 0),
        (-1, 1, 0),
        (0, 0, 1),
        (1, 0, 0),
        (2, 1, 0),
    ]
    assert seconds[4].latency_ms_p50 == seconds[4].latency_ms_p99 == 40.0
    assert seconds[2].latency_ms_p50 is None
    assert (seconds[0].by_client, seconds[0].by_serving) == ({"us": 1}, {"us": 1})
    assert tallies.by_target(2) == {("us", "alpha-us"): 1}


def test_a_request_belongs_to_the_period_in_which_it_left() -> None:
    """However late its answer comes."""
    tallies = Tallies()
    tallies.add(sample(99))
    tallies.begin(100.0)
    tallies.mended(105.0)
    for at in (101, 104.9, 105, 106):
        tallies.add(sample(at))
    tallies.add(sample(103, ok=False, lost=True))
    figures = {one.period: one for one in tallies.figures(until=107.0)}
    assert {period: one.requests for period, one in figures.items()} == {"before": 1, "during": 3, "after": 2}
    assert (figures["during"].from_s, figures["during"].to_s) == (0.0, 5.0)
    assert (figures["during"].lost_streams, figures["during"].streams) == (1, 1)
    assert figures["during"].success_rate == pytest.approx(2 / 3, abs=1e-6)


def test_without_an_injection_all_of_it_came_before() -> None:
    """A drill that was stopped in its warm-up still says what it saw."""
    tallies = Tallies()
    tallies.add(sample(10))
    tallies.add(sample(11, ok=False))
    (only,) = tallies.figures(until=12.0)
    assert (only.period, only.requests, only.failed) == ("before", 2, 1)


def test_failures_are_kept_to_a_limit() -> None:
    """The last ones; their number is not lost."""
    tallies = Tallies()
    for at in range(MAX_FAILURES + 5):
        tallies.add(sample(float(at), ok=False))
    assert len(tallies.failures) == MAX_FAILURES
    assert tallies.tally.failed == MAX_FAILURES + 5


def test_the_guards_latency_is_of_the_last_seconds_under_fault() -> None:
    """Neither of what came before it, nor of long ago."""
    tallies = Tallies()
    tallies.add(sample(99, ms=9_000))
    tallies.begin(100.0)
    assert tallies.latency_ms_p99(of_seconds=2) is None
    for at, ms in ((100.5, 700.0), (108.5, 10.0), (109.5, 20.0)):
        tallies.add(sample(at, ms=ms))
    assert tallies.latency_ms_p99(of_seconds=2) == (2, 20.0)


def test_quantiles_are_by_nearest_rank() -> None:
    """Of what was measured, never between."""
    assert quantile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert quantile(range(1, 101), 0.99) == 99
    assert quantile([7.0], 0.99) == 7.0
    with pytest.raises(ValueError, match="no values"):
        quantile([], 0.5)


def test_requests_between_two_seconds() -> None:
    """A reading of real traffic stands at the middle of its window: whoever asks takes half of one more."""
    tallies = Tallies()
    tallies.begin(100.0)
    for at in (97.5, 101.0, 108.2, 109.0):
        tallies.add(Sample(at, "edge-us", "us", 1.0, ok=True, requests=10))
    assert tallies.of("during").requests == 30
    assert tallies.between(0, 8) == 10
    assert tallies.between(-5, 9) == 30
