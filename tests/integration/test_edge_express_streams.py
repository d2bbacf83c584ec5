"""Streams whose events come one by one, each a chunk: most take the express way, and none gets past inspection there."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from edge_router.adapters import delivery
from tests.support.data_path import (
    DONE,
    END,
    STREAM,
    STREAM_HEAD,
    Conversation,
    Target,
    World,
    chunk,
    delta,
    serving,
)

WORDS = [delta(role=True), *(delta(f" w{n}") for n in range(40))]
BETWEEN_S = 0.003


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What took the express way."""
    seen: list[bytes] = []
    passing = delivery.passing

    def watched(*asked: Any) -> Callable[[bytes], bool]:
        express = passing(*asked)
        return lambda data: express(data) and not seen.append(data)  # type: ignore[func-returns-value]

    monkeypatch.setattr(delivery, "passing", watched)
    return seen


def _one_by_one(*pieces: bytes) -> Callable[[Conversation], asyncio.Future]:
    """Every piece in a packet of its own."""

    async def act(talk: Conversation) -> None:
        await talk.send(STREAM_HEAD)
        for piece in pieces:
            await talk.send(piece, pause_s=BETWEEN_S)

    return act  # type: ignore[return-value]


async def test_ordinary_events_take_it_and_arrive_as_they_were_sent(taken: list[bytes]) -> None:
    """Every byte, in order, and a clean end; a target that did well."""
    chunks = [chunk(event) for event in (*WORDS, delta(finish="stop"), DONE)]
    async with serving({"alpha": Target(_one_by_one(*chunks, END))}) as edge:
        got = await edge.ask(STREAM)
        assert (got.body, got.clean) == (b"".join((*WORDS, delta(finish="stop"), DONE)), True)
        assert edge.metric("leeward_edge_attempts_total", target="alpha", outcome="OK") == 1
    assert len(taken) > len(WORDS) // 2


@pytest.mark.parametrize(
    "wrong",
    [
        chunk(delta(" w99").replace(b"w99", b'w99"')),
        chunk(delta(" w99").replace(b"}]}", b"}]")),
        chunk(b"data: <html>\n\n"),
        b"zz\r\n" + delta(" w99") + b"\r\n",
        chunk(delta(" w99")).replace(b"\r\n", b"\n", 1),
        chunk(delta(" w99"))[:-2] + b"xx",
    ],
)
async def test_an_event_or_chunk_that_is_malformed_does_not(taken: list[bytes], wrong: bytes) -> None:
    """In the middle of a stream under way: it ends in-band, and what was wrong has not gone out."""
    chunks = [chunk(event) for event in WORDS]
    async with serving({"alpha": Target(_one_by_one(*chunks, wrong, *chunks))}) as edge:
        got = await edge.ask(STREAM)
        assert not got.clean
        assert got.body.startswith(b"".join(WORDS))
        assert b"stream_broken" in got.body
        assert b"w99" not in got.body
        assert edge.metric("leeward_edge_attempts_total", target="alpha", outcome="GARBLED") == 1
    assert taken
    assert all(b"w99" not in data for data in taken)


async def test_a_stream_that_falls_silent_on_it_is_cut_off(taken: list[bytes]) -> None:
    """Each event renews the idle time, and the last one does so for the last time."""

    async def act(talk: Conversation) -> None:
        await talk.send(STREAM_HEAD)
        for event in WORDS:
            await talk.send(chunk(event), pause_s=0.02)
        await talk.hang()

    async with serving({"alpha": Target(act)}, World(timeouts={"idle_s": 0.3})) as edge:
        got = await edge.ask(STREAM)
        assert not got.clean
        assert got.body.startswith(b"".join(WORDS))
        assert b"stream_broken" in got.body
    assert taken


async def test_a_stream_cut_on_it_ends_in_band(taken: list[bytes]) -> None:
    """In the middle of a chunk."""

    async def act(talk: Conversation) -> None:
        await talk.send(STREAM_HEAD)
        for event in WORDS:
            await talk.send(chunk(event), pause_s=BETWEEN_S)
        await talk.send(chunk(delta(" w99"))[:-9])
        talk.close()

    async with serving({"alpha": Target(act)}) as edge:
        got = await edge.ask(STREAM)
        assert not got.clean
        assert b"stream_broken" in got.body
        assert b"w99" not in got.body
    assert taken


@pytest.mark.parametrize("at", [9, 40, -1])
async def test_half_an_event_ends_it_until_the_stream_is_plain_again(taken: list[bytes], at: int) -> None:
    """A whole event in a packet of its own, between the halves of another, does not overtake the first half."""
    half = delta(" w99")
    chunks = [chunk(event) for event in WORDS]
    halves = chunk(half[:at]), chunk(delta(" between")), chunk(half[at:])
    async with serving({"alpha": Target(_one_by_one(*chunks, *halves, *chunks, END))}) as edge:
        got = await edge.ask(STREAM)
        assert not got.clean
        assert got.body.startswith(b"".join(WORDS))
        assert b"between" not in got.body
        assert edge.metric("leeward_edge_attempts_total", target="alpha", outcome="GARBLED") == 1
    assert taken
    assert all(b"between" not in data for data in taken)


async def test_it_is_taken_again_behind_an_event_in_two_halves(taken: list[bytes]) -> None:
    """The halves are read whole, what follows passes as before."""
    half = delta(" w99")
    chunks = [chunk(event) for event in WORDS]
    end = chunk(delta(finish="stop") + DONE) + END
    talk = _one_by_one(*chunks, chunk(half[:40]), chunk(half[40:]), *chunks[1:], end)
    async with serving({"alpha": Target(talk)}) as edge:
        got = await edge.ask(STREAM)
        assert got.clean
        assert got.body == b"".join((*WORDS, half, *WORDS[1:], delta(finish="stop"), DONE))
    assert len(taken) > len(WORDS) * 3 // 2


async def test_behind_a_finish_reason_nothing_puts_the_end_off(taken: list[bytes]) -> None:
    """Text that comes after it renews no idle time: the answer is over when its 2 s are."""

    async def act(talk: Conversation) -> None:
        await talk.send(STREAM_HEAD)
        for event in WORDS:
            await talk.send(chunk(event), pause_s=BETWEEN_S)
        await talk.send(chunk(delta(finish="stop")), pause_s=0.05)
        for _ in range(40):
            await talk.send(chunk(delta(" after")), pause_s=0.1)
        await talk.hang()

    async with serving({"alpha": Target(act)}, World(timeouts={"idle_s": 30.0, "total_s": 60.0})) as edge:
        async with asyncio.timeout(3.5):
            got = await edge.ask(STREAM)
        assert got.clean
        assert got.body.endswith(DONE)
    assert taken
    assert all(b"after" not in data for data in taken)
