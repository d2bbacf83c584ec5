"""The adapter that posts notices, against a real HTTP server."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from aiohttp import web

from control_plane.adapters.webhook import HttpOutgoing
from control_plane.ports_alerts import Undeliverable

SECRET_PATH = "/T0/canary"


@dataclass
class Server:
    """Answers with the statuses it is given, then 200."""

    url: str = ""
    statuses: list[int] = field(default_factory=list)
    hang: bool = False
    taken: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    over: asyncio.Event = field(default_factory=asyncio.Event)


@asynccontextmanager
async def server_and_client() -> AsyncIterator[tuple[Server, HttpOutgoing]]:
    """Both gone before the test is over."""
    there = Server()

    async def take(request: web.Request) -> web.Response:
        there.taken.append(({k.lower(): v for k, v in request.headers.items()}, await request.read()))
        if there.hang:
            await there.over.wait()
        status = there.statuses.pop(0) if there.statuses else 200
        return web.Response(status=status, headers={"location": "/elsewhere"} if status == 302 else {})

    app = web.Application()
    app.router.add_post("/{path:.*}", take)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    there.url = f"http://127.0.0.1:{runner.addresses[0][1]}{SECRET_PATH}"
    outgoing = HttpOutgoing()
    try:
        yield there, outgoing
    finally:
        there.over.set()
        await outgoing.close()
        await runner.cleanup()


async def post(outgoing: HttpOutgoing, url: str, timeout_s: float = 5.0) -> Undeliverable | None:
    try:
        await outgoing.post(
            url, b'{"a":1}', {"content-type": "application/json", "x-leeward-id": "i"}, timeout_s=timeout_s
        )
    except Undeliverable as problem:
        return problem
    return None


async def test_what_is_sent_arrives_as_it_is() -> None:
    """Body and headers to the byte."""
    async with server_and_client() as (server, outgoing):
        assert await post(outgoing, server.url) is None
    ((headers, body),) = server.taken
    assert body == b'{"a":1}'
    assert (headers["content-type"], headers["x-leeward-id"]) == ("application/json", "i")


@pytest.mark.parametrize(
    ("status", "final"),
    [
        (500, False),
        (503, False),
        (429, False),
        (408, False),
        (400, True),
        (401, True),
        (404, True),
        (410, True),
        (302, True),
    ],
)
async def test_a_refusal_says_whether_it_is_for_good(status: int, final: bool) -> None:
    """And a redirect is not followed: it would carry the notice to where nobody said."""
    async with server_and_client() as (server, outgoing):
        server.statuses = [status]
        problem = await post(outgoing, server.url)
        assert problem is not None
        assert (str(problem), problem.final) == (f"status {status}", final)
        assert len(server.taken) == 1


async def test_silence_ends_in_time() -> None:
    """And may be otherwise the next time."""
    async with server_and_client() as (server, outgoing):
        server.hang = True
        problem = await post(outgoing, server.url, timeout_s=0.2)
        assert problem is not None
        assert not problem.final


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1/T0/canary", "http://no-such-host.invalid/T0/canary", "canary"]
)
async def test_no_problem_quotes_the_url(url: str) -> None:
    """It may be a secret."""
    async with server_and_client() as (_, outgoing):
        problem = await post(outgoing, url)
        assert problem is not None
        assert "canary" not in repr(problem)
        assert problem.__cause__ is None
