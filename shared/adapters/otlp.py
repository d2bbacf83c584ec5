"""OTLP spans as they arrive (OTLP 1.x over HTTP, binary protobuf): for whoever collects them.

A span is kept in the bytes in which it came, beside the few fields by which it is found; what else it says is read
when somebody asks.
"""

import gzip
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
    from opentelemetry.proto.trace.v1.trace_pb2 import Span

MAX_EXPORT_BYTES: Final = 16 * 1024 * 1024
"""Of one export, unpacked; the SDK sends at most 512 spans at once."""
GZIP: Final = b"\x1f\x8b"


class NotOtlp(ValueError):
    """The body is no export of spans, and why."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Who made a span, by its resource."""

    service: str
    node: str
    region: str


@dataclass(frozen=True, slots=True)
class ReceivedSpan:
    """One span; ids in lower-case hex, "" where absent; times in ns since the epoch."""

    origin: Origin
    trace_id: str
    span_id: str
    parent_id: str
    name: str
    is_server: bool
    start_ns: int
    end_ns: int
    failed: bool
    links: tuple[str, ...]
    """Trace ids it is linked to, other than its own."""
    marks: Mapping[str, str]
    """Of the attributes that traces are found by: see `MARKS`."""
    raw: bytes

    @property
    def size(self) -> int:
        """Bytes that it is counted with."""
        return len(self.raw) + 400


MARKS: Final = ("leeward.request_id", "leeward.decision", "leeward.drill", "leeward.attempts")


def unpacked(body: bytes) -> bytes:
    """`body` without its gzip coding, if it has one. Raises NotOtlp when that is damaged or too large."""
    if not body.startswith(GZIP):
        return body
    try:
        plain = zlib.decompressobj(wbits=31).decompress(body, MAX_EXPORT_BYTES + 1)
    except (zlib.error, gzip.BadGzipFile) as error:
        raise NotOtlp(f"damaged gzip: {error}") from None
    if len(plain) > MAX_EXPORT_BYTES:
        raise NotOtlp(f"more than {MAX_EXPORT_BYTES} bytes unpacked")
    return plain


def spans_of(body: bytes) -> Iterator[ReceivedSpan]:
    """The spans of one export. Raises NotOtlp; spans without ids, which the protocol calls invalid, are left out."""
    from google.protobuf.message import DecodeError
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    try:
        message = ExportTraceServiceRequest.FromString(body)
    except DecodeError:
        raise NotOtlp("not an ExportTraceServiceRequest in protobuf") from None
    for resource_spans in message.resource_spans:
        origin = _origin(_attributes(resource_spans.resource.attributes))
        for scope_spans in resource_spans.scope_spans:
            for span in scope_spans.spans:
                if len(span.trace_id) == 16 and len(span.span_id) == 8:
                    yield _received(span, origin)


def as_json(span: ReceivedSpan) -> dict[str, Any]:
    """All that a span says, ready for JSON."""
    from opentelemetry.proto.trace.v1.trace_pb2 import Span

    whole = Span.FromString(span.raw)
    return {
        "trace_id": span.trace_id,
        "span_id": span.span_id,
        "parent_id": span.parent_id or None,
        "name": span.name,
        "kind": Span.SpanKind.Name(whole.kind).removeprefix("SPAN_KIND_").lower(),
        "service": span.origin.service,
        "node": span.origin.node,
        "region": span.origin.region,
        "start_ns": span.start_ns,
        "end_ns": span.end_ns,
        "failed": span.failed,
        "status": whole.status.message,
        "attributes": _attributes(whole.attributes),
        "events": [
            {"name": event.name, "at_ns": event.time_unix_nano, "attributes": _attributes(event.attributes)}
            for event in whole.events
        ],
        "links": [{"trace_id": link.trace_id.hex(), "span_id": link.span_id.hex()} for link in whole.links],
    }


def _received(span: "Span", origin: Origin) -> ReceivedSpan:
    trace_id = span.trace_id.hex()
    marks = {item.key: str(_value(item.value)) for item in span.attributes if item.key in MARKS}
    linked = dict.fromkeys(link.trace_id.hex() for link in span.links)
    return ReceivedSpan(
        origin=origin,
        trace_id=trace_id,
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        name=span.name,
        is_server=span.kind == span.SPAN_KIND_SERVER,
        start_ns=span.start_time_unix_nano,
        end_ns=max(span.end_time_unix_nano, span.start_time_unix_nano),
        failed=span.status.code == span.status.STATUS_CODE_ERROR,
        links=tuple(other for other in linked if other != trace_id),
        marks=marks,
        raw=span.SerializeToString(),
    )


def _origin(resource: Mapping[str, Any]) -> Origin:
    return Origin(
        service=str(resource.get("service.name", "")),
        node=str(resource.get("service.instance.id", "")),
        region=str(resource.get("cloud.region", "")),
    )


def _attributes(items: "Any") -> dict[str, Any]:
    pairs: list[KeyValue] = list(items)
    return {item.key: _value(item.value) for item in pairs}


def _value(value: "AnyValue") -> Any:
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return _attributes(value.kvlist_value.values)
    if kind == "bytes_value":
        return value.bytes_value.hex()
    return getattr(value, kind)
