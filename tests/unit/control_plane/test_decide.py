"""Decisions: nearest first, hard evidence at once, soft evidence slowly, back by the ramp, never to nobody."""

import pytest
from brain_worlds import REGIONS, START, World, fleet_config

from control_plane.core.memory import Memory, Standing
from shared.vocabulary.base import sha256_hex
from shared.vocabulary.terms import Outcome

US, EU, AP = (f"alpha-{region}" for region in REGIONS)
FAILING = {Outcome.REFUSED: 40}
GOOD = {Outcome.OK: 40}


def settled(**kwargs: object) -> World:
    """A world whose first decision is in force."""
    world = World(**kwargs)  # type: ignore[arg-type]
    assert world.tick() is not None
    return world


def run(world: World, seconds: int) -> list[int]:
    """Tick once a second; the seconds at which something was committed."""
    return [second for second in range(1, seconds + 1) if world.tick() is not None]


def test_the_first_decision_sends_everyone_home() -> None:
    """Own region first, the others of the tier as stand-bys by distance, the next tier without share."""
    world = settled()
    assert world.head is not None
    assert (world.head.generation, world.head.seq, world.codes()) == (1, 1, ["INITIAL"])
    assert [world.weights(region) for region in REGIONS] == [{US: 1000}, {EU: 1000}, {AP: 1000}]
    assert world.members("eu-west")[0] == [EU, US, AP]
    assert [tier.share_permille for tier in world.documents["chat"].regions["us-east"].tiers] == [1000, 0]


def test_the_first_decision_does_not_wait_for_health() -> None:
    """With nothing known, UNKNOWN targets are used in the configuration's order."""
    world = World(silent=set(REGIONS))
    assert world.tick() is not None
    assert world.weights("us-east") == {US: 1000}


def test_targets_of_one_region_share_equally() -> None:
    """Equally near is equally used, to the last permille."""
    config = fleet_config(
        targets={"a": "us-east", "b": "us-east", "c": "us-east", "d": "eu-west"}, tiers=["abcd"]
    )
    world = settled(config=config)
    assert world.weights("us-east") == {"a": 334, "b": 333, "c": 333}
    assert world.weights("eu-west") == {"d": 1000}


def test_constant_input_gives_nothing() -> None:
    """Without change there is no proposal, however often it is asked."""
    world = settled()
    assert run(world, 30) == []


def test_hard_evidence_moves_everything_at_once() -> None:
    """A target refused by the quorum leaves with the next decision, with the votes as evidence."""
    world = settled()
    world.everywhere_down(US)
    assert run(world, 5) == [1]
    document = world.documents["chat"]
    assert world.weights("us-east") == {EU: 1000}
    assert US not in world.members("us-east")[0] + world.members("eu-west")[0]
    assert [(each.target, each.by, each.region) for each in document.excluded] == [(US, "auto", None)]
    assert "3 of 3 vantages DOWN: refused" in document.excluded[0].reason
    reason = document.reasons[0]
    assert (reason.code, reason.target, reason.values["hard"], reason.values["down"]) == (
        "TARGET_DOWN",
        US,
        True,
        3,
    )
    assert {ref.vantage for ref in document.evidence} == set(REGIONS)


def test_a_dead_tier_hands_its_share_to_the_next() -> None:
    """A provider that dies in all regions is no reason to freeze: the next tier carries everything."""
    world = settled()
    world.everywhere_down(US, EU, AP)
    world.tick()
    assert world.weights("us-east") == {"beta-us-east": 1000}
    assert world.members("us-east")[0] == []
    assert "FROZEN" not in world.codes()


def test_back_by_hold_down_and_ramp() -> None:
    """A recovered target gets 10, 30, 100 % over ramp_s; the rest stays with those that had it."""
    world = settled()
    world.everywhere_down(US)
    world.tick()
    world.everywhere_up(US)
    steps = {second: world.weights("us-east") for second in range(1, 100) if world.tick() is not None}
    assert list(steps) == [2, 32, 62]
    assert list(steps.values()) == [{US: 100, EU: 900}, {US: 300, EU: 700}, {US: 1000}]
    assert world.codes() == ["TARGET_UP"]


def test_a_ramp_within_one_region_leaves_the_rest_to_its_neighbours() -> None:
    """Beside full members of its own region a returning target takes its part of an equal share."""
    config = fleet_config(targets={"a": "us-east", "b": "us-east"}, tiers=[["a", "b"]])
    world = settled(config=config)
    world.everywhere_down("a")
    world.tick()
    world.everywhere_up("a")
    run(world, 3)
    assert world.weights("us-east") == {"a": 50, "b": 950}


def test_flaps_double_the_hold_down() -> None:
    """A target that goes down again soon after coming back stays out twice as long each time."""
    world = settled(config=fleet_config(policy={"ramp_s": 1}))
    outs = []
    for _ in range(5):
        world.everywhere_down(US)
        world.tick()
        world.everywhere_up(US)
        seconds = 0
        while US not in world.weights("us-east"):
            world.tick()
            seconds += 1
        outs.append(seconds)
    assert outs == [2, 4, 8, 16, 32]
    run(world, 601)
    world.everywhere_down(US)
    world.tick()
    assert world.memory.targets[US].flaps == 0


def test_soft_evidence_moves_a_fifth_of_the_weight_per_interval() -> None:
    """No client region loses more than soft_move_permille within soft_interval_s; then it is out."""
    world = settled()
    world.everywhere_down(US, hard=False)
    steps = {
        second: world.weights("us-east").get(US, 0) for second in range(1, 200) if world.tick() is not None
    }
    assert steps == {1: 800, 31: 600, 61: 400, 91: 200, 121: 0}
    assert US not in world.members("us-east")[0]


def test_what_leaves_softly_is_said_to_keep_some_until_it_is_out() -> None:
    """Its first step is no departure."""
    world = settled()
    world.everywhere_down(US, hard=False)
    world.tick()
    reasons = world.documents["chat"].reasons
    assert {each.values["kept_permille"] for each in reasons if each.code == "TARGET_DOWN"} == {800}
    world.everywhere_down(US, hard=True)
    world.tick()
    assert "kept_permille" not in world.documents["chat"].reasons[0].values


def test_a_small_part_of_the_weight_may_leave_softly_at_once() -> None:
    """The bound is on the route's weight: one of ten targets is within it, of three such only two are."""
    targets = {f"t{number}": "us-east" for number in range(10)}
    world = settled(config=fleet_config(targets=targets, tiers=[list(targets)]))
    world.everywhere_down("t3", "t4", "t5", hard=False)
    world.tick()
    weights = world.weights("us-east")
    assert weights.keys() == targets.keys() - {"t3", "t4"}
    assert sum(weights.values()) == 1000


def test_soft_evidence_that_turns_hard_leaves_at_once() -> None:
    """Hard evidence does not wait for the interval."""
    world = settled()
    world.everywhere_down(US, hard=False)
    world.tick()
    world.everywhere_down(US, hard=True)
    assert world.tick() is not None
    assert world.weights("us-east") == {EU: 1000}


def test_soft_leaver_that_recovers_keeps_what_it_has() -> None:
    """Coming back starts from what was left, not from the foot of the ramp, whose steps are remembered."""
    world = settled()
    world.everywhere_down(US, hard=False)
    world.tick()
    world.everywhere_up(US)
    seen = [world.weights("us-east")[US] for _ in range(70) if world.tick() is not None]
    assert seen == [800, 800, 1000]


@pytest.mark.parametrize("hard", [True, False])
def test_everything_down_at_once_removes_nobody(hard: bool) -> None:
    """When all that is permitted reports DOWN the route stays as it was, and says FROZEN."""
    world = settled()
    world.everywhere_down(*world.targets, hard=hard)
    run(world, 100)
    assert world.weights("us-east") == {US: 1000}
    assert len(world.members("us-east")[0]) == 3
    assert "FROZEN" in world.codes()
    assert world.documents["chat"].excluded == ()


def test_everything_down_one_after_the_other_still_removes_nobody() -> None:
    """The order in which a common failure is noticed does not matter."""
    world = settled()
    for target in world.targets:
        world.everywhere_down(target)
        world.tick()
    assert sorted(world.members("us-east")[0]) == sorted([US, EU, AP])
    assert run(world, 60) == []


def test_the_last_one_is_kept_when_the_others_are_long_gone() -> None:
    """Who fell long before on hard evidence is not called back because the last one falls."""
    world = settled(config=fleet_config(tiers=[[US, EU]]))
    world.everywhere_down(US)
    run(world, 60)
    world.everywhere_down(EU)
    world.tick()
    assert world.members("us-east") == [[EU]]
    assert "FROZEN" in world.codes()
    world.everywhere_up(US)
    world.tick()
    assert world.members("us-east") == [[US]]
    assert "UNFROZEN" in world.codes()


def test_hold_down_ends_early_for_whom_nobody_can_replace() -> None:
    """A target that answers again is used before its time rather than none, and before the dead."""
    world = settled(config=fleet_config(tiers=[[US, EU]], policy={"hold_down_s": 300}))
    world.everywhere_down(US)
    world.tick()
    world.everywhere_up(US)
    run(world, 10)
    world.everywhere_down(EU)
    world.tick()
    assert world.weights("eu-west") == {US: 1000}
    assert "HOLD_DOWN" in world.codes()


def test_silence_removes_nobody_and_readmits_nobody() -> None:
    """When all vantages fall silent, who is in stays in and who is out stays out."""
    world = settled()
    world.everywhere_down(US)
    world.tick()
    world.silent = set(REGIONS)
    assert run(world, 300) == []
    assert world.weights("us-east") == {EU: 1000}


def test_a_target_nobody_watches_is_tried_again_in_the_end() -> None:
    """After hold_down_cap_s without anybody knowing, an excluded target returns by the ramp."""
    world = settled(config=fleet_config(policy={"hold_down_cap_s": 30}))
    world.everywhere_down(US)
    world.tick()
    world.silent = set(REGIONS)
    assert run(world, 60)[0] in range(35, 38)
    assert world.weights("us-east")[US] == 100


def test_own_vote_moves_a_target_last_for_that_region_only() -> None:
    """A regional DOWN against a global HEALTHY, without traffic: last there, unchanged elsewhere."""
    world = settled(down={})
    world.down = {"us-east": {US: True}}
    world.tick()
    assert world.members("us-east")[0] == [EU, AP, US]
    assert world.weights("us-east") == {EU: 1000}
    assert world.members("eu-west")[0] == [EU, US, AP]
    assert [(r.code, r.region) for r in world.documents["chat"].reasons] == [("REGIONAL_DOWN", "us-east")]
    assert world.documents["chat"].excluded == ()


def test_live_traffic_that_does_well_overrules_the_own_vote() -> None:
    """A prober that alone sees DOWN what its region's clients use happily moves nothing."""
    world = settled(traffic={"us-east": {US: GOOD}})
    world.down = {"us-east": {US: True}}
    assert run(world, 5) == []


def test_live_traffic_that_fails_excludes_for_that_region_only() -> None:
    """Passive data makes DOWN for its own region, at once; other regions keep the target."""
    world = settled()
    world.traffic = {"us-east": {US: FAILING}}
    world.tick()
    assert world.members("us-east")[0] == [EU, AP]
    assert US in world.members("eu-west")[0]
    excluded = world.documents["chat"].excluded
    assert [(each.target, each.region) for each in excluded] == [(US, "us-east")]
    assert "live traffic of us-east fails" in excluded[0].reason
    assert world.documents["chat"].evidence[0].monitor is None


def test_a_region_whose_traffic_fails_everywhere_keeps_its_targets() -> None:
    """Freeze holds for each client region: failing everywhere is the region's own trouble."""
    world = settled()
    world.traffic = {"us-east": dict.fromkeys(world.targets, FAILING)}
    world.tick()
    assert world.weights("us-east") == {US: 1000}
    assert "FROZEN" in world.codes()
    assert run(world, 60) == []


def test_residency_is_listed_and_never_broken() -> None:
    """A target outside the allowed regions is excluded by policy, even when all others are dead."""
    world = settled(config=fleet_config(residency=("eu-west", "ap-south")))
    assert {each.target for each in world.documents["chat"].excluded} == {US, "beta-us-east"}
    assert {each.by for each in world.documents["chat"].excluded} == {"policy"}
    world.everywhere_down(*(target for target in world.targets if "us-east" not in target))
    world.tick()
    assert all("us-east" not in name for tier in world.members("us-east") for name in tier)


def test_a_new_configuration_rewrites_every_route_and_removes_the_dropped() -> None:
    """CONFIG_CHANGED on all that stay; a dropped route gets a last document and leaves the head."""
    extra = [{"id": "embed", "match": {"models": ["e"]}, "tiers": [{"targets": [US]}]}]
    world = settled(config=fleet_config(more_routes=extra))
    world.config = fleet_config(version=2)
    proposal = world.tick()
    assert proposal is not None
    assert (proposal.head.seq, proposal.head.config_version, set(proposal.head.routes)) == (2, 2, {"chat"})
    assert proposal.documents["embed"].removed
    assert proposal.documents["embed"].reasons[0].code == "ROUTE_REMOVED"
    assert world.codes() == ["CONFIG_CHANGED"]
    assert run(world, 3) == []


def test_only_changed_routes_are_written() -> None:
    """A route without the fallen target keeps its document, byte for byte."""
    extra = [{"id": "embed", "match": {"models": ["e"]}, "tiers": [{"targets": [EU]}]}]
    world = settled(config=fleet_config(more_routes=extra))
    assert world.head is not None
    before = world.head.routes["embed"]
    world.everywhere_down(US)
    proposal = world.tick()
    assert proposal is not None
    assert set(proposal.documents) == {"chat"}
    assert proposal.head.routes["embed"] == before


def test_a_raised_generation_rewrites_all() -> None:
    """Every route is written anew under the greater generation, and the seq goes on."""
    world = settled()
    world.generation = 5
    proposal = world.tick()
    assert proposal is not None
    assert proposal.head.version == (5, 2)
    assert world.codes() == ["GENERATION_RAISED"]
    assert proposal.head.routes["chat"] == (2, sha256_hex(world.documents["chat"].canonical()))


def test_equal_arguments_give_equal_proposals() -> None:
    """Deciding is a function."""
    world = settled()
    world.everywhere_down(US)
    world.clock_s += 1
    world.report()
    world.look()
    first, second = world.propose(), world.propose()
    assert first is not None
    assert first == second


def test_a_lost_document_is_written_again() -> None:
    """A document that the head names and nobody has is decided anew."""
    world = settled()
    world.documents.clear()
    assert world.tick() is not None
    assert world.codes() == ["REVISED"]


def test_a_memory_from_the_future_is_read_as_now() -> None:
    """A leader whose clock was an hour ahead keeps no target out for an hour."""
    world = settled()
    world.everywhere_down(US)
    world.tick()
    standing = world.memory.targets[US]
    ahead = standing.model_copy(update={"since": standing.since.replace(hour=standing.since.hour + 1)})
    world.memory = Memory(targets={US: ahead})
    world.everywhere_up(US)
    run(world, 4)
    assert world.memory.targets[US].phase == "BACK"
    assert world.weights("us-east")[US] == 100


def test_memory_forgets_what_the_configuration_no_longer_names() -> None:
    """Standings of removed targets and regions are dropped."""
    world = settled()
    stale = Standing(phase="OUT", since=START)
    world.memory = Memory(targets={"gone": stale}, regional={"nowhere": {US: stale}})
    world.everywhere_down(US)
    world.tick()
    assert world.memory.targets.keys() == {US}
    assert world.memory.regional == {}


def test_live_traffic_does_not_wait_for_a_soft_leaver() -> None:
    """A target that is leaving softly for all leaves at once where live traffic fails."""
    world = settled()
    world.everywhere_down(US, hard=False)
    world.tick()
    world.traffic = {"us-east": {US: FAILING}}
    world.tick()
    assert world.weights("us-east") == {EU: 1000}
    assert world.weights("eu-west") == {EU: 1000}
    assert US in world.members("eu-west")[0]
