"""The models of the contract: what they take, what they refuse, and the bytes they make."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ops.local.fleet import local_fleet
from shared.vocabulary.base import NO_VERSION, Version, canonical_json, sha256_hex
from shared.vocabulary.client_key import ClientKey
from shared.vocabulary.config import (
    Fleet,
    FleetConfig,
    Monitor,
    Policy,
    Region,
    Route,
    RouteMatch,
    RouteTier,
    RouteTimeouts,
    Target,
    problems,
)
from shared.vocabulary.decision import Ack, Beat, DecidedTier, Decision, Head, RegionDecision, WeightedTarget
from shared.vocabulary.degradation import Degradation
from shared.vocabulary.node import BusAddress, Node
from shared.vocabulary.terms import Dialect, EdgeMode, Outcome, StreamRecovery

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
COUNTS = st.integers(0, 2**53)


def target(name: str = "alpha", **fields) -> Target:
    return Target(
        **{"id": name, "provider": "p", "model": "m", "region": "us-east", "url": "http://h/v1", **fields}
    )


def fleet(**fields) -> Fleet:
    """A small one without a fault, but for what is given."""
    return Fleet(
        **{
            "regions": (Region(id="us-east"), Region(id="eu-west")),
            "targets": (target("alpha"), target("beta", region="eu-west")),
            "routes": (route(),),
            **fields,
        }
    )


def route(name: str = "chat", **fields) -> Route:
    defaults = {"match": RouteMatch(models=(name,)), "tiers": (RouteTier(targets=("alpha", "beta")),)}
    return Route(**{"id": name, **defaults, **fields})


def down_to(name: str) -> Degradation:
    return Degradation(step_down=name)


ALPHA = (RouteTier(targets=("alpha",)),)


def found(**fields) -> list[str]:
    """The problems of that fleet as `path: what`."""
    return [f"{'.'.join(map(str, where))}: {what}" for where, what in problems(fleet(**fields))]


# ---------------------------------------------------------------- versions and canonical bytes


@given(COUNTS, COUNTS)
def test_a_version_is_read_as_it_is_written(generation, seq):
    """`generation.seq`, and back."""
    version = Version(generation, seq)
    assert Version.parse(str(version)) == version


@pytest.mark.parametrize(
    "text", ["", "1", "1.", ".1", "1.2.3", "-1.2", "1.-2", "1.x", " 1.2", "+1.2", "٣.١", "1_0.2"]
)
def test_anything_else_is_no_version(text):
    """What an operator mistypes is refused with the right form."""
    with pytest.raises(ValueError, match=r"write GENERATION\.SEQ"):
        Version.parse(text)


def test_a_greater_generation_wins_over_any_seq():
    """An emptied etcd starts again at seq 1 and still goes forward."""
    assert NO_VERSION < Version(1, 900) < Version(2, 1) < Version(2, 2)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(st.text(max_size=8), JSON, max_size=6))
def test_canonical_json_does_not_depend_on_the_order_of_keys(value):
    """Equal values give equal bytes, so that a hash means something."""
    turned = dict(reversed(value.items()))
    assert canonical_json(value) == canonical_json(turned)


def test_canonical_json_is_compact_utf8_and_refuses_what_json_cannot_say():
    """The exact form is part of the contract: other writers must hit the same bytes."""
    assert canonical_json({"b": [1, 2], "a": "é"}) == '{"a":"é","b":[1,2]}'.encode()
    assert sha256_hex(b"") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    for nonsense in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="Out of range"):
            canonical_json({"x": nonsense})


# ---------------------------------------------------------------- decisions


def region_decision(*tiers: tuple[int, list[int]], shed: int = 0) -> RegionDecision:
    return RegionDecision(
        tiers=tuple(
            DecidedTier(
                share_permille=share,
                targets=tuple(WeightedTarget(id=f"t{i}", weight_permille=w) for i, w in enumerate(weights)),
            )
            for share, weights in tiers
        ),
        shed_permille=shed,
    )


def test_shares_and_weights_sum_to_1000():
    """A spill is a share; what cannot be carried is shed, and said."""
    region_decision((600, [500, 500, 0]), (300, [1000]), shed=100)
    region_decision((0, []), (1000, [1000]))
    region_decision((0, []), shed=1000)


@pytest.mark.parametrize(
    ("tiers", "shed", "message"),
    [
        ([(600, [1000]), (300, [1000])], 0, "sum to 900"),
        ([(1000, [1000])], 1, "sum to 1001"),
        ([(1000, [999])], 0, "weights of tier 1 sum to 999"),
        ([(1000, [1000]), (0, [0, 0])], 0, "weights of tier 2 sum to 0"),
        ([(1000, [])], 0, "tier 1 has a share but no target"),
        ([(1001, [1000])], 0, "less than or equal to 1000"),
        ([(1000, [-1, 1001])], 0, "greater than or equal to 0"),
    ],
)
def test_a_decision_that_does_not_add_up_is_refused(tiers, shed, message):
    """An edge never follows sums that do not hold."""
    with pytest.raises(ValidationError, match=message):
        region_decision(*tiers, shed=shed)


def test_a_tier_names_each_target_once():
    """Twice the same target would have twice the weight."""
    twice = tuple(WeightedTarget(id="a", weight_permille=500) for _ in range(2))
    with pytest.raises(ValidationError, match="names a target twice"):
        RegionDecision(tiers=(DecidedTier(share_permille=1000, targets=twice),))


@pytest.mark.parametrize("weight", [float("nan"), "many", None, 0.5])
def test_weights_are_whole_numbers(weight):
    """Zero, NaN and text have no place in a weight."""
    with pytest.raises(ValidationError):
        WeightedTarget(id="a", weight_permille=weight)


def test_a_decision_survives_the_wire_byte_for_byte():
    """Read and written again, a document has the hash it had."""
    decision = Decision(
        route="chat",
        generation=1,
        seq=7,
        config_version=3,
        regions={"eu-west": region_decision((1000, [1000]))},
        decided_at=NOW,
        term={"holder": "cp-1", "epoch": 12},
    )
    raw = decision.canonical()
    assert Decision.model_validate_json(raw).canonical() == raw
    assert decision.version == Version(1, 7)


def test_times_without_a_zone_are_refused():
    """Half the fleet's bugs would be hours apart."""
    with pytest.raises(ValidationError, match="timezone"):
        Decision(
            route="chat",
            generation=1,
            seq=1,
            config_version=1,
            decided_at=NOW.replace(tzinfo=None),
            term={"holder": "cp", "epoch": 1},
        )


def test_a_beat_is_newer_by_generation_then_epoch_then_count():
    """A deposed leader's Beats are old, however many it sends."""

    def beat(generation: int, epoch: int, count: int) -> Beat:
        return Beat(
            generation=generation,
            epoch=epoch,
            beat=count,
            head_seq=1,
            head_sha="0" * 64,
            config_version=1,
            routes={},
            holder="cp",
            sent_at=NOW,
        )

    assert beat(1, 5, 900).order < beat(1, 6, 1).order < beat(2, 1, 1).order
    assert beat(1, 5, 1).head == Head(generation=1, seq=1, config_version=1, routes={})


def test_an_ack_before_any_decision_says_0_0():
    """A fresh edge can speak before it follows anything."""
    ack = Ack(
        edge="e",
        region="r",
        boot=1,
        ack=1,
        mode=EdgeMode.STALE,
        generation=0,
        seq=0,
        config_version=0,
        applied_at=NOW,
    )
    assert (ack.version, ack.beat_age_s, ack.head_sha) == (NO_VERSION, None, None)


def test_messages_are_frozen_and_tolerant_and_configuration_is_strict():
    """The two bases, and why there are two."""
    head = Head.model_validate({"generation": 1, "seq": 1, "config_version": 1, "routes": {}, "new": 1})
    with pytest.raises(ValidationError, match="frozen"):
        head.seq = 2
    with pytest.raises(ValidationError, match="Extra inputs"):
        Region.model_validate({"id": "a", "new": 1})


def test_throttling_alone_never_counts_towards_down():
    """A busy target is alive; every other bad outcome counts."""
    assert {outcome for outcome in Outcome if not outcome.good and not outcome.counts_down} == {
        Outcome.THROTTLED
    }


# ---------------------------------------------------------------- the fleet


def test_by_distance_is_itself_then_known_then_list_order():
    """Where both sides are silent, the order of the list decides, after all that are known."""
    regions = (
        Region(id="a"),
        Region(id="b", distance_ms={"d": 5}),
        Region(id="c", distance_ms={"d": 90}),
        Region(id="d", distance_ms={"c": 10}),
        Region(id="e"),
    )
    some = fleet(regions=regions)
    assert some.by_distance("d") == ("d", "b", "c", "a", "e")
    assert some.by_distance("a") == ("a", "b", "c", "d", "e")


def test_monitors_pick_targets_by_pattern_and_regions_by_name():
    """The electorate of a target's quorum is the regions that watch it."""
    some = fleet(
        monitors=(
            Monitor(id="all", kind="http"),
            Monitor(id="some", kind="chat", targets=("al*",), check_regions=("eu-west",)),
        )
    )
    alpha, beta = some.targets
    assert [monitor.id for monitor in some.monitors_of(alpha, "eu-west")] == ["all", "some"]
    assert [monitor.id for monitor in some.monitors_of(alpha, "us-east")] == ["all"]
    assert [monitor.id for monitor in some.monitors_of(beta, "eu-west")] == ["all"]
    assert some.check_regions_of(alpha) == {"us-east", "eu-west"}
    assert fleet().check_regions_of(alpha) == set()


def test_a_sound_fleet_has_no_problems():
    """The base of the cases below is sound."""
    assert found() == []


HTTP = (target(dialect=Dialect.HTTP), target("beta", dialect=Dialect.HTTP))
BY_PATH = RouteMatch(paths=("/x",))
KEY = ClientKey(id="app", sha256="a" * 64)
"""For all routes, also where there are none."""


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"regions": (Region(id="us-east"), Region(id="eu-west"), Region(id="us-east"))}, "regions.2.id: 'us-east' is already the id of regions[0]"),
        ({"targets": (target(), target(), target("beta"))}, "targets.1.id: 'alpha' is already the id of targets[0]"),
        ({"regions": (Region(id="us-east", distance_ms={"mars": 1}), Region(id="eu-west"))}, "regions.0.distance_ms.mars: no region 'mars'"),
        ({"targets": (target(region="mars"), target("beta"))}, "targets.0.region: no region 'mars'"),
        ({"monitors": (Monitor(id="m", kind="http", targets=("x*",)),)}, "monitors.0.targets.0: no target matches 'x*'"),
        ({"monitors": (Monitor(id="m", kind="http", check_regions=("mars",)),)}, "monitors.0.check_regions.0: no region 'mars'"),
        ({"monitors": (Monitor(id="m", kind="http", check_regions=()),)}, "monitors.0.check_regions: names no region: leave it out to check from all"),
        ({"monitors": (Monitor(id="m", kind="http", timeout_s=2),)}, "monitors.0.timeout_s: 2 s is longer than interval_s 1 s: probes would overlap"),
        ({"routes": (route(tiers=(RouteTier(targets=("alpha", "gamma")),)),)}, "routes.0.tiers.0.targets.1: no target 'gamma'"),
        ({"routes": (route(tiers=(RouteTier(targets=("alpha",)), RouteTier(targets=("alpha",)))),)}, "routes.0.tiers.1.targets.0: target 'alpha' stands twice in this route"),
        ({"routes": (route(match=RouteMatch()),)}, "routes.0.match: matches nothing: give models or paths"),
        ({"routes": (route(), route("other", match=RouteMatch(models=("chat",))))}, "routes.1.match.models.0: 'chat' is already matched by route 'chat'"),
        ({"routes": (route(match=RouteMatch(paths=("/x",))),)}, "routes.0.match.paths: routes by path need targets of dialect http"),
        ({"targets": HTTP, "routes": (route(match=BY_PATH, stream_recovery=StreamRecovery.RESUME),)}, "routes.0.stream_recovery: is for model calls: plain HTTP is passed on as it is"),
        ({"targets": HTTP, "routes": (route(match=BY_PATH, stream_usage=True),)}, "routes.0.stream_usage: is for model calls: plain HTTP is passed on as it is"),
        ({"targets": (target(), target("beta", dialect=Dialect.HTTP))}, "routes.0.tiers: mixes dialects http, openai: http cannot be translated"),
        ({"routes": (route(residency=("mars", "us-east")),)}, "routes.0.residency.0: no region 'mars'"),
        ({"routes": (route(residency=("eu-west",), tiers=(RouteTier(targets=("alpha",)),)),)}, "routes.0.residency: leaves this route no target"),
        ({"routes": (route(timeouts=RouteTimeouts(ttft_s=20, total_s=10)),)}, "routes.0.timeouts.ttft_s: must not be longer than total_s"),
        ({"routes": (route(degradation=down_to("light")),)}, "routes.0.degradation.step_down: no route 'light'"),
        ({"routes": (route(degradation=down_to("chat")),)}, "routes.0.degradation.step_down: is this route itself"),
        ({"routes": (route(degradation=down_to("light"), tiers=ALPHA), route("light", tiers=(RouteTier(targets=("beta",)),), match=RouteMatch(paths=("/x",)))), "targets": (target(), target("beta", dialect=Dialect.HTTP))}, "routes.0.degradation.step_down: route 'light' takes no model calls"),
        ({"routes": (route(tiers=ALPHA, residency=("us-east",), degradation=down_to("light")), route("light"))}, "routes.0.degradation.step_down: route 'light' has targets in eu-west, where this route's residency does not allow any"),
        ({"routes": (route(match=RouteMatch(paths=("/x",)), check_json=True),), "targets": (target(dialect=Dialect.HTTP), target("beta", dialect=Dialect.HTTP))}, "routes.0.check_json: is for model calls: this route has no models"),
        ({"client_keys": (KEY.model_copy(update={"routes": ("ch*", "chta")}), KEY.model_copy(update={"id": "other"}))}, "client_keys.0.routes.1: no route matches 'chta'"),
        ({"policy": Policy(hold_down_s=5, hold_down_cap_s=1)}, "policy.hold_down_cap_s: must be at least hold_down_s"),
        ({"policy": Policy(ramp_permille=(300, 100, 1000))}, "policy.ramp_permille: must rise strictly and end at 1000"),
        ({"policy": Policy(ramp_permille=(100, 300))}, "policy.ramp_permille: must rise strictly and end at 1000"),
    ],
)  # fmt: skip
def test_each_fault_of_a_fleet_is_found_once_with_its_path(fields, expected):
    """One fault, one problem, at the value that is wrong."""
    assert found(**fields) == [expected]


@pytest.mark.parametrize(
    "url",
    [
        "ftp://h",
        "h:80",
        "http://",
        "http://u:p@h",
        "http://h?x=1",
        "http://h#x",
        "http://h:99999",
        "http://h:x",
    ],
)
def test_a_target_url_is_an_origin_and_a_path(url):
    """No other scheme, no credentials, no query: nothing a secret could hide in."""
    with pytest.raises(ValidationError):
        target(url=url)


def test_a_trailing_slash_is_taken_off():
    """Paths are appended to it."""
    assert target(url="https://h/v1/").url == "https://h/v1"


@pytest.mark.parametrize("name", ["", "A", "-a", "a-", "a b", "a/b", "é", "a" * 64, "a\n"])
def test_names_are_safe_everywhere(name):
    """In a topic, a key, a path, a file name and a label."""
    with pytest.raises(ValidationError):
        Region(id=name)


# ---------------------------------------------------------------- nodes


@pytest.mark.parametrize("short", ["a:1, b:2", ["a:1", "b:2"], {"bootstrap": ["a:1", "b:2"]}])
def test_a_bus_may_be_written_short(short):
    """As its servers, as a list of them, or in full."""
    assert BusAddress.model_validate(short).bootstrap == ("a:1", "b:2")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"role": "control-plane"}, "needs etcd"),
        ({"role": "control-plane", "etcd": {"endpoints": ["e:1"]}}, "needs the buses"),
        ({"role": "edge", "buses": {"r": "b:1"}}, "needs listen"),
        (
            {"role": "edge", "buses": {"r": "b:1"}, "listen": "h:1", "admin_listen": "h:1"},
            "admin_listen is the same address as listen",
        ),
        ({"role": "edge", "listen": "h:1"}, "no entry for this node's region"),
        ({"role": "prober", "buses": {"elsewhere": "b:1"}}, "no entry for this node's region"),
    ],
)
def test_a_node_has_what_its_role_needs(fields, message):
    """Nothing starts that could not work."""
    with pytest.raises(ValidationError, match=message):
        Node(**{"id": "n", "region": "r", "state_dir": "s", **fields})


def test_an_edge_may_live_by_the_stream_alone():
    """Where a region has no bus, the HTTP stream is path enough."""
    Node(
        role="edge",
        id="n",
        region="r",
        state_dir="s",
        listen="h:1",
        control_planes=("http://c:1",),
    )


def test_a_fleet_on_the_wire_may_come_from_a_newer_writer() -> None:
    """Unknown fields are ignored at every depth of a message, and errors in a file."""
    config = FleetConfig(config_version=3, fleet=local_fleet())
    newer = config.model_dump(mode="json")
    newer["added"] = newer["fleet"]["added"] = newer["fleet"]["targets"][0]["added"] = 1
    raw = canonical_json(newer)
    assert FleetConfig.from_wire(raw) == config
    with pytest.raises(ValidationError):
        FleetConfig.model_validate_json(raw)


def test_probes_that_cost_money_are_rare_unless_said_otherwise() -> None:
    """chat and embedding: every minute, with time to answer; what is said holds, and survives the wire."""
    silent = [Monitor(id="m", kind=kind) for kind in ("http", "tcp", "chat", "embedding")]
    assert [(one.interval_s, one.timeout_s) for one in silent] == [(1.0, 0.9)] * 2 + [(60.0, 20.0)] * 2
    often = Monitor(id="m", kind="chat", interval_s=1.0)
    assert (often.interval_s, often.timeout_s) == (1.0, 1.0)
    assert Monitor.model_validate(often.model_dump()) == often


@pytest.mark.parametrize("workers", [0, 65])
def test_workers_are_bounded_and_an_edges(workers: int) -> None:
    """1 to 64, and only an edge has several."""
    edge = {
        "role": "edge",
        "id": "e",
        "region": "r",
        "state_dir": "/x",
        "listen": "h:1",
        "buses": {"r": "h:2"},
    }
    assert Node.model_validate(edge).workers == 1
    assert Node.model_validate({**edge, "workers": 64}).workers == 64
    with pytest.raises(ValidationError, match="workers"):
        Node.model_validate({**edge, "workers": workers})
    with pytest.raises(ValidationError, match="workers is for an edge"):
        Node.model_validate({**edge, "role": "prober", "workers": 2})


def test_routes_do_not_step_down_in_a_circle() -> None:
    """Each of those in it is told, by way of whom it comes back."""
    chain = [("a", "b"), ("b", "c"), ("c", "a"), ("d", "a")]
    routes = tuple(route(name, degradation=down_to(below)) for name, below in chain)
    assert found(routes=routes) == [
        f"routes.{place}.degradation.step_down: comes back to this route by way of {below!r}: routes must not step down"
        " to each other"
        for place, (_, below) in enumerate(chain[:3])
    ]


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({}, ()),
        ({"static": {"text": ""}}, ("static", "text")),
        ({"static": {"text": "a {b}"}}, ("static", "text")),
        (
            {"static": {"text": "a", "hand_off": {"text": "b", "url": "javascript:x"}}},
            ("static", "hand_off", "url"),
        ),
        (
            {"static": {"text": "a", "hand_off": {"text": "b", "url": "tel:1\r\nx: y"}}},
            ("static", "hand_off", "url"),
        ),
        ({"stored": {"ttl_s": 0}}, ("stored", "ttl_s")),
        ({"stored": {"stale_s": -1}}, ("stored", "stale_s")),
        ({"stored": {"serve": "always"}}, ("stored", "serve")),
        ({"rules": [{"answer": "x"}]}, ("rules", 0)),
        ({"rules": [{"keywords": ["a"], "answer": "x"}] * 65}, ("rules",)),
    ],
)
def test_a_ladder_that_cannot_work_is_refused_at_its_field(fields, where):
    """When it is read, so that no request finds out."""
    with pytest.raises(ValidationError) as caught:
        Degradation.model_validate(fields)
    assert [error["loc"] for error in caught.value.errors()] == [where]
