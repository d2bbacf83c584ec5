"""What operators' and rollouts' orders make of the placings, and what a decision tells of them."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from control_plane.core.orders import Orders, news_of, orders_of, placings
from control_plane.core.roster import Placing, roster_of
from shared.vocabulary.config import FleetConfig
from shared.vocabulary.override import Ended, Override, OverrideSpec
from shared.vocabulary.rollout import Rollout
from tests.unit.control_plane.brain_worlds import REGIONS, START, fleet_config

CONFIG = fleet_config()
EAST = {"alpha-us-east", "beta-us-east"}


def override(n: int = 1, *, minutes: float = 30.0, **spec: Any) -> Override:
    """The nth, given at START by ann."""
    return Override(
        id=f"{spec['kind']}-{n}",
        n=n,
        spec=OverrideSpec.model_validate(spec),
        reason="new racks",
        author="ann",
        created_at=START,
        expires_at=START + timedelta(minutes=minutes),
    )


def rollout(state: str = "RUNNING", *targets: str, step: int = 1) -> Rollout:
    """At 10 % of `chat` in its second step."""
    return Rollout.model_validate(
        {
            "id": "ro-1",
            "spec": {"route": "chat", "targets": targets or ("alpha-us-east",)},
            "state": state,
            "step": step,
            "step_since": START,
            "created_at": START,
            "author": "ann",
            "reason": "a newer model",
        }
    )


def placed(*overrides: Override, config: FleetConfig = CONFIG, at: datetime = START) -> Placing:
    """`chat` under these."""
    return placings(roster_of(config), orders_of(overrides, (), at))["chat"]


def in_tiers(placing: Placing) -> set[str]:
    """Everybody who stands in a tier, for any client region."""
    return {
        target
        for tiers in placing.tiers.values()
        for groups in tiers
        for group in groups
        for target in group.targets
    }


def test_without_orders_everything_stays_as_configured() -> None:
    """The very same objects, for nothing at all."""
    assert placings(roster_of(CONFIG), Orders())["chat"] is roster_of(CONFIG).placings["chat"]


def test_constant_orders_cost_nothing() -> None:
    """Equal orders, read anew from etcd, give the same objects, so that what hangs on them is remembered too."""
    once, again = placed(override(kind="drain", region="us-east")), override(kind="drain", region="us-east")
    assert placed(Override.model_validate_json(again.canonical())) is once
    assert placed(override(2, kind="drain", region="us-east")) is not once


def test_a_route_that_no_order_concerns_keeps_its_placing() -> None:
    """And with it all that is remembered by it."""
    other = {"id": "embed", "match": {"models": ["e"]}, "tiers": [{"targets": ["beta-eu-west"]}]}
    roster = roster_of(fleet_config(more_routes=[other]))
    under = placings(roster, orders_of([override(kind="drain", region="us-east")], (), START))
    assert under["embed"] is roster.placings["embed"]
    assert under["chat"] is not roster.placings["chat"]


def test_a_drain_of_a_region_takes_its_targets_out() -> None:
    """Out of every tier, with name, reason and end; empty groups go, tiers stay."""
    placing = placed(override(kind="drain", region="us-east"))
    assert EAST.isdisjoint(placing.permitted)
    assert EAST.isdisjoint(placing.members)
    assert in_tiers(placing) == set(placing.permitted)
    assert {(each.target, each.by, each.reason) for each in placing.barred} == {
        (target, "operator", "drained by ann: new racks") for target in EAST
    }
    assert {each.until for each in placing.barred} == {START + timedelta(minutes=30)}
    assert [len(groups) for groups in placing.tiers["us-east"]] == [2, 2]


def test_a_drain_of_everybody_leaves_empty_tiers() -> None:
    """They keep their number: a tier's place is its name."""
    placing = placed(*(override(n, kind="drain", region=region) for n, region in enumerate(REGIONS)))
    assert placing.permitted == ()
    assert placing.tiers["us-east"] == ((), ())


def test_of_two_drains_the_longer_is_named() -> None:
    """Lifting the other changes nothing for the target."""
    short, long = (
        override(1, kind="drain", region="us-east"),
        override(2, minutes=60, kind="drain", target="alpha-us-east"),
    )
    until = {each.target: each.until for each in placed(short, long).barred}
    assert until == {"alpha-us-east": long.expires_at, "beta-us-east": short.expires_at}


def test_a_drain_of_one_route_is_for_that_route() -> None:
    """Others go on."""
    assert (
        placed(override(kind="drain", region="us-east", route="embed")) is roster_of(CONFIG).placings["chat"]
    )


def test_residency_stays_the_policys() -> None:
    """A drain says nothing of targets that the route may not use anyway."""
    config = fleet_config(residency=("eu-west", "us-east"))
    barred = {
        each.target: each.by
        for each in placed(override(kind="drain", region="ap-south"), config=config).barred
    }
    assert barred == {"alpha-ap-south": "policy", "beta-ap-south": "policy"}


def test_an_override_is_over_at_its_end_and_when_lifted() -> None:
    """Not a moment later; what it was is still told."""
    drain = override(kind="drain", region="us-east")
    assert placed(drain, at=drain.expires_at - timedelta(milliseconds=1)).barred
    assert not placed(drain, at=drain.expires_at).barred
    lifted = drain.model_copy(update={"ended": Ended(at=START, by="bob", reason="done")})
    assert orders_of([lifted], (), START) == Orders()
    assert orders_of([lifted], (), START).ended == (lifted,)


def test_a_pin_names_whom_its_clients_use_first() -> None:
    """For all clients, or one region's; drained ones are no longer among them."""
    everywhere = placed(override(kind="pin", route="chat", region="eu-west"))
    assert everywhere.preferred == dict.fromkeys(REGIONS, frozenset({"alpha-eu-west", "beta-eu-west"}))
    here = placed(
        override(1, kind="pin", route="chat", region="eu-west", clients="us-east"),
        override(2, kind="drain", target="alpha-eu-west"),
    )
    assert here.preferred == {"us-east": frozenset({"beta-eu-west"})}


def test_weights_are_split_exactly() -> None:
    """To whole permille in the proportion given; a drained one's part goes to the others."""
    weights = {"alpha-us-east": 1, "alpha-eu-west": 1, "alpha-ap-south": 1}
    every = placed(override(kind="weights", route="chat", weights=weights, clients="us-east"))
    assert every.fixed == {"us-east": {"alpha-us-east": 334, "alpha-eu-west": 333, "alpha-ap-south": 333}}
    left = placed(
        override(1, kind="weights", route="chat", weights=weights, clients="us-east"),
        override(2, kind="drain", region="us-east"),
    )
    assert left.fixed == {"us-east": {"alpha-eu-west": 500, "alpha-ap-south": 500}}


def test_the_newest_pin_or_weights_govern() -> None:
    """By the number in the audit, whatever the clocks said; the other clients keep the older."""
    older = override(9, kind="pin", route="chat", region="eu-west")
    newer = override(10, kind="weights", route="chat", clients="us-east", weights={"alpha-ap-south": 1})
    for given in ((older, newer), (newer, older)):
        placing = placed(*given)
        assert placing.preferred.keys() == {"eu-west", "ap-south"}
        assert placing.fixed == {"us-east": {"alpha-ap-south": 1000}}


def test_a_freeze_is_for_all_routes_or_one() -> None:
    """Nobody leaves by itself."""
    assert placed(override(kind="freeze")).frozen
    assert placed(override(kind="freeze", route="chat")).frozen
    assert not placed(override(kind="freeze", route="embed")).frozen


@pytest.mark.parametrize(
    ("state", "step", "staged"),
    [
        ("RUNNING", 1, {"alpha-us-east": 50, "alpha-eu-west": 50}),
        ("RUNNING", 0, {"alpha-us-east": 5, "alpha-eu-west": 5}),
        ("PROMOTED", 3, {"alpha-us-east": 500, "alpha-eu-west": 500}),
    ],
)
def test_a_rollout_stages_its_targets(state: str, step: int, staged: dict[str, int]) -> None:
    """They share the step's permille of their tier."""
    new = rollout(state, "alpha-us-east", "alpha-eu-west", step=step)
    assert placings(roster_of(CONFIG), Orders(rollouts=(new,)))["chat"].staged == staged


@pytest.mark.parametrize("state", ["ROLLED_BACK", "ABORTED"])
def test_what_was_rolled_back_takes_no_part(state: str) -> None:
    """Not as a stand-by either; and a drain of it says nothing new."""
    back = rollout(state, "alpha-us-east")
    placing = placings(roster_of(CONFIG), Orders(rollouts=(back,)))["chat"]
    assert "alpha-us-east" not in {*placing.permitted, *in_tiers(placing), *placing.staged}
    assert [(each.target, each.by) for each in placing.barred] == [("alpha-us-east", "policy")]


def test_news_are_the_difference_to_the_last_decision() -> None:
    """New ones, and ended ones as they are on record now."""
    old, kept, new = (override(n, kind="drain", target=f"alpha-{region}") for n, region in enumerate(REGIONS))
    lifted = old.model_copy(update={"ended": Ended(at=START, by="bob", reason="done")})
    news = news_of((old, kept), orders_of([lifted, kept, new], (), START))
    assert (news.given, news.ended) == ((new,), (lifted,))
    assert not news_of((kept,), orders_of([kept], (), START))
    assert news_of((kept,), Orders()).ended == (kept,)
