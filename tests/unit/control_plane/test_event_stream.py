"""A reader of the stream that stops reading is let go, and what fed it is closed."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

from control_plane.api.events import SEND_S, EventStream
from tests.simulation.virtual_time import VirtualTimeLoop

SCOPE = {"type": "http", "asgi": {"spec_version": "2.3"}}


def serve(*, stuck: bool, leaves_after_s: float | None = None) -> tuple[float, list[Any], bool]:
    """Serve an endless stream; returns virtual seconds until it ended, what was sent, and whether its
    source was closed."""
    loop = VirtualTimeLoop()
    sent: list[Any] = []
    closed = False

    async def events() -> AsyncGenerator[bytes, None]:
        nonlocal closed
        try:
            while True:
                yield b": ping\n\n"
                await asyncio.sleep(5)
        finally:
            closed = True

    async def send(message: Any) -> None:
        if stuck and len(sent) == 2:
            await asyncio.sleep(3600)
        sent.append(message)

    async def receive() -> Any:
        await asyncio.sleep(7200 if leaves_after_s is None else leaves_after_s)
        return {"type": "http.disconnect"}

    try:
        loop.run_until_complete(EventStream(events())(SCOPE, receive, send))
        return loop.time(), sent, closed
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


def test_a_reader_that_takes_nothing_is_cut_off() -> None:
    """After the send deadline, and without a clean end that could pass for one."""
    took_s, sent, closed = serve(stuck=True)
    assert took_s <= 5 + SEND_S + 0.1
    assert closed
    assert all(message.get("more_body", True) for message in sent)


def test_a_reader_that_leaves_frees_its_source_at_once() -> None:
    """No ping is waited for."""
    took_s, _, closed = serve(stuck=False, leaves_after_s=12.0)
    assert 12.0 <= took_s < 12.5
    assert closed
