"""Whoever a drain kept out of everything comes back by the ramp, as after a failure, where that hurts nobody."""

from datetime import timedelta
from typing import Any

from brain_worlds import REGIONS, START, World, fleet_config

from control_plane.core.orders import orders_of
from shared.vocabulary.override import Override, OverrideSpec
from shared.vocabulary.terms import Outcome

US, EU, AP = (f"alpha-{region}" for region in REGIONS)
BUS, BEU, BAP = (f"beta-{region}" for region in REGIONS)
RAMP = [100, 300, 1000]
EMBED = {"id": "embed", "match": {"models": ["e"]}, "tiers": [{"targets": [US, EU]}]}


def drain(n: int = 1, **spec: Any) -> Override:
    return Override(
        id=f"drain-{n}",
        n=n,
        spec=OverrideSpec.model_validate({"kind": "drain", **spec}),
        reason="new racks",
        author="ann",
        created_at=START,
        expires_at=START + timedelta(hours=9),
    )


def drained(*drains: Override, **config: Any) -> World:
    """A fleet that has settled under them."""
    world = World(config=fleet_config(**config))
    world.tick()
    order(world, *drains)
    assert world.tick() is not None
    while world.tick() is not None:
        pass
    return world


def order(world: World, *drains: Override) -> None:
    """These, and no others, from now on."""
    world.orders = orders_of(drains, (), START)


def courses(world: World, target: str, client: str, *, passes: int = 90) -> list[int]:
    """The distinct weights that `target` gets from `client`, in order, as the leader goes on."""
    seen = [world.weights(client).get(target, 0)]
    for _ in range(passes):
        world.tick()
        weight = world.weights(client).get(target, 0)
        if weight != seen[-1]:
            seen.append(weight)
    return seen


def test_a_region_that_was_drained_returns_step_by_step() -> None:
    """10, 30, 100 % of its weight over `ramp_s`, as a recovered one; the reasons say who ended the drain, and
    then each step."""
    world = drained(drain(region="eu-west"))
    assert EU not in world.weights("eu-west")
    order(world)
    began = world.now
    proposal = world.tick()
    assert proposal is not None
    assert world.codes() == ["UNDRAINED"]
    assert world.memory.targets[EU].permille == RAMP[0]
    steps = courses(world, EU, "eu-west")
    assert steps[0] < steps[1] < steps[2] == 1000
    assert len(steps) == len(RAMP)
    up = next(
        reason
        for reason in world.documents["chat"].reasons
        if reason.code == "TARGET_UP" and reason.target == EU
    )
    assert up.values["permille"] == 1000
    assert (world.documents["chat"].decided_at - began).total_seconds() >= world.config.fleet.policy.ramp_s


def test_it_climbs_only_while_it_does_well() -> None:
    """Live traffic judges it, as anybody on the ramp: it waits at the foot while too much breaks off."""
    world = drained(drain(target=EU))
    order(world)
    world.tick()
    world.traffic["eu-west"] = {EU: {Outcome.OK: 80, Outcome.FAILED: 20}}
    foot = world.weights("eu-west")[EU]
    assert courses(world, EU, "eu-west") == [foot]
    world.traffic["eu-west"] = {EU: {Outcome.OK: 100}}
    assert courses(world, EU, "eu-west")[-1] == 1000


def test_who_went_on_serving_another_route_is_not_eased() -> None:
    """A drain of one route leaves it warm."""
    world = drained(drain(region="eu-west", route="chat"), more_routes=[EMBED])
    order(world)
    world.tick()
    assert world.weights("eu-west")[EU] == 1000
    assert EU not in world.memory.targets


def test_who_returns_to_nobody_has_all_of_it_at_once() -> None:
    """Everybody else is drained or down: on the ramp its requests would be turned away."""
    world = drained(drain(1, region="eu-west"), drain(2, region="us-east"), drain(3, region="ap-south"))
    order(world, drain(1, region="eu-west"), drain(2, region="us-east"))
    world.tick()
    assert world.weights("eu-west") == {AP: 1000}
    assert not world.memory.targets


def test_who_is_needed_for_the_load_has_all_of_it_at_once() -> None:
    """The others are full: on the ramp a part of the requests would be turned away for a minute more."""
    world = drained(drain(region="eu-west"))
    world.demand = {region: {"chat": 2000.0} for region in REGIONS}
    for _ in range(5):
        world.tick()
    assert world.documents["chat"].regions["eu-west"].shed_permille > 0
    shed = world.documents["chat"].regions["eu-west"].shed_permille
    order(world)
    world.tick()
    assert EU not in world.memory.targets
    assert world.documents["chat"].regions["eu-west"].shed_permille < shed


def test_while_another_drain_holds_it_nothing_returns() -> None:
    """And once that ends too, the ramp begins."""
    world = drained(drain(1, region="eu-west"), drain(2, target=EU))
    order(world, drain(2, target=EU))
    world.tick()
    assert EU not in world.weights("eu-west")
    assert set(world.memory.targets) == {BEU}
    order(world)
    world.tick()
    assert world.memory.targets[EU].permille == RAMP[0]


def test_one_that_is_down_keeps_its_own_course() -> None:
    """The end of a drain shortens no hold-down."""
    world = drained(drain(region="eu-west"))
    world.everywhere_down(EU)
    for _ in range(3):
        world.tick()
    order(world)
    world.tick()
    assert world.memory.targets[EU].phase == "OUT"
    assert EU not in world.weights("eu-west")


def test_with_automatic_off_it_is_back_at_once() -> None:
    """No standing moves then: it would stay at the foot of the ramp."""
    config = fleet_config()
    policy = config.fleet.policy.model_copy(update={"automatic": False})
    fleet = config.fleet.model_copy(update={"policy": policy})
    world = World(config=config.model_copy(update={"fleet": fleet}))
    world.tick()
    order(world, drain(region="eu-west"))
    world.tick()
    order(world)
    world.tick()
    assert world.weights("eu-west")[EU] == 1000
    assert not world.memory.targets
