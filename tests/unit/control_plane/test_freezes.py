"""When automatic removals are suspended, and when they are not."""

import pytest
from brain_worlds import REGIONS, fleet_config
from health_worlds import Scene, Traffic
from hypothesis import given, settings
from hypothesis import strategies as st

from control_plane.core.freezes import DOUBT_S, LINGER_S
from shared.vocabulary.terms import Verdict

FIVE = ("us-east", "us-west", "eu-west", "ap-south", "sa-east")
A = "alpha-us-east"


def causes(scene: Scene) -> list[tuple[str, tuple[str, ...]]]:
    assert scene.view is not None
    return [(freeze.cause, freeze.targets) for freeze in scene.view.freezes]


def test_most_vantages_falling_silent_together_freezes_until_they_speak_for_30_s() -> None:
    """Two of three within 10 s: all automatic removals, named; it lingers 30 s and not longer."""
    scene = Scene()
    scene.pass_s(3)
    began = scene.now
    scene.silent = {"eu-west"}
    scene.pass_s(4)
    scene.silent |= {"ap-south"}
    scene.pass_s(4)
    assert causes(scene) == [], "eu-west alone is silent"
    view = scene.pass_s(3)
    assert causes(scene) == [("MOST_SILENT", ())]
    assert view.freezes[0].detail == "2 of 3 vantages silent: ap-south, eu-west"
    assert view.freezes[0].since > began
    since = view.freezes[0].since
    scene.silent = set()
    view = scene.pass_s(LINGER_S - 1)
    assert [freeze.since for freeze in view.freezes] == [since]
    scene.pass_s(2)
    assert causes(scene) == []


def test_a_minority_that_falls_silent_together_does_not_freeze() -> None:
    """Two of five: three still agree or not, and may be believed."""
    scene = Scene(config=fleet_config(regions=FIVE))
    scene.pass_s(3)
    scene.silent = set(FIVE[:2])
    scene.pass_s(12)
    assert causes(scene) == []
    scene.silent.add(FIVE[2])
    scene.pass_s(8)
    assert causes(scene) == [], "the third fell more than 10 s later"


def test_a_single_vantage_is_not_most() -> None:
    """Where only one looks, its death is one prober's and no common cause."""
    scene = Scene(config=fleet_config(regions=("us-east",)))
    scene.pass_s(3)
    scene.silent = {"us-east"}
    scene.pass_s(10)
    assert causes(scene) == []


def test_vantages_that_fall_silent_one_by_one_do_not_freeze() -> None:
    """Further apart than 10 s it is no common cause."""
    scene = Scene(config=fleet_config(regions=FIVE))
    scene.pass_s(3)
    for vantage in FIVE[:3]:
        scene.silent.add(vantage)
        scene.pass_s(12)
        assert causes(scene) == []


def test_a_dead_region_does_not_freeze() -> None:
    """All its targets, its prober and its edge gone at once: one vantage of three is not most."""
    scene = Scene()
    scene.traffic = {region: {f"alpha-{region}": Traffic()} for region in REGIONS}
    scene.pass_s(12)
    scene.silent = {"us-east"}
    for target in (A, "beta-us-east"):
        scene.fails(target, "eu-west", "ap-south")
    for _ in range(60):
        scene.pass_s(1)
        assert causes(scene) == []
    assert scene.health(A).verdict is Verdict.DOWN


def test_a_dead_provider_that_holds_most_targets_does_not_freeze() -> None:
    """Every vantage sees it fail, and no traffic to it goes well: it fails over to what lives."""
    config = fleet_config(
        targets={**{f"alpha-{n}": "us-east" for n in range(5)}, "beta-1": "eu-west"},
        tiers=[[f"alpha-{n}" for n in range(5)], ["beta-1"]],
    )
    scene = Scene(config=config)
    scene.traffic = {region: {f"alpha-{n}": Traffic() for n in range(5)} for region in REGIONS}
    scene.pass_s(12)
    for n in range(5):
        scene.fails(f"alpha-{n}")
        for region in REGIONS:
            scene.traffic[region][f"alpha-{n}"] = Traffic(good=95, bad=5, good_age_s=0.2)
    for second in range(40):
        for seen in scene.traffic.values():
            for each in seen.values():
                each.good_age_s = 0.2 + second if second < 9 else None
                each.good = max(0, 95 - 10 * second)
        scene.pass_s(1)
        assert causes(scene) == [], f"after {second} s"
    assert all(scene.health(f"alpha-{n}").verdict is Verdict.DOWN for n in range(5))


def test_traffic_that_goes_well_contradicts_failing_probes() -> None:
    """Good answers long after the probes began to fail: that target's removal is suspended, no other's."""
    scene = Scene(traffic={"us-east": {A: Traffic()}})
    scene.pass_s(12)
    scene.fails(A)
    scene.pass_s(3)
    assert causes(scene) == [("CONTRADICTED", (A,))]
    assert scene.view is not None
    assert scene.view.freezes[0].detail == f"live traffic goes well where probes fail: {A}"
    scene.traffic["us-east"][A] = Traffic(good=10, bad=90)
    scene.pass_s(LINGER_S - 2)
    assert causes(scene) == [("CONTRADICTED", (A,))]
    scene.pass_s(4)
    assert causes(scene) == []


def test_most_targets_contradicted_freeze_all() -> None:
    """Then the probes have lost their word altogether."""
    targets = [f"alpha-{region}" for region in REGIONS]
    scene = Scene(traffic={"us-east": {target: Traffic() for target in targets}})
    scene.pass_s(12)
    for target in targets:
        scene.fails(target)
    scene.pass_s(3)
    assert causes(scene) == [("CONTRADICTED", ())]


def test_the_benefit_of_the_doubt_is_short() -> None:
    """Traffic went well right up to the accusation: removal waits for the edges, for 1.5 s at most."""
    scene = Scene(traffic={"us-east": {A: Traffic()}})
    scene.pass_s(12)
    scene.fails(A)
    scene.traffic["us-east"][A].good_age_s = 0.3
    frozen_s = 0.0
    for step in range(40):
        scene.traffic["us-east"][A].good_age_s = 0.3 + 0.25 * (step + 1)
        scene.pass_s(0.25, pace_s=0.25)
        frozen_s += 0.25 * bool(causes(scene))
    assert 0 < frozen_s <= DOUBT_S


@pytest.mark.parametrize(
    "seen",
    [
        Traffic(bad=1),
        Traffic(admission="EJECTED"),
        Traffic(good=19),
        Traffic(good_age_s=None),
        Traffic(good_age_s=9.0),
    ],
)
def test_no_doubt_where_an_edge_has_seen_it_fail(seen: Traffic) -> None:
    """One failed attempt, an ejection, too little traffic, or no recent answer: the removal goes ahead."""
    scene = Scene(traffic={"us-east": {A: Traffic()}})
    scene.pass_s(12)
    scene.fails(A)
    scene.traffic["us-east"][A] = seen
    if seen.good_age_s is not None and seen.bad + (seen.admission == "EJECTED"):
        seen.good_age_s = 0.5
    for _ in range(4):
        scene.pass_s(0.25, pace_s=0.25)
        assert causes(scene) == []


def test_an_edge_that_has_not_spoken_since_says_nothing() -> None:
    """The last window of an edge that died with its region is full of good answers."""
    scene = Scene(traffic={"us-east": {A: Traffic()}})
    scene.pass_s(12)
    scene.silent = {"us-east"}
    scene.fails(A, "eu-west", "ap-south")
    for _ in range(8):
        scene.pass_s(0.25, pace_s=0.25)
        assert causes(scene) == []


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(REGIONS), st.integers(1, 20), st.booleans())
def test_no_single_region_freezes_anything(region: str, seconds: int, with_traffic: bool) -> None:
    """Whichever region dies, whenever, with or without traffic: nothing is suspended."""
    scene = Scene()
    if with_traffic:
        scene.traffic = {each: {f"alpha-{each}": Traffic()} for each in REGIONS}
    scene.pass_s(seconds)
    scene.silent = {region}
    for other in REGIONS:
        if other != region:
            scene.fails(f"alpha-{region}", other)
            scene.fails(f"beta-{region}", other)
    for _ in range(20):
        scene.pass_s(1)
        assert causes(scene) == []
