"""By what a fleet shows that it noticed."""

import httpx2
import pytest
from drill_worlds import ManualClock, document, spec, terrain
from test_drill_runner import view

from ops.client import ControlPlanes
from ops.drill.scope import resolve
from ops.drill.sight import Sight
from ops.drill.signs import ailments, living_regions, sign_of
from shared.vocabulary.decision import Decision, Exclusion
from shared.vocabulary.status import LeaderStatus
from shared.vocabulary.terms import Verdict
from shared.vocabulary.view import BusHealth, HealthView, Vote


def sight(seen: HealthView) -> Sight:
    client = httpx2.AsyncClient()
    made = Sight(edges={}, planes=ControlPlanes(client, []), client=client, clock=ManualClock())
    made.view, made.reached = seen, True
    made.leader = LeaderStatus(id="control-plane-eu", region="eu", epoch=7)
    return made


def seen(made: Sight, *faults: dict[str, object]) -> bool:
    """Whether this sight shows these faults; the leader was the one of `eu` before."""
    drill = spec(*faults, load={"through": "all"})
    before = sight(view(dead=False))
    sign = sign_of(resolve(drill, terrain()), terrain(), before)
    return sign is not None and sign(made) is not None


KILL = {"fault": "kill", "by": "stack"}
PLANES = {"fault": "kill", "by": "stack", "processes": ["control-plane"]}


def test_lost_targets_are_all_found_lost() -> None:
    """One of two is not it; of what is only slow one is enough."""
    whole = view(dead=True)
    half = whole.model_copy(
        update={
            "targets": tuple(
                one.model_copy(update={"verdict": Verdict.HEALTHY}) if one.id == "beta-eu" else one
                for one in whole.targets
            )
        }
    )
    slow = {"fault": "latency", "by": "panel", "ms": 9}
    assert seen(sight(whole), KILL)
    assert not seen(sight(half), KILL)
    assert seen(sight(half), slow)
    assert not seen(sight(view(dead=False)), slow)


def test_an_observer_is_found_out_by_its_votes() -> None:
    """A vote DOWN of the region that is cut off, whatever the global verdict."""
    split = {"fault": "partition", "by": "panel"}
    whole = view(dead=False)
    first, *rest = whole.targets
    accused = first.model_copy(update={"votes": (Vote(vantage="eu", verdict=Verdict.DOWN),)})
    assert not seen(sight(whole), split)
    assert seen(sight(whole.model_copy(update={"targets": (accused, *rest)})), split)


def test_control_planes_are_missed() -> None:
    """All of them: nobody answers. The leader: another one leads. A follower: it falls silent."""
    away = sight(view(dead=False))
    away.reached = False
    assert seen(away, {**PLANES, "regions": ["*"]})
    other = sight(view(dead=False))
    assert not seen(other, PLANES)
    other.leader = LeaderStatus(id="control-plane-us", region="us", epoch=8)
    assert seen(other, PLANES)
    follower = sight(view(dead=False))
    assert not seen(follower, {**PLANES, "regions": ["ap"]})


def test_a_bus_is_missed_and_an_etcd_member_is_not() -> None:
    """Replicas say which bus they do not reach; of etcd the fleet's own view says nothing."""
    bus = {"fault": "kill", "by": "stack", "processes": ["bus"]}
    lost = BusHealth(region="eu", bootstrap="b", reachable=False, caught_up=False)
    made = sight(view(dead=False).model_copy(update={"buses": (lost,)}))
    assert seen(made, bus)
    assert not seen(made, {"fault": "kill", "by": "stack", "processes": ["etcd"]})


@pytest.mark.parametrize(("dead", "living"), [(False, 2), (True, 2)])
def test_living_regions_are_those_outside(dead: bool, living: int) -> None:
    """The struck region does not count, dead or not; what is UNKNOWN is not dead."""
    scope = resolve(spec(), terrain())
    made = sight(view(dead=dead))
    assert living_regions(made, scope) == living
    assert made.view is not None
    unknown = tuple(one.model_copy(update={"verdict": Verdict.UNKNOWN}) for one in made.view.targets)
    made.view = made.view.model_copy(update={"targets": unknown})
    assert living_regions(made, scope) == 2


def test_a_region_that_operators_have_drained_is_no_living_one() -> None:
    """Where no route is left to its targets; drained from one route of two it lives."""
    scope = resolve(spec(), terrain())
    made = sight(view(dead=False))

    def route(name: str, drained: tuple[str, ...], *, by: str = "operator") -> Decision:
        plain = document(name, 4, "alpha-us")
        gone = tuple(Exclusion.model_validate({"target": one, "by": by, "reason": "x"}) for one in drained)
        return plain.model_copy(update={"excluded": gone})

    ap = ("alpha-ap", "beta-ap")
    made.documents = {"chat": route("chat", ap)}
    assert living_regions(made, scope) == 1
    made.documents = {"chat": route("chat", ap[:1])}
    assert living_regions(made, scope) == 2
    made.documents = {"chat": route("chat", ap), "code": document("code", 4, "alpha-ap")}
    assert living_regions(made, scope) == 2
    made.documents = {"chat": route("chat", ap, by="auto")}
    assert living_regions(made, scope) == 2


def test_ailments_are_in_words() -> None:
    """Everything that is not as it should be."""
    scope = resolve(spec(), terrain())
    made = sight(view(dead=True))
    made.leader = None
    told = ailments(made, scope)
    assert "nobody leads" in told
    assert "edge-us is not FRESH" in told
    assert "alpha-eu is DOWN" in told
    assert "control-plane control-plane-eu is silent" in told
    made.reached = False
    assert ailments(made, scope) == ["no control plane answers"]
