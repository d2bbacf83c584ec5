"""Capacity: no failover plans more on a target than it can carry, and what does not fit is said."""

import random

import pytest
from brain_worlds import REGIONS, World, fleet_config

from shared.vocabulary.config import FleetConfig
from shared.vocabulary.decision import Reason
from shared.vocabulary.terms import Outcome

US, EU, AP = (f"alpha-{region}" for region in REGIONS)
BUS, BEU, BAP = (f"beta-{region}" for region in REGIONS)
ALL = (US, EU, AP, BUS, BEU, BAP)


def small(each: int = 100, *, policy: dict[str, object] | None = None, **capacity: int) -> FleetConfig:
    """Two tiers in three regions, `each` place at every target, or what is given (underscores for dashes)."""
    given = {name.replace("_", "-"): places for name, places in capacity.items()}
    return fleet_config(capacity={**dict.fromkeys(ALL, each), **given}, policy=policy)


def serving(config: FleetConfig, inflight: float | dict[str, float]) -> World:
    """A world whose edges carry so much each, by the first decision."""
    world = World(config=config)
    carry(world, inflight)
    assert world.tick() is not None
    return world


def seen(world: World, inflight: float | dict[str, float]) -> dict[str, float]:
    """What edges see of the true demand: what the decision in force does not shed."""
    by_region = inflight if isinstance(inflight, dict) else dict.fromkeys(REGIONS, inflight)
    if not world.documents:
        return by_region
    regions = world.documents["chat"].regions
    return {
        region: each * (1000 - regions[region].shed_permille) / 1000 for region, each in by_region.items()
    }


def carry(world: World, inflight: float | dict[str, float]) -> None:
    """The true demand from now on."""
    world.demand |= {region: {"chat": each} for region, each in seen(world, inflight).items()}


def endure(world: World, seconds: int, inflight: float | dict[str, float]) -> int:
    """So many seconds of this true demand, health unchanged; how many decisions there were."""
    requests = [
        round(10 * each) for each in (inflight.values() if isinstance(inflight, dict) else [inflight])
    ]
    return sum(world.hear(seen(world, inflight), requests=requests[0]) is not None for _ in range(seconds))


def planned(world: World, inflight: float | dict[str, float]) -> dict[str, float]:
    """Target -> requests at once, if all regions' demand goes where the decision says."""
    by_region = inflight if isinstance(inflight, dict) else dict.fromkeys(REGIONS, inflight)
    load: dict[str, float] = {}
    for region, demand in by_region.items():
        for target, permille in world.weights(region).items():
            load[target] = load.get(target, 0.0) + demand * permille / 1000
    return load


def reasons(world: World, code: str) -> list[Reason]:
    return [reason for reason in world.documents["chat"].reasons if reason.code == code]


def test_what_fits_stays_at_home() -> None:
    """Below the headroom nothing spills and nothing is remembered, whatever edges report."""
    world = serving(small(), 89)
    assert [world.weights(region) for region in REGIONS] == [{US: 1000}, {EU: 1000}, {AP: 1000}]
    assert world.memory.routes == {}
    carry(world, 50)
    assert world.tick() is None


def test_a_region_over_its_capacity_spills_to_the_nearest() -> None:
    """The own region is filled to the headroom, then the nearest of the tier takes what is over."""
    world = serving(small(), {"us-east": 120, "eu-west": 10, "ap-south": 10})
    assert world.weights("us-east") == {US: 750, EU: 250}
    assert world.weights("eu-west") == {EU: 1000}
    (spill,) = reasons(world, "SPILL")
    assert (spill.region, spill.values["spilled_permille"], spill.values["to"]) == ("us-east", 250, {EU: 250})
    assert spill.values["demand_inflight"] == 120
    assert world.tick() is None


def test_a_spill_never_displaces_the_own_region() -> None:
    """Every region is served by its own first: a neighbour gives only what its own clients leave."""
    world = serving(small(), {"us-east": 150, "eu-west": 80, "ap-south": 10})
    assert world.weights("eu-west") == {EU: 1000}
    load = planned(world, {"us-east": 150, "eu-west": 80, "ap-south": 10})
    assert load[US] == pytest.approx(90)
    assert load[EU] == pytest.approx(90, abs=0.2)
    assert load[AP] == pytest.approx(60, abs=0.2)


def test_a_failover_fills_the_survivors_then_the_next_tier() -> None:
    """A region's target dies: its clients go where there is room, tier after tier, within every capacity."""
    world = serving(small(), 80)
    world.everywhere_down(US)
    assert world.tick() is not None
    load = planned(world, 80)
    assert load[EU] == pytest.approx(90, abs=0.2)
    assert load[AP] == pytest.approx(90, abs=0.2)
    assert load[BUS] == pytest.approx(60, abs=0.3)
    assert all(places <= 100 for places in load.values())
    assert reasons(world, "SHED") == []


def test_what_fits_nowhere_is_shed_and_said() -> None:
    """With everything full to the last place, the rest is turned away, in proportion, with figures."""
    world = serving(small(policy={"panic_permille": 0}), 100)
    world.everywhere_down(US, EU, AP, BUS)
    carry(world, 100)
    world.tick()
    load = planned(world, 100)
    assert load.keys() == {BEU, BAP}
    assert [round(load[target]) for target in (BEU, BAP)] == [100, 100]
    shed = {region: world.documents["chat"].regions[region].shed_permille for region in REGIONS}
    assert sum(shed.values()) == pytest.approx(1000, abs=3)
    assert shed["us-east"] == 1000 - 1 or shed["us-east"] > shed["eu-west"]
    assert {reason.region for reason in reasons(world, "SHED")} >= {"us-east"}
    assert endure(world, 120, 100) == 0, "the same demand, less what is shed, is the same demand"


def test_those_at_the_same_distance_share_what_is_short() -> None:
    """Two regions spill into one target: each gets in proportion to what it asks of it."""
    config = fleet_config(
        targets={"own-us": "us-east", "own-eu": "eu-west", "far": "ap-south"},
        tiers=[["own-us", "own-eu"], ["far"]],
        capacity={"own-us": 10, "own-eu": 10, "far": 100},
    )
    demand = {"us-east": 100.0, "eu-west": 200.0}
    world = World(config=config, demand={region: {"chat": each} for region, each in demand.items()})
    world.tick()
    far = {region: demand[region] * world.weights(region)["far"] / 1000 for region in demand}
    assert sum(far.values()) == pytest.approx(100, abs=0.6)
    assert far["eu-west"] / far["us-east"] == pytest.approx(190 / 90, rel=0.05)


def test_routes_that_share_targets_are_planned_against_one_capacity() -> None:
    """Two routes over one target: what one takes is not there for the other."""
    other = {"id": "other", "match": {"models": ["o"]}, "tiers": [{"targets": [US]}, {"targets": [BUS]}]}
    config = fleet_config(capacity=dict.fromkeys(ALL, 100), more_routes=[other])
    world = World(config=config, demand={"us-east": {"chat": 80, "other": 80}})
    world.tick()
    on_us = 80 * (world.weights("us-east").get(US, 0) + world.weights("us-east", "other").get(US, 0)) / 1000
    assert on_us == pytest.approx(90, abs=0.4)
    assert world.tick() is None


def test_without_reports_capacity_is_no_question() -> None:
    """Nothing known of demand: the natural plan."""
    world = World(config=small(1))
    world.tick()
    assert world.weights("us-east") == {US: 1000}


def test_edges_that_fall_silent_change_no_plan() -> None:
    """A limited plan stays when nobody reports any more: silence is not less demand."""
    world = serving(small(), {"us-east": 120})
    before = world.weights("us-east")
    world.demand.clear()
    assert [world.tick() for _ in range(100)] == [None] * 100
    assert world.weights("us-east") == before


def test_nothing_is_shed_for_a_region_that_is_gone() -> None:
    """Its edges are silent while others are heard: after four times the settling time its demand is dropped."""
    config = fleet_config(targets={US: "us-east"}, tiers=[[US]], capacity={US: 100})
    world = serving(config, {"us-east": 75, "eu-west": 75})
    assert world.documents["chat"].regions["eu-west"].shed_permille > 0
    world.demand.pop("eu-west")
    changes = [second for second in range(1, 200) if world.tick() is not None]
    assert len(changes) == 2
    assert 120 <= changes[-1] <= 150
    assert world.documents["chat"].regions["us-east"].shed_permille == 0
    assert world.memory.routes == {}


def test_demand_that_falls_ends_the_spill_in_steps() -> None:
    """Less demand is noted, then brings the traffic home by halves, each time after the plan has stood."""
    world = serving(small(), {"us-east": 400})
    carry(world, {"us-east": 40})
    seconds = [second for second in range(1, 200) if world.tick() is not None]
    assert seconds == [30, 60, 90, 120]
    assert world.weights("us-east") == {US: 1000}
    assert reasons(world, "CAPACITY")[0].values["limited"] is False
    assert world.memory.routes == {}


def test_a_mass_restart_of_edges_brings_no_traffic_home() -> None:
    """All edges restart and report next to nothing for 20 s: the plan stands when the traffic is back."""
    world = serving(small(), {"us-east": 120})
    before = world.weights("us-east")
    endure(world, 100, {"us-east": 120})
    endure(world, 20, {"us-east": 0})
    endure(world, 100, {"us-east": 120})
    assert world.weights("us-east") == before
    assert len(world.commits) == 2, "the limited plan, and that little was seen"


@pytest.mark.parametrize("mean", [60.0, 88.0, 95.0, 130.0, 250.0, 500.0])
def test_noise_of_a_tenth_moves_nothing(mean: float) -> None:
    """Demand that wavers by 10 % round any mean gives a handful of decisions in ten minutes, then none."""
    rng = random.Random(7)
    world = serving(small(), mean)
    decisions = [
        sum(
            endure(world, 1, {region: mean * rng.uniform(0.9, 1.1) for region in REGIONS}) for _ in range(300)
        )
        for _ in range(2)
    ]
    assert decisions[0] <= 5
    assert decisions[1] <= 1


def test_shedding_ends_when_capacity_returns() -> None:
    """What was shed is not forgotten: when the targets return, all traffic has a place again."""
    world = serving(small(policy={"panic_permille": 0, "ramp_s": 1, "hold_down_s": 1}), 90)
    world.everywhere_down(*ALL[:5])
    world.tick()
    endure(world, 60, 90)
    assert world.documents["chat"].regions["us-east"].shed_permille > 500
    world.everywhere_up(*ALL)
    for _ in range(60):
        carry(world, 90)
        world.tick()
    assert [world.documents["chat"].regions[region].shed_permille for region in REGIONS] == [0, 0, 0]
    assert [world.weights(region) for region in REGIONS] == [{US: 1000}, {EU: 1000}, {AP: 1000}]


def test_slower_survivors_do_not_wind_demand_up() -> None:
    """Requests that spill to a target ten times slower are under way ten times as long. That alone may
    double the demand planned for, and no more: the same clients ask the same."""
    world = serving(small(), {"us-east": 100})
    for _ in range(600):
        on_us = world.weights("us-east").get(US, 0) / 1000
        world.hear({"us-east": 100 * on_us + 10 * 100 * (1 - on_us)}, requests=1000)
    assert len(world.commits) <= 4
    assert world.memory.routes["chat"].demand["us-east"].inflight <= 200


def test_a_ramp_has_only_its_part_of_the_capacity() -> None:
    """A cold target at 10 % of its weight is not given more than 10 % of its places, while others have room."""
    world = serving(small(), {"us-east": 300})
    world.everywhere_down(US)
    world.tick()
    world.everywhere_up(US)
    world.tick()
    carry(world, {"us-east": 300})
    world.tick()
    assert world.memory.targets[US].permille == 100
    assert 0 < planned(world, {"us-east": 300})[US] <= 10


def test_when_all_are_on_the_ramp_they_carry_what_they_can() -> None:
    """A ramp gives way before anything is shed."""
    world = serving(small(policy={"hold_down_cap_s": 700}), 80)
    world.everywhere_down(US, EU, AP)
    for _ in range(20):
        world.tick()
    world.everywhere_down(BUS, BEU, BAP)
    world.tick()
    world.everywhere_up(*ALL)
    for _ in range(10):
        world.tick()
        assert all(each.shed_permille == 0 for each in world.documents["chat"].regions.values())


def test_panic_uses_the_doubtful_and_never_the_dead() -> None:
    """Less than half of the demand can be carried: who left on soft evidence is used again, at once; who
    refuses connections is not. It is said, and ends when the sound can carry three quarters."""
    world = serving(small(policy={"soft_move_permille": 1000, "ramp_s": 1}), 100)
    world.everywhere_down(US, BUS, hard=True)
    world.tick()
    world.everywhere_down(EU, AP, BEU, hard=False)
    world.tick()
    (panic,) = reasons(world, "PANIC")
    assert set(panic.values["readmitted"]) == {EU, AP, BEU}
    assert panic.values["usable_inflight"] == 100
    used = {target for region in REGIONS for target in world.weights(region)}
    assert used == {EU, AP, BEU, BAP}
    assert endure(world, 60, 100) == 0
    world.everywhere_up(EU, AP)
    for _ in range(10):
        carry(world, 100)
        world.tick()
    assert not world.memory.routes["chat"].panic
    assert BEU not in {target for region in REGIONS for target in world.weights(region)}


def test_a_panic_drops_the_dead_of_the_last_resort() -> None:
    """One is softly out, then the other dies, in a panic: the doubtful one alone carries what it can."""
    targets = {US: "us-east", BUS: "us-east"}
    world = serving(fleet_config(targets=targets, tiers=[[US, BUS]], capacity={US: 20, BUS: 20}), 10)
    world.everywhere_down(US, hard=False)
    for _ in range(240):
        world.tick()
    carry(world, 40)
    world.tick()
    assert world.memory.routes["chat"].panic
    world.everywhere_down(BUS)
    world.tick()
    assert world.weights("us-east").keys() == {US}


def test_half_of_the_capacity_is_no_panic() -> None:
    """Where half of the demand can be carried, the rest is shed and the doubtful stay out."""
    world = serving(small(policy={"soft_move_permille": 1000}), 100)
    world.everywhere_down(EU, AP, BEU, BUS, hard=False)
    world.tick()
    endure(world, 60, 100)
    assert not world.memory.routes["chat"].panic
    assert {target for region in REGIONS for target in world.weights(region)} == {US, BAP}


@pytest.mark.parametrize("soft", [True, False])
def test_a_provider_that_dies_moves_within_capacity(soft: bool) -> None:
    """All targets of a provider die: the other provider is filled to its places and not beyond."""
    world = serving(small(policy={"soft_move_permille": 1000}), 95)
    world.everywhere_down(US, EU, AP, hard=not soft)
    world.tick()
    endure(world, 40, 95)
    load = planned(world, 95)
    assert load == pytest.approx({BUS: 95, BEU: 95, BAP: 95}, abs=1)


def test_a_target_that_fails_on_the_ramp_steps_back() -> None:
    """A step up only while live traffic does well; more than 5 % broken and it goes a step back."""
    world = serving(fleet_config(), 10)
    world.everywhere_down(US)
    world.tick()
    world.everywhere_up(US)
    while world.memory.targets[US].permille != 300:
        world.tick()
    world.traffic = {"us-east": {US: {Outcome.OK: 80, Outcome.FAILED: 20}}}
    for _ in range(10):
        assert world.memory.targets[US].permille == 300
        world.tick()
    assert world.memory.targets[US].permille == 100
    (step,) = [reason for reason in world.documents["chat"].reasons if reason.code == "RAMP_STEP"]
    assert (step.values["from_permille"], step.values["permille"]) == (300, 100)
    for _ in range(200):
        world.tick()
    assert world.memory.targets[US].permille == 100
    world.traffic = {"us-east": {US: {Outcome.OK: 99, Outcome.FAILED: 1}}}
    for _ in range(65):
        world.tick()
    assert world.weights("us-east") == {US: 1000}
