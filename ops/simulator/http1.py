"""A small HTTP/1.1 server on asyncio Protocols: whole requests in, raw bytes out.

Raw, because half of the faults are bytes that no proper server would send. Requests of one connection
are answered in order; a client that goes away cancels the work on its request.
"""

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import cast

import httptools

from shared.supervise import Supervisor

MAX_BODY_BYTES = 16 << 20
MAX_HEADERS = 200
MAX_PIPELINED = 16
REOPEN_S = 10.0

_REASONS = {status.value: status.phrase for status in HTTPStatus}
_LINGER_ZERO = struct.pack("ii", 1, 0)


@dataclass(frozen=True, slots=True)
class Request:
    """One request, read to its end. Header names are lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


Handler = Callable[["Connection", Request], Awaitable[None]]


class Connection(asyncio.Protocol):
    """One client. `handle` is awaited for each request and writes the answer with `send`."""

    def __init__(self, site: "Site") -> None:
        self._site = site
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._waiting: deque[tuple[Request, bool]] = deque()
        self._task: asyncio.Task[None] | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self.closed_by_us = False
        """Whether `close` or `reset` was called, rather than the client going away."""
        self._begin()

    # ------------------------------------------------------------ for handlers

    async def send(self, raw: bytes) -> None:
        """Write, and wait while the client reads slower than we write. Raises ConnectionResetError."""
        if self._transport is None or self._transport.is_closing():
            raise ConnectionResetError
        self._transport.write(raw)
        await self._writable.wait()

    async def respond(
        self,
        status: int,
        body: bytes = b"",
        *,
        headers: Mapping[str, str] | None = None,
        content_type: str = "application/json",
    ) -> None:
        """A whole answer with its length."""
        length = {"content-type": content_type, "content-length": str(len(body))}
        await self.send(head(status, {**length, **(headers or {})}) + body)

    def close(self) -> None:
        """Close after what was written has left."""
        self.closed_by_us = True
        if self._transport is not None:
            self._transport.close()

    def reset(self) -> None:
        """Send RST instead of FIN: closing with a linger time of 0 does (socket(7), SO_LINGER)."""
        self.closed_by_us = True
        if self._transport is not None:
            sock = self._transport.get_extra_info("socket")
            if sock is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
            self._transport.abort()

    # ------------------------------------------------------------ asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is not a subclass of it
        self._site.connections.add(self)
        if self._site.on_accept is not None:
            self._site.on_accept(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._site.connections.discard(self)
        self._transport = None
        self._waiting.clear()
        self._writable.set()
        if self._task is not None:
            self._task.cancel()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade, _TooMuch) as error:
            status = 413 if isinstance(error, _TooMuch) else 400
            if self._transport is not None:
                self._transport.write(head(status, {"content-length": "0", "connection": "close"}))
                self._transport.close()

    # ------------------------------------------------------------ httptools

    def on_message_begin(self) -> None:
        self._begin()

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if len(self._headers) >= MAX_HEADERS:
            raise _TooMuch
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        if self._headers.get("expect", "").lower() == "100-continue" and self._transport is not None:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        self._size += len(body)
        if self._size > MAX_BODY_BYTES:
            raise _TooMuch
        self._body.append(body)

    def on_message_complete(self) -> None:
        if len(self._waiting) >= MAX_PIPELINED:
            raise _TooMuch
        request = Request(
            method=self._parser.get_method().decode("latin-1"),
            path=self._url.decode("latin-1").partition("?")[0],
            headers=self._headers,
            body=b"".join(self._body),
        )
        self._waiting.append((request, self._parser.should_keep_alive()))
        if self._task is None:
            self._task = self._site.supervisor.spawn("request", self._serve())

    # ------------------------------------------------------------ details

    def _begin(self) -> None:
        self._url = b""
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []
        self._size = 0

    async def _serve(self) -> None:
        try:
            while self._waiting:
                request, keep_alive = self._waiting.popleft()
                await self._site.handle(self, request)
                if not keep_alive:
                    self.close()
                    return
        except ConnectionResetError:
            return
        except BaseException:
            self.reset()  # half an answer may be out: the connection is of no more use
            raise
        finally:
            self._task = None

    @property
    def busy(self) -> bool:
        """Whether a request is being answered."""
        return self._task is not None


class _TooMuch(Exception):
    """A limit of ours was passed."""


class Site:
    """One listening address: opens, closes, and opens again on the same port."""

    def __init__(
        self,
        handle: Handler,
        *,
        host: str,
        port: int,
        supervisor: Supervisor,
        on_accept: Callable[[Connection], None] | None = None,
    ) -> None:
        self.handle = handle
        self.host = host
        self.port = port
        """The bound one, once open."""
        self.supervisor = supervisor
        self.on_accept = on_accept
        self.connections: set[Connection] = set()
        self._server: asyncio.Server | None = None
        self._opened = False
        self._lock = asyncio.Lock()

    async def open(self) -> None:
        """Listen. Nothing happens when it already does. Raises OSError.

        A port that was ours before may be taken for a moment (an outgoing connection can hold it):
        then it is tried again for REOPEN_S, for a fault must not outlive its end.
        """
        async with self._lock:
            loop = asyncio.get_running_loop()
            until = loop.time() + (REOPEN_S if self._opened else 0.0)
            while self._server is None:
                try:
                    self._server = await loop.create_server(
                        lambda: Connection(self), self.host, self.port, backlog=4096
                    )
                except OSError:
                    if loop.time() >= until:
                        raise
                    await asyncio.sleep(0.05)
            self._opened = True
            self.port = self._server.sockets[0].getsockname()[1]

    async def shut(self, *, drain_s: float = 0.0) -> None:
        """Stop listening; let requests finish for `drain_s`, then reset every connection."""
        async with self._lock:
            server, self._server = self._server, None
            if server is None:
                return
            server.close()
            loop = asyncio.get_running_loop()
            until = loop.time() + drain_s
            while any(connection.busy for connection in self.connections) and loop.time() < until:
                await asyncio.sleep(0.02)
            for connection in list(self.connections):
                connection.close() if drain_s and not connection.busy else connection.reset()
            # uvloop lets go of the port only in a later turn of the loop.
            await asyncio.wait_for(server.wait_closed(), 5.0)


def head(status: int, headers: Mapping[str, str]) -> bytes:
    """Status line and header section."""
    lines = [f"HTTP/1.1 {status} {_REASONS.get(status, 'Unknown')}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")


def chunk(raw: bytes) -> bytes:
    """`raw` as one chunk (RFC 9112, section 7.1)."""
    return b"%x\r\n%b\r\n" % (len(raw), raw)


LAST_CHUNK = b"0\r\n\r\n"
