"""A stream that nobody sees before it is whole: what `stream_recovery: hold` asks for, whichever relay reads it."""

from typing import Final

from edge_router.core.relay import Problem, Relay, Step, Verdict

HELD_BYTES: Final = 1024 * 1024
"""Of a stream that is held."""
_HOLD: Final = Step(b"", Verdict.HOLD)


class Held:
    """A stream that goes out when it is whole, and as it comes once it is too long for that."""

    __slots__ = ("_inner", "_kept", "_passing", "finishing", "held", "problem", "substance")

    def __init__(self, inner: Relay) -> None:
        self._inner = inner
        self._kept: list[bytes] = []
        self._passing = False
        self.problem: Problem | None = None
        self.held = 0
        """Bytes."""
        self.finishing = False
        self.substance = False
        """Something of an answer has come."""

    def feed(self, content: bytes, done: bool) -> Step:
        return self._after(self._inner.feed(content, done))

    def cut(self, problem: Problem) -> Step:
        return self._after(self._inner.cut(problem))

    def let_go(self) -> Step:
        """Pass on what is held, whatever becomes of the rest."""
        self._passing = True
        kept = b"".join(self._kept)
        self._kept.clear()
        self.held = 0
        return Step(kept, Verdict.FINISHING if self.finishing else Verdict.PASS)

    def _after(self, step: Step) -> Step:
        content, verdict = step
        self.problem = self._inner.problem
        if self._passing:
            return step
        if verdict is Verdict.BROKEN:
            return Step(b"", verdict)
        if verdict is Verdict.HOLD:
            return step
        self.substance = True
        self.finishing = verdict is Verdict.FINISHING
        self._kept.append(content)
        self.held += len(content)
        if verdict is Verdict.COMPLETE:
            return Step(b"".join(self._kept), verdict)
        return self.let_go() if self.held > HELD_BYTES else _HOLD
