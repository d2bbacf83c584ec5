"""Operators' writes: on any replica, one after another, each on record.

invariant   Every write is one transaction that holds only onto the audit number it was prepared from.
            So two replicas can never each carry out what would have been refused after the other, and
            the leader, which compares the same number, decides on all of them or reads again.
order       blobs first, under their hashes: a crash leaves blobs that nobody names. A write that races
            a sweep of the collector is safe: a sweep deletes only what was unnamed an hour ago too.
lost reply  the next stand tells: its audit has this very entry, or it has not happened so far. It may
            still be under way then, but it and what is prepared anew compare the same number, so that
            one of the two holds at most. An entry is told from another's by its bytes, which carry the
            replica and the time to a microsecond.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from control_plane.caller import asked_by
from control_plane.loops.blobs import Blobs
from control_plane.loops.pulse import together
from control_plane.loops.reading import read
from control_plane.loops.shelf import Shelf
from control_plane.ports import Busy, ConfigHead
from shared import keys
from shared.clock import Clock
from shared.log import get_logger
from shared.ports import Compare, Coordination, Delete, KeyValue, Put, Unavailable
from shared.vocabulary.audit import AuditEntry
from shared.vocabulary.config import FleetConfig
from shared.vocabulary.override import Override
from shared.vocabulary.rollout import Rollout

log = get_logger(__name__)

MAX_OVERRIDES = 1_000
MAX_ROLLOUTS = 200
ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class Stand:
    """What a write is prepared from, read linearizably."""

    config: FleetConfig | None
    config_head: ConfigHead | None
    config_raw: bytes
    overrides: tuple[Override, ...]
    rollouts: tuple[Rollout, ...]
    audited: int
    """The number of the last audit entry."""
    revisions: Mapping[str, int]
    """mod revision of `audited` and `config/head`; 0 when absent."""
    records: Mapping[str, KeyValue] = field(default_factory=dict)
    """Of the keys that were asked for besides, those that there are."""


@dataclass(frozen=True, slots=True)
class Write:
    """What is to be done, and what is to be said of it."""

    action: str
    subject: str
    values: Mapping[str, Any]
    puts: Mapping[str, bytes] = field(default_factory=dict)
    deletes: tuple[str, ...] = ()
    blobs: Mapping[str, bytes] = field(default_factory=dict)
    compares: tuple[Compare, ...] = ()
    """Beyond the audit head's: a leader's fence, the config head it replaces."""
    leases: Mapping[str, int] = field(default_factory=dict)
    """Which lease a key of `puts` is bound to; none where it is not named."""


Prepare = Callable[[Stand], Write]
"""From what stands to what is to be done. Raises what the caller understands when it must not be."""


class Operations:
    """Reads the stand, writes onto it."""

    def __init__(self, store: Coordination, blobs: Blobs, *, replica: str, clock: Clock) -> None:
        self._store = store
        self._blobs = blobs
        self._replica = replica
        self._clock = clock

    async def stand(self, reading: Sequence[str] = ()) -> Stand:
        """Everything an operator's write may rest on, the keys `reading` included. Raises PortError."""
        # The audit head first: what is read after it can only be newer, which the write then notices.
        audit, _ = await self._store.get(keys.AUDIT_HEAD)
        overrides = Shelf(keys.OVERRIDES, Override, kept=MAX_OVERRIDES)
        rollouts = Shelf(keys.ROLLOUTS, Rollout, kept=MAX_ROLLOUTS)
        await together((overrides.list(self._store), rollouts.list(self._store)))
        found = await together(self._store.get(key) for key in reading)
        record, _ = await self._store.get(keys.CONFIG_HEAD)
        head = read(ConfigHead, record.value if record else None, what=keys.CONFIG_HEAD)
        raw = await self._blobs.read(head.sha) if head is not None else b""
        return Stand(
            config=read(FleetConfig, raw or None, what=keys.CONFIG_HEAD),
            config_head=head,
            config_raw=raw,
            overrides=overrides.items,
            rollouts=rollouts.items,
            audited=int(audit.value) if audit is not None and audit.value.isdigit() else 0,
            revisions={
                keys.AUDIT_HEAD: audit.mod_revision if audit is not None else 0,
                keys.CONFIG_HEAD: record.mod_revision if record is not None else 0,
            },
            records={item.key: item for item, _ in found if item is not None},
        )

    async def write(
        self, *, author: str, reason: str, prepare: Prepare, reading: Sequence[str] = ()
    ) -> AuditEntry:
        """Carry out what `prepare` says, on what stands then (with the keys `reading`); it is asked again
        when others were faster. What is written without an audit entry must be compared by itself.

        Raises Busy, PortError, blobs.Missing, and whatever `prepare` raises. After `shared.ports.Unavailable`
        nobody here knows whether it was done: the audit tells. Asked again on the same audit number,
        `prepare` should say the same: the first answer may turn out to have been written.
        """
        doubtful: list[AuditEntry] = []
        for _ in range(ATTEMPTS):
            stand = await self.stand(reading)
            if (done := await self._found(doubtful, stand)) is not None:
                return done
            try:
                planned = prepare(stand)
            except Exception:
                # One of ours that was under way may have landed while the stand was read: half of it seen.
                if doubtful and await self._moved_on(stand):
                    continue
                raise
            entry = AuditEntry(
                n=stand.audited + 1,
                at=self._clock.now(),
                author=author,
                by=asked_by(),
                action=planned.action,
                subject=planned.subject,
                reason=reason,
                values=planned.values,
                replica=self._replica,
            )
            try:
                if await self._commit(stand, planned, entry):
                    log.info(
                        "changed by an operator",
                        action=entry.action,
                        subject=entry.subject,
                        author=author,
                        by=entry.by,
                    )
                    return entry
            except Unavailable as error:
                log.warning("the reply to an operator's write was lost", error=repr(error))
                doubtful.append(entry)
        stand = await self.stand()
        if (done := await self._found(doubtful, stand)) is not None:
            return done
        if any(entry.n > stand.audited for entry in doubtful):
            raise Unavailable("etcd's replies were lost each time: the audit will tell whether it was done")
        raise Busy("other changes were made each time this one was tried: try again")

    async def _found(self, doubtful: Sequence[AuditEntry], stand: Stand) -> AuditEntry | None:
        """The one of `doubtful` that is on record on `stand`."""
        for entry in doubtful:
            if entry.n <= stand.audited:
                record, _ = await self._store.get(keys.audit(entry.n))
                if record is not None and record.value == entry.canonical():
                    return entry
        return None

    async def _moved_on(self, stand: Stand) -> bool:
        """Whether something was written since the reading of `stand` began."""
        audit, _ = await self._store.get(keys.AUDIT_HEAD)
        return (audit.mod_revision if audit is not None else 0) != stand.revisions[keys.AUDIT_HEAD]

    async def _commit(self, stand: Stand, planned: Write, entry: AuditEntry) -> bool:
        await self._blobs.write((), planned.blobs)
        compares = [
            Compare(keys.AUDIT_HEAD, "mod", stand.revisions[keys.AUDIT_HEAD]),
            *planned.compares,
        ]
        then: Sequence[Put | Delete] = [
            *(Delete(key) for key in planned.deletes),
            *(Put(key, value, planned.leases.get(key, 0)) for key, value in planned.puts.items()),
            Put(keys.audit(entry.n), entry.canonical()),
            Put(keys.AUDIT_HEAD, str(entry.n).encode()),
        ]
        return (await self._store.commit(compares, then)).succeeded
