"""How a decision's way into an edge is told: a span for each path, and applying below the path that brought it."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON

from edge_router.loops.trail import NEWS_S, Trail
from shared.adapters.otel import OtelTelemetry

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
DECIDED = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
PUBLISHED = "00-0af7651916cd43dd8448eb211c80319c-aaaaaaaaaaaaaaaa-01"
ELSEWHERE = "00-ffffffffffffffffffffffffffffffff-aaaaaaaaaaaaaaaa-01"


class _Still:
    def now(self) -> datetime:
        return NOW

    def monotonic(self) -> float:
        return 1000.0


@pytest.fixture
def trail() -> tuple[Trail, InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(sampler=ALWAYS_ON, shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    telemetry = OtelTelemetry(provider)
    return Trail(edge="edge-1", region="us-east", clock=_Still(), telemetry=telemetry), exporter


def document(*, traceparent: str | None = DECIDED, age_s: float = 1.0, **more: Any) -> bytes:
    decided_at = (NOW - timedelta(seconds=age_s)).isoformat()
    fields = {
        "route": "chat",
        "generation": 1,
        "seq": 7,
        "traceparent": traceparent,
        "decided_at": decided_at,
    }
    return json.dumps({**fields, **more}).encode()


def parent_of(span: ReadableSpan) -> str:
    assert span.parent is not None
    return f"{span.parent.span_id:016x}"


def test_each_path_is_told_once(trail: tuple[Trail, InMemorySpanExporter]) -> None:
    """By the bus below the publishing, by the stream below the decision; a commit's other documents add nothing."""
    some, exporter = trail
    for path, context in (("bus", PUBLISHED), ("http", None), ("bus", PUBLISHED), ("http", None)):
        some.received(document(), path, context)  # type: ignore[arg-type]
    by_bus, by_stream = exporter.get_finished_spans()
    assert (by_bus.name, parent_of(by_bus)) == ("receive leeward.decisions.v1", PUBLISHED[36:52])
    assert (by_stream.name, parent_of(by_stream)) == ("receive /v1/stream", DECIDED[36:52])
    assert (by_bus.attributes or {})["messaging.destination.name"] == "leeward.decisions.v1"
    assert (by_stream.attributes or {})["leeward.decision"] == "1.7"
    assert f"{by_bus.context.span_id:016x}" in (some.behind(DECIDED, 7, "bus") or "")
    assert f"{by_stream.context.span_id:016x}" in (some.behind(DECIDED, 7, "http") or "")
    assert some.behind(DECIDED, 7, "file") == DECIDED
    assert some.behind(None, 7, "bus") is None


def test_a_context_of_another_trace_is_not_followed(trail: tuple[Trail, InMemorySpanExporter]) -> None:
    """What a new leader publishes again belongs to the decision all the same."""
    some, exporter = trail
    some.received(document(), "bus", ELSEWHERE)
    assert parent_of(exporter.get_finished_spans()[0]) == DECIDED[36:52]


@pytest.mark.parametrize(
    "raw",
    [
        document(age_s=NEWS_S + 1),
        document(traceparent=DECIDED[:-1] + "0"),
        document(traceparent=None),
        document(decided_at="2026-01-01T12:00:00"),
        b"not JSON",
        b'{"seq":"seven"}',
    ],
)
def test_what_is_old_unrecorded_or_unreadable_leaves_nothing(
    raw: bytes, trail: tuple[Trail, InMemorySpanExporter]
) -> None:
    """And breaks nothing: refusing it is the follower's part."""
    some, exporter = trail
    some.received(raw, "bus", PUBLISHED)
    assert not exporter.get_finished_spans()
