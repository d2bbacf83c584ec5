"""The follower's rules, one sentence of DESIGN and FAULTS each. Time is an argument; nothing is mocked."""

import itertools
from collections.abc import Mapping

import pytest

from edge_router.core.follow import Follower
from edge_router.core.holdings import MAX_CONFIG_BYTES, MAX_DOCUMENT_BYTES
from edge_router.core.signals import (
    Acknowledge,
    Alarm,
    Apply,
    BeatSeen,
    ConfigSeen,
    Confirmed,
    DocumentSeen,
    Effect,
    Event,
    HeadSeen,
    ModeIs,
    Refused,
    Resync,
    Tick,
)
from edge_router.core.table import Unsafe
from edge_router.core.waiting import EXPIRES_S, RESYNC_AFTER_S
from shared.vocabulary.base import Version
from shared.vocabulary.config import FleetConfig
from shared.vocabulary.decision import Decision
from shared.vocabulary.terms import EdgeMode
from tests.support.edge_worlds import (
    ToyControlPlane,
    beat_bytes,
    config_bytes,
    document,
    head_of,
)

Table = tuple[int, Mapping[str, Version], Version]


def build(config: FleetConfig, documents: Mapping[str, Decision], head: Version) -> Table:
    """A table that says what it was built from; refuses what names the target `cursed`."""
    for decision in documents.values():
        if any(t.id == "cursed" for r in decision.regions.values() for tier in r.tiers for t in tier.targets):
            raise Unsafe("names a target that the fleet has not")
    if any(target.provider == "cursed" for target in config.fleet.targets):
        raise Unsafe("leaves a route without a target")
    return config.config_version, {route: d.version for route, d in documents.items()}, head


class Edge:
    """A follower with a clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.follower: Follower[Table] = Follower(build=build, fresh_s=30, static_s=300, started_at=self.now)
        self.effects: list[Effect[Table]] = []

    def __call__(self, *events: Event, after: float = 0.0) -> list[Effect[Table]]:
        """Feed events, each `after` seconds after the one before; the effects of all."""
        effects = []
        for event in events:
            self.now += after
            effects += self.follower.step(event, self.now)
        self.effects += effects
        return effects

    def hears(self, cp: ToyControlPlane) -> list[Effect[Table]]:
        """All of the newest head, and a Beat."""
        return self(
            ConfigSeen(cp.configs[-1]), *map(DocumentSeen, cp.documents.values()), BeatSeen(cp.beat())
        )

    @property
    def mode(self) -> EdgeMode:
        return self.follower.mode(self.now)


@pytest.fixture
def cp() -> ToyControlPlane:
    cp = ToyControlPlane()
    cp.commit()
    return cp


@pytest.fixture
def edge() -> Edge:
    return Edge()


def applied(effects: list[Effect[Table]]) -> list[str]:
    return [str(effect.version) for effect in effects if isinstance(effect, Apply)]


def refusals(effects: list[Effect[Table]]) -> list[tuple[str, str]]:
    return [(effect.what, effect.reason) for effect in effects if isinstance(effect, Refused)]


def alarms(effects: list[Effect[Table]]) -> list[str]:
    return [effect.code for effect in effects if isinstance(effect, Alarm)]


# ---------------------------------------------------------------- complete heads


def test_switches_only_when_everything_the_head_names_is_held(cp: ToyControlPlane, edge: Edge) -> None:
    """Documents, configuration and head may come in any order; the last of them makes the switch."""
    pieces = [ConfigSeen(cp.configs[0]), *map(DocumentSeen, cp.documents.values()), BeatSeen(cp.beat())]
    for last in range(len(pieces)):
        edge = Edge()
        others = pieces[:last] + pieces[last + 1 :]
        assert "1.1" not in applied(edge(*others))
        assert applied(edge(pieces[last])) == ["1.1"]


def test_the_switch_names_what_changed_newest_first(cp: ToyControlPlane, edge: Edge) -> None:
    """A route whose document stays is not among the changed."""
    edge.hears(cp)
    cp.commit("embed")
    cp.commit("chat")
    edge(*map(DocumentSeen, cp.documents.values()))
    (switch,) = [e for e in edge(BeatSeen(cp.beat())) if isinstance(e, Apply)]
    assert [(d.route, str(d.version)) for d in switch.changed] == [("chat", "1.3"), ("embed", "1.2")]
    assert (str(switch.previous), str(switch.version)) == ("1.1", "1.3")
    cp.commit("chat")
    (switch,) = [e for e in edge.hears(cp) if isinstance(e, Apply)]
    assert [d.route for d in switch.changed] == ["chat"]


def test_a_complete_head_is_taken_while_a_newer_one_still_waits(cp: ToyControlPlane, edge: Edge) -> None:
    """A stream of changes faster than their documents never starves the edge."""
    edge.hears(cp)
    second, second_documents = cp.commit(), dict(cp.documents)
    third = cp.commit()
    edge(HeadSeen(second.canonical()), HeadSeen(third.canonical()))
    assert applied(edge(*map(DocumentSeen, second_documents.values()))) == ["1.2"]
    assert applied(edge(*map(DocumentSeen, cp.documents.values()))) == ["1.3"]


def test_a_configuration_change_comes_with_the_head_that_names_it(cp: ToyControlPlane, edge: Edge) -> None:
    """A newer configuration alone changes nothing; a head may name it with the decisions unchanged."""
    edge.hears(cp)
    assert not edge(ConfigSeen(cp.configure(port=10)))
    assert edge.follower.config is not None
    assert edge.follower.config.config_version == 1
    head = head_of(1, 2, cp.documents, config_version=2)
    (switch,) = [e for e in edge(HeadSeen(head.canonical())) if isinstance(e, Apply)]
    assert switch.config.config.config_version == 2
    assert switch.changed == ()


def test_without_any_head_the_newest_configuration_is_served_in_its_own_order(edge: Edge) -> None:
    """As version 0.0; an older configuration that comes later does not take it back."""
    assert applied(edge(ConfigSeen(config_bytes(2)))) == ["0.0"]
    assert applied(edge(ConfigSeen(config_bytes(1)))) == []
    assert applied(edge(ConfigSeen(config_bytes(3)))) == ["0.0"]
    assert edge.follower.version == (0, 0)


def test_a_head_in_force_is_never_left_for_a_configuration_alone(cp: ToyControlPlane, edge: Edge) -> None:
    """Once decisions are followed, 0.0 does not return."""
    edge.hears(cp)
    assert applied(edge(ConfigSeen(config_bytes(9)))) == []


# ---------------------------------------------------------------- versions only rise


def test_an_older_head_is_refused_counted_and_not_served(cp: ToyControlPlane, edge: Edge) -> None:
    """FAULTS 27: an older version is refused at the edge; the last one stays."""
    old, old_documents = cp.heads[-1], dict(cp.documents)
    cp.commit()
    edge.hears(cp)
    effects = edge(*map(DocumentSeen, old_documents.values()), HeadSeen(old.canonical()))
    assert refusals(effects) == [("document", "older"), ("document", "older"), ("head", "older")]
    assert str(edge.follower.version) == "1.2"
    assert sum(edge.follower.refused.values()) == 3


def test_the_same_head_again_is_nothing_new(cp: ToyControlPlane, edge: Edge) -> None:
    """Both paths deliver everything; the second delivery has no effect at all."""
    edge.hears(cp)
    again = [
        ConfigSeen(cp.configs[-1]),
        *map(DocumentSeen, cp.documents.values()),
        HeadSeen(cp.heads[-1].canonical()),
        BeatSeen(cp.all_beats[-1]),
    ]
    assert edge(*again) == []


def test_what_was_in_force_and_is_heard_once_more_is_no_refusal(cp: ToyControlPlane, edge: Edge) -> None:
    """The slower path repeats what the faster one has already replaced: that is everyday life, and
    `refused` stays a figure that somebody can look at."""
    edge.hears(cp)
    late = [*map(DocumentSeen, cp.documents.values()), HeadSeen(cp.heads[0].canonical()), BeatSeen(cp.beat())]
    cp.commit()
    edge.hears(cp)
    assert edge(*late) == []
    assert edge.follower.refused == {}


def test_the_same_version_with_another_content_is_an_alarm(cp: ToyControlPlane, edge: Edge) -> None:
    """One content per version, for documents and for heads."""
    edge.hears(cp)
    other = document("chat", 1, 1, first="beta-us-east")
    effects = edge(DocumentSeen(other))
    assert refusals(effects) == [("document", "conflict")]
    assert alarms(effects) == ["DOCUMENT_CONFLICT"]
    forked = head_of(1, 1, {**cp.documents, "chat": other})
    effects = edge(HeadSeen(forked.canonical()))
    assert refusals(effects) == [("head", "conflict")]
    assert alarms(effects) == ["HEAD_CONFLICT"]
    assert edge.follower.routes["chat"] == (1, 1)


def test_a_false_document_that_came_first_gives_way_to_the_one_the_head_names(
    cp: ToyControlPlane, edge: Edge
) -> None:
    """The head's hash says which of two contents is the true one; the false one cannot block it."""
    edge(ConfigSeen(cp.configs[0]), DocumentSeen(document("chat", 1, 1, first="beta-us-east")))
    edge(BeatSeen(cp.beat()))
    assert applied(edge(*map(DocumentSeen, cp.documents.values()))) == ["1.1"]


def test_a_false_head_that_came_first_does_not_keep_the_true_one_out(cp: ToyControlPlane, edge: Edge) -> None:
    """Both wait, with an alarm; the one that can be completed is taken."""
    false = head_of(1, 1, {**cp.documents, "chat": document("chat", 1, 1, first="beta-us-east")})
    edge(ConfigSeen(cp.configs[0]), HeadSeen(false.canonical()))
    effects = edge.hears(cp)
    assert applied(effects) == ["1.1"]
    assert alarms(effects) == ["HEAD_CONFLICT"]


def test_a_greater_generation_wins_over_any_seq(cp: ToyControlPlane, edge: Edge) -> None:
    """After a restore the leader raises the generation and the edge follows, config count restarted."""
    for _ in range(6):
        cp.commit()
    edge.hears(cp)
    restored = ToyControlPlane()
    restored.commit()
    restored.epoch = 1
    effects = edge.hears(restored)
    assert ("head", "older") in refusals(effects)
    assert str(edge.follower.version) == "1.7"
    restored.raise_generation(2)
    assert applied(edge.hears(restored)) == ["2.2"]
    assert edge.mode is EdgeMode.FRESH


def test_after_an_emptied_store_a_reused_configuration_version_means_the_new_content(
    cp: ToyControlPlane, edge: Edge
) -> None:
    """`config_version` counts from 1 again; under a raised generation the content heard last holds."""
    edge.hears(cp)
    reseeded = ToyControlPlane()
    reseeded.configs = [config_bytes(1, port=10)]
    reseeded.raise_generation(2)
    effects = edge.hears(reseeded)
    assert alarms(effects) == ["CONFIG_CONFLICT"]
    (switch,) = [e for e in effects if isinstance(e, Apply)]
    assert switch.config.raw == reseeded.configs[0]


def test_within_a_generation_a_second_content_of_the_configuration_in_force_is_not_taken(
    cp: ToyControlPlane, edge: Edge
) -> None:
    """A stray configuration under a version in use changes nothing, now or with the next head."""
    edge.hears(cp)
    assert alarms(edge(ConfigSeen(config_bytes(1, port=10)))) == ["CONFIG_CONFLICT"]
    cp.commit()
    effects = edge(*map(DocumentSeen, cp.documents.values()), BeatSeen(cp.beat()))
    (switch,) = [e for e in effects if isinstance(e, Apply)]
    assert switch.config.raw == cp.configs[0]


def test_what_was_served_before_a_restart_bounds_what_is_served_after_it(
    cp: ToyControlPlane, edge: Edge
) -> None:
    """Even when the content of the newest was lost: the version is remembered."""
    cp.commit()
    edge.follower.remember(Version(1, 3))
    assert applied(edge.hears(cp)) == ["0.0"]
    assert ("head", "older") in refusals(edge.effects)
    cp.commit()
    assert applied(edge.hears(cp)) == ["1.3"]
    assert edge.follower.seen == (1, 3)


# ---------------------------------------------------------------- refused


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (ConfigSeen(b""), ("config", "empty")),
        (ConfigSeen(b"{"), ("config", "malformed")),
        (ConfigSeen(b"\xff\xfe"), ("config", "malformed")),
        (ConfigSeen(b"x" * (MAX_CONFIG_BYTES + 1)), ("config", "too_large")),
        (
            ConfigSeen(config_bytes(1).replace(b'"region":"us-east"', b'"region":"nowhere"')),
            ("config", "malformed"),
        ),
        (DocumentSeen(b""), ("document", "empty")),
        (DocumentSeen(b"[]"), ("document", "malformed")),
        (DocumentSeen(b"[" * 100_000), ("document", "malformed")),
        (DocumentSeen(b"x" * (MAX_DOCUMENT_BYTES + 1)), ("document", "too_large")),
        (DocumentSeen(document("chat", 1, 1, regions={})), ("document", "empty")),
        (DocumentSeen(document("chat", 1, 1).replace(b":1000}", b":0}")), ("document", "malformed")),
        (DocumentSeen(document("chat", 1, 1).replace(b":1000}", b":NaN}")), ("document", "malformed")),
        (HeadSeen(b"null"), ("head", "malformed")),
        (HeadSeen(head_of(1, 1, {}).canonical()), ("head", "empty")),
        (HeadSeen(head_of(1, 1, {"chat": document("chat", 1, 2)}).canonical()), ("head", "malformed")),
        (BeatSeen(b"{}"), ("beat", "malformed")),
        (BeatSeen(beat_bytes(head_of(1, 1, {}))), ("beat", "empty")),
        (
            BeatSeen(beat_bytes(head_of(1, 1, {"chat": document("chat", 1, 1)}), head_sha="0" * 64)),
            ("beat", "hash_mismatch"),
        ),
    ],
)
def test_bad_input_is_refused_counted_and_changes_nothing(
    cp: ToyControlPlane, edge: Edge, event: Event, expected: tuple[str, str]
) -> None:
    """Empty, oversized, malformed and contradictory messages: the last good head stays."""
    edge.hears(cp)
    effects = edge(event)
    assert refusals(effects) == [expected]
    assert edge.follower.refused[expected] == 1
    assert str(edge.follower.version) == "1.1"


def test_an_unsafe_head_is_refused_as_a_whole_and_only_once(cp: ToyControlPlane, edge: Edge) -> None:
    """A table that cannot be built keeps the last one in force; repeated Beats do not build it again."""
    edge.hears(cp)
    cp.commit("chat", first="cursed")
    effects = edge.hears(cp)
    assert refusals(effects) == [("head", "unsafe")]
    assert alarms(effects) == ["UNSAFE_HEAD"]
    assert edge(BeatSeen(cp.beat()), BeatSeen(cp.beat())) == []
    cp.commit("chat")
    assert applied(edge.hears(cp)) == ["1.3"]


@pytest.mark.parametrize(
    "documents",
    [
        {"chat": document("embed", 1, 2)},
        {"chat": document("chat", 1, 2, removed=True)},
    ],
    ids=["of another route", "one that removes it"],
)
def test_a_head_that_gives_a_route_a_wrong_document_is_unsafe(
    cp: ToyControlPlane, edge: Edge, documents: dict[str, bytes]
) -> None:
    """The hash is right, and still the document is not what the head says it is."""
    edge.hears(cp)
    head = head_of(1, 2, documents)
    effects = edge(*map(DocumentSeen, documents.values()), HeadSeen(head.canonical()))
    assert refusals(effects) == [("head", "unsafe")]


def test_a_newer_head_may_not_take_a_route_back(cp: ToyControlPlane, edge: Edge) -> None:
    """Versions never go backwards per route either."""
    old = cp.documents["chat"]
    cp.commit()
    edge.hears(cp)
    backward = head_of(1, 3, {**cp.documents, "chat": old})
    effects = edge(HeadSeen(backward.canonical()))
    assert refusals(effects) == [("head", "unsafe")]


def test_a_head_that_waited_while_a_route_moved_on_may_not_take_it_back(
    cp: ToyControlPlane, edge: Edge
) -> None:
    """What was no step back when the head was first heard may be one when it is complete."""
    edge.hears(cp)
    waits = document("embed", 1, 3)
    edge(HeadSeen(head_of(1, 3, {**cp.documents, "embed": waits}).canonical()))
    cp.commit("chat")
    assert applied(edge.hears(cp)) == ["1.2"]
    assert refusals(edge(DocumentSeen(waits))) == [("head", "unsafe")]
    assert edge.follower.routes["chat"] == (1, 2)


def test_an_unsafe_configuration_is_not_served_before_any_head(edge: Edge) -> None:
    """The one before it stays, and it is not tried again at each arrival."""
    edge(ConfigSeen(config_bytes(1)))
    bad = ConfigSeen(config_bytes(2, targets=("cursed",)))
    assert refusals(edge(bad)) == [("config", "unsafe")]
    assert edge(bad) == []
    assert edge.follower.config is not None
    assert edge.follower.config.config_version == 1


# ---------------------------------------------------------------- modes


def test_a_started_edge_is_stale_until_a_beat_confirms_what_it_serves(
    cp: ToyControlPlane, edge: Edge
) -> None:
    """A head alone, however new, confirms nothing; the Beat does."""
    edge(ConfigSeen(cp.configs[0]), *map(DocumentSeen, cp.documents.values()))
    edge(HeadSeen(cp.heads[-1].canonical()))
    assert (str(edge.follower.version), edge.mode) == ("1.1", EdgeMode.STALE)
    effects = edge(BeatSeen(cp.beat()))
    assert effects == [Confirmed(), ModeIs(EdgeMode.FRESH), Acknowledge()]


def test_a_beat_out_of_a_snapshot_makes_nothing_fresh(cp: ToyControlPlane, edge: Edge) -> None:
    """It may have lain in the store since the last leader died."""
    stored = cp.beat()
    edge(ConfigSeen(cp.configs[0]), *map(DocumentSeen, cp.documents.values()), BeatSeen(stored, live=False))
    assert (str(edge.follower.version), edge.mode) == ("1.1", EdgeMode.STALE)
    edge(BeatSeen(stored))
    assert edge.mode is EdgeMode.STALE
    edge(BeatSeen(cp.beat()))
    assert edge.mode is EdgeMode.FRESH


def test_fresh_for_thirty_seconds_stale_then_static_after_five_minutes(
    cp: ToyControlPlane, edge: Edge
) -> None:
    """By receipt of the last new Beat, and each change is acknowledged."""
    edge.hears(cp)
    assert edge(Tick(), after=30.0) == []
    assert edge(Tick(), after=0.1) == [ModeIs(EdgeMode.STALE), Acknowledge()]
    assert edge(Tick(), after=269.8) == []
    assert edge(Tick(), after=0.2) == [ModeIs(EdgeMode.STATIC), Acknowledge()]
    effects = edge(BeatSeen(cp.beat()))
    assert effects == [Confirmed(), ModeIs(EdgeMode.FRESH), Acknowledge()]


def test_an_edge_that_never_heard_a_beat_becomes_static_five_minutes_after_its_start(edge: Edge) -> None:
    """Cold start with everything unreachable: STALE first, then STATIC."""
    assert edge(Tick(), after=299.0) == []
    assert edge(Tick(), after=2.0) == [ModeIs(EdgeMode.STATIC), Acknowledge()]


def test_only_a_new_beat_resets_the_age(cp: ToyControlPlane, edge: Edge) -> None:
    """A repeated Beat, and one of an earlier leader, are no sign of life."""
    cp.epoch = 7
    edge.hears(cp)
    stale_leader = beat_bytes(cp.heads[-1], epoch=6, beat=900)
    edge(BeatSeen(cp.all_beats[-1]), BeatSeen(stale_leader), after=10.0)
    assert edge.follower.beat_age_s(edge.now) == 20.0
    edge(BeatSeen(beat_bytes(cp.heads[-1], epoch=8, beat=1)))
    assert edge.follower.beat_age_s(edge.now) == 0.0


def test_an_edge_that_cannot_follow_the_stated_head_goes_stale_but_not_static(
    cp: ToyControlPlane, edge: Edge
) -> None:
    """Beats keep coming, but none confirms what is served: FRESH would be a lie, STATIC too."""
    edge.hears(cp)
    cp.commit()
    for _ in range(200):
        edge(BeatSeen(cp.beat()), after=2.0)
    assert edge.mode is EdgeMode.STALE
    edge(*map(DocumentSeen, cp.documents.values()))
    assert (str(edge.follower.version), edge.mode) == ("1.2", EdgeMode.FRESH)


def test_a_document_that_is_a_moment_late_does_not_make_the_mode_flap(
    cp: ToyControlPlane, edge: Edge
) -> None:
    """The Beat before its documents: FRESH throughout, and confirmed from the Beat's own receipt on."""
    edge.hears(cp)
    for _ in range(5):
        cp.commit()
        edge(BeatSeen(cp.beat()), after=2.0)
        edge(*map(DocumentSeen, cp.documents.values()), after=0.05)
        assert edge.mode is EdgeMode.FRESH
    assert str(edge.follower.version) == "1.6"


def test_one_stray_beat_of_an_enormous_order_does_not_end_freshness_for_good(
    cp: ToyControlPlane, edge: Edge
) -> None:
    """What never came into force cannot make all later Beats look old."""
    edge.hears(cp)
    stray = head_of(2**40, 1, {"chat": document("chat", 2**40, 1)})
    edge(BeatSeen(beat_bytes(stray, epoch=2**40)))
    edge(BeatSeen(cp.beat()), after=20.0)
    edge(BeatSeen(cp.beat()), after=20.0)
    assert edge.mode is EdgeMode.FRESH
    cp.commit()
    assert applied(edge.hears(cp)) == ["1.2"]


# ---------------------------------------------------------------- what somebody should look at


def test_a_leader_that_keeps_stating_an_older_head_is_an_alarm(cp: ToyControlPlane, edge: Edge) -> None:
    """One late Beat is not: it was sent before the commit that overtook it."""
    cp.commit()
    edge.hears(cp)
    behind = ToyControlPlane()
    behind.epoch = 9
    behind.commit()
    assert alarms(edge(BeatSeen(behind.beat()))) == []
    assert alarms(edge(*[BeatSeen(behind.beat()) for _ in range(3)], after=2.0)) == ["CONTROL_PLANE_BEHIND"]


def test_a_head_that_stays_incomplete_makes_the_edge_read_again_with_growing_pauses(
    cp: ToyControlPlane, edge: Edge
) -> None:
    """Lost documents are asked for, not waited for; a head nobody states any more is dropped."""
    edge(ConfigSeen(cp.configs[0]), BeatSeen(cp.beat()))
    resyncs = []
    for _ in range(300):
        if edge.now < 1040:
            edge(BeatSeen(cp.beat()))
        resyncs += [edge.now - 1000 for e in edge(Tick(), after=0.5) if isinstance(e, Resync)]
    assert resyncs[0] == RESYNC_AFTER_S
    gaps = [b - a for a, b in itertools.pairwise(resyncs)]
    assert gaps == sorted(gaps)
    assert edge.follower.waiting == {}
    assert resyncs[-1] <= 40 + EXPIRES_S


def test_heads_documents_and_configurations_held_stay_bounded(cp: ToyControlPlane, edge: Edge) -> None:
    """A flood of heads and documents that never complete takes bounded memory and blocks nothing."""
    edge.hears(cp)
    for seq in range(2, 2000):
        raw = document("chat", 5, seq)
        edge(DocumentSeen(raw), DocumentSeen(document("embed", 1, seq + 5)))
        edge(HeadSeen(head_of(5, seq, {"chat": raw, "embed": document("embed", 5, 1)}).canonical()))
        if seq % 100 == 0:
            edge(ConfigSeen(config_bytes(seq)))
    assert len(edge.follower.waiting) <= 8
    assert len(edge.follower._documents) < 30
    assert len(list(edge.follower._configs)) < 10
    cp.commit()
    assert applied(edge.hears(cp)) == ["1.2"]
