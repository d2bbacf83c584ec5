"""A drill's own trace: when it was, what it broke, and which decisions it led to."""

from datetime import UTC, datetime

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import StatusCode

from ops.drill.record import DecisionSeen, DrillRecordData, Injected, Second
from ops.drill.spans import draw
from shared.adapters.otel import OtelTelemetry
from shared.vocabulary.drill import DrillSpec
from shared.vocabulary.status import DrillEvent, DrillReport

ZERO = datetime(2026, 1, 1, 12, tzinfo=UTC)
DECIDED = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def report(outcome: str) -> DrillReport:
    return DrillReport.model_validate(
        {
            "drill": "region-outage",
            "outcome": outcome,
            "detect_ms": 900.0,
            "decide_ms": 950.0,
            "apply_ms": 990.0,
            "recovered_ms": None,
            "requests": 100,
            "failed": 1,
            "degraded": 0,
            "success_rate": 0.99,
            "guard_rails": [],
            "timeline": [DrillEvent(at_ms=950.0, event="decided")],
            "trace_id": DECIDED[3:35],
            "report_html": None,
        }
    )


def data() -> DrillRecordData:
    fault = {"n": 0, "by": "stack", "fault": "kill", "where": "alpha-eu-west", "state": "UNDONE"}
    return DrillRecordData(
        id="d-1",
        spec=DrillSpec.model_construct(),
        injected_at=ZERO,
        ended_s=20.0,
        seconds=(Second(at_s=-3.0), Second(at_s=-2.0)),
        decisions=(
            DecisionSeen(version="1.2", at_s=0.95, by="cp", routes=("chat",), said=(), traceparent=DECIDED),
            DecisionSeen(version="1.3", at_s=9.0, by="cp", routes=("chat",), said=()),
        ),
        injections=(
            Injected.model_validate({**fault, "planned_s": -0.1, "done_s": 0.0, "undone_s": 10.0}),
            Injected.model_validate({**fault, "n": 1, "state": "PLANNED", "planned_s": -0.1}),
        ),
    )


@pytest.mark.parametrize(("outcome", "is_ok"), [("PASSED", True), ("FAILED", False)])
def test_a_drill_is_a_trace_that_links_to_its_decisions(outcome: str, is_ok: bool) -> None:
    """From its first request to its end, with a span for each fault that was really put."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(sampler=ALWAYS_ON, shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    context = draw(report(outcome), data(), OtelTelemetry(provider), now=ZERO)
    fault, whole = exporter.get_finished_spans()
    zero_ns = int(ZERO.timestamp()) * 10**9
    assert (whole.name, fault.name) == ("drill region-outage", "fault kill alpha-eu-west")
    assert (whole.start_time, whole.end_time) == (zero_ns - 3 * 10**9, zero_ns + 20 * 10**9)
    assert (fault.start_time, fault.end_time) == (zero_ns, zero_ns + 10 * 10**9)
    assert fault.parent is not None
    assert f"{fault.parent.span_id:016x}" == context[36:52]
    assert [f"{link.context.trace_id:032x}" for link in whole.links] == [DECIDED[3:35]]
    assert [(event.name, event.timestamp) for event in whole.events] == [("decided", zero_ns + 950_000_000)]
    assert (whole.attributes or {})["leeward.drill"] == "d-1"
    assert (whole.status.status_code is StatusCode.ERROR) is not is_ok
