"""The admin listener of edges and probers: `/livez /readyz /metrics /status`, on an address of its own.

Liveness never depends on a dependency: `/livez` answers while the event loop turns. Readiness is
whatever the process says it is, with the reason when it is not. It is for operators and scrapers,
so it is small and bounded, and it shares nothing with the data path but the loop.
"""

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from pydantic import ValidationError

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

KEEPALIVE_S = 15.0
SHUTDOWN_S = 1.0
MAX_BODY_BYTES = 64 * 1024
BACKLOG = 128
"""Scrapers and operators, not traffic."""


@dataclass(frozen=True, slots=True)
class AdminServer:
    """A running listener."""

    host: str
    port: int
    """As bound, which is what was asked for unless that was 0."""
    runner: web.AppRunner

    @property
    def url(self) -> str:
        """Where it listens."""
        return http_url(self.host, self.port)

    async def close(self) -> None:
        """Stop listening and end what is under way, within `SHUTDOWN_S`; safe to call twice."""
        await self.runner.cleanup()


async def serve_admin(
    address: str,
    *,
    registry: CollectorRegistry,
    ready: Callable[[], str | None],
    status: Callable[[], Mapping[str, Any]],
    measure: Callable[[], Awaitable[None] | None] | None = None,
    more: Callable[[web.Application], None] | None = None,
) -> AdminServer:
    """Listen on `address` (`host:port`, an IPv6 host in brackets; port 0 takes a free one).

    `ready` gives None when the process is ready, else why not: 200 `ready`, or 503 with the reason.
    `status` gives what `/status` shows as JSON. `measure` is called before each scrape, and awaited where it has
    to wait, to set gauges that nobody keeps up to date. `more` adds routes. Raises OSError when the address cannot be bound.
    """

    async def livez(_: web.Request) -> web.Response:
        return web.Response(text="live\n")

    async def readyz(_: web.Request) -> web.Response:
        why_not = ready()
        return (
            web.Response(text="ready\n") if why_not is None else web.Response(text=why_not + "\n", status=503)
        )

    async def metrics(_: web.Request) -> web.Response:
        if measure is not None and (measuring := measure()) is not None:
            await measuring
        return web.Response(body=generate_latest(registry), headers={"content-type": CONTENT_TYPE_LATEST})

    async def show_status(_: web.Request) -> web.Response:
        body = json.dumps(status(), default=str, ensure_ascii=False).encode()
        return web.Response(body=body, content_type="application/json")

    app = web.Application(middlewares=[no_browsers], client_max_size=MAX_BODY_BYTES)
    for path, handler in (
        ("/livez", livez),
        ("/readyz", readyz),
        ("/metrics", metrics),
        ("/status", show_status),
    ):
        app.router.add_get(path, handler)
    if more is not None:
        more(app)
    runner = web.AppRunner(
        app, access_log=None, keepalive_timeout=KEEPALIVE_S, shutdown_timeout=SHUTDOWN_S, handle_signals=False
    )
    await runner.setup()
    host, port = split_address(address)
    try:
        await web.TCPSite(runner, host, port, backlog=BACKLOG).start()
    except OSError:
        await runner.cleanup()
        raise
    bound = runner.addresses[0]
    return AdminServer(host=str(bound[0]), port=int(bound[1]), runner=runner)


@web.middleware
async def no_browsers(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse changes that a web page could send: browsers name the page's Origin with every PUT, POST and
    DELETE (Fetch, "append a request `Origin` header"), and nobody else does."""
    if "origin" in request.headers and request.method not in ("GET", "HEAD"):
        return problem(403, "a web page may not do this: the request names an Origin")
    return await handler(request)


def invalid(error: ValidationError) -> web.Response:
    """400, naming the fields."""
    found = [
        {"field": ".".join(str(part) for part in each["loc"]), "problem": each["msg"]}
        for each in error.errors(include_url=False, include_input=False)
    ]
    told = (f"{each['field']}: {each['problem']}" if each["field"] else each["problem"] for each in found)
    return problem(400, "; ".join(told), errors=found)


def problem(status: int, detail: str, **more: Any) -> web.Response:
    """RFC 9457."""
    body = json.dumps({"type": "about:blank", "status": status, "detail": detail, **more})
    return web.Response(text=body, status=status, content_type="application/problem+json")


def split_address(address: str) -> tuple[str, int]:
    """`host:port` or `[v6]:port` as its parts; raises ValueError on anything else."""
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isdigit():
        raise ValueError(f"not host:port: {address!r}")
    return host.strip("[]"), int(port)


def http_url(host: str, port: int) -> str:
    """`http://host:port`, an IPv6 host in brackets."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
