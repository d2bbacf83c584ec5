"""What operators, rollouts, freezes and advice make of a decision: carried out exactly, health permitting."""

from datetime import timedelta
from typing import Any

import pytest
from brain_worlds import REGIONS, START, World, fleet_config

from control_plane.core.orders import orders_of
from shared.vocabulary.override import Override, OverrideSpec
from shared.vocabulary.rollout import Rollout
from shared.vocabulary.terms import Outcome, Verdict
from shared.vocabulary.view import Freeze, HealthView

US, EU, AP = (f"alpha-{region}" for region in REGIONS)
BUS, BEU, BAP = (f"beta-{region}" for region in REGIONS)
FAILING = {Outcome.REFUSED: 40}


def order(n: int = 1, **spec: Any) -> Override:
    return Override(
        id=f"{spec['kind']}-{n}",
        n=n,
        spec=OverrideSpec.model_validate(spec),
        reason="because",
        author="ann",
        created_at=START,
        expires_at=START + timedelta(hours=9),
    )


def rollout(permille: int | None, *targets: str) -> Rollout:
    """At so many permille; None: rolled back."""
    return Rollout.model_validate(
        {
            "id": "ro-1",
            "spec": {
                "route": "chat",
                "targets": targets,
                "steps": [{"permille": permille or 1}, {"permille": 1000}][: 1 if permille == 1000 else 2],
            },
            "state": "ROLLED_BACK" if permille is None else "RUNNING",
            "step_since": START,
            "created_at": START,
            "author": "ann",
            "reason": "newer",
        }
    )


def ordered(*overrides: Override, rollouts: tuple[Rollout, ...] = (), **config: Any) -> World:
    world = World(config=fleet_config(**config))
    world.orders = orders_of(overrides, rollouts, START)
    assert world.tick() is not None
    assert world.tick() is None
    return world


def frozen(*targets: str, cause: str = "CONTRADICTED") -> Any:
    """A view that says so."""

    def amend(view: HealthView) -> HealthView:
        freeze = Freeze.model_validate({"cause": cause, "since": START, "targets": targets})
        return view.model_copy(update={"freezes": (freeze,)})

    return amend


def cautious(**permille: int) -> Any:
    """A view that advises to leave so much to each (underscores for dashes)."""
    advice = {name.replace("_", "-"): each for name, each in permille.items()}

    def amend(view: HealthView) -> HealthView:
        targets = tuple(
            health.model_copy(
                update={"caution_permille": advice.get(health.id, 1000), "verdict": Verdict.DEGRADED}
            )
            if health.id in advice
            else health
            for health in view.targets
        )
        return view.model_copy(update={"targets": targets})

    return amend


# ------------------------------------------------------------ pins and weights


def test_a_pin_comes_before_everybody_while_it_can_serve() -> None:
    """Of the second tier or far away: first, and others only when no pinned target is left."""
    world = ordered(order(kind="pin", route="chat", target=BAP))
    assert [world.weights(region) for region in REGIONS] == [{BAP: 1000}] * 3
    assert world.members("us-east") == [[US, EU, AP], [BAP, BUS, BEU]]
    world.everywhere_down(BAP)
    world.tick()
    assert world.weights("us-east") == {US: 1000}


def test_a_pin_spills_beyond_its_capacity() -> None:
    """Pinned traffic stays within what the pinned can carry, its own region first; the rest goes as usual."""
    world = World(config=fleet_config(capacity={BAP: 100}))
    world.orders = orders_of([order(kind="pin", route="chat", target=BAP)], (), START)
    world.demand = {region: {"chat": 60.0} for region in REGIONS}
    world.tick()
    assert [world.weights(region) for region in REGIONS] == [
        {US: 750, BAP: 250},
        {EU: 750, BAP: 250},
        {BAP: 1000},
    ]


def test_weights_by_hand_hold_among_those_that_can_serve() -> None:
    """The proportion is the operator's, over tiers and distances; the dead give theirs to the others."""
    weights = {US: 200, EU: 300, BAP: 500}
    world = ordered(order(kind="weights", route="chat", weights=weights, clients="us-east"))
    assert world.weights("us-east") == weights
    assert world.weights("eu-west") == {EU: 1000}
    world.everywhere_down(BAP)
    world.tick()
    assert world.weights("us-east") == {US: 400, EU: 600}
    world.everywhere_down(US, EU)
    world.tick()
    assert world.weights("us-east") == {AP: 1000}


def test_weights_by_hand_are_not_bent_by_capacity_and_take_their_room_first() -> None:
    """What a person ordered is done; the traffic of other regions goes round it."""
    world = World(config=fleet_config(capacity=dict.fromkeys((US, EU, AP, BUS, BEU, BAP), 100)))
    hand = order(kind="weights", route="chat", weights={EU: 1}, clients="us-east")
    world.orders = orders_of([hand], (), START)
    world.demand = {"us-east": {"chat": 150.0}, "eu-west": {"chat": 50.0}}
    world.tick()
    assert world.weights("us-east") == {EU: 1000}
    assert EU not in world.weights("eu-west")


# ------------------------------------------------------------ rollouts


def test_a_rollout_gets_its_part_of_the_tier_wherever_clients_are() -> None:
    """10 % of the tier's traffic in every region; the others share the rest as usual, by distance."""
    world = ordered(rollouts=(rollout(100, AP),))
    assert world.weights("us-east") == {US: 900, AP: 100}
    assert world.weights("eu-west") == {EU: 900, AP: 100}
    assert world.weights("ap-south") == {AP: 100, US: 900}
    world.everywhere_down(AP)
    world.tick()
    assert world.weights("us-east") == {US: 1000}


def test_blue_green_takes_the_whole_tier_and_keeps_the_old_at_hand() -> None:
    """At 1000 the old are stand-bys."""
    world = ordered(rollouts=(rollout(1000, AP),))
    assert [world.weights(region) for region in REGIONS] == [{AP: 1000}] * 3
    assert set(world.members("us-east")[0]) == {US, EU, AP}


def test_who_was_rolled_back_takes_no_part() -> None:
    """Neither weight nor stand-by, not even when all the others are dead; and no automatic exclusion,
    which an edge might overrule."""
    world = ordered(rollouts=(rollout(None, US),), tiers=[[US, EU]])
    assert world.members("us-east") == [[EU]]
    world.everywhere_down(EU)
    world.tick()
    assert world.members("us-east") == [[EU]]
    assert all(each.by != "auto" for each in world.documents["chat"].excluded)


def test_a_staged_target_on_the_ramp_gets_its_part_of_its_part() -> None:
    """The ramp applies to a rollout as to everybody."""
    world = ordered(rollouts=(rollout(500, AP),))
    world.everywhere_down(AP)
    world.tick()
    world.everywhere_up(AP)
    for _ in range(3):
        world.tick()
    assert world.weights("us-east") == {AP: 50, US: 950}


# ------------------------------------------------------------ freezes and the master switch


@pytest.mark.parametrize("hard", [True, False])
def test_an_operators_freeze_keeps_who_is_in(hard: bool) -> None:
    """Nobody leaves by itself while it holds; afterwards the removal is made. Other routes go on."""
    other = {"id": "other", "match": {"models": ["o"]}, "tiers": [{"targets": [US, EU]}]}
    world = ordered(
        order(kind="freeze", route="chat"), more_routes=[other], policy={"soft_move_permille": 1000}
    )
    world.everywhere_down(US, hard=hard)
    world.tick()
    assert world.weights("us-east") == {US: 1000}
    assert world.weights("us-east", "other") == {EU: 1000}
    (reason,) = [reason for reason in world.documents["chat"].reasons if reason.code == "FROZEN"]
    assert reason.values == {"kept": [US], "cause": "OPERATOR"}
    assert [world.tick() for _ in range(60)] == [None] * 60
    world.orders = orders_of((), (), START)
    world.tick()
    assert world.weights("us-east") == {EU: 1000}
    assert "UNFROZEN" in world.codes()


def test_a_freeze_does_not_bring_back_who_is_out() -> None:
    """It keeps; it does not re-admit. Re-admissions go on by hold-down and ramp."""
    world = ordered()
    world.everywhere_down(US)
    world.tick()
    world.amend = frozen()
    assert [world.tick() for _ in range(5)] == [None] * 5
    assert world.weights("us-east") == {EU: 1000}
    world.everywhere_up(US)
    for _ in range(70):
        world.tick()
    assert world.weights("us-east") == {US: 1000}


def test_a_freeze_of_some_targets_lets_others_leave() -> None:
    """Only those it names are kept, with the cause said."""
    world = ordered()
    world.amend = frozen(US)
    world.everywhere_down(US, EU)
    world.tick()
    assert world.weights("us-east") == {US: 1000}
    assert world.weights("eu-west") == {US: 1000}
    (reason,) = [reason for reason in world.documents["chat"].reasons if reason.code == "FROZEN"]
    assert reason.values == {"kept": [US], "cause": "CONTRADICTED"}
    world.amend = lambda view: view
    world.tick()
    assert world.weights("us-east") == {AP: 1000}


def test_a_freeze_keeps_a_region_from_leaving_by_its_own_traffic() -> None:
    """What live traffic of one region says is an automatic removal too."""
    world = ordered()
    world.amend = frozen()
    world.traffic = {"us-east": {US: FAILING}}
    world.tick()
    assert world.weights("us-east") == {US: 1000}
    world.amend = lambda view: view
    world.tick()
    assert world.weights("us-east") == {EU: 1000}


def test_silence_does_not_hold_a_target_against_a_regions_own_live_traffic() -> None:
    """Those clients fail now, and others live; where nobody says so, it is kept. It is not taken back while
    nothing more is heard of it."""
    world = ordered()
    world.amend = frozen(cause="MOST_SILENT")
    world.traffic = {"us-east": {US: FAILING}}
    world.tick()
    assert world.weights("us-east") == {EU: 1000}
    assert world.weights("ap-south") == {AP: 1000}
    world.everywhere_down(US, EU, AP)
    world.traffic = {}
    world.tick()
    assert US not in world.weights("us-east")
    assert world.weights("ap-south") == {AP: 1000}


def test_silence_holds_what_an_operator_or_another_freeze_holds() -> None:
    """What the probes are contradicted about is kept, whatever else is frozen for silence."""
    world = ordered()
    named = frozen(US)

    def amend(view: HealthView) -> HealthView:
        contradicted = named(view)
        silent = Freeze(cause="MOST_SILENT", since=START)
        return contradicted.model_copy(update={"freezes": (*contradicted.freezes, silent)})

    world.amend = amend
    world.traffic = {"us-east": {US: FAILING}}
    world.tick()
    assert world.weights("us-east") == {US: 1000}


def test_silence_holds_the_last_one_left() -> None:
    """Nobody else is left to these clients: the freeze stands."""
    world = ordered(targets={US: "us-east", EU: "eu-west"}, tiers=[[US, EU]])
    world.amend = frozen(cause="MOST_SILENT")
    world.traffic = {"us-east": {US: FAILING, EU: FAILING}}
    world.tick()
    assert world.weights("us-east") == {US: 1000}
    assert US in world.memory.routes["chat"].held_in["us-east"]


def test_who_recovers_under_a_freeze_keeps_what_it_had() -> None:
    """It never left; so when the freeze ends in the middle of its ramp it is not thrown back to the foot."""
    world = ordered()
    world.amend = frozen()
    world.everywhere_down(US)
    world.tick()
    world.everywhere_up(US)
    for _ in range(5):
        world.tick()
    assert world.memory.targets[US].phase == "BACK"
    world.amend = lambda view: view
    for _ in range(100):
        world.tick()
        assert world.weights("us-east") == {US: 1000}
    assert world.memory.routes == {}


@pytest.mark.parametrize("view", ["probes", "probes and traffic"])
def test_a_dead_region_that_holds_most_targets_fails_over(view: str) -> None:
    """Most targets going at once is no reason to freeze: their traffic goes to those that live."""
    targets = {f"a{number}": "us-east" for number in range(8)} | {"b": "eu-west"}
    world = World(config=fleet_config(targets=targets, tiers=[list(targets)]))
    world.tick()
    world.everywhere_down(*list(targets)[:8])
    if view == "probes and traffic":
        world.traffic = {region: dict.fromkeys(list(targets)[:8], FAILING) for region in REGIONS}
    world.tick()
    assert [world.weights(region) for region in REGIONS] == [{"b": 1000}] * 3
    assert "FROZEN" not in world.codes()


def test_with_the_master_switch_off_health_moves_nothing() -> None:
    """Neither out nor in, nor up a ramp; the configuration and operators still do."""
    world = ordered()
    world.everywhere_down(EU)
    world.tick()
    world.config = fleet_config(version=2, policy={"automatic": False})
    world.tick()
    world.everywhere_down(US)
    world.everywhere_up(EU)
    world.traffic = {"ap-south": {AP: FAILING}}
    assert [world.tick() for _ in range(100)] == [None] * 100
    assert [world.weights(region) for region in REGIONS] == [{US: 1000}, {US: 1000}, {AP: 1000}]
    world.orders = orders_of([order(kind="drain", target=US)], (), START)
    world.tick()
    assert world.weights("us-east") == {AP: 1000}


# ------------------------------------------------------------ caution


def test_caution_takes_weight_at_the_soft_rate_and_no_further() -> None:
    """To the advised part, a fifth of the route's weight per half minute; back at once when it ends, but
    not before the next move would be due."""
    world = ordered()
    world.amend = cautious(alpha_us_east=500)
    steps = {
        second: world.weights("us-east").get(US, 0) for second in range(1, 121) if world.tick() is not None
    }
    assert steps == {1: 800, 31: 600, 61: 500}
    (reason,) = [reason for reason in world.documents["chat"].reasons if reason.code == "TARGET_DEGRADED"]
    assert (reason.target, reason.values["from_permille"], reason.values["kept_permille"]) == (US, 600, 500)
    world.amend = lambda view: view
    assert world.tick() is not None
    assert world.weights("us-east") == {US: 1000}


def test_advice_to_and_fro_moves_nothing_more_often_than_the_interval() -> None:
    """A figure on the edge of the usual gives two decisions a minute at most."""
    world = ordered()
    decisions = 0
    for second in range(300):
        world.amend = cautious(alpha_us_east=500) if second % 2 else lambda view: view
        decisions += world.tick() is not None
    assert decisions <= 11


def test_a_cautious_target_that_goes_down_softly_leaves_from_where_it_is() -> None:
    """It does not get its full weight back on the way out."""
    world = ordered()
    world.amend = cautious(alpha_us_east=500)
    for _ in range(100):
        world.tick()
    world.amend = lambda view: view
    world.everywhere_down(US, hard=False)
    seen = [world.weights("us-east").get(US, 0) for _ in range(120) if world.tick() is not None]
    assert seen == sorted(seen, reverse=True)
    assert seen[0] <= 500
    assert seen[-1] == 0


def test_caution_about_everybody_moves_traffic_to_the_next_tier() -> None:
    """What a tier should not carry flows on; where all tiers are cautious, they share as before."""
    world = ordered(policy={"soft_move_permille": 1000})
    world.amend = cautious(alpha_us_east=400, alpha_eu_west=0, alpha_ap_south=0)
    world.tick()
    assert world.weights("us-east") == {US: 400, BUS: 600}
