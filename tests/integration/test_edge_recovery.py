"""Streams that break in the middle of an answer, on real sockets: resumed, held, or ended in-band (FAULTS row 20)."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import anthropic
import openai
import pytest

from edge_router.core.limits import Limits
from tests.support.data_path import (
    CALL,
    DONE,
    END,
    STREAM,
    STREAM_HEAD,
    Act,
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

WORDS = [f" w{n}" for n in range(20)]
TEXT = "".join(WORDS)
CHAT = [delta(role=True), *(delta(word) for word in WORDS), delta(finish="stop"), DONE]
WHOLE = b"".join(CHAT)
OTHERWISE = [
    delta(role=True),
    delta(" w0 w1 w"),
    delta("2"),
    delta("".join(WORDS)[9:]),
    delta(finish="stop"),
    DONE,
]
"""The same answer in other deltas."""
RESUME: dict[str, Any] = {"stream_recovery": "resume"}
HOLD: dict[str, Any] = {"stream_recovery": "hold"}


def error_of(body: bytes) -> dict[str, Any]:
    last = body.rstrip(b"\n").rsplit(b"\n\n", 1)[-1]
    error: dict[str, Any] = json.loads(last.rsplit(b"data: ", 1)[1])["error"]
    return error


def recoveries(edge: Edge) -> dict[tuple[str, str], float]:
    ways = ("continuation", "replay", "none")
    results = ("resumed", "diverged", "impossible", "no_target")
    counted = {
        (how, result): edge.metric("leeward_edge_stream_recoveries_total", how=how, result=result)
        for how in ways
        for result in results
    }
    return {key: count for key, count in counted.items() if count}


def world(**route: Any) -> World:
    return World(route={**RESUME, **route}, timeouts={"idle_s": 0.3})


# ---------------------------------------------------------------- resume: replay


MALFORMED = b'data: {"choices":[{"index":0,"delta":{"content":" w9"\n\n'
TOLD = b'data: {"error":{"type":"overloaded_error","message":"busy"}}\n\n'


@pytest.mark.parametrize(
    ("broken", "then"),
    [
        *((b"", how) for how in ("cut", "reset", "end", "hang")),
        (CHAT[9][:30], "cut"),
        (MALFORMED, "hang"),
        (TOLD, "end"),
        (DONE, "end"),
    ],
    ids=["cut", "reset", "ended early", "stalled", "torn event", "malformed", "in-band error", "early DONE"],
)
async def test_a_stream_that_breaks_is_resumed_by_another_target(broken: bytes, then: str) -> None:
    """Whatever breaks it, the client reads the whole answer, once, with one beginning and one end."""
    bad = Target(script(*CHAT[:9], broken, then=then) if broken else script(*CHAT[:9], then=then))
    async with serving({"bad": bad, "good": Target(script(*OTHERWISE))}, world()) as edge:
        got = await edge.ask(STREAM)
        assert got.clean
        assert said(got.body) == TEXT
        assert got.body.startswith(b"".join(CHAT[:9]) + b": leeward: resumed by good, replay, attempt 2\n\n")
        assert (got.body.count(b'"role"'), got.body.count(b'"stop"'), got.body.count(b"[DONE]")) == (1, 1, 1)
        assert b"error" not in got.body
        assert (got.fields["x-leeward-target"], got.fields["x-leeward-attempts"]) == ("bad", "1")
        assert recoveries(edge) == {("replay", "resumed"): 1}
        assert edge.metric("leeward_edge_attempts_total", target="good", outcome="OK") == 1
        assert edge.metric("leeward_edge_attempts_total", target="bad", outcome="OK") == 0
        assert edge.metric("leeward_edge_possibly_billed_total", target="bad") == 1
        cooling = next(seen.cooling_s for seen in edge.gateway.passive(10) if seen.target == "bad")
        assert (cooling > 0) is (broken == TOLD)
        assert edge.metric("leeward_edge_failovers_total", route="chat") == 1
        assert edge.metric("leeward_edge_stream_ends_total", end="complete") == 1
        assert edge.metric("leeward_edge_tasks_total", route="chat", tenant="dev", result="served") == 1


async def test_a_route_that_did_not_opt_in_ends_in_band() -> None:
    """The default: nobody else is asked."""
    good = Target(script(*CHAT))
    async with serving({"bad": Target(script(*CHAT[:9], then="cut")), "good": good}) as edge:
        got = await edge.ask(STREAM)
        assert (got.clean, error_of(got.body)["code"], good.seen) == (False, "stream_broken", [])
        assert recoveries(edge) == {}


async def test_an_answer_that_differs_is_never_mixed_in_and_the_third_target_may_still_help() -> None:
    """The second target says something else: not a byte of it; the third repeats what there is."""
    other = script(delta(role=True), delta(" w0 w1 and now for something else"), delta(finish="stop"), DONE)
    targets = {
        "bad": Target(script(*CHAT[:9], then="cut")),
        "other": Target(other),
        "good": Target(script(*CHAT)),
    }
    async with serving(targets, world()) as edge:
        got = await edge.ask(STREAM)
        assert (said(got.body), got.clean) == (TEXT, True)
        assert b"attempt 3" in got.body
        assert recoveries(edge) == {("replay", "diverged"): 1, ("replay", "resumed"): 1}
        blamed = [window.target for window in edge.gateway.passive(10) if window.counts]
        assert sorted(blamed) == ["bad", "good"], "an answer of one's own is no failure"
    del targets["good"]
    async with serving({"bad": Target(targets["bad"].act), "other": Target(other)}, world()) as edge:
        got = await edge.ask(STREAM)
        assert not got.clean
        assert got.body.startswith(b"".join(CHAT[:9]) + b"data: ")
        assert got.body.count(b"data: ") == 10
        assert error_of(got.body)["code"] == "stream_broken"
        assert "other: stream_diverged" in error_of(got.body)["message"]
        assert recoveries(edge) == {("replay", "diverged"): 1, ("none", "no_target"): 1}
        assert edge.metric("leeward_edge_tasks_total", route="chat", tenant="dev", result="failed") == 1


@pytest.mark.parametrize("second", ["refuses", "500", "429", "400", "hangs", "html"])
async def test_a_second_target_that_does_not_answer_is_followed_by_the_third(second: str) -> None:
    """None of what it says goes into the stream; without a third, the stream ends in-band."""

    async def hang(talk: Conversation) -> None:
        await talk.hang()

    acts: dict[str, Act | bytes] = {
        "500": answer(b"{}", "500 Internal Server Error"),
        "429": answer(b"{}", "429 Too Many Requests"),
        "400": answer(b'{"error":{"message":"no"}}', "400 Bad Request"),
        "hangs": hang,
        "html": answer(b"<html>", kind="text/html"),
    }
    where = World(route=RESUME, timeouts={"idle_s": 0.3, "ttft_s": 0.3})
    for third in (True, False):
        bad, middle = Target(script(*CHAT[:9], then="cut")), Target(acts.get(second, b""))
        targets = {"bad": bad, "middle": middle} | ({"good": Target(script(*CHAT))} if third else {})
        async with serving(targets, where) as edge:
            if second == "refuses":
                await middle.stop()
            got = await edge.ask(STREAM)
            assert got.clean is third
            assert said(got.body) == (TEXT if third else "".join(WORDS[:8]))
            if not third:
                assert "middle: " in error_of(got.body)["message"]


async def test_a_resumed_stream_may_break_again_and_three_attempts_are_the_end() -> None:
    """Cut twice and resumed twice; cut three times and ended in-band, with all that was good."""
    for last in ("end", "cut"):
        targets = {
            "a": Target(script(*CHAT[:5], then="cut")),
            "b": Target(script(*CHAT[:12], then="cut")),
            "c": Target(script(*(CHAT if last == "end" else CHAT[:15]), then=last)),
            "d": Target(script(*CHAT)),
        }
        async with serving(targets, world()) as edge:
            got = await edge.ask(STREAM)
            assert (got.clean, said(got.body)) == (
                last == "end",
                TEXT if last == "end" else "".join(WORDS[:14]),
            )
            assert targets["d"].seen == []
            assert recoveries(edge)["replay", "resumed"] == 2


async def test_the_only_target_is_asked_once_more_after_an_accident() -> None:
    """A lone cut may be repeated at the same target, as a lone 5xx may."""
    turn = 0

    async def act(talk: Conversation) -> None:
        nonlocal turn
        turn += 1
        await (script(*CHAT[:9], then="cut") if turn == 1 else script(*CHAT))(talk)

    async with serving({"only": Target(act)}, world()) as edge:
        got = await edge.ask(STREAM)
        assert (said(got.body), got.clean) == (TEXT, True)


async def test_the_clients_deadline_bounds_resuming_too() -> None:
    """What is left of its time is all there is."""
    targets = {"bad": Target(script(*CHAT[:9], then="hang")), "slow": Target(script(*CHAT, pause_s=0.2))}
    async with serving(targets, world()) as edge:
        loop = asyncio.get_running_loop()
        began = loop.time()
        got = await edge.ask(STREAM, fields="x-leeward-timeout-ms: 1000\r\n")
        assert 0.9 < loop.time() - began < 1.6
        assert (got.clean, said(got.body)) == (False, "".join(WORDS[:8]))


async def test_a_slow_replay_is_not_called_silent() -> None:
    """While it repeats what the client has, it is heard: the time to the first token does not run on."""
    targets = {"bad": Target(script(*CHAT[:15], then="cut")), "slow": Target(script(*CHAT, pause_s=0.05))}
    where = World(route=RESUME, timeouts={"idle_s": 0.4, "ttft_s": 0.4})
    async with serving(targets, where) as edge:
        got = await edge.ask(STREAM)
        assert (said(got.body), got.clean) == (TEXT, True)
        slow = next(window for window in edge.gateway.passive(10) if window.target == "slow")
        assert slow.ttft_ms_p50 is not None
        assert slow.ttft_ms_p50 > 500


async def test_a_client_that_goes_away_stops_the_second_target() -> None:
    """As it stops the first."""
    slow = Target(script(*CHAT, pause_s=0.2))
    async with serving({"bad": Target(script(*CHAT[:9], then="cut")), "slow": slow}, world()) as edge:
        async with edge.client() as client:
            client.write(request(STREAM))
            await client.reader.readuntil(b" w7")
            await until(lambda: bool(slow.seen))
        await until(lambda: not edge.gateway.exchanges)
        await asyncio.wait_for(slow.gone.wait(), 1.0)


async def test_an_edge_that_goes_away_ends_its_streams_and_asks_nobody_else() -> None:
    """Drained with streams under way: in-band, at once, of those that were resumed too."""
    targets = {
        "bad": Target(script(*CHAT[:9], then="cut")),
        "slow": Target(script(*CHAT[:12], then="hang")),
        "third": Target(script(*CHAT)),
    }
    where = World(route=RESUME, timeouts={"idle_s": 5.0})
    async with serving(targets, where) as edge, edge.client() as client:
        client.write(request(STREAM))
        await client.reader.readuntil(b" w10")
        await edge.gateway.drain(0.1)
        rest = await client.reader.read()
    assert b'"message":"the edge is shutting down"' in rest
    assert not rest.endswith(END)
    assert targets["third"].seen == []


TOOL = (
    b'data: {"id":"c","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"call_1","function":'
    b'{"name":"f","arguments":"{\\"a\\""}}]},"finish_reason":null}]}\n\n'
)


@pytest.mark.parametrize(
    ("body", "events", "why"),
    [
        (STREAM, [*CHAT[:4], TOOL], "a tool call had begun"),
        (b'{"model":"chat","stream":true,"n":2,"messages":[]}', CHAT[:4], "several choices were asked for"),
        (
            STREAM,
            [delta(role=True), delta("x").replace(b"content", b"reasoning_content")],
            "reasoning had begun",
        ),
        (STREAM, [delta(role=True), delta("No").replace(b"content", b"refusal")], "a refusal had begun"),
    ],
)
async def test_where_exactness_cannot_be_had_the_stream_ends_and_says_why(
    body: bytes, events: list[bytes], why: str
) -> None:
    """A tool call that has begun, several choices, reasoning, a refusal: no other target is asked."""
    good = Target(script(*CHAT))
    async with serving({"bad": Target(script(*events, then="cut")), "good": good}, world()) as edge:
        got = await edge.ask(body)
        assert not got.clean
        assert got.body.startswith(b"".join(events))
        assert why in error_of(got.body)["message"]
        assert good.seen == []
        assert recoveries(edge) == {("none", "impossible"): 1}


async def test_a_tool_call_that_the_second_target_makes_is_all_its_own() -> None:
    """Only text had gone out: the call comes whole, after the text."""
    finish = delta(finish="tool_calls")
    targets = {
        "bad": Target(script(*CHAT[:4], then="cut")),
        "good": Target(script(*CHAT[:6], TOOL, finish, DONE)),
    }
    async with serving(targets, world()) as edge:
        got = await edge.ask(STREAM)
        assert (said(got.body), got.clean) == ("".join(WORDS[:5]), True)
        assert got.body.count(b"call_1") == 1


# ---------------------------------------------------------------- resume: continuation


async def test_a_target_that_takes_a_prefill_goes_on_from_there() -> None:
    """It is sent the answer's beginning and brings the rest, once; its usage and model are what is told."""
    rest = [delta(role=True), *(delta(word) for word in WORDS[8:]), delta(finish="stop"), DONE]
    good = Target(script(*rest))
    where = world()
    where.each = {"good": {"capabilities": ["stream", "prefill"]}}
    async with serving({"bad": Target(script(*CHAT[:9], then="cut")), "good": good}, where) as edge:
        got = await edge.ask(b'{"stream":true,"messages":[{"role":"user","content":"go"}],"model":"chat"}')
        assert (said(got.body), got.clean) == (TEXT, True)
        assert b": leeward: resumed by good, continuation, attempt 2\n\n" in got.body
        assert recoveries(edge) == {("continuation", "resumed"): 1}
    sent = json.loads(good.seen[0].body)
    assert sent == {
        "model": "m-good",
        "stream": True,
        "messages": [{"role": "user", "content": "go"}, {"role": "assistant", "content": "".join(WORDS[:8])}],
        "continue_final_message": True,
        "add_generation_prompt": False,
    }


async def test_a_replay_that_differs_falls_to_a_continuation() -> None:
    """The next target takes a prefill, so it need not repeat anything."""
    targets = {
        "bad": Target(script(*CHAT[:9], then="cut")),
        "other": Target(script(delta("Quite different."), delta(finish="stop"), DONE)),
        "good": Target(script(*(delta(word) for word in WORDS[8:]), delta(finish="stop"), DONE)),
    }
    where = world()
    where.each = {"good": {"capabilities": ["stream", "prefill"]}}
    async with serving(targets, where) as edge:
        got = await edge.ask(STREAM)
        assert (said(got.body), got.clean) == (TEXT, True)
        assert recoveries(edge) == {("replay", "diverged"): 1, ("continuation", "resumed"): 1}


# ---------------------------------------------------------------- every dialect, with the official SDKs


def _event(body: dict[str, Any], *, named: bool) -> bytes:
    name = f"event: {body['type']}\n" if named else ""
    return f"{name}data: {json.dumps(body)}\n\n".encode()


def messages_of(words: list[str], who: str) -> list[bytes]:
    start = {"id": f"msg_{who}", "type": "message", "role": "assistant", "model": who, "content": []}
    start |= {"stop_reason": None, "stop_sequence": None, "usage": {"input_tokens": 3, "output_tokens": 1}}
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": start},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *(
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": word}}
            for word in words
        ),
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn", "stop_sequence": None},
            "usage": {"output_tokens": len(words)},
        },
        {"type": "message_stop"},
    ]
    return [_event(event, named=True) for event in events]


def responses_of(words: list[str], who: str) -> list[bytes]:
    part = {"output_index": 0, "item_id": f"item_{who}", "content_index": 0}
    text = {"type": "output_text", "text": "".join(words), "annotations": []}
    item = {
        "id": f"item_{who}",
        "type": "message",
        "role": "assistant",
        "status": "completed",
        "content": [text],
    }
    frame: dict[str, Any] = {"id": f"resp_{who}", "object": "response", "created_at": 1, "model": who}
    frame |= {"parallel_tool_calls": True, "tool_choice": "auto", "tools": [], "output": []}
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": {**frame, "status": "in_progress"}},
        {"type": "response.output_item.added", "output_index": 0, "item": {**item, "content": []}},
        {"type": "response.content_part.added", **part, "part": {**text, "text": ""}},
        *({"type": "response.output_text.delta", **part, "delta": word, "logprobs": []} for word in words),
        {"type": "response.output_text.done", **part, "text": text["text"], "logprobs": []},
        {"type": "response.content_part.done", **part, "part": text},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {
            "type": "response.completed",
            "response": {**frame, "status": "completed", "output": [item]}
            | {"usage": {"input_tokens": 3, "output_tokens": len(words), "total_tokens": 3 + len(words)}},
        },
    ]
    numbered = [{**event, "sequence_number": number} for number, event in enumerate(events)]
    return [_event(event, named=True) for event in numbered]


def completions_of(words: list[str], who: str) -> list[bytes]:
    common = {"id": f"cmpl_{who}", "object": "text_completion", "created": 1, "model": who}
    events: list[dict[str, Any]] = [
        *({**common, "choices": [{"index": 0, "text": word, "finish_reason": None}]} for word in words),
        {**common, "choices": [{"index": 0, "text": "", "finish_reason": "stop"}]},
        {
            **common,
            "choices": [],
            "usage": {"prompt_tokens": 3, "completion_tokens": len(words), "total_tokens": 9},
        },
    ]
    return [*(_event(event, named=False) for event in events), DONE]


LONG = ["".join(WORDS[:3]), "".join(WORDS[3:10])[:-1], "9" + "".join(WORDS[10:])]
"""The same text in other deltas; the seam lies in the middle of the second."""


def openai_of(edge: Edge) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"http://{edge.host}:{edge.port}/v1", api_key="dev", max_retries=0)


def anthropic_of(edge: Edge) -> anthropic.AsyncAnthropic:
    return anthropic.AsyncAnthropic(base_url=f"http://{edge.host}:{edge.port}", api_key="dev", max_retries=0)


async def read_chat(edge: Edge) -> tuple[str, str]:
    async with openai_of(edge) as client:
        messages: Any = [{"role": "user", "content": "go"}]
        async with client.chat.completions.stream(model="chat", messages=messages) as stream:
            whole = await stream.get_final_completion()
        return whole.choices[0].message.content or "", str(whole.choices[0].finish_reason)


async def read_completion(edge: Edge) -> tuple[str, str]:
    text, finish = "", ""
    async with openai_of(edge) as client:
        async for part in await client.completions.create(model="chat", prompt="go", stream=True):
            text += "".join(choice.text for choice in part.choices)
            finish = next((choice.finish_reason for choice in part.choices if choice.finish_reason), finish)
    return text, finish


async def read_message(edge: Edge) -> tuple[str, str]:
    async with anthropic_of(edge) as client:
        messages: Any = [{"role": "user", "content": "go"}]
        async with client.messages.stream(model="chat", max_tokens=99, messages=messages) as stream:
            whole = await stream.get_final_message()
        assert len(whole.content) == 1
        assert whole.usage.output_tokens == 3
        return getattr(whole.content[0], "text", ""), str(whole.stop_reason)


async def read_response(edge: Edge) -> tuple[str, str]:
    async with openai_of(edge) as client:
        async with client.responses.stream(model="chat", input="go") as stream:
            whole = await stream.get_final_response()
        assert whole.id == "resp_a"
        return whole.output_text, str(whole.status)


Read = Callable[[Edge], Awaitable[tuple[str, str]]]
Make = Callable[[list[str], str], list[bytes]]


def chat_of(words: list[str], who: str) -> list[bytes]:
    """With what the SDK's accumulator asks for."""

    def part(said: dict[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": said, "finish_reason": finish}
        common = {"id": f"chat_{who}", "object": "chat.completion.chunk", "created": 1, "model": who}
        return _event({**common, "choices": [choice]}, named=False)

    return [part({"role": "assistant"}), *(part({"content": word}) for word in words), part({}, "stop"), DONE]


SDKS: list[tuple[Make, Read, str, str]] = [
    (chat_of, read_chat, "stop", "openai"),
    (completions_of, read_completion, "stop", "openai"),
    (messages_of, read_message, "end_turn", "anthropic"),
    (responses_of, read_response, "completed", "openai"),
]
NAMES = ["chat", "completions", "messages", "responses"]


def _at(events: list[bytes], word: str) -> int:
    """The place behind the event that says `word`."""
    return next(place for place, event in enumerate(events) if f'"{word}"'.encode() in event) + 1


@pytest.mark.parametrize(("make", "read", "finish", "dialect"), SDKS, ids=NAMES)
async def test_the_official_sdks_read_a_resumed_stream_as_one(
    make: Make, read: Read, finish: str, dialect: str
) -> None:
    """Chat, completions, messages and responses: the whole text once, the right end, and nothing raised."""
    first = make(WORDS, "a")
    where = world()
    where.dialect = dialect
    targets = {
        "a": Target(script(*first[: _at(first, " w7")], then="cut")),
        "b": Target(script(*make(LONG, "b"))),
    }
    async with serving(targets, where) as edge:
        assert await read(edge) == (TEXT, finish)
        assert recoveries(edge) == {("replay", "resumed"): 1}


@pytest.mark.parametrize("route", [{}, RESUME], ids=["terminate", "resume"])
@pytest.mark.parametrize(("make", "read", "finish", "dialect"), SDKS, ids=NAMES)
async def test_the_official_sdks_raise_on_the_in_band_error(
    make: Make, read: Read, finish: str, dialect: str, route: dict[str, Any]
) -> None:
    """A stream that ends in the middle raises an API error with the edge's words, not just a broken connection."""
    first = make(WORDS, "a")
    where = World(dialect=dialect, route=route)
    targets = {"a": Target(script(*first[: _at(first, " w7")], then="cut"))}
    if route:
        targets["b"] = Target(script(*make(["Quite different."], "b")))
    async with serving(targets, where) as edge:
        with pytest.raises((openai.APIError, anthropic.APIError)) as raised:
            await read(edge)
    assert ("could not be resumed" if route else "a: ") in raised.value.message
    assert finish


@pytest.mark.parametrize("then", ["cut", "hang"])
async def test_a_complete_answer_without_its_last_event_is_finished(then: str) -> None:
    """After the finish reason: 2 s at most, whatever the route asks for. A response says in its last event that it
    is complete, so there only the end of the message can be missing."""

    async def one(make: Make, read: Read, finish: str, dialect: str, route: dict[str, Any]) -> None:
        words = LONG if make is messages_of else WORDS
        events = make(words, "a") if make is responses_of else make(words, "a")[:-1]
        targets = {"a": Target(script(*events, then=then)), "b": Target(script(*make(words, "b")))}
        async with serving(targets, World(dialect=dialect, route=route)) as edge:
            assert await read(edge) == (TEXT, finish)
            assert edge.metric("leeward_edge_request_seconds_sum", route="chat") < 2.6
            assert targets["b"].seen == []
            assert edge.metric("leeward_edge_attempts_total", target="a", outcome="OK") == 1
            tokens = 0 if make is chat_of else len(words)
            assert edge.metric("leeward_edge_tokens_total", route="chat", direction="written") == tokens

    routes: list[dict[str, Any]] = [{}, RESUME, HOLD, {"stream_usage": True}]
    await asyncio.gather(*(one(*sdk, route) for sdk in SDKS for route in routes))


async def test_after_a_finish_reason_nothing_can_put_off_the_end() -> None:
    """A target that goes on with comments for ever is given its 2 s, and no more."""

    async def act(talk: Conversation) -> None:
        await talk.send(STREAM_HEAD, chunk(b"".join(CHAT[:-1])))
        while True:
            await talk.send(chunk(b": still here\n\n"), pause_s=0.1)

    async def one(route: dict[str, Any]) -> None:
        async with serving({"a": Target(act)}, World(route=route)) as edge:
            loop = asyncio.get_running_loop()
            began = loop.time()
            got = await edge.ask(STREAM)
            assert loop.time() - began < 2.6
            assert (said(got.body), got.clean, got.body.endswith(DONE)) == (TEXT, True, True)

    await asyncio.gather(*(one(route) for route in ({}, RESUME, HOLD)))


# ---------------------------------------------------------------- hold


@pytest.mark.parametrize(
    ("broken", "then"),
    [(b"", "cut"), (b"", "reset"), (b"", "end"), (b"", "hang"), (MALFORMED, "hang"), (TOLD, "end")],
    ids=["cut", "reset", "ended early", "stalled", "malformed", "in-band error"],
)
async def test_a_held_stream_that_breaks_moves_unseen(broken: bytes, then: str) -> None:
    """The client gets one answer, byte for byte the second target's, and its head says so."""
    other = b"".join((delta("Quite different."), delta(finish="stop"), DONE))
    bad = Target(script(*CHAT[:9], *([broken] if broken else []), then=then))
    async with serving(
        {"bad": bad, "good": Target(script(other))}, World(route=HOLD, timeouts={"idle_s": 0.3})
    ) as edge:
        got = await edge.ask(STREAM)
        assert (got.status, got.body, got.clean) == (200, other, True)
        assert (got.fields["x-leeward-target"], got.fields["x-leeward-attempts"]) == ("good", "2")
        assert got.fields["content-type"] == "text/event-stream"
        assert edge.gateway.reserved_bytes == 0


async def test_a_held_stream_that_nobody_completes_is_an_error_and_not_half_an_answer() -> None:
    """502 with the reason, since nothing has gone out."""
    targets = {name: Target(script(*CHAT[:9], then="cut")) for name in ("a", "b")}
    async with serving(targets, World(route=HOLD)) as edge:
        got = await edge.ask(STREAM)
        assert got.status == 502
        assert b"w1" not in got.body


async def test_a_held_stream_that_is_too_long_for_it_is_passed_on_as_it_comes() -> None:
    """Above 1 MiB it is like any other: what came goes out, and a cut ends it in-band."""
    many = [delta("x" * 2**16)] * 20
    good = Target(script(*CHAT))
    async with serving({"long": Target(script(*many, then="cut")), "good": good}, World(route=HOLD)) as edge:
        got = await edge.ask(STREAM)
        assert got.body.startswith(b"".join(many))
        assert (got.clean, error_of(got.body)["code"], good.seen) == (False, "stream_broken", [])


async def test_a_held_stream_of_stated_length_can_still_end_in_band() -> None:
    """Once it is passed on, the target's length is not promised to the client: an error event would not fit."""
    many = [delta("x" * 2**16)] * 20
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 9000000\r\n\r\n"

    async def act(talk: Conversation) -> None:
        await talk.send(head, *many)
        talk.close()

    async with serving({"long": Target(act)}, World(route=HOLD)) as edge:
        got = await edge.ask(STREAM)
        assert got.fields["transfer-encoding"] == "chunked"
        assert (got.clean, error_of(got.body)["code"]) == (False, "stream_broken")


async def test_held_streams_share_the_edges_memory() -> None:
    """Each counts what it holds; where there is no more, a stream is passed on."""
    waits = asyncio.Event()

    async def act(talk: Conversation) -> None:
        await talk.send(STREAM_HEAD, chunk(delta("x" * 50_000)))
        await waits.wait()
        await talk.send(chunk(delta(finish="stop") + DONE), END)

    async with serving({"a": Target(act)}, World(route=HOLD), limits=Limits(reserved_bytes=120_000)) as edge:
        asked = [asyncio.create_task(edge.ask(STREAM)) for _ in range(2)]
        await until(lambda: edge.gateway.reserved_bytes > 100_000)
        async with edge.client() as client:
            client.write(request(STREAM))
            await client.reader.readuntil(b"xxx")
            waits.set()
            await client.reader.readuntil(b"0\r\n\r\n")
        answers: list[Answer] = await asyncio.gather(*asked)
        assert all("content-length" in one.fields for one in answers)
        await until(lambda: edge.gateway.reserved_bytes == 0)


# ---------------------------------------------------------------- usage


async def test_usage_is_known_to_the_edge_and_not_told_to_a_client_that_did_not_ask() -> None:
    """Counted per route, kept back from the stream; told where it was asked for."""
    usage = b'data: {"id":"c","choices":[],"usage":{"prompt_tokens":7,"completion_tokens":20}}\n\n'
    alpha = Target(script(*CHAT[:-1], usage, DONE))
    async with serving({"alpha": alpha}, World(route={"stream_usage": True})) as edge:
        got = await edge.ask(STREAM)
        assert (got.body, got.clean) == (WHOLE, True)
        assert edge.metric("leeward_edge_tokens_total", route="chat", direction="read") == 7
        assert edge.metric("leeward_edge_tokens_total", route="chat", direction="written") == 20
        asking = b'{"model":"chat","stream":true,"stream_options":{"include_usage":true},"messages":[]}'
        got = await edge.ask(asking)
        assert usage in got.body
        assert edge.metric("leeward_edge_tokens_total", route="chat", direction="written") == 40
        plain = Target(answer())
        alpha.act = plain.act
        await edge.ask(CALL)
    sent = [json.loads(seen.body) for seen in alpha.seen]
    assert sent[0] == {
        "stream_options": {"include_usage": True},
        "model": "m-alpha",
        "stream": True,
        "messages": [],
    }
    assert sent[1]["stream_options"] == {"include_usage": True}
    assert "stream_options" not in sent[2]


async def test_a_resumed_stream_tells_the_usage_of_the_target_that_finished_it() -> None:
    """The first target's is not known: it was cut. The attempt counts as possibly billed."""
    usage = b'data: {"id":"d","choices":[],"usage":{"prompt_tokens":7,"completion_tokens":20}}\n\n'
    targets = {
        "bad": Target(script(*CHAT[:9], then="cut")),
        "good": Target(script(*CHAT[:-1], usage, DONE)),
    }
    async with serving(targets, world(stream_usage=True)) as edge:
        got = await edge.ask(STREAM)
        assert (said(got.body), got.clean, b'"usage"' in got.body) == (TEXT, True, False)
        assert edge.metric("leeward_edge_tokens_total", route="chat", direction="written") == 20
        assert edge.metric("leeward_edge_possibly_billed_total", target="bad") == 1
