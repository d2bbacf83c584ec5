"""An error of a target, told in the client's dialect: read whole, for an envelope cannot be translated by halves."""

from edge_router.core.relay import HOLD_BYTES, Problem, Step, Verdict
from edge_router.core.translation import Translation


class ToldError:
    """The relay of one. What is longer than an error ever is, is told by its status alone."""

    __slots__ = ("_held", "_status", "_translation", "problem")

    def __init__(self, translation: Translation, status: int) -> None:
        self.problem: Problem | None = None
        self._translation = translation
        self._status = status
        self._held = b""

    def feed(self, content: bytes, done: bool) -> Step:
        """See relay.Relay."""
        self._held += content
        if len(self._held) > HOLD_BYTES:
            return Step(self._translation.error(self._status, b""), Verdict.COMPLETE)
        if not done:
            return Step(b"", Verdict.HOLD)
        return Step(self._translation.error(self._status, self._held), Verdict.COMPLETE)

    def cut(self, problem: Problem) -> Step:
        """See relay.Relay."""
        self.problem = problem
        return Step(b"", Verdict.BROKEN)
