"""An etcd cluster in memory: `MemoryStore` is the servers, `client()` makes each client's handle."""

import asyncio
import random
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile
from typing import TypeVar

from shared.adapters.memory_link import SILENCE_S, Link, now, signalled
from shared.ports import (
    Change,
    Compare,
    Delete,
    KeyValue,
    Put,
    Refused,
    Snapshot,
    StoreHealth,
    TxnResult,
    Unavailable,
    WatchBatch,
    WatchCompacted,
)

KEPT_REVISIONS = 100_000
MAX_REQUEST_BYTES = 1_572_864
MAX_OPERATIONS = 128
CALL_S = 2.0
"""The deadline of every call."""

Result = TypeVar("Result")


@dataclass(slots=True)
class _State:
    """Everything that a snapshot keeps."""

    revision: int = 1
    compacted: int = 0
    keys: dict[str, KeyValue] = field(default_factory=dict)
    leases: dict[int, int] = field(default_factory=dict)
    """id -> TTL in seconds."""


class MemoryStore:
    """An etcd cluster. `up` False: no quorum, nothing is answered and no lease expires."""

    def __init__(self, *, rng: random.Random) -> None:
        self.rng = rng
        self.alarms: tuple[str, ...] = ()
        self.leader_member = "memory"
        self.changed = asyncio.Event()
        self.history: deque[tuple[int, tuple[Change, ...]]] = deque(maxlen=KEPT_REVISIONS)
        self.epoch = 0
        """Raised by `restore`; watches of an earlier one have ended."""
        self._state = _State()
        self._timers: dict[int, asyncio.TimerHandle] = {}
        self._up = True

    def client(self, name: str) -> "MemoryClient":
        """A handle for one process; `.link` is its connection."""
        return MemoryClient(self, name)

    @property
    def up(self) -> bool:
        """Whether a quorum lives. A new leader renews all leases, as etcd's does."""
        return self._up

    @up.setter
    def up(self, up: bool) -> None:
        self._up = up
        for lease in self._state.leases:
            self._stop(lease)
            if up:
                self._schedule(lease)

    def snapshot(self) -> _State:
        """What a backup would hold now."""
        state = self._state
        return replace(state, keys=dict(state.keys), leases=dict(state.leases))

    def restore(self, snapshot: _State | None = None) -> None:
        """Go back to `snapshot`, or to an empty store: revisions go backwards, watches end."""
        for lease in list(self._timers):
            self._stop(lease)
        old = snapshot or _State()
        self._state = replace(old, keys=dict(old.keys), leases=dict(old.leases))
        self._state.compacted = self._state.revision if snapshot else 0
        self.history.clear()
        self.epoch += 1
        for lease in self._state.leases:
            self._schedule(lease)
        self._wake()

    # What a member does with a request, all at once; the handles add the network.

    @property
    def revision(self) -> int:
        """Of the last write."""
        return self._state.revision

    @property
    def compacted(self) -> int:
        """History before it is gone."""
        return self._state.compacted

    def read(self, prefix: str, *, exact: bool = False) -> tuple[KeyValue, ...]:
        """Sorted by key."""
        keys = self._state.keys
        if exact:
            return (keys[prefix],) if prefix in keys else ()
        return tuple(keys[key] for key in sorted(keys) if key.startswith(prefix))

    def changes_after(self, revision: int, prefix: str) -> tuple[Change, ...]:
        """What happened to keys under `prefix` in later revisions, in order."""
        later = list(takewhile(lambda one: one[0] > revision, reversed(self.history)))
        return tuple(c for _, changes in reversed(later) for c in changes if c.key.startswith(prefix))

    def commit(self, compares: Sequence[Compare], then: Sequence[Put | Delete]) -> TxnResult:
        """One transaction. Raises Refused as etcd would."""
        puts = [operation for operation in then if isinstance(operation, Put)]
        if len(then) > MAX_OPERATIONS:
            raise Refused("INVALID_ARGUMENT: too many operations in txn request")
        if sum(len(put.key) + len(put.value) for put in puts) > MAX_REQUEST_BYTES:
            raise Refused("INVALID_ARGUMENT: request is too large")
        if len({put.key for put in puts}) < len(puts):
            raise Refused("INVALID_ARGUMENT: duplicate key given in txn request")
        if not all(self._holds(compare) for compare in compares):
            return TxnResult(succeeded=False, revision=self.revision)
        if any(put.lease and put.lease not in self._state.leases for put in puts):
            raise Refused("NOT_FOUND: requested lease not found")
        revision = self.revision + 1
        changes: list[Change] = []
        for operation in then:
            if isinstance(operation, Put):
                changes.append(self._put(operation, revision))
            else:
                doomed = self.read(operation.key, exact=not operation.prefix)
                changes += self._delete([item.key for item in doomed], revision)
        self._record(revision, changes)
        return TxnResult(succeeded=True, revision=self.revision)

    def compact(self, revision: int) -> None:
        """Forget history before `revision`."""
        if revision > self.revision:
            raise Refused("OUT_OF_RANGE: required revision is a future revision")
        self._state.compacted = max(self._state.compacted, revision)
        while self.history and self.history[0][0] < self.compacted:
            self.history.popleft()

    def grant(self, ttl_s: int) -> int:
        """A new lease."""
        lease = self.rng.getrandbits(62) + 1  # unique over restores too, as etcd's are
        self._state.leases[lease] = ttl_s
        self._schedule(lease)
        return lease

    def renew(self, lease: int) -> float:
        """Its TTL, 0 when it is gone."""
        if lease not in self._state.leases:
            return 0.0
        self._stop(lease)
        self._schedule(lease)
        return float(self._state.leases[lease])

    def expire(self, lease: int) -> None:
        """End a lease; its keys go in one revision."""
        self._stop(lease)
        if self._state.leases.pop(lease, None) is None:
            return
        revision = self.revision + 1
        bound = [item.key for item in self.read("") if item.lease == lease]
        self._record(revision, self._delete(bound, revision))

    def _holds(self, compare: Compare) -> bool:
        item = self._state.keys.get(compare.key)
        if item is None:
            return compare.revision == 0
        held = {"create": item.create_revision, "mod": item.mod_revision, "lease": item.lease}
        return held[compare.what] == compare.revision

    def _put(self, put: Put, revision: int) -> Change:
        old = self._state.keys.get(put.key)
        created, version = (old.create_revision, old.version + 1) if old else (revision, 1)
        self._state.keys[put.key] = KeyValue(put.key, put.value, created, revision, version, put.lease)
        return Change(put.key, put.value, created, revision)

    def _delete(self, keys: Sequence[str], revision: int) -> list[Change]:
        for key in keys:
            del self._state.keys[key]
        return [Change(key, None, 0, revision) for key in keys]

    def _record(self, revision: int, changes: Sequence[Change]) -> None:
        if changes:
            self._state.revision = revision
            self.history.append((revision, tuple(changes)))
            self._wake()

    def _schedule(self, lease: int) -> None:
        loop = asyncio.get_running_loop()
        self._timers[lease] = loop.call_later(self._state.leases[lease], self.expire, lease)

    def _stop(self, lease: int) -> None:
        timer = self._timers.pop(lease, None)
        if timer is not None:
            timer.cancel()

    def _wake(self) -> None:
        self.changed.set()
        self.changed = asyncio.Event()


class MemoryClient:
    """`shared.ports.Coordination` on a `MemoryStore`. The next `lose_replies` commits are carried out
    and then reported as Unavailable."""

    def __init__(self, store: MemoryStore, name: str) -> None:
        self.name = name
        self.link = Link(store.rng)
        self.lose_replies = 0
        self._store = store
        self._closed = False

    async def get(self, key: str) -> tuple[KeyValue | None, int]:
        """As `Coordination.get`."""
        found, revision = await self._call(lambda: (self._store.read(key, exact=True), self._store.revision))
        return (found[0] if found else None), revision

    async def list(self, prefix: str) -> Snapshot:
        """As `Coordination.list`."""
        return await self._call(lambda: Snapshot(self._store.read(prefix), self._store.revision))

    async def commit(self, compares: Sequence[Compare], then: Sequence[Put | Delete]) -> TxnResult:
        """As `Coordination.commit`."""
        result = await self._call(lambda: self._store.commit(compares, then))
        if self.lose_replies > 0:
            self.lose_replies -= 1
            raise Unavailable("the reply was lost")
        return result

    async def watch(self, prefix: str, *, from_revision: int) -> AsyncGenerator[WatchBatch, None]:
        """As `Coordination.watch`."""
        store, epoch, delivered = self._store, self._store.epoch, from_revision - 1
        await self._call(lambda: None)
        yield WatchBatch((), delivered)
        heard = now()
        while not self._closed and store.epoch == epoch:
            woken = store.changed
            if store.up and not self.link.cut:
                heard = now()
                if delivered + 1 < store.compacted:
                    raise WatchCompacted(store.compacted)
                changes = store.changes_after(delivered, prefix)
                delivered = max(delivered, store.revision)
                if changes:
                    yield WatchBatch(changes, changes[-1].mod_revision)
                    continue
            elif now() - heard > SILENCE_S:
                raise Unavailable(f"watch silent for {SILENCE_S:.0f} s")
            await signalled(woken, 1.0)
            await asyncio.sleep(store.rng.uniform(*self.link.latency_s))
        raise Unavailable("the server ended the watch")

    async def grant(self, ttl_s: int) -> int:
        """As `Coordination.grant`."""
        return await self._call(lambda: self._store.grant(ttl_s))

    async def keep_alive(self, lease: int) -> float:
        """As `Coordination.keep_alive`."""
        return await self._call(lambda: self._store.renew(lease))

    async def revoke(self, lease: int) -> None:
        """As `Coordination.revoke`."""
        await self._call(lambda: self._store.expire(lease))

    async def compact(self, revision: int) -> None:
        """As `Coordination.compact`."""
        await self._call(lambda: self._store.compact(revision))

    async def health(self) -> StoreHealth:
        """As `Coordination.health`."""
        try:
            await self._call(lambda: None)
        except Unavailable:
            return StoreHealth(reachable=False)
        return StoreHealth(True, self._store.leader_member, self._store.alarms)

    async def close(self) -> None:
        """As `Coordination.close`."""
        self._closed = True

    async def _call(self, action: Callable[[], Result]) -> Result:
        """There, `action`, and back; a link that is cut on the way back has carried it out."""
        until = now() + CALL_S
        await self.link.cross(until)
        if self._closed or not self._store.up:
            await asyncio.sleep(max(0.0, until - now()))
            raise Unavailable("no quorum")
        result = action()
        await self.link.cross(until)
        return result
