"""An attempt that suffers a drill's fault: between an exchange and its target, a connection to the one and a
taker to the other.

What the target says is passed on late, in part, or not at all; in the end the exchange is told what it would
have been told had the target done so. Nothing is told after `abort`. Timers are few here, for what is struck
is slow by intent.
"""

import asyncio
import errno
from collections import deque
from collections.abc import Callable

from edge_router.adapters.upstream import Connection, Pool, Taker
from edge_router.core.endpoints import Kind
from edge_router.core.fault_filter import Cutter, Effect, answer_of
from edge_router.core.wire import ResponseHead
from shared.classify import Fault
from shared.vocabulary.terms import Dialect


class Struck:
    """One attempt. `taker` is its exchange."""

    __slots__ = (
        "_cutter",
        "_dialect",
        "_effect",
        "_gone",
        "_latency_s",
        "_loop",
        "_over",
        "_paused",
        "_queue",
        "_real",
        "_taker",
        "_timer",
        "_ttft_s",
    )

    def __init__(
        self, taker: Taker, effect: Effect, *, kind: Kind, dialect: Dialect, choices: int | None
    ) -> None:
        """`choices` is None where no stream was asked for."""
        self._taker = taker
        self._effect = effect
        self._dialect = dialect
        self._latency_s = effect.latency_s + (effect.ttft_s if choices is None else 0.0)
        self._ttft_s = effect.ttft_s if choices is not None else 0.0
        self._cutter: Cutter | None = None
        if effect.stop is not None and choices is not None:
            self._cutter = Cutter(kind, choices=choices, after=effect.after)
        self._loop = asyncio.get_running_loop()
        self._real: Connection | None = None
        self._over = False
        """The target's part is: its connection has ended, or carries somebody else's request."""
        self._gone = False
        self._paused = False
        self._queue: deque[Callable[[], None]] = deque()
        self._timer: asyncio.Handle | None = None

    # ------------------------------------------------------------ in the target's place

    def refuse(self) -> None:
        """As though nobody listened there."""
        self._later(0.0, lambda: self._taker.lost(Fault.REFUSED, errno.ECONNREFUSED))

    def _answer(self) -> None:
        head, body = answer_of(self._effect, self._dialect)
        self._later(self._latency_s, lambda: self._taker.answered(head, body, True))

    # ------------------------------------------------------------ a connection, for the exchange

    @property
    def used(self) -> bool:
        """As the connection itself has it."""
        return self._real is not None and self._real.used

    @property
    def heard(self) -> bool:
        """As the connection itself has it."""
        return self._real is not None and self._real.heard

    def connect(self, pool: Pool) -> asyncio.Task[None] | None:
        """Take a connection of `pool`, or begin to open one."""
        connection = pool.take()
        if connection is None:
            return pool.connect(self)
        self.connected(connection)
        return None

    def send(self, request: list[bytes | memoryview], _taker: Taker, *, bodyless: bool) -> None:
        """Send it, or answer it where the target is not asked."""
        if self._real is None:
            self._answer()
        else:
            self._real.send(request, self, bodyless=bodyless)

    def abort(self) -> None:
        """Stop what is under way; the exchange hears nothing more."""
        self._gone = True
        self._queue.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._let_go()

    def pause(self) -> None:
        """Read no more until `resume`."""
        self._paused = True
        if self._real is not None and not self._over:
            self._real.pause()

    def resume(self) -> None:
        """Read on."""
        self._paused = False
        if self._real is not None and not self._over and self._timer is None:
            self._real.resume()

    # ------------------------------------------------------------ a taker, for the target's connection

    def connected(self, connection: Connection) -> None:
        """A connection is open."""
        self._real = connection
        self._taker.connected(self)

    def unconnected(self, fault: Fault, code: int | None) -> None:
        """None could be opened."""
        self._taker.unconnected(fault, code)

    def answered(self, head: ResponseHead, body: bytes, done: bool) -> None:
        """The head has come."""
        self._over = done
        self._later(self._latency_s, lambda: self._begin(head, body, done))

    def more(self, body: bytes, done: bool) -> None:
        """More of the body."""
        self._over = self._over or done
        self._in_turn(lambda: self._pass_on(body, done, self._taker.more))

    def lost(self, fault: Fault, code: int | None) -> None:
        """No more will come."""
        self._over = True
        self._in_turn(lambda: self._taker.lost(fault, code))

    def crashed(self, where: str, error: Exception) -> None:
        """One of these raised what nobody expected."""
        self._over = True
        self._taker.crashed(where, error)

    # ------------------------------------------------------------ passing on

    def _begin(self, head: ResponseHead, body: bytes, done: bool) -> None:
        if self._ttft_s and head.event_stream:
            self._taker.answered(head, b"", False)
            self._later(self._ttft_s, lambda: self._pass_on(body, done, self._taker.more))
        else:
            self._pass_on(body, done, lambda part, last: self._taker.answered(head, part, last))

    def _pass_on(self, body: bytes, done: bool, tell: Callable[[bytes, bool], None]) -> None:
        if self._effect.stop is None:
            tell(body, done)
        elif self._cutter is None:
            # Not a stream: half of what comes first.
            tell(body[: len(body) // 2], done and not body)
            if body:
                self._stop()
        else:
            part, last = self._cutter.feed(body)
            if last:
                tell(part, False)
                self._stop()
            else:
                tell(part + self._cutter.rest() if done else part, done)

    def _stop(self) -> None:
        if self._gone:
            return
        self._let_go()
        self._queue.clear()
        if self._effect.stop == "cut":
            self._taker.lost(Fault.CLOSED, None)

    def _let_go(self) -> None:
        if self._real is not None and not self._over:
            self._over = True
            self._real.abort()

    def _later(self, seconds: float, action: Callable[[], None]) -> None:
        """Do it after a while, and what comes meanwhile after it. At once when there is nothing to wait
        for and the target speaks; never from within the exchange's own call."""
        if not seconds and self._real is not None:
            self._in_turn(action)
            return
        self._queue.appendleft(action)
        if self._real is not None and not self._over:
            self._real.pause()
        self._timer = self._loop.call_later(seconds, self._go_on)

    def _in_turn(self, action: Callable[[], None]) -> None:
        if self._gone:
            return
        if self._timer is not None:
            self._queue.append(action)
        else:
            action()

    def _go_on(self) -> None:
        self._timer = None
        while self._queue:
            self._queue.popleft()()
            if self._timer is not None:
                return
        if not self._paused and not self._over and self._real is not None:
            self._real.resume()
