"""Connections to targets: opened, kept for the next request, and closed as soon as their framing is in doubt.

A connection carries one request at a time and tells its taker what comes of it. What is kept idle is bounded in
number and time; bytes that nobody asked for, a body longer or shorter than announced, or a request not fully
written when its answer ends, and the connection is not used again. Redirects are answers, not orders.
"""

import asyncio
import ssl
from collections.abc import Callable
from typing import Final, Protocol, cast

from edge_router.core.chunked import Chunked
from edge_router.core.table import Origin
from edge_router.core.wire import (
    END_OF_HEAD,
    MAX_HEAD_BYTES,
    Malformed,
    Memo,
    ResponseHead,
    prefix_fault,
)
from shared.classify import Fault, fault_of_error
from shared.supervise import Supervisor

MAX_IDLE: Final = 512
"""Kept per origin."""
IDLE_S: Final = 30.0
"""Below the 60 to 75 s after which most servers hang up; one that does so earlier costs a transparent retry."""
WRITE_BUFFER_BYTES: Final = 256 * 1024


class Connection(Protocol):
    """A connection to a target, as whoever sent a request over it needs it."""

    @property
    def used(self) -> bool:
        """Whether a request has been sent over it before."""
        ...

    @property
    def heard(self) -> bool:
        """Whether any byte has come back for the current one."""
        ...

    def send(self, request: list[bytes | memoryview], taker: "Taker", *, bodyless: bool) -> None:
        """Send a request; `bodyless` when its answer has no body whatever its head says (HEAD)."""

    def abort(self) -> None:
        """Stop what is under way, at once; the taker hears nothing more."""

    def pause(self) -> None:
        """Read no more until `resume`."""

    def resume(self) -> None:
        """Read on."""


class Taker(Protocol):
    """Who sent a request, and is told what comes of it. Exactly one call ends it: `done`, or `lost`."""

    def connected(self, connection: Connection) -> None:
        """A connection is open."""

    def unconnected(self, fault: Fault, code: int | None) -> None:
        """None could be opened."""

    def answered(self, head: ResponseHead, body: bytes, done: bool) -> None:
        """The head has come, and `body` with it."""

    def more(self, body: bytes, done: bool) -> None:
        """More of the body."""

    def lost(self, fault: Fault, code: int | None) -> None:
        """No more will come, and the answer is not complete."""

    def crashed(self, where: str, error: Exception) -> None:
        """One of these raised what nobody expected."""


class UpstreamConnection(asyncio.Protocol):
    """One connection. `used` once a request has been sent; `heard` when any byte came back for the current one."""

    __slots__ = (
        "_bodyless",
        "_buffer",
        "_chunked",
        "_head",
        "_left",
        "_paused",
        "_pool",
        "_taker",
        "_transport",
        "express",
        "gone",
        "heard",
        "idle_since",
        "used",
    )

    def __init__(self, pool: "Pool") -> None:
        self._pool = pool
        self._transport: asyncio.Transport
        self._taker: Taker | None = None
        self._head: ResponseHead | None = None
        self._buffer = b""
        self._left: int | None = 0
        self._chunked: Chunked | None = None
        self._bodyless = False
        self._paused = False
        self.express: Callable[[bytes], bool] | None = None
        """Tried first with what comes between two chunks of a body; True when it has taken it."""
        self.gone = False
        self.heard = False
        self.used = False
        self.idle_since = 0.0

    # ------------------------------------------------------------ for the taker

    def send(self, request: list[bytes | memoryview], taker: Taker, *, bodyless: bool) -> None:
        """Send a request; `bodyless` when its answer has no body whatever its head says (HEAD)."""
        self._taker = taker
        self._head = None
        self._bodyless = bodyless
        self.heard = False
        if len(request) == 1:
            self._transport.write(request[0])
        else:
            self._transport.writelines(request)

    def abort(self) -> None:
        """Stop what is under way, at once; the taker hears nothing more."""
        self._taker = self.express = None
        self._transport.abort()

    def pause(self) -> None:
        """Read no more until `resume`: the client is slower than the target."""
        if not self._paused:
            self._paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        if self._paused:
            self._paused = False
            self._transport.resume_reading()

    def close(self) -> None:
        """Close an idle connection."""
        self._transport.close()

    # ------------------------------------------------------------ asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but name

    def data_received(self, data: bytes) -> None:
        express = self.express
        if express is not None and self._chunked is not None and self._chunked.between and express(data):
            return
        taker = self._taker
        if taker is None:
            # Nobody asked: whatever this is, it would be taken for the next request's answer.
            self._transport.abort()
            return
        self.heard = True
        try:
            if self._head is None:
                self._read_head(data, taker)
            else:
                self._read_body(data, taker)
        except Malformed:
            self.abort()
            taker.lost(Fault.MALFORMED, None)
        except Exception as error:  # noqa: BLE001  (the last resort: nobody else would end this request)
            self.abort()
            taker.crashed("target", error)

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.gone = True
        self.express = None
        self._pool.forget(self)
        taker, self._taker = self._taker, None
        if taker is None:
            return
        if isinstance(exc, ssl.SSLError):
            taker.lost(Fault.TLS, None)  # its errno counts in OpenSSL's numbers, not the system's
        elif isinstance(exc, OSError):
            taker.lost(fault_of_error(exc), exc.errno)
        elif exc is None and self._head is not None and self._left is None and self._chunked is None:
            taker.more(b"", True)  # this body ends with its connection
        else:
            taker.lost(Fault.CLOSED, None)

    # ------------------------------------------------------------ reading

    def _read_head(self, data: bytes, taker: Taker) -> None:
        if self._buffer:
            data = self._buffer + data
            self._buffer = b""
        while True:
            end = data.find(END_OF_HEAD) + 4
            if end < 4:
                if (
                    len(data) > MAX_HEAD_BYTES
                    or not data.startswith(b"HTTP/"[: len(data)])
                    or prefix_fault(data, 0)
                ):
                    raise Malformed("no head")
                self._buffer = data
                return
            if end > MAX_HEAD_BYTES:
                raise Malformed("a head without end")
            head = self._pool.heads.read(data[:end])
            data = data[end:]
            if head.status >= 200:
                break
            if head.status == 101:
                raise Malformed("switched protocols unasked")
        self._head = head
        if head.content_length == len(data) and not self._bodyless:
            # The common case: all of it in one read.
            self._release(keep=head.keep_alive)
            taker.answered(head, data, True)
            return
        if self._bodyless or head.status in (204, 304):
            self._left, self._chunked = 0, None
        elif head.chunked:
            self._left, self._chunked = None, Chunked()
        else:
            self._left, self._chunked = head.content_length, None
        body, done, doubt = self._take(data)
        if done:
            self._release(keep=head.keep_alive and not doubt)
        taker.answered(head, body, done)

    def _read_body(self, data: bytes, taker: Taker) -> None:
        body, done, doubt = self._take(data)
        if done:
            assert self._head is not None
            self._release(keep=self._head.keep_alive and not doubt)
        if body or done:
            taker.more(body, done)

    def _take(self, data: bytes) -> tuple[bytes, bool, bool]:
        """Content in `data`, whether it is the last, and whether something came after it."""
        if self._chunked is not None:
            content = self._chunked.feed(data) if data else b""
            return content, self._chunked.done, self._chunked.spilled
        if self._left is None:
            return data, False, False
        size = len(data)
        if size < self._left:
            self._left -= size
            return data, False, False
        if size == self._left:
            return data, True, False
        return data[: self._left], True, True

    def _release(self, *, keep: bool) -> None:
        self._taker = self.express = None
        if self._paused:
            self.resume()
        if keep and self._transport.get_write_buffer_size() == 0:
            self._pool.put(self)
        else:
            self._transport.close()


class Pool:
    """The connections to one origin. `open` are all of them, for figures and for the end."""

    __slots__ = ("_idle", "_now", "_supervisor", "_tls", "heads", "open", "origin")

    def __init__(
        self,
        origin: Origin,
        *,
        heads: Memo[ResponseHead],
        supervisor: Supervisor,
        now: float,
        tls: Callable[[], ssl.SSLContext],
    ) -> None:
        self.origin = origin
        self.heads = heads
        self.open: set[UpstreamConnection] = set()
        self._idle: list[UpstreamConnection] = []
        self._supervisor = supervisor
        self._now = now
        """At the last sweep: exact enough for a time of half a minute."""
        self._tls = tls

    def take(self) -> UpstreamConnection | None:
        """An idle connection, the one used last: those in front grow old and are let go."""
        idle = self._idle
        while idle:
            connection = idle.pop()
            if not connection._transport.is_closing():
                return connection
        return None

    def connect(self, taker: Taker) -> asyncio.Task[None]:
        """Open a connection for `taker`; cancel the task to give up."""
        return self._supervisor.spawn("connect", self._connect(taker))

    def put(self, connection: UpstreamConnection) -> None:
        """Keep a connection for the next request."""
        connection.used = True
        if len(self._idle) < MAX_IDLE:
            connection.idle_since = self._now
            self._idle.append(connection)
        else:
            connection.close()

    def forget(self, connection: UpstreamConnection) -> None:
        """A connection is gone."""
        self.open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)

    def sweep(self, now: float) -> None:
        """Close what has been idle for too long."""
        self._now = now
        old = 0
        for connection in self._idle:
            if now - connection.idle_since < IDLE_S:
                break
            old += 1
        stale, self._idle = self._idle[:old], self._idle[old:]
        for connection in stale:
            connection.close()

    def close(self) -> None:
        """Close everything, at once."""
        for connection in tuple(self.open):
            connection.abort()

    async def _connect(self, taker: Taker) -> None:
        scheme, host, port = self.origin
        loop = asyncio.get_running_loop()
        try:
            _, connection = await loop.create_connection(
                lambda: UpstreamConnection(self),
                host,
                port,
                ssl=self._tls() if scheme == "https" else None,
            )
        except ssl.SSLError:
            taker.unconnected(Fault.TLS, None)
        except OSError as error:
            taker.unconnected(fault_of_error(error), error.errno)
        except UnicodeError:
            taker.unconnected(Fault.NAME_UNKNOWN, None)
        else:
            # Counted only now: one whose opening is cancelled is made, and closed, and never called lost.
            if connection.gone:
                taker.unconnected(Fault.CLOSED, None)
            else:
                self.open.add(connection)
                taker.connected(connection)
