"""What a route may opt into, all on one route: dialects, resuming, the ladder, limits. Each is tested by itself elsewhere;
here that they leave each other whole."""

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest

from tests.support.data_path import (
    DONE,
    END,
    STREAM,
    STREAM_HEAD,
    Answer,
    Conversation,
    Edge,
    Target,
    World,
    answer,
    chunk,
    delta,
    request,
    said,
    script,
    serving,
    until,
)

WORDS = [f" w{n}" for n in range(12)]
CHAT = [delta(role=True), *(delta(word) for word in WORDS), delta(finish="stop"), DONE]
MESSAGES = [
    (
        b'event: message_start\ndata: {"type":"message_start","message":{"id":"m","type":"message","role":"assistant",'
        b'"model":"claude","content":[],"stop_reason":null,"stop_sequence":null,'
        b'"usage":{"input_tokens":3,"output_tokens":1}}}\n\n'
    ),
    (
        b'event: content_block_start\ndata: {"type":"content_block_start","index":0,'
        b'"content_block":{"type":"text","text":""}}\n\n'
    ),
    *(
        b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,'
        b'"delta":{"type":"text_delta","text":"%b"}}\n\n' % word.encode()
        for word in WORDS
    ),
]
STOP = [
    b'event: content_block_stop\ndata: {"type":"content_block_stop","index":0}\n\n',
    (
        b'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},'
        b'"usage":{"output_tokens":12}}\n\n'
    ),
    b'event: message_stop\ndata: {"type":"message_stop"}\n\n',
]
ERROR = b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"busy"}}\n\n'
ALL: dict[str, Any] = {
    "stream_recovery": "resume",
    "stream_usage": True,
    "degradation": {"stored": {"ttl_s": 60}, "static": {"text": "nobody is there"}},
    "overload": {},
}
LIMITED = {
    "id": "limited",
    "key": "limited",
    "requests_per_minute": 600,
    "tokens_per_minute": 1_000_000,
    "concurrency": 50,
}
GEMINI_CALL = b'{"contents":[{"role":"user","parts":[{"text":"hi"}]}]}'
GEMINI_STREAM = "/v1beta/models/chat:streamGenerateContent?alt=sse"


def world(each: dict[str, Any] | None = None, **dialects: str) -> World:
    return World(
        route=ALL,
        each=each or {name: {"dialect": dialect} for name, dialect in dialects.items()},
        keys=[LIMITED],
        timeouts={"idle_s": 0.5},
    )


async def ask(edge: Edge, body: bytes = STREAM, **how: Any) -> Answer:
    return await edge.ask(body, key="limited", **how)


async def at_rest(edge: Edge) -> None:
    """Nothing is held of any request: no budget, no memory, no place at a target or of a key."""
    gateway = edge.gateway
    await until(lambda: not gateway.exchanges)
    assert (gateway.extra_active, gateway.reserved_bytes) == (0, 0)
    assert all(lane.inflight == 0 for lane in gateway.lanes())
    assert all(gate.under_way == 0 for gate in gateway.entrance.gates.values())


def _gemini_texts(body: bytes) -> list[str]:
    events = [json.loads(line[6:]) for line in body.split(b"\n") if line.startswith(b"data: {")]
    return [part["text"] for event in events for part in event["candidates"][0]["content"].get("parts", ())]


async def test_a_cut_stream_is_resumed_on_a_target_of_another_dialect() -> None:
    """It repeats what the client has and brings the rest; its own usage is counted, and not told to who did not ask."""
    targets = {"one": Target(script(*CHAT[:6], then="cut")), "two": Target(script(*MESSAGES, *STOP))}
    async with serving(
        targets, world({"two": {"dialect": "anthropic", "capabilities": ["prefill"]}})
    ) as edge:
        got = await ask(edge)
        assert got.clean
        assert said(got.body) == "".join(WORDS)
        assert b": leeward: resumed by two, replay, attempt 2" in got.body
        assert b'"choices":[],' not in got.body
        assert got.body.count(b"[DONE]") == got.body.count(b'"stop"') == 1
        assert b"assistant" not in targets["two"].seen[0].body
        assert edge.metric("leeward_edge_tokens_total", route="chat", direction="written") == 12
        await at_rest(edge)


async def test_a_translated_stream_that_is_cut_goes_on_at_the_next_target() -> None:
    """On its own dialect's, or past one that differs or answers with an error on a third."""
    cut = script(*MESSAGES[:6], then="cut")
    targets = {"one": Target(cut), "two": Target(script(*CHAT))}
    async with serving(targets, world(one="anthropic")) as edge:
        got = await ask(edge)
        assert (got.clean, said(got.body)) == (True, "".join(WORDS))
        await at_rest(edge)
    other = [event.replace(b" w1", b" other") for event in MESSAGES]
    bad = answer(b'{"error":{"message":"no"}}', status="400 Bad Request")
    for wrong in (script(*other, *STOP), bad):
        targets = {"one": Target(cut), "two": Target(wrong), "three": Target(script(*MESSAGES, *STOP))}
        async with serving(targets, world(one="anthropic", two="anthropic", three="anthropic")) as edge:
            got = await ask(edge)
            assert (got.clean, said(got.body)) == (True, "".join(WORDS))
            assert len(targets["two"].seen) == 1
            await at_rest(edge)


@pytest.mark.parametrize(
    ("path", "body", "second", "ends"),
    [
        (
            "/v1/messages",
            b'{"model":"chat","max_tokens":99,"stream":true,"messages":[{"role":"user","content":"hi"}]}',
            "openai",
            (b"message_start", b"message_stop"),
        ),
        (
            "/v1/responses",
            b'{"model":"chat","stream":true,"input":"hi"}',
            "anthropic",
            (b"response.created", b"response.completed"),
        ),
    ],
)
async def test_clients_of_other_dialects_are_resumed_across_dialects_too(
    path: str, body: bytes, second: str, ends: tuple[bytes, bytes]
) -> None:
    """Anthropic's and Responses clients, the first target Anthropic's: one beginning, one end, every word once."""
    whole = script(*CHAT) if second == "openai" else script(*MESSAGES, *STOP)
    targets = {"one": Target(script(*MESSAGES[:6], then="cut")), "two": Target(whole)}
    async with serving(targets, world(one="anthropic", two=second)) as edge:
        got = await ask(edge, body, path=path)
        assert got.clean
        events = [json.loads(line[6:]) for line in got.body.split(b"\n") if line.startswith(b"data: {")]
        texts = [event["delta"] for event in events if "delta" in event]
        text = "".join(part if isinstance(part, str) else part.get("text", "") for part in texts)
        assert text == "".join(WORDS)
        assert [got.body.count(b"event: %b\n" % end) for end in ends] == [1, 1]
        await at_rest(edge)


async def test_a_translated_stream_that_nobody_completes_ends_in_band() -> None:
    """Told, with no clean end, and nothing is stored of it."""
    targets = {
        "one": Target(script(*MESSAGES[:6], then="cut")),
        "two": Target(script(*MESSAGES[:6], then="cut")),
    }
    async with serving(targets, world(one="anthropic", two="anthropic")) as edge:
        got = await ask(edge)
        assert not got.clean
        assert b'"error"' in got.body
        assert b"[DONE]" not in got.body
        again = await ask(edge)
        assert "x-leeward-degraded" not in again.fields
        await at_rest(edge)


@pytest.mark.parametrize("cut", [script(*MESSAGES[:6], then="cut"), script(*MESSAGES[:6], ERROR)])
async def test_a_translated_stream_is_held_until_it_is_whole(cut: Any) -> None:
    """`hold`: one that breaks moves unseen, however it breaks."""
    targets = {"one": Target(cut), "two": Target(script(*MESSAGES, *STOP))}
    scene = replace(world(one="anthropic", two="anthropic"), route={"stream_recovery": "hold"})
    async with serving(targets, scene) as edge:
        got = await ask(edge)
        assert (got.clean, said(got.body)) == (True, "".join(WORDS))
        assert got.fields["x-leeward-target"] == "two"
        assert edge.metric("leeward_edge_tokens_total", route="chat", direction="written") == 12
        await at_rest(edge)


@pytest.mark.parametrize("light", ["free", "limited", "other dialect", "failing"])
async def test_a_route_that_is_overloaded_takes_its_ladder(light: str) -> None:
    """The lighter route, by its own limit; then the other rungs; the key's own limits hold for all of them."""
    go = asyncio.Event()

    async def wait(talk: Conversation) -> None:
        await go.wait()
        await talk.send(answer())

    one = {"min_concurrency": 1, "initial_concurrency": 1, "max_concurrency": 1}
    below = {"id": "light", "match": {"models": ["light"]}, "tiers": [{"targets": ["l"]}]}
    down = answer(b"{}", status="503 Service Unavailable")
    served = {"failing": down, "other dialect": script(*MESSAGES, *STOP)}.get(light, script(*CHAT))
    targets = {"one": Target(wait), "l": Target(wait if light == "limited" else served)}
    scene = World(
        tiers=[["one"]],
        each={"l": {"dialect": "anthropic"}} if light == "other dialect" else {},
        route={"overload": one, "degradation": {"step_down": "light", "static": {"text": "nobody is there"}}},
        more_routes=[below | ({"overload": one} if light == "limited" else {})],
        keys=[LIMITED | {"concurrency": 3, "priority": "high"}],
        timeouts={"ttft_s": 5},
    )
    plain = b'{"model":"chat","messages":[{"role":"user","content":"hi"}]}'
    async with serving(targets, scene) as edge:
        waiting = [asyncio.ensure_future(ask(edge, plain))]
        await until(lambda: len(targets["one"].seen) == 1)
        if light == "limited":
            waiting.append(asyncio.ensure_future(ask(edge, plain)))
            await until(lambda: len(targets["l"].seen) == 1)
        got = await ask(edge)
        if light in ("free", "other dialect"):
            assert (said(got.body), got.fields["x-leeward-stepped-down"]) == ("".join(WORDS), "light")
        else:
            assert got.fields["x-leeward-degraded"] == "static"
        never = await ask(edge, fields="x-leeward-degrade: never\r\n")
        assert (never.status, never.fields["retry-after"]) == (503, "1")
        assert json.loads(never.body)["error"]["code"] == "route_overloaded"
        go.set()
        answers = [await each for each in waiting]
        assert {each.status for each in answers} == {200}
        assert len(targets["one"].seen) == 1
        await at_rest(edge)


async def test_a_key_at_its_limit_is_told_so_by_an_overloaded_route() -> None:
    """Its ladder is no way around the key's own limit."""
    go = asyncio.Event()

    async def wait(talk: Conversation) -> None:
        await go.wait()
        await talk.send(answer())

    one = {"min_concurrency": 1, "initial_concurrency": 1, "max_concurrency": 1}
    scene = World(
        route={"overload": one, "degradation": {"static": {"text": "nobody is there"}}},
        keys=[LIMITED | {"concurrency": 1, "priority": "high"}],
        timeouts={"ttft_s": 5},
    )
    async with serving({"one": Target(wait)}, scene) as edge:
        first = asyncio.ensure_future(ask(edge, b'{"model":"chat","messages":[]}'))
        await until(lambda: len(edge.gateway.exchanges) == 1)
        assert (await ask(edge)).status == 429
        go.set()
        assert (await first).status == 200
        assert (await ask(edge, b'{"model":"chat","messages":[]}')).status == 200
        await at_rest(edge)


@pytest.mark.parametrize("stream", [False, True])
async def test_clients_of_each_dialect_get_the_ladders_answer_in_their_own(stream: bool) -> None:
    """When targets of two dialects answer 503."""
    down = answer(b"{}", status="503 Service Unavailable")
    flag = b',"stream":true' if stream else b""
    path = "/v1beta/models/chat:" + ("streamGenerateContent?alt=sse" if stream else "generateContent")
    calls = [
        (b'{"model":"chat","messages":[{"role":"user","content":"hi"}]%b}' % flag, "/v1/chat/completions"),
        (
            b'{"model":"chat","max_tokens":9,"messages":[{"role":"user","content":"hi"}]%b}' % flag,
            "/v1/messages",
        ),
        (b'{"model":"chat","input":"hi"%b}' % flag, "/v1/responses"),
        (GEMINI_CALL, path),
    ]
    async with serving({"one": Target(down), "two": Target(down)}, world(two="anthropic")) as edge:
        for body, where in calls:
            got = await ask(edge, body, path=where)
            assert (got.status, got.fields["x-leeward-degraded"]) == (200, "static"), where
            assert b"nobody is there" in got.body
            assert b"leeward/static" in got.body
            assert got.clean
        await at_rest(edge)


async def test_a_stored_translated_answer_is_told_to_the_dialect_that_asked_alone() -> None:
    """A Gemini client's answer, written by an OpenAI target, is stored as Gemini's; then the target dies."""
    target = Target(script(*CHAT))
    async with serving({"one": target}, world()) as edge:
        first = await ask(edge, GEMINI_CALL, path=GEMINI_STREAM)
        assert first.status == 200
        target.act = answer(b"{}", status="503 Service Unavailable")
        stored = await ask(edge, GEMINI_CALL, path=GEMINI_STREAM)
        assert stored.fields["x-leeward-degraded"] == "stored"
        assert "".join(_gemini_texts(stored.body)) == "".join(WORDS)
        other = await ask(edge, STREAM)
        assert other.fields["x-leeward-degraded"] == "static"
        await at_rest(edge)


async def test_clients_that_leave_anywhere_leave_nothing_behind() -> None:
    """Forty of them, after anything from no time to 80 ms, on all of it at once."""

    async def slowly(talk: Conversation) -> None:
        await talk.send(STREAM_HEAD)
        for piece in CHAT:
            await talk.send(chunk(piece), pause_s=0.006)
        await talk.send(END)

    targets = {
        "one": Target(script(*CHAT[:5], then="cut")),
        "two": Target(slowly),
        "three": Target(script(*MESSAGES[:4])),
    }
    async with serving(targets, world(three="anthropic")) as edge:

        async def one(number: int) -> None:
            async with edge.client() as client:
                path, body = ("/v1/chat/completions", STREAM) if number % 2 else (GEMINI_STREAM, GEMINI_CALL)
                client.write(request(body, path=path, key="limited"))
                await asyncio.sleep(number * 0.002)

        await asyncio.gather(*(one(number) for number in range(40)))
        await at_rest(edge)
