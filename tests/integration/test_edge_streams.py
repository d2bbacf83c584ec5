"""Streams: passed on event by event, with backpressure, and never made to look complete (FAULTS rows 19, 20, 24)."""

import asyncio
import json
import socket
import time

import psutil
import pytest

from edge_router.core.limits import Limits
from tests.support.data_path import (
    CALL,
    DONE,
    END,
    STREAM,
    STREAM_HEAD,
    Conversation,
    Target,
    World,
    answer,
    chunk,
    delta,
    request,
    script,
    serving,
    until,
)

WORDS = [delta(role=True), *(delta(f" w{n}") for n in range(20))]
WHOLE = b"".join(WORDS) + delta(finish="stop") + DONE


def _error_of(body: bytes) -> dict:
    """The in-band error with which an OpenAI stream ends."""
    last = body.rstrip(b"\n").rsplit(b"\n\n", 1)[-1]
    assert last.startswith(b"data: "), last
    return json.loads(last[6:])["error"]


async def test_a_stream_arrives_as_it_was_sent_and_while_it_is_sent() -> None:
    """Every byte, in order, each event long before the last."""
    async with serving({"alpha": Target(script(*WORDS, delta(finish="stop"), DONE, pause_s=0.02))}) as edge:
        async with edge.client() as client:
            began = time.monotonic()
            client.write(request(STREAM))
            await client.reader.readuntil(b" w0")
            first = time.monotonic() - began
            rest = await client.reader.readuntil(b"\r\n0\r\n\r\n")
            assert time.monotonic() - began > 0.35
            assert first < 0.2
            assert rest.count(b" w") == 19
        got = await edge.ask(STREAM)
        assert (got.status, got.body, got.clean) == (200, WHOLE, True)
        assert got.fields["content-type"] == "text/event-stream"


@pytest.mark.parametrize("size", [1, 7, 64, 1000])
async def test_chunks_need_not_be_events(size: int) -> None:
    """However the target cuts its bytes, the client gets the same ones."""
    pieces = [WHOLE[at : at + size] for at in range(0, len(WHOLE), size)]
    async with serving({"alpha": Target(script(*pieces))}) as edge:
        got = await edge.ask(STREAM)
    assert (got.body, got.clean) == (WHOLE, True)


@pytest.mark.parametrize("ends", [b"\r\n", b"\r"])
async def test_other_line_ends_are_events_too(ends: bytes) -> None:
    """Server-sent events may end lines with CR LF or CR."""
    whole = WHOLE.replace(b"\n", ends)
    pieces = [whole[at : at + 11] for at in range(0, len(whole), 11)]
    async with serving({"alpha": Target(script(*pieces, b": end\n\n"))}) as edge:
        got = await edge.ask(STREAM)
    assert got.clean
    assert got.body.startswith(whole)


@pytest.mark.parametrize("then", ["cut", "reset", "end", "hang"])
async def test_a_stream_that_stops_too_early_ends_with_an_error_and_without_a_clean_end(then: str) -> None:
    """Cut, reset, stalled, or ended properly but in the middle of the answer: never like a complete one."""
    sent = WORDS[:8]
    async with serving({"alpha": Target(script(*sent, then=then))}, World(timeouts={"idle_s": 0.3})) as edge:
        got = await edge.ask(STREAM)
        assert not got.clean
        assert got.body.startswith(b"".join(sent))
        assert _error_of(got.body)["code"] == "stream_broken"
        assert got.body.count(b"data: ") == len(sent) + 1
        assert sum(window.counts.get("OK", 0) for window in edge.gateway.passive(10)) == 0
        assert edge.gateway.passive(10)[0].counts


@pytest.mark.parametrize(
    "malformed",
    [
        b'data: {"choices":[{"index":0,"delta":{"content":" w9"\n\n',
        b"data: <html>\n\n",
        b"data: 7\n\n",
        b'data: {"choices":7}\n\n',
    ],
)
async def test_a_malformed_event_ends_the_stream_in_band(malformed: bytes) -> None:
    """What came before it is passed on, it and what follows are not."""
    async with serving(
        {"alpha": Target(script(b"".join(WORDS[:5]) + malformed + b"".join(WORDS[5:])))}
    ) as edge:
        got = await edge.ask(STREAM)
        assert not got.clean
        assert got.body.startswith(b"".join(WORDS[:5]))
        assert b" w9" not in got.body
        assert _error_of(got.body)["code"] == "stream_broken"
        assert edge.metric("leeward_edge_attempts_total", target="alpha", outcome="GARBLED") == 1


async def test_a_half_event_at_the_cut_is_not_passed_on() -> None:
    """The in-band error stands alone: no bytes of a torn event come before it."""
    async with serving({"alpha": Target(script(*WORDS[:3], WORDS[3][:20], then="cut"))}) as edge:
        got = await edge.ask(STREAM)
    assert _error_of(got.body)
    assert got.body.startswith(b"".join(WORDS[:3]) + b'data: {"error"')


@pytest.mark.parametrize("then", ["cut", "reset", "end", "hang"])
async def test_before_anything_of_substance_a_broken_stream_moves(then: str) -> None:
    """A role and a ping are no answer: until more has come, another target can still give it."""
    bad = Target(script(b": ping\n\n", delta(role=True), delta(""), then=then))
    good = Target(script(*WORDS, delta(finish="stop"), DONE))
    async with serving({"bad": bad, "good": good}, World(timeouts={"ttft_s": 0.3})) as edge:
        got = await edge.ask(STREAM)
    assert (got.status, got.body, got.clean) == (200, WHOLE, True)
    assert (got.fields["x-leeward-target"], got.fields["x-leeward-attempts"]) == ("good", "2")


async def test_an_error_event_before_the_answer_moves_and_one_in_it_is_passed_on() -> None:
    """In-band errors of the target itself: replaced while possible, else handed on, never followed by a clean end."""
    error = b'data: {"error":{"type":"overloaded_error","message":"busy"}}\n\n'
    good = Target(script(*WORDS, delta(finish="stop"), DONE))
    async with serving({"bad": Target(script(delta(role=True), error)), "good": good}) as edge:
        got = await edge.ask(STREAM)
        assert (got.fields["x-leeward-target"], got.clean) == ("good", True)
        assert edge.metric("leeward_edge_attempts_total", target="bad", outcome="THROTTLED") == 1
    async with serving({"bad": Target(script(*WORDS[:4], error))}) as edge:
        got = await edge.ask(STREAM)
        assert not got.clean
        assert got.body == b"".join(WORDS[:4]) + error


@pytest.mark.parametrize("then", ["cut", "reset", "end", "hang"])
async def test_a_complete_answer_without_done_is_finished_properly(then: str) -> None:
    """After the finish reason the end is awaited for 2 s at most, then the edge says [DONE] itself."""
    usage = b'data: {"choices":[],"usage":{"total_tokens":3}}\n\n'
    sent = b"".join(WORDS) + delta(finish="stop") + usage
    async with serving({"alpha": Target(script(sent, then=then))}) as edge:
        began = time.monotonic()
        got = await edge.ask(STREAM)
        assert (got.body, got.clean) == (sent + DONE, True)
        assert time.monotonic() - began < 2.5
        assert edge.metric("leeward_edge_attempts_total", target="alpha", outcome="OK") == 1


async def test_two_choices_are_finished_when_both_are() -> None:
    """With n=2, the end of one is not the end of the answer."""
    one = b'data: {"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":"stop"}]}\n\n'
    async with serving({"alpha": Target(script(one, then="cut"))}) as edge:
        got = await edge.ask(b'{"model":"chat","stream":true,"n":2}')
    assert not got.clean


MESSAGES = [
    b'event: message_start\ndata: {"type":"message_start","message":{"id":"m"}}\n\n',
    b'event: content_block_start\ndata: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}\n\n',
    b'event: ping\ndata: {"type":"ping"}\n\n',
    b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hi"}}\n\n',
    b'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":1}}\n\n',
    b'event: message_stop\ndata: {"type":"message_stop"}\n\n',
]
RESPONSES = [
    b'event: response.created\ndata: {"type":"response.created","response":{}}\n\n',
    b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","delta":"Hi"}\n\n',
    b'event: response.completed\ndata: {"type":"response.completed","response":{}}\n\n',
]


@pytest.mark.parametrize(
    ("path", "dialect", "events", "substance"),
    [("/v1/messages", "anthropic", MESSAGES, 4), ("/v1/responses", "openai", RESPONSES, 2)],
)
async def test_the_other_dialects_have_their_own_beginning_and_end(
    path: str, dialect: str, events: list[bytes], substance: int
) -> None:
    """Complete streams pass; cut before substance they move; cut after, they end with the dialect's error event."""
    world = World(dialect=dialect)
    whole = Target(script(*events))
    async with serving(
        {"early": Target(script(*events[: substance - 1], then="cut")), "good": whole}, world
    ) as edge:
        got = await edge.ask(STREAM, path=path)
        assert (got.body, got.clean, got.fields["x-leeward-target"]) == (b"".join(events), True, "good")
    async with serving({"late": Target(script(*events[:substance], then="cut"))}, world) as edge:
        got = await edge.ask(STREAM, path=path)
        assert not got.clean
        assert got.body.startswith(b"".join(events[:substance]) + b"event: error\ndata: ")
        assert json.loads(got.body.rsplit(b"data: ", 1)[1])["type"] == "error"


async def test_an_anthropic_stream_without_message_stop_is_given_one() -> None:
    """After its stop reason an answer is complete; the missing last event is added."""
    async with serving(
        {"alpha": Target(script(*MESSAGES[:5], then="cut"))}, World(dialect="anthropic")
    ) as edge:
        got = await edge.ask(STREAM, path="/v1/messages")
    assert (got.body, got.clean) == (b"".join(MESSAGES), True)


@pytest.mark.parametrize("how", ["length", "chunked"])
async def test_a_plain_answer_that_has_begun_never_ends_cleanly_when_cut(how: str) -> None:
    """Too large to be held back, then cut: the client's connection breaks, whatever the framing."""
    body = b'{"x":"' + b"y" * 9_000_000
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
    framing = b"content-length: 9600000\r\n\r\n" if how == "length" else b"transfer-encoding: chunked\r\n\r\n"

    async def cut(talk: Conversation) -> None:
        await talk.send(head + framing, body if how == "length" else chunk(body))
        await asyncio.sleep(0.1)
        talk.close()

    async with serving({"alpha": Target(cut)}) as edge:
        got = await edge.ask(CALL)
    assert got.status == 200
    assert not got.clean


@pytest.mark.parametrize("how", ["length", "chunked"])
@pytest.mark.parametrize("size", [70_000, 2**20, 9 * 2**20])
async def test_json_that_is_cut_short_under_a_proper_end_is_never_passed_on_as_whole(
    how: str, size: int
) -> None:
    """The target says that this was all, and its brackets say that it was not: replaced up to 8 MiB, above that
    the client's connection breaks before the last byte."""
    body = b'{"data":[{"embedding":[' + b"0.125," * (size // 6) + b"0.5]}"
    framed = b"transfer-encoding: chunked\r\n\r\n" + chunk(body[: size // 2]) + chunk(body[size // 2 :]) + END
    if how == "length":
        framed = b"content-length: %d\r\n\r\n" % len(body) + body
    bad = Target(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n" + framed)
    good = Target(answer(body + b"]}"))
    async with serving({"bad": bad, "good": good}, World(timeouts={"total_s": 20.0})) as edge:
        got = await edge.ask(b'{"model":"chat","input":"x"}', path="/v1/embeddings")
        if size < 8 * 2**20:
            assert (got.fields["x-leeward-target"], got.body == body + b"]}", got.clean) == (
                "good",
                True,
                True,
            )
        else:
            assert (got.fields["x-leeward-target"], got.clean) == ("bad", False)
            assert len(got.body) < len(body)
        assert edge.metric("leeward_edge_attempts_total", target="bad", outcome="GARBLED") == 1


async def test_answers_are_held_within_the_memory_there_is_for_it() -> None:
    """Where the edge's byte budget is spent, an answer is passed on as it comes, and still never ends well when cut short."""
    body = b'{"data":[{"embedding":[' + b"0.125," * 50_000 + b"0.5]}]}"
    limits = Limits(reserved_bytes=100_000)
    for whole in (True, False):
        sent = body if whole else body[:-1]
        async with serving({"alpha": Target(answer(sent)), "beta": Target()}, limits=limits) as edge:
            got = await edge.ask(b'{"model":"chat","input":"x"}', path="/v1/embeddings")
            assert (got.fields["x-leeward-target"], got.clean) == ("alpha", whole)


async def test_a_large_plain_answer_passes_whole() -> None:
    """Megabytes of embeddings, with their length."""
    body = b'{"data":[' + b"0.123456," * 400_000 + b"0]}"
    async with serving({"alpha": Target(answer(body))}) as edge:
        got = await edge.ask(b'{"model":"chat","input":"x"}', path="/v1/embeddings")
    assert (got.body == body, got.clean) == (True, True)
    assert got.fields["content-length"] == str(len(body))


async def test_a_slow_reader_holds_the_target_back_and_not_the_memory() -> None:
    """The client stops reading: the target is no longer read either, memory stays flat, and all arrives in the end."""
    event = delta("x" * 1000)
    count = 40_000
    sent = 0

    async def flood(talk: Conversation) -> None:
        nonlocal sent
        await talk.send(STREAM_HEAD)
        block = chunk(event * 20)
        for _ in range(count // 20):
            await talk.send(block)
            sent += 20
        await talk.send(chunk(delta(finish="stop") + DONE), END)

    async with serving({"alpha": Target(flood)}, World(timeouts={"total_s": 60.0, "idle_s": 0.5})) as edge:
        with socket.socket() as slow:
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            slow.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(slow, (edge.host, edge.port))
            await loop.sock_sendall(slow, request(STREAM))
            await until(lambda: sent > 0)
            before = psutil.Process().memory_info().rss
            await asyncio.sleep(1.0)
            held = sent
            await asyncio.sleep(0.5)
            assert sent == held < count
            assert psutil.Process().memory_info().rss - before < 16 * 2**20
            got = bytearray()
            while not got.endswith(b"0\r\n\r\n"):
                got += await loop.sock_recv(slow, 2**20)
    assert got.count(event) == count


async def test_streams_leave_nothing_behind() -> None:
    """Two hundred streams, a third cut, a third left by their clients: no connection, request or task remains."""
    good = script(*WORDS, delta(finish="stop"), DONE, pause_s=0.005)
    bad = script(*WORDS[:5], pause_s=0.005, then="reset")
    turn = 0

    async def act(talk: Conversation) -> None:
        nonlocal turn
        turn += 1
        await (bad if turn % 3 == 0 else good)(talk)

    async with serving({"alpha": Target(act)}) as edge:

        async def one(number: int) -> None:
            async with edge.client() as client:
                client.write(request(STREAM))
                if number % 3 == 1:
                    await client.reader.read(100)
                else:
                    await client.read()

        await asyncio.gather(*(one(number) for number in range(200)))
        await until(lambda: not edge.gateway.exchanges and not edge.gateway.clients)
