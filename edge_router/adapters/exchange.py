"""One request: from its last byte to the last byte of its answer, over as many attempts as that takes.

What an attempt is worth and whether the request may move is decided in `core.attempts`, where to go in
`core.choose`; here it is carried out. What follows an attempt that came to nothing is `moving`, what the client gets to
see of it `delivery`. Nothing in these files waits: they are called by the client's connection, by the target's, and by the sweep when `deadline` has passed.
"""

from typing import Final

from edge_router.adapters.moving import Moving
from edge_router.adapters.struck import Struck
from edge_router.adapters.upstream import Connection
from edge_router.core.answers import CLIENT_GONE, Refusal
from edge_router.core.attempts import (
    REPLAY_BYTES,
    Course,
    Judgement,
    judge,
    may_move,
)
from edge_router.core.choose import Nobody
from edge_router.core.error_body import TOLD_STATUSES, About, Told
from edge_router.core.fault_filter import Effect
from edge_router.core.messages import call_request, plain_request
from edge_router.core.promise import keeps
from edge_router.core.reception import Turned
from edge_router.core.relay import SHUTTING_DOWN, Events, Opaque, Relay, Verdict, Whole, Withheld
from edge_router.core.strategies import affinity
from edge_router.core.table import Candidate
from edge_router.core.transcript import RECOVERABLE
from edge_router.core.wire import ResponseHead
from shared.classify import Fault, Phase
from shared.vocabulary.terms import Outcome, Strategy


class Exchange(Moving):
    """See the module. The sweep calls `timed_out` soon after `deadline`."""

    _retried = False
    """A stale connection has been replaced."""

    # ------------------------------------------------------------ called by the client's connection

    def begin(self, turned: Turned | None = None) -> None:
        """Choose and send. `turned`: the route has no room, so only what it has in place of its own targets."""
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
        if turned is not None:
            self._spill(turned)
            return
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
            self._end_at_lane(None, now)
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
        if self._again is None:
            self._drop_attempt()
            relay = self._relay
            if relay is not None:
                step = relay.cut(SHUTTING_DOWN)
                if step.verdict is Verdict.COMPLETE or self._committed:
                    self._take(step)
                    return
            self._failures += ((self._candidate.target.id, SHUTTING_DOWN.error),)
            self._end_attempt(None, SHUTTING_DOWN.error, self._gateway.monotonic(), status=None)
        self._refuse(Refusal.UPSTREAM, SHUTTING_DOWN.message)

    # ------------------------------------------------------------ after an error of the edge's own

    def crashed(self, where: str, error: Exception) -> None:
        """Something in here raised what nobody expected: no answer can be vouched for, so the client's connection ends."""
        self._gateway.own_errors.note(where, error)
        self.give_back()
        self._client.cut()

    def give_back(self) -> None:
        """Give back what is still held, each thing once, however far it had come."""
        gateway = self._gateway
        now = gateway.monotonic()
        try:
            self._drop_attempt()
            if self.attempts:
                self._end_at_lane(None, now)
            if self in gateway.exchanges:
                self._close(CRASHED, now)
        except Exception as error:  # noqa: BLE001  (what raised once may raise again)
            gateway.own_errors.note("give_back", error)
        gateway.exchanges.discard(self)

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
        if self.chunked and type(relay) is Events:
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


# What every request looks at: a member looked up in its class costs 60 ns (Python 3.11).
_HASH: Final = Strategy.HASH
_ANSWER: Final = Phase.ANSWER
_SAYS_NOTHING: Final = Told(About.OTHER)
CRASHED: Final = 500
"""As what a request is counted that an error of the edge's own has ended."""
