"""Relays that look at all of an answer: to keep it, or to hold it against the JSON that was promised.

A stream has been handed on, but for its end, when it can be seen whether it is JSON. So the events that would end
it are kept back until then: where it is not, an in-band error stands in the place of the finish reason.
"""

from typing import Final

from edge_router.core.endpoints import Kind
from edge_router.core.ladder.promised import MAX_ANSWER_BYTES, Promise, stream_keeps, whole_keeps
from edge_router.core.promise import keeps
from edge_router.core.relay import NOT_JSON, Events, Problem, Step, Verdict, Whole
from shared.vocabulary.terms import Outcome

BROKEN_PROMISE: Final = Problem(
    Outcome.GARBLED, "response_format_broken", "the answer is not the JSON that its response format promises"
)
_TOO_LARGE: Final = Problem(
    Outcome.GARBLED,
    "response_format_unchecked",
    f"the answer is over {MAX_ANSWER_BYTES} bytes, too large to check",
)


class WatchedEvents(Events):
    """A stream of which up to `most_bytes` are kept, and whose end is kept back until `promise` was seen kept."""

    __slots__ = ("_most_bytes", "_seen", "_size_seen", "_unchecked")

    def __init__(self, kind: Kind, *, choices: int, most_bytes: int, promise: Promise | None) -> None:
        super().__init__(kind, choices=choices)
        self._most_bytes = most_bytes if promise is None else MAX_ANSWER_BYTES
        self._seen: list[bytes] = []
        self._size_seen = 0
        self._unchecked = promise

    def feed(self, content: bytes, done: bool) -> Step:
        return self._watch(super().feed(content, done))

    def cut(self, problem: Problem) -> Step:
        return self._watch(super().cut(problem))

    @property
    def content(self) -> bytes | None:
        """All events that were handed on; None when they were too many."""
        return b"".join(self._seen) if self._size_seen <= self._most_bytes else None

    def _watch(self, step: Step) -> Step:
        if step.content and step.verdict is not Verdict.BROKEN:
            self._size_seen += len(step.content)
            if self._size_seen <= self._most_bytes:
                self._seen.append(step.content)
            else:
                self._seen.clear()
        promise = self._unchecked
        if promise is None:
            return step
        if self._size_seen > self._most_bytes:
            return self._break(_TOO_LARGE)
        if step.verdict in (Verdict.FINISHING, Verdict.COMPLETE):
            self._unchecked = None
            if not stream_keeps(self._kind, promise, b"".join(self._seen)):
                return self._break(BROKEN_PROMISE)
        return step

    def _break(self, problem: Problem) -> Step:
        self.problem = problem
        return Step(b"", Verdict.BROKEN)


class CheckedWhole(Whole):
    """JSON in one piece whose text must be JSON as well: all of it is held."""

    __slots__ = ("_promise",)

    def __init__(self, kind: Kind, promise: Promise) -> None:
        super().__init__(kind)
        self._promise = promise

    def feed(self, content: bytes, done: bool) -> Step:
        self._held.append(content)
        self._size += len(content)
        if self._size > MAX_ANSWER_BYTES:
            self.problem = _TOO_LARGE
        elif not done:
            return Step(b"", Verdict.HOLD)
        else:
            held = b"".join(self._held)
            if keeps(self._kind, held) is None:
                self.problem = NOT_JSON
            elif not whole_keeps(self._kind, self._promise, held):
                self.problem = BROKEN_PROMISE
            else:
                return Step(held, Verdict.COMPLETE)
        self._held.clear()
        return Step(b"", Verdict.BROKEN)


class KeptWhole(Whole):
    """JSON in one piece of which a copy is kept, up to `most_bytes`."""

    __slots__ = ("_most_bytes", "_seen", "_size_seen")

    def __init__(self, kind: Kind, *, most_bytes: int) -> None:
        super().__init__(kind)
        self._most_bytes = most_bytes
        self._seen: list[bytes] = []
        self._size_seen = 0

    def feed(self, content: bytes, done: bool) -> Step:
        step = super().feed(content, done)
        self._size_seen += len(step.content)
        if self._size_seen <= self._most_bytes:
            self._seen.append(step.content)
        else:
            self._seen.clear()
        return step

    @property
    def content(self) -> bytes | None:
        """All of it; None when it was too large."""
        return b"".join(self._seen) if self._size_seen <= self._most_bytes else None
