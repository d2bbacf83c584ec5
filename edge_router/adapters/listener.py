"""One client's connection: requests come in one after the other, are let in or turned away, and get their answers.

Requests are served one at a time; what a client sends ahead is kept, up to a limit, and served in order.
Every state has a deadline, kept by the sweep. After a request that cannot be trusted (malformed, too large, too
slow) the connection ends: what follows on it could be read in two ways.
"""

import asyncio
from enum import Enum
from typing import TYPE_CHECKING, Final, cast

from edge_router.adapters.delivery import NEVER
from edge_router.adapters.exchange import Exchange
from edge_router.adapters.sockets import bound_stall, forget_unsent
from edge_router.core.answers import Refusal, models_listed, refusal_of, refuse
from edge_router.core.arriving import Arriving, TooLarge
from edge_router.core.endpoints import Kind
from edge_router.core.reception import Admitted, Turned, admit, dialect_of, listed, route_of, too_large
from edge_router.core.wire import END_OF_HEAD, Malformed, RequestHead, head_too_large, prefix_fault
from shared.vocabulary.terms import Dialect

if TYPE_CHECKING:
    from edge_router.adapters.gateway import Gateway


class _State(Enum):
    HEAD = "waiting for a request, or reading its head"
    BODY = "reading its body"
    BUSY = "serving it"
    CLOSING = "answered for the last time"


# What every request looks at: a member looked up in its class costs 60 ns (Python 3.11).
_HEAD: Final = _State.HEAD
_BUSY: Final = _State.BUSY
_MODELS: Final = Kind.MODELS


class ClientConnection(asyncio.Protocol):
    """See the module. `deadline` is monotonic."""

    __slots__ = (
        "_admitted",
        "_arriving",
        "_buffer",
        "_exchange",
        "_gateway",
        "_head",
        "_keep",
        "_key_lines",
        "_reading",
        "_reserved",
        "_since",
        "_state",
        "_transport",
        "_unwritten",
        "_write_paused",
        "deadline",
    )

    def __init__(self, gateway: "Gateway") -> None:
        self._gateway = gateway
        self._transport: asyncio.Transport
        self._state = _State.HEAD
        self._buffer = b""
        self._exchange: Exchange | None = None
        self._keep = True
        self._reading = self._write_paused = False
        self._arriving: Arriving | None = None
        self._key_lines = b""
        """What the key of the request under way has left, where it is limited."""
        self._reserved = self._unwritten = 0
        self._since = 0.0
        self.deadline = NEVER

    # ------------------------------------------------------------ asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but name
        gateway = self._gateway
        self.deadline = gateway.coarse_now + gateway.limits.head_s
        gateway.clients.add(self)
        bound_stall(self._transport, gateway.limits.write_stall_s)
        if len(gateway.clients) > gateway.limits.connections:
            self._turn_away(Refusal.OVERLOADED, "too many connections", Dialect.OPENAI)

    def data_received(self, data: bytes) -> None:
        state = self._state
        try:
            if state is _HEAD and not self._write_paused:
                self._read(data)
            elif state is _State.BODY:
                self._read_body(data)
            elif state is not _State.CLOSING:
                self._buffer += data
                if len(self._buffer) > self._gateway.limits.ahead_bytes:
                    # Not to read on would be not to see it go, and a target would work for nobody.
                    self.abort()
        except Exception as error:  # noqa: BLE001  (the last resort: nobody else would end this request)
            self._gateway.own_errors.note("client", error)
            self.cut()

    def eof_received(self) -> bool:
        """A client that says it will send no more is taken to be gone, and its request is abandoned: to tell one
        that still listens from one that has died would take a write, and until then a target works for nobody."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        gateway = self._gateway
        gateway.clients.discard(self)
        gateway.reserved_bytes -= self._reserved
        self._reserved = 0
        self._state = _State.CLOSING
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.abandon()

    def pause_writing(self) -> None:
        self._write_paused = True
        self._watch_writing()
        if self._exchange is not None:
            self._exchange.pause()

    def resume_writing(self) -> None:
        self._write_paused = False
        if self._exchange is not None:
            self.deadline = NEVER
            self._exchange.resume()
        elif self._state is _State.HEAD:
            self._next()

    # ------------------------------------------------------------ called by the exchange

    def send(self, data: bytes) -> None:
        """Write the head of an answer, or all of it."""
        self._transport.write(data)

    def send_content(self, content: bytes, *, chunked: bool) -> None:
        """Write a part of its content, which is not empty."""
        self._transport.write(b"%x\r\n%b\r\n" % (len(content), content) if chunked else content)

    def send_last(self, content: bytes, *, chunked: bool) -> None:
        """Write the last part, if any, and the end."""
        if chunked:
            self._transport.write(
                b"%x\r\n%b\r\n0\r\n\r\n" % (len(content), content) if content else b"0\r\n\r\n"
            )
        elif content:
            self._transport.write(content)

    def finished(self) -> None:
        """The answer is complete."""
        self._exchange = None
        self._release()
        if self._key_lines:
            self._key_lines = b""
        if not self._keep or self._gateway.draining:
            self._state = _State.CLOSING
            self._watch_writing()
            self._transport.close()
            return
        self._state = _HEAD
        if not (self._reading or self._write_paused):
            self._next()  # who does not take this answer gets no other

    def break_off(self, event: bytes, *, chunked: bool) -> None:
        """The answer cannot be completed: end it so that nobody takes it for whole."""
        self._exchange = None
        self._release()
        self._state = _State.CLOSING
        self._unwritten = 0
        self.deadline = self._gateway.coarse_now + self._gateway.limits.linger_s
        if event:
            self.send_content(event, chunked=chunked)
        head = self._head
        if head.http_1_0:
            self._transport.abort()  # a plain end of the connection is how HTTP/1.0 says: complete
        else:
            self._transport.close()

    def refuse(self, refusal: Refusal, message: str, dialect: Dialect, *, fields: bytes) -> None:
        """Answer in a target's place; the request has been read, so the connection lives on."""
        keep = self._keep and not self._gateway.draining
        head_only = self._head.method == b"HEAD"
        fields += self._key_lines
        self.send(refuse(refusal, message, dialect, fields=fields, close=not keep, head_only=head_only))
        self.finished()

    def connection_line(self, *, delimited: bool) -> bytes:
        """The Connection field of an answer, and what its key has left; one that is not delimited ends with the
        connection."""
        if self._keep and delimited and not self._gateway.draining:
            return self._key_lines
        self._keep = False
        return b"connection: close\r\n" + self._key_lines

    def forwarded(self, head: RequestHead) -> bytes:
        """Who asks, for plain routes. Model providers are not told where clients are."""
        peer = self._transport.get_extra_info("peername")
        host = peer[0].encode() if peer else b"unknown"
        return b"x-forwarded-for: %b\r\nx-forwarded-proto: %b\r\nx-forwarded-host: %b\r\n" % (
            host,
            self._gateway.scheme,
            head.host,
        )

    # ------------------------------------------------------------ called by the gateway

    def timed_out(self) -> None:
        """`deadline` has passed."""
        if self._write_paused or (self._state is _State.CLOSING and self._unwritten):
            if self._takes_enough():
                self._watch_writing()
            else:
                forget_unsent(self._transport)
                self.abort()
        elif self._state is _State.HEAD and not self._buffer:
            self._state = _State.CLOSING
            self._watch_writing()
            self._transport.close()
        elif self._state in (_State.HEAD, _State.BODY):
            self._turn_away(Refusal.TOO_SLOW, "the request did not arrive in time", self._dialect)
        else:
            self.abort()

    def hang_up(self) -> None:
        """The edge is going away: close when idle. A request under way is answered first."""
        if self._state is _State.HEAD and not self._buffer:
            self._state = _State.CLOSING
            self._transport.close()

    def abort(self) -> None:
        """Close at once; a request under way is abandoned."""
        self._state = _State.CLOSING
        self._transport.abort()
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.abandon()

    def cut(self) -> None:
        """Close at once, after an error of the edge's own: what a request under way holds is given back."""
        self._state = _State.CLOSING
        self._transport.abort()
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.give_back()

    # ------------------------------------------------------------ writing

    def _watch_writing(self) -> None:
        """Look at what is unwritten now, and again after `write_stall_s`."""
        self._unwritten = self._transport.get_write_buffer_size()
        self.deadline = self._gateway.coarse_now + self._gateway.limits.write_stall_s

    def _takes_enough(self) -> bool:
        """Whether the client has taken its least since `_watch_writing`; while it is waited for, nothing but a
        target's last read is added to what is unwritten."""
        limits = self._gateway.limits
        taken = self._unwritten - self._transport.get_write_buffer_size()
        return taken >= limits.write_bytes_per_s * limits.write_stall_s

    # ------------------------------------------------------------ reading

    def _next(self) -> None:
        """Wait for the next request, or take the one that is already here."""
        self.deadline = self._gateway.coarse_now + self._gateway.limits.idle_s
        if self._buffer:
            data, self._buffer = self._buffer, b""
            self._read(data)

    def _read(self, data: bytes) -> None:
        seen = 0
        if self._buffer:
            seen = max(0, len(self._buffer) - 3)  # a head's end may have begun there
            data, self._buffer = self._buffer + data, b""
        self._reading = True
        try:
            while data:
                data = self._request(data, seen)
                seen = 0
        except Malformed as error:
            self._turn_away(refusal_of(error.status), str(error), Dialect.OPENAI)
        except Turned as turned:
            self._turn_away(turned.refusal, turned.message, turned.dialect, turned.fields)
        finally:
            self._reading = False

    def _request(self, data: bytes, seen: int) -> bytes:
        """Read one request off `data`; what is left when it has been served already. No head ends in its first `seen`
        bytes. Raises Malformed, Turned."""
        end = data.find(END_OF_HEAD, seen) + 4
        if end < 4:
            self._partial_head(data, seen)
            return b""
        gateway = self._gateway
        if end > gateway.limits.head_bytes:
            raise head_too_large(gateway.limits.head_bytes)
        head = self._head = gateway.request_heads.read(data[:end])
        self._keep = head.keep_alive
        length = head.content_length
        rest = data[end:]
        size = len(rest)
        if length is None or size < length:
            self._begin_body(head, admit(gateway.table, head, gateway.limits.body_bytes), rest)
            return b""
        if size > length:
            self._buffer = rest[length:]
            rest = rest[:length]
        try:
            admitted = admit(gateway.table, head, gateway.limits.body_bytes)
            self._serve(head, admitted, rest)
        except Turned as turned:
            # All of it is here, so the connection can go on behind it.
            self._answer_turned(head, turned)
        if self._state is _HEAD and not self._write_paused:
            data, self._buffer = self._buffer, b""
            if not data:
                self.deadline = gateway.coarse_now + gateway.limits.idle_s
            return data
        return b""

    def _partial_head(self, data: bytes, seen: int) -> None:
        if data.startswith(b"\r\n"):
            data = data[2:]  # RFC 9112, section 2.2: an empty line before a request is forgiven, once
        if len(data) > self._gateway.limits.head_bytes:
            raise head_too_large(self._gateway.limits.head_bytes)
        if prefix_fault(data, seen):
            raise Malformed("the head is malformed")
        if data and self.deadline > self._gateway.coarse_now + self._gateway.limits.head_s:
            self.deadline = self._gateway.coarse_now + self._gateway.limits.head_s
        self._buffer = data

    def _begin_body(self, head: RequestHead, admitted: Admitted, rest: bytes) -> None:
        self._state = _State.BODY
        self._admitted = admitted
        self._since = self._gateway.coarse_now
        self._arriving = Arriving(head.content_length, self._gateway.limits.body_bytes)
        self.deadline = self._since + self._gateway.limits.body_s
        if head.expects_continue and not rest:
            self.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        if rest:
            self._take_body(rest)

    def _read_body(self, data: bytes) -> None:
        try:
            self._take_body(data)
        except Malformed as error:
            self._turn_away(Refusal.MALFORMED, str(error), self._dialect)
        except Turned as turned:
            self._turn_away(turned.refusal, turned.message, turned.dialect)

    def _take_body(self, data: bytes) -> None:
        arriving, limits = self._arriving, self._gateway.limits
        assert arriving is not None
        try:
            self._reserve(arriving.feed(data))
        except TooLarge:
            raise too_large(self._admitted.endpoint.dialect, limits.body_bytes) from None
        self.deadline = self._since + limits.body_s + arriving.got / limits.body_bytes_per_s
        if not arriving.done:
            return
        if arriving.spilled:
            self._keep = False  # what follows the last chunk cannot be told apart for sure
        self._buffer = arriving.rest
        self._arriving = None
        try:
            self._serve(self._head, self._admitted, arriving.take())
        except Turned as turned:
            self._answer_turned(self._head, turned)

    def _reserve(self, size: int) -> None:
        """Take `size` bytes of what all bodies together may hold."""
        gateway = self._gateway
        if gateway.reserved_bytes + size > gateway.limits.reserved_bytes:
            raise Turned(Refusal.OVERLOADED, "too many bytes of requests are under way", self._dialect)
        gateway.reserved_bytes += size
        self._reserved += size

    def _release(self) -> None:
        if self._reserved:
            self._gateway.reserved_bytes -= self._reserved
            self._reserved = 0

    # ------------------------------------------------------------ serving

    def _serve(self, head: RequestHead, admitted: Admitted, body: bytes) -> None:
        gateway = self._gateway
        endpoint = admitted.endpoint
        if endpoint.kind is _MODELS:
            self._list_models(head, admitted)
            return
        route, asked = route_of(admitted, head, body)
        now, scope = gateway.monotonic(), admitted.scope
        permit = None
        if scope.limits is not None or route.overload is not None:
            permit = gateway.entrance.let_in(scope, route, endpoint, asked, body, now)
            self._key_lines = permit.lines
        self._state = _BUSY
        self.deadline = NEVER
        exchange = Exchange(gateway, self, head, endpoint, route, asked, body, now, scope.tenant)
        if permit is not None:
            exchange.permit = permit
        self._exchange = exchange
        exchange.begin(None if permit is None else permit.turned)

    def _list_models(self, head: RequestHead, admitted: Admitted) -> None:
        self.send(
            models_listed(
                listed(admitted, head),
                decision=str(admitted.table.head),
                mode=self._gateway.mode_name,
                connection=self.connection_line(delimited=True),
            )
        )
        self.finished()

    def _answer_turned(self, head: RequestHead, turned: Turned) -> None:
        """Turn a request away that has been read whole."""
        self._gateway.figures.refused(turned.refusal.code)
        fields = turned.fields + b"x-leeward-mode: %b\r\nx-leeward-request-id: %b\r\n" % (
            self._gateway.mode_name,
            self._gateway.next_id(),
        )
        self.refuse(turned.refusal, turned.message, turned.dialect, fields=fields)

    def _turn_away(self, refusal: Refusal, message: str, dialect: Dialect, fields: bytes = b"") -> None:
        """Answer, and end the connection: its next bytes mean nothing that could be relied on."""
        gateway = self._gateway
        gateway.figures.refused(refusal.code)
        self._release()
        self._arriving = None
        self._buffer = b""
        self._unwritten = 0
        self._state = _State.CLOSING
        self.deadline = gateway.coarse_now + gateway.limits.linger_s
        fields += b"x-leeward-request-id: %b\r\n" % gateway.next_id()
        self.send(refuse(refusal, message, dialect, fields=fields, close=True))
        # Closing now, with bytes of the client unread, would reset the connection and take the answer along. TLS
        # cannot close one direction: there the client has until `deadline` to read and go.
        if self._transport.can_write_eof():
            self._transport.write_eof()

    @property
    def _dialect(self) -> Dialect:
        return dialect_of(self._head) if self._state is _State.BODY else Dialect.OPENAI
