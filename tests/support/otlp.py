"""An OTLP/HTTP receiver inside the test: what any OpenTelemetry backend would be sent."""

import gzip
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass(frozen=True, slots=True)
class ReceivedSpan:
    """One span as it arrived; ids in lower-case hex, "" where absent."""

    service: str
    name: str
    trace_id: str
    span_id: str
    parent_id: str
    links: tuple[tuple[str, str], ...]
    """(trace id, span id) of each."""
    attributes: dict[str, object]
    kind: str = ""
    """`server`, `client`, `producer`, `consumer` or `internal`."""
    start_ns: int = 0
    end_ns: int = 0
    failed: bool = False
    status: str = ""
    events: tuple[tuple[str, dict[str, object]], ...] = ()
    """(name, attributes) of each."""


def _plain(attributes: Any) -> dict[str, object]:
    return {
        item.key: getattr(item.value, item.value.WhichOneof("value") or "string_value") for item in attributes
    }


@dataclass(slots=True)
class OtlpReceiver:
    """Listens on a free loopback port within `async with`; `endpoint` goes into OTEL_EXPORTER_OTLP_ENDPOINT."""

    spans: list[ReceivedSpan] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    """Of every export, unpacked: for what must not be in any."""
    endpoint: str = ""
    _runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=64 * 2**20)
        app.router.add_post("/v1/traces", self._receive)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.endpoint = f"http://{host}:{port}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    def named(self, name: str) -> list[ReceivedSpan]:
        """Spans of that name, in order of arrival."""
        return [span for span in self.spans if span.name == name]

    async def _receive(self, request: web.Request) -> web.Response:
        body = await request.read()
        if body[:2] == b"\x1f\x8b":
            body = gzip.decompress(body)
        self.bodies.append(body)
        message = ExportTraceServiceRequest.FromString(body)
        for resource_spans in message.resource_spans:
            resource = {item.key: item.value.string_value for item in resource_spans.resource.attributes}
            for scope_spans in resource_spans.scope_spans:
                for span in scope_spans.spans:
                    self.spans.append(
                        ReceivedSpan(
                            service=resource.get("service.name", ""),
                            name=span.name,
                            trace_id=span.trace_id.hex(),
                            span_id=span.span_id.hex(),
                            parent_id=span.parent_span_id.hex(),
                            links=tuple((link.trace_id.hex(), link.span_id.hex()) for link in span.links),
                            attributes=_plain(span.attributes),
                            kind=span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_").lower(),
                            start_ns=span.start_time_unix_nano,
                            end_ns=span.end_time_unix_nano,
                            failed=span.status.code == span.status.STATUS_CODE_ERROR,
                            status=span.status.message,
                            events=tuple((event.name, _plain(event.attributes)) for event in span.events),
                        )
                    )
        return web.Response(content_type="application/x-protobuf", body=b"")
