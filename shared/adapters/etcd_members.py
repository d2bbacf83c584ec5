"""The members of an etcd cluster: a channel to each, one of them in use, and a deadline on every call.

Before a call its channel must be connected, so a dead member costs nothing but the try of the next
one, and nothing was sent; a member that is connected but silent costs its deadline, and the next call
goes to another one.
"""

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import grpc
import grpc.aio
from aetcd.rpc import rpc_pb2, rpc_pb2_grpc

from shared.clock import Clock
from shared.ports import PortError, Refused, Unavailable
from shared.secrets import SecretError, resolve
from shared.vocabulary.node import EtcdAddress, Tls

CONNECT_S = 0.5
"""For one endpoint to become connected before the next one is tried."""
MAX_ANSWER_BYTES = 128 * 1024 * 1024

CHANNEL_OPTIONS = (
    # etcd sends GOAWAY to clients that ping more often than every 5 s, or without a call under way.
    ("grpc.keepalive_time_ms", 6_000),
    ("grpc.keepalive_timeout_ms", 3_000),
    # gRPC core of today waits for a ping by this setting alone, and by default for a minute: without it
    # a connection that a firewall has forgotten is used, in vain, for all that time.
    ("grpc.http2.ping_timeout_ms", 3_000),
    ("grpc.keepalive_permit_without_calls", 0),
    ("grpc.http2.max_pings_without_data", 0),
    # gRPC would wait up to two minutes before it tries a dead member again; here one that returns is
    # used within a second.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 2_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # Connections of our own, or another store's back-off would be ours.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_receive_message_length", MAX_ANSWER_BYTES),
)

_REFUSALS = {
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.OUT_OF_RANGE,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.UNIMPLEMENTED,
}
_TOO_BUSY = "etcdserver: too many requests"
STALE_TOKEN = ("etcdserver: invalid auth token", "etcdserver: revision of auth store is old")

READY = grpc.ChannelConnectivity.READY


class Call(Protocol):
    """One unary request, ready to be sent to any member."""

    async def __call__(self, member: "Member", *, timeout: float, metadata: Any) -> Any: ...


class Member:
    """One endpoint: its channel and stubs."""

    def __init__(self, endpoint: str, credentials: grpc.ChannelCredentials | None) -> None:
        self.endpoint = endpoint
        self.channel = (
            grpc.aio.insecure_channel(endpoint, options=CHANNEL_OPTIONS)
            if credentials is None
            else grpc.aio.secure_channel(endpoint, credentials, options=CHANNEL_OPTIONS)
        )
        self.auth = rpc_pb2_grpc.AuthStub(self.channel)
        self.cluster = rpc_pb2_grpc.ClusterStub(self.channel)
        self.kv = rpc_pb2_grpc.KVStub(self.channel)
        self.lease = rpc_pb2_grpc.LeaseStub(self.channel)
        self.maintenance = rpc_pb2_grpc.MaintenanceStub(self.channel)
        self.watch = rpc_pb2_grpc.WatchStub(self.channel)

    async def connected(self, within_s: float) -> bool:
        """Whether the channel is connected, or becomes so in time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while (state := self.channel.get_state(try_to_connect=True)) is not READY:
                    if state is grpc.ChannelConnectivity.SHUTDOWN:
                        return False
                    await self.channel.wait_for_state_change(state)
                return True
        return False


class Members:
    """All endpoints of one cluster, and the token for them."""

    def __init__(self, address: EtcdAddress, *, clock: Clock) -> None:
        """Raises Refused when the TLS files cannot be used."""
        self._deadline_s = address.request_timeout_s
        self._username = address.username
        self._password = address.password
        self._clock = clock
        credentials = _credentials(address.tls) if address.tls is not None else None
        self._all = [Member(endpoint, credentials) for endpoint in address.endpoints]
        self._current = 0
        self._token: str | None = None
        self._token_lock = asyncio.Lock()

    async def once(self, call: Call) -> Any:
        """Send it to one member. Only what etcd turned away for its token is sent again.

        Raises Unavailable with the outcome unknown, Refused with nothing done.
        """
        return await self._send(call, self._deadline_s)

    async def twice(self, call: Call) -> Any:
        """For what may be executed twice without harm: half of the deadline for one member, the other
        half for the next. Raises Unavailable, Refused."""
        try:
            return await self._send(call, self._deadline_s / 2)
        except Unavailable:
            return await self._send(call, self._deadline_s / 2)

    async def connected(self, timeout_s: float | None = None) -> Member:
        """A connected member, the one in use if possible. Raises Unavailable when there is none."""
        until = self._clock.monotonic() + (timeout_s or self._deadline_s)
        for _ in range(len(self._all)):
            member = self._all[self._current]
            left = until - self._clock.monotonic()
            if left > 0 and await member.connected(min(CONNECT_S, left)):
                return member
            self.leave(member)
        raise Unavailable(f"none of {[member.endpoint for member in self._all]} can be connected to")

    def leave(self, member: Member) -> None:
        """Use the next endpoint, unless another call has moved on already."""
        if member is self._all[self._current]:
            self._current = (self._current + 1) % len(self._all)

    async def metadata(self, member: Member) -> tuple[tuple[str, str], ...]:
        """The token, fetched when there is none. Raises Unavailable, Refused."""
        if self._username is None:
            return ()
        async with self._token_lock:
            if self._token is None:
                self._token = await self._authenticate(member)
        return (("token", self._token),)

    def refused_token(self, reason: str) -> bool:
        """Whether `reason` is about the token; if so it is fetched anew for the next call."""
        stale = any(text in reason for text in STALE_TOKEN)
        if stale:
            self._token = None
        return stale

    async def close(self) -> None:
        """Close all channels, within 4 s."""
        with suppress(TimeoutError):
            async with asyncio.timeout(4.0):
                await asyncio.gather(*(member.channel.close(None) for member in self._all))

    async def _send(self, call: Call, timeout_s: float) -> Any:
        until = self._clock.monotonic() + timeout_s
        member = await self.connected(timeout_s)
        for last in (False, True):
            left = max(0.05, until - self._clock.monotonic())
            try:
                return await call(member, timeout=left, metadata=await self.metadata(member))
            except grpc.aio.AioRpcError as error:
                details = error.details() or ""
                if self.refused_token(details) and not last:
                    continue  # turned away before anything was done
                meaning = translate(error.code(), details)
                if isinstance(meaning, Unavailable):
                    self.leave(member)
                raise meaning from error
            except asyncio.CancelledError:
                # grpc.aio raises it too when the channel is closed under a call.
                if cancelled_from_outside():
                    raise
                raise Unavailable("the store was closed") from None
        raise AssertionError("unreachable: the second attempt returns or raises")

    async def _authenticate(self, member: Member) -> str:
        try:
            password = resolve(self._password) if self._password else ""
            answer = await member.auth.Authenticate(
                rpc_pb2.AuthenticateRequest(name=self._username, password=password),
                timeout=self._deadline_s / 2,
            )
        except SecretError as error:
            raise Refused(str(error)) from error
        except grpc.aio.AioRpcError as error:
            raise translate(error.code(), error.details() or "") from error
        return str(answer.token)


def translate(code: grpc.StatusCode, details: str) -> PortError:
    """What a gRPC status means: refused with nothing done, or an unknown outcome."""
    said = f"{code.name}: {details}"
    if code in _REFUSALS and details != _TOO_BUSY:
        return Refused(said)
    return Unavailable(said)


def cancelled_from_outside() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _credentials(tls: Tls) -> grpc.ChannelCredentials:
    def content(path: str | None) -> bytes | None:
        return Path(path).read_bytes() if path else None

    try:
        return grpc.ssl_channel_credentials(
            root_certificates=content(tls.ca_file),
            private_key=content(tls.key_file),
            certificate_chain=content(tls.cert_file),
        )
    except OSError as error:
        raise Refused(f"TLS files of etcd cannot be used: {error}") from error
