"""A stream that breaks after something of it has reached the client: handed to another target, or ended.

How the two answers are put together is decided in `core.recovery`; here the attempt is ended and the next one asked
for. Between `delivery` and `exchange`, for it is about both; streams that did not opt in never come here.
"""

from abc import abstractmethod

from edge_router.adapters.delivery import NEVER, Delivery
from edge_router.core.answers import Refusal, last_event
from edge_router.core.body import Asked
from edge_router.core.choose import Nobody
from edge_router.core.cooling import UNSAID
from edge_router.core.ladder.watch import BROKEN_PROMISE
from edge_router.core.recovery import DIVERGED, How, Recovery
from edge_router.core.relay import SHUTTING_DOWN, Relay
from edge_router.core.table import Candidate, StreamRules
from shared.vocabulary.terms import Outcome


class Resumption(Delivery):
    """See the module."""

    _paused = False
    """The client reads slower than the target writes."""
    _own: tuple[bytes, Asked] | None = None
    """The call as its client wrote it, where it is sent otherwise."""

    def _attend(self, rules: StreamRules) -> None:
        """A stream begins whose route asks for more than that broken ones end in-band."""
        assert self._asked is not None
        self._own = self._body, self._asked
        self._recovery = Recovery(self._endpoint.kind, rules, self._body, self._asked)
        self._body, self._asked = self._recovery.request

    def _client_call(self) -> tuple[bytes, Asked | None]:
        return self._own or super()._client_call()

    def _forget(self) -> None:
        """The call is too large to be kept."""
        self._own = None
        if self._recovery is not None:
            self._recovery.forget()

    def _reframe(self, other: Candidate) -> None:
        """What `other` is sent, for it to go on with what the client has; one of another dialect begins anew."""
        assert self._recovery is not None
        native = other.target.dialect is self._endpoint.dialect
        prefill = native and "prefill" in other.target.capabilities
        self._body, self._asked = self._recovery.again(prefill=prefill)

    def _attended(self, recovery: Recovery, carrier: Relay | None = None) -> Relay:
        """How the answer to a stream with rules of its own is handed on; `carrier` translates it, where it must be."""
        if not self._committed:
            return recovery.first(carrier)
        if self._paused and self._connection is not None:
            self._connection.pause()
        return recovery.next(self._candidate.target.id, self.attempts, carrier)

    def _resumes(self, recovery: Recovery, now: float) -> bool:
        assert self._relay is not None
        problem = self._relay.problem
        assert problem is not None
        if not recovery.resumes or problem is BROKEN_PROMISE or problem is SHUTTING_DOWN:
            return False
        if recovery.how is not None and problem.error == DIVERGED:
            self._gateway.figures.recovered(recovery.how, "diverged")
        if recovery.impossible:
            self._gateway.figures.recovered("none", "impossible")
            return False
        if problem.outcome is Outcome.THROTTLED:
            self._lane.cool(UNSAID, now)
        self._drop_attempt()
        self._finish_at = NEVER
        self._failures += ((self._candidate.target.id, problem.error),)
        self._end_attempt(problem.outcome, problem.error, now, status=None)
        accident = problem.outcome in (Outcome.FAILED, Outcome.GARBLED)
        self._go(self._other(now, lone=accident), now)
        return True

    def _resumed(self, recovery: Recovery, now: float) -> None:
        recovery.caught_up = False
        self._first_at = now
        self._gateway.figures.recovered(recovery.how or How.REPLAY, "resumed")

    def _refuse(self, refusal: Refusal, message: str) -> None:
        if not self._committed:
            super()._refuse(refusal, message)
            return
        # The client has the head of an answer and some of it: what would have been an error is said in-band.
        if message == SHUTTING_DOWN.message:
            said = message
        else:
            self._gateway.figures.recovered("none", "no_target")
            said = f"the stream could not be resumed: {message}"
        event = last_event(self._endpoint.kind, "stream_broken", said)
        self._end_broken(self._failures[-1][1], event, self._gateway.monotonic())

    @abstractmethod
    def _end_attempt(self, outcome: Outcome | None, error: str, now: float, *, status: int | None) -> None:
        """The attempt under way has come to this."""

    @abstractmethod
    def _other(self, now: float, *, lone: bool) -> Candidate | Nobody | None:
        """Another target, if this request may have one."""

    @abstractmethod
    def _go(self, other: Candidate | Nobody | None, now: float) -> None:
        """On to it, or to the end."""
