"""What etcd may forget: old log and audit entries and configurations, blobs that nothing names, history before the
last revisions.

Mark and sweep by the leader, every write under its fence. A blob goes only when two sweeps in a row
found it unnamed, so one that is written just before the record that names it is never taken away.
"""

import asyncio
from collections.abc import Iterable, Sequence

from control_plane.loops.blobs import TXN_OPS, deletions
from control_plane.loops.drill_records import report_pages
from control_plane.loops.lead import Lead
from control_plane.loops.ledger import Ledger, Records, fence
from control_plane.loops.mirror import LOG_KEPT
from control_plane.loops.reading import read
from control_plane.loops.versions import VERSIONS_KEPT, kept_versions
from control_plane.metrics import Metrics
from control_plane.ports import LogEntry, Tenure
from shared import keys
from shared.clock import Clock
from shared.log import get_logger
from shared.ports import Coordination, Delete, KeyValue, PortError

log = get_logger(__name__)

LOOK_S = 60.0
SWEEP_S = 3_600.0
LOG_SLACK = 200
"""The log is trimmed when it is this much too long."""
REVISIONS_KEPT = 10_000
AUDIT_KEPT = 10_000
"""Entries, of less than 1 KiB as a rule; backups have the older ones."""
MAX_DELETED = 20_000
"""Keys one sweep removes at most; the next takes the rest."""


class Collector:
    """`run` is its loop; it works only while this replica leads."""

    def __init__(
        self,
        store: Coordination,
        records: Records,
        *,
        lead: Lead,
        clock: Clock,
        metrics: Metrics,
        sweep_s: float = SWEEP_S,
    ) -> None:
        self._store = store
        self._records = records
        self._lead = lead
        self._clock = clock
        self._metrics = metrics
        self._sweep_s = sweep_s
        self._unnamed: set[str] = set()
        self._swept_at = clock.monotonic()
        self._compacted = 0

    async def run(self) -> None:
        """Look once a minute; sweep when there is something to trim, or an hour has passed."""
        while True:
            await asyncio.sleep(LOOK_S)
            term = self._lead.term
            if term is None:
                self._unnamed = set()
                continue
            try:
                await self.collect(term)
            except PortError as error:
                log.info("etcd was not tidied", error=repr(error))

    async def collect(self, term: Tenure) -> None:
        """One look. Raises PortError."""
        logged = await self._store.list(keys.DECISIONS_LOG)
        surplus = len(logged.items) - LOG_KEPT
        due = self._clock.monotonic() - self._swept_at >= self._sweep_s
        await self._trim(term, keys.CONFIG_VERSIONS, VERSIONS_KEPT, "versions")
        await self._trim(term, keys.AUDIT, AUDIT_KEPT, "audit")
        if surplus >= LOG_SLACK or due:
            self._swept_at = self._clock.monotonic()
            old = logged.items[: max(0, surplus)]
            await self._delete(term, [Delete(item.key) for item in old], "log")
            await self._sweep(term, logged.items[max(0, surplus) :])
        target = logged.revision - REVISIONS_KEPT
        if target - self._compacted > REVISIONS_KEPT // 10 and self._lead.holds(term):
            await self._store.compact(target)
            self._compacted = target

    async def _trim(self, term: Tenure, prefix: str, kept: int, what: str) -> None:
        """Keep the last `kept` records: the keys are in the order of their making."""
        found = await self._store.list(prefix)
        old = found.items[: max(0, len(found.items) - kept)]
        await self._delete(term, [Delete(item.key) for item in old], what)

    async def _sweep(self, term: Tenure, entries: Sequence[KeyValue]) -> None:
        blobs = await self._store.list(keys.BLOBS)
        named = _named(await self._records.load(), entries)
        named |= {head.sha for head in await kept_versions(self._store)}
        named |= report_pages((await self._store.list(keys.DRILLS)).items)
        present = {item.key.removeprefix(keys.BLOBS).split("/")[0] for item in blobs.items}
        unnamed = present - named
        doomed = sorted(unnamed & self._unnamed)
        await self._delete(term, [key for sha in doomed for key in deletions(sha)], "blobs")
        self._unnamed = unnamed - set(doomed)

    async def _delete(self, term: Tenure, deletes: Sequence[Delete], what: str) -> None:
        bounded = deletes[:MAX_DELETED]
        for start in range(0, len(bounded), TXN_OPS):
            portion = bounded[start : start + TXN_OPS]
            if not self._lead.holds(term):
                return
            result = await self._store.commit(fence(term), portion)
            if not result.succeeded:
                return
            self._metrics.collected.labels(what).inc(len(portion))


def _named(ledger: Ledger, entries: Iterable[KeyValue]) -> set[str]:
    """Every blob that a record still points to."""
    force = ledger.in_force
    named = {sha for _, sha in force.head.routes.values()} if force.head is not None else set()
    named |= {force.config_sha, ledger.memory_sha}
    for item in entries:
        entry = read(LogEntry, item.value, what=item.key)
        named.update(sha for _, sha in (entry.changed if entry is not None else ()))
    return named
