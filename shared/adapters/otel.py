"""The OpenTelemetry SDK behind `shared.telemetry.Telemetry`: spans leave over OTLP/HTTP, in batches, from a thread of their own.

Configured by the standard `OTEL_*` environment variables; without `OTEL_EXPORTER_OTLP_ENDPOINT` (or its
traces-specific twin) nothing of the SDK is even imported. The SDK's queue is bounded (2,048 spans by default) and
drops when a backend is slow or gone: tracing never holds up traffic.

`OTEL_TRACES_SAMPLER` and `OTEL_TRACES_SAMPLER_ARG` say which ordinary requests are recorded, and not which spans the
SDK keeps: whether to record one is decided before it is made, by whoever knows what it is about.
"""

import asyncio
import os
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from logging import CRITICAL, getLogger
from typing import TYPE_CHECKING, Any

from shared.log import get_logger
from shared.telemetry import (
    DEFAULT_PER_S,
    DEFAULT_SHARE,
    ENDPOINT_VARIABLES,
    Attributes,
    NoTelemetry,
    Sampling,
    Span,
    SpanKind,
    Telemetry,
    bare_span,
    is_recorded,
)

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Link, SpanContext
    from opentelemetry.trace import Span as SdkSpan

log = get_logger(__name__)

FLUSH_S = 3.0
"""Time that closing gives pending spans; a dead backend must not hold up a shutdown."""


def telemetry_from_env(*, service: str, node: str, region: str, otherwise: str | None = None) -> Telemetry:
    """Real telemetry where an OTLP endpoint is configured and the SDK is not disabled, else `NoTelemetry`.

    `otherwise` is the base URL of a collector on this machine, for when none is configured. `service` becomes `service.name`, `node` `service.instance.id`, `region` `cloud.region`.
    """
    configured = any(os.environ.get(name) for name in ENDPOINT_VARIABLES)
    if configured or otherwise is None:
        otherwise = None
        used: Mapping[str, str] = os.environ
    else:
        used = {**os.environ, ENDPOINT_VARIABLES[0]: otherwise}
    if not wanted(used):
        return NoTelemetry()
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.sampling import ALWAYS_ON

    provider = TracerProvider(
        resource=Resource.create(
            {
                "service.name": service,
                "service.namespace": "leeward",
                "service.instance.id": node,
                "cloud.region": region,
            }
        ),
        sampler=ALWAYS_ON,
        shutdown_on_exit=False,
    )
    provider.add_span_processor(BatchSpanProcessor(_exporter(otherwise)))
    return OtelTelemetry(provider, sampling=sampling_from(os.environ))


def wanted(env: Mapping[str, str]) -> bool:
    """Whether the environment asks for traces: an endpoint, and none of the standard ways to switch them off."""
    off = (
        env.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
        or env.get("OTEL_TRACES_EXPORTER", "").strip().lower() == "none"
        or env.get("OTEL_TRACES_SAMPLER", "").strip().lower() in ("always_off", "parentbased_always_off")
    )
    return not off and any(env.get(name) for name in ENDPOINT_VARIABLES)


def sampling_from(env: Mapping[str, str]) -> Sampling:
    """What `OTEL_TRACES_SAMPLER` and its argument say of ordinary requests; 1 % by default and at most 20 a
    second, a sender's word honoured. What is not understood is warned about and ignored, as the OpenTelemetry specification asks."""
    name = env.get("OTEL_TRACES_SAMPLER", "").strip().lower()
    honours_parent = not name or name.startswith("parentbased_")
    kind = name.removeprefix("parentbased_")
    if kind == "always_on":
        return Sampling(1.0, honours_parent)
    if kind not in ("", "traceidratio"):
        log.warning("OTEL_TRACES_SAMPLER is not known here; taking the default", given=name[:64])
        return Sampling(per_s=DEFAULT_PER_S)
    said = env.get("OTEL_TRACES_SAMPLER_ARG", "").strip()
    if not said:
        return Sampling(1.0, honours_parent) if kind else Sampling(per_s=DEFAULT_PER_S)
    try:
        share = float(said)
    except ValueError:
        share = -1.0
    if not 0.0 <= share <= 1.0:
        log.warning(
            "OTEL_TRACES_SAMPLER_ARG is no share from 0 to 1; taking the default",
            given=said[:64],
            default=DEFAULT_SHARE,
        )
        return Sampling(DEFAULT_SHARE, honours_parent, DEFAULT_PER_S)
    return Sampling(share, honours_parent)


class OtelTelemetry:
    """Spans of one `TracerProvider`, which it owns."""

    def __init__(self, provider: "TracerProvider", *, sampling: Sampling | None = None) -> None:
        from opentelemetry import trace

        self.sampling = sampling or Sampling()
        self._provider = provider
        self._tracer = provider.get_tracer("leeward")
        self._kinds: dict[str, trace.SpanKind] = {kind.name.lower(): kind for kind in trace.SpanKind}
        self._rng = random.Random()

    def begin(
        self,
        name: str,
        *,
        kind: SpanKind = "internal",
        parent: str | None = None,
        links: Sequence[str] = (),
        attributes: Attributes | None = None,
        record: bool | None = None,
        at_ns: int | None = None,
    ) -> Span:
        if not (parent is None or is_recorded(parent) if record is None else record):
            return bare_span(parent, self._rng)
        return _OtelSpan(
            self._tracer.start_span(
                name,
                context=_parent_context(parent),
                kind=self._kinds[kind],
                links=_links(links),
                attributes=dict(attributes or {}),
                start_time=at_ns,
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
        record: bool | None = None,
    ) -> Iterator[Span]:
        span = self.begin(name, kind=kind, parent=parent, links=links, attributes=attributes, record=record)
        try:
            yield span
        except BaseException as error:
            span.set(error__type=type(error).__qualname__)
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
        self._span.set_attributes({name.replace("__", "."): value for name, value in attributes.items()})

    def event(self, name: str, attributes: Attributes | None = None, *, at_ns: int | None = None) -> None:
        self._span.add_event(name, dict(attributes or {}), timestamp=at_ns)

    def fail(self, reason: str) -> None:
        from opentelemetry.trace import Status, StatusCode

        self._span.set_status(Status(StatusCode.ERROR, reason))

    def end(self, *, at_ns: int | None = None) -> None:
        if not self._ended:
            self._ended = True
            self._span.end(at_ns)


def _exporter(collector: str | None) -> "SpanExporter":
    """The standard OTLP/HTTP exporter, which says once that a backend is away and once that it is back, where its
    own would say so for every batch, in lines that are not ours."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import SpanExportResult

    class Exporter(OTLPSpanExporter):
        failing = False

        def export(self, spans: "Sequence[ReadableSpan]") -> SpanExportResult:
            result = super().export(spans)
            failed = result is not SpanExportResult.SUCCESS
            if failed != self.failing:
                self.failing = failed
                if failed:
                    log.warning("traces are not taken and will be dropped", lost=len(spans))
                else:
                    log.info("traces are taken again")
            return result

    getLogger("opentelemetry.exporter").setLevel(CRITICAL)
    if collector is None:
        return Exporter()
    from requests import Session

    session = Session()
    session.trust_env = False  # no proxy knows an address of this machine
    return Exporter(endpoint=f"{collector.rstrip('/')}/v1/traces", session=session)


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
