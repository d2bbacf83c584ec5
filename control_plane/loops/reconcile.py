"""The leader's loop: read everything, decide, commit, hand over to the outbox.

Level-based: a nudge only says "look again", a tick says so too, and every pass works on the whole
view and the whole ledger; so a lost or doubled nudge changes nothing. A pass that changes nothing
writes nothing. Between any two steps this replica may have stopped leading: `holds` is asked before
each act, and every write carries the fence.
"""

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from control_plane.core.decide import Proposal, Restored, decide
from control_plane.core.orders import Orders, orders_of
from control_plane.core.salvage import examined, keeping
from control_plane.loops.blobs import Fenced
from control_plane.loops.lead import Lead
from control_plane.loops.ledger import Conflict, Ledger, Records
from control_plane.loops.mirror import Mirror
from control_plane.loops.publish import Edition, Publisher
from control_plane.loops.pulse import Pulse
from control_plane.loops.restore import RESTORE
from control_plane.loops.seen import Seen
from control_plane.loops.view import Viewer
from control_plane.metrics import Metrics
from control_plane.ports import Tenure
from shared import keys
from shared.backoff import Backoff
from shared.clock import Clock
from shared.log import get_logger
from shared.ports import PortError
from shared.telemetry import Contexts, Telemetry, is_recorded, trace_id_of
from shared.vocabulary.audit import AuditEntry
from shared.vocabulary.base import Version
from shared.vocabulary.config import Fleet, FleetConfig
from shared.vocabulary.view import HealthView

log = get_logger(__name__)

WARM_S = 3.0
"""Longest that a cold replica waits for its observers before it first decides."""
MIN_GAP_S = 0.01
"""Between two passes, and never less than the last pass took: at most half of the time is spent here."""
MAX_LINKS = 32
LED_TO_S = 5.0
"""After an event: what is decided later has other causes too, and only links to it."""
_COMPARED = (keys.DECISIONS_HEAD, keys.GENERATION, keys.CONFIG_HEAD, keys.AUDIT_HEAD)


class Reconciler:
    """`run` is its loop; `stop` lets it finish the write under way. `warm` says whether all observers
    have read up to the present; `seed` is the fleet of this replica's own file."""

    def __init__(
        self,
        *,
        lead: Lead,
        records: Records,
        mirror: Mirror,
        viewer: Viewer,
        seen: Seen,
        folds: Contexts,
        publisher: Publisher,
        nudge: Pulse,
        warm: Callable[[], bool],
        seed: Fleet | None,
        author: str,
        tick_s: float,
        clock: Clock,
        rng: random.Random,
        telemetry: Telemetry,
        metrics: Metrics,
    ) -> None:
        self._lead = lead
        self._records = records
        self._mirror = mirror
        self._viewer = viewer
        self._seen = seen
        self._folds = folds
        self._continued = Contexts()
        self._publisher = publisher
        self._nudge = nudge
        self._warm = warm
        self._seed = seed
        self._author = author
        self._tick_s = tick_s
        self._clock = clock
        self._rng = rng
        self._telemetry = telemetry
        self._metrics = metrics
        self._began_at = clock.monotonic()
        self._stopping = False
        self._stopped = asyncio.Event()
        self._said: tuple[str, ...] = ()
        self._compared_file = False
        self._in_doubt = False

    def doubt(self) -> None:
        """Read the records again: etcd holds others than the last pass believed."""
        self._in_doubt = True
        self._nudge.fire()

    async def run(self) -> None:
        """Reconcile in every term this replica holds, until stopped."""
        self._stopped.clear()
        try:
            while not self._stopping:
                seen = self._nudge.count
                term = self._lead.term
                if term is None:
                    await self._nudge.wait(seen, 1.0)
                else:
                    await self._in_term(term)
        finally:
            self._stopped.set()

    async def stop(self, timeout_s: float) -> None:
        """Decide nothing more; returns when the write under way is done, or after `timeout_s`."""
        self._stopping = True
        self._nudge.fire()
        try:
            async with asyncio.timeout(timeout_s):
                await self._stopped.wait()
        except TimeoutError:
            log.warning("a write was still under way when stopping")

    async def _in_term(self, term: Tenure) -> None:
        backoff = Backoff(base_s=0.1, cap_s=1.0, rng=self._rng)
        ledger: Ledger | None = None
        troubled = False
        while self._lead.holds(term) and not self._stopping:
            seen = self._nudge.count
            began = self._clock.monotonic()
            try:
                if ledger is None or self._in_doubt or self._outdated(ledger):
                    self._in_doubt = False
                    ledger = await self._records.load()
                    self._publisher.offer(_edition(term, ledger))
                if self._is_warm():
                    ledger = await self._pass(term, ledger)
                troubled = False
                backoff.reset()
            except Fenced as error:
                self._metrics.fenced.inc()
                self._lead.give_up(term, str(error))
                break
            except Conflict as error:
                log.info("decided on old records, reading again", why=str(error))
                self._metrics.conflicts.inc()
                ledger = None
                await asyncio.sleep(backoff.next())
                continue
            except PortError as error:
                if not troubled:
                    log.warning("cannot reconcile", error=repr(error))
                troubled, ledger = True, None
                await asyncio.sleep(backoff.next())
                continue
            await asyncio.sleep(max(MIN_GAP_S, self._clock.monotonic() - began))
            await self._nudge.wait(seen, self._tick_s)
        self._publisher.withdraw(term)

    def _is_warm(self) -> bool:
        return self._warm() or self._clock.monotonic() - self._began_at >= WARM_S

    def _outdated(self, ledger: Ledger) -> bool:
        """Whether the mirror has already seen a later revision of what a decision rests on."""
        return any(self._mirror.revision_of(key) > ledger.revisions.get(key, 0) for key in _COMPARED)

    async def _pass(self, term: Tenure, ledger: Ledger) -> Ledger:
        """One reconciliation; the ledger after it. Raises Fenced, Conflict, or PortError."""
        ledger = await self._ensure_config(term, ledger)
        config = ledger.in_force.config
        if config is None:
            return ledger
        ledger = await self._ensure_generation(term, ledger)
        began = self._clock.monotonic()
        view = self._viewer.refresh(config)
        now = self._clock.now()
        restored = _restored(ledger, self._mirror.audit)
        proposal = _decide(config, view, ledger, term, now, None, restored)
        self._metrics.decide_seconds.observe(self._clock.monotonic() - began)
        kept = None if proposal is None else self._kept(proposal, config, view, ledger, now)
        if proposal is None or kept is None:
            return ledger
        parent, links = self._behind(proposal)
        with self._telemetry.span("decide", parent=parent, links=links) as span:
            # The trace is begun only for a decision that changes something, and its context must be
            # inside the documents before they are hashed: so the pure function is asked again, and
            # says the same, with that context in it.
            proposal = _decide(config, view, ledger, term, now, span.traceparent, restored)
            assert proposal is not None
            if kept and ledger.in_force.head is not None:
                proposal = keeping(proposal, kept, ledger.in_force.head, ledger.memory)
            span.set(leeward__decision=str(proposal.head.version), leeward__routes=len(proposal.documents))
            ledger = await self._commit(term, ledger, proposal, at=now, traceparent=span.traceparent)
            if parent is not None:
                self._continued.put(trace_id_of(parent), span.traceparent)
            return ledger

    def _behind(self, proposal: Proposal) -> tuple[str | None, list[str]]:
        """What a decision continues, and what it is linked to: the latest event behind it, from where it was
        folded here or from the decision it has led to already, unless that is long ago (a target that stays
        down is evidence for hours, and a trace has to end); and the other events."""
        events = _evidence(proposal)
        fresh = [event for event in events if self._is_fresh(trace_id_of(event))]
        folded = (event for event in fresh if self._folds.get(trace_id_of(event)) is not None)
        latest = next(folded, fresh[0] if fresh else None)
        if latest is None:
            return None, events
        trace_id = trace_id_of(latest)
        parent = self._continued.get(trace_id) or self._folds.get(trace_id) or latest
        return parent, [e for e in events if e != latest]

    def _is_fresh(self, trace_id: str | None) -> bool:
        """Whether a decision now may be told as what this event led to."""
        folded_at = self._folds.since(trace_id)
        if folded_at is None:
            return self._continued.get(trace_id) is None
        return self._clock.monotonic() - folded_at <= LED_TO_S

    async def _commit(
        self, term: Tenure, ledger: Ledger, proposal: Proposal, *, at: datetime, traceparent: str
    ) -> Ledger:
        if not self._lead.holds(term):
            return ledger
        began = self._clock.monotonic()
        about = {"db.system.name": "etcd", "db.operation.name": "txn"}
        with self._telemetry.span("commit", kind="client", parent=traceparent, attributes=about):
            ledger, entry = await self._records.commit(
                ledger, proposal, term=term, at=at, traceparent=traceparent
            )
        self._metrics.commit_seconds.observe(self._clock.monotonic() - began)
        self._metrics.decisions.inc()
        for code in {reason.code for reason in entry.reasons}:
            self._metrics.reasons.labels(code).inc()
        farewells = {
            route: document.canonical() for route, document in proposal.documents.items() if document.removed
        }
        self._publisher.offer(_edition(term, ledger, farewells, traceparent))
        log.info(
            "decided",
            version=str(entry.version),
            routes=entry.changed_count,
            reasons=[f"{reason.code} {reason.target or ''}".strip() for reason in entry.reasons[:10]],
            trace_id=trace_id_of(traceparent),
        )
        return ledger

    def _kept(
        self, proposal: Proposal, config: FleetConfig, view: HealthView, ledger: Ledger, now: datetime
    ) -> frozenset[str] | None:
        """Routes that fail the safety checks and stay as they are; None when nothing may be committed."""
        found = examined(
            proposal,
            config,
            view,
            head=ledger.in_force.head,
            documents=ledger.documents,
            memory=ledger.memory,
            orders=_orders(ledger, now),
        )
        if found.faults:
            self._metrics.refusals.inc()
            if found.faults != self._said:
                log.error(
                    "a proposal failed the safety checks",
                    version=str(proposal.head.version),
                    faults=list(found.faults),
                    kept=None if found.kept is None else sorted(found.kept),
                )
        self._said = found.faults
        return found.kept

    async def _ensure_config(self, term: Tenure, ledger: Ledger) -> Ledger:
        """A configuration in force, under a version nobody has passed."""
        force = ledger.in_force
        passed = max(self._seen.config_version, force.head.config_version if force.head else 0)
        if force.config is None:
            if self._seed is None:
                if not self._compared_file:
                    log.warning("no configuration in etcd, and this replica's file has no fleet")
                self._compared_file = True
                return ledger
            log.info("etcd has no configuration: seeding it from the file", config_version=passed + 1)
            return await self._put_config(term, ledger, self._seed, passed + 1, "seeded from the file")
        if not self._compared_file:
            self._compared_file = True
            if self._seed is not None and self._seed != force.config.fleet:
                log.warning(
                    "the file's fleet differs from the one in force, which wins; `leeward config apply` changes it",
                    config_version=force.config.config_version,
                )
        if passed > force.config.config_version:
            log.warning("a later configuration was in use: etcd has lost history", seen=passed)
            return await self._put_config(
                term, ledger, force.config.fleet, passed + 1, "issued again: etcd had lost history"
            )
        return ledger

    async def _put_config(
        self, term: Tenure, ledger: Ledger, fleet: Fleet, version: int, reason: str
    ) -> Ledger:
        ledger = await self._records.put_config(
            ledger, fleet, version=version, author=self._author, reason=reason, term=term
        )
        self._publisher.offer(_edition(term, ledger))
        return ledger

    async def _ensure_generation(self, term: Tenure, ledger: Ledger) -> Ledger:
        """A generation above everything anybody holds that is not of this ledger's history."""
        head = ledger.in_force.head
        generation = max(1, ledger.generation, head.generation if head is not None else 0)
        own = head is not None and head.generation == generation
        base = head.version if head is not None and own else Version(generation, 0)
        if self._seen.ahead(base, ledger.in_force.head_sha if own else None):
            log.warning(
                "somebody is ahead of etcd: it was restored or emptied; raising the generation",
                head=str(base),
                seen=str(self._seen.version),
                reporter=self._seen.reporter,
            )
            generation = max(generation, self._seen.version.generation) + 1
        elif self._seen.outlived(generation, term.epoch):
            log.warning(
                "Beats of a later term were heard: etcd was restored; raising the generation",
                epoch=term.epoch,
                heard=self._seen.epoch[1],
            )
            generation += 1
        elif ledger.damaged and (own or head is None):
            log.warning("etcd has lost documents of its head: raising the generation")
            generation += 1
        if generation == ledger.generation:
            return ledger
        return await self._records.set_generation(ledger, generation, term=term)


def _edition(
    term: Tenure,
    ledger: Ledger,
    farewells: Mapping[str, bytes] | None = None,
    traceparent: str | None = None,
) -> Edition:
    return Edition(term, ledger.in_force, farewells or {}, traceparent, tuple(ledger.based_on(*_COMPARED)))


def _decide(
    config: FleetConfig,
    view: HealthView,
    ledger: Ledger,
    term: Tenure,
    now: datetime,
    traceparent: str | None,
    restored: Restored | None,
) -> Proposal | None:
    return decide(
        config,
        view,
        ledger.in_force.head,
        ledger.documents,
        ledger.memory,
        orders=_orders(ledger, now),
        generation=ledger.generation,
        term=term,
        now=now,
        traceparent=traceparent,
        restored=restored,
    )


def _restored(ledger: Ledger, audit: Callable[[], Sequence[AuditEntry]]) -> Restored | None:
    """The restore that raised the generation which no decision has carried yet, if it was one."""
    head = ledger.in_force.head
    if head is None or ledger.generation <= head.generation:
        return None
    for entry in audit():
        if entry.action == RESTORE and entry.values.get("generation") == ledger.generation:
            return Restored(str(entry.values.get("backup")), entry.author)
    return None


def _orders(ledger: Ledger, now: datetime) -> Orders:
    return orders_of(ledger.in_force.overrides, ledger.in_force.rollouts, now)


def _evidence(proposal: Proposal) -> list[str]:
    """The recorded events behind a proposal, each once, the latest first, bounded."""
    found: dict[str, datetime] = {}
    for route in sorted(proposal.documents):
        for evidence in proposal.documents[route].evidence:
            if evidence.traceparent is not None and is_recorded(evidence.traceparent):
                found[evidence.traceparent] = evidence.observed_at
    return sorted(found, key=lambda context: (found[context], context), reverse=True)[:MAX_LINKS]
