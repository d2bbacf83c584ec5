"""One request: from its last byte to the last byte of its answer, over as many attempts as that takes.

What an attempt is worth and whether the request may move is decided in `core.attempts`, where to go in
`core.choose`; here it is carried out. What the client gets to see of it is `delivery`. Nothing in either file waits:
they are called by the client's connection, by the target's, and by the sweep when `deadline` has passed.
"""

from typing import Final

from edge_router.adapters.interpreted import Interpreted
from edge_router.adapters.resumption import Resumption
from edge_router.adapters.struck import Struck
from edge_router.adapters.upstream import Connection
from edge_router.core.answers import CLIENT_GONE, Refusal
from edge_router.core.attempts import (
    AGAIN_MOST_S,
    MAX_ATTEMPTS,
    REPLAY_BYTES,
    Course,
    Judgement,
    error_token,
    judge,
    judge_error,
    may_move,
    pause_s,
    within_budget,
)
from edge_router.core.choose import Nobody, Readiness, not_longer
from edge_router.core.cooling import UNSAID, cooling_of
from edge_router.core.error_body import TOLD_STATUSES, About, Told, read_error
from edge_router.core.fault_filter import Effect
from edge_router.core.messages import call_request, plain_request, told
from edge_router.core.promise import keeps
from edge_router.core.relay import NOT_JSON, Events, Opaque, Problem, Relay, Verdict, Whole, Withheld
from edge_router.core.strategies import affinity
from edge_router.core.table import Candidate
from edge_router.core.transcript import RECOVERABLE
from edge_router.core.wire import ResponseHead
from shared.classify import Classified, Fault, Phase, of_fault
from shared.vocabulary.terms import Outcome, Strategy


class Exchange(Resumption, Interpreted):
    """See the module. The sweep calls `timed_out` soon after `deadline`."""

    _again: Candidate | None = None
    """The same target, to be asked once more at `deadline`; nothing is under way until then."""
    _resort = False
    """The attempt under way is at a cooling target: there is no other after it."""
    _retried = False
    """A stale connection has been replaced."""
    _spent = False
    """The body was too large to be kept and has been sent."""
    _too_short: tuple[str, ...] = ()
    """Targets whose context is not known to be longer than one that the prompt did not fit into."""

    # ------------------------------------------------------------ called by the client's connection

    def begin(self) -> None:
        """Choose and send."""
        now = self.started
        gateway = self._gateway
        gateway.exchanges.add(self)
        tracing = gateway.tracing
        if tracing is not None and tracing.wants(self.route.id, self._head.traceparent):
            self._trace = self._begun(tracing)
        ladder = self.route.ladder
        if ladder is not None and self._settled(ladder, now):
            return
        if self.route.streams is not None and self._streamed and self._endpoint.kind in RECOVERABLE:
            if ladder is not None:
                self._read_call()  # as the client wrote it
            self._attend(self.route.streams)
        try:
            candidate = gateway.chooser.first(self.route, now, self._key())
            if candidate.target.spliced is not self._endpoint.dialect:
                candidate = self._fit(candidate, now)
        except Nobody as nobody:
            self._nobody(nobody)
        else:
            self._attempt(candidate, now)

    def _key(self) -> bytes:
        """What the strategy `hash` goes by."""
        return affinity(self._body, self._tenant) if self.route.strategy is _HASH else b""

    def abandon(self) -> None:
        """The client is gone: stop the target's work."""
        now = self._gateway.monotonic()
        if self._drop_attempt():
            self._lane.ended(None, now, trial=self._trial)
        if self._trace is not None:
            self._trace.attempt_ended(None, "client_gone", now)
        if self._streamed and self._committed:
            self._gateway.figures.stream_ended("abandoned")
        self._close(CLIENT_GONE, now)

    def pause(self) -> None:
        """The client reads slower than the target writes."""
        self._paused = True
        if self._connection is not None:
            self._connection.pause()

    def resume(self) -> None:
        """The client has caught up."""
        self._paused = False
        if self._connection is not None:
            self._connection.resume()
            self._wait(self._idle_s)

    # ------------------------------------------------------------ called by the sweep

    def timed_out(self, now: float) -> None:
        """`deadline` has passed."""
        if self._again is not None:
            self._ask_again(now)
            return
        if self._paused and now < self._limit_at:
            self.deadline = self._limit_at  # the client is what is slow; its own deadline runs
            return
        self._drop_attempt()
        self._lost(Fault.TIMEOUT, None, now)

    # ------------------------------------------------------------ called by the gateway

    def stop(self) -> None:
        """The edge is going away and cannot wait: end the answer, in-band where it has begun."""
        self._limit_at = 0.0
        if self._again is not None:
            self._refuse(Refusal.UPSTREAM, f"the edge is going away ({told(self._failures)})")
            return
        self._drop_attempt()
        self._lost(Fault.OWN, None, self._gateway.monotonic())

    # ------------------------------------------------------------ attempts

    def _attempt(self, candidate: Candidate, now: float) -> None:
        gateway = self._gateway
        lane = gateway.lane(candidate.target)
        self._candidate = candidate
        self._lane = lane
        timeouts = self.route.timeouts
        self._idle_s = timeouts.idle_reasoning_s if candidate.target.reasoning else timeouts.idle_s
        self.attempts += 1
        self._attempt_at = now
        self._sent_any = False
        # Where all are cooling one is asked, as a last resort, but not one after the other: a storm of 429
        # must not become a storm of attempts.
        if (resort := now < lane.spared.until) is not self._resort:
            self._resort = resort
        self._trial = lane.begin(now)
        if self._trace is not None:
            self._trace.attempt(candidate, self.attempts, now, self._paths.get(candidate.target.id, b""))
        faults = gateway.fault_filter
        if faults is not None and faults.in_force:
            effect = faults.strike(candidate.target.id, now)
            if effect is not None:
                self._suffer(effect, now)
                return
        connection = lane.pool.take()
        if connection is None:
            self._connect(now)
        else:
            self._send(connection, now)

    def _suffer(self, effect: Effect, now: float) -> None:
        """The attempt as a drill's fault makes it."""
        struck = Struck(
            self,
            effect,
            kind=self._endpoint.kind if self._translation is None else self._translation.endpoint.kind,
            dialect=self._candidate.target.dialect,
            choices=self._asked.choices if self._streamed and self._asked is not None else None,
        )
        if effect.status is not None and not effect.refuse:
            self._send(struck, now)
            return
        self._phase = Phase.CONNECT
        self.deadline = min(self._limit_at, now + self.route.timeouts.connect_s)
        if effect.refuse:
            self._connection = struck
            struck.refuse()
        else:
            self._connecting = struck.connect(self._lane.pool)

    def _connect(self, now: float) -> None:
        self._phase = Phase.CONNECT
        self.deadline = min(self._limit_at, now + self.route.timeouts.connect_s)
        self._connecting = self._lane.pool.connect(self)

    def connected(self, connection: Connection) -> None:
        """The connection asked for is open."""
        self._connecting = None
        self._send(connection, self._gateway.monotonic())

    def unconnected(self, fault: Fault, code: int | None) -> None:
        """None could be opened."""
        self._connecting = None
        self._lost(fault, code, self._gateway.monotonic())

    def _send(self, connection: Connection, now: float) -> None:
        self._connection = connection
        self._phase = _ANSWER
        self._sent_any = True
        if self._streamed:
            timeouts = self.route.timeouts
            reasoning = self._candidate.target.reasoning
            first_s = timeouts.ttft_reasoning_s if reasoning else timeouts.ttft_s
            self.deadline = min(self._limit_at, now + max(first_s, self._lane.ttft_floor_s))
        else:
            first_at = now + self.route.timeouts.first_byte_s
            self.deadline = first_at if first_at < self._limit_at else self._limit_at  # noqa: FURB136  (min() is a call)
        connection.send(self._request(), self, bodyless=self._head.method == b"HEAD")
        if len(self._body) > REPLAY_BYTES:
            self._body = b""  # too large to be kept: its one attempt is under way
            self._spent = True
            self._forget()

    def _request(self) -> list[bytes | memoryview]:
        head, asked, lane = self._head, self._asked, self._lane
        trace = head.trace if self._trace is None else self._trace.lines
        if head.timeout_ms is not None:
            # For a target that is an edge itself; others pass it over.
            left_s = self.started + self._total_s() - self._attempt_at
            trace += b"x-leeward-timeout-ms: %d\r\n" % max(1, int(left_s * 1000))
        if asked is None:
            prefix = lane.prefix(head.method, head.path + head.query)
            return plain_request(
                prefix, head, trace, self.request_id, self._body, self._client.forwarded(head)
            )
        if self._wording is not None:
            return self._worded_request(self._wording, trace)
        prefix = lane.prefix(b"POST", self._endpoint.suffix + head.query)
        return call_request(prefix, head, trace, self.request_id, self._body, asked, lane.entry.model_json)

    # ------------------------------------------------------------ called by the target's connection

    def answered(self, head: ResponseHead, body: bytes, done: bool) -> None:
        """The head of an answer."""
        self._response = head
        if self._trace is not None:
            self._trace.passed(body)
        if self._translation is not None:
            self._answered_otherwise(self._translation, head, body, done)
            return
        if done:
            self._connection = None
            if self._calls_for_json and head.good_json:
                tokens = keeps(self._endpoint.kind, body)
                if tokens is not None and (self.route.ladder is None or self._keeps_promise(body)):
                    self._whole(head, body, tokens)
                    if self.route.ladder is not None:
                        self._store(head, body, self._gateway.monotonic())
                    return
        judgement = judge(head, self._endpoint, streamed=self._streamed, credential=self._lane.authenticated)
        self._judgement = judgement
        if self.route.ladder is not None:
            self._watch = self._watching(judgement)
        if head.status in TOLD_STATUSES and self._asked is not None and not self._committed:
            self._phase = Phase.BODY
            self._relay = Withheld()
            self._take(self._relay.feed(body, done))
            return
        if judgement.course is not Course.PASS:
            self._unwelcome(judgement, head, body, done, _SAYS_NOTHING)
            return
        self._phase = Phase.BODY
        self._relay = relay = self._handing_on(judgement)
        if relay is None:
            self._drop_attempt()
            self._fail(None, "http_response_status", self._gateway.monotonic())
            return
        self._take(relay.feed(body, done))

    def _handing_on(self, judgement: Judgement) -> Relay | None:
        """How the answer goes to the client; None for one that is no part of the stream that has begun."""
        if judgement.outcome is not Outcome.OK or self._asked is None:
            return None if self._committed else Opaque()
        if not self._streamed:
            return Whole(self._endpoint.kind)
        if self._recovery is not None:
            return self._attended(self._recovery)
        return Events(self._endpoint.kind, choices=self._asked.choices)

    def more(self, body: bytes, done: bool) -> None:
        """More of its body."""
        if done:
            self._connection = None
        if self._trace is not None:
            self._trace.passed(body)
        relay = self._relay
        assert relay is not None
        self._take(relay.feed(body, done))
        if self._forms_left and self.chunked and type(relay) is Events:
            self._express(relay, body)

    def lost(self, fault: Fault, code: int | None) -> None:
        """The target's connection is gone, the answer is not complete."""
        connection, self._connection = self._connection, None
        now = self._gateway.monotonic()
        stale = connection is not None and connection.used and not connection.heard
        again = may_move(self._head, self._endpoint, sent=True, bound=False) and not (
            self._retried or self._spent
        )
        if stale and again:
            # Kept alive too long: the target closed it as we wrote. Not its failure, and nothing has moved.
            self._retried = True
            self._connect(now)
            return
        self._lost(fault, code, now)

    # ------------------------------------------------------------ moving on

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
        error = error_token(self._phase, fault)
        if self._relay is not None:
            problem = Problem(classified.outcome, error, classified.detail)
            step = self._relay.cut(problem)
            if step.verdict is Verdict.COMPLETE or self._committed:
                self._take(step)
                return
        self._fail(None if fault is Fault.OWN else classified.outcome, error, now)

    def _fail(self, outcome: Outcome | None, error: str, now: float) -> None:
        """The attempt brought nothing that a client could see."""
        self._failures += ((self._candidate.target.id, error),)
        self._end_attempt(outcome, error, now, status=None)
        self._go(self._other(now, lone=outcome is Outcome.FAILED), now)

    def _end_attempt(self, outcome: Outcome | None, error: str, now: float, *, status: int | None) -> None:
        self._relay = None
        if self._reserved:
            self._free()
        if outcome is None and status is not None:
            self._lane.answered_client_fault(now)
        else:
            self._lane.ended(outcome, now, trial=self._trial)
            if self._sent_any:
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


# What every request looks at: a member looked up in its class costs 60 ns (Python 3.11).
_HASH: Final = Strategy.HASH
_ANSWER: Final = Phase.ANSWER
_SAYS_NOTHING: Final = Told(About.OTHER)
