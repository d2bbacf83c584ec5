"""What follows an attempt that came to nothing: another target, the same one once more, or the end.

Whether a request may move is decided in `core.attempts`, where to in `core.choose`; the attempts themselves are
`exchange`, which builds upon this as this does upon what a route may have opted into: `resumption` of streams,
translation (`interpreted`), and degrading.
"""

from abc import abstractmethod

from edge_router.adapters.interpreted import Interpreted
from edge_router.adapters.resumption import Resumption
from edge_router.core.answers import Refusal
from edge_router.core.attempts import (
    AGAIN_MOST_S,
    MAX_ATTEMPTS,
    Course,
    Judgement,
    error_token,
    judge_error,
    may_move,
    pause_s,
    within_budget,
)
from edge_router.core.choose import Nobody, Readiness, not_longer
from edge_router.core.cooling import UNSAID, cooling_of
from edge_router.core.error_body import Told, read_error
from edge_router.core.messages import told
from edge_router.core.relay import NOT_JSON, Problem, Verdict, Withheld
from edge_router.core.table import Candidate
from edge_router.core.wire import ResponseHead
from shared.classify import Classified, Fault, Phase, of_fault
from shared.vocabulary.terms import Outcome


class Moving(Resumption, Interpreted):
    """See the module."""

    _sent_any: bool
    """Something of the attempt under way has gone to its target."""
    _again: Candidate | None = None
    """The same target, to be asked once more at `deadline`; nothing is under way until then."""
    _resort = False
    """The attempt under way is at a cooling target: there is no other after it."""
    _spent = False
    """The body was too large to be kept and has been sent."""
    _too_short: tuple[str, ...] = ()
    """Targets whose context is not known to be longer than one that the prompt did not fit into."""

    @abstractmethod
    def _attempt(self, candidate: Candidate, now: float) -> None:
        """Ask `candidate`."""

    # ------------------------------------------------------------ an attempt has failed

    def _heard_out(self, withheld: Withheld) -> None:
        """An error has been read: what it is about decides what becomes of it."""
        head, body = self._response, withheld.content
        error = read_error(head.status, body)
        judgement = self._judgement = judge_error(self._judgement, error)
        if judgement.course is Course.PASS:
            self._relay = self._unread(head)
            self._take(self._relay.feed(body, withheld.done))
        else:
            self._unwelcome(judgement, head, body, withheld.done, error)

    def _unwelcome(
        self, judgement: Judgement, head: ResponseHead, body: bytes, done: bool, error: Told
    ) -> None:
        """An answer that another target should replace."""
        now = self._gateway.monotonic()
        if judgement.outcome is Outcome.THROTTLED:
            self._lane.cool(cooling_of(head, error, self._gateway.clock.now()), now)
        if judgement.longer:
            self._too_short += tuple(not_longer(self.route, self._candidate.target))
        self._failures += ((self._candidate.target.id, judgement.error),)
        lone = judgement.outcome is Outcome.FAILED and judgement.course is Course.MOVE
        other = self._other(now, lone=lone)
        moves = isinstance(other, Candidate)
        hands_on = judgement.course is Course.MOVE and not moves and not self._committed
        # Without an outcome it was the client's fault, at every target: nothing else answers that.
        if hands_on and (judgement.outcome is None or not self._has_better(other, now)):
            self._failures = self._failures[:-1]
            self._phase = Phase.BODY
            self._relay = self._unread(head)
            self._take(self._relay.feed(body, done))
            return
        self._drop_attempt()
        self._end_attempt(judgement.outcome, judgement.error, now, status=head.status)
        self._go(other, now)

    def _broken_before_answer(self, now: float) -> None:
        assert self._relay is not None
        if self._relay.problem is None and isinstance(self._relay, Withheld):
            self._heard_out(self._relay)
            return
        self._note_broken_promise()
        problem = self._relay.problem or NOT_JSON
        if problem.outcome is Outcome.THROTTLED:
            self._lane.cool(UNSAID, now)
        self._drop_attempt()
        self._fail(problem.outcome, problem.error, now)

    def _lost(self, fault: Fault, code: int | None, now: float) -> None:
        """The attempt has come to nothing, or its answer to a stop."""
        classified = of_fault(self._phase, fault, code=code) or Classified(Outcome.FAILED)
        outcome = None if fault is Fault.OWN else classified.outcome
        error = error_token(self._phase, fault)
        if self._relay is not None:
            problem = Problem(outcome, error, classified.detail)
            step = self._relay.cut(problem)
            if step.verdict is Verdict.COMPLETE or self._committed:
                self._take(step)
                return
        self._fail(outcome, error, now)

    def _fail(self, outcome: Outcome | None, error: str, now: float) -> None:
        """The attempt brought nothing that a client could see."""
        self._failures += ((self._candidate.target.id, error),)
        self._end_attempt(outcome, error, now, status=None)
        self._go(self._other(now, lone=outcome is Outcome.FAILED), now)

    def _end_attempt(self, outcome: Outcome | None, error: str, now: float, *, status: int | None) -> None:
        self._relay = None
        if self._reserved:
            self._free()
        answered = outcome is None and status is not None
        self._end_at_lane(outcome, now, answered=answered)
        if self._sent_any and not answered:
            self._lane.possibly_billed += 1
        trace = self._traced(now)
        if trace is not None:
            trace.attempt_ended(status, error, now, outcome=outcome)

    def _tried(self) -> list[str]:
        return [*(target for target, _ in self._failures), *self._too_short, *self._unable]

    def _other(self, now: float, *, lone: bool) -> Candidate | Nobody | None:
        """Another target, if this request may have one; None when it may not move. `lone` failures (a 5xx, a
        reset) may be accidents: where there is no other target, the same one is asked once more."""
        if self.attempts >= MAX_ATTEMPTS or now >= self._limit_at or self._resort or self._spent:
            return None
        bound = self._asked is not None and self._asked.bound
        if not may_move(self._head, self._endpoint, sent=self._sent_any, bound=bound):
            return None
        gateway = self._gateway
        moves = self.attempts - 1
        extra, active = gateway.extra_active, len(gateway.exchanges)
        if not within_budget(moves=moves, extra_active=extra, active=active, least=gateway.budget_min):
            gateway.figures.budget_spent += 1
            return None
        try:
            tried = self._tried()
            last = self.attempts == MAX_ATTEMPTS - 1
            return self._fit(gateway.chooser.another(self.route, tried, now, self._key(), last=last), now)
        except Nobody as nobody:
            lone = lone and moves == 0 and self._lane.admission.demerits <= 1
            return self._candidate if lone and now + AGAIN_MOST_S < self._limit_at else nobody

    def _go(self, other: Candidate | Nobody | None, now: float) -> None:
        if isinstance(other, Candidate):
            if self.attempts >= 2 and not self._extra:
                self._extra = True
                self._gateway.extra_active += 1
            self._gateway.figures.moved(self.route.id)
            self._tell_move(other, now)
            if self._committed:
                self._reframe(other)
            if other is self._candidate:
                self._again = other
                self.deadline = now + pause_s(self._gateway.draw())
            else:
                self._attempt(other, now)
        elif isinstance(other, Nobody) and other.full:
            self._nobody(other)
        elif now >= self._limit_at or self._failures[-1][1].endswith("timeout"):
            self._refuse(Refusal.TIMEOUT, f"no target answered in time ({told(self._failures)})")
        else:
            self._refuse(Refusal.UPSTREAM, f"no target could answer ({told(self._failures)})")

    def _ask_again(self, now: float) -> None:
        """The pause before the same target is asked once more is over."""
        candidate, self._again = self._again, None
        assert candidate is not None
        if now >= self._limit_at:
            self._refuse(Refusal.TIMEOUT, f"no target answered in time ({told(self._failures)})")
        elif self._gateway.lane(candidate.target).readiness(now) is Readiness.FULL:
            self._nobody(Nobody(full=True))
        else:
            self._attempt(candidate, now)

    def _tell_move(self, other: Candidate, now: float) -> None:
        failed, error = self._failures[-1]
        trace = self._trace
        if trace is not None:
            trace.moved(other, error, now)
        self._gateway.failovers.moved(
            now,
            request_id=self.request_id.decode(),
            route=self.route.id,
            decision=str(self.route.version),
            attempt=self.attempts + 1,
            failed=failed,
            error=error,
            target=other.target.id,
            trace_id=trace.traceparent[3:35] if trace is not None else None,
        )
