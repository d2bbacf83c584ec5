"""What is recorded of requests, as an OTLP backend receives it: spans of attempts, sampling, and nothing secret."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from edge_router.core.table import ResolvedCredential, RouteTable, build_table
from shared.adapters.otel import telemetry_from_env
from shared.vocabulary.base import Version
from shared.vocabulary.config import FleetConfig
from shared.vocabulary.decision import Decision
from tests.support.data_path import (
    CALL,
    STREAM,
    STREAM_HEAD,
    Conversation,
    Edge,
    Target,
    World,
    answer,
    chunk,
    delta,
    serving,
)
from tests.support.otlp import OtlpReceiver, ReceivedSpan

SAMPLED = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
UNSAMPLED = SAMPLED[:-1] + "0"
PROMPT = "CANARY-PROMPT-7d1f"
SECRET = "sk-canary-9e2b"
COMPLETION = json.dumps(
    {
        "id": "c",
        "object": "chat.completion",
        "model": "alpha-large-2026-01",
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}
        ],
        "usage": {"prompt_tokens": 12, "completion_tokens": 7, "total_tokens": 19},
    }
).encode()


@dataclass
class Traced:
    """An edge and what its spans came to; `spans` is whole once the edge is gone."""

    edge: Edge
    receiver: OtlpReceiver

    @property
    def server(self) -> ReceivedSpan:
        (span,) = [span for span in self.receiver.spans if span.kind == "server"]
        return span

    @property
    def attempts(self) -> list[ReceivedSpan]:
        found = [span for span in self.receiver.spans if span.kind == "client"]
        return sorted(found, key=lambda span: span.start_ns)


@asynccontextmanager
async def traced(
    monkeypatch: pytest.MonkeyPatch,
    targets: dict[str, Target],
    *,
    share: str = "0",
    world: World | None = None,
    credentials: dict[str, ResolvedCredential] | None = None,
) -> AsyncIterator[Traced]:
    """An edge with a real tracer; everything it recorded has arrived when the block is left."""
    async with OtlpReceiver() as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.endpoint)
        monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
        monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", share)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        telemetry = telemetry_from_env(service="leeward-edge", node="edge-us-east", region="us-east")
        try:
            async with serving(targets, world, credentials=credentials, telemetry=telemetry) as edge:
                yield Traced(edge, receiver)
        finally:
            await telemetry.close()


async def test_an_ordinary_request_leaves_nothing_at_a_share_of_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither does one whose client says that it is not sampled."""
    async with traced(monkeypatch, {"only": Target()}) as world:
        for lines in ("", f"traceparent: {UNSAMPLED}\r\n"):
            assert (await world.edge.ask(CALL, fields=lines)).status == 200
    assert not world.receiver.spans


async def test_a_failover_is_recorded_whole_at_a_share_of_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decided after the first attempt failed, and yet with its times: each attempt a span, in the order of time,
    the failed one with its error and why it was left."""

    async def slow_failure(talk: Conversation) -> None:
        await asyncio.sleep(0.05)
        await talk.send(answer(b"{}", status="503 Service Unavailable"))

    async with traced(
        monkeypatch, {"bad": Target(slow_failure), "good": Target(answer(COMPLETION))}
    ) as world:
        got = await world.edge.ask()
        assert got.fields["x-leeward-attempts"] == "2"
    server, (failed, good) = world.server, world.attempts
    assert server.attributes["leeward.request_id"] == got.fields["x-leeward-request-id"]
    assert (server.attributes["http.response.status_code"], server.attributes["leeward.attempts"]) == (200, 2)
    assert not server.failed
    assert {span.trace_id for span in (failed, good)} == {server.trace_id}
    assert {span.parent_id for span in (failed, good)} == {server.span_id}
    assert server.start_ns <= failed.start_ns < failed.end_ns <= good.start_ns < good.end_ns <= server.end_ns
    assert failed.end_ns - failed.start_ns >= 45_000_000, "the time before the decision to record is missing"
    assert failed.failed
    assert failed.status == "FAILED: http_response_status"
    assert failed.attributes["error.type"] == "http_response_status"
    assert failed.attributes["http.response.status_code"] == 503
    assert (failed.attributes["leeward.target"], good.attributes["leeward.target"]) == ("bad", "good")
    assert good.attributes["http.request.resend_count"] == 1
    moved = dict(server.events)["moved"]
    assert moved == {
        "leeward.from": "bad",
        "leeward.to": "good",
        "error.type": "http_response_status",
    }


async def test_names_are_those_of_the_conventions(monkeypatch: pytest.MonkeyPatch) -> None:
    """HTTP on the server span, GenAI and HTTP on the attempt's, tokens as the answer told them."""
    async with traced(monkeypatch, {"only": Target(answer(COMPLETION))}, share="1") as world:
        await world.edge.ask()
        port = world.edge.config.fleet.targets[0].url.rpartition(":")[2].partition("/")[0]
    server, (attempt,) = world.server, world.attempts
    assert server.name == "POST /v1/chat/completions"
    assert (
        server.attributes.items()
        >= {
            "http.request.method": "POST",
            "http.route": "/v1/chat/completions",
            "url.path": "/v1/chat/completions",
            "url.scheme": "http",
            "http.response.status_code": 200,
            "cloud.region": "us-east",
            "leeward.route": "chat",
        }.items()
    )
    model = world.edge.config.fleet.targets[0].model
    assert attempt.name == f"chat {model}"
    assert (
        attempt.attributes.items()
        >= {
            "gen_ai.operation.name": "chat",
            "gen_ai.request.model": model,
            "gen_ai.response.model": "alpha-large-2026-01",
            "gen_ai.usage.input_tokens": 12,
            "gen_ai.usage.output_tokens": 7,
            "server.address": "127.0.0.1",
            "server.port": int(port),
            "http.request.method": "POST",
            "http.response.status_code": 200,
        }.items()
    )
    assert attempt.attributes["gen_ai.provider.name"] == world.edge.config.fleet.targets[0].provider
    assert str(attempt.attributes["url.full"]).endswith(f":{port}/v1/chat/completions")
    assert dict(attempt.events)["end"]["gen_ai.usage.output_tokens"] == 7


async def test_a_stream_tells_its_first_token_and_its_usage(monkeypatch: pytest.MonkeyPatch) -> None:
    """TTFT as an event and an attribute, from the attempt's beginning; usage from the last event."""
    usage = b'data: {"model":"m-1","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}\n\n'

    async def slow(talk: Conversation) -> None:
        await talk.send(STREAM_HEAD)
        await talk.send(chunk(delta(role=True)), pause_s=0.05)
        await talk.send(chunk(delta("hi")))
        await talk.send(chunk(delta(finish="stop")))
        await talk.send(chunk(usage) + chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")

    async with traced(monkeypatch, {"only": Target(slow)}, share="1") as world:
        assert (await world.edge.ask(STREAM)).clean
    (attempt,) = world.attempts
    first = dict(attempt.events)["first_token"]
    ttft_s = attempt.attributes["gen_ai.response.time_to_first_chunk"]
    assert isinstance(ttft_s, float)
    assert ttft_s >= 0.045
    assert first["leeward.ttft_ms"] == pytest.approx(ttft_s * 1000, abs=0.01)
    assert attempt.attributes["gen_ai.request.stream"] is True
    assert attempt.attributes["gen_ai.usage.input_tokens"] == 3
    assert attempt.attributes["gen_ai.usage.output_tokens"] == 2


async def test_a_stream_that_breaks_off_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    """After its first token it cannot move; the one attempt says why it ended."""

    async def cut(talk: Conversation) -> None:
        await talk.send(STREAM_HEAD + chunk(delta("hi")))
        await asyncio.sleep(0.02)
        talk.close()

    async with traced(monkeypatch, {"only": Target(cut)}) as world:
        assert not (await world.edge.ask(STREAM)).clean
    (attempt,) = world.attempts
    assert attempt.attributes["error.type"] == "http_response_incomplete"
    assert attempt.parent_id == world.server.span_id


async def test_an_answer_of_the_edges_own_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    """All attempts in vain: the server span fails with the edge's own code."""
    async with traced(monkeypatch, {"one": Target(_closing), "two": Target(_closing)}) as world:
        got = await world.edge.ask()
        assert got.status == 502
    assert world.server.failed
    assert world.server.attributes["http.response.status_code"] == 502
    assert world.server.attributes["error.type"]
    assert len(world.attempts) == int(got.fields["x-leeward-attempts"])


async def test_an_answer_of_the_ladder_is_recorded_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A 200 that no target gave: the server span says which rung, and why; and it serves no decision."""
    ladder = World(route={"degradation": {"static": {"text": "Back soon."}}})
    async with traced(monkeypatch, {"one": Target(_closing), "two": Target(_closing)}, world=ladder) as world:
        gateway = world.edge.gateway
        gateway.swap(_table(world.edge.config, "one", seq=1), applied_in=None)
        gateway.swap(_table(world.edge.config, "two", seq=2), applied_in=SAMPLED)
        got = await world.edge.ask()
        assert (got.status, got.fields["x-leeward-degraded"]) == (200, "static")
    assert world.server.attributes["leeward.degraded"] == "static"
    assert world.server.attributes["http.response.status_code"] == 200
    assert dict(world.server.events)["degraded"] == {
        "leeward.rung": "static",
        "error.type": "upstream_failed",
    }
    assert len(world.attempts) == int(got.fields["x-leeward-attempts"])
    assert not world.receiver.named("first served")


async def _closing(talk: Conversation) -> None:
    talk.close()


async def test_a_clients_context_is_continued_and_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sampled by the client: recorded whatever the share, in the client's trace; the target is a child of its
    attempt, and the vendor's state goes along."""
    target = Target(answer(COMPLETION))
    async with traced(monkeypatch, {"only": target}) as world:
        await world.edge.ask(CALL, fields=f"traceparent: {SAMPLED}\r\ntracestate: vendor=1\r\n")
    server, (attempt,) = world.server, world.attempts
    assert (server.trace_id, server.parent_id) == (SAMPLED[3:35], SAMPLED[36:52])
    head = target.seen[0].raw_head.lower()
    assert f"traceparent: 00-{attempt.trace_id}-{attempt.span_id}-01\r\n".encode() in head
    assert b"tracestate: vendor=1\r\n" in head


async def test_a_failed_request_of_an_unsampled_client_stays_in_its_trace(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What must be recorded is, under the id that the client knows."""
    async with traced(monkeypatch, {"bad": Target(_closing), "good": Target()}) as world:
        await world.edge.ask(CALL, fields=f"traceparent: {UNSAMPLED}\r\n")
    assert world.server.trace_id == UNSAMPLED[3:35]


async def test_the_first_request_of_a_decision_closes_its_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once, in the decision's own trace, linked to the request's and from it; the next one is ordinary."""
    async with traced(
        monkeypatch, {"a": Target(answer(COMPLETION)), "b": Target(answer(COMPLETION))}
    ) as world:
        gateway, config = world.edge.gateway, world.edge.config
        gateway.swap(_table(config, "a", seq=1), applied_in=None)
        assert (await world.edge.ask()).fields["x-leeward-target"] == "a"
        gateway.swap(_table(config, "b", seq=2), applied_in=SAMPLED)
        for _ in range(3):
            assert (await world.edge.ask()).fields["x-leeward-target"] == "b"
    (first,) = world.receiver.named("first served")
    assert (first.trace_id, first.parent_id) == (SAMPLED[3:35], SAMPLED[36:52])
    assert first.links == ((world.server.trace_id, world.server.span_id),)
    assert world.server.links == ((SAMPLED[3:35], SAMPLED[36:52]),)
    assert first.attributes["leeward.target"] == "b"
    assert first.attributes["leeward.request_id"] == world.server.attributes["leeward.request_id"]


async def test_no_prompt_and_no_secret_is_in_any_span(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not of the body, the client's key, the target's credential, the query, nor of what a target answered."""
    body = json.dumps({"model": "chat", "messages": [{"role": "user", "content": PROMPT}]}).encode()
    leaky = answer(json.dumps({"error": f"{SECRET} {PROMPT}"}).encode(), status="401 Unauthorized")
    garbled = answer(f"{PROMPT} is not JSON {SECRET}".encode())
    echo = answer(COMPLETION.replace(b"hello", f'{PROMPT} \\"model\\": \\"{SECRET}\\"'.encode()))
    targets = {"leaky": Target(leaky), "garbled": Target(garbled), "echo": Target(echo)}
    async with traced(monkeypatch, targets, share="1") as world:
        path = f"/v1/chat/completions?key={SECRET}"
        got = await world.edge.ask(body, path=path, fields=f"x-secret: {SECRET}\r\ncookie: {SECRET}\r\n")
        assert got.fields["x-leeward-attempts"] == "3"
        assert PROMPT.encode() in got.body
    assert len(world.attempts) == 3
    sent = b"".join(world.receiver.bodies)
    for canary in (PROMPT, SECRET, "Bearer"):
        assert canary.encode() not in sent


def _table(config: FleetConfig, target: str, *, seq: int) -> RouteTable:
    routes = {}
    for route in config.fleet.routes:
        tiers = [
            {
                "share_permille": 1000 if target in tier.targets else 0,
                "targets": [{"id": name, "weight_permille": 1000} for name in tier.targets],
            }
            for tier in route.tiers
        ]
        routes[route.id] = Decision.model_validate(
            {
                "route": route.id,
                "generation": 1,
                "seq": seq,
                "config_version": 1,
                "regions": {"us-east": {"tiers": tiers, "shed_permille": 0}},
                "decided_at": "2026-01-01T00:00:00Z",
                "term": {"holder": "cp", "epoch": 1},
            }
        )
    return build_table(config, routes, Version(1, seq), region="us-east")
