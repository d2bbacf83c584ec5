"""What a route may opt into, all on one route: dialects, resuming, the ladder, limits. Each is tested by itself elsewhere;
here that they leave each other whole."""

import asyncio
import json
from collections.abc import Awaitable, Callable
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


def script(*pieces: bytes, cut: bool = False) -> Callable[[Conversation], Awaitable[None]]:
    async def act(talk: Conversation) -> None:
        await talk.send(STREAM_HEAD)
        for piece in pieces:
            await talk.send(chunk(piece))
        if cut:
            talk.close()
        else:
            await talk.send(END)

    return act


def world(**dialects: str) -> World:
    return World(
        route=ALL,
        each={name: {"dialect": dialect} for name, dialect in dialects.items()},
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


def said(body: bytes) -> str:
    events = [json.loads(line[6:]) for line in body.split(b"\n") if line.startswith(b"data: {")]
    return "".join(c["delta"].get("content") or "" for event in events for c in event.get("choices", ()))


def _gemini_texts(body: bytes) -> list[str]:
    events = [json.loads(line[6:]) for line in body.split(b"\n") if line.startswith(b"data: {")]
    return [part["text"] for event in events for part in event["candidates"][0]["content"].get("parts", ())]


async def test_a_cut_stream_is_resumed_past_a_target_of_another_dialect() -> None:
    """Tiers: OpenAI, Anthropic, OpenAI. The second would be next, and cannot go on with what the client has."""
    targets = {
        "one": Target(script(*CHAT[:6], cut=True)),
        "two": Target(script(*MESSAGES)),
        "three": Target(script(*CHAT)),
    }
    async with serving(targets, world(two="anthropic")) as edge:
        got = await ask(edge)
        assert got.clean
        assert said(got.body) == "".join(WORDS)
        assert targets["two"].seen == []
        assert got.body.count(b"[DONE]") == 1
        await at_rest(edge)


async def test_a_translated_stream_that_is_cut_ends_in_band() -> None:
    """Nobody else speaks the client's dialect to the end: told, with no clean end, and nothing is stored of it."""
    targets = {"one": Target(script(*MESSAGES[:6], cut=True)), "two": Target(script(*MESSAGES[:6], cut=True))}
    async with serving(targets, world(one="anthropic", two="anthropic")) as edge:
        got = await ask(edge)
        assert not got.clean
        assert b'"error"' in got.body
        assert b"[DONE]" not in got.body
        again = await ask(edge)
        assert "x-leeward-degraded" not in again.fields
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
        "one": Target(script(*CHAT[:5], cut=True)),
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
