"""The ladder on real sockets: every rung, to bare clients and to the official SDKs (FAULTS row 22)."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import anthropic
import openai
import pytest

from edge_router.core.ladder.store import ANSWER_BYTES, AnswerStore
from edge_router.core.table import build_table
from shared.vocabulary.decision import DecidedTier, Decision, RegionDecision, Term, WeightedTarget
from tests.support.data_path import (
    COMPLETION,
    DONE,
    END,
    STREAM_HEAD,
    Answer,
    Conversation,
    Edge,
    Target,
    World,
    answer,
    chunk,
    delta,
    serving,
    until,
)

DOWN = answer(b'{"error":{"message":"no"}}', status="503 Service Unavailable")
STORED = {"stored": {"ttl_s": 60, "stale_s": 600}}
WRITTEN = {
    "rules": [{"keywords": ["refund"], "answer": "Refunds take 5 days ({model}, {route}, {request_id})."}],
    "static": {
        "text": "Back soon.",
        "hand_off": {"text": "People are at", "url": "https://help.example/chat"},
    },
}
ALL: dict[str, Any] = {**STORED, **WRITTEN}


def call(text: str = "hi", **members: Any) -> bytes:
    return json.dumps({"model": "chat", "messages": [{"role": "user", "content": text}], **members}).encode()


def world(degradation: dict[str, Any] | None = None, **more: Any) -> World:
    route = {} if degradation is None else {"degradation": degradation}
    return World(route={**route, **more.pop("route", {})}, **more)


def pair(act: bytes = DOWN) -> dict[str, Target]:
    return {"a": Target(act), "b": Target(act)}


def fall(targets: dict[str, Target], act: bytes = DOWN) -> None:
    for target in targets.values():
        target.act = act


def said(got: Answer) -> str:
    return str(json.loads(got.body)["choices"][0]["message"]["content"])


def rung(got: Answer) -> str | None:
    return got.fields.get("x-leeward-degraded")


# ---------------------------------------------------------------- rungs


async def test_each_rung_in_its_order_when_every_target_says_503() -> None:
    """Stored for what was asked before, a rule for what it speaks of, static for the rest: 200, and labelled."""
    targets = pair(answer())
    async with serving(targets, world(ALL)) as edge:
        first = await edge.ask(call())
        assert rung(first) is None
        assert first.fields["cache-status"] == "leeward; fwd=bypass"
        fall(targets)
        stored = await edge.ask(call())
        ruled = await edge.ask(call("where is my Refund?"))
        static = await edge.ask(call("who are you"))
        assert [rung(got) for got in (stored, ruled, static)] == ["stored", "rules", "static"]
        assert stored.body == COMPLETION
        assert stored.fields["age"] == "0"
        assert stored.fields["cache-status"] == "leeward; hit; ttl=60; detail=no-target-answered"
        assert said(ruled).startswith("Refunds take 5 days (chat, chat, ")
        assert ruled.fields["x-leeward-request-id"] in said(ruled)
        assert json.loads(ruled.body)["model"] == "leeward/rules"
        assert said(static) == "Back soon.\n\nPeople are at https://help.example/chat"
        assert json.loads(static.body)["model"] == "leeward/static"
        assert static.fields["x-leeward-hand-off"] == "https://help.example/chat"
        assert static.fields["cache-status"] == "leeward; fwd=miss; detail=static"
        for got in (stored, ruled, static):
            assert got.status == 200
            assert 'error=http_response_status; next-hop="' in got.fields["proxy-status"]
            assert got.fields["x-leeward-attempts"] == "2"
        for name in ("stored", "rules", "static"):
            assert edge.metric("leeward_edge_ladder_steps_total", route="chat", rung=name) == 1
        assert edge.metric("leeward_edge_hand_offs_total", route="chat") == 1
        assert edge.metric("leeward_edge_stored_answers") == 1
        assert edge.metric("leeward_edge_tasks_total", route="chat", tenant="dev", result="degraded") == 3
        assert edge.metric("leeward_edge_tasks_total", route="chat", tenant="dev", result="served") == 1


async def test_a_route_that_opted_into_nothing_gives_the_targets_own_error() -> None:
    """And has no ladder in its table."""
    targets = pair()
    async with serving(targets) as edge:
        assert (await edge.ask(call())).status == 503
        assert edge.gateway.table.routes["chat"].ladder is None
        assert len(edge.gateway.rungs.store) == 0


async def _hang(talk: Conversation) -> None:
    await talk.hang()


async def _reset(talk: Conversation) -> None:
    talk.reset()


@pytest.mark.parametrize(
    "act",
    [
        DOWN,
        answer(b"{}", status="429 Too Many Requests", fields="retry-after: 5\r\n"),
        answer(b"{}", status="401 Unauthorized"),
        answer(b"<html>", kind="text/html"),
        _hang,
        _reset,
    ],
)
async def test_every_kind_of_failure_leads_to_the_ladder(act: Any) -> None:
    """Errors, throttling, refused credentials, garbage, silence and resets."""
    targets = {"a": Target(act)}
    async with serving(targets, world(WRITTEN, timeouts={"first_byte_s": 0.3})) as edge:
        assert rung(await edge.ask(call())) == "static"


async def test_a_clients_own_fault_does_not() -> None:
    """400 is an answer: handed back untouched."""
    async with serving(pair(answer(b'{"error":{}}', status="400 Bad Request")), world(ALL)) as edge:
        got = await edge.ask(call())
        assert (got.status, rung(got)) == (400, None)


async def test_a_question_too_long_for_every_target_does_not_either() -> None:
    """It may move to a longer context; when there is none, the error is the client's to read."""
    body = b'{"error":{"message":"too long","type":"invalid_request_error","code":"context_length_exceeded"}}'
    async with serving(pair(answer(body, status="400 Bad Request")), world(ALL)) as edge:
        got = await edge.ask(call())
        assert (got.status, rung(got), got.body) == (400, None, body)


async def test_a_killed_fleet_still_answers_from_memory() -> None:
    """SIGKILL to every target's process: refused connections, and the answers that were given before."""
    script = (
        "import http.server, sys\n"
        "class H(http.server.BaseHTTPRequestHandler):\n"
        "    protocol_version = 'HTTP/1.1'\n"
        "    def do_POST(self):\n"
        "        self.rfile.read(int(self.headers['content-length']))\n"
        f"        body = {COMPLETION!r}\n"
        "        self.send_response(200)\n"
        "        self.send_header('content-type', 'application/json')\n"
        "        self.send_header('content-length', str(len(body)))\n"
        "        self.end_headers()\n"
        "        self.wfile.write(body)\n"
        "    def log_message(self, *_): pass\n"
        "s = http.server.ThreadingHTTPServer(('127.0.0.1', 0), H)\n"
        "print(s.server_port, flush=True)\n"
        "s.serve_forever()\n"
    )
    fleet = [
        await asyncio.create_subprocess_exec(sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE)
        for _ in range(2)
    ]
    try:
        ports = []
        for process in fleet:
            assert process.stdout is not None
            ports.append(int(await asyncio.wait_for(process.stdout.readline(), 30)))
        gone = {name: Elsewhere(port) for name, port in zip("ab", ports, strict=True)}
        async with serving(gone, world(ALL)) as edge:
            assert rung(await edge.ask(call())) is None
            for process in fleet:
                process.kill()
                await process.wait()
            answers = [await edge.ask(call()) for _ in range(20)]
            assert {(got.status, rung(got), got.body) for got in answers} == {(200, "stored", COMPLETION)}
            assert rung(await edge.ask(call("never asked"))) == "static"
    finally:
        for process in fleet:
            if process.returncode is None:
                process.kill()
            await process.wait()


class Elsewhere(Target):
    """A target that another process serves."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self.port = port

    async def start(self) -> None:
        return

    async def stop(self) -> None:
        return


# ---------------------------------------------------------------- never


@pytest.mark.parametrize(
    "members",
    [
        {"tools": [{"type": "function", "function": {"name": "f"}}]},
        {"response_format": {"type": "json_object"}},
        {"n": 2},
    ],
)
async def test_what_a_machine_reads_is_never_degraded(members: dict[str, Any]) -> None:
    """Nor stored: with tools and response formats an error is the only honest answer."""
    targets = pair(answer())
    async with serving(targets, world(ALL)) as edge:
        assert (await edge.ask(call(**members))).status == 200
        fall(targets)
        got = await edge.ask(call(**members))
        assert (got.status, rung(got)) == (503, None)
        assert len(edge.gateway.rungs.store) == 0


async def test_embeddings_are_never_degraded() -> None:
    """Not even from the store."""
    targets = pair(answer(b'{"object":"list","data":[{"index":0,"embedding":[1.0]}]}'))
    body = b'{"model":"chat","input":"hi"}'
    async with serving(targets, world(ALL)) as edge:
        assert (await edge.ask(body, path="/v1/embeddings")).status == 200
        fall(targets)
        assert (await edge.ask(body, path="/v1/embeddings")).status == 503
        assert len(edge.gateway.rungs.store) == 0


async def test_a_client_can_refuse_to_be_degraded() -> None:
    """`x-leeward-degrade: never` gives the error; any other value is one itself."""
    targets = pair(answer())
    async with serving(targets, world(ALL)) as edge:
        await edge.ask(call())
        fall(targets)
        assert (await edge.ask(call(), fields="x-leeward-degrade: never\r\n")).status == 503
        assert (await edge.ask(call(), fields="x-leeward-degrade: maybe\r\n")).status == 400
        assert rung(await edge.ask(call())) == "stored"


# ---------------------------------------------------------------- stored


async def test_tenants_never_see_each_others_answers() -> None:
    """The same request with another key is another request."""
    targets = pair(answer())
    async with serving(targets, world(STORED, more_keys=("second",))) as edge:
        await edge.ask(call())
        fall(targets)
        assert (await edge.ask(call(), key="second")).status == 503
        assert rung(await edge.ask(call())) == "stored"


async def test_cache_control_is_obeyed() -> None:
    """RFC 9111, section 5.2.1, as far as a client sees it."""
    targets = pair(answer())

    async def ask(control: str, text: str = "hi") -> Answer:
        return await edge.ask(call(text), fields=f"cache-control: {control}\r\n")

    async with serving(targets, world({"stored": {**STORED["stored"], "serve": "when_fresh"}})) as edge:
        assert (await ask("no-store", "secret")).fields["cache-status"] == "leeward; fwd=miss"
        missed = await ask("only-if-cached")
        assert (missed.status, missed.fields["proxy-status"]) == (
            504,
            "leeward; error=proxy_internal_response",
        )
        await ask("max-age=60")
        hit = await ask("only-if-cached")
        assert (hit.status, rung(hit), hit.fields["x-leeward-attempts"]) == (200, None, "0")
        assert hit.fields["cache-status"] == "leeward; hit; ttl=60"
        assert (await ask("no-cache")).fields["x-leeward-attempts"] == "1"
        assert (await ask("min-fresh=61")).fields["x-leeward-attempts"] == "1"
        asked = sum(len(target.seen) for target in targets.values())
        assert (await edge.ask(call())).fields["x-leeward-attempts"] == "0"
        assert asked == sum(len(target.seen) for target in targets.values()) == 4
        assert edge.metric("leeward_edge_tasks_total", route="chat", tenant="dev", result="degraded") == 0
        fall(targets)
        assert (await ask("no-cache")).status == 503
        assert (await ask("max-age=60", "secret")).status == 503


async def test_a_target_that_forbids_storing_is_obeyed() -> None:
    """Its own no-store, on any of its lines."""
    targets = pair(answer(fields="cache-control: private, no-store\r\n"))
    async with serving(targets, world(STORED)) as edge:
        await edge.ask(call())
        assert len(edge.gateway.rungs.store) == 0


async def test_what_was_written_in_pieces_is_stored_too() -> None:
    """A body that arrives in several reads, and one too large to be stored."""

    async def slowly(talk: Conversation) -> None:
        whole = answer()
        await talk.send(whole[:150], whole[150:], pause_s=0.02)

    targets = {"a": Target(slowly)}
    async with serving(targets, world(STORED)) as edge:
        await edge.ask(call())
        assert edge.metric("leeward_edge_stored_answers") == 1
        targets["a"].act = answer(COMPLETION.replace(b"hello", b"x" * ANSWER_BYTES))
        assert (await edge.ask(call("long"))).status == 200
        assert edge.metric("leeward_edge_stored_answers") == 1


async def test_a_flood_of_different_requests_stays_within_the_store() -> None:
    """The oldest go; the bytes never exceed the bound."""
    targets = pair(answer())
    async with serving(targets, world(STORED)) as edge:
        store = edge.gateway.rungs.store = AnswerStore(most_bytes=100_000)
        async with edge.client() as client:
            for n in range(500):
                assert (await client.ask(call(f"question {n}"))).status == 200
                assert store.bytes <= 100_000
        assert len(store) > 50
        assert store.evicted == 500 - len(store)
        fall(targets)
        assert (await edge.ask(call("question 0"))).status == 503
        assert rung(await edge.ask(call("question 499"))) == "stored"


# ---------------------------------------------------------------- streams


async def streaming(talk: Conversation) -> None:
    await talk.send(
        STREAM_HEAD,
        chunk(delta(role=True)),
        chunk(delta("hel")),
        chunk(delta("lo") + delta(finish="stop")),
        chunk(DONE),
        END,
    )


async def test_a_stream_is_stored_whole_and_given_either_way() -> None:
    """What was streamed can be asked for in one piece, and again as a stream."""
    targets = {"a": Target(streaming)}
    async with serving(targets, world(STORED)) as edge:
        assert DONE in (await edge.ask(call(stream=True))).body
        fall(targets)
        plain = await edge.ask(call())
        assert (rung(plain), said(plain)) == ("stored", "hello")
        again = await edge.ask(call(stream=True, user="someone"))
        assert again.fields["content-type"] == "text/event-stream"
        assert b'"content":"hello"' in again.body
        assert again.body.endswith(DONE)
        # Its usage was never told, so a stream that must tell it cannot be given.
        assert (await edge.ask(call(stream=True, stream_options={"include_usage": True}))).status == 503


async def test_a_stream_with_a_tool_call_or_a_break_is_not_stored() -> None:
    """Exactly or not at all."""

    async def broken(talk: Conversation) -> None:
        await talk.send(STREAM_HEAD, chunk(delta("hel")))
        talk.close()

    async def tool(talk: Conversation) -> None:
        event = b'data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":0}]},"finish_reason":"tool_calls"}]}\n\n'
        await talk.send(STREAM_HEAD, chunk(event + DONE), END)

    targets = {"a": Target(broken)}
    async with serving(targets, world(STORED)) as edge:
        assert not (await edge.ask(call(stream=True))).clean
        targets["a"].act = tool
        assert (await edge.ask(call(stream=True))).clean
        assert len(edge.gateway.rungs.store) == 0


# ---------------------------------------------------------------- SDKs


async def test_the_openai_sdk_reads_every_rung() -> None:
    """Chat and responses, whole and streamed, usage included."""
    async with (
        serving(pair(), world(ALL)) as edge,
        openai.AsyncOpenAI(
            base_url=f"http://{edge.host}:{edge.port}/v1", api_key="dev", max_retries=0, timeout=10
        ) as client,
    ):
        for question, text, model in (
            ("a refund", "Refunds take 5 days", "leeward/rules"),
            ("else", "Back soon.", "leeward/static"),
        ):
            messages: Any = [{"role": "user", "content": question}]
            whole = await client.chat.completions.create(model="chat", messages=messages)
            assert str(whole.choices[0].message.content).startswith(text)
            assert (whole.model, whole.choices[0].finish_reason) == (model, "stop")
            chunks = [
                piece
                async for piece in await client.chat.completions.create(
                    model="chat", messages=messages, stream=True, stream_options={"include_usage": True}
                )
            ]
            streamed = "".join(piece.choices[0].delta.content or "" for piece in chunks if piece.choices)
            assert streamed.startswith(text)
            assert chunks[-1].usage is not None
            assert chunks[-1].usage.total_tokens == 0
            response = await client.responses.create(model="chat", input=question)
            assert (response.output_text[: len(text)], response.model) == (text, model)
            async with client.responses.stream(model="chat", input=question) as events:
                final = await events.get_final_response()
            assert final.output_text.startswith(text)
            assert final.status == "completed"


async def test_the_anthropic_sdk_reads_every_rung() -> None:
    """Messages, whole and streamed; stored ones as well."""
    message = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "m-a",
        "content": [{"type": "text", "text": "hello"}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 3, "output_tokens": 2},
    }
    targets = pair(answer(json.dumps(message).encode()))
    async with (
        serving(targets, world(ALL, dialect="anthropic")) as edge,
        anthropic.AsyncAnthropic(
            base_url=f"http://{edge.host}:{edge.port}", api_key="dev", max_retries=0, timeout=10
        ) as client,
    ):
        asked: Any = {"model": "chat", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
        assert (await client.messages.create(**asked)).model == "m-a"
        fall(targets)
        async with client.messages.stream(**asked) as stream:
            final = await stream.get_final_message()
        assert (final.content[0].text, final.usage.output_tokens, final.model) == ("hello", 2, "m-a")
        asked["messages"] = [{"role": "user", "content": "else"}]
        whole = await client.messages.create(**asked)
        async with client.messages.stream(**asked) as stream:
            final = await stream.get_final_message()
        assert whole.content[0].text == final.content[0].text
        assert whole.content[0].text.startswith("Back soon.")
        assert whole.model == final.model == "leeward/static"
        assert whole.stop_reason == final.stop_reason == "end_turn"


# ---------------------------------------------------------------- stepping down


def light_world(**more: Any) -> World:
    light = {"id": "light", "match": {"models": ["light"]}, "tiers": [{"targets": ["l"]}]}
    return World(
        tiers=[["a"]],
        target={"capacity_inflight": 1},
        route={"degradation": {"step_down": "light", **more}},
        more_routes=[light],
    )


class Held:
    """A target that answers when told to."""

    def __init__(self) -> None:
        self.go = asyncio.Event()

    async def __call__(self, talk: Conversation) -> None:
        await self.go.wait()
        await talk.send(answer())


@asynccontextmanager
async def crowding() -> AsyncIterator[tuple[Edge, dict[str, Target]]]:
    """The route's one target is full; the lighter route's is free."""
    held = Held()
    targets = {"a": Target(held), "l": Target(answer(COMPLETION.replace(b"hello", b"light")))}
    async with serving(targets, light_world(static={"text": "Back soon."})) as edge, edge.client() as first:
        first.write(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer dev\r\ncontent-length: %d\r\n\r\n%b"
            % (len(call()), call())
        )
        await until(lambda: len(targets["a"].seen) == 1)
        yield edge, targets
        held.go.set()
        assert (await first.read()).status == 200


async def test_a_full_route_steps_down_to_a_lighter_one() -> None:
    """Tools and all: a model answers, and the headers say which; counted as the route that was asked."""
    async with crowding() as (edge, targets):
        got = await edge.ask(call(tools=[{"type": "function", "function": {"name": "f"}}]))
        assert said(got) == "light"
        assert got.fields["x-leeward-stepped-down"] == "light"
        assert got.fields["x-leeward-target"] == "l"
        assert rung(got) is None
        assert json.loads(targets["l"].seen[0].body)["model"] == "m-l"
        assert edge.metric("leeward_edge_ladder_steps_total", route="chat", rung="step_down") == 1
        assert edge.metric("leeward_edge_requests_total", route="chat", status="2xx") == 1
        assert edge.metric("leeward_edge_requests_total", route="light", status="2xx") == 0


async def test_who_will_not_be_degraded_does_not_step_down() -> None:
    """Nor do vectors, which would be of another space; nor what is bound to one provider's state."""
    async with crowding() as (edge, targets):
        assert (await edge.ask(call(), fields="x-leeward-degrade: never\r\n")).status == 503
        assert (await edge.ask(b'{"model":"chat","input":"x"}', path="/v1/embeddings")).status == 503
        assert (await edge.ask(call(previous_response_id="r"), path="/v1/responses")).status == 503
        assert not targets["l"].seen


async def test_a_share_that_is_shed_steps_down() -> None:
    """The decision turns all of it away: the lighter route takes what it has room for."""
    targets = {"a": Target(answer()), "l": Target(answer(COMPLETION.replace(b"hello", b"light")))}
    async with serving(targets, light_world()) as edge:
        tier = DecidedTier(share_permille=0, targets=(WeightedTarget(id="a", weight_permille=1000),))
        shed = Decision(
            route="chat",
            generation=1,
            seq=1,
            config_version=1,
            regions={
                region.id: RegionDecision(tiers=(tier,), shed_permille=1000)
                for region in edge.config.fleet.regions
            },
            decided_at=datetime(2030, 1, 1, tzinfo=UTC),
            term=Term(holder="c", epoch=1),
        )
        edge.gateway.swap(build_table(edge.config, {"chat": shed}, shed.version, region="us-east"))
        got = await edge.ask(call())
        assert (said(got), got.fields["x-leeward-stepped-down"]) == ("light", "light")
        assert not targets["a"].seen


async def test_one_step_and_then_the_other_rungs() -> None:
    """A lighter route that fails leads to the answers of the route that was asked."""
    async with crowding() as (edge, targets):
        targets["l"].act = DOWN
        got = await edge.ask(call())
        assert (rung(got), said(got)) == ("static", "Back soon.")


# ---------------------------------------------------------------- promised JSON


def json_call(schema: dict[str, Any] | None = None, **members: Any) -> bytes:
    form: dict[str, Any] = {"type": "json_object"}
    if schema is not None:
        form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    return call(response_format=form, **members)


GOOD = answer(COMPLETION.replace(b'"hello"', b'"{\\"age\\": 3}"'))
AGE = {"type": "object", "required": ["age"], "properties": {"age": {"type": "integer"}}}


@pytest.mark.parametrize(
    ("bad", "schema"),
    [
        (answer(), None),
        (answer(), AGE),
        (answer(COMPLETION.replace(b'"hello"', b'"{\\"age\\": \\"3\\"}"')), AGE),
    ],
)
async def test_broken_json_moves_to_another_target(bad: bytes, schema: dict[str, Any] | None) -> None:
    """No JSON, or JSON of another schema, is GARBLED: the client gets the next target's."""
    targets = {"a": Target(bad), "b": Target(GOOD)}
    async with serving(targets, world(route={"check_json": True})) as edge:
        got = await edge.ask(json_call(schema))
        assert (got.status, said(got), got.fields["x-leeward-target"]) == (200, '{"age": 3}', "b")
        assert "a: response_format_broken" in got.fields["proxy-status"]
        assert edge.metric("leeward_edge_attempts_total", target="a", outcome="GARBLED") == 1
        assert edge.metric("leeward_edge_broken_formats_total", target="a") == 1
        assert said(await edge.ask(call())) in ("hello", '{"age": 3}', '{"age": "3"}')  # no JSON was promised


async def test_json_that_nobody_keeps_is_refused() -> None:
    """Never a wrong 200, and no text in the place of JSON, whatever else the route has opted into."""
    targets = pair(answer())
    async with serving(targets, world(ALL, route={"check_json": True})) as edge:
        got = await edge.ask(json_call())
        assert (got.status, rung(got)) == (502, None)
        assert "response_format_broken" in json.loads(got.body)["error"]["message"]


async def test_without_the_option_the_text_is_handed_on() -> None:
    """As before."""
    async with serving(pair(answer())) as edge:
        assert said(await edge.ask(json_call())) == "hello"


async def test_json_in_several_reads_is_held_until_it_is_checked() -> None:
    """Larger than what is held of ordinary answers."""
    padding = b" " * 100_000

    async def slowly(talk: Conversation) -> None:
        whole = answer(COMPLETION.replace(b'"hello"', b'"{' + padding + b'"'))
        await talk.send(whole[:90_000], whole[90_000:], pause_s=0.02)

    good = answer(COMPLETION.replace(b'"hello"', b'"{' + padding + b'}"'))
    async with serving({"a": Target(slowly), "b": Target(good)}, world(route={"check_json": True})) as edge:
        got = await edge.ask(json_call())
        assert (got.status, got.fields["x-leeward-target"]) == (200, "b")


async def test_a_stream_that_turns_out_to_be_no_json_ends_in_band() -> None:
    """Its end is kept back: an error stands where the finish reason would have been, and no clean end."""

    async def in_pieces(talk: Conversation) -> None:
        await talk.send(STREAM_HEAD, chunk(delta("{")), pause_s=0.03)
        await talk.send(chunk(delta("not JSON")), chunk(delta(finish="stop") + DONE), END)

    async with serving({"a": Target(in_pieces)}, world(route={"check_json": True})) as edge:
        got = await edge.ask(json_call(stream=True))
        assert not got.clean
        assert b"not the JSON that its response format promises" in got.body
        assert b'"finish_reason":"stop"' not in got.body
        assert DONE not in got.body


async def test_a_stream_that_is_seen_whole_at_once_moves() -> None:
    """Nothing of it has gone out."""

    async def at_once(talk: Conversation) -> None:
        await talk.send(STREAM_HEAD + chunk(delta("no JSON") + delta(finish="stop") + DONE) + END)

    async def good(talk: Conversation) -> None:
        await talk.send(
            STREAM_HEAD, chunk(delta("{")), chunk(delta("}") + delta(finish="stop")), chunk(DONE), END
        )

    async with serving({"a": Target(at_once), "b": Target(good)}, world(route={"check_json": True})) as edge:
        got = await edge.ask(json_call(stream=True))
        assert got.clean
        assert got.fields["x-leeward-target"] == "b"
        assert got.body.endswith(DONE)


# ---------------------------------------------------------------- row 22


async def test_all_targets_503_attempts_stay_within_the_budget(capsys: pytest.CaptureFixture[str]) -> None:
    """FAULTS row 22: 400 requests of 40 clients at six targets that all say 503. Everyone gets an answer of the
    ladder; beyond the free move there is at most the budget, so an outage is not multiplied by its clients."""
    most_extra = 0

    async def down(talk: Conversation) -> None:
        nonlocal most_extra
        most_extra = max(most_extra, edge.gateway.extra_active)
        await talk.send(DOWN)

    targets = {name: Target(down) for name in "abcdef"}
    async with serving(targets, world(WRITTEN)) as edge:

        async def client() -> list[Answer]:
            async with edge.client() as one:
                return [await one.ask(call()) for _ in range(10)]

        answers = [got for some in await asyncio.gather(*(client() for _ in range(40))) for got in some]
        assert {(got.status, rung(got)) for got in answers} == {(200, "static")}
        attempts = sum(len(target.seen) for target in targets.values())
        told = sum(int(got.fields["x-leeward-attempts"]) for got in answers)
        assert attempts == told
        assert max(int(got.fields["x-leeward-attempts"]) for got in answers) <= 3
        assert most_extra <= max(3, 0.2 * 40)
        assert attempts / len(answers) < 2.5
        with capsys.disabled():
            print(
                f"\nrow 22: {len(answers)} requests, all answered by the ladder; {attempts / len(answers):.2f} attempts"
                f" per request (2 free, 3 at most); budget in use at most {most_extra} of {max(3, int(0.2 * 40))}"
            )
