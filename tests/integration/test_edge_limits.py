"""Clients that are slow or silent, and what of a request is told: deadlines, spans, metrics (FAULTS row 24)."""

import asyncio
import time

from prometheus_client import generate_latest

from edge_router.core.limits import Limits
from tests.support.data_path import (
    STREAM,
    STREAM_HEAD,
    Conversation,
    Target,
    World,
    answer,
    chunk,
    delta,
    request,
    serving,
    until,
)

QUICK = Limits(head_s=0.5, idle_s=1.0, body_s=0.5, body_bytes_per_s=1000, write_stall_s=0.5, linger_s=0.5)


async def test_a_head_that_drips_is_given_up() -> None:
    """Slow-loris: 408 and closed after `head_s`, whatever drips on."""
    async with serving({"alpha": Target()}, limits=QUICK) as edge, edge.client() as client:
        began = time.monotonic()
        client.write(b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\n")
        reading = asyncio.ensure_future(client.read())
        while not reading.done():
            client.write(b"x-a: b\r\n")
            await asyncio.sleep(0.1)
        assert (await reading).status == 408
        assert 0.4 < time.monotonic() - began < 3.0


async def test_a_connection_that_says_nothing_is_closed() -> None:
    """Before its first request, and between two."""
    async with serving({"alpha": Target()}, limits=QUICK) as edge:
        async with edge.client() as silent:
            assert await silent.closed()
        async with edge.client() as client:
            assert (await client.ask()).status == 200
            assert await client.closed()
        assert edge.gateway.figures.metrics()


async def test_a_body_that_drips_is_given_up() -> None:
    """`body_s`, and as long again as it needs at the least rate."""
    async with serving({"alpha": Target()}, limits=QUICK) as edge, edge.client() as client:
        client.write(request(b"").replace(b"content-length: 0", b"content-length: 1000000"))
        reading = asyncio.ensure_future(client.read())
        while not reading.done():
            client.write(b"x" * 10)
            await asyncio.sleep(0.05)
        assert (await reading).status == 408
        assert edge.gateway.reserved_bytes == 0


async def test_a_client_that_stops_reading_is_given_up() -> None:
    """Its connection is broken after `write_stall_s`, and the target's work stopped."""

    async def flood(talk: Conversation) -> None:
        await talk.send(STREAM_HEAD)
        while True:
            await talk.send(chunk(delta("x" * 10_000)))

    target = Target(flood)
    async with serving({"alpha": target}, World(timeouts={"total_s": 60.0}), limits=QUICK) as edge:
        reader, writer = await asyncio.open_connection(edge.host, edge.port, limit=1024)
        writer.write(request(STREAM))
        await until(lambda: len(edge.gateway.exchanges) == 1)
        await until(lambda: not edge.gateway.exchanges)
        await until(lambda: target.open == 0)
        writer.transport.abort()
        del reader


async def test_metrics_tell_what_happened() -> None:
    """Requests by route and class, attempts by target and outcome, refusals by reason; scraped at any time."""
    async with serving({"bad": Target(answer(b"{}", status="500 X")), "good": Target()}) as edge:
        generate_latest(edge.registry)
        for _ in range(3):
            await edge.ask()
        await edge.ask(b'{"model":"nope"}')
        await edge.ask(key="wrong")
        assert edge.metric("leeward_edge_requests_total", route="chat", status="2xx") == 3
        assert edge.metric("leeward_edge_request_seconds_count", route="chat") == 3
        assert edge.metric("leeward_edge_attempts_total", target="good", outcome="OK") == 3
        assert edge.metric("leeward_edge_attempts_total", target="bad", outcome="FAILED") == 3
        assert edge.metric("leeward_edge_possibly_billed_total", target="bad") == 3
        assert edge.metric("leeward_edge_refused_total", reason="model_not_found") == 1
        assert edge.metric("leeward_edge_refused_total", reason="invalid_api_key") == 1
        assert edge.metric("leeward_edge_admission", target="bad", state="EJECTED") == 1
        assert edge.metric("leeward_edge_inflight", target="good") == 0


async def test_a_table_is_taken_between_two_requests_and_not_within_one() -> None:
    """A request under way keeps the table it began with; what is known of a target survives."""
    from edge_router.core.table import build_table
    from shared.vocabulary.base import NO_VERSION
    from shared.vocabulary.config import FleetConfig

    waiting = asyncio.Event()

    async def wait(talk: Conversation) -> None:
        await waiting.wait()
        await talk.send(answer())

    alpha = Target(wait)
    async with serving({"alpha": alpha, "beta": Target()}) as edge:
        under_way = asyncio.ensure_future(edge.ask())
        await until(lambda: len(alpha.seen) == 1)
        config = edge.config.model_dump(mode="json")
        config["fleet"]["routes"][0]["tiers"].reverse()
        edge.gateway.swap(build_table(FleetConfig.model_validate(config), {}, NO_VERSION, region="us-east"))
        assert (await edge.ask()).fields["x-leeward-target"] == "beta"
        assert edge.gateway.lane(edge.gateway.table.targets["alpha"]).inflight == 1
        waiting.set()
        assert (await under_way).fields["x-leeward-target"] == "alpha"


async def test_a_thousand_clients_that_leave_in_the_middle_leave_nothing() -> None:
    """Disconnects at every moment: no request, connection or file descriptor remains."""

    async def slow(talk: Conversation) -> None:
        await talk.send(STREAM_HEAD)
        for _ in range(50):
            await talk.send(chunk(delta("x")), pause_s=0.01)

    target = Target(slow)
    async with serving({"alpha": target}) as edge:

        async def leave(number: int) -> None:
            async with edge.client() as client:
                client.write(request(STREAM)[: 20 + number % 400])
                await asyncio.sleep((number % 7) * 0.01)

        for batch in range(10):
            await asyncio.gather(*(leave(batch * 100 + number) for number in range(100)))
        await until(lambda: not edge.gateway.clients and not edge.gateway.exchanges)
        await until(lambda: target.open == 0)
        assert (edge.gateway.reserved_bytes, edge.gateway.upstream_connections) == (0, 0)
