"""Backups: everything under the prefix that is worth keeping, read from etcd and given out as lines.

What is replaced in place is read in one go between two looks at the audit number, so that a backup holds
no half of an operator's write; the decisions are one reading anyway. Blobs follow one at a time, as
they never change. What lives by a lease (the leader key, the claim of a drill) or proves liveness (the Beat) is left out.
"""

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass

from control_plane.core.backup import HISTORIES, Manifest, Writer, essential_blobs
from control_plane.loops.blobs import Blobs, Missing
from control_plane.loops.drill_records import report_pages
from control_plane.loops.pulse import together
from control_plane.loops.reading import read
from control_plane.loops.restore import Restorer
from control_plane.ports import ConfigHead, LogEntry, NotKept, Restored, RestoreOrder
from shared import keys
from shared.clock import Clock
from shared.log import get_logger
from shared.ports import Coordination, KeyValue, Unavailable
from shared.vocabulary.base import NO_VERSION, Version, sha256_hex
from shared.vocabulary.decision import Head

log = get_logger(__name__)

PREFIXES = ("decisions/", "config/", keys.OVERRIDES, keys.ROLLOUTS, "drills/", keys.GENERATION, "audit")
"""`audit` is the entries and their last number. Blobs are read by the names that these give."""
ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class _Base:
    """The commit that an incremental backup goes on from."""

    version: Version
    head_sha: str
    revision: int


class Backups:
    """Implements `control_plane.ports.Archive`."""

    def __init__(self, store: Coordination, restorer: Restorer, *, replica: str, clock: Clock) -> None:
        self._store = store
        self._restorer = restorer
        self._replica = replica
        self._clock = clock

    async def backup(self, since: Version | None) -> AsyncGenerator[bytes, None]:
        """As `Archive.backup`."""
        found = await self._settled()
        base = _base(found, since) if since is not None else None
        kept = {
            key: item.value
            for key, item in found.items()
            if base is None or not key.startswith(HISTORIES) or item.mod_revision > base.revision
        }
        told = base.revision if base is not None else 0
        pages = report_pages(item for item in found.values() if item.mod_revision > told)
        blobs = sorted(pages | set(_blobs(kept, found, base)))
        return self._lines(self._manifest(found, base), kept, blobs)

    async def restore(self, raw: bytes, order: RestoreOrder) -> Restored:
        """As `Archive.restore`."""
        return await self._restorer.restore(raw, order)

    async def _settled(self) -> Mapping[str, KeyValue]:
        """All records but blobs, without an operator's write in between. Raises Unavailable."""
        for _ in range(ATTEMPTS):
            before, _ = await self._store.get(keys.AUDIT_HEAD)
            listed = await together(self._store.list(prefix) for prefix in PREFIXES)
            found = {item.key: item for snapshot in listed for item in snapshot.items}
            found.pop(keys.DRILL_ACTIVE, None)
            after, _ = await self._store.get(keys.AUDIT_HEAD)
            if before == after:
                return dict(sorted(found.items()))
        raise Unavailable("operators wrote each time it was read: try again")

    def _manifest(self, found: Mapping[str, KeyValue], base: _Base | None) -> Manifest:
        raw = _value(found, keys.DECISIONS_HEAD)
        head = read(Head, raw, what=keys.DECISIONS_HEAD)
        config = read(ConfigHead, _value(found, keys.CONFIG_HEAD), what=keys.CONFIG_HEAD)
        generation = _value(found, keys.GENERATION) or b""
        return Manifest(
            at=self._clock.now(),
            replica=self._replica,
            version=str(head.version if head is not None else NO_VERSION),
            head_sha=sha256_hex(raw) if head is not None and raw is not None else None,
            generation=int(generation) if generation.isdigit() else 0,
            config_version=config.config_version if config is not None else 0,
            since=str(base.version) if base is not None else None,
            since_sha=base.head_sha if base is not None else None,
        )

    async def _lines(
        self, manifest: Manifest, records: Mapping[str, bytes], blobs: Sequence[str]
    ) -> AsyncGenerator[bytes, None]:
        essential = essential_blobs(records)
        # Not through the replica's own cache, which a whole history would empty of what is in use.
        source = Blobs(self._store, cache_bytes=0)
        writer = Writer(manifest)
        yield writer.first
        for sha in blobs:
            try:
                yield writer.record(keys.blob(sha), await source.read(sha))
            except Missing:
                if sha in essential:
                    log.exception("no backup: etcd lacks a blob that is in force or kept", sha=sha)
                    raise
        for key, value in records.items():
            yield writer.record(key, value)
        yield writer.last()


def _base(found: Mapping[str, KeyValue], since: Version) -> _Base:
    """Raises NotKept."""
    item = found.get(keys.log_entry(since.generation, since.seq))
    entry = read(LogEntry, item.value if item is not None else None, what=f"log entry of {since}")
    if item is None or entry is None:
        raise NotKept(f"commit {since} is not kept: take a full backup")
    return _Base(since, entry.head_sha, item.mod_revision)


def _blobs(kept: Mapping[str, bytes], found: Mapping[str, KeyValue], base: _Base | None) -> Sequence[str]:
    """What the kept records name, without what the base has: the documents and the configuration that
    have been in force since before it."""
    named = essential_blobs(kept)
    for key, value in kept.items():
        if key.startswith(keys.DECISIONS_LOG):
            entry = read(LogEntry, value, what=key)
            named.update(sha for _, sha in (entry.changed if entry is not None else ()))
    if base is not None:
        head = read(Head, kept.get(keys.DECISIONS_HEAD), what=keys.DECISIONS_HEAD)
        if head is not None:
            named -= {sha for seq, sha in head.routes.values() if (head.generation, seq) <= base.version}
        config = read(ConfigHead, kept.get(keys.CONFIG_HEAD), what=keys.CONFIG_HEAD)
        if config is not None:
            key = keys.config_version(config.config_version)
            if key in found and key not in kept:
                named.discard(config.sha)
    return sorted(named)


def _value(found: Mapping[str, KeyValue], key: str) -> bytes | None:
    return found[key].value if key in found else None
