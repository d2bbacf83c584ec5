"""Every replica's copy of what etcd holds: list, then watch, for ever; leader or not.

What leaves here is always whole: `in_force` changes only when every document of a head and its
configuration are at hand. A watch can hang without a sign of life (etcd-io/etcd#8980) and etcd can
come back older than it was, so the leader's Beat key is the proof of life: when it has been silent
for three Beats, everything is listed again, whoever leads.
"""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from control_plane.loops.blobs import Blobs, Missing
from control_plane.loops.drill_shelf import DrillShelf
from control_plane.loops.operations import MAX_OVERRIDES, MAX_ROLLOUTS
from control_plane.loops.pulse import closing, together
from control_plane.loops.reading import read
from control_plane.loops.shelf import Shelf
from control_plane.metrics import Metrics
from control_plane.ports import ConfigHead, InForce, LeaderRecord, LogEntry
from shared import keys
from shared.backoff import Backoff
from shared.clock import Clock
from shared.log import get_logger
from shared.ports import Change, Coordination, PortError, WatchCompacted
from shared.vocabulary.audit import AuditEntry
from shared.vocabulary.base import Version, sha256_hex
from shared.vocabulary.config import FleetConfig
from shared.vocabulary.decision import Beat, Head
from shared.vocabulary.override import Override
from shared.vocabulary.rollout import Rollout

log = get_logger(__name__)

LOG_KEPT = 1_000
SILENT_BEATS = 3
AUDIT_KEPT = 1_000
SINGLES = (
    keys.LEADER,
    keys.BEAT,
    keys.GENERATION,
    keys.CONFIG_HEAD,
    keys.DECISIONS_HEAD,
    keys.AUDIT_HEAD,
)


@dataclass(frozen=True, slots=True)
class _Held:
    value: bytes | None
    mod_revision: int
    create_revision: int


_ABSENT = _Held(None, 0, 0)


class _Silent(Exception):
    """No Beat for too long: the watch may be dead."""


class Mirror:
    """`run` is its loop; everything else is read from memory. `on_change` is called after each change."""

    def __init__(
        self,
        store: Coordination,
        blobs: Blobs,
        *,
        clock: Clock,
        rng: random.Random,
        etcd_beat_s: float,
        metrics: Metrics,
        on_change: Callable[[], None],
    ) -> None:
        self._store = store
        self._blobs = blobs
        self._clock = clock
        self._rng = rng
        self._silence_s = SILENT_BEATS * etcd_beat_s
        self._metrics = metrics
        self._on_change = on_change
        self._singles: dict[str, _Held] = {}
        self._log: dict[str, LogEntry] = {}
        self._overrides = Shelf(keys.OVERRIDES, Override, kept=MAX_OVERRIDES)
        self._rollouts = Shelf(keys.ROLLOUTS, Rollout, kept=MAX_ROLLOUTS)
        self._audit = Shelf(keys.AUDIT, AuditEntry, kept=AUDIT_KEPT)
        self.drills = DrillShelf()
        """Nobody decides by them: their changes wake nobody but those who wait on their own pulse."""
        self._beat_at: float | None = None
        self._heard_at = 0.0
        self.in_force = InForce()
        self.leader: LeaderRecord | None = None
        self.beat: Beat | None = None
        """The last one that a standing leader wrote."""
        self._last_beat: Beat | None = None
        self._former_beat: Beat | None = None
        """The last one of the term before `_last_beat`'s."""
        self.listed = False
        """Whether etcd was read completely at least once."""
        self.following = False
        """Whether changes arrive at present, as far as this side can tell."""

    @property
    def beat_age_s(self) -> float | None:
        """Since a Beat of a standing leader arrived; None before the first."""
        return None if self._beat_at is None else max(0.0, self._clock.monotonic() - self._beat_at)

    @property
    def heard_age_s(self) -> float | None:
        """Since etcd last proved that it is followed: a listing, or a Beat; None before the first."""
        return max(0.0, self._clock.monotonic() - self._heard_at) if self.listed else None

    def live_beat(self) -> Beat | None:
        """The leader's last Beat while its term stands and it is not silent; it may make an edge FRESH."""
        age = self.beat_age_s
        if self.beat is None or age is None or age > self._silence_s:
            return None
        return self.beat if self.leader is not None and self.leader.epoch == self.beat.epoch else None

    def beat_before(self, epoch: int) -> Beat | None:
        """The last Beat of the term before `epoch`; None until one of `epoch` itself was seen, for only then is
        it known that nobody wrote another between."""
        last = self._last_beat
        return self._former_beat if last is not None and last.epoch == epoch else None

    def log(self) -> list[LogEntry]:
        """The last commits, newest first."""
        return [self._log[key] for key in sorted(self._log, reverse=True)[:LOG_KEPT]]

    def audit(self) -> list[AuditEntry]:
        """The last changes by operators, newest first."""
        return list(reversed(self._audit.items))

    def entry(self, version: Version) -> LogEntry | None:
        """The log entry of a commit, while it is kept."""
        return self._log.get(keys.log_entry(version.generation, version.seq))

    def revision_of(self, key: str) -> int:
        """The mod revision under which this replica knows one of the single keys; 0 when absent."""
        return self._singles.get(key, _ABSENT).mod_revision

    async def run(self) -> None:
        """List and watch until cancelled."""
        backoff = Backoff(base_s=0.1, cap_s=1.0, rng=self._rng)
        while True:
            reason = "ended"
            try:
                revision = await self._list()
                self._set_following(True)
                self._on_change()
                await self._follow(revision + 1)
            except _Silent:
                reason = "silent"
                backoff.reset()
            except WatchCompacted:
                reason = "compacted"
            except (PortError, Missing) as error:
                if self.following:
                    log.warning("etcd is not followed at present", error=repr(error))
                reason = "missing_blob" if isinstance(error, Missing) else "unavailable"
                self._set_following(False)
            self._metrics.relists.labels(reason).inc()
            if reason != "silent":
                await asyncio.sleep(backoff.next())

    async def _list(self) -> int:
        """Read everything; returns a revision from which watching misses nothing."""
        readings = await together(self._store.get(key) for key in SINGLES)
        logged = await self._store.list(keys.DECISIONS_LOG)
        listed = await together(
            (*(shelf.list(self._store) for shelf in self._shelves), self.drills.list(self._store))
        )
        self._singles = {
            key: _Held(record.value, record.mod_revision, record.create_revision)
            for key, (record, _) in zip(SINGLES, readings, strict=True)
            if record is not None
        }
        self._log = {}
        for item in logged.items[-LOG_KEPT:]:
            self._log_change(item.key, item.value)
        self._heard_at = self._clock.monotonic()
        self._read_leader()
        self._read_beat(arrived=False)
        await self._settle()
        self.listed = True
        return min(*(revision for _, revision in readings), logged.revision, *listed)

    @property
    def _shelves(self) -> tuple[Shelf[Any], ...]:
        return (self._overrides, self._rollouts, self._audit)

    async def _follow(self, from_revision: int) -> None:
        async with closing(self._store.watch("", from_revision=from_revision)) as batches:
            while True:
                remaining_s = self._heard_at + self._silence_s - self._clock.monotonic()
                try:
                    async with asyncio.timeout(remaining_s):
                        batch = await anext(batches, None)
                except TimeoutError:
                    raise _Silent from None
                if batch is None:
                    return
                dirty = [change.key for change in batch.changes if self._take(change)]
                if dirty:
                    await self._settle()
                    self._on_change()

    def _take(self, change: Change) -> bool:
        """Take one change; True when somebody may care."""
        key = change.key
        if key in SINGLES:
            # A listing may be newer than the watch that catches up with it.
            if change.mod_revision <= self._singles.get(key, _ABSENT).mod_revision:
                return False
            self._singles[key] = _Held(change.value, change.mod_revision, change.create_revision)
            if key == keys.LEADER:
                self._read_leader()
            elif key == keys.BEAT:
                self._read_beat(arrived=True)
            return True
        if key.startswith(keys.DECISIONS_LOG):
            self._log_change(key, change.value)
            return True
        if self.drills.take(change):
            return False
        for shelf in self._shelves:
            if shelf.take(change):
                return True
        if key.startswith(keys.BLOBS) and change.value is not None:
            self._blobs.remember(key.removeprefix(keys.BLOBS), change.value)
        return False

    def _read_leader(self) -> None:
        held = self._singles.get(keys.LEADER, _ABSENT)
        record = read(LeaderRecord, held.value, what=keys.LEADER)
        self.leader = record.model_copy(update={"epoch": held.create_revision}) if record else None

    def _read_beat(self, *, arrived: bool) -> None:
        """A Beat found by listing counts only while its leader stands: the key has no lease, so it
        outlives a control plane, and must not make anybody FRESH years later."""
        beat = read(Beat, self._singles.get(keys.BEAT, _ABSENT).value, what=keys.BEAT)
        if beat is None:
            return
        if self._last_beat is not None and beat.epoch != self._last_beat.epoch:
            self._former_beat = self._last_beat
        self._last_beat = beat
        stands = self.leader is not None and self.leader.epoch == beat.epoch
        if stands and (self.beat is None or beat.order > self.beat.order or arrived):
            self.beat = beat
            self._beat_at = self._heard_at = self._clock.monotonic()

    def _log_change(self, key: str, value: bytes | None) -> None:
        entry = read(LogEntry, value, what=key)
        if entry is None:
            self._log.pop(key, None)
            return
        self._log[key] = entry
        while len(self._log) > LOG_KEPT + 100:
            del self._log[min(self._log)]

    async def _settle(self) -> None:
        """Make `in_force` what the single keys say, once every blob it needs is here."""
        old = self.in_force
        head_raw = self._singles.get(keys.DECISIONS_HEAD, _ABSENT).value or b""
        config_head = read(
            ConfigHead, self._singles.get(keys.CONFIG_HEAD, _ABSENT).value, what=keys.CONFIG_HEAD
        )
        config_sha = config_head.sha if config_head is not None else ""
        orders = (self._overrides.items, self._rollouts.items)
        if head_raw == old.head_raw and config_sha == old.config_sha:
            if orders != (old.overrides, old.rollouts):
                self.in_force = replace(old, overrides=orders[0], rollouts=orders[1])
            return
        config, config_raw = old.config, old.config_raw
        if config_sha != old.config_sha:
            config_raw = await self._blobs.read(config_sha) if config_sha else b""
            config = read(FleetConfig, config_raw or None, what="config")
        head = read(Head, head_raw or None, what=keys.DECISIONS_HEAD)
        documents = await self._documents(head, old)
        self.in_force = InForce(
            head=head,
            head_raw=head_raw,
            head_sha=sha256_hex(head_raw) if head is not None else "",
            documents=documents,
            config=config,
            config_raw=config_raw,
            config_sha=config_sha,
            overrides=orders[0],
            rollouts=orders[1],
        )
        self._metrics.generation.set(self.in_force.version.generation)
        self._metrics.seq.set(self.in_force.version.seq)

    async def _documents(self, head: Head | None, old: InForce) -> dict[str, bytes]:
        if head is None:
            return {}
        known = {old.head.routes[route][1]: raw for route, raw in old.documents.items()} if old.head else {}
        wanted = {sha for _, sha in head.routes.values()}
        found = {**known, **await self._blobs.read_all(wanted - known.keys())}
        for route, (_, sha) in head.routes.items():
            if sha not in found:
                raise Missing(f"document of route {route}: {sha}")
        return {route: found[sha] for route, (_, sha) in sorted(head.routes.items())}

    def _set_following(self, following: bool) -> None:
        self.following = following
        self._metrics.etcd_synced.set(following)
