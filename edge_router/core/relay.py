"""Handing an answer on without ever making it look better than it is.

A relay takes the content of a target's answer as it comes and says what may go to the client:
    HOLD        nothing yet: as long as nothing of substance has gone out, the request can still move
    PASS        this content goes on
    FINISHING   it goes on, and the model has said that it is done: what is left is awaited for 2 s at most
    COMPLETE    this content was the last; only now may the client's answer end cleanly
    RESUMED     as PASS: from here on, another target goes on with what the first has begun (`recovery`)
    BROKEN      this content was still good, the rest is missing or wrong (`problem`): no clean end

`Whole` is JSON that was promised, `Events` a model's stream, `Opaque` what nobody has promised anything
about, `Withheld` an error that is read before anybody decides what becomes of it.
"""

from enum import Enum
from typing import Final, NamedTuple, Protocol

from edge_router.core.attempts import OVERLOAD_ERRORS
from edge_router.core.balance import Balance
from edge_router.core.endpoints import Kind
from edge_router.core.error_body import MAX_ERROR_BYTES
from edge_router.core.express import Form, form_of
from edge_router.core.promise import keeps
from edge_router.core.sse import EventReader
from shared.vocabulary.terms import Outcome

HOLD_BYTES: Final = 64 * 1024
"""Of a stream, before anything of an answer."""
WHOLE_BYTES: Final = 8 * 1024 * 1024
"""Of an answer in one piece."""
FINISH_S: Final = 2.0
"""After a finish reason: for usage and the end."""


class Verdict(Enum):
    """What to do with a step's content."""

    HOLD = "hold"
    PASS = "pass"  # noqa: S105  (not a password)
    FINISHING = "finishing"
    COMPLETE = "complete"
    BROKEN = "broken"
    RESUMED = "resumed"
    """As PASS, and the first of what another target adds to the stream."""


class Problem(NamedTuple):
    """Why an answer is broken. `told`: the target itself has sent the client an error event."""

    outcome: Outcome | None
    """None where it says nothing about the target."""
    error: str
    message: str
    told: bool = False


SHUTTING_DOWN: Final = Problem(None, "proxy_internal_error", "the edge is shutting down")
"""The edge's own ending of an answer that its target was still giving."""


class Step(NamedTuple):
    """Content that may go on, and what that means."""

    content: bytes
    verdict: Verdict


class Relay(Protocol):
    """How one answer is handed on."""

    problem: Problem | None

    def feed(self, content: bytes, done: bool) -> Step:
        """More content; `done` when the target has ended it properly."""
        ...

    def cut(self, problem: Problem) -> Step:
        """The target has stopped before the end: what that makes of the answer."""
        ...


_HOLD: Final = Step(b"", Verdict.HOLD)


class Whole:
    """JSON in one piece: checked before any of it goes out, if it fits into `WHOLE_BYTES` and the edge's
    memory; a longer one goes out as it comes, and its last bytes only when every bracket is closed."""

    __slots__ = ("_balance", "_kept", "_kind", "held", "problem")

    def __init__(self, kind: Kind) -> None:
        self.problem: Problem | None = None
        self._kind = kind
        self._kept: list[bytes] = []
        self.held = 0
        """Bytes."""
        self._balance: Balance | None = None

    def feed(self, content: bytes, done: bool) -> Step:
        balance = self._balance
        if balance is not None:
            balance.feed(content)
            if balance.wrong or (done and not balance.whole):
                self.problem = NOT_JSON
                return Step(b"", Verdict.BROKEN)
            return Step(content, Verdict.COMPLETE if done else Verdict.PASS)
        self._kept.append(content)
        self.held += len(content)
        if not done:
            return self.let_go() if self.held > WHOLE_BYTES else _HOLD
        kept = b"".join(self._kept)
        if keeps(self._kind, kept) is not None:
            return Step(kept, Verdict.COMPLETE)
        self.problem = NOT_JSON
        return Step(b"", Verdict.BROKEN)

    def let_go(self) -> Step:
        """Pass on what is held, whatever becomes of the rest."""
        kept = b"".join(self._kept)
        self._kept.clear()
        self.held = 0
        self._balance = Balance()
        return self.feed(kept, False)

    def cut(self, problem: Problem) -> Step:
        self.problem = problem
        return Step(b"", Verdict.BROKEN)


class Opaque:
    """Anything: passed as it comes."""

    __slots__ = ("problem",)

    def __init__(self) -> None:
        self.problem: Problem | None = None

    def feed(self, content: bytes, done: bool) -> Step:
        return Step(content, Verdict.COMPLETE if done else Verdict.PASS)

    def cut(self, problem: Problem) -> Step:
        self.problem = problem
        return Step(b"", Verdict.BROKEN)


class Withheld:
    """An error: BROKEN, without a problem, as soon as `content` is all of it, or more than is read."""

    __slots__ = ("content", "done", "problem")

    def __init__(self) -> None:
        self.problem: Problem | None = None
        self.content = b""
        self.done = False

    def feed(self, content: bytes, done: bool) -> Step:
        self.content += content
        self.done = done
        return Step(b"", Verdict.BROKEN) if done or len(self.content) > MAX_ERROR_BYTES else _HOLD

    def cut(self, problem: Problem) -> Step:
        self.problem = problem
        return Step(b"", Verdict.BROKEN)


class Events:
    """A model's stream: whole events only, so that an error event can follow wherever it breaks."""

    __slots__ = ("_held", "_kind", "_passing", "_reader", "_size", "problem")

    def __init__(self, kind: Kind, *, choices: int) -> None:
        self.problem: Problem | None = None
        self._kind = kind
        self._reader = EventReader(kind, choices=choices)
        self._held: list[bytes] = []
        self._size = 0
        self._passing = False

    def feed(self, content: bytes, done: bool) -> Step:
        reader = self._reader
        content = reader.feed(content)
        self.problem = self._fault(done)
        return self._onward(content, done)

    def _onward(self, content: bytes, done: bool) -> Step:
        """What of `content` goes on: nothing before there is something of an answer, and then all that was held."""
        reader = self._reader
        if not self._passing:
            if self.problem is not None and not reader.substance:
                return Step(b"", Verdict.BROKEN)
            self._held.append(content)
            self._size += len(content)
            if not reader.substance and self._size <= HOLD_BYTES:
                return _HOLD
            content = b"".join(self._held)
            self._held.clear()
            self._passing = True
        if self.problem is not None:
            return Step(content, Verdict.BROKEN)
        if done:
            return Step(content + self._ending(), Verdict.COMPLETE)
        if reader.finished or reader.ended:
            return Step(content, Verdict.FINISHING)
        return Step(content, Verdict.PASS)

    def cut(self, problem: Problem) -> Step:
        reader = self._reader
        if self._passing and (reader.finished or reader.ended) and not reader.error:
            return Step(self._ending(), Verdict.COMPLETE)
        self.problem = problem
        return Step(b"", Verdict.BROKEN)

    @property
    def ordinary(self) -> bool:
        """Whether it goes on, with nothing held back: one more event like those before changes nothing."""
        return self._passing and self._reader.ordinary

    def form(self, event: bytes) -> Form | None:
        """What `event`, just passed on, has in common with those to come; None unless it was an ordinary one."""
        return form_of(event) if self.ordinary else None

    def _fault(self, done: bool) -> Problem | None:
        reader = self._reader
        if reader.fault:
            return Problem(Outcome.GARBLED, "http_protocol_error", reader.fault)
        if reader.error:
            outcome = OVERLOAD_ERRORS.get(reader.error, Outcome.FAILED)
            return Problem(
                outcome, "http_response_incomplete", f"the target said {reader.error[:64]}", told=True
            )
        if reader.ended and not reader.substance:
            return Problem(Outcome.GARBLED, "http_response_incomplete", "the stream was empty")
        if done and not (reader.finished or reader.ended):
            return Problem(
                Outcome.GARBLED, "http_response_incomplete", "the stream ended before the answer did"
            )
        return None

    def _ending(self) -> bytes:
        """The dialect's last event, where the target has left it out."""
        return b"" if self._reader.ended else _ENDINGS.get(self._kind, b"")


_DONE: Final = b"data: [DONE]\n\n"
_ENDINGS: Final = {
    Kind.CHAT: _DONE,
    Kind.COMPLETIONS: _DONE,
    Kind.MESSAGES: b'event: message_stop\ndata: {"type":"message_stop"}\n\n',
}
NOT_JSON: Final = Problem(
    Outcome.GARBLED, "http_protocol_error", "the answer is not the JSON that was promised"
)
