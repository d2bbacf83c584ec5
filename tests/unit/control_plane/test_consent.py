"""Which orders may be given, and which only by force."""

from typing import Any

import pytest

from control_plane.core.consent import bereft, faults, stranded, warnings
from control_plane.core.orders import orders_of
from shared.vocabulary.config import FleetConfig
from shared.vocabulary.override import Override, OverrideSpec
from shared.vocabulary.rollout import Rollout
from shared.vocabulary.terms import Outcome
from shared.vocabulary.view import HealthView, RouteTraffic
from tests.unit.control_plane.brain_worlds import REGIONS, START, World, fleet_config
from tests.unit.control_plane.test_orders import override, rollout


def world(**more: Any) -> World:
    """Everybody has reported that all is well."""
    made = World(config=fleet_config(**more))
    made.report()
    return made


def lost(given: Override, config: FleetConfig, view: HealthView | None, *others: Override) -> list[str]:
    """What `given` would strand beside `others`, in words."""
    return [str(each) for each in stranded(given.spec, config, view, orders_of([*others, given], (), START))]


def test_a_region_may_be_drained_while_another_answers() -> None:
    """Even the second to last."""
    there = world()
    first, second = (override(n, kind="drain", region=region) for n, region in enumerate(REGIONS[:2]))
    assert lost(first, there.config, there.look()) == []
    assert lost(second, there.config, there.look(), first) == []


def test_the_last_answering_target_may_not() -> None:
    """The routes and client regions are named."""
    there = world()
    others = [override(n, kind="drain", region=region) for n, region in enumerate(REGIONS[:2])]
    last = override(3, kind="drain", region=REGIONS[2])
    assert lost(last, there.config, there.look(), *others) == [f"chat in {', '.join(REGIONS)}"]


def test_who_is_down_is_nobody_to_rely_on() -> None:
    """Two regions down: the third may not be drained; a target that is DOWN itself may."""
    there = world()
    there.everywhere_down(*(f"{kind}-{region}" for kind in ("alpha", "beta") for region in REGIONS[:2]))
    there.report()
    assert lost(override(kind="drain", region=REGIONS[2]), there.config, there.look())
    assert not lost(override(kind="drain", region=REGIONS[0]), there.config, there.look())


def test_what_fails_for_one_client_region_counts_for_it_alone() -> None:
    """Its own live traffic is what it sees."""
    there = world(
        targets={"alpha-us-east": "us-east", "alpha-eu-west": "eu-west"},
        tiers=[["alpha-us-east", "alpha-eu-west"]],
    )
    there.traffic["us-east"] = {"alpha-eu-west": {Outcome.REFUSED: 50}}
    there.report()
    drain = override(kind="drain", region="us-east")
    assert lost(drain, there.config, there.look()) == ["chat in us-east"]


def test_a_route_in_trouble_does_not_hold_up_another() -> None:
    """Only routes that the drain takes something from are asked."""
    other = {"id": "embed", "match": {"models": ["e"]}, "tiers": [{"targets": ["beta-eu-west"]}]}
    there = world(more_routes=[other])
    there.everywhere_down("beta-eu-west")
    there.report()
    assert lost(override(kind="drain", region="us-east"), there.config, there.look()) == []


def test_a_target_that_was_rolled_back_is_no_refuge() -> None:
    """It gets no traffic, whatever its health."""
    there = world(targets={"old": "us-east", "new": "eu-west"}, tiers=[["old", "new"]])
    drain = override(kind="drain", target="old")
    orders = orders_of([drain], [rollout("ROLLED_BACK", "new")], START)
    assert stranded(drain.spec, there.config, there.look(), orders)
    orders = orders_of([drain], [rollout("PROMOTED", "new", step=3)], START)
    assert not stranded(drain.spec, there.config, there.look(), orders)


def test_a_target_on_trial_is_no_refuge() -> None:
    """A canary at a part of the traffic was not begun to carry all of it."""
    there = world(targets={"old": "us-east", "new": "eu-west"}, tiers=[["old", "new"]])
    drain = override(kind="drain", target="old")
    for step, refuge in ((1, False), (3, True)):
        orders = orders_of([drain], [rollout("RUNNING", "new", step=step)], START)
        assert bool(stranded(drain.spec, there.config, there.look(), orders)) is not refuge


@pytest.mark.parametrize("state", ["ROLLED_BACK", "ABORTED"])
def test_a_rollout_goes_back_only_to_those_who_answer(state: str) -> None:
    """Not to a drained target; nor is its record dropped under a candidate that carries everything."""
    there = world(targets={"old": "us-east", "new": "eu-west"}, tiers=[["old", "new"]])
    drain = override(kind="drain", target="old")
    running, back = rollout("RUNNING", "new"), rollout(state, "new")
    there.report()

    def left(*drains: Override, before: Rollout, after: Rollout | None) -> str:
        orders = [orders_of(drains, [each] if each is not None else [], START) for each in (before, after)]
        lost = bereft("chat", there.config, there.look(), before=orders[0], after=orders[1])
        return str(lost) if lost is not None else ""

    assert left(drain, before=running, after=back) == f"chat in {', '.join(REGIONS)}"
    assert left(before=running, after=back) == ""
    assert left(drain, before=back, after=None) == ""
    there.everywhere_down("old")
    there.report()
    assert left(before=running, after=back)


def test_without_a_view_nobody_is_known_to_answer() -> None:
    """A replica that has just started refuses rather than guesses."""
    assert lost(override(kind="drain", region="us-east"), fleet_config(), None)


@pytest.mark.parametrize("kind", ["pin", "weights", "freeze"])
def test_only_drains_can_strand(kind: str) -> None:
    """The others prefer and hold back; they exclude nobody."""
    spec: dict[str, Any] = {
        "pin": {"route": "chat", "region": "us-east"},
        "weights": {"route": "chat", "weights": {"alpha-us-east": 1}},
        "freeze": {},
    }[kind]
    assert lost(override(kind=kind, **spec), fleet_config(), None) == []


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"kind": "drain", "region": "mars"}, "no region 'mars'; there are ap-south, eu-west, us-east"),
        ({"kind": "drain", "target": "gamma"}, "no target 'gamma'"),
        ({"kind": "drain", "region": "us-east", "route": "embed"}, "no route 'embed'; there are chat"),
        ({"kind": "pin", "route": "chat", "region": "us-east", "clients": "mars"}, "no region 'mars'"),
        ({"kind": "weights", "route": "chat", "weights": {"alpha-mars": 1}}, "no target 'alpha-mars'"),
        ({"kind": "drain", "target": "alpha-ap-south", "route": "chat"}, "may not use alpha-ap-south"),
        ({"kind": "pin", "region": "ap-south", "route": "chat"}, "may use no target in ap-south"),
        ({"kind": "weights", "route": "chat", "weights": {"beta-ap-south": 1}}, "may not use beta-ap-south"),
    ],
)
def test_an_order_must_name_what_is_there(spec: dict[str, Any], said: str) -> None:
    """The mistake is named, with what there is."""
    fleet = fleet_config(residency=("us-east", "eu-west")).fleet
    assert said in "; ".join(faults(OverrideSpec.model_validate(spec), fleet, ()))


def test_the_same_order_twice_is_none() -> None:
    """The one in force is named; another route, or another kind, is another order."""
    fleet, given = fleet_config().fleet, override(4, kind="drain", region="us-east")
    assert "drain-4 by ann" in faults(given.spec, fleet, [given])[0]
    assert faults(OverrideSpec(kind="drain", region="us-east", route="chat"), fleet, [given]) == []


def test_a_heavy_load_on_the_survivors_is_said() -> None:
    """By what edges report now; nothing is said of a light one."""
    there = world()
    view = there.look()
    drain = override(kind="drain", region="us-east")
    orders = orders_of([drain], (), START)

    def said(inflight: float) -> tuple[str, ...]:
        load = RouteTraffic(
            route="chat", region="us-east", inflight=inflight, requests=9, failed=0, window_s=10
        )
        loaded = view.model_copy(update={"loads": (load,)})
        return warnings(drain.spec, there.config, loaded, orders)

    assert said(100) == ()
    assert said(952) == (
        "route chat: the survivors would carry 93 % of their capacity (952 of 1024 at once)",
    )
    assert warnings(drain.spec, there.config, None, orders) == ()
