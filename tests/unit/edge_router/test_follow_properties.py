"""Whatever the order, the losses, the repetitions and the restarts: versions rise, one content each, same end."""

from collections.abc import Mapping

from hypothesis import given, settings
from hypothesis import strategies as st

from edge_router.core.follow import Follower
from edge_router.core.signals import Apply, BeatSeen, ConfigSeen, DocumentSeen, Event, HeadSeen, Tick
from edge_router.loops.recall import cold_start, kept_of
from edge_router.ports import Kept, Recalled
from shared.vocabulary.base import NO_VERSION, Version, sha256_hex
from shared.vocabulary.config import FleetConfig
from shared.vocabulary.decision import Decision
from shared.vocabulary.terms import EdgeMode
from tests.support.edge_worlds import ROUTES, ToyControlPlane

Table = tuple[int, Mapping[str, Version], Version]


def build(config: FleetConfig, documents: Mapping[str, Decision], head: Version) -> Table:
    return config.config_version, {route: d.version for route, d in documents.items()}, head


class Restart:
    """The process is killed and started again from its file."""


@st.composite
def histories(draw: st.DrawFn) -> ToyControlPlane:
    """A few commits: some routes changed, or the configuration, or the generation raised."""
    cp = ToyControlPlane()
    cp.commit()
    cp.beat()
    steps = draw(st.lists(st.sampled_from(["chat", "embed", "both", "config", "generation"]), max_size=6))
    for step in steps:
        if step == "config":
            cp.configure()
        elif step == "generation":
            cp.raise_generation(cp.generation + 1)
        else:
            cp.commit(*(ROUTES if step == "both" else (step,)))
        if cp.heads[-1].config_version != cp.config_version:
            cp.commit("chat")
        cp.beat()
    return cp


def words_of(cp: ToyControlPlane) -> list[Event]:
    """Everything that control plane ever said."""
    return [
        *map(ConfigSeen, cp.configs),
        *map(DocumentSeen, cp.all_documents),
        *(HeadSeen(head.canonical()) for head in cp.heads),
        *map(BeatSeen, cp.all_beats),
        *(BeatSeen(raw, live=False) for raw in cp.all_beats),
        Tick(),
    ]


class Run:
    """One edge through restarts, with the checks written apart from the code they check."""

    def __init__(self, cp: ToyControlPlane) -> None:
        self.heads = {head.version: head for head in cp.heads}
        self.now = 0.0
        self.kept: Kept | None = None
        self.served: list[Version] = []
        self.contents: dict[Version, tuple[bytes, ...]] = {}
        self.follower = self.fresh()

    def fresh(self) -> Follower[Table]:
        return Follower(build=build, fresh_s=30, static_s=300, started_at=self.now)

    def take(self, event: Event | Restart) -> None:
        self.now += 0.5
        if isinstance(event, Restart):
            recalled = Recalled(() if self.kept is None else (self.kept,), NO_VERSION)
            self.follower, effects, _ = cold_start(recalled, None, fresh=self.fresh, now=self.now)
            if self.kept is not None:
                assert self.follower.version == self.kept.version
            for effect in effects:
                if isinstance(effect, Apply):
                    self.check(effect)
            return
        for effect in self.follower.step(event, self.now):
            if isinstance(effect, Apply):
                self.check(effect)
                if effect.head is not None:
                    assert not self.served or self.served[-1] < effect.version
                    self.served.append(effect.version)
                self.kept = kept_of(effect, follower=self.follower)

    def check(self, effect: Apply[Table]) -> None:
        """What is applied is whole, and always the same under one version."""
        if effect.head is None:
            return
        head = self.heads[effect.version]
        assert effect.config.config.config_version == head.config_version
        assert set(effect.documents) == set(head.routes)
        for route, (seq, sha) in head.routes.items():
            held = effect.documents[route]
            assert sha256_hex(held.raw) == sha
            assert held.decision.version == (head.generation, seq)
        content = (effect.head.raw, *(effect.documents[route].raw for route in sorted(effect.documents)))
        assert self.contents.setdefault(effect.version, content) == content


@settings(max_examples=150, deadline=None)
@given(data=st.data(), cp=histories())
def test_any_delivery_that_ends_with_the_newest_ends_with_the_newest(
    data: st.DataObject, cp: ToyControlPlane
) -> None:
    """Reordered, lost and repeated words, restarts in between: after one redelivery of what is in force
    the edge serves it and is FRESH, and on the way its version only rose."""
    run = Run(cp)
    words: list[Event | Restart] = [*words_of(cp), Restart()]
    for event in data.draw(st.lists(st.sampled_from(words), max_size=40)):
        run.take(event)
    again = [ConfigSeen(cp.configs[-1]), *map(DocumentSeen, cp.documents.values()), BeatSeen(cp.beat())]
    for event in data.draw(st.permutations(again)):
        run.take(event)
    run.take(BeatSeen(cp.beat()))
    assert run.follower.version == cp.version
    assert run.follower.mode(run.now) is EdgeMode.FRESH
    assert run.follower.seen == cp.version


@settings(max_examples=150, deadline=None)
@given(raw=st.binary(max_size=60), cut=st.integers(0, 400), flip=st.integers(0, 4000), data=st.data())
def test_no_bytes_whatever_break_a_follower(raw: bytes, cut: int, flip: int, data: st.DataObject) -> None:
    """Garbage, truncated and altered messages of every kind: never an exception, never a wrong switch."""
    cp = ToyControlPlane()
    cp.commit()
    run = Run(cp)
    good = [cp.configs[0], *cp.documents.values(), cp.heads[0].canonical(), cp.beat()]
    victim = data.draw(st.sampled_from(good))
    at = flip % len(victim)
    altered = victim[:at] + bytes([victim[at] ^ 0x01]) + victim[at + 1 :]
    kind = data.draw(st.sampled_from([ConfigSeen, DocumentSeen, HeadSeen, BeatSeen]))
    for event in (kind(raw), kind(victim[:cut]), kind(altered)):
        run.follower.step(event, run.now)
    # Twice: a true document that comes after its false twin is only told apart once its head is known.
    for event in 2 * [ConfigSeen(good[0]), *map(DocumentSeen, cp.documents.values()), BeatSeen(cp.beat())]:
        run.take(event)
    assert run.follower.version == cp.version
