"""The model simulator: what official clients get from it, and every fault of its panel as bytes on a socket."""

import asyncio
import contextlib
import json
import signal
import socket
import struct
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import anthropic
import httpx2
import openai
import pytest

from ops.simulator.answers import expected_answer, is_whole
from ops.simulator.app import Simulator
from ops.simulator.identity import identity_of
from ops.simulator.target import Pace

MODEL = "alpha-large"
PROMPT = "Tell me of the sea in 20 words"
HELLO = {"model": MODEL, "messages": [{"role": "user", "content": PROMPT}]}
WHOLE = expected_answer(PROMPT)


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    """A target that answers as fast as it can."""
    async with Simulator(identity_of("alpha-us-east")) as simulator:
        yield simulator


@pytest.fixture
async def panel(simulator: Simulator) -> AsyncIterator[httpx2.AsyncClient]:
    """Its fault panel."""
    async with httpx2.AsyncClient(base_url=simulator.admin_url, timeout=10) as client:
        yield client


@pytest.fixture
async def chat(simulator: Simulator) -> AsyncIterator[openai.AsyncOpenAI]:
    """The official client, which shall not retry: a test wants to see the first answer."""
    async with openai.AsyncOpenAI(base_url=simulator.url, api_key="dev", max_retries=0, timeout=10) as client:
        yield client


@pytest.fixture
async def claude(simulator: Simulator) -> AsyncIterator[anthropic.AsyncAnthropic]:
    """The other official client."""
    base = simulator.url.removesuffix("/v1")
    async with anthropic.AsyncAnthropic(base_url=base, api_key="dev", max_retries=0, timeout=10) as client:
        yield client


async def put(panel: httpx2.AsyncClient, **faults: Any) -> dict[str, Any]:
    """Put these faults in force."""
    answer = await panel.put("/faults", json=faults)
    assert answer.status_code == 200, answer.text
    return answer.json()


@dataclass(frozen=True)
class Raw:
    """What came over a socket until it ended."""

    received: bytes
    ended: str
    """`closed`, `reset`, or `silent`: nothing more within the time given."""

    @property
    def status(self) -> int:
        return int(self.received.split(b" ", 2)[1])

    @property
    def head(self) -> bytes:
        return self.received.partition(b"\r\n\r\n")[0]

    @property
    def body(self) -> bytes:
        return self.received.partition(b"\r\n\r\n")[2]

    @property
    def deltas(self) -> list[str]:
        """The tokens in the chat events that can be read."""
        found = []
        for line in self.body.split(b"\n"):
            if line.startswith(b"data: {"):
                with contextlib.suppress(json.JSONDecodeError):
                    choices = json.loads(line[6:])["choices"]
                    found += [
                        choice["delta"]["content"] for choice in choices if choice["delta"].get("content")
                    ]
        return found


async def raw(
    simulator: "Simulator | Process",
    body: dict[str, Any] | None = None,
    *,
    path: str = "/v1/chat/completions",
    patience_s: float = 0.5,
    until: bytes | None = None,
) -> Raw:
    """POST `body` (GET when None) over a socket of our own, and read until it ends or says `until`."""
    host, port = simulator.url.removeprefix("http://").removesuffix("/v1").split(":")
    try:
        reader, writer = await asyncio.open_connection(host, int(port))
    except ConnectionResetError:  # it came before we could write
        return Raw(b"", "reset")
    payload = b"" if body is None else json.dumps(body).encode()
    method = "GET" if body is None else "POST"
    received = b""
    try:
        request = f"{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(payload)}\r\n\r\n"
        writer.write(request.encode() + payload)
        while until is None or until not in received:
            try:
                async with asyncio.timeout(patience_s):
                    part = await reader.read(65_536)
            except TimeoutError:
                return Raw(received, "silent")
            except ConnectionResetError:
                return Raw(received, "reset")
            if not part:
                return Raw(received, "closed")
            received += part
        return Raw(received, "silent")
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


# ---------------------------------------------------------------- official clients


async def test_a_chat_is_answered_whole_and_alike_streamed_or_not(chat):
    """The same prompt has the same answer, and its checksum proves nothing is missing."""
    plain = await chat.chat.completions.create(**HELLO)
    assert plain.choices[0].message.content == WHOLE
    assert is_whole(WHOLE)
    assert plain.choices[0].finish_reason == "stop"
    assert plain.usage.completion_tokens == 20
    stream = await chat.chat.completions.create(**HELLO, stream=True, stream_options={"include_usage": True})
    events = [event async for event in stream]
    assert "".join(event.choices[0].delta.content or "" for event in events if event.choices) == WHOLE
    assert [event.choices[0].finish_reason for event in events if event.choices][-1] == "stop"
    assert events[-1].choices == []
    assert events[-1].usage == plain.usage


async def test_targets_differ_in_headers_and_not_in_answers(chat):
    """Another target can take over in the middle of an answer, and one can tell which it was."""
    async with (
        Simulator(identity_of("alpha-eu-west")) as other,
        openai.AsyncOpenAI(base_url=other.url, api_key="dev", max_retries=0) as elsewhere,
    ):
        here = await chat.chat.completions.with_raw_response.create(**HELLO)
        there = await elsewhere.chat.completions.with_raw_response.create(**HELLO)
    assert here.headers["x-simulator-target"] == "alpha-us-east"
    assert there.headers["x-simulator-target"] == "alpha-eu-west"
    assert here.parse().choices == there.parse().choices
    assert here.parse().system_fingerprint != there.parse().system_fingerprint


async def test_max_tokens_cuts_and_says_so(chat):
    """A shortened answer is marked as one, and is checkable too."""
    answer = await chat.chat.completions.create(**HELLO, max_tokens=5)
    assert answer.choices[0].finish_reason == "length"
    assert answer.choices[0].message.content == expected_answer(PROMPT, 5)
    assert is_whole(expected_answer(PROMPT, 5))


async def test_the_probe_prompt_is_answered_with_its_word(chat):
    """The monitors' default prompt costs one token."""
    messages = [{"role": "user", "content": "Reply with the single word: ready"}]
    answer = await chat.chat.completions.create(model=MODEL, messages=messages, max_tokens=16)
    assert (answer.choices[0].message.content, answer.usage.completion_tokens) == ("ready", 1)


async def test_a_prefilled_answer_is_gone_on_with(chat):
    """Continuation gives exactly what was missing."""
    half = WHOLE[: len(WHOLE) // 2]
    messages = [*HELLO["messages"], {"role": "assistant", "content": half}]
    answer = await chat.chat.completions.create(model=MODEL, messages=messages)
    assert half + answer.choices[0].message.content == WHOLE


async def test_tools_are_called_when_the_prompt_names_them(chat, claude):
    """Both dialects, streamed and not, give the same arguments; a tool's result is answered with text."""
    prompt = {"role": "user", "content": "ask get_weather"}
    function = {"name": "get_weather", "parameters": {"type": "object"}}
    tools = [{"type": "function", "function": function}]
    plain = await chat.chat.completions.create(model=MODEL, messages=[prompt], tools=tools)
    call = plain.choices[0].message.tool_calls[0]
    assert plain.choices[0].finish_reason == "tool_calls"
    assert json.loads(call.function.arguments) == {"text": "ask get_weather"}
    async with chat.chat.completions.stream(model=MODEL, messages=[prompt], tools=tools) as stream:
        streamed = (await stream.get_final_completion()).choices[0].message.tool_calls[0]
    assert (streamed.id, streamed.function.arguments) == (call.id, call.function.arguments)
    result = {"role": "tool", "tool_call_id": call.id, "content": "rain"}
    after = await chat.chat.completions.create(
        model=MODEL, messages=[prompt, plain.choices[0].message, result], tools=tools
    )
    assert after.choices[0].message.content == expected_answer("ask get_weather")

    tools = [{"name": "get_weather", "input_schema": {"type": "object"}}]
    message = await claude.messages.create(model=MODEL, max_tokens=50, messages=[prompt], tools=tools)
    assert (message.stop_reason, message.content[0].input) == ("tool_use", {"text": "ask get_weather"})
    async with claude.messages.stream(model=MODEL, max_tokens=50, messages=[prompt], tools=tools) as stream:
        assert (await stream.get_final_message()).content[0].input == {"text": "ask get_weather"}


async def test_completions_are_answered(chat):
    """The older endpoint, streamed and not."""
    plain = await chat.completions.create(model=MODEL, prompt=PROMPT)
    assert plain.choices[0].text == WHOLE
    stream = await chat.completions.create(model=MODEL, prompt=[PROMPT], stream=True)
    assert "".join([event.choices[0].text async for event in stream]) == WHOLE


async def test_responses_are_answered(chat):
    """The newest endpoint, streamed and not, as the client assembles it."""
    plain = await chat.responses.create(model=MODEL, input=PROMPT)
    assert (plain.status, plain.output_text) == ("completed", WHOLE)
    short = await chat.responses.create(model=MODEL, input=PROMPT, max_output_tokens=3)
    assert (short.status, short.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    async with chat.responses.stream(model=MODEL, input=[{"role": "user", "content": PROMPT}]) as stream:
        kinds = [event.type async for event in stream]
        assert (await stream.get_final_response()).output_text == WHOLE
    assert (kinds[0], kinds[-1]) == ("response.created", "response.completed")


async def test_embeddings_follow_from_the_text(chat):
    """Unit vectors, equal for equal texts, in both encodings and any dimension."""
    packed = await chat.embeddings.create(model=MODEL, input=["a", "b", "a"])
    a, b, again = (row.embedding for row in packed.data)
    assert a == again != b
    assert sum(number * number for number in a) == pytest.approx(1.0, abs=1e-5)
    plain = await chat.embeddings.create(model=MODEL, input="a", encoding_format="float")
    assert plain.data[0].embedding == pytest.approx(a, abs=1e-6)
    assert len((await chat.embeddings.create(model=MODEL, input=[1, 2], dimensions=8)).data[0].embedding) == 8


async def test_models_are_listed_for_both_clients(chat, claude):
    """One model, under the path that the two dialects share."""
    assert [(each.id, each.owned_by) for each in (await chat.models.list()).data] == [(MODEL, "alpha")]
    assert (await chat.models.retrieve(MODEL)).id == MODEL
    assert [each.id for each in (await claude.models.list()).data] == [MODEL]


async def test_messages_are_answered_streamed_and_not(claude):
    """The Anthropic dialect, with its events in their order."""
    plain = await claude.messages.create(model=MODEL, max_tokens=100, messages=HELLO["messages"])
    assert (plain.content[0].text, plain.stop_reason) == (WHOLE, "end_turn")
    async with claude.messages.stream(model=MODEL, max_tokens=100, messages=HELLO["messages"]) as stream:
        kinds = [event.type async for event in stream if event.type != "text"]
        final = await stream.get_final_message()
    assert (final.content[0].text, final.stop_reason, final.usage.output_tokens) == (WHOLE, "end_turn", 20)
    assert (kinds[0], kinds[1], kinds[-1]) == ("message_start", "content_block_start", "message_stop")
    cut = await claude.messages.create(model=MODEL, max_tokens=3, messages=HELLO["messages"])
    assert cut.stop_reason == "max_tokens"


async def test_client_faults_get_the_dialects_own_errors(chat, claude, simulator):
    """Unknown models, missing fields and broken bodies are told as the providers tell them."""
    with pytest.raises(openai.NotFoundError) as unknown:
        await chat.chat.completions.create(model="chat", messages=HELLO["messages"])
    assert unknown.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as empty:
        await chat.chat.completions.create(model=MODEL, messages=[])
    assert empty.value.param == "messages"
    with pytest.raises(anthropic.NotFoundError) as missing:
        await claude.messages.create(model="chat", max_tokens=1, messages=HELLO["messages"])
    assert missing.value.body["error"]["type"] == "not_found_error"
    assert (await raw(simulator, path="/v1/nothing", until=b"}}")).status == 404
    assert (await raw(simulator, path="/v1/embeddings", until=b"}}")).status == 405


async def test_a_malformed_request_is_refused_and_closed(simulator):
    """Not HTTP: 400 and the connection ends."""
    host, port = simulator.url.removeprefix("http://").removesuffix("/v1").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"NONSENSE\r\n\r\n")
    assert (await asyncio.wait_for(reader.read(), 5)).startswith(b"HTTP/1.1 400 ")
    writer.close()
    await writer.wait_closed()


# ---------------------------------------------------------------- the menu of faults


async def test_latency_comes_before_anything(simulator, panel):
    """Not even a header arrives sooner."""
    await put(panel, latency_ms=300)
    assert (await raw(simulator, HELLO, patience_s=0.15)).received == b""
    assert (await raw(simulator, HELLO, until=b'"usage"')).status == 200


async def test_ttft_comes_between_the_role_and_the_first_token(simulator, panel):
    """Headers and the role-only event are early; they are not an answer."""
    await put(panel, ttft_ms=400)
    early = await raw(simulator, {**HELLO, "stream": True}, patience_s=0.2)
    assert early.status == 200
    assert b'"role":"assistant"' in early.body
    assert early.deltas == []


async def test_tokens_per_s_paces_the_stream(simulator, panel):
    """20 tokens at 100 a second take 0.2 s."""
    await put(panel, tokens_per_s=100)
    before = time.monotonic()
    answer = await raw(simulator, {**HELLO, "stream": True}, until=b"[DONE]")
    assert time.monotonic() - before >= 0.19
    assert "".join(answer.deltas) == WHOLE


async def test_status_carries_its_headers_and_body(simulator, panel, chat):
    """Any status, with the dialect's envelope or a body of one's own."""
    await put(panel, status={"code": 503, "headers": {"retry-after": "7"}})
    with pytest.raises(openai.InternalServerError) as down:
        await chat.chat.completions.create(**HELLO)
    assert (down.value.status_code, down.value.response.headers["retry-after"]) == (503, "7")
    await put(panel, status={"code": 418, "body": "tea"})
    assert (await raw(simulator, HELLO, until=b"tea")).status == 418


async def test_throttle_sends_retry_after_as_it_is_told(simulator, panel, chat, claude):
    """Seconds, a date, nonsense or nothing; 429 in either dialect."""
    for given in (30, 10**9, "Wed, 21 Oct 2099 07:28:00 GMT", "soon"):
        await put(panel, throttle={"retry_after": given})
        with pytest.raises(openai.RateLimitError) as limited:
            await chat.chat.completions.create(**HELLO)
        assert limited.value.response.headers["retry-after"] == str(given)
    await put(panel, throttle={"retry_after": None, "code": "insufficient_quota"})
    with pytest.raises(openai.RateLimitError) as limited:
        await chat.chat.completions.create(**HELLO)
    assert "retry-after" not in limited.value.response.headers
    assert limited.value.code == "insufficient_quota"
    with pytest.raises(anthropic.RateLimitError):
        await claude.messages.create(model=MODEL, max_tokens=5, messages=HELLO["messages"])


async def test_refuse_closes_the_listener_and_resets_connections(simulator, panel, chat):
    """New connects are refused, open ones are reset; afterwards the same port answers again."""
    await put(panel, hang=True)
    open_one = asyncio.create_task(raw(simulator, HELLO, patience_s=5))
    await until(panel, lambda stats: stats["inflight"] == 1)
    await put(panel, refuse=True)
    assert (await open_one).ended == "reset"
    with pytest.raises(ConnectionRefusedError):
        await raw(simulator)
    await panel.delete("/faults")
    assert (await chat.chat.completions.create(**HELLO)).choices[0].message.content == WHOLE


async def test_reset_comes_after_accept_or_after_the_request(simulator, panel):
    """RST in both cases, and no byte before it."""
    for when in ("accept", "request"):
        await put(panel, reset=when)
        assert await raw(simulator, HELLO) == Raw(b"", "reset")


async def test_hang_takes_the_request_and_says_nothing(simulator, panel):
    """Connected, sent, and silence; a client that leaves is noticed."""
    await put(panel, hang=True)
    assert await raw(simulator, HELLO, patience_s=0.3) == Raw(b"", "silent")
    stats = await until(panel, lambda stats: stats["inflight"] == 0)
    assert stats["aborted"] == 1


@pytest.mark.parametrize(("cut_as", "ended"), [("close", "closed"), ("reset", "reset"), ("end", "silent")])
async def test_a_stream_is_cut_after_n_tokens(simulator, panel, cut_as, ended):
    """By FIN, by RST, or by a clean end of HTTP without an end of the answer."""
    await put(panel, cut_after_tokens=3, cut_as=cut_as, tokens_per_s=50)
    answer = await raw(simulator, {**HELLO, "stream": True})
    assert answer.ended == ended
    assert answer.deltas == WHOLE.replace(" ", "\n ").split("\n")[:3]
    assert b"[DONE]" not in answer.body
    assert answer.body.endswith(b"0\r\n\r\n") == (cut_as == "end")


async def test_an_unstreamed_answer_is_cut_below_its_length(simulator, panel, chat):
    """Fewer bytes than Content-Length promised."""
    await put(panel, cut_after_tokens=3)
    answer = await raw(simulator, HELLO)
    declared = int(answer.head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    assert answer.ended == "closed"
    assert len(answer.body) < declared
    with pytest.raises(openai.APIConnectionError):
        await chat.chat.completions.create(**HELLO)


async def test_a_stream_stalls_after_n_tokens(simulator, panel):
    """The connection stays, and nothing more comes."""
    await put(panel, stall_after_tokens=2)
    answer = await raw(simulator, {**HELLO, "stream": True}, patience_s=0.3)
    assert answer.ended == "silent"
    assert len(answer.deltas) == 2


async def test_one_event_is_malformed_and_the_stream_goes_on(simulator, panel):
    """One token's JSON is broken, all others are there."""
    await put(panel, malformed_chunk_after_tokens=4)
    answer = await raw(simulator, {**HELLO, "stream": True}, until=b"[DONE]")
    tokens = WHOLE.replace(" ", "\n ").split("\n")
    assert answer.deltas == tokens[:4] + tokens[5:]


@pytest.mark.parametrize("stream", [True, False])
async def test_broken_chunked_framing_breaks_clients(simulator, panel, stream):
    """A chunk size that is no number, in the middle of the body."""
    await put(panel, bad_chunked=True)
    answer = await raw(simulator, {**HELLO, "stream": stream})
    assert answer.body.endswith(b"\r\nzz\r\n")
    assert answer.ended == "closed"


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("html", b"<!doctype html>"),
        ("truncated", b'{"id":"chatcmpl-1"'),
        ("empty", b""),
        ("other", b'{"ok":true}'),
    ],
)
async def test_garbage_comes_with_status_200(simulator, panel, kind, expected):
    """Success by status, and no answer by content."""
    await put(panel, garbage_200=kind)
    answer = await raw(simulator, HELLO, patience_s=0.2)
    assert answer.status == 200
    assert answer.body.startswith(expected)
    assert WHOLE.encode() not in answer.body


async def test_drip_lets_the_answer_out_slowly(simulator, panel):
    """Bytes arrive, few and late, and are right in the end."""
    await put(panel, drip={"bytes": 50, "every_ms": 20})
    before = time.monotonic()
    answer = await raw(simulator, HELLO, until=b'"usage"')
    assert WHOLE.encode() in answer.body
    assert time.monotonic() - before >= 0.02 * (len(answer.received) // 50 - 1)


async def test_flap_alternates_between_refusing_and_serving(simulator, panel):
    """Down first, then up, then down again, by itself."""
    await put(panel, flap={"up_s": 0.3, "down_s": 0.3}, for_s=30)
    seen = []
    deadline = time.monotonic() + 10
    while len(seen) < 5 and time.monotonic() < deadline:
        try:
            await raw(simulator, path="/v1/models", until=b"}]")
            state = "up"
        except ConnectionRefusedError:
            state = "down"
        if seen[-1:] != [state]:
            seen.append(state)
        await asyncio.sleep(0.02)
    assert seen == ["down", "up", "down", "up", "down"]
    await panel.delete("/faults")
    await asyncio.sleep(0.5)
    assert (await raw(simulator, path="/v1/models", until=b"}]")).status == 200


async def test_capacity_slows_what_is_beyond_it_and_rejects_the_rest():
    """One at a time is fast; four at once share; beyond the limit 429."""
    async with (
        Simulator(identity_of("alpha-us-east"), pace=Pace(ttft_ms=400, tokens_per_s=0)) as slow,
        httpx2.AsyncClient(base_url=slow.admin_url, timeout=10) as panel,
    ):
        await put(panel, capacity={"inflight": 1, "slow_factor": 1, "reject_above": 4})
        before = time.monotonic()
        await raw(slow, HELLO, until=b'"usage"', patience_s=5)
        alone = time.monotonic() - before
        before = time.monotonic()
        crowd = await asyncio.gather(*(raw(slow, HELLO, until=b"}", patience_s=5) for _ in range(6)))
        together = time.monotonic() - before
    assert sorted(answer.status for answer in crowd) == [200] * 4 + [429] * 2
    assert together > 2 * alone


# ---------------------------------------------------------------- the panel


async def test_faults_undo_themselves_after_for_s(simulator, panel, chat):
    """Whoever set them may be dead by then."""
    state = await put(panel, refuse=True, for_s=0.4)
    assert 0 < state["remaining_s"] <= 0.4
    with pytest.raises(ConnectionRefusedError):
        await raw(simulator)
    async with asyncio.timeout(10):
        while (await panel.get("/faults")).json():
            await asyncio.sleep(0.05)
    assert (await chat.chat.completions.create(**HELLO)).choices[0].message.content == WHOLE


async def test_an_owners_faults_stand_beside_the_others(simulator, panel):
    """They end by themselves and touch nobody else's; without a time to live they are not taken."""
    await put(panel, latency_ms=1)
    assert (await panel.put("/faults/d-1", json={"refuse": True})).json()["field"] == "for_s"
    assert (await panel.put("/faults/D", json={"for_s": 1})).status_code == 400
    assert (await panel.get("/faults/d-1")).status_code == 404
    answer = await panel.put("/faults/d-1", json={"refuse": True, "for_s": 0.6})
    assert answer.json()["refuse"] is True
    with pytest.raises(ConnectionRefusedError):
        await raw(simulator)
    assert set((await panel.get("/faults")).json()["owners"]) == {"d-1"}
    async with asyncio.timeout(10):
        while (await panel.get("/faults")).json() != {"latency_ms": 1.0}:
            await asyncio.sleep(0.05)
    assert (await raw(simulator, path="/v1/models", until=b"}")).status == 200
    await panel.put("/faults/d-2", json={"status": {"code": 500}, "for_s": 60})
    assert (await raw(simulator, path="/v1/models", until=b"}")).status == 500
    assert (await panel.delete("/faults/d-2")).status_code == 200
    assert (await panel.delete("/faults/d-2")).status_code == 404
    assert (await raw(simulator, path="/v1/models", until=b"}")).status == 200


async def test_a_put_replaces_everything_that_was_in_force(simulator, panel):
    """What is in force is what was last asked for, its time to live included."""
    await put(panel, status={"code": 500}, for_s=0.2)
    assert await put(panel, latency_ms=1) == {"latency_ms": 1.0}
    await asyncio.sleep(0.4)
    assert (await panel.get("/faults")).json() == {"latency_ms": 1.0}
    assert (await panel.delete("/faults")).json() == {}


async def test_share_fails_a_part_of_the_requests_the_same_part_each_time(simulator, panel):
    """Draws are seeded: a run can be repeated."""
    runs = []
    for _ in range(2):
        await put(panel, status={"code": 500}, share=0.5, seed=7)
        runs.append([(await raw(simulator, path="/v1/models", until=b"}")).status for _ in range(40)])
    assert runs[0] == runs[1]
    assert 8 <= runs[0].count(500) <= 32


async def test_only_picks_paths_and_streams(simulator, panel):
    """Probes may go on while streams fail."""
    await put(panel, status={"code": 500}, only={"paths": ["/v1/chat"], "stream": True})
    assert (await raw(simulator, HELLO, until=b"}")).status == 200
    assert (await raw(simulator, path="/v1/models", until=b"}")).status == 200
    assert (await raw(simulator, {**HELLO, "stream": True}, until=b"}")).status == 500


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b'{"latencyms": 3}', "latencyms"),
        (b'{"status": {"cod": 3}}', "status.cod"),
        (b'{"status": {"code": 99}}', "status.code"),
        (b'{"share": 2}', "share"),
        (b'{"garbage_200": "pdf"}', "garbage_200"),
        (b'{"for_s": -1}', "for_s"),
        (b'{"status": {"code": 500, "headers": {"a": "b\\r\\nc: d"}}}', "status.headers[...]"),
        (b"[]", ""),
        (b"{", ""),
    ],
)
async def test_wrong_faults_are_refused_by_field_and_change_nothing(panel, body, field):
    """A typing error in a drill must not pass for a fault that did no harm."""
    await put(panel, latency_ms=1)
    answer = await panel.put("/faults", content=body)
    assert (answer.status_code, answer.headers["content-type"]) == (400, "application/problem+json")
    assert answer.json()["field"] == field
    assert (await panel.get("/faults")).json() == {"latency_ms": 1.0}


async def test_the_panel_tells_what_was_forwarded_without_telling_secrets(chat, panel):
    """Enough to see which key was sent, not what it is."""
    await chat.chat.completions.create(**HELLO, extra_headers={"x-trace": "t1"})
    [seen] = (await panel.get("/requests")).json()["requests"]
    assert (seen["method"], seen["path"], seen["model"], seen["stream"]) == (
        "POST",
        "/v1/chat/completions",
        MODEL,
        False,
    )
    assert seen["headers"]["x-trace"] == "t1"
    assert seen["headers"]["authorization"] == "Bearer sha256:ef260e9aa3c6"
    await panel.delete("/requests")
    assert (await panel.get("/requests")).json() == {"requests": []}


async def test_the_panel_counts(chat, panel, simulator):
    """Requests by path, tokens, connections, and clients that went away."""
    await chat.chat.completions.create(**HELLO)
    await chat.embeddings.create(model=MODEL, input="x")
    stats = (await panel.get("/stats")).json()
    assert stats["by_path"] == {"/v1/chat/completions": 1, "/v1/embeddings": 1}
    assert (stats["requests"], stats["inflight"], stats["aborted"], stats["tokens_sent"]) == (2, 0, 0, 20)
    assert stats["connections"] >= 1
    assert (await panel.get("/livez")).json()["id"] == "alpha-us-east"
    assert (await panel.get("/nothing")).status_code == 404
    assert (await panel.post("/faults")).status_code == 405


async def test_a_client_that_stops_reading_stops_the_work(simulator, panel):
    """Backpressure: an answer of megabytes is not made for nobody."""
    host, port = simulator.url.removeprefix("http://").removesuffix("/v1").split(":")
    with socket.create_connection((host, int(port))) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        messages = [{"role": "user", "content": "Write 100000 words"}]
        payload = json.dumps({"model": MODEL, "stream": True, "messages": messages}).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(payload)}\r\n\r\n"
        client.sendall(head.encode() + payload)
        before = -1
        async with asyncio.timeout(20):
            while (sent := (await panel.get("/stats")).json()["tokens_sent"]) != before or sent == 0:
                before = sent
                await asyncio.sleep(0.2)
        assert sent < 100_000
    stats = await until(panel, lambda stats: stats["inflight"] == 0)
    assert stats["aborted"] == 1


async def until(panel: httpx2.AsyncClient, holds: Any) -> dict[str, Any]:
    """The stats, once `holds(stats)`."""
    async with asyncio.timeout(10):
        while not holds(stats := (await panel.get("/stats")).json()):
            await asyncio.sleep(0.02)
    return stats


# ---------------------------------------------------------------- the process


@dataclass(frozen=True)
class Process:
    """`leeward simulator` as the local stack runs it."""

    url: str
    admin_url: str
    process: asyncio.subprocess.Process


@pytest.fixture
async def running() -> AsyncIterator[Process]:
    """A target in a process of its own, on uvloop, once it answers."""
    with socket.socket() as one, socket.socket() as two:
        one.bind(("127.0.0.1", 0))
        two.bind(("127.0.0.1", 0))
        port, admin = one.getsockname()[1], two.getsockname()[1]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "import sys; from ops.simulator.command import main; sys.exit(main(sys.argv[1:]))",
        *("--id", "alpha-eu-west", "--listen", f"127.0.0.1:{port}", "--admin-listen", f"127.0.0.1:{admin}"),
        *("--ttft-ms", "5", "--tokens-per-s", "40"),
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with httpx2.AsyncClient() as client, asyncio.timeout(20):
            while True:
                with contextlib.suppress(httpx2.ConnectError):
                    await client.get(f"http://127.0.0.1:{admin}/livez")
                    break
                await asyncio.sleep(0.02)
        yield Process(f"http://127.0.0.1:{port}/v1", f"http://127.0.0.1:{admin}", process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_the_process_ends_on_sigterm_after_the_stream_under_way(running):
    """It stops listening at once, finishes what it began, says nothing and returns 0."""
    async with openai.AsyncOpenAI(base_url=running.url, api_key="dev", max_retries=0) as client:
        stream = await client.chat.completions.create(**HELLO, stream=True)
        text = ""
        async for event in stream:
            if not text:
                running.process.send_signal(signal.SIGTERM)
            text += event.choices[0].delta.content or "" if event.choices else ""
        assert text == WHOLE
    _, said = await asyncio.wait_for(running.process.communicate(), 20)
    assert (running.process.returncode, said) == (0, b"")


async def test_faults_of_the_wire_are_the_same_on_uvloop(running):
    """The process runs on another event loop than these tests: RST, FIN and refusal must not depend on it."""
    async with httpx2.AsyncClient(base_url=running.admin_url, timeout=10) as panel:
        await put(panel, reset="accept")
        assert await raw(running, HELLO) == Raw(b"", "reset")
        await put(panel, reset="request")
        assert await raw(running, HELLO) == Raw(b"", "reset")
        await put(panel, cut_after_tokens=2)
        cut = await raw(running, {**HELLO, "stream": True})
        assert (cut.ended, len(cut.deltas)) == ("closed", 2)
        await put(panel, cut_after_tokens=2, cut_as="reset")
        assert (await raw(running, {**HELLO, "stream": True})).ended == "reset"
        await put(panel, refuse=True)
        with pytest.raises(ConnectionRefusedError):
            await raw(running)
        await panel.delete("/faults")
        assert (await raw(running, path="/v1/models", until=b"}]")).status == 200


async def test_a_taken_port_is_an_error_and_leaves_nothing(simulator):
    """The second on a port fails to start, and lets go of what it had."""
    port = int(simulator.admin_url.rsplit(":", 1)[1])
    with pytest.raises(OSError, match="address already in use"):
        async with Simulator(identity_of("beta-us-east"), admin_port=port):
            pass
