"""The OpenTelemetry adapter: contexts in, contexts out."""

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON

from shared.adapters.otel import OtelTelemetry, sampling_from, telemetry_from_env, wanted
from shared.telemetry import Contexts, NoTelemetry, Sampling

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def recorded() -> tuple[OtelTelemetry, InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(sampler=ALWAYS_ON, shutdown_on_exit=False)
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


def test_what_is_not_to_be_recorded_hands_its_context_on(
    recorded: tuple[OtelTelemetry, InMemorySpanExporter],
) -> None:
    """A child of an unsampled span, or one that its caller does not want, is a context and no span; one that must
    be recorded is, whatever its parent."""
    telemetry, exporter = recorded
    unsampled = PARENT[:-1] + "0"
    for span in (telemetry.begin("fold", parent=unsampled), telemetry.begin("round", record=False)):
        assert span.traceparent.endswith("-00")
        assert not span.recording
        span.end()
    assert telemetry.begin("fold", parent=unsampled).traceparent[3:35] == PARENT[3:35]
    telemetry.begin("failover", parent=unsampled, record=True).end()
    assert [span.name for span in exporter.get_finished_spans()] == ["failover"]


def test_a_span_made_afterwards_has_the_times_of_then(
    recorded: tuple[OtelTelemetry, InMemorySpanExporter],
) -> None:
    """Beginning, moments and end, in ns since the epoch."""
    telemetry, exporter = recorded
    span = telemetry.begin("attempt", at_ns=1_000)
    span.event("first_token", {"leeward.ttft_ms": 1}, at_ns=1_500)
    span.end(at_ns=2_000)
    span.end()
    (finished,) = exporter.get_finished_spans()
    assert (finished.start_time, finished.events[0].timestamp, finished.end_time) == (1_000, 1_500, 2_000)


@pytest.mark.parametrize(
    ("sampler", "argument", "said"),
    [
        (None, None, Sampling(0.01, True, 20.0)),
        (None, "0.5", Sampling(0.5, True)),
        ("parentbased_traceidratio", "0", Sampling(0.0, True)),
        ("traceidratio", "0.25", Sampling(0.25, False)),
        ("parentbased_traceidratio", None, Sampling(1.0, True)),
        ("always_on", None, Sampling(1.0, False)),
        ("parentbased_always_on", None, Sampling(1.0, True)),
        ("jaeger_remote", "x", Sampling(0.01, True, 20.0)),
        ("traceidratio", "7", Sampling(0.01, False, 20.0)),
        ("traceidratio", "nan", Sampling(0.01, False, 20.0)),
    ],
)
def test_the_standard_variables_say_which_ordinary_requests_are_recorded(
    sampler: str | None, argument: str | None, said: Sampling
) -> None:
    """What is not understood is ignored. Only the default has a ceiling: what somebody asked for, they get."""
    given = {"OTEL_TRACES_SAMPLER": sampler, "OTEL_TRACES_SAMPLER_ARG": argument}
    assert sampling_from({name: value for name, value in given.items() if value is not None}) == said


@pytest.mark.parametrize(
    ("env", "is_wanted"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://x/v1/traces"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_SDK_DISABLED": "TRUE"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_TRACES_EXPORTER": "none"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_TRACES_SAMPLER": "always_off"}, False),
    ],
)
def test_tracing_is_on_where_there_is_an_endpoint_and_nobody_switched_it_off(
    env: dict[str, str], is_wanted: bool
) -> None:
    """By any of the standard ways."""
    assert wanted(env) is is_wanted


def test_contexts_are_remembered_to_a_bound() -> None:
    """The oldest gives way."""
    contexts = Contexts(most=2)
    for number in range(3):
        contexts.put(number, f"context {number}")
    contexts.put(1, "again")
    contexts.put(3, "context 3")
    assert [contexts.get(number) for number in range(4)] == [None, "again", None, "context 3"]
