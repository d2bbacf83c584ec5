"""The leader's authoritative records: read linearizably, written in one fenced transaction.

invariant   A head is committed only while the leader key is the one of this term, and only onto
            exactly the records it was decided from.
order       blobs, then the transaction, then everybody else. A crash between any two of these leaves
            either nothing, or blobs nobody names, or a commit whose outbox the next leader repairs.
lost reply  `Unavailable` says nothing about what happened. The head is read back: it is ours (done), or
            it is not. In that case the transaction may still be under way, but it compares the head's
            revision, as the next one will: at most one of the two can succeed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from control_plane.core.decide import Proposal
from control_plane.core.memory import Memory
from control_plane.loops.blobs import Blobs, Fenced, Missing
from control_plane.loops.operations import MAX_OVERRIDES, MAX_ROLLOUTS
from control_plane.loops.pulse import together
from control_plane.loops.reading import read
from control_plane.loops.shelf import Shelf
from control_plane.metrics import Metrics
from control_plane.ports import MAX_LOGGED_CHANGES, ConfigHead, InForce, LogEntry, Tenure
from shared import keys
from shared.clock import Clock
from shared.log import get_logger
from shared.ports import Compare, Coordination, KeyValue, Put, Unavailable
from shared.vocabulary.base import canonical_json, sha256_hex
from shared.vocabulary.config import Fleet, FleetConfig
from shared.vocabulary.decision import Decision, Head, Reason
from shared.vocabulary.override import Override
from shared.vocabulary.rollout import Rollout

log = get_logger(__name__)

DECISIONS_MEMORY = keys.DECISIONS_MEMORY
INLINE_MEMORY_BYTES = 256 * 1024
"""A larger memory is kept as a blob, to keep the transaction small."""
MAX_LOGGED_REASONS = 50


class Conflict(Exception):
    """A record this write was based on has changed: read again, decide again."""


@dataclass(frozen=True, slots=True)
class Ledger:
    """What etcd held when it was read, with the revisions that the next write compares."""

    in_force: InForce = field(default_factory=InForce)
    documents: Mapping[str, Decision] = field(default_factory=dict)
    memory: Memory = field(default_factory=Memory)
    memory_sha: str = ""
    """Of the blob it is kept in; empty when inline."""
    generation: int = 0
    revisions: Mapping[str, int] = field(default_factory=dict)
    """mod revision of each compared key; 0 when absent."""
    damaged: bool = False
    """The head is unreadable or names documents that are gone: everything must be written anew."""

    def based_on(self, *names: str) -> list[Compare]:
        """The conditions that these records are still those that were read."""
        return [Compare(name, "mod", self.revisions.get(name, 0)) for name in names]


def fence(term: Tenure) -> list[Compare]:
    """The conditions that `term` still stands. The epoch alone does not say so: in an etcd that was
    emptied, revisions are handed out anew, and the next leader's key may get the very same one."""
    return [Compare(keys.LEADER, "create", term.epoch), Compare(keys.LEADER, "lease", term.lease)]


class Records:
    """Reads and writes the `Ledger`."""

    def __init__(self, store: Coordination, blobs: Blobs, *, clock: Clock, metrics: Metrics) -> None:
        self._store = store
        self._blobs = blobs
        self._clock = clock
        self._metrics = metrics

    async def load(self) -> Ledger:
        """Everything, linearizably. Raises PortError."""
        names = (keys.DECISIONS_HEAD, DECISIONS_MEMORY, keys.GENERATION, keys.CONFIG_HEAD, keys.AUDIT_HEAD)
        found = await together(self._store.get(name) for name in names)
        head_kv, memory_kv, generation_kv, config_kv, _ = (record for record, _ in found)
        # After the audit head: what is on the shelves is then at least as new as its revision says.
        overrides = Shelf(keys.OVERRIDES, Override, kept=MAX_OVERRIDES)
        rollouts = Shelf(keys.ROLLOUTS, Rollout, kept=MAX_ROLLOUTS)
        await together((overrides.list(self._store), rollouts.list(self._store)))
        head = read(Head, _value(head_kv), what=keys.DECISIONS_HEAD)
        refs = head.routes if head is not None else {}
        raw = await self._blobs.read_all(sha for _, sha in refs.values())
        texts = {route: raw[sha] for route, (_, sha) in sorted(refs.items()) if sha in raw}
        documents = {
            route: document
            for route, text in texts.items()
            if (document := read(Decision, text, what=f"document of {route}")) is not None
        }
        config, config_raw, config_sha = await self._config(config_kv)
        memory, memory_sha = await self._memory(memory_kv)
        return Ledger(
            in_force=InForce(
                head=head,
                head_raw=head_kv.value if head is not None and head_kv is not None else b"",
                head_sha=sha256_hex(head_kv.value) if head is not None and head_kv is not None else "",
                documents=texts,
                config=config,
                config_raw=config_raw,
                config_sha=config_sha,
                overrides=overrides.items,
                rollouts=rollouts.items,
            ),
            documents=documents,
            memory=memory,
            memory_sha=memory_sha,
            generation=_number(generation_kv),
            revisions={
                name: 0 if record is None else record.mod_revision
                for name, (record, _) in zip(names, found, strict=True)
            },
            damaged=(head is None and head_kv is not None) or len(documents) < len(refs),
        )

    async def commit(
        self, ledger: Ledger, proposal: Proposal, *, term: Tenure, at: datetime, traceparent: str | None
    ) -> tuple[Ledger, LogEntry]:
        """Make `proposal` the head; `at` and `traceparent` go into the log entry.

        Raises Fenced, Conflict, or PortError: the ledger must then be loaded again. ValueError is a
        proposal whose head and documents do not belong together."""
        head = proposal.head
        texts = {route: document.canonical() for route, document in proposal.documents.items()}
        for route, text in texts.items():
            stated = head.routes.get(route)
            if stated is not None and stated[1] != sha256_hex(text):
                raise ValueError(f"the head names another document for route {route}")
        memory_raw = proposal.memory.canonical()
        blobs = {sha256_hex(text): text for text in texts.values()}
        memory_value, memory_sha = memory_raw, ""
        if len(memory_raw) > INLINE_MEMORY_BYTES:
            memory_sha = sha256_hex(memory_raw)
            blobs[memory_sha] = memory_raw
            memory_value = canonical_json({"blob": memory_sha})
        await self._blobs.write(fence(term), blobs)
        head_raw = head.canonical()
        entry = LogEntry(
            generation=head.generation,
            seq=head.seq,
            config_version=head.config_version,
            head_sha=sha256_hex(head_raw),
            at=at,
            term=term,
            traceparent=traceparent,
            **_changes(proposal, texts),
        )
        revision = await self._write_head(ledger, term, head_raw, memory_value, entry)
        documents = {**ledger.documents, **proposal.documents}
        return replace(
            ledger,
            in_force=replace(
                ledger.in_force,
                head=head,
                head_raw=head_raw,
                head_sha=entry.head_sha,
                documents={r: texts.get(r) or ledger.in_force.documents[r] for r in sorted(head.routes)},
            ),
            documents={route: documents[route] for route in sorted(head.routes)},
            memory=proposal.memory,
            memory_sha=memory_sha,
            revisions={**ledger.revisions, keys.DECISIONS_HEAD: revision, DECISIONS_MEMORY: revision},
            damaged=False,
        ), entry

    async def set_generation(self, ledger: Ledger, generation: int, *, term: Tenure) -> Ledger:
        """Raises Fenced, Conflict, or PortError: read again before deciding."""
        result = await self._store.commit(
            [*fence(term), *ledger.based_on(keys.GENERATION)],
            [Put(keys.GENERATION, str(generation).encode())],
        )
        if not result.succeeded:
            raise await self._refusal(term)
        revisions = {**ledger.revisions, keys.GENERATION: result.revision}
        return replace(ledger, generation=generation, revisions=revisions, damaged=False)

    async def put_config(
        self, ledger: Ledger, fleet: Fleet, *, version: int, author: str, reason: str, term: Tenure
    ) -> Ledger:
        """Put `fleet` in force under `version`. Raises Fenced, Conflict, or PortError."""
        config = FleetConfig(config_version=version, fleet=fleet)
        raw = canonical_json(config.model_dump(mode="json"))
        sha = sha256_hex(raw)
        await self._blobs.write(fence(term), {sha: raw})
        value = ConfigHead(
            config_version=version, sha=sha, author=author, at=self._clock.now(), reason=reason
        ).canonical()
        result = await self._store.commit(
            [*fence(term), *ledger.based_on(keys.CONFIG_HEAD)],
            [Put(keys.CONFIG_HEAD, value), Put(keys.config_version(version), value)],
        )
        if not result.succeeded:
            raise await self._refusal(term)
        return replace(
            ledger,
            in_force=replace(ledger.in_force, config=config, config_raw=raw, config_sha=sha),
            revisions={**ledger.revisions, keys.CONFIG_HEAD: result.revision},
        )

    async def _write_head(
        self, ledger: Ledger, term: Tenure, head_raw: bytes, memory: bytes, entry: LogEntry
    ) -> int:
        """The small transaction; returns its revision."""
        compares = [
            *fence(term),
            *ledger.based_on(
                keys.DECISIONS_HEAD, DECISIONS_MEMORY, keys.GENERATION, keys.CONFIG_HEAD, keys.AUDIT_HEAD
            ),
        ]
        puts = [
            Put(keys.DECISIONS_HEAD, head_raw),
            Put(DECISIONS_MEMORY, memory),
            Put(keys.log_entry(entry.generation, entry.seq), entry.canonical()),
        ]
        try:
            result = await self._store.commit(compares, puts)
        except Unavailable as error:
            found, _ = await self._store.get(keys.DECISIONS_HEAD)
            mine = found is not None and found.value == head_raw
            self._metrics.read_backs.labels(mine).inc()
            if found is not None and mine:
                log.warning("the commit's reply was lost; it is in force", version=str(entry.version))
                return found.mod_revision
            raise Conflict("the commit's reply was lost, and the head is not it") from error
        if not result.succeeded:
            raise await self._refusal(term)
        return result.revision

    async def _refusal(self, term: Tenure) -> Exception:
        """Why a transaction's conditions did not hold."""
        record, _ = await self._store.get(keys.LEADER)
        if record is None or record.lease != term.lease:
            return Fenced("another leads")
        return Conflict("a record has changed since it was read")

    async def _config(self, record: KeyValue | None) -> tuple[FleetConfig | None, bytes, str]:
        head = read(ConfigHead, _value(record), what=keys.CONFIG_HEAD)
        if head is None:
            return None, b"", ""
        try:
            raw = await self._blobs.read(head.sha)
        except Missing:
            log.warning("the configuration in force is missing in etcd", sha=head.sha)
            return None, b"", ""
        config = read(FleetConfig, raw, what=keys.CONFIG_HEAD)
        return (config, raw, head.sha) if config is not None else (None, b"", "")

    async def _memory(self, record: KeyValue | None) -> tuple[Memory, str]:
        if record is None:
            return Memory(), ""
        raw, sha = record.value, ""
        if raw.startswith(b'{"blob":"'):
            sha = raw[len(b'{"blob":"') : -len(b'"}')].decode(errors="replace")
            try:
                raw = await self._blobs.read(sha)
            except Missing:
                log.warning("the decision memory is missing in etcd", sha=sha)
                return Memory(), ""
        return read(Memory, raw, what=DECISIONS_MEMORY) or Memory(), sha


def _changes(proposal: Proposal, texts: Mapping[str, bytes]) -> dict[str, Any]:
    """What a log entry says of the documents, bounded."""
    documents = [proposal.documents[route] for route in sorted(proposal.documents)]
    reasons: dict[bytes, Reason] = {}
    for document in documents:
        for reason in document.reasons:
            if len(reasons) < MAX_LOGGED_REASONS:
                reasons.setdefault(reason.canonical(), reason)
    named = documents[:MAX_LOGGED_CHANGES]
    return {
        "changed": tuple((document.route, sha256_hex(texts[document.route])) for document in named),
        "changed_count": len(documents),
        "removed": tuple(document.route for document in named if document.removed),
        "reasons": tuple(reasons.values()),
    }


def _value(record: KeyValue | None) -> bytes | None:
    return None if record is None else record.value


def _number(record: KeyValue | None) -> int:
    if record is None or not record.value.isdigit():
        return 0
    return int(record.value)
