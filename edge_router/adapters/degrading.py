"""What becomes of a request that no target can answer, where its route has opted into more than an error.

Between `delivery`, which refuses, and `exchange`, which calls: here an answer is put in the refusal's place, a lighter
route is asked, good answers are stored, and promised JSON is watched. Which answer, and whether, is decided in
`core.ladder`. A route that opted into nothing has no `ladder`, and costs what it did.
"""

from abc import abstractmethod
from typing import Any, Final, NamedTuple

import msgspec

from edge_router.adapters.delivery import Delivery
from edge_router.adapters.figures import DEGRADED
from edge_router.adapters.ladder import HIT, STEP_DOWN
from edge_router.core.answers import Refusal
from edge_router.core.attempts import MAX_ATTEMPTS, Judgement
from edge_router.core.choose import Nobody
from edge_router.core.ladder import directives, rules, shapes, streams
from edge_router.core.ladder.assemble import assemble
from edge_router.core.ladder.call import Call, read
from edge_router.core.ladder.plan import Ladder
from edge_router.core.ladder.promised import Promise, promise_of, whole_keeps
from edge_router.core.ladder.store import ANSWER_BYTES, Key, Stored
from edge_router.core.ladder.watch import BROKEN_PROMISE, Watch
from edge_router.core.messages import refusal_fields, told
from edge_router.core.reception import Turned
from edge_router.core.table import Candidate, RouteEntry
from edge_router.core.wire import ResponseHead
from shared.vocabulary.terms import Outcome

_DEGRADABLE: Final = frozenset(
    {
        *(Refusal.UPSTREAM, Refusal.TIMEOUT, Refusal.FULL, Refusal.SHED, Refusal.NO_TARGET),
        Refusal.OVERLOADED_ROUTE,
    }
)
"""Nobody could answer. Everything else is between the client and the edge."""
EVENTS_BYTES: Final = 4 * ANSWER_BYTES
"""Of a stream that may be stored: events take several times what they say."""


class _Instead(NamedTuple):
    """An answer in a target's place."""

    rung: str
    content: bytes
    fields: bytes
    hand_off: bool = False


class Degrading(Delivery):
    """See the module."""

    _promise: Promise | None = None
    _call: Call | None = None
    _called = False
    _instead: _Instead | None = None
    _stepped = False

    # ------------------------------------------------------------ before a target is asked

    def _settled(self, ladder: Ladder, now: float) -> bool:
        """Whether the request has its answer without any target; at its beginning."""
        if ladder.check_json and self._asked is not None:
            self._promise = promise_of(self._endpoint.kind, self._body)
        if ladder.stored is None or self._head.never_degrade:
            return False
        asked = directives.read(self._head.cache_control)
        if ladder.stored.serve == "when_fresh" or asked.only_if_cached:
            hit = self._stored(ladder, now, failing=False)
            if hit is not None:
                self._hand_hit(hit, now)
                return True
        if asked.only_if_cached:
            self._refuse(Refusal.NOT_STORED, "only a stored answer was asked for, and there is none")
            return True
        return False

    def _hand_hit(self, hit: _Instead, now: float) -> None:
        gateway = self._gateway
        gateway.rungs.used(self.route.id, HIT)
        who = (
            b"x-leeward-decision: %b\r\nx-leeward-mode: %b\r\nx-leeward-attempts: 0\r\nx-leeward-request-id: %b\r\n"
            % (
                str(self.route.version).encode(),
                gateway.mode_name,
                self.request_id,
            )
        )
        self._close(200, now)
        self._answer(hit, who)

    # ------------------------------------------------------------ when none can answer

    def _refuse(self, refusal: Refusal, message: str) -> None:
        ladder = self.route.ladder
        if ladder is None or refusal not in _DEGRADABLE:
            super()._refuse(refusal, message)
            return
        now = self._gateway.monotonic()
        instead = self._instead or self._find_instead(ladder, now)
        if instead is None:
            super()._refuse(refusal, message)
            return
        fields = refusal_fields(
            refusal,
            self._failures,
            decision=str(self.route.version),
            mode=self._gateway.mode_name,
            attempts=self.attempts,
            request_id=self.request_id,
        )
        self._gateway.rungs.used(self.route.id, instead.rung, hand_off=instead.hand_off)
        if not self.attempts:
            self._traced(now)
        self._tell_step(instead.rung, refusal.code, now)
        self._close(200, now, instead=DEGRADED)
        self._answer(instead, b"%bx-leeward-degraded: %b\r\n" % (fields, instead.rung.encode()))

    def _has_better(self, other: Candidate | Nobody | None, now: float) -> bool:
        """Whether the route has opted into something better than handing on a target's failure."""
        ladder = self.route.ladder
        if self.route.lighter is not None and isinstance(other, Nobody) and other.full:
            return True
        if ladder is not None:
            self._instead = self._find_instead(ladder, now)
        return self._instead is not None

    def _find_instead(self, ladder: Ladder, now: float) -> _Instead | None:
        if not ladder.answers or self._head.never_degrade:
            return None
        call = self._read_call()
        if call is None:
            return None
        stored = self._stored(ladder, now, failing=True)
        if stored is not None:
            return stored
        rule = rules.matching(ladder.rules, call.text)
        if rule is not None:
            return self._written("rules", rule.answer, ladder, call)
        if ladder.static is None:
            return None
        return self._written("static", rules.static_text(ladder.static), ladder, call)

    def _written(self, rung: str, template: str, ladder: Ladder, call: Call) -> _Instead | None:
        request_id = self.request_id.decode()
        text = rules.fill(template, {"route": self.route.id, "model": call.model, "request_id": request_id})
        created = int(self._gateway.clock.now().timestamp())
        answer = shapes.whole(self._endpoint.kind, shapes.Own(text, f"leeward/{rung}", request_id, created))
        content = None if answer is None else self._as_asked(answer, call)
        if content is None:
            return None
        why = "request" if directives.read(self._head.cache_control).no_cache else "miss"
        if ladder.stored is None:
            why = "bypass"
        fields = f"cache-status: leeward; fwd={why}; detail={rung}\r\n"
        hand_off = ladder.static.hand_off if rung == "static" and ladder.static is not None else None
        if hand_off is not None and hand_off.url is not None:
            fields += f"x-leeward-hand-off: {hand_off.url}\r\n"
        return _Instead(rung, content, fields.encode(), hand_off is not None)

    def _as_asked(self, answer: dict[str, Any], call: Call) -> bytes | None:
        if not self._streamed:
            return msgspec.json.encode(answer)
        return streams.stream(self._endpoint.kind, answer, usage=call.usage)

    def _answer(self, instead: _Instead, fields: bytes) -> None:
        """Write it: its length is known, streamed or not."""
        kind = b"text/event-stream\r\ncache-control: no-cache" if self._streamed else b"application/json"
        connection = self._client.connection_line(delimited=True)
        head = b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ncontent-length: %d\r\n%b%b%b\r\n" % (
            kind,
            len(instead.content),
            fields,
            instead.fields,
            connection,
        )
        self._client.send(head + instead.content)
        self._client.finished()

    # ------------------------------------------------------------ stepping down

    def _spill(self, turned: Turned) -> None:
        """The route has no room for the request: the lighter one, the other rungs, or what it is told."""
        lighter, permit = self.route.lighter, self.permit
        if lighter is not None and permit is not None and permit.lighter and self._step_down(lighter):
            return
        self._refuse(turned.refusal, turned.message)

    def _step_down(self, lighter: RouteEntry) -> bool:
        """Ask a lighter route's targets, the own ones being full or the share shed; whether there is one."""
        asked = self._asked
        if (
            asked is None
            or asked.bound
            or self._head.never_degrade
            or self._endpoint.operation == "embeddings"  # of another model they are in another space
            or self.attempts >= MAX_ATTEMPTS
        ):
            return False
        gateway = self._gateway
        now = gateway.monotonic()
        own, self.route = self.route, lighter
        try:
            candidate = self._fit(gateway.chooser.first(lighter, now, self._key()), now)
        except Nobody:
            self.route = own
            return False
        self._stepped = True
        gateway.rungs.used(own.id, STEP_DOWN)
        if not self.attempts:
            self._traced(now)
        self._tell_step(STEP_DOWN, "at_capacity", now)
        if self._failures:
            self._go(candidate, now)
        else:
            self._attempt(candidate, now)
        return True

    @abstractmethod
    def _key(self) -> bytes: ...

    @abstractmethod
    def _fit(self, candidate: Candidate, now: float) -> Candidate: ...

    @abstractmethod
    def _attempt(self, candidate: Candidate, now: float) -> None: ...

    @abstractmethod
    def _go(self, other: Candidate | Nobody | None, now: float) -> None: ...

    def _tell_step(self, rung: str, why: str, now: float) -> None:
        trace = self._trace
        if trace is not None:
            trace.stepped(rung, why, now)
        self._gateway.failovers.degraded(
            now,
            request_id=self.request_id.decode(),
            route=self.route.id,
            decision=str(self.route.version),
            attempts=self.attempts,
            rung=rung,
            why=why,
            failures=told(self._failures),
            active=len(self._gateway.exchanges),
            body_bytes=len(self._body),
            trace_id=trace.traceparent[3:35] if trace is not None else None,
        )

    # ------------------------------------------------------------ good answers

    def _keeps_promise(self, content: bytes) -> bool:
        """Whether an answer in one piece is the JSON that was asked for, if it was."""
        return self._promise is None or whole_keeps(self._endpoint.kind, self._promise, content)

    def _watching(self, judgement: Judgement) -> Watch | None:
        """Who sees all of the answer whose head has just come; None where nobody needs to."""
        ladder, asked = self.route.ladder, self._asked
        if ladder is None or asked is None or judgement.outcome is not Outcome.OK:
            return None
        if self._committed:
            return self._watch  # the answer goes on
        if self._promise is None and not self._stores(ladder):
            return None
        most_bytes = EVENTS_BYTES if self._streamed else ANSWER_BYTES
        return Watch(
            self._endpoint.kind, streamed=self._streamed, most_bytes=most_bytes, promise=self._promise
        )

    def _won(self, now: float) -> None:
        watch = self._watch
        if watch is not None and self._judgement.outcome is Outcome.OK:
            content = watch.content
            if content is not None:
                self._store(self._response, content, now)
        super()._won(now)

    def _note_broken_promise(self) -> None:
        """Count an answer that broke its promise before anything of it went out."""
        relay = self._relay
        if self._promise is not None and relay is not None and relay.problem is BROKEN_PROMISE:
            self._gateway.rungs.broke_promise(self._candidate.target.id)

    def _store(self, response: ResponseHead, content: bytes, now: float) -> None:
        """Keep a good answer, as far as route, request and target allow."""
        ladder = self.route.ladder
        if ladder is None or not self._stores(ladder) or b"no-store" in _cache_control(response):
            return
        call = self._read_call()
        if call is None:
            return
        if self._streamed:
            whole = assemble(self._endpoint.kind, content)
            if whole is None:
                return
            content = msgspec.json.encode(whole)
        self._gateway.rungs.store.keep(self._place(call), content, now)

    def _stores(self, ladder: Ladder) -> bool:
        """Whether route and request allow that the answer is kept."""
        if ladder.stored is None or self._stepped or self._head.never_degrade:
            return False
        return not directives.read(self._head.cache_control).no_store and self._read_call() is not None

    def _stored(self, ladder: Ladder, now: float, *, failing: bool) -> _Instead | None:
        rung, call = ladder.stored, self._read_call()
        if rung is None or call is None:
            return None
        stored = self._gateway.rungs.store.find(self._place(call))
        if stored is None:
            return None
        age_s = now - stored.at
        asked = directives.read(self._head.cache_control)
        if not directives.allows(asked, age_s=age_s, ttl_s=rung.ttl_s, stale_s=rung.stale_s, failing=failing):
            return None
        content = self._delivered(stored, call)
        if content is None:
            return None
        detail = "; detail=no-target-answered" if failing else ""
        fields = (
            f"age: {int(age_s)}\r\ncache-status: leeward; hit; ttl={round(rung.ttl_s - age_s)}{detail}\r\n"
        )
        return _Instead("stored", content, fields.encode())

    def _delivered(self, stored: Stored, call: Call) -> bytes | None:
        if not self._streamed:
            return stored.body
        return streams.stream(self._endpoint.kind, msgspec.json.decode(stored.body), usage=call.usage)

    def _place(self, call: Call) -> Key:
        return Key(self._tenant, self.route.id, call.digest)

    def _read_call(self) -> Call | None:
        """The request as the ladder reads it, once; None when it must not be degraded."""
        if not self._called:
            self._called = True
            if self._asked is not None and not self._asked.bound:
                lines = self._head.forward + b"\r\nquery:" + self._head.query
                self._call = read(self._endpoint.kind, self._body, lines)
        return self._call


def _cache_control(response: ResponseHead) -> bytes:
    """The target's own Cache-Control, its lines joined."""
    lines = (line.lower() for line in response.forward.splitlines())
    return b",".join(line for line in lines if line.startswith(b"cache-control:"))
