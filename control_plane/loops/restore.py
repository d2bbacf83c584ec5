"""Putting a backup back.

order       Proven whole first, before anything is written. Then blobs, which nobody names yet; then
            histories, by which nobody acts; then one transaction with everything that is acted by:
            generation, configuration, orders, head. A crash before it leaves a longer history and
            nothing else, and the restore is simply made again.
invariant   That transaction holds only onto the audit number, generation and configuration it was
            planned from, as every operator's write does; the leader's next commit fails on it, reads
            again, and decides anew under the new generation, which no edge refuses.
bound       It must fit etcd's 128 operations: more orders in force than that are refused.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from control_plane.caller import asked_by
from control_plane.core.backup import chained, decode
from control_plane.core.restoration import Plan, Standing, planned
from control_plane.loops.blobs import TXN_OPS, Blobs, batches
from control_plane.loops.pulse import together
from control_plane.loops.reading import read
from control_plane.loops.seen import Seen
from control_plane.ports import Busy, ConfigHead, InUse, Restored, RestoreOrder, TooLarge
from shared import keys
from shared.clock import Clock
from shared.log import get_logger
from shared.ports import Compare, Coordination, Delete, KeyValue, Put, Unavailable
from shared.vocabulary.audit import AuditEntry
from shared.vocabulary.base import canonical_json, sha256_hex
from shared.vocabulary.config import FleetConfig
from shared.vocabulary.decision import Head

log = get_logger(__name__)

ATTEMPTS = 5
INLINE_BYTES = 1024 * 1024
"""A smaller backup is proven within milliseconds."""
RESTORE = "backup.restore"
"""The action of its audit entry."""
_COMPARED = (keys.AUDIT_HEAD, keys.GENERATION, keys.CONFIG_HEAD)


@dataclass(frozen=True, slots=True)
class _Ground:
    """What stands, with the conditions that it still does."""

    standing: Standing
    compares: tuple[Compare, ...]


class Restorer:
    """`seen` is what this replica heard from edges and leaders."""

    def __init__(self, store: Coordination, blobs: Blobs, *, seen: Seen, replica: str, clock: Clock) -> None:
        self._store = store
        self._blobs = blobs
        self._seen = seen
        self._replica = replica
        self._clock = clock

    async def restore(self, raw: bytes, order: RestoreOrder) -> Restored:
        """As `control_plane.ports.Archive.restore`."""
        # Hashing a large one would hold up the loop that renews the leader's lease.
        proving = asyncio.to_thread(_proven, raw) if len(raw) > INLINE_BYTES else None
        records, version = await proving if proving is not None else _proven(raw)
        doubtful: list[tuple[AuditEntry, Restored]] = []
        for _ in range(ATTEMPTS):
            ground = await self._ground()
            for entry, done in doubtful:
                if ground.standing.audit.get(keys.audit(entry.n)) == entry.canonical():
                    return done
            if ground.standing.audited and not order.forced:
                made = ground.standing.audited
                raise InUse(
                    f"operators have made {made} change{'s' if made != 1 else ''} here, which would be put "
                    "aside, unless forced"
                )
            plan = planned(records, ground.standing, now=self._clock.now())
            entry = self._entry(plan, order, version)
            done = Restored(
                generation=plan.generation,
                config_version=plan.config_version,
                version=version,
                records=len(records),
                overrides=sum(key.startswith(keys.OVERRIDES) for key in plan.in_force),
                rollouts=sum(key.startswith(keys.ROLLOUTS) for key in plan.in_force),
                audit=entry.n,
            )
            try:
                if await self._carry_out(plan, ground, entry):
                    log.warning("restored from a backup", **entry.values, author=entry.author)
                    return done
            except Unavailable as error:
                log.warning("the reply to a restore was lost", error=repr(error))
                doubtful.append((entry, done))
        if doubtful:
            raise Unavailable("the replies to a restore were lost: GET /v1/audit tells whether it was done")
        raise Busy("other changes were made each time this one was tried: try again")

    async def _ground(self) -> _Ground:
        found = await together(self._store.get(key) for key in (*_COMPARED, keys.DECISIONS_HEAD))
        records = dict(zip((*_COMPARED, keys.DECISIONS_HEAD), (record for record, _ in found), strict=True))
        listed = await together(
            self._store.list(prefix) for prefix in (keys.AUDIT, keys.DRILLS, keys.OVERRIDES, keys.ROLLOUTS)
        )
        audit, drills, *orders = (snapshot.items for snapshot in listed)
        head = read(Head, _value(records[keys.DECISIONS_HEAD]), what=keys.DECISIONS_HEAD)
        config = read(ConfigHead, _value(records[keys.CONFIG_HEAD]), what=keys.CONFIG_HEAD)
        standing = Standing(
            generation=max(
                _number(records[keys.GENERATION]),
                head.generation if head is not None else 0,
                self._seen.version.generation,
                self._seen.epoch[0],
            ),
            config_version=max(config.config_version if config is not None else 0, self._seen.config_version),
            audit={item.key: item.value for item in audit},
            audited=_number(records[keys.AUDIT_HEAD]),
            orders=frozenset(item.key for items in orders for item in items),
            decided=head is not None,
            drills=frozenset(item.key for item in drills),
        )
        compares = (
            Compare(key, "mod", record.mod_revision if (record := records[key]) is not None else 0)
            for key in _COMPARED
        )
        return _Ground(standing, tuple(compares))

    async def _carry_out(self, plan: Plan, ground: _Ground, entry: AuditEntry) -> bool:
        """False when somebody else wrote meanwhile. Raises TooLarge, PortError."""
        config = FleetConfig(config_version=plan.config_version, fleet=plan.fleet)
        raw = canonical_json(config.model_dump(mode="json"))
        last = _last(plan, sha256_hex(raw), entry)
        if len(last) > TXN_OPS:
            raise TooLarge(
                f"{len(last)} records would have to be put in force at once, and etcd takes {TXN_OPS}: "
                "end overrides or rollouts, and take another backup"
            )
        await self._blobs.write((), {**plan.blobs, sha256_hex(raw): raw})
        for batch in batches([Put(key, value) for key, value in plan.histories.items()]):
            if not (await self._store.commit(ground.compares, batch)).succeeded:
                return False
        return (await self._store.commit(ground.compares, last)).succeeded

    def _entry(self, plan: Plan, order: RestoreOrder, version: str) -> AuditEntry:
        values = {
            "backup": version,
            "generation": plan.generation,
            "config_version": plan.config_version,
            "forced": order.forced,
            "blobs": len(plan.blobs),
            "histories": len(plan.histories),
        }
        return AuditEntry(
            n=plan.audited + 1,
            at=self._clock.now(),
            author=order.author,
            by=asked_by(),
            action=RESTORE,
            subject=f"backup of {version}",
            reason=order.reason,
            values=values,
            replica=self._replica,
        )


def _proven(raw: bytes) -> tuple[Mapping[str, bytes], str]:
    """The records, and the version they lead up to. Raises Damaged."""
    backups = decode(raw, name="the backup")
    return chained(backups), backups[-1].manifest.version


def _last(plan: Plan, sha: str, entry: AuditEntry) -> list[Put | Delete]:
    """The one transaction by which it takes effect."""
    head = ConfigHead(
        config_version=plan.config_version,
        sha=sha,
        author=entry.author,
        at=entry.at,
        reason=f"restored from the {entry.subject}: {entry.reason}",
    ).canonical()
    puts: Mapping[str, bytes] = {
        **plan.in_force,
        keys.GENERATION: str(plan.generation).encode(),
        keys.CONFIG_HEAD: head,
        keys.config_version(plan.config_version): head,
        keys.audit(entry.n): entry.canonical(),
        keys.AUDIT_HEAD: str(entry.n).encode(),
    }
    return [*(Delete(key) for key in plan.deletes), *(Put(key, value) for key, value in puts.items())]


def _value(record: KeyValue | None) -> bytes | None:
    return None if record is None else record.value


def _number(record: KeyValue | None) -> int:
    return int(record.value) if record is not None and record.value.isdigit() else 0
