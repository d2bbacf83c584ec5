"""From a fault that only live traffic sees to the edges: the probes' path stays good, clients' fails.

Every edge has steady traffic of streamed chats; the monitors do not stream, and the simulator's panel
fails streams alone, so the edges' passive windows are all the evidence there is. Measured from the moment the
panel has taken the fault until the target's own region is decided without it, and every edge serves that. Each
edge fails over by itself meanwhile; what clients still felt is counted too.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import httpx2

from bench.brain_faults import applied_everywhere
from bench.brain_stack import CLOCK, Stack, calm, spread, until
from ops.client import ControlPlanes
from ops.local.fleet import CLIENT_KEY
from shared.supervise import Supervisor
from shared.vocabulary.base import Version

CLIENTS = 12
"""At each edge, each with one request under way or a pause behind it: some 100 requests a second."""
PAUSE_S = 0.05
LIMIT_S = 20.0
_FAULT = {"status": {"code": 503}, "only": {"stream": True}}
_BODY = json.dumps(
    {"model": "chat", "messages": [{"role": "user", "content": "passive"}], "stream": True}
).encode()
_REQUEST = (
    b"POST /v1/chat/completions HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\n"
    b"authorization: Bearer %b\r\ncontent-length: %d\r\n\r\n%b" % (CLIENT_KEY.encode(), len(_BODY), _BODY)
)


@dataclass(slots=True)
class Traffic:
    """What clients had so far."""

    good: int = 0
    failed: int = 0


async def passive(stack: Stack, *, runs: int) -> dict[str, Any]:
    """`passive_*`: from the fault to what is seen. `passive_missed` counts runs without a decision in time."""
    status = stack.status()
    admin_urls = [edge["admin_url"] for edge in status["edges"]]
    spans: dict[str, list[float]] = {"decided": [], "applied": []}
    missed = 0
    async with httpx2.AsyncClient(timeout=2.0, trust_env=False) as client:
        planes = ControlPlanes(client, [replica["url"] for replica in status["control_planes"]])
        async with traffic([edge["url"] for edge in status["edges"]]) as felt:
            await asyncio.sleep(2.0)
            targets = [target for target in stack.simulators if target.startswith("alpha-")]
            for run in range(runs):
                target = targets[run % len(targets)]
                await until(lambda: calm(planes), limit_s=60)
                await client.put(f"{stack.admin_url(target)}/faults", json=_FAULT)
                began = CLOCK.monotonic()
                try:
                    version = await until(partial(_left_out, planes, target), limit_s=LIMIT_S)
                    spans["decided"].append((CLOCK.monotonic() - began) * 1000)
                    await until(partial(applied_everywhere, client, admin_urls, version))
                    spans["applied"].append((CLOCK.monotonic() - began) * 1000)
                except TimeoutError:
                    missed += 1
                await client.delete(f"{stack.admin_url(target)}/faults")
    figures: dict[str, Any] = {"passive_runs": runs, "passive_missed": missed}
    for name, values in spans.items():
        if values:
            figures |= spread(f"passive_{name}", values)
    return figures | {"passive_requests": felt.good + felt.failed, "passive_requests_failed": felt.failed}


@asynccontextmanager
async def traffic(edges: list[str], *, clients: int = CLIENTS) -> AsyncIterator[Traffic]:
    """`clients` at each edge, each asking again a pause after it has its answer."""
    felt = Traffic()
    async with Supervisor() as supervisor:
        for number, url in enumerate(edges):
            for place in range(clients):
                supervisor.start(f"client-{number}-{place}", lambda url=url: _client(url, felt))  # type: ignore[misc]
        yield felt


async def _left_out(planes: ControlPlanes, target: str) -> Version | None:
    """The version that leaves `target` out for the clients of its own region."""
    version, documents = await planes.in_force()
    tiers = documents["chat"].regions[target.partition("-")[2]].tiers
    used = {each.id for tier in tiers for each in tier.targets if each.weight_permille}
    return None if target in used else version


async def _client(url: str, felt: Traffic) -> None:
    """Streams over one connection, read to their end; by hand, for a client library would need a core."""
    parts = urlsplit(url)
    while True:
        with suppress(OSError, EOFError, ValueError):
            reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
            try:
                while True:
                    writer.write(_REQUEST)
                    good = await _answer(reader)
                    felt.good += good
                    felt.failed += not good
                    await asyncio.sleep(PAUSE_S)
            finally:
                writer.close()
        felt.failed += 1
        await asyncio.sleep(PAUSE_S)


async def _answer(reader: asyncio.StreamReader) -> bool:
    """Read one answer whole; whether it is a good one. Raises EOFError, ValueError."""
    head = await reader.readuntil(b"\r\n\r\n")
    lower = head.lower()
    if b"transfer-encoding: chunked" in lower:
        body = await reader.readuntil(b"0\r\n\r\n")
    else:
        _, _, length = lower.partition(b"content-length:")
        body = await reader.readexactly(int(length.split(b"\r\n", 1)[0]))
    return head.startswith(b"HTTP/1.1 200") and b"[DONE]" in body
