"""Spans of one request: a server span, and a client span per attempt. Made only where telemetry is real.

Attribute names are OpenTelemetry's (HTTP and GenAI semantic conventions); `leeward.*` are ours.
"""

from typing import TYPE_CHECKING

from edge_router.core.body import Asked
from edge_router.core.endpoints import Endpoint, Kind
from edge_router.core.table import Candidate, RouteEntry
from edge_router.core.wire import RequestHead
from shared.telemetry import Span

if TYPE_CHECKING:
    from edge_router.adapters.gateway import Gateway


class Trace:
    """The spans of one request. `lines` are the header lines that hand the attempt's context on."""

    __slots__ = ("_attempt", "_gateway", "_name", "_server", "lines")

    def __init__(
        self,
        gateway: "Gateway",
        head: RequestHead,
        endpoint: Endpoint,
        route: RouteEntry,
        asked: Asked | None,
    ) -> None:
        self._gateway = gateway
        self._attempt: Span | None = None
        self.lines = b""
        method = head.method.decode()
        model = asked.model[1:-1].decode("utf-8", "replace") if asked is not None else ""
        self._name = f"{endpoint.operation} {model}" if model else method
        attributes: dict[str, str | bool | int | float] = {
            "http.request.method": method,
            "url.path": head.path.decode(),
            "leeward.route": route.id,
            "leeward.decision": str(route.version),
            "leeward.mode": gateway.mode.value,
            "leeward.edge": gateway.edge_id,
            "cloud.region": gateway.region,
        }
        if model:
            attributes["gen_ai.request.model"] = model
        if endpoint.kind is not Kind.PLAIN:
            attributes["http.route"] = head.path.decode()
            attributes["gen_ai.operation.name"] = endpoint.operation
        self._server = gateway.telemetry.begin(
            f"{method} {head.path.decode()}" if endpoint.kind is not Kind.PLAIN else f"{method} {route.id}",
            kind="server",
            parent=head.traceparent,
            attributes=attributes,
        )

    def attempt(self, candidate: Candidate, number: int) -> None:
        """An attempt begins."""
        target = candidate.target
        self._attempt = self._gateway.telemetry.begin(
            self._name,
            kind="client",
            parent=self._server.traceparent,
            attributes={
                "leeward.target": target.id,
                "leeward.tier": candidate.tier,
                "leeward.attempt": number,
                "cloud.region": target.region,
                "server.address": target.origin.host,
                "server.port": target.origin.port,
            },
        )
        self.lines = b"traceparent: %b\r\n" % self._attempt.traceparent.encode()

    def attempt_ended(self, status: int | None, error: str) -> None:
        """It ended, with a status if there was one; `error` is empty when it was good."""
        span, self._attempt = self._attempt, None
        if span is None:
            return
        if status is not None:
            span.set(http__response__status_code=status)
        if error:
            span.set(error__type=error)
            span.fail(error)
        span.end()

    def ended(self, status: int, attempts: int) -> None:
        """The request has its answer."""
        self.attempt_ended(None, "abandoned")
        self._server.set(http__response__status_code=status, leeward__attempts=attempts)
        if status >= 500:
            self._server.fail(f"status {status}")
        self._server.end()
