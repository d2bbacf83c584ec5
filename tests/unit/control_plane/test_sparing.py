"""Limits that edges have learned reach the others by decision: last in its tier, long enough, and over by itself."""

from collections.abc import Iterable
from datetime import timedelta

import pytest
from brain_worlds import REGIONS, START, World, fleet_config

from control_plane.api.sentences import sentence
from control_plane.core.sparing import LEAST_S, LONG_S, cooling_in, spare
from shared.vocabulary.health import HealthEvent, PassiveWindow
from shared.vocabulary.terms import Outcome, Role
from shared.vocabulary.view import HealthView

EU, US = "alpha-eu-west", "alpha-us-east"


def window(cooling_s: float, *, target: str = EU, exhausted: bool = False) -> PassiveWindow:
    return PassiveWindow(
        target=target,
        window_s=10,
        counts={Outcome.THROTTLED: 1},
        cooling_s=cooling_s,
        quota_exhausted=exhausted,
    )


@pytest.mark.parametrize(
    ("waits", "cooling"),
    [((), ""), ((0.0,), ""), ((1.0, 3.0), "briefly"), ((1.0, LONG_S), "long"), ((600.0, 0.0), "long")],
)
def test_what_the_edges_of_a_region_say(waits: tuple[float, ...], cooling: str) -> None:
    """The longest wait of any of them."""
    assert cooling_in(map(window, waits)) == cooling


def tick(
    world: World, windows: Iterable[PassiveWindow], *, vantage: str = "eu-west", after_s: float = 1.0
) -> bool:
    """Time passes, everybody reports, the edge of `vantage` says `windows`; whether anything was decided."""
    world.clock_s += after_s
    world.report()
    event = HealthEvent(
        kind="passive",
        source=f"edge-{vantage}",
        role=Role.EDGE,
        vantage=vantage,
        boot=1,
        seq=world.seq,
        observed_at=world.now,
        passive=tuple(windows),
    )
    world.fold.apply(event, received_at=world.clock_s)
    world.look()
    return world.decide() is not None


def settled() -> World:
    world = World()
    for _ in range(3):
        world.tick()
    return world


def codes(world: World) -> list[tuple[str, str | None]]:
    return [(reason.code, reason.target) for reason in world.documents["chat"].reasons]


def test_a_long_limit_moves_its_target_last_for_all_clients() -> None:
    """What the edge of one region was told, the others know by the next decision; nobody is excluded."""
    world = settled()
    assert world.weights("eu-west") == {EU: 1000}
    assert tick(world, [window(300.0)])
    for region in REGIONS:
        assert world.members(region)[0][-1] == EU
        assert EU not in world.weights(region)
    assert codes(world) == [("TARGET_COOLING", EU)]
    assert world.documents["chat"].excluded == ()
    (reason,) = world.documents["chat"].reasons
    assert reason.values == {"seen_in": ["eu-west"]}
    assert sentence(reason).startswith(f"Target {EU} is at its account's limit and asked last")


def test_constant_words_are_decided_once_and_their_end_once() -> None:
    """While it cools nothing more is decided; when nobody spares it any more it has its place again."""
    world = settled()
    changes = [tick(world, [window(100.0 - n)]) for n in range(100)]
    assert changes == [True] + [False] * 99
    tick(world, [window(1.0)], after_s=LEAST_S)
    changes = [tick(world, [window(0.0)]) for _ in range(100)]
    assert changes == [True] + [False] * 99
    assert world.weights("eu-west") == {EU: 1000}
    assert codes(world) == [("TARGET_COOLING", EU)]
    (reason,) = world.documents["chat"].reasons
    assert reason.values == {"ended": True}
    assert "in its turn again" in sentence(reason)
    assert world.memory.spared == {}


def test_a_limit_that_is_reached_again_and_again_moves_nothing_to_and_fro() -> None:
    """For ten minutes 25 s of cooling in every 30: at most one change a minute."""
    world = settled()
    changes = [tick(world, [window(max(0.0, 25.0 - n % 30))]) for n in range(600)]
    assert sum(changes) <= 10
    assert changes[0]


def test_a_short_wait_is_the_edges_own_affair() -> None:
    """It is over before a decision would pay."""
    world = settled()
    assert not any(tick(world, [window(LONG_S - 1.0)]) for _ in range(100))


def test_when_all_of_a_tier_are_limited_it_keeps_its_order() -> None:
    """Last among equals is nowhere: traffic reaches somebody, and no tier is left for a limit alone."""
    world = settled()
    tick(world, [window(300.0, target=name) for name in world.targets if name.startswith("alpha")])
    assert world.weights("us-east") == {US: 1000}
    assert world.weights("eu-west") == {EU: 1000}


def test_an_edge_that_falls_silent_spares_nobody_for_ever() -> None:
    """Its last word ages like any other."""
    world = settled()
    tick(world, [window(600.0, exhausted=True)])
    assert world.documents["chat"].reasons[0].values["quota_exhausted"] is True
    world.silent = {"eu-west"}
    decided = [world.tick() is not None for _ in range(int(LEAST_S) + 10)]
    assert sum(decided) == 1
    assert world.weights("us-east") == {US: 1000}
    assert world.memory.spared == {}


def test_with_the_master_switch_off_nothing_moves() -> None:
    """As with all else that is automatic."""
    world = World(config=fleet_config(policy={"automatic": False}))
    for _ in range(3):
        world.tick()
    assert not tick(world, [window(300.0)])


def test_a_clock_that_was_ahead_does_not_hold_it_for_ever() -> None:
    """A time in the future was on another leader's clock."""
    view = HealthView.model_construct(targets=())
    ahead = {EU: START + timedelta(hours=3), "gone": START}
    assert spare(ahead, view.targets, routed=frozenset({EU}), now=START) == {EU: START}


def test_what_the_others_of_the_tier_cannot_carry_still_goes_to_who_is_limited() -> None:
    """Soft: no more is planned on the others than they can carry, nothing is shed, and no tier is left for a limit."""
    capacity = {"alpha-us-east": 20, "alpha-ap-south": 20}
    world = World(config=fleet_config(capacity=capacity), demand={"eu-west": {"chat": 100.0}})
    for _ in range(3):
        world.tick()
    assert world.weights("eu-west") == {EU: 1000}
    world.cooling = {"eu-west": {EU: 300.0}}
    world.tick()
    weights = world.weights("eu-west")
    # 90 % of 20, of a demand of 100, for each of the two.
    assert weights[US] == weights["alpha-ap-south"] == 180
    assert weights[EU] == 640
    assert world.documents["chat"].regions["eu-west"].shed_permille == 0
    assert [world.tick() for _ in range(30)] == [None] * 30
