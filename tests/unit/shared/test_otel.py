"""The OpenTelemetry adapter: contexts in, contexts out."""

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from shared.adapters.otel import OtelTelemetry, telemetry_from_env
from shared.telemetry import NoTelemetry

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def recorded() -> tuple[OtelTelemetry, InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return OtelTelemetry(provider), exporter


def test_a_span_continues_its_parent_and_keeps_its_links(
    recorded: tuple[OtelTelemetry, InMemorySpanExporter],
) -> None:
    """Parent and links are traceparents; a malformed or all-zero one counts as absent."""
    telemetry, exporter = recorded
    broken = ["", "00-xyz", "00-" + "0" * 32 + "-" + "0" * 16 + "-01", "ff" + PARENT[2:], "00-1-2-01"]
    with telemetry.span("decide", parent=PARENT, links=[PARENT, PARENT, *broken], kind="consumer") as span:
        span.set(leeward__route="chat")
    (finished,) = exporter.get_finished_spans()
    assert finished.parent is not None
    assert f"{finished.parent.span_id:016x}" == "b7ad6b7169203331"
    assert span.traceparent.split("-")[1] == "0af7651916cd43dd8448eb211c80319c"
    assert len(finished.links) == 1
    assert dict(finished.attributes or {}) == {"leeward.route": "chat"}


def test_an_exception_marks_the_span_and_goes_on(
    recorded: tuple[OtelTelemetry, InMemorySpanExporter],
) -> None:
    """Telemetry never swallows an error."""
    telemetry, exporter = recorded
    with pytest.raises(RuntimeError), telemetry.span("commit"):
        raise RuntimeError("etcd is gone")
    (finished,) = exporter.get_finished_spans()
    assert finished.status.description == "RuntimeError('etcd is gone')"


def test_without_an_endpoint_ids_still_travel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing records, but a child keeps its parent's trace id and is marked unsampled."""
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", raising=False)
    telemetry = telemetry_from_env(service="leeward-edge", node="edge-1", region="us-east")
    assert isinstance(telemetry, NoTelemetry)
    child = telemetry.begin("apply", parent=PARENT)
    assert child.traceparent.startswith("00-0af7651916cd43dd8448eb211c80319c-")
    assert child.traceparent.endswith("-00")
    assert not child.recording
