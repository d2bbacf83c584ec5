"""Following: which head this edge serves, decided from whatever arrives, in whatever order, however often.

Two paths bring configurations, documents, heads and Beats; both lose, repeat, delay and reorder.
`Follower.step` takes one event and the monotonic time and returns what must be done about it.

Rules
* A head is switched to only when every document it names is held under the hash it names, and a
  configuration of the version it names, and a table can be built from them. Else the last one stays.
* Versions only rise. The same version with the same hash is nothing new; with another hash it is an
  alarm, and refused once the first is in force. `seen` (the greatest version ever served, across restarts) bounds from below.
* An edge ahead of the control plane (its store was emptied or restored) keeps what it has and says
  so in its acks; it follows again once the leader has raised the generation above it.
* A head that would leave the edge unable to route is refused as a whole, and remembered as refused.
* Before any head, the newest configuration's own order is served, as version 0.0.
* In STATIC, drains by people that are long past their end count as automatic (`core/lapse`).

What is in force and what may succeed it is `core/in_force`; modes and their ages are `core/freshness`,
what is held is `core/holdings`, what waits `core/waiting`.

Not guaranteed: an edge killed in the few milliseconds between switching and its file being written
comes back one head behind. It acknowledges after the file is written.

Whoever adds an event: `_HANDLERS` is the table of all, and the test of
`tests/unit/edge_router/test_follow_properties.py` feeds every kind.
"""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import ClassVar, Generic, Protocol, TypeVar

from edge_router.core.freshness import Freshness, Order
from edge_router.core.holdings import (
    Configs,
    Documents,
    HeldConfig,
    HeldDocument,
    HeldHead,
    Unreadable,
    check_head,
    decisions_of,
    read_beat,
    read_config,
    read_document,
    read_head,
)
from edge_router.core.in_force import InForce
from edge_router.core.lapse import Lapsed, eased, lapsed
from edge_router.core.signals import (
    Acknowledge,
    Alarm,
    Apply,
    BeatSeen,
    ConfigSeen,
    Confirmed,
    DocumentSeen,
    Ease,
    Effect,
    Event,
    HeadSeen,
    ModeIs,
    Refused,
    Resync,
    Tick,
)
from edge_router.core.table import Unsafe
from edge_router.core.waiting import Waiting, WaitingRoom
from shared.vocabulary.base import NO_VERSION, Version, sha256_hex
from shared.vocabulary.config import FleetConfig
from shared.vocabulary.decision import Beat, Decision
from shared.vocabulary.terms import EdgeMode

MAX_REFUSED = 64
"""Heads and configurations remembered as refused."""
LAPSES_EVERY_S = 1.0
"""How often an edge in STATIC looks for drains that are past their end."""
MAX_PAST = 4096
"""Heads and documents remembered as having been in force."""

TableT = TypeVar("TableT")
TableOut = TypeVar("TableOut", covariant=True)
ValueT = TypeVar("ValueT")


class Build(Protocol[TableOut]):
    """Makes the table that requests read. Raises Unsafe when it must not be served."""

    def __call__(
        self, config: FleetConfig, documents: Mapping[str, Decision], head: Version, /
    ) -> TableOut: ...


class Follower(Generic[TableT]):
    """One edge's following. Start it empty, feed it the last-known-good file or the node file's fleet
    as events, then whatever arrives. `refused` counts by (what, reason)."""

    def __init__(
        self,
        *,
        build: Build[TableT],
        fresh_s: float,
        static_s: float,
        started_at: float,
        expect: Callable[[Decision], None] = lambda _: None,
    ) -> None:
        """`expect` is told of each document that a head may put in force, when it comes."""
        self._build = build
        self._expect = expect
        self._in_force = InForce()
        self._waiting = WaitingRoom()
        self._past: dict[str, None] = {}  # hashes of heads and documents that were in force
        self._refused_heads: dict[str, int] = {}  # hash -> config_version
        self._refused_configs: dict[str, int] = {}
        self._documents = Documents(needed=self._needs_document)
        self._configs = Configs(needed=self._needs_config)
        self._freshness = Freshness(fresh_s=fresh_s, static_s=static_s, started_at=started_at)
        self._mode = EdgeMode.STALE
        self._lapsed: Lapsed = frozenset()
        self._lapses_due_at = started_at
        self._leader_said: tuple[datetime, float] | None = None  # its time in a live Beat, heard when
        self.seen = NO_VERSION
        self.refused: dict[tuple[str, str], int] = {}

    # ------------------------------------------------------------ what is served

    @property
    def head(self) -> HeldHead | None:
        """In force; None while the configuration's own order is served."""
        return self._in_force.head

    @property
    def version(self) -> Version:
        """Of the head in force, else 0.0."""
        return self._in_force.version

    @property
    def config(self) -> FleetConfig | None:
        """In force; None while there is nothing to serve by."""
        held = self._in_force.config
        return None if held is None else held.config

    @property
    def routes(self) -> dict[str, Version]:
        """Version of each route's document in force."""
        return {route: held.decision.version for route, held in self._in_force.documents.items()}

    @property
    def waiting(self) -> dict[str, int]:
        """Heads stated but not in force: version -> documents still missing."""
        return {str(waiting.held.version): len(waiting.missing) for waiting in self._waiting}

    def mode(self, now: float) -> EdgeMode:
        """At monotonic `now`."""
        return self._freshness.mode(now)

    @property
    def confirmed(self) -> Order:
        """Generation, epoch and number of the greatest Beat that confirmed what was served."""
        return self._freshness.confirmed

    def beat_age_s(self, now: float) -> float | None:
        """Since the last new Beat; None before the first."""
        return self._freshness.beat_age_s(now)

    def remember(self, seen: Version) -> None:
        """`seen` was served once, as files or their names tell, even if its content is lost."""
        self.seen = max(self.seen, seen)

    # ------------------------------------------------------------ what happens

    def step(self, event: Event, now: float) -> list[Effect[TableT]]:
        """Take one event at monotonic `now`; returns the effects, in the order to carry them out."""
        effects: list[Effect[TableT]] = []
        try:
            self._HANDLERS[type(event)](self, event, now, effects)
        except Unreadable as error:
            self._refuse(effects, _NAMES[type(event)], error.reason, str(error))
        mode = self._freshness.mode(now)
        if mode is not self._mode:
            self._mode = mode
            effects += (ModeIs(mode), Acknowledge())
        return effects

    def _on_config(self, event: ConfigSeen, now: float, effects: list[Effect[TableT]]) -> None:
        sha = sha256_hex(event.raw)
        if sha in self._refused_configs:
            return
        if sha in self._configs:
            self._configs.touch(sha)
        else:
            held = read_config(event.raw)
            version = held.config.config_version
            if self._configs.last_heard(version) is not None:
                detail = f"configuration {version} came with a second content"
                effects.append(Alarm("CONFIG_CONFLICT", detail))
                self._refuse(effects, "config", "conflict", detail)
            self._configs.add(held)
            # What was unsafe by other words of the same version may be safe by these.
            self._refused_heads = {head: v for head, v in self._refused_heads.items() if v != version}
        self._advance(effects)

    def _on_document(self, event: DocumentSeen, now: float, effects: list[Effect[TableT]]) -> None:
        sha = sha256_hex(event.raw)
        if sha in self._documents:
            self._documents.touch(sha)
            return
        wanted = self._waiting.wants(sha)
        if sha in self._past and not wanted:
            return  # overtaken on its way by what the other path brought
        document = read_document(event.raw)
        route, version = document.decision.route, document.decision.version
        if version < self._in_force.floor_of(route) and not wanted:
            self._refuse(effects, "document", "older", f"{route} {version}")
            return
        rival = self._documents.at(route, version)
        if rival is not None:
            detail = f"{route} {version} came with a second content"
            effects.append(Alarm("DOCUMENT_CONFLICT", detail))
            # A head that names this very hash says which of the two is the true one.
            if not wanted or self._needs_document(rival):
                self._refuse(effects, "document", "conflict", detail)
                return
        self._documents.add(document)
        self._expect(document.decision)
        if wanted:
            self._waiting.arrived(sha)
            self._advance(effects)

    def _on_head(self, event: HeadSeen, now: float, effects: list[Effect[TableT]]) -> None:
        self._consider(read_head(event.raw), now, effects)
        self._advance(effects)

    def _on_beat(self, event: BeatSeen, now: float, effects: list[Effect[TableT]]) -> None:
        beat = read_beat(event.raw)
        held = self._head_of(beat)
        new = self._freshness.is_new(beat.order)
        if new and event.live:
            self._freshness.heard(beat.order, now)
            self._leader_said = (beat.sent_at, now)
            if self._freshness.behind(now, older=held.version < self.version):
                detail = (
                    f"the leader states head {held.version}, this edge serves {self.version} and keeps it"
                )
                effects.append(Alarm("CONTROL_PLANE_BEHIND", detail))
        if self._in_force.is_head(held.sha):
            if new:
                self._confirm(beat.order, now if event.live else None, effects)
            return
        self._consider(held, now, effects)
        waiting = self._waiting.get(held.sha)
        if waiting is not None and new:
            waiting.stated(beat.order, now if event.live else None)
        self._advance(effects)

    def _on_tick(self, event: Tick, now: float, effects: list[Effect[TableT]]) -> None:
        for waiting in self._waiting.overdue(now):
            config = "held" if self._config_for(waiting.held) else "missing"
            detail = f"head {waiting.held.version}: {len(waiting.missing)} documents missing, its configuration {config}"
            effects += (Alarm("INCOMPLETE", detail), Resync(len(waiting.missing)))
        self._let_lapse(event.at, now, effects)

    _HANDLERS: ClassVar[Mapping[type, Callable[..., None]]] = {
        ConfigSeen: _on_config,
        DocumentSeen: _on_document,
        HeadSeen: _on_head,
        BeatSeen: _on_beat,
        Tick: _on_tick,
    }

    def _let_lapse(self, at: datetime | None, now: float, effects: list[Effect[TableT]]) -> None:
        """While STATIC, serve with the drains eased that are past their end; without, as soon as it is over."""
        static = self._freshness.mode(now) is EdgeMode.STATIC
        if at is None or not (now >= self._lapses_due_at if static else self._lapsed):
            return
        self._lapses_due_at = now + LAPSES_EVERY_S
        decisions, config = decisions_of(self._in_force.documents), self._in_force.config
        if self._leader_said is not None:
            said, heard_at = self._leader_said
            at = min(at, said + timedelta(seconds=now - heard_at))
        over: Lapsed = lapsed(decisions, at) if static else frozenset()
        if over == self._lapsed or config is None:
            return
        self._lapsed = over
        try:
            effects.append(Ease(self._built(config, eased(decisions, over), self.version), over))
        except Unsafe as error:
            effects.append(Alarm("UNSAFE_HEAD", f"head {self.version}, drains eased: {error}"))

    # ------------------------------------------------------------ taking a head up

    def _head_of(self, beat: Beat) -> HeldHead:
        """The head that `beat` states; from memory where its hash is known, for hashing ten thousand
        routes every two seconds would be waste. Raises Unreadable."""
        known = self._waiting.get(beat.head_sha)
        held = known.held if known is not None else self.head
        if held is None or held.sha != beat.head_sha:
            head = beat.head
            check_head(head)
            raw = head.canonical()
            if sha256_hex(raw) != beat.head_sha:
                raise Unreadable(
                    "hash_mismatch", f"head {head.version} has not the hash that its Beat states"
                )
            held = HeldHead(head, raw, beat.head_sha)
        if held.version != (beat.generation, beat.head_seq):
            raise Unreadable("malformed", f"the hash of head {held.version} under another version")
        return held

    def _consider(self, held: HeldHead, now: float, effects: list[Effect[TableT]]) -> None:
        """Wait for `held` to be complete, unless it must not or need not be followed."""
        if self._in_force.is_head(held.sha):
            return
        if held.sha in self._past or held.sha in self._refused_heads:
            return
        if self._waiting.restate(held.sha, now):
            return
        if self.head is not None and held.version == self.version:
            self._ring_conflict(held, effects)
            self._refuse(effects, "head", "conflict", f"head {held.version} is in force with another content")
        elif held.version < self.version or held.version < self.seen:
            self._refuse(effects, "head", "older", f"head {held.version}; this edge has served {self.seen}")
        elif (route := self._in_force.taken_back_by(held)) is not None:
            _remember(self._refused_heads, held.sha, held.head.config_version)
            effects.append(Alarm("UNSAFE_HEAD", f"head {held.version} takes route {route} back"))
            self._refuse(effects, "head", "unsafe", f"head {held.version} takes route {route} back")
        else:
            if self._waiting.has_version(held.version):
                # Both wait: refusing the second would let a false head keep the true one out.
                self._ring_conflict(held, effects)
            missing = {sha for _, sha in held.head.routes.values() if sha not in self._documents}
            self._waiting.add(held, missing, now)

    def _ring_conflict(self, held: HeldHead, effects: list[Effect[TableT]]) -> None:
        effects.append(Alarm("HEAD_CONFLICT", f"head {held.version} came with a second content"))

    def _advance(self, effects: list[Effect[TableT]]) -> None:
        """Switch to the greatest head that is complete and safe; before any head, to the newest
        configuration."""
        for waiting in self._waiting.greatest_first():
            config = self._config_for(waiting.held)
            if config is not None and not waiting.missing and self._take(waiting, config, effects):
                return
        if self.head is None:
            self._take_config(effects)

    def _take(self, waiting: Waiting, config: HeldConfig, effects: list[Effect[TableT]]) -> bool:
        """Switch to a complete head; False when it is refused."""
        held, previous = waiting.held, self.version
        try:
            documents = self._in_force.successors(held, self._documents)
            table = self._built(config, decisions_of(documents), held.version)
        except Unsafe as error:
            self._waiting.drop(held.sha)
            _remember(self._refused_heads, held.sha, held.head.config_version)
            effects.append(Alarm("UNSAFE_HEAD", f"head {held.version}: {error}"))
            self._refuse(effects, "head", "unsafe", f"head {held.version}: {error}")
            return False
        changed = self._in_force.changed_by(documents)
        for sha in self._in_force.retired_by(documents):
            _remember(self._past, sha, None, at_most=MAX_PAST)
        self._in_force = InForce(config, documents, held)
        self._lapsed, self._lapses_due_at = frozenset(), 0.0
        self.remember(held.version)
        self._waiting.drop_up_to(held.version)
        self._documents.forget_before(held.head)
        effects.append(Apply(table, config, documents, held, held.version, previous, changed))
        if waiting.order is not None:
            self._confirm(waiting.order, waiting.beat_at, effects)
        effects.append(Acknowledge())
        return True

    def _take_config(self, effects: list[Effect[TableT]]) -> None:
        config = self._configs.newest()
        if config is None or self._in_force.is_config(config.sha):
            return
        version = config.config.config_version
        try:
            table = self._built(config, {}, NO_VERSION)
        except Unsafe as error:
            self._configs.remove(config.sha)
            _remember(self._refused_configs, config.sha, version)
            effects.append(Alarm("UNSAFE_CONFIG", f"configuration {version}: {error}"))
            self._refuse(effects, "config", "unsafe", f"configuration {version}: {error}")
            return
        self._in_force = InForce(config)
        effects += (Apply(table, config, {}, None, NO_VERSION, NO_VERSION, ()), Acknowledge())

    def _built(self, config: HeldConfig, documents: Mapping[str, Decision], head: Version) -> TableT:
        """The table. Raises Unsafe, whatever the builder tripped over: one document that nobody foresaw
        must neither stop the loop that brought it nor be served."""
        try:
            return self._build(config.config, documents, head)
        except Unsafe:
            raise
        except Exception as error:
            raise Unsafe(f"no table can be built: {error!r}") from error

    def _config_for(self, held: HeldHead) -> HeldConfig | None:
        """The configuration `held` names: the one in force where that is settled, else the last word."""
        pinned = self._in_force.config_for(held)
        return self._configs.last_heard(held.head.config_version) if pinned is None else pinned

    def _confirm(self, order: Order, at: float | None, effects: list[Effect[TableT]]) -> None:
        self._freshness.confirm(order, at)
        if at is not None:
            effects.append(Confirmed())

    # ------------------------------------------------------------ what is needed, what is refused

    def _needs_document(self, document: HeldDocument) -> bool:
        return self._in_force.has(document) or self._waiting.names(document)

    def _needs_config(self, config: HeldConfig) -> bool:
        return self._in_force.is_config(config.sha) or self._waiting.names_config(
            config.config.config_version
        )

    def _refuse(self, effects: list[Effect[TableT]], what: str, reason: str, detail: str) -> None:
        self.refused[what, reason] = self.refused.get((what, reason), 0) + 1
        effects.append(Refused(what, reason, detail))


_NAMES: Mapping[type, str] = {
    ConfigSeen: "config",
    DocumentSeen: "document",
    HeadSeen: "head",
    BeatSeen: "beat",
    Tick: "tick",
}


def _remember(known: dict[str, ValueT], sha: str, value: ValueT, *, at_most: int = MAX_REFUSED) -> None:
    """Add `sha`; beyond `at_most` the first remembered are forgotten."""
    known[sha] = value
    while len(known) > at_most:
        del known[next(iter(known))]
