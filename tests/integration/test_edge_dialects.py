"""Three official SDKs against the edge, in front of targets of three dialects: each pair, each way of asking.

The targets are simulators, which answer a prompt alike in every dialect: what a client gets must not depend on who
answers, but for the name of the model. docs/DIALECTS.md has the matrix that this file proves.
"""

import hashlib
import json
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from itertools import product
from typing import Any

import httpx2
import openai
import pytest
from prometheus_client import CollectorRegistry

from edge_router.adapters.gateway import Gateway
from edge_router.adapters.interpreted import MAX_TRANSLATED_BYTES
from edge_router.core.fault_filter import FaultFilter, FilterOrder
from edge_router.core.table import build_table
from ops.simulator.answers import embedding, expected_answer
from ops.simulator.app import Simulator
from ops.simulator.faults import NO_FAULTS, Faults, Status, Throttle
from ops.simulator.identity import Identity
from shared.clock import SystemClock
from shared.supervise import Supervisor
from shared.telemetry import NoTelemetry
from shared.vocabulary.base import NO_VERSION
from shared.vocabulary.config import Fleet, FleetConfig, problems
from tests.support.sdks import PARAMETERS, TOOL, Failed, sdk

DIALECTS = ("openai", "anthropic", "gemini")
PAIRS = list(product(DIALECTS, DIALECTS))
ROUTES = {"openai": "to-o", "anthropic": "to-a", "gemini": "to-g"}
"""Of a model whose name says gemini, Google's client embeds several texts as one."""
PROMPT = "Say it in 20 words."
WHOLE = expected_answer(PROMPT)
WORDS = 5 + 2
"""Tokens of the prompt and of the system's instruction."""


@dataclass
class Scene:
    """An edge with a route to each target alone, and `any` to all of them, one tier each in this order."""

    base: str
    targets: dict[str, Simulator]
    gateway: Gateway
    registry: CollectorRegistry


@asynccontextmanager
async def scene(order: tuple[str, ...] = DIALECTS) -> AsyncIterator[Scene]:
    async with AsyncExitStack() as stack:
        targets = {
            dialect: await stack.enter_async_context(
                Simulator(Identity(id=dialect, region="us-east", provider="p", model=f"{dialect}-model"))
            )
            for dialect in DIALECTS
        }
        fleet = _fleet(targets, order)
        assert problems(fleet) == []
        supervisor = await stack.enter_async_context(Supervisor())
        registry = CollectorRegistry()
        gateway = Gateway(
            edge_id="edge-us-east",
            region="us-east",
            table=build_table(FleetConfig(config_version=1, fleet=fleet), {}, NO_VERSION, region="us-east"),
            credentials={},
            clock=SystemClock(),
            rng=random.Random(1),
            telemetry=NoTelemetry(),
            supervisor=supervisor,
            registry=registry,
        )
        host, port = await gateway.start("127.0.0.1", 0)
        try:
            yield Scene(f"http://{host}:{port}", targets, gateway, registry)
        finally:
            await gateway.drain(0.0)
        assert not gateway.exchanges, "a request was left under way"
        assert all(lane.inflight == 0 for lane in gateway.lanes()), "a target's count of requests is off"
        assert gateway.upstream_connections == 0
        assert not supervisor.failures


def _fleet(targets: dict[str, Simulator], order: tuple[str, ...]) -> Fleet:
    timeouts = {"connect_s": 2.0, "ttft_s": 5.0, "idle_s": 5.0, "total_s": 10.0}
    routes = {ROUTES[dialect]: [[dialect]] for dialect in DIALECTS} | {
        "any": [[dialect] for dialect in order]
    }
    return Fleet.model_validate(
        {
            "regions": [{"id": "us-east"}],
            "targets": [
                {
                    "id": dialect,
                    "provider": "p",
                    "model": f"{dialect}-model",
                    "region": "us-east",
                    "url": simulator.url.replace("/v1", "/v1beta") if dialect == "gemini" else simulator.url,
                    "dialect": dialect,
                }
                for dialect, simulator in targets.items()
            ],
            "routes": [
                {
                    "id": name,
                    "match": {"models": [name]},
                    "tiers": [{"targets": tier} for tier in tiers],
                    "timeouts": timeouts,
                }
                for name, tiers in routes.items()
            ],
            "client_keys": [{"id": "dev", "sha256": hashlib.sha256(b"dev").hexdigest()}],
        }
    )


Proved = set[tuple[str, str, str]]
FEATURES = ("words", "tools", "errors", "cut streams", "garbage", "failover", "vectors")


@pytest.fixture(scope="module")
def proved() -> Iterator[Proved]:
    """Collects client, target and feature of what has held, and prints the matrix (`pytest -s`)."""
    held: Proved = set()
    yield held
    print("\n\n| client | target | " + " | ".join(FEATURES) + " |\n|" + "---|" * (len(FEATURES) + 2))
    for client, target in PAIRS:
        row = ("yes" if (client, target, feature) in held else "-" for feature in FEATURES)
        print(f"| {client} | {target} | " + " | ".join(row) + " |")


# ---------------------------------------------------------------- each pair


@pytest.mark.parametrize(("client", "target"), PAIRS)
async def test_words(client: str, target: str, proved: Proved) -> None:
    """The answer, its end, its usage, and the model of the target that answered; cut short, it says so."""
    async with scene() as stage, sdk(client, stage.base) as user:
        for stream in (False, True):
            said = await user.say(ROUTES[target], PROMPT, stream=stream)
            assert (said.text, said.end, said.calls) == (WHOLE, "end", [])
            assert said.tokens == (WORDS, 20)
            assert said.model == f"{target}-model"
            assert said.pieces > 5 if stream else said.pieces == 1
            short = await user.say(ROUTES[target], PROMPT, stream=stream, limit=5)
            assert (short.text, short.end) == (expected_answer(PROMPT, 5), "length")
            assert short.tokens == (WORDS, 5)
    proved.add((client, target, "words"))


@pytest.mark.parametrize(("client", "target"), PAIRS)
async def test_tools(client: str, target: str, proved: Proved) -> None:
    """A call with its arguments, and the answer to its result."""
    prompt = f"Please {TOOL} the tide"
    async with scene() as stage, sdk(client, stage.base) as user:
        for stream in (False, True):
            called = await user.say(ROUTES[target], prompt, stream=stream, tool=True)
            assert called.calls == [(TOOL, {"text": prompt})]
            assert (called.text, called.end) == ("", "calls")
        answered = await user.go_on(ROUTES[target], prompt, called)
    assert (answered.text, answered.calls, answered.end) == (expected_answer(prompt), [], "end")
    proved.add((client, target, "tools"))


@pytest.mark.parametrize(("client", "target"), PAIRS)
async def test_errors(client: str, target: str, proved: Proved) -> None:
    """What the target refuses reaches the client as an error of its own, with the target's status and words; so does
    what the edge itself refuses."""
    refusals = {
        400: (Faults(status=Status(code=400)), "Simulated status 400"),
        404: (Faults(status=Status(code=404)), "Simulated status 404"),
        422: (Faults(status=Status(code=422)), "Simulated status 422"),
        429: (Faults(throttle=Throttle(retry_after=1)), "Simulated rate limit"),
        503: (Faults(status=Status(code=503)), "Simulated status 503"),
    }
    async with scene() as stage, sdk(client, stage.base) as user:
        for (status, (faults, words)), stream in product(refusals.items(), (False, True)):
            await stage.targets[target].apply(faults)
            with pytest.raises(Failed) as failed:
                await user.say(ROUTES[target], PROMPT, stream=stream)
            assert (failed.value.status, words in failed.value.message) == (status, True)
        with pytest.raises(Failed) as unknown:
            await user.say("nothing", PROMPT)
    assert (unknown.value.status, "there is no model" in unknown.value.message) == (404, True)
    proved.add((client, target, "errors"))


@pytest.mark.parametrize(("client", "target"), PAIRS)
async def test_a_stream_that_is_cut_is_never_whole(client: str, target: str, proved: Proved) -> None:
    """What had come is there, and then the client raises: also where the target ended its message properly, and
    where an event in the middle was malformed."""
    breaks = [Faults(cut_after_tokens=3, cut_as=cut_as) for cut_as in ("close", "reset", "end")]
    async with scene() as stage, sdk(client, stage.base) as user:
        for faults in (*breaks, Faults(malformed_chunk_after_tokens=3)):
            await stage.targets[target].apply(faults)
            with pytest.raises(Failed) as failed:
                await user.say(ROUTES[target], PROMPT, stream=True)
            assert (failed.value.pieces, f"{target}: " in failed.value.message) == (3, True)
        await stage.targets[target].apply(NO_FAULTS)
        again = await user.say(ROUTES[target], PROMPT, stream=True)
    assert again.text == WHOLE
    proved.add((client, target, "cut streams"))


@pytest.mark.parametrize(("client", "target"), PAIRS)
async def test_an_answer_that_is_none_is_never_passed(client: str, target: str, proved: Proved) -> None:
    """A page, half an answer, nothing, and the JSON of something else, under status 200."""
    async with scene() as stage, sdk(client, stage.base) as user:
        for garbage in ("html", "truncated", "empty", "other"):
            await stage.targets[target].apply(Faults(garbage_200=garbage))  # type: ignore[arg-type]
            with pytest.raises(Failed) as failed:
                await user.say(ROUTES[target], PROMPT)
            assert failed.value.status == 502
    proved.add((client, target, "garbage"))


@pytest.mark.parametrize("target", DIALECTS)
async def test_responses(target: str) -> None:
    """OpenAI's Responses, where the target has none: words and a tool call, whole and streamed, and a cut stream."""
    prompt = f"Please {TOOL} the tide"
    tool: Any = {"type": "function", "name": TOOL, "parameters": PARAMETERS, "strict": False}
    async with (
        scene() as stage,
        openai.AsyncOpenAI(base_url=f"{stage.base}/v1", api_key="dev", max_retries=0) as user,
    ):
        asked = user.responses
        whole = await asked.create(model=ROUTES[target], input=PROMPT, instructions="Be brief.")
        async with asked.stream(model=ROUTES[target], input=PROMPT, instructions="Be brief.") as events:
            streamed = await events.get_final_response()
        for said in (whole, streamed):
            assert (said.output_text, said.status, said.model) == (WHOLE, "completed", f"{target}-model")
            assert said.usage is not None
            assert (said.usage.input_tokens, said.usage.output_tokens) == (WORDS, 20)
        if target != "openai":  # the simulator's own responses are words alone
            called = await asked.create(model=ROUTES[target], input=prompt, tools=[tool])
            async with asked.stream(model=ROUTES[target], input=prompt, tools=[tool]) as events:
                calling = await events.get_final_response()
            for said in (called, calling):
                calls = [item for item in said.output if item.type == "function_call"]
                assert [(call.name, json.loads(call.arguments)) for call in calls] == [
                    (TOOL, {"text": prompt})
                ]
        await stage.targets[target].apply(Faults(cut_after_tokens=3, cut_as="end"))
        got: list[str] = []

        async def read() -> None:
            async for event in await asked.create(model=ROUTES[target], input=PROMPT, stream=True):
                got.append(event.type)

        with pytest.raises(openai.APIError):
            await read()
    assert got.count("response.output_text.delta") == 3
    assert "response.completed" not in got


@pytest.mark.parametrize("target", ["anthropic", "gemini"])
async def test_what_only_one_provider_has_is_refused_by_name(target: str) -> None:
    """Completions, which no other dialect has, and a conversation that OpenAI keeps."""
    async with (
        scene() as stage,
        openai.AsyncOpenAI(base_url=f"{stage.base}/v1", api_key="dev", max_retries=0) as user,
    ):
        with pytest.raises(openai.BadRequestError, match="completions"):
            await user.completions.create(model=ROUTES[target], prompt=PROMPT)
        with pytest.raises(openai.BadRequestError, match="previous_response_id"):
            await user.responses.create(model=ROUTES[target], input=PROMPT, previous_response_id="resp_1")
        assert stage.targets[target]._target.stats.requests == 0


async def test_a_drills_faults_strike_what_is_translated_too() -> None:
    """Events are counted as the target sends them; an error in its place reaches the client in its own words."""
    async with scene() as stage, sdk("anthropic", stage.base) as user:
        stage.gateway.fault_filter = faults = FaultFilter(random.Random(1).random)
        now = stage.gateway.monotonic()
        cut = {"fault": "cut", "targets": ["gemini"], "for_s": 60, "after_events": 2}
        faults.put("cut", FilterOrder.model_validate(cut), now)
        with pytest.raises(Failed) as broken:
            await user.say(ROUTES["gemini"], PROMPT, stream=True)
        busy = {"fault": "throttle", "targets": ["openai"], "for_s": 60}
        faults.put("busy", FilterOrder.model_validate(busy), now)
        with pytest.raises(Failed) as throttled:
            await user.say(ROUTES["openai"], PROMPT)
        said = await user.say("any", PROMPT)
    assert broken.value.pieces == 2
    assert (throttled.value.status, throttled.value.kind) == (429, "RateLimitError")
    assert (said.text, said.model) == (WHOLE, "anthropic-model")


async def test_what_an_error_is_about_counts_in_every_dialect() -> None:
    """A key that Google refuses with 400 is the edge's fault and moves the request; a prompt too long for Anthropic
    goes back in the client's words when nobody is known to take a longer one."""
    refused = json.dumps({"error": {"code": 400, "message": "x", "details": [{"reason": "API_KEY_INVALID"}]}})
    too_long = json.dumps(
        {"type": "error", "error": {"type": "invalid_request_error", "message": "prompt is too long: 9 > 8"}}
    )
    async with scene(("gemini", "openai", "anthropic")) as stage, sdk("openai", stage.base) as user:
        await stage.targets["gemini"].apply(Faults(status=Status(code=400, body=refused)))
        moved = await user.say("any", PROMPT)
        with pytest.raises(Failed) as alone:
            await user.say(ROUTES["gemini"], PROMPT)
        await stage.targets["anthropic"].apply(Faults(status=Status(code=400, body=too_long)))
        with pytest.raises(Failed) as long:
            await user.say(ROUTES["anthropic"], PROMPT, stream=True)
    assert (moved.text, moved.model) == (WHOLE, "openai-model")
    assert (alone.value.status, "API_KEY_INVALID" in alone.value.message) == (502, False)
    assert (long.value.status, "prompt is too long" in long.value.message) == (400, True)


@pytest.mark.parametrize("target", DIALECTS)
async def test_tokens_are_counted_whether_or_not_the_client_asks_for_them(target: str) -> None:
    """An OpenAI stream without usage, where the target said what it took. An OpenAI target is not asked to."""
    asked = {"model": ROUTES[target], "stream": True, "messages": [{"role": "user", "content": PROMPT}]}
    async with scene() as stage, httpx2.AsyncClient(timeout=10) as http:
        got = await http.post(
            f"{stage.base}/v1/chat/completions", json=asked, headers={"authorization": "Bearer dev"}
        )
        written = stage.registry.get_sample_value(
            "leeward_edge_tokens_total", {"route": ROUTES[target], "direction": "written"}
        )
    assert got.text.endswith("data: [DONE]\n\n")
    assert '"usage":{' not in got.text
    assert written == (0 if target == "openai" else 20)


async def test_a_body_too_large_to_be_translated_goes_to_its_own_dialect() -> None:
    """Past the limit a request is for targets of its client's dialect alone."""
    asked = {"model": "any", "messages": [{"role": "user", "content": "x" * MAX_TRANSLATED_BYTES}]}
    key = {"authorization": "Bearer dev"}
    async with scene(("gemini", "openai", "anthropic")) as stage, httpx2.AsyncClient(timeout=10) as http:
        url = f"{stage.base}/v1/chat/completions"
        own = await http.post(url, json=asked, headers=key)
        alone = await http.post(url, json={**asked, "model": ROUTES["gemini"]}, headers=key)
    assert (own.status_code, own.headers["x-leeward-target"]) == (200, "openai")
    assert (alone.status_code, alone.json()["error"]["code"]) == (400, "not_translatable")


# ---------------------------------------------------------------- embeddings and models


@pytest.mark.parametrize(("client", "target"), list(product(("openai", "gemini"), ("openai", "gemini"))))
async def test_vectors(client: str, target: str, proved: Proved) -> None:
    """One and several, in order."""
    async with scene() as stage, sdk(client, stage.base) as user:
        one = await user.vectors(ROUTES[target], ["one"])
        two = await user.vectors(ROUTES[target], ["one", "two words"])
    assert one == [pytest.approx(embedding("one"), abs=1e-6)]
    assert two == [pytest.approx(embedding(text), abs=1e-6) for text in ("one", "two words")]
    proved.add((client, target, "vectors"))


@pytest.mark.parametrize("client", ["openai", "gemini"])
async def test_a_dialect_without_embeddings_is_said_to_have_none(client: str) -> None:
    """A clear refusal, and the target is not asked."""
    async with scene() as stage, sdk(client, stage.base) as user:
        with pytest.raises(Failed) as failed:
            await user.vectors(ROUTES["anthropic"], ["one"])
        assert stage.targets["anthropic"]._target.stats.requests == 0
    assert failed.value.status == 400


@pytest.mark.parametrize("client", DIALECTS)
async def test_models(client: str) -> None:
    """Each client lists the routes in its own shape."""
    async with scene() as stage, sdk(client, stage.base) as user:
        assert await user.models() == [*ROUTES.values(), "any"]


# ---------------------------------------------------------------- across dialects


@pytest.mark.parametrize(("client", "last"), PAIRS)
async def test_a_request_fails_over_across_dialects(client: str, last: str, proved: Proved) -> None:
    """Two targets fail, each in its own way; the third, of another dialect again, answers as if it had been first."""
    others = [dialect for dialect in DIALECTS if dialect != last]
    async with scene((*others, last)) as stage, sdk(client, stage.base) as user:
        await stage.targets[others[0]].apply(Faults(status=Status(code=503)))
        for stream, wrong in ((False, Faults(garbage_200="html")), (True, Faults(cut_after_tokens=0))):
            await stage.targets[others[1]].apply(wrong)
            said = await user.say("any", PROMPT, stream=stream)
            assert (said.text, said.end, said.model) == (WHOLE, "end", f"{last}-model")
            for dialect in others:
                assert stage.targets[dialect]._target.stats.requests == 1 + stream
    proved.add((client, last, "failover"))


async def test_who_answered_is_told_and_nothing_stale_is() -> None:
    """The headers of the contract; length and type are the translated answer's; the target got no key of the client
    and no field of its dialect."""
    asked = {"model": "any", "messages": [{"role": "user", "content": PROMPT}], "max_tokens": 9}
    async with scene(("anthropic", "openai", "gemini")) as stage, httpx2.AsyncClient(timeout=10) as http:
        await stage.targets["anthropic"].apply(Faults(status=Status(code=503)))
        await stage.targets["openai"].apply(Faults(status=Status(code=503)))
        got = await http.post(
            f"{stage.base}/v1/messages",
            json=asked,
            headers={"x-api-key": "dev", "anthropic-version": "2023-06-01", "anthropic-beta": "x"},
        )
        sent = stage.targets["gemini"]._target.recent[-1]
    assert got.status_code == 200
    assert got.headers["x-leeward-target"] == "gemini"
    assert got.headers["x-leeward-attempts"] == "3"
    assert got.headers["content-type"] == "application/json"
    assert int(got.headers["content-length"]) == len(got.content)
    assert got.headers["proxy-status"].startswith("leeward; error=http_response_status")
    assert not {"x-api-key", "anthropic-version", "anthropic-beta", "authorization"} & sent["headers"].keys()
    assert sent["path"] == "/v1beta/models/gemini-model:generateContent"


async def test_what_one_dialect_cannot_say_goes_to_one_that_can() -> None:
    """`n` and `logprobs` are OpenAI's alone: such a request passes the others by, without an attempt or a demerit;
    where there is no other it is refused by the field's name, in the client's words."""
    asked = {"model": "any", "messages": [{"role": "user", "content": PROMPT}], "logprobs": True}
    key = {"authorization": "Bearer dev"}
    async with scene(("anthropic", "gemini", "openai")) as stage, httpx2.AsyncClient(timeout=10) as http:
        url = f"{stage.base}/v1/chat/completions"
        got = await http.post(url, json=asked, headers=key)
        alone = await http.post(url, json={**asked, "model": ROUTES["anthropic"]}, headers=key)
        await stage.targets["openai"].apply(Faults(status=Status(code=503)))
        down = await http.post(url, json=asked, headers=key)
        lanes = {lane.entry.id for lane in stage.gateway.lanes() if lane.answers or lane.totals}
    assert (got.status_code, got.headers["x-leeward-target"], got.headers["x-leeward-attempts"]) == (
        200,
        "openai",
        "1",
    )
    assert alone.status_code == 400
    assert alone.headers["x-leeward-attempts"] == "0"
    assert alone.json()["error"]["code"] == "not_translatable"
    assert "logprobs" in alone.json()["error"]["message"]
    assert down.status_code == 503
    assert lanes == {"openai"}
