"""The OpenTelemetry SDK behind `shared.telemetry.Telemetry`: spans leave over OTLP/HTTP, in batches, from a thread of their own.

Configured by the standard `OTEL_*` environment variables; without `OTEL_EXPORTER_OTLP_ENDPOINT` (or its
traces-specific twin) nothing of the SDK is even imported. The SDK's queue is bounded (2,048 spans by default) and
drops when a backend is slow or gone: tracing never holds up traffic.
"""

import asyncio
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from shared.telemetry import Attributes, NoTelemetry, Span, SpanKind, Telemetry

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Link, SpanContext
    from opentelemetry.trace import Span as SdkSpan

FLUSH_S = 3.0
"""Time that closing gives pending spans; a dead backend must not hold up a shutdown."""

ENDPOINT_VARIABLES = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


def telemetry_from_env(*, service: str, node: str, region: str) -> Telemetry:
    """Real telemetry where an OTLP endpoint is configured and the SDK is not disabled, else `NoTelemetry`.

    `service` becomes `service.name`, `node` `service.instance.id`, `region` `cloud.region`.
    """
    disabled = os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
    if disabled or not any(os.environ.get(name) for name in ENDPOINT_VARIABLES):
        return NoTelemetry()
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(
        resource=Resource.create(
            {"service.name": service, "service.instance.id": node, "cloud.region": region}
        ),
        shutdown_on_exit=False,
    )
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return OtelTelemetry(provider)


class OtelTelemetry:
    """Spans of one `TracerProvider`, which it owns."""

    def __init__(self, provider: "TracerProvider") -> None:
        from opentelemetry import trace

        self._provider = provider
        self._tracer = provider.get_tracer("leeward")
        self._kinds: dict[str, trace.SpanKind] = {kind.name.lower(): kind for kind in trace.SpanKind}

    def begin(
        self,
        name: str,
        *,
        kind: SpanKind = "internal",
        parent: str | None = None,
        links: Sequence[str] = (),
        attributes: Attributes | None = None,
    ) -> Span:
        return _OtelSpan(
            self._tracer.start_span(
                name,
                context=_parent_context(parent),
                kind=self._kinds[kind],
                links=_links(links),
                attributes=dict(attributes or {}),
            )
        )

    @contextmanager
    def span(
        self,
        name: str,
        *,
        kind: SpanKind = "internal",
        parent: str | None = None,
        links: Sequence[str] = (),
        attributes: Attributes | None = None,
    ) -> Iterator[Span]:
        span = self.begin(name, kind=kind, parent=parent, links=links, attributes=attributes)
        try:
            yield span
        except BaseException as error:
            span.fail(repr(error))
            raise
        finally:
            span.end()

    async def close(self) -> None:
        """Flush, then stop the exporting thread; gives up after `FLUSH_S`."""
        loop = asyncio.get_running_loop()

        def flush() -> None:
            self._provider.force_flush(int(FLUSH_S * 1000))
            self._provider.shutdown()

        try:
            async with asyncio.timeout(FLUSH_S + 0.5):
                await loop.run_in_executor(None, flush)
        except TimeoutError:
            return


class _OtelSpan:
    __slots__ = ("_ended", "_span", "traceparent")

    def __init__(self, span: "SdkSpan") -> None:
        self._span = span
        self._ended = False
        context = span.get_span_context()
        self.traceparent = f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"

    @property
    def recording(self) -> bool:
        return self._span.is_recording()

    def set(self, **attributes: str | bool | int | float) -> None:
        for name, value in attributes.items():
            self._span.set_attribute(name.replace("__", "."), value)

    def event(self, name: str, attributes: Attributes | None = None) -> None:
        self._span.add_event(name, dict(attributes or {}))

    def fail(self, reason: str) -> None:
        from opentelemetry.trace import Status, StatusCode

        self._span.set_status(Status(StatusCode.ERROR, reason))

    def end(self) -> None:
        if not self._ended:
            self._ended = True
            self._span.end()


def _parent_context(parent: str | None) -> "Context":
    """A context that holds just `parent`; an explicit empty one when there is none, so that nothing
    ambient becomes a parent by accident."""
    from opentelemetry.context import Context
    from opentelemetry.trace import NonRecordingSpan, set_span_in_context

    remote = _span_context(parent) if parent else None
    return set_span_in_context(NonRecordingSpan(remote), Context()) if remote else Context()


def _links(traceparents: Sequence[str]) -> "list[Link]":
    from opentelemetry.trace import Link

    contexts = (_span_context(traceparent) for traceparent in dict.fromkeys(traceparents))
    return [Link(context) for context in contexts if context is not None]


def _span_context(traceparent: str) -> "SpanContext | None":
    """W3C Trace Context, section 3.2; None for anything malformed or all zero (3.2.2.3, 3.2.2.4)."""
    from opentelemetry.trace import SpanContext, TraceFlags

    parts: list[Any] = traceparent.split("-")
    try:
        version, trace_id, span_id, flags = (int(part, 16) for part in parts[:4])
    except ValueError:
        return None
    if len(parts[1]) != 32 or len(parts[2]) != 16 or version == 0xFF or not trace_id or not span_id:
        return None
    return SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(flags))
