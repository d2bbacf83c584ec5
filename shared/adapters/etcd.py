"""etcd as `shared.ports.Coordination`, over grpc.aio with aetcd's generated stubs.

aetcd's own client has no TLS, one endpoint, and a watch that never looks at `canceled`; this adds them,
with a deadline on every call (`etcd_members`). A call that can be repeated without harm is tried on two
members; a transaction is sent once, and its unknown outcome is the caller's to read back.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import suppress
from typing import Any

import grpc
import grpc.aio
from aetcd.rpc import rpc_pb2

from shared.adapters.etcd_members import Call, Member, Members, cancelled_from_outside, translate
from shared.clock import Clock
from shared.ports import (
    Change,
    Compare,
    Delete,
    KeyValue,
    PortError,
    Put,
    Refused,
    Snapshot,
    StoreHealth,
    TxnResult,
    Unavailable,
    WatchBatch,
    WatchCompacted,
)
from shared.supervise import Supervisor
from shared.vocabulary.node import EtcdAddress

PAGE = 100
"""Keys in one answer of `list`; values are below 1 MiB, so it stays below `MAX_ANSWER_BYTES`."""
LIST_S = 20.0
"""For a whole `list`, however many pages."""
PROGRESS_S = 3.0
"""How often a watch asks its server for a sign of life."""
SILENCE_S = 10.0
"""A watch without any sign of life for longer is dead: a stopped server never says so (etcd#8980)."""

_COMPACTED = "etcdserver: mvcc: required revision has been compacted"
_DENIED = "etcdserver: permission denied"
_LEASE_GONE = "etcdserver: requested lease not found"


class EtcdStore:
    """`shared.ports.Coordination`. Must be made inside the event loop that uses it."""

    def __init__(self, address: EtcdAddress, *, clock: Clock) -> None:
        """Raises Refused when the TLS files cannot be used."""
        self._prefix = address.prefix
        self._members = Members(address, clock=clock)

    # ------------------------------------------------------------ keys

    async def get(self, key: str) -> tuple[KeyValue | None, int]:
        """As `Coordination.get`."""
        answer = await self._repeatable("kv", "Range", rpc_pb2.RangeRequest(key=self._absolute(key)))
        item = self._key_value(answer.kvs[0]) if answer.kvs else None
        return item, answer.header.revision

    async def list(self, prefix: str) -> Snapshot:
        """As `Coordination.list`: every page is of the revision of the first one."""
        start = self._absolute(prefix)
        end = range_end(start)
        items: list[KeyValue] = []
        revision = 0
        try:
            async with asyncio.timeout(LIST_S):
                while True:
                    answer = await self._repeatable(
                        "kv",
                        "Range",
                        rpc_pb2.RangeRequest(key=start, range_end=end, limit=PAGE, revision=revision),
                    )
                    revision = revision or answer.header.revision
                    items += map(self._key_value, answer.kvs)
                    if not answer.more or not answer.kvs:
                        return Snapshot(tuple(items), revision)
                    start = answer.kvs[-1].key + b"\0"
        except TimeoutError as error:
            raise Unavailable(f"listing {prefix!r} took too long") from error
        except Refused as error:
            if _COMPACTED in str(error):
                raise Unavailable(f"history was compacted while {prefix!r} was listed") from error
            raise

    async def commit(self, compares: Sequence[Compare], then: Sequence[Put | Delete]) -> TxnResult:
        """As `Coordination.commit`. A lease that is gone refuses the whole transaction."""
        request = rpc_pb2.TxnRequest(
            compare=[self._compare(compare) for compare in compares],
            success=[self._operation(operation) for operation in then],
        )
        answer = await self._members.once(_unary("kv", "Txn", request))
        return TxnResult(answer.succeeded, answer.header.revision)

    async def compact(self, revision: int) -> None:
        """As `Coordination.compact`."""
        try:
            await self._repeatable("kv", "Compact", rpc_pb2.CompactionRequest(revision=revision))
        except Refused as error:
            if _COMPACTED not in str(error):
                raise

    # ------------------------------------------------------------ watching

    async def watch(self, prefix: str, *, from_revision: int) -> AsyncGenerator[WatchBatch, None]:
        """As `Coordination.watch`. The first batch is empty: the watch stands.

        The `revision` of an empty batch is that of the last change delivered, not the server's: a
        server's progress notes may run ahead of events that it still owes (etcd#15220).
        """
        start = self._absolute(prefix)
        create = rpc_pb2.WatchCreateRequest(
            key=start, range_end=range_end(start), start_revision=from_revision, progress_notify=True
        )
        delivered = from_revision - 1
        member = await self._members.connected()
        metadata = (*await self._members.metadata(member), ("hasleader", "true"))
        stream = member.watch.Watch(metadata=metadata)
        try:
            async with Supervisor() as own:
                own.spawn("watch questions", _ask(stream, create))
                while True:
                    answer = await _read(stream)
                    if answer.canceled or answer.compact_revision:
                        raise self._cancelled(answer)
                    changes = tuple(self._change(event) for event in answer.events)
                    if changes:
                        delivered = changes[-1].mod_revision
                    yield WatchBatch(changes, delivered)
        except Unavailable:
            self._members.leave(member)
            raise
        finally:
            stream.cancel()

    def _cancelled(self, answer: Any) -> PortError:
        """Why the server ended a watch, as the port says it."""
        if answer.compact_revision:
            return WatchCompacted(answer.compact_revision)
        if not self._members.refused_token(answer.cancel_reason) and _DENIED in answer.cancel_reason:
            return Refused(answer.cancel_reason)
        return Unavailable(f"watch cancelled: {answer.cancel_reason or 'no reason given'}")

    # ------------------------------------------------------------ leases

    async def grant(self, ttl_s: int) -> int:
        """As `Coordination.grant`. Sent twice at worst: a lease that nobody holds expires by itself."""
        answer = await self._repeatable("lease", "LeaseGrant", rpc_pb2.LeaseGrantRequest(TTL=ttl_s))
        if answer.error:
            raise Refused(answer.error)
        return int(answer.ID)

    async def keep_alive(self, lease: int) -> float:
        """As `Coordination.keep_alive`: one round of etcd's stream. A dead lease is answered without
        an error, with TTL 0."""
        request = rpc_pb2.LeaseKeepAliveRequest(ID=lease)

        async def one_round(member: Member, *, timeout: float, metadata: Any) -> Any:
            async def requests() -> AsyncIterator[Any]:
                yield request

            stream = member.lease.LeaseKeepAlive(requests(), timeout=timeout, metadata=metadata)
            try:
                return await stream.read()
            finally:
                stream.cancel()

        answer = await self._members.twice(one_round)
        if not isinstance(answer, rpc_pb2.LeaseKeepAliveResponse):
            raise Unavailable("the keep-alive stream ended without an answer")
        return max(0.0, float(answer.TTL))

    async def revoke(self, lease: int) -> None:
        """As `Coordination.revoke`; one that is gone already is no error."""
        try:
            await self._repeatable("lease", "LeaseRevoke", rpc_pb2.LeaseRevokeRequest(ID=lease))
        except Refused as error:
            if _LEASE_GONE not in str(error):
                raise

    # ------------------------------------------------------------ the rest

    async def health(self) -> StoreHealth:
        """As `Coordination.health`: reachable means that a member answers and knows a leader."""
        try:
            status = await self._repeatable("maintenance", "Status", rpc_pb2.StatusRequest())
            alarms = await self._repeatable("maintenance", "Alarm", rpc_pb2.AlarmRequest())
            members = await self._repeatable("cluster", "MemberList", rpc_pb2.MemberListRequest())
        except PortError:
            return StoreHealth(reachable=False)
        names = {member.ID: member.name for member in members.members}
        return StoreHealth(
            reachable=status.leader != 0,
            leader_member=names.get(status.leader, ""),
            alarms=tuple(sorted({rpc_pb2.AlarmType.Name(one.alarm) for one in alarms.alarms})),
        )

    async def close(self) -> None:
        """Release everything, within 5 s, reachable or not."""
        await self._members.close()

    async def _repeatable(self, service: str, method: str, request: Any) -> Any:
        return await self._members.twice(_unary(service, method, request))

    # ------------------------------------------------------------ translation

    def _absolute(self, key: str) -> bytes:
        return (self._prefix + key).encode()

    def _relative(self, key: bytes) -> str:
        return key.decode("utf-8", "replace").removeprefix(self._prefix)

    def _key_value(self, item: Any) -> KeyValue:
        return KeyValue(
            key=self._relative(item.key),
            value=item.value,
            create_revision=item.create_revision,
            mod_revision=item.mod_revision,
            version=item.version,
            lease=item.lease,
        )

    def _change(self, event: Any) -> Change:
        deleted = event.type == event.DELETE
        return Change(
            key=self._relative(event.kv.key),
            value=None if deleted else event.kv.value,
            create_revision=event.kv.create_revision,
            mod_revision=event.kv.mod_revision,
        )

    def _compare(self, compare: Compare) -> Any:
        key = self._absolute(compare.key)
        if compare.what == "create":
            return rpc_pb2.Compare(key=key, result="EQUAL", target="CREATE", create_revision=compare.revision)
        if compare.what == "lease":
            return rpc_pb2.Compare(key=key, result="EQUAL", target="LEASE", lease=compare.revision)
        return rpc_pb2.Compare(key=key, result="EQUAL", target="MOD", mod_revision=compare.revision)

    def _operation(self, operation: Put | Delete) -> Any:
        key = self._absolute(operation.key)
        if isinstance(operation, Put):
            put = rpc_pb2.PutRequest(key=key, value=operation.value, lease=operation.lease)
            return rpc_pb2.RequestOp(request_put=put)
        end = range_end(key) if operation.prefix else b""
        return rpc_pb2.RequestOp(request_delete_range=rpc_pb2.DeleteRangeRequest(key=key, range_end=end))


def range_end(prefix: bytes) -> bytes:
    """The first key after all that begin with `prefix`, as etcd's `range_end` wants it."""
    kept = prefix.rstrip(b"\xff")
    return kept[:-1] + bytes([kept[-1] + 1]) if kept else b"\0"


def _unary(service: str, method: str, request: Any) -> Call:
    """`request` as a call that can be sent to any member."""

    async def call(member: Member, *, timeout: float, metadata: Any) -> Any:
        return await getattr(getattr(member, service), method)(request, timeout=timeout, metadata=metadata)

    return call


async def _read(stream: Any) -> Any:
    """The next answer of a watch. Raises Unavailable when it ended or is silent, Refused."""
    try:
        async with asyncio.timeout(SILENCE_S):
            answer = await stream.read()
    except TimeoutError as error:
        raise Unavailable(f"watch silent for {SILENCE_S:.0f} s") from error
    except grpc.aio.AioRpcError as error:
        raise translate(error.code(), error.details() or "") from error
    except asyncio.CancelledError:
        if cancelled_from_outside():
            raise
        raise Unavailable("the store was closed") from None
    if not isinstance(answer, rpc_pb2.WatchResponse):
        raise Unavailable("the server ended the watch")
    return answer


async def _ask(stream: Any, create: Any) -> None:
    """What a watch's client says: the request, then now and then a question after the server's health.
    A failure needs no word: whoever reads the answers meets it."""
    with suppress(grpc.aio.AioRpcError, grpc.aio.UsageError, asyncio.InvalidStateError):
        await stream.write(rpc_pb2.WatchRequest(create_request=create))
        while True:
            await asyncio.sleep(PROGRESS_S)
            await stream.write(rpc_pb2.WatchRequest(progress_request=rpc_pb2.WatchProgressRequest()))
