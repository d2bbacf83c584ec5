"""What the client sees of a request: a target's answer as it comes, or the edge's own in its place.

What of an answer may be handed on is decided in `core.relay`; here it is written to the client, and the request
ended and counted. Which target is asked, and what follows an attempt that came to nothing, is `exchange`, which
builds upon this: as a subclass, for a second object would cost every request its making.
"""

from abc import abstractmethod
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from edge_router.adapters.attempt import Attempt
from edge_router.adapters.figures import BROKEN
from edge_router.adapters.passing import passing
from edge_router.adapters.tracing import Trace, Tracing
from edge_router.adapters.upstream import UpstreamConnection
from edge_router.core.answers import Refusal, last_event
from edge_router.core.attempts import Judgement
from edge_router.core.body import Asked
from edge_router.core.endpoints import Endpoint
from edge_router.core.entrance import Permit
from edge_router.core.held import Held
from edge_router.core.ladder.watch import Watch
from edge_router.core.messages import answer_head, refusal_fields
from edge_router.core.recovery import Recovery
from edge_router.core.relay import FINISH_S, SHUTTING_DOWN, Events, Relay, Step, Verdict, Whole
from edge_router.core.table import Candidate, RouteEntry
from edge_router.core.tokens import NONE, Tokens, tokens_of
from edge_router.core.wire import RequestHead, ResponseHead
from shared.vocabulary.terms import Outcome

if TYPE_CHECKING:
    from edge_router.adapters.gateway import Gateway
    from edge_router.adapters.listener import ClientConnection

NEVER: Final = float("inf")


class Delivery(Attempt):
    """What was asked, the attempt whose answer is handed on, and how far that has come.

    `deadline` is monotonic: when the sweep should look at this request.
    """

    # What every request sets: slots are quicker than a dict of more than twenty, which is left for the rest.
    __slots__ = (
        "_asked",
        "_attempt_at",
        "_body",
        "_calls_for_json",
        "_candidate",
        "_client",
        "_endpoint",
        "_first_at",
        "_gateway",
        "_head",
        "_idle_s",
        "_judgement",
        "_lane",
        "_limit_at",
        "_phase",
        "_response",
        "_sent_any",
        "_streamed",
        "_tenant",
        "_trial",
        "deadline",
        "request_id",
        "route",
        "started",
    )

    # What most requests never change stands here: setting thirty attributes would cost each of them 1 us.
    chunked = False
    _relay: Relay | None = None
    _trace: Trace | None = None
    permit: Permit | None = None
    """Of a key or a route with limits."""
    _failures: tuple[tuple[str, str], ...] = ()
    """Of each attempt that came to nothing: target and error."""
    _committed = False
    """Something of an answer has gone to the client."""
    _extra = False
    """It has moved on beyond its free move."""
    _paths: Mapping[str, bytes] = MappingProxyType({})
    """By which targets are called, where that is not the endpoint's own."""
    _tokens = NONE
    """As the answer's last bytes say."""
    _forms_left = 32
    """Forms that may still be learnt: a stream whose every event has another learns none for good."""
    _watch: Watch | None = None
    """Of an answer that must be seen whole; of most, nobody's."""
    _recovery: Recovery | None = None
    """Of streams whose route asks for more than that broken ones end in-band."""
    _finish_at = NEVER
    """When an answer that has had its finish reason is finished at the latest."""
    _reserved = 0
    """Bytes of an answer that are held, as the gateway counts them."""

    # Of the attempt under way, set as it begins:
    _candidate: Candidate
    _attempt_at: float
    _idle_s: float
    # and as its answer does:
    _response: ResponseHead
    _judgement: Judgement
    _first_at: float

    def __init__(
        self,
        gateway: "Gateway",
        client: "ClientConnection",
        head: RequestHead,
        endpoint: Endpoint,
        route: RouteEntry,
        asked: Asked | None,
        body: bytes,
        now: float,
        tenant: str,
    ) -> None:
        self._gateway = gateway
        self._client = client
        self._head = head
        self._endpoint = endpoint
        self._asked = asked
        self._body = body
        self._streamed = asked is not None and asked.stream
        self._calls_for_json = asked is not None and not asked.stream
        self.route = route
        self._tenant = tenant
        self.request_id = gateway.next_id()
        self.started = now
        total_s = route.timeouts.total_s
        if head.timeout_ms is not None:
            total_s = min(total_s, head.timeout_ms / 1000)
        if head.patience_s is not None:
            total_s = min(total_s, head.patience_s)  # until the answer begins
        self._limit_at = self.deadline = now + total_s

    def _client_call(self) -> tuple[bytes, Asked | None]:
        """The call as its client wrote it."""
        return self._body, self._asked

    # ------------------------------------------------------------ a target's answer

    def _whole(self, response: ResponseHead, body: bytes, tokens: Tokens) -> None:
        """The common case, all of a good answer at once: no relay, one write."""
        gateway = self._gateway
        now = gateway.monotonic()
        connection = self._client.connection_line(delimited=True)
        if connection or self._failures or response.content_length is None:
            self._client.send(self._head_lines(response, len(body)) + body)
        else:
            self._client.send(
                b"".join(
                    (
                        response.lines,
                        self._candidate.stamp,
                        gateway.first_attempt_line,
                        self.request_id,
                        b"\r\n\r\n",
                        body,
                    )
                )
            )
        took_s = now - self._attempt_at
        self._ended = self.attempts
        self._lane.won(now, took_s, took_s)
        if self._trace is not None:
            self._trace.attempt_ended(200, "", now, outcome=Outcome.OK)
        if tokens is not NONE:
            self._tokens = tokens
            gateway.figures.used(self.route.id, tokens)
        self._close(200, now)
        self._client.finished()

    def _take(self, step: Step) -> None:
        if self._watch is not None and self._relay is not None:
            step = self._watch.see(step, self._relay)
        content, verdict = step
        if verdict is Verdict.PASS and self._committed:
            # The common case of a stream; its idle time is long enough for the sweep's clock.
            if content:
                self._client.send_content(content, chunked=self.chunked)
            idle_at = self._gateway.coarse_now + self._idle_s
            self.deadline = idle_at if idle_at < self._limit_at else self._limit_at  # noqa: FURB136  (min() is a call)
            return
        if verdict is Verdict.HOLD:
            if not self._streamed or self._recovery is not None:
                self._holding()
            return
        self._deliver(content, verdict, self._gateway.monotonic())

    def _deliver(self, content: bytes, verdict: Verdict, now: float) -> None:
        """What changes how far the answer has come: its beginning, its end, and where it breaks."""
        self._note_tokens(content)
        if self._recovery is not None and self._recovery.caught_up:
            self._resumed(self._recovery, now)
        if verdict is Verdict.BROKEN and not self._committed and not content:
            self._broken_before_answer(now)
            return
        if not self._committed:
            self._commit(complete=len(content) if verdict is Verdict.COMPLETE else None, now=now)
        if verdict is Verdict.COMPLETE:
            self._client.send_last(content, chunked=self.chunked)
            self._won(now)
            return
        if content:
            self._client.send_content(content, chunked=self.chunked)
        if verdict is Verdict.BROKEN:
            if self._recovery is None or not self._resumes(self._recovery, now):
                self._break_off(now)
            return
        self._expect(finishing=verdict is Verdict.FINISHING, now=now)

    def _express(self, relay: Events, event: bytes) -> None:
        """Let events of the form of `event` pass the short way, where nobody else wants to see them; and none of any
        form behind half an event, or after the finish reason."""
        if not isinstance(connection := self._connection, UpstreamConnection):
            return
        if not relay.ordinary:
            connection.express = None
        elif self._forms_left and self._trace is None and self._watch is None and self._recovery is None:
            form = relay.form(event)
            if form is not None:
                self._forms_left -= 1
                connection.express = passing(self, form, self._client.send, self._gateway, self._idle_s)

    @abstractmethod
    def _broken_before_answer(self, now: float) -> None:
        """Nothing of this answer has gone out, and nothing will: the request may still move."""

    @abstractmethod
    def _resumes(self, recovery: Recovery, now: float) -> bool:
        """Whether another target is to go on with a stream that is broken; if not, nothing has been done."""

    @abstractmethod
    def _resumed(self, recovery: Recovery, now: float) -> None:
        """Another target has caught up with a broken stream: what follows is its."""

    def _holding(self) -> None:
        """More of an answer is held back: within the memory that there is for it, and not without end."""
        relay = self._relay
        if isinstance(relay, Whole) or (isinstance(relay, Held) and relay.substance):
            gateway = self._gateway
            growth = relay.held - self._reserved
            if gateway.reserved_bytes + growth > gateway.limits.reserved_bytes:
                self._free()
                self._take(relay.let_go())
                return
            gateway.reserved_bytes += growth
            self._reserved += growth
            self._expect(finishing=isinstance(relay, Held) and relay.finishing, now=gateway.monotonic())
        elif not self._streamed:
            self._wait(self._idle_s)

    def _free(self) -> None:
        """The gateway's memory has what this request held of it."""
        self._gateway.reserved_bytes -= self._reserved
        self._reserved = 0

    def _commit(self, *, complete: int | None, now: float) -> None:
        """The answer begins: from here on, it is this target's."""
        self._committed = True
        self._first_at = now
        if self._reserved:
            self._free()
        if self._head.patience_s is not None:
            self._limit_at = self.started + self._total_s()
        if self._trace is not None:
            self._trace.first(now, self._attempt_at)
        if self._streamed:
            self._gateway.figures.first_byte(self.route.id, now - self.started)
            if self.permit is not None:
                self.permit.first(self._candidate.target.id, now - self._attempt_at)
        response = self._response
        length = response.content_length if complete is None else complete
        if self._head.method == b"HEAD" or response.status in (204, 304):
            length = response.content_length
        elif length is None or (complete is None and isinstance(self._relay, (Events, Held))):
            length = None
            self.chunked = not self._head.http_1_0
        self._client.send(self._head_lines(response, length))

    def _head_lines(self, response: ResponseHead, length: int | None) -> bytes:
        return answer_head(
            response,
            self._candidate.stamp,
            mode=self._gateway.mode_name,
            attempts=self.attempts,
            request_id=self.request_id,
            length=length,
            chunked=self.chunked,
            failures=self._failures,
            call=self._asked is not None,
            connection=self._client.connection_line(delimited=length is not None or self.chunked),
        )

    def _won(self, now: float) -> None:
        """The answer is complete and the client has it."""
        outcome = self._judgement.outcome
        if outcome is Outcome.OK:
            self._ended = self.attempts
            self._lane.won(now, now - self._attempt_at, self._first_at - self._attempt_at)
        else:
            self._end_at_lane(outcome, now, answered=True)
            if outcome is not None:
                self._traced(now)
        if self._trace is not None:
            self._trace.attempt_ended(self._response.status, self._judgement.error, now, outcome=outcome)
        if self._connection is not None:
            # The answer was finished without waiting for the target's end.
            self._connection.abort()
            self._connection = None
        if self._streamed:
            self._gateway.figures.stream_ended("complete")
            if self._recovery is not None and self._recovery.hides_usage:
                self._tokens = self._recovery.tokens
        if self._tokens is not NONE and self._asked is not None:
            self._gateway.figures.used(self.route.id, self._tokens)
        self._close(self._response.status, now)
        self._client.finished()

    def _break_off(self, now: float) -> None:
        """An answer that has begun cannot be completed: say so in-band, and end without a clean end."""
        relay = self._relay
        assert relay is not None
        problem = relay.problem
        assert problem is not None
        self._drop_attempt()
        self._end_at_lane(problem.outcome, now)
        trace = self._traced(now)
        if trace is not None:
            trace.attempt_ended(self._response.status, problem.error, now, outcome=problem.outcome)
        event = b""
        if isinstance(relay, (Events, Held)) and not problem.told:
            message, recovery = problem.message, self._recovery
            if problem is not SHUTTING_DOWN:
                message = f"{self._candidate.target.id}: {message}"
                if recovery is not None and recovery.resumes:
                    message += f"; not resumed, for {recovery.impossible}"
            event = last_event(self._endpoint.kind, "stream_broken", message)
        self._end_broken(problem.error, event, now)

    def _end_broken(self, error: str, event: bytes, now: float) -> None:
        """The answer ends here, without a clean end; `event` says why."""
        self._gateway.figures.broke_off(error)
        if self._streamed:
            self._gateway.figures.stream_ended("broken")
        self._close(self._response.status, now, instead=BROKEN)
        self._client.break_off(event, chunked=self.chunked)

    # ------------------------------------------------------------ the edge's own

    def _refuse(self, refusal: Refusal, message: str) -> None:
        """The edge's own answer, in a target's place."""
        fields = refusal_fields(
            refusal,
            self._failures,
            decision=str(self.route.version),
            mode=self._gateway.mode_name,
            attempts=self.attempts,
            request_id=self.request_id,
        )
        if refusal is Refusal.OVERLOADED_ROUTE and self.permit is not None and self.permit.turned is not None:
            fields += self.permit.turned.fields
        now = self._gateway.monotonic()
        if not self.attempts:
            self._traced(now)  # of one with attempts the first that failed has decided
        self._close(refusal.status, now, refusal.code)
        self._client.refuse(refusal, message, self._endpoint.dialect, fields=fields)

    # ------------------------------------------------------------ details

    def _expect(self, *, finishing: bool, now: float) -> None:
        """More must come before the idle time is over; after a finish reason, all of it within `FINISH_S`."""
        if finishing:
            self._finish_at = min(self._finish_at, now + FINISH_S)
            self.deadline = min(self._limit_at, self._finish_at)
        else:
            self.deadline = min(self._limit_at, now + self._idle_s)

    def _total_s(self) -> float:
        """The route's time for all of it, or the client's own where that is shorter."""
        total_s, timeout_ms = self.route.timeouts.total_s, self._head.timeout_ms
        return total_s if timeout_ms is None else min(total_s, timeout_ms / 1000)

    def _wait(self, seconds: float, now: float | None = None) -> None:
        now = self._gateway.monotonic() if now is None else now
        self.deadline = min(self._limit_at, now + seconds)

    def _begun(self, tracing: Tracing) -> Trace:
        return Trace(
            tracing,
            head=self._head,
            endpoint=self._endpoint,
            route=self.route,
            asked=self._asked,
            request_id=self.request_id,
            mode=self._gateway.mode.value,
            began=self.started,
        )

    def _traced(self, now: float) -> Trace | None:
        """The trace of a request that went wrong: begun now, with the times of then, unless it already was."""
        tracing = self._gateway.tracing
        if self._trace is None and tracing is not None and tracing.affords(now):
            self._trace = self._begun(tracing)
            if self.attempts:
                path = self._paths.get(self._candidate.target.id, b"")
                self._trace.attempt(self._candidate, self.attempts, self._attempt_at, path)
        return self._trace

    def _note_tokens(self, content: bytes) -> None:
        """The first and the last bytes of an answer may say what it takes."""
        tokens = tokens_of(content)
        if tokens is not NONE:
            self._tokens = tokens

    def _close(self, status: int, now: float, code: str = "", *, instead: int = 0) -> None:
        self.deadline = NEVER
        gateway = self._gateway
        gateway.exchanges.discard(self)
        if self._extra:
            self._extra = False
            gateway.extra_active -= 1
        if self._reserved:
            self._free()
        permit = self.permit
        if permit is not None:
            self.permit = None
            target, began = (self._candidate.target.id, self._attempt_at) if self.attempts else ("", now)
            permit.close(status, code, self._tokens, target, now - began, broken=instead != 0)
        gateway.figures.answered(
            self.route.id, status, now - self.started, code, tenant=self._tenant, instead=instead
        )
        if self._trace is not None:
            self._trace.ended(status, self.attempts, now, code)
