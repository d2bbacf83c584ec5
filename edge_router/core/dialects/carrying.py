"""Relays that take a target's answer and hand on the client's: what may go on, and when, is as in `core.relay`.

A stream is framed and checked by the target's own EventReader first, so that a stream that was cut, garbled or ended
in an error is known as one whatever it is translated into. The client's last events are written only when the
target's answer was complete.
"""

import re
from collections.abc import Callable, Iterator
from typing import Final, Protocol

from edge_router.core.decoding import UNREADABLE
from edge_router.core.dialects.neutral import Counted, Delta, Failure, Garbled
from edge_router.core.endpoints import Kind
from edge_router.core.promise import keeps
from edge_router.core.relay import NOT_JSON, Events, Problem, Step, Verdict
from edge_router.core.sse import LINE_END, fields_of
from edge_router.core.tokens import NONE, Tokens
from shared.vocabulary.terms import Outcome

WHOLE_BYTES: Final = 8 * 1024 * 1024
"""An answer in one piece is translated whole, so it has to be held."""


_NOT_PROMISED: Final = (Garbled, *UNREADABLE)
"""What reading or writing a target's answer may raise; the last of what is nested without end."""


class Reader(Protocol):
    """A target's stream."""

    def read(self, name: str, data: bytes) -> Iterator[Delta]:
        """What an event says. Raises Garbled or msgspec.DecodeError."""
        ...


class Writer(Protocol):
    """A client's stream."""

    def write(self, delta: Delta) -> bytes:
        """The events that say `delta`. Raises Garbled."""
        ...

    def end(self) -> bytes:
        """The last events."""
        ...


class CarriedWhole:
    """An answer in one piece."""

    __slots__ = ("_carry", "_held", "_kind", "_size", "problem", "tokens")

    def __init__(self, kind: Kind, carry: Callable[[bytes], tuple[bytes, Tokens]]) -> None:
        """`carry` gives the client's answer and what it took; it raises Garbled or msgspec.DecodeError."""
        self.problem: Problem | None = None
        self._kind = kind
        self._carry = carry
        self.tokens = NONE
        """As the target's answer says."""
        self._held: list[bytes] = []
        self._size = 0

    def feed(self, content: bytes, done: bool) -> Step:
        """All of it is held until `done`."""
        self._held.append(content)
        self._size += len(content)
        if self._size > WHOLE_BYTES:
            self._held.clear()
            return self._broken(f"an answer of more than {WHOLE_BYTES} bytes is not translated")
        if not done:
            return Step(b"", Verdict.HOLD)
        content = b"".join(self._held)
        self._held.clear()
        if keeps(self._kind, content) is None:
            self.problem = NOT_JSON
            return Step(b"", Verdict.BROKEN)
        try:
            carried, self.tokens = self._carry(content)
        except _NOT_PROMISED as error:
            return self._broken(str(error))
        return Step(carried, Verdict.COMPLETE)

    def cut(self, problem: Problem) -> Step:
        """Nothing of it has gone out."""
        self.problem = problem
        return Step(b"", Verdict.BROKEN)

    def _broken(self, why: str) -> Step:
        self.problem = Problem(Outcome.GARBLED, "http_protocol_error", why)
        return Step(b"", Verdict.BROKEN)


class CarriedEvents(Events):
    """A stream: every event of the target's is translated by itself."""

    __slots__ = ("_finished", "_from", "_garbled", "_to", "tokens")

    def __init__(self, kind: Kind, reader: Reader, writer: Writer) -> None:
        super().__init__(kind, choices=1)
        self._from = reader
        self._to = writer
        self._garbled = ""
        self.tokens = NONE
        """As the target's answer says."""
        self._finished = False
        """The client's last events are out."""

    def feed(self, content: bytes, done: bool) -> Step:
        """See relay.Relay."""
        reader = self._reader
        content = self._carried(reader.feed(content))
        self.problem = self._fault(done)
        if self._garbled:
            self.problem = Problem(Outcome.GARBLED, "http_protocol_error", self._garbled)
        step = self._onward(content, done)
        if step.verdict is Verdict.FINISHING and reader.ended:
            return Step(step.content + self._ending(), Verdict.FINISHING)
        return step

    def _carried(self, events: bytes) -> bytes:
        said: list[bytes] = []
        for event in _EVENT.findall(LINE_END.sub(b"\n", events) if b"\r" in events else events):
            name, data = fields_of(event)
            if not data:
                continue
            try:
                for delta in self._from.read(name, data):
                    said.append(self._to.write(delta))
                    if isinstance(delta, Counted):
                        self.tokens = Tokens(delta.usage.read, delta.usage.written)
                    if isinstance(delta, Failure):
                        return b"".join(said)
            except _NOT_PROMISED as error:
                self._garbled = str(error)
                break
        return b"".join(said)

    def _ending(self) -> bytes:
        if self._finished:
            return b""
        self._finished = True
        return self._to.end()


_EVENT: Final = re.compile(rb"((?:[^\n]+\n)+)\n")
