"""The load an edge reports: means over the window, and only of routes with traffic."""

from edge_router.core.loads import SAMPLE_S, Ended, Loads


def test_in_flight_is_a_mean_and_ends_are_differences() -> None:
    """Half of the samples with four under way are two; what ended before the window does not count."""
    loads = Loads()
    for number in range(41):
        ended = {"chat": Ended(100 + number, 10 + number // 10), "old": Ended(7)}
        loads.sample({"chat": 4} if number % 2 else {}, ended, number * SAMPLE_S)
    (load,) = loads.read(10.0, 10.0)
    assert (load.route, load.requests, load.failed, load.window_s) == ("chat", 40, 4, 10.0)
    assert 1.9 < load.inflight < 2.1


def test_a_route_that_only_ends_requests_is_told() -> None:
    """All turned away at once: nothing under way, and yet there is demand."""
    loads = Loads()
    loads.sample({}, {}, 0.0)
    loads.sample({}, {"chat": Ended(50, 50)}, 0.25)
    (load,) = loads.read(0.25, 10.0)
    assert (load.inflight, load.requests, load.failed) == (0, 50, 50)


def test_a_shorter_window_forgets_sooner() -> None:
    """Only samples within it count; nothing sampled is nothing told."""
    loads = Loads()
    assert loads.read(0.0, 10.0) == ()
    assert loads.due(0.0)
    loads.sample({"chat": 8}, {}, 0.0)
    assert not loads.due(0.1)
    loads.sample({}, {}, 5.0)
    assert [load.inflight for load in loads.read(5.0, 10.0)] == [4]
    assert loads.read(5.0, 1.0) == ()


def test_a_count_that_began_anew_tells_nothing_below_zero() -> None:
    """A busy route was taken out, and the last of its requests ended after that; another is counted again."""
    loads = Loads()
    loads.sample({"gone": 1}, {"gone": Ended(500, 20), "late": Ended(500, 20), "back": Ended(9, 9)}, 0.0)
    loads.sample({}, {"late": Ended(1, 1), "back": Ended(12, 3)}, 0.25)
    told = {load.route: (load.requests, load.failed) for load in loads.read(0.25, 10.0)}
    assert told == {"gone": (0, 0), "back": (3, 0)}
