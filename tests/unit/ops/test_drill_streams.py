"""How a stream ended: whole, failed with a word, or lost."""

from collections.abc import AsyncIterator

import httpx2
import pytest

from ops.drill.streams import StreamEnd, read_stream

TOKEN = b'data: {"choices":[{"delta":{"content":"whole"},"finish_reason":null}]}\n\n'
FINISH = b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\n'
DONE = b"data: [DONE]\n\n"
ERROR = b'data: {"error":{"message":"upstream went away"}}\n\n'


async def ended(
    *events: bytes, breaks: bool = False, status: int = 200, kind: str = "text/event-stream"
) -> StreamEnd:
    async def body() -> AsyncIterator[bytes]:
        for each in events:
            yield each
        if breaks:
            raise httpx2.RemoteProtocolError("peer closed connection")

    answer = httpx2.Response(status, headers={"content-type": kind}, content=body())
    return await read_stream(answer, lambda text: text == "whole")


async def test_a_whole_stream_has_no_fault() -> None:
    """Text, a finish reason, and the end."""
    assert await ended(TOKEN, FINISH, DONE) == StreamEnd("")


@pytest.mark.parametrize(
    "events", [(TOKEN, ERROR), (ERROR,), (TOKEN, ERROR, DONE)], ids=["after text", "alone", "and an end"]
)
async def test_an_error_in_band_is_failed_and_not_lost(events: tuple[bytes, ...]) -> None:
    """The client was told."""
    found = await ended(*events)
    assert "upstream went away" in found.fault
    assert not found.lost


@pytest.mark.parametrize(
    "events",
    [
        (TOKEN,),
        (TOKEN, FINISH),
        (TOKEN, DONE),
        (FINISH, DONE),
        (TOKEN, TOKEN, FINISH, DONE),
        (b"data: {\n\n",),
    ],
    ids=["silence", "no end", "no finish", "no text", "not as it was made", "broken JSON"],
)
async def test_what_ends_in_silence_or_falsely_is_lost(events: tuple[bytes, ...]) -> None:
    """Truncated, or like a complete one and is not."""
    assert (await ended(*events)).lost


async def test_a_broken_connection_is_lost_unless_it_was_announced() -> None:
    """A reset after an error in-band takes nothing that the client was not told of."""
    assert (await ended(TOKEN, breaks=True)).lost
    assert not (await ended(TOKEN, ERROR, breaks=True)).lost


async def test_an_answer_that_is_no_stream_is_failed() -> None:
    """Nothing of a stream had begun."""
    assert await ended(b"no", status=503) == StreamEnd("status 503: no")
    assert await ended(b"{}", kind="application/json") == StreamEnd("not a stream")
