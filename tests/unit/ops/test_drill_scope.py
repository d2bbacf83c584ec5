"""Whom a drill concerns, and where its faults go."""

import pytest
from drill_worlds import REGIONS, fleet, spec, terrain

from ops.drill.scope import Terrain, places, resolve, route_of, where_it_strikes
from ops.errors import Usage


def test_a_killed_region_takes_everything_in_it() -> None:
    """Its processes are dead, its targets struck, its edge asked nothing; the others carry the load."""
    scope = resolve(spec(), terrain())
    assert scope.regions == {"eu"}
    assert scope.targets == {"alpha-eu", "beta-eu"}
    assert "bus-eu" in scope.dead
    assert "bus-us" not in scope.dead
    assert scope.living == scope.asked == ("edge-us", "edge-ap")
    assert scope.edges == ("edge-us", "edge-eu", "edge-ap")
    assert scope.leaves_all


def test_processes_providers_and_patterns_narrow_each_other() -> None:
    """Everywhere, but one provider; and one kind of process leaves targets alone."""
    killed = resolve(
        spec(
            {"fault": "kill", "by": "stack", "regions": ["*"], "providers": ["alpha"]},
            load={"through": "all"},
        ),
        terrain(),
    )
    assert killed.dead == killed.targets == {f"alpha-{region}" for region in REGIONS}
    assert killed.asked == killed.edges
    bus = resolve(spec({"fault": "kill", "by": "stack", "processes": ["bus"]}), terrain())
    assert (bus.dead, bus.targets) == ({"bus-eu"}, frozenset())
    picked = resolve(spec({"fault": "refuse", "by": "panel", "targets": ["beta-*"]}), terrain())
    assert picked.targets == {"beta-eu"}


def test_what_is_not_lost_is_not_left_altogether() -> None:
    """A slow target may keep a part; a cut observer strikes no target."""
    slow = resolve(spec({"fault": "latency", "by": "panel", "ms": 10}), terrain())
    assert not slow.leaves_all
    split = resolve(spec({"fault": "partition", "by": "panel", "processes": ["prober"]}), terrain())
    assert (split.targets, split.observers, split.regions) == (frozenset(), {"eu"}, frozenset())
    assert split.asked == split.edges


def test_each_injector_gets_its_places() -> None:
    """One for all processes, one for each panel, edge or drained region; named uniquely."""
    faults = [
        {"fault": "kill", "by": "stack", "processes": ["bus", "prober"]},
        {"fault": "cut", "by": "panel"},
        {"fault": "errors", "by": "edge"},
        {"fault": "drain", "by": "override"},
        {"fault": "drain", "by": "override", "providers": ["beta"]},
        {"fault": "partition", "by": "panel", "targets": ["alpha-us"]},
    ]
    found = places(spec(*faults), terrain(), drill="drill-9")
    assert [place.where for _, place in found] == [
        "bus-eu, prober-eu",
        "alpha-eu",
        "beta-eu",
        "edge-us: alpha-eu, beta-eu",
        "edge-eu: alpha-eu, beta-eu",
        "edge-ap: alpha-eu, beta-eu",
        "eu",
        "beta-eu",
        "alpha-us, for probers of eu",
    ]
    assert [place.id for _, place in found] == [f"drill-9.{n}" for n in range(9)]
    urls = [place.url for _, place in found]
    assert urls[:4] == ["http://keeper", "http://panel-alpha-eu", "http://panel-beta-eu", "http://admin-us"]
    assert found[6][1].region == "eu"
    assert found[8][1].observer == "eu"


@pytest.mark.parametrize(
    ("drill", "ground", "said"),
    [
        (spec(region="mars"), terrain(), "no region mars"),
        (spec(), Terrain(fleet=fleet(), edges=terrain().edges), "leave --url out"),
        (spec({"fault": "cut", "by": "panel"}), Terrain(fleet=fleet(), edges=terrain().edges), "`by: edge`"),
        (spec({"fault": "cut", "by": "panel", "providers": ["gamma"]}), terrain(), "no target is there"),
        (spec(load={"model": "nobody"}), terrain(), "no route takes 'nobody'"),
        (spec({"fault": "kill", "by": "stack", "regions": ["*"]}), terrain(), "no edge to go through"),
    ],
)
def test_a_drill_that_makes_no_sense_here_is_refused(drill: object, ground: Terrain, said: str) -> None:
    """Before anything is asked for, in words that say what to do."""
    with pytest.raises(Usage, match=said):
        resolve(drill, ground)  # type: ignore[arg-type]  # what parametrize gives is an object


def test_without_a_region_it_strikes_the_second() -> None:
    """And the load's route is the one that takes its model."""
    assert where_it_strikes(spec(region=None), terrain()).region == "eu"
    assert where_it_strikes(spec(region="ap"), terrain()).region == "ap"
    assert route_of(spec(), fleet()).id == "chat"
