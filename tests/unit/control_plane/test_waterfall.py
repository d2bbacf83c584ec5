"""The waterfall: nothing is lost, nobody is given more than has room, and weights say what was poured."""

from typing import Final

import pytest
from brain_worlds import fleet_config
from hypothesis import given, settings
from hypothesis import strategies as st

from control_plane.core.roster import Placing, roster_of
from control_plane.core.waterfall import Rooms, Stage, Stream, pour, pour_alone, stages_of
from control_plane.core.weights import apportion, decided, stream_of

NAMES: Final = ("a", "b", "c", "d", "e", "f")
PLACING: Final[Placing] = roster_of(
    fleet_config(
        regions=("r1", "r2"),
        targets={"a": "r1", "b": "r1", "c": "r2", "d": "r2", "e": "r1", "f": "r2"},
        tiers=["abcd", "ef"],
    )
).placings["chat"]

parts = st.dictionaries(st.sampled_from(NAMES), st.integers(0, 999)).map(
    lambda given: tuple(sorted(given.items()))
)


@settings(max_examples=50, deadline=None)
@given(parts, st.sets(st.sampled_from(NAMES)))
def test_alone_and_together_pour_alike(limited: tuple[tuple[str, int], ...], last: set[str]) -> None:
    """One stream without limits is poured the same by the quick way and by the general one."""
    streams = [stream_of(PLACING, "r1", limited, tuple(sorted(last)), demand=7.0) for _ in range(2)]
    pour_alone(streams[0])
    pour(streams[1:], None)
    assert streams[0].taken == pytest.approx(streams[1].taken)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["r1", "r2"]), parts, st.floats(0.1, 500)), min_size=1, max_size=4),
    st.lists(st.floats(0, 100), min_size=6, max_size=6),
)
def test_what_is_poured_is_taken_or_left_and_fits(
    given: list[tuple[str, tuple[tuple[str, int], ...], float]], places: list[float]
) -> None:
    """Demand = taken + left; no room is exceeded; something is left only where all that may take it is full."""
    most = dict(zip(NAMES, places, strict=True))
    streams = [stream_of(PLACING, region, limited, (), demand=demand) for region, limited, demand in given]
    pour(streams, Rooms({target: 0.9 * room for target, room in most.items()}, most))
    load = {target: sum(stream.taken.get(target, 0.0) for stream in streams) for target in NAMES}
    for stream in streams:
        assert stream.demand == pytest.approx(sum(stream.taken.values()) + stream.left)
        if stream.left > 1e-6 * stream.demand:
            for stage in stream.stages:
                for target in stage.members:
                    assert load[target] == pytest.approx(most[target], abs=1e-6)
    for target, room in most.items():
        assert load[target] <= room + 1e-6


@settings(max_examples=50, deadline=None)
@given(parts, st.floats(0.5, 1000), st.floats(1, 50))
def test_a_decision_is_right_to_the_grain(
    limited: tuple[tuple[str, int], ...], demand: float, room: float
) -> None:
    """Shares and weights are what was poured, to two permille of the demand."""
    stream = stream_of(PLACING, "r2", limited, (), demand=demand)
    rooms = dict.fromkeys(NAMES, room)
    pour([stream], Rooms(rooms, rooms))
    poured = decided(stream, tiers=2)
    if any(stream.stages):
        assert poured.decision.shed_permille < 1000
    for target in NAMES:
        assert poured.shares.get(target, 0.0) * demand == pytest.approx(
            stream.taken.get(target, 0.0), abs=0.0021 * demand
        )


def test_stages_are_pinned_first_then_tier_by_tier_by_distance_and_moved_last_at_the_end() -> None:
    """The order in which clients of a region would have the targets; the unusable are in none."""
    steps = [(stage.tier, stage.members) for stage in stages_of(PLACING, "r2", {"d": 0}, ("c",))]
    assert steps == [(0, ("a", "b")), (0, ("c",)), (1, ("f",)), (1, ("e",))]


def test_a_spill_at_the_same_step_is_shared_in_proportion() -> None:
    """Neither stands before the other, whatever the order in which they come."""
    stage = Stage((1, 0, 1), 0, ("a",))
    small, large = Stream(10.0, [stage], {}, {}), Stream(30.0, [stage], {}, {})
    pour([large, small], Rooms({"a": 20.0}, {"a": 20.0}))
    assert (small.taken["a"], large.taken["a"]) == (pytest.approx(5), pytest.approx(15))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=20))
def test_apportioning_is_exact(amounts: list[float]) -> None:
    """Whole numbers that sum to the whole, each next to its exact part; zeros of zeros."""
    split = apportion(amounts, 1000)
    total = sum(amounts)
    assert sum(split) == (1000 if total else 0)
    if total:
        assert all(abs(part - 1000 * each / total) <= 1 for part, each in zip(split, amounts, strict=True))


def test_equal_parts_give_the_odd_one_to_the_first() -> None:
    """Thirds: 334, 333, 333."""
    assert apportion([1 / 3, 1 / 3, 1 / 3], 1000) == [334, 333, 333]
