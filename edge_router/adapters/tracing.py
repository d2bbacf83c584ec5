"""Spans of requests: a server span, and a client span per attempt. Made only where telemetry is real.

which       Ordinary requests by share, or as the client's own sampled `traceparent` says: known as they begin.
            Whatever goes wrong is recorded too, from the moment it does, with the times of then: an ordinary
            request pays for one comparison and no more. And the first request of each route that a new decision
            sends elsewhere.
bounded     In an outage every request fails over, so failures have a budget of traces; what is beyond it is
            counted and said.
names       OpenTelemetry's semantic conventions for HTTP and generative AI; `leeward.*` are ours. No body, no
            query, no header of a request is ever in a span.
"""

import random
from typing import Final, NamedTuple

from edge_router.core.answers import CLIENT_GONE
from edge_router.core.body import Asked
from edge_router.core.endpoints import Endpoint, Kind
from edge_router.core.excerpt import Excerpt, Told
from edge_router.core.table import Candidate, RouteEntry, RouteTable
from edge_router.core.wire import RequestHead
from shared.clock import Clock
from shared.log import get_logger
from shared.telemetry import Span, Telemetry, is_recorded
from shared.vocabulary.base import NO_VERSION
from shared.vocabulary.terms import Outcome

log = get_logger(__name__)

FAILURES_PER_S: Final = 200.0
"""Traces of requests that turned out badly: one takes some 0.1 ms of the loop, so at most 2 % of its time."""
FAILURES_AT_ONCE: Final = 400.0
SAY_EVERY_S: Final = 60.0
FIRST_WITHIN_S: Final = 60.0
"""After a decision: what is served first by it an hour later tells nothing of the decision."""
NS: Final = 1_000_000_000

_PROVIDERS: Final = {
    "azure": "azure.ai.openai",
    "bedrock": "aws.bedrock",
    "gemini": "gcp.gemini",
    "google": "gcp.gemini",
    "mistral": "mistral_ai",
    "vertex": "gcp.vertex_ai",
    "xai": "x_ai",
}
"""`gen_ai.provider.name` of providers whose usual id differs from it."""


class First(NamedTuple):
    """The first request that a route serves by a new decision, awaited."""

    applied_in: str
    """The apply span."""
    until: float
    again: bool = False
    """One has failed already."""


class Tracing:
    """What of one edge's requests is recorded. `draw` gives uniform values in [0, 1)."""

    def __init__(
        self, telemetry: Telemetry, *, edge_id: str, region: str, clock: Clock, rng: random.Random
    ) -> None:
        self.telemetry = telemetry
        self.clock = clock
        self.about: dict[str, str | bool | int | float] = {"leeward.edge": edge_id, "cloud.region": region}
        self._share = telemetry.sampling.share
        self._honours_parent = telemetry.sampling.honours_parent
        self._draw = rng.random
        self._firsts: dict[str, First] = {}
        """Those awaited, by route."""
        per_s = telemetry.sampling.per_s
        began = clock.monotonic()
        self._ordinary = None if per_s is None else _Budget(per_s, per_s, now=began)
        self._failures = _Budget(FAILURES_PER_S, FAILURES_AT_ONCE, now=began)
        self._unrecorded = 0
        self._said_at = -SAY_EVERY_S

    def wants(self, route: str, traceparent: str | None) -> bool:
        """Whether a request that begins is recorded from its beginning."""
        if self._firsts and (first := self._firsts.get(route)) is not None:
            now = self.clock.monotonic()
            if now >= first.until:
                del self._firsts[route]
            elif not first.again or self._failures.spend(now):
                # After one that failed this one may fail too, and so on: it counts as a failure beforehand.
                return True
        if traceparent is not None and self._honours_parent:
            return is_recorded(traceparent)
        if self._draw() >= self._share:
            return False
        return self._ordinary is None or self._ordinary.spend(self.clock.monotonic())

    def affords(self, now: float) -> bool:
        """Whether one more request that went wrong may be recorded; takes from their budget."""
        if self._failures.spend(now):
            return True
        self._unrecorded += 1
        if now - self._said_at >= SAY_EVERY_S:
            self._said_at = now
            log.warning("more failures than are traced", unrecorded=self._unrecorded)
        return False

    def swapped(self, before: RouteTable, after: RouteTable, applied_in: str | None) -> None:
        """A decision came into force by the span `applied_in`: watch for the first request that each of the routes
        it moved serves by it."""
        if applied_in is None or not is_recorded(applied_in) or before.head == NO_VERSION:
            return
        moved = [
            name
            for name, route in after.routes.items()
            if route is not before.routes.get(name, route) and _places(route) != _places(before.routes[name])
        ]
        until = self.clock.monotonic() + FIRST_WITHIN_S
        self._firsts = {
            **{name: awaited for name, awaited in self._firsts.items() if name in after.routes},
            **dict.fromkeys(moved, First(applied_in, until)),
        }

    def first_of(self, route: str) -> First | None:
        """Whose first request this is; its successor is not asked again."""
        first = self._firsts.pop(route, None)
        return first if first is not None and self.clock.monotonic() < first.until else None

    def not_served(self, route: str, first: First) -> None:
        """That request failed: the next one will be the first, if it comes in time."""
        if self.clock.monotonic() < first.until:
            self._firsts.setdefault(route, first._replace(again=True))


class _Budget:
    """A token bucket: `per_s` in the long run, `most` at once."""

    __slots__ = ("_at", "_left", "_most", "_per_s")

    def __init__(self, per_s: float, most: float, *, now: float) -> None:
        self._per_s, self._most = per_s, most
        self._left, self._at = most, now

    def spend(self, now: float) -> bool:
        """Take one, if there is one."""
        self._left = min(self._most, self._left + (now - self._at) * self._per_s)
        self._at = now
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True


def _places(route: RouteEntry) -> list[tuple[str, int]]:
    return [(c.target.id, c.weight * tier.share) for tier in route.tiers for c in tier.weighted if tier.share]


class Trace:
    """The spans of one request. Times are monotonic. `lines` are the header lines that hand the attempt's context
    on to the target."""

    __slots__ = (
        "_attempt",
        "_began_ns",
        "_call",
        "_endpoint",
        "_excerpt",
        "_first",
        "_method",
        "_ns",
        "_request_id",
        "_route",
        "_server",
        "_state",
        "_streamed",
        "_target",
        "_tracing",
        "lines",
    )

    def __init__(
        self,
        tracing: Tracing,
        *,
        head: RequestHead,
        endpoint: Endpoint,
        route: RouteEntry,
        asked: Asked | None,
        request_id: bytes,
        mode: str,
        began: float,
    ) -> None:
        clock = tracing.clock
        self._ns = int(clock.now().timestamp() * NS) - int(clock.monotonic() * NS)
        """From monotonic to the epoch: one offset for all spans of a request, so that a step of the wall clock
        bends none of its durations."""
        self._tracing = tracing
        self._endpoint = endpoint
        self._route = route
        self._streamed = asked is not None and asked.stream
        self._request_id = request_id.decode()
        self._attempt: Span | None = None
        self._excerpt: Excerpt | None = None
        self._target = ""
        self._first = tracing.first_of(route.id)
        self.lines = b""
        self._state = b"".join(
            line for line in head.trace.splitlines(keepends=True) if line[:11].lower() == b"tracestate:"
        )
        self._method = method = head.method.decode()
        path = head.path.decode()
        attributes = dict(tracing.about)
        attributes |= {
            "http.request.method": method,
            "url.path": path,
            "url.scheme": "http",
            "network.protocol.version": "1.0" if head.http_1_0 else "1.1",
            "leeward.route": route.id,
            "leeward.decision": str(route.version),
            "leeward.mode": mode,
            "leeward.request_id": self._request_id,
        }
        self._call = _call_attributes(endpoint, asked)
        attributes |= self._call
        if endpoint.kind is not Kind.PLAIN:
            attributes["http.route"] = path
        self._began_ns = self._at(began)
        self._server = tracing.telemetry.begin(
            f"{method} {route.id if endpoint.kind is Kind.PLAIN else path}",
            kind="server",
            parent=head.traceparent,
            links=() if self._first is None else [self._first.applied_in],
            attributes=attributes,
            record=True,
            at_ns=self._began_ns,
        )

    @property
    def traceparent(self) -> str:
        """Of the server span."""
        return self._server.traceparent

    def attempt(self, candidate: Candidate, number: int, began: float, path: bytes = b"") -> None:
        """An attempt begins, or began. `path` is what the target is called by, where not the endpoint's own."""
        target, endpoint = candidate.target, self._endpoint
        self._target = target.id
        attributes: dict[str, str | bool | int | float] = {
            "http.request.method": self._method,
            "leeward.target": target.id,
            "leeward.tier": candidate.tier,
            "leeward.attempt": number,
            "cloud.region": target.region,
            "server.address": target.origin.host,
            "server.port": target.origin.port,
        }
        name = f"{self._method} {target.id}"
        if endpoint.kind is not Kind.PLAIN:
            scheme, host, port = target.origin
            attributes["url.full"] = (
                f"{scheme}://{host}:{port}{(target.base_path + (path or endpoint.suffix)).decode()}"
            )
            model = target.model_json[1:-1].decode("utf-8", "replace")
            attributes |= self._call
            attributes["gen_ai.provider.name"] = _PROVIDERS.get(target.provider, target.provider)
            attributes["gen_ai.request.model"] = model
            name = f"{endpoint.operation} {model}"
        if number > 1:
            attributes["http.request.resend_count"] = number - 1
        self._excerpt = Excerpt() if endpoint.kind is not Kind.PLAIN else None
        self._attempt = self._tracing.telemetry.begin(
            name,
            kind="client",
            parent=self._server.traceparent,
            attributes=attributes,
            record=True,
            at_ns=self._at(began),
        )
        self.lines = b"traceparent: %b\r\n%b" % (self._attempt.traceparent.encode(), self._state)

    def passed(self, content: bytes) -> None:
        """The target has sent this much more of its answer."""
        if self._excerpt is not None:
            self._excerpt.passed(content)

    def first(self, now: float, began: float) -> None:
        """The first of an answer goes to the client, of an attempt that `began` then."""
        if self._attempt is not None and self._streamed:
            self._attempt.set(gen_ai__response__time_to_first_chunk=round(now - began, 6))
            self._attempt.event(
                "first_token", {"leeward.ttft_ms": round((now - began) * 1000, 3)}, at_ns=self._at(now)
            )

    def moved(self, to: Candidate, error: str, now: float) -> None:
        """The request leaves the target it was at."""
        self._server.event(
            "moved",
            {"leeward.from": self._target, "leeward.to": to.target.id, "error.type": error},
            at_ns=self._at(now),
        )

    def stepped(self, rung: str, why: str, now: float) -> None:
        """The request takes a step of its route's ladder: to a lighter route, or an answer of the edge's own, which is
        no answer by a new decision."""
        self._server.set(leeward__degraded=rung)
        self._server.event("degraded", {"leeward.rung": rung, "error.type": why}, at_ns=self._at(now))
        if self._first is not None and rung != "step_down":
            self._tracing.not_served(self._route.id, self._first)
            self._first = None

    def attempt_ended(
        self, status: int | None, error: str, now: float, *, outcome: Outcome | None = None
    ) -> None:
        """It ended, with a status if there was one; `error` is empty when it was good."""
        span, self._attempt = self._attempt, None
        if span is None:
            return
        if status is not None:
            span.set(http__response__status_code=status)
            if status >= 400:
                error = error or str(status)
        if outcome is not None:
            span.set(leeward__outcome=outcome.value)
        usage = self._excerpt.told() if self._excerpt is not None else Told()
        told = _told(usage)
        span.set(**told)
        span.event(
            "end", {name.replace("__", "."): value for name, value in told.items()}, at_ns=self._at(now)
        )
        if error:
            span.set(error__type=error)
            span.fail(f"{outcome.value}: {error}" if outcome is not None else error)
        span.end(at_ns=self._at(now))

    def ended(self, status: int, attempts: int, now: float, code: str) -> None:
        """The request has its answer: a target's, or the edge's own, which has a `code`."""
        self.attempt_ended(None, code or "abandoned", now)
        gone = status == CLIENT_GONE
        if not gone:
            self._server.set(http__response__status_code=status)
        self._server.set(leeward__attempts=attempts, leeward__target=self._target)
        if code or gone:
            self._server.set(error__type=code or "client_gone")
        elif status >= 500:
            self._server.set(error__type=str(status))
        if status >= 500:
            self._server.fail(code or f"status {status}")
        self._server.end(at_ns=self._at(now))
        if self._first is not None:
            self._say_first(self._first, status, now, good=status < 500 and not gone)

    def _say_first(self, first: First, status: int, now: float, *, good: bool) -> None:
        """The last link of the chain that a failed probe began: in the decision's own trace, and linked to the
        request's."""
        if not good:
            self._tracing.not_served(self._route.id, first)
            return
        span = self._tracing.telemetry.begin(
            "first served",
            parent=first.applied_in,
            links=[self._server.traceparent],
            attributes={
                **self._tracing.about,
                "leeward.route": self._route.id,
                "leeward.decision": str(self._route.version),
                "leeward.target": self._target,
                "leeward.request_id": self._request_id,
                "http.response.status_code": status,
            },
            at_ns=self._began_ns,
        )
        span.end(at_ns=self._at(now))

    def _at(self, moment: float) -> int:
        return self._ns + int(moment * NS)


def _call_attributes(endpoint: Endpoint, asked: Asked | None) -> dict[str, str | bool | int | float]:
    if asked is None:
        return {}
    attributes: dict[str, str | bool | int | float] = {
        "gen_ai.operation.name": endpoint.operation,
        "gen_ai.request.model": asked.model[1:-1].decode("utf-8", "replace"),
    }
    if asked.stream:
        attributes["gen_ai.request.stream"] = True
    return attributes


def _told(usage: Told) -> dict[str, str | bool | int | float]:
    told: dict[str, str | bool | int | float] = {}
    if usage.model:
        told["gen_ai__response__model"] = usage.model
    if usage.input_tokens is not None:
        told["gen_ai__usage__input_tokens"] = usage.input_tokens
    if usage.output_tokens is not None:
        told["gen_ai__usage__output_tokens"] = usage.output_tokens
    return told
