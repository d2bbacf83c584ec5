"""What looks at all of an answer while it is handed on: to keep it, or to hold it against the JSON that was promised.

It stands behind whatever relay reads the answer, and sees the steps that it has allowed. A promised answer in one piece is
kept back until it is whole. A stream has been handed on, but for its end, when it can be seen whether it is JSON:
so the step with its finish reason is kept back until then, and where it is not, an in-band error stands in its place.
"""

from typing import Final

from edge_router.core.endpoints import Kind
from edge_router.core.ladder.promised import MAX_ANSWER_BYTES, Promise, stream_keeps, whole_keeps
from edge_router.core.promise import keeps
from edge_router.core.relay import NOT_JSON, Problem, Relay, Step, Verdict
from shared.vocabulary.terms import Outcome

BROKEN_PROMISE: Final = Problem(
    Outcome.GARBLED, "response_format_broken", "the answer is not the JSON that its response format promises"
)
TOO_LARGE: Final = Problem(
    Outcome.GARBLED,
    "response_format_unchecked",
    f"the answer is over {MAX_ANSWER_BYTES} bytes, too large to check",
)
_HOLD: Final = Step(b"", Verdict.HOLD)


class Watch:
    """One answer. Up to `most_bytes` of it are kept; up to `MAX_ANSWER_BYTES` where there is a `promise`."""

    __slots__ = ("_kind", "_most_bytes", "_promise", "_seen", "_size", "_streamed")

    def __init__(self, kind: Kind, *, streamed: bool, most_bytes: int, promise: Promise | None) -> None:
        self._kind = kind
        self._streamed = streamed
        self._most_bytes = most_bytes if promise is None else MAX_ANSWER_BYTES
        self._promise = promise
        self._seen: list[bytes] = []
        self._size = 0

    @property
    def content(self) -> bytes | None:
        """All that was allowed to go on; None when it was too much to be kept."""
        return b"".join(self._seen) if self._size <= self._most_bytes else None

    def see(self, step: Step, relay: Relay) -> Step:
        """The step that may be taken instead of one that `relay` allows; its `problem` is set where it may not."""
        if step.verdict in (Verdict.HOLD, Verdict.BROKEN):
            return step
        self._size += len(step.content)
        if self._size <= self._most_bytes:
            self._seen.append(step.content)
        else:
            self._seen.clear()
        if self._promise is None:
            return step
        if self._size > self._most_bytes:
            return _broken(relay, TOO_LARGE)
        return self._streaming(step, relay) if self._streamed else self._whole(step, relay)

    def _streaming(self, step: Step, relay: Relay) -> Step:
        promise = self._promise
        if promise is None or step.verdict not in (Verdict.FINISHING, Verdict.COMPLETE):
            return step
        if not stream_keeps(self._kind, promise, b"".join(self._seen)):
            return _broken(relay, BROKEN_PROMISE)
        self._promise = None
        return step

    def _whole(self, step: Step, relay: Relay) -> Step:
        if step.verdict is not Verdict.COMPLETE:
            return _HOLD
        whole = b"".join(self._seen)
        if keeps(self._kind, whole) is None:
            return _broken(relay, NOT_JSON)  # what was read in parts has only been looked at by its beginning
        if self._promise is not None and not whole_keeps(self._kind, self._promise, whole):
            return _broken(relay, BROKEN_PROMISE)
        return Step(whole, Verdict.COMPLETE)


def _broken(relay: Relay, problem: Problem) -> Step:
    relay.problem = problem
    return Step(b"", Verdict.BROKEN)
