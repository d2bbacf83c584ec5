"""Backoff: full jitter within a cap that doubles, and a floor."""

import random

from shared.backoff import Backoff


def test_delays_stay_between_the_floor_and_a_cap_that_doubles() -> None:
    """No draw leaves [floor, min(cap, base * 2^n)]."""
    for seed in range(50):
        backoff = Backoff(base_s=0.1, cap_s=2.0, floor_s=0.02, rng=random.Random(seed))
        for failures in range(40):
            assert 0.02 <= backoff.next() <= max(0.02, min(2.0, 0.1 * 2**failures))


def test_delays_use_the_whole_range() -> None:
    """Full jitter: after many failures, draws fall in the lowest and the highest tenth of the cap."""
    backoff = Backoff(base_s=1.0, cap_s=1.0, floor_s=0.0, rng=random.Random(7))
    draws = [backoff.next() for _ in range(400)]
    assert min(draws) < 0.1
    assert max(draws) > 0.9


def test_reset_starts_again_from_the_base() -> None:
    """A success makes the next failure cheap again."""
    backoff = Backoff(base_s=0.1, cap_s=100.0, floor_s=0.0, rng=random.Random(1))
    for _ in range(20):
        backoff.next()
    backoff.reset()
    assert backoff.next() <= 0.1
