"""The outbox: what was committed reaches every bus, and a Beat says so, again and again.

Kafka cannot fence, so this is the fan-out and never the record: a deposed leader's messages are
merely older than the head. Each bus has a lane of its own that carries the newest state, not a
queue; a dead bus delays nobody, and what it missed meanwhile is not replayed but replaced.

A lane gives its bus everything in force once a term, and again when the bus may have lost it: after
any failure to write, and when an observer finds that messages are gone (a broker that came back
empty). That is one message per route where comparing would need a second consumer for each bus in
every replica; readers drop what they have by version and hash.
"""

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from control_plane.loops.lead import Lead
from control_plane.loops.ledger import fence
from control_plane.loops.pulse import Pulse, together
from control_plane.metrics import Metrics
from control_plane.ports import InForce, Tenure
from shared import keys
from shared.backoff import Backoff
from shared.clock import Clock
from shared.cloudevents import headers
from shared.log import get_logger
from shared.ports import Bus, Compare, Coordination, PortError, Put, Refused
from shared.telemetry import Telemetry
from shared.topics import BEATS, CONFIG, DECISIONS
from shared.vocabulary.base import sha256_hex
from shared.vocabulary.decision import Beat
from shared.vocabulary.node import Timings

log = get_logger(__name__)

AT_ONCE = 64
"""Documents under way on one bus; a Beat goes out between two such portions."""
PUBLISH_S = 2.0
CONFIG_KEY = "fleet"


@dataclass(frozen=True, slots=True)
class Edition:
    """What is in force in a term, ready for the buses."""

    term: Tenure
    in_force: InForce
    farewells: Mapping[str, bytes] = field(default_factory=dict)
    """Documents of routes that this very commit removed."""
    traceparent: str | None = None
    """Of the decision; absent for what another term decided."""
    based_on: tuple[Compare, ...] = ()
    """That etcd's records are still these: checked with every Beat written there."""


@dataclass(slots=True)
class _Shelf:
    """What one bus was given in one term: topic and key -> hash."""

    term: Tenure | None = None
    losses: int = 0
    given: dict[tuple[str, str], str] = field(default_factory=dict)
    beat: int = 0


@dataclass(frozen=True, slots=True)
class _Item:
    topic: str
    key: str
    sha: str
    raw: bytes
    kind: str


class Publisher:
    """`run_beats`, `run_etcd_beats` and one `run_lane` for each bus are its loops."""

    def __init__(
        self,
        *,
        lead: Lead,
        store: Coordination,
        source: str,
        timings: Timings,
        clock: Clock,
        rng: random.Random,
        telemetry: Telemetry,
        metrics: Metrics,
        on_beat: Callable[[Beat], None],
        on_doubt: Callable[[], None],
    ) -> None:
        self._lead = lead
        self._store = store
        self._source = source
        self._beat_s = timings.beat_s
        self._etcd_beat_s = timings.etcd_beat_s
        self._clock = clock
        self._rng = rng
        self._telemetry = telemetry
        self._metrics = metrics
        self._on_beat = on_beat
        self._on_doubt = on_doubt
        self._edition: Edition | None = None
        self._items: Sequence[_Item] = ()
        self._beat: Beat | None = None
        self._beats = 0
        self._losses: dict[str, int] = {}
        self._news = Pulse()
        self._sends = Pulse()

    def offer(self, edition: Edition) -> None:
        """Put `edition` in the place of the one before, and beat at once."""
        self._edition, self._items = edition, _items(edition)
        self._news.fire()
        self._sends.fire()

    def withdraw(self, term: Tenure) -> None:
        """`term` is over: say nothing more in its name."""
        if self._edition is not None and self._edition.term == term:
            self._edition = self._beat = None

    def lost(self, bus: str) -> None:
        """`bus` has lost messages: it will be given everything again."""
        self._losses[bus] = self._losses.get(bus, 0) + 1
        self._sends.fire()

    async def run_beats(self) -> None:
        """State the head every `beat_s`, changed or not, and at once when it changed."""
        while True:
            seen = self._news.count
            edition = self._speaking()
            if edition is not None and edition.in_force.head is not None:
                self._beat = beat = self._next_beat(edition)
                self._on_beat(beat)
                self._sends.fire()
            await self._news.wait(seen, self._beat_s)

    async def run_etcd_beats(self) -> None:
        """Keep the leader's own key moving, which proves to every replica that its watch is alive; to
        this one that it still leads; and that etcd has not gone back to older records meanwhile."""
        while True:
            seen = self._news.count
            edition = self._speaking()
            pause_s = self._etcd_beat_s
            if edition is not None and edition.in_force.head is not None:
                try:
                    await self._beat_in_etcd(edition)
                except PortError:
                    pause_s = min(pause_s, 0.5)
            await self._news.wait(seen, pause_s)

    async def _beat_in_etcd(self, edition: Edition) -> None:
        beat = self._beat
        if beat is None or beat.head_sha != edition.in_force.head_sha:
            beat = self._next_beat(edition)
        compares = [*fence(edition.term), *edition.based_on]
        result = await self._store.commit(compares, [Put(keys.BEAT, beat.canonical())])
        if result.succeeded:
            return
        record, _ = await self._store.get(keys.LEADER)
        if record is None or record.lease != edition.term.lease:
            self._metrics.fenced.inc()
            self._lead.give_up(edition.term, "another leads")
        elif self._edition is edition:
            self._on_doubt()

    async def run_lane(self, bus: Bus) -> None:
        """Carry the newest edition and Beat to one bus."""
        shelf = _Shelf()
        backoff = Backoff(base_s=0.1, cap_s=1.0, rng=self._rng)
        while True:
            seen = self._sends.count
            edition = self._speaking()
            if edition is None:
                await self._sends.wait(seen, 60.0)
                continue
            losses = self._losses.get(bus.region, 0)
            if shelf.term != edition.term or shelf.losses != losses:
                shelf = _Shelf(edition.term, losses)
            try:
                sent = await self._send(bus, shelf, edition)
                backoff.reset()
            except PortError as error:
                if shelf.given or shelf.beat:
                    log.warning("bus takes no messages", bus=bus.region, error=repr(error))
                self._metrics.publish_failures.labels(bus.region).inc()
                shelf = _Shelf(edition.term, losses)
                await asyncio.sleep(backoff.next())
                continue
            if not sent:
                await self._sends.wait(seen, 60.0)

    def _speaking(self) -> Edition | None:
        edition = self._edition
        return edition if edition is not None and self._lead.holds(edition.term) else None

    def _next_beat(self, edition: Edition) -> Beat:
        head = edition.in_force.head
        assert head is not None
        self._beats += 1
        return Beat(
            generation=head.generation,
            epoch=edition.term.epoch,
            beat=self._beats,
            head_seq=head.seq,
            head_sha=edition.in_force.head_sha,
            config_version=head.config_version,
            routes=head.routes,
            holder=edition.term.holder,
            sent_at=self._clock.now(),
        )

    async def _send(self, bus: Bus, shelf: _Shelf, edition: Edition) -> bool:
        """One portion of what the bus lacks, then the Beat; False when it lacks nothing."""
        lacking = [item for item in self._items if shelf.given.get((item.topic, item.key)) != item.sha]
        if lacking:
            portion = lacking[:AT_ONCE]
            with self._telemetry.span(
                f"publish {DECISIONS}", kind="producer", parent=edition.traceparent
            ) as span:
                span.set(
                    messaging__system="kafka",
                    messaging__operation__name="publish",
                    messaging__operation__type="send",
                    messaging__destination__name=DECISIONS,
                    messaging__batch__message_count=len(portion),
                    leeward__bus=bus.region,
                )
                await together(self._publish(bus, edition.term, item, span.traceparent) for item in portion)
            for item in portion:
                shelf.given[item.topic, item.key] = item.sha
        beat = self._beat
        due = beat is not None and beat.epoch == edition.term.epoch and beat.beat > shelf.beat
        if beat is not None and due and self._lead.holds(edition.term):
            raw = beat.canonical()
            item = _Item(BEATS, beat.holder, str(beat.beat), raw, "beat")
            await self._publish(bus, edition.term, item, edition.traceparent)
            shelf.beat = beat.beat
        return bool(lacking) or due

    async def _publish(self, bus: Bus, term: Tenure, item: _Item, traceparent: str | None) -> None:
        remaining_s = self._lead.remaining_s(term)
        if remaining_s <= 0.0:
            return
        told = headers(
            kind=f"leeward.{item.kind}",
            source=self._source,
            event_id=f"{item.key}/{item.sha}",
            time=self._clock.now(),
            traceparent=traceparent,
        )
        try:
            await bus.publish(
                item.topic,
                key=item.key.encode(),
                value=item.raw,
                headers=told,
                timeout_s=min(PUBLISH_S, remaining_s),
            )
        except Refused as error:
            # It will never be taken: said aloud, and not in the way of the others.
            log.warning("bus refuses a message", bus=bus.region, key=item.key, error=repr(error))
            self._metrics.publish_failures.labels(bus.region).inc()
            return
        self._metrics.published.labels(bus.region, item.topic).inc()


def _items(edition: Edition) -> Sequence[_Item]:
    """Everything a bus should hold: the configuration first, for documents are read by it."""
    force = edition.in_force
    items = []
    if force.config is not None:
        items.append(_Item(CONFIG, CONFIG_KEY, force.config_sha, force.config_raw, "config"))
    if force.head is not None:
        for route, raw in force.documents.items():
            items.append(_Item(DECISIONS, route, force.head.routes[route][1], raw, "decision"))
    for route, raw in edition.farewells.items():
        items.append(_Item(DECISIONS, route, sha256_hex(raw), raw, "decision"))
    return items
