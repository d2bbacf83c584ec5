"""An error of the edge's own ends one request and nothing else; and what one client can make the edge do or hold."""

import asyncio
from typing import Any

import pytest

from edge_router.adapters import listener
from edge_router.core.limits import Limits
from tests.support.data_path import (
    CALL,
    COMPLETION,
    END,
    STREAM,
    STREAM_HEAD,
    Client,
    Conversation,
    Edge,
    Target,
    World,
    chunk,
    delta,
    request,
    serving,
    until,
)

SHORT = World(timeouts={"total_s": 0.5, "connect_s": 0.5, "first_byte_s": 0.5, "ttft_s": 0.5})


async def hang(talk: Conversation) -> None:
    await talk.hang()


def boom(*_: Any, **__: Any) -> Any:
    raise RuntimeError("nobody expected this")


def nothing_held(edge: Edge) -> bool:
    """Whether nothing of a request is left, and each attempt has ended once."""
    gateway = edge.gateway
    return (
        not gateway.exchanges
        and (gateway.extra_active, gateway.reserved_bytes) == (0, 0)
        and [lane.inflight for lane in gateway.lanes()] == [0] * len(gateway.lanes())  # type: ignore[arg-type]
    )


async def two_hang(edge: Edge, target: Target, first: Client, second: Client) -> Any:
    """Two requests under way; the exchange of the first."""
    first.write(request())
    await until(lambda: len(target.seen) == 1)
    (exchange,) = edge.gateway.exchanges
    second.write(request())
    await until(lambda: len(target.seen) == 2)
    return exchange


async def test_a_text_that_is_none_stops_no_deadline() -> None:
    """A surrogate in the last message, where rules with patterns look at it: its request is answered, and other
    clients' deadlines go on."""
    world = World(
        route={"degradation": {"rules": [{"patterns": ["refund"], "answer": "see the shop"}]}},
        timeouts={"total_s": 3.0},
    )
    async with serving({"alpha": Target(hang)}, world, limits=Limits(head_s=0.5)) as edge:
        body = b'{"model":"chat","messages":[{"role":"user","content":"\xed\xa0\x80"}]}'
        async with edge.client() as odd, edge.client() as slow:
            odd.write(request(body, fields="x-leeward-timeout-ms: 30\r\n"))
            assert (await odd.read(timeout_s=3.0)).status == 400
            slow.write(b"GET / HTTP/1.1\r\nx: ")
            assert (await slow.read(timeout_s=3.0)).status == 408
        await until(lambda: nothing_held(edge))
        assert not edge.gateway.own_errors.counts


async def test_one_request_that_fails_in_the_sweep_stops_no_other() -> None:
    """Its client is let go and its attempt ended once; the sweep goes on with the others."""
    target = Target(hang)
    async with serving({"alpha": target}, SHORT) as edge, edge.client() as first, edge.client() as second:
        exchange = await two_hang(edge, target, first, second)
        exchange._refuse = boom  # when its attempt has ended, and been counted
        assert await first.closed()
        assert (await second.read()).status == 504
        await until(lambda: nothing_held(edge))
        assert edge.gateway.own_errors.counts == {"timed_out RuntimeError": 1}
        assert edge.gateway._supervisor.failures == {}


async def test_one_client_that_fails_in_the_sweep_stops_no_other() -> None:
    """A deadline of a connection is kept although another's handling raises."""
    async with (
        serving({"alpha": Target()}, limits=Limits(head_s=0.3)) as edge,
        edge.client() as first,
        edge.client() as second,
    ):
        ids = iter((boom,))
        real = edge.gateway.next_id
        edge.gateway.next_id = lambda: next(ids, real)()  # type: ignore[method-assign]
        for client in (first, second):
            client.write(b"GET / HTTP/1.1\r\nx: ")
        results = await asyncio.gather(first.read(), second.read(), return_exceptions=True)
        assert sorted(type(result).__name__ for result in results) == ["Answer", "IncompleteReadError"]
        await until(lambda: not edge.gateway.clients)
        assert edge.gateway.own_errors.counts == {"client_timed_out RuntimeError": 1}


async def test_one_request_that_fails_in_a_drain_stops_no_other() -> None:
    """All are ended, and the edge goes."""
    target = Target(hang)
    async with serving({"alpha": target}) as edge, edge.client() as first, edge.client() as second:
        exchange = await two_hang(edge, target, first, second)
        exchange._end_attempt = boom
        draining = asyncio.ensure_future(edge.gateway.drain(0.1))
        assert (await second.read()).status == 502
        assert await first.closed()
        await asyncio.wait_for(draining, 5.0)
        assert nothing_held(edge)


@pytest.mark.parametrize("member", ["answered", "_won"])
async def test_an_error_while_an_answer_is_read_ends_the_request(member: str) -> None:
    """Before the answer and at its end: the client does not wait for nothing, nor is anything left."""
    go = asyncio.Event()

    async def act(talk: Conversation) -> None:
        await go.wait()
        await talk.send(
            STREAM_HEAD, chunk(delta("a")), chunk(delta(finish="stop")), chunk(b"data: [DONE]\n\n") + END
        )
        await talk.hang()

    async with serving({"alpha": Target(act)}) as edge, edge.client() as client:
        client.write(request(STREAM))
        await until(lambda: len(edge.gateway.exchanges) == 1)
        (exchange,) = edge.gateway.exchanges
        setattr(exchange, member, boom)
        go.set()
        await client.reader.read()
        await until(lambda: nothing_held(edge))
        assert edge.gateway.own_errors.counts == {"target RuntimeError": 1}


async def test_an_error_while_a_request_is_read_ends_the_connection() -> None:
    """And the next client is served."""
    async with serving({"alpha": Target()}) as edge:
        chooser = edge.gateway.chooser
        real = chooser.first
        chooser.first = boom  # type: ignore[method-assign]
        async with edge.client() as client:
            client.write(request())
            assert await client.closed()
        await until(lambda: nothing_held(edge))
        chooser.first = real  # type: ignore[method-assign]
        assert (await edge.ask()).body == COMPLETION
        assert edge.gateway.own_errors.counts == {"client RuntimeError": 1}


async def test_what_follows_a_refused_request_is_read_as_it_was_sent() -> None:
    """The head of the next came with the refused one, its body later: that body is no request."""
    inner = request(CALL.replace(b"hi", b"SMUGGLED"))
    second = request(inner)
    target = Target()
    async with serving({"alpha": target}) as edge, edge.client() as client:
        client.write(request(key="bad") + second[: -len(inner)])
        assert (await client.read()).status == 401
        client.write(inner)
        assert (await client.read()).status == 400  # the body is not JSON
        client.write(request())
        assert (await client.read()).status == 200
        assert [b"SMUGGLED" in seen.body for seen in target.seen] == [False]


async def test_a_client_that_sent_much_ahead_keeps_no_target_at_work() -> None:
    """Over `ahead_bytes` behind a request under way the connection ends, and the target's work with it."""
    target = Target(hang)
    async with serving({"alpha": target}) as edge, edge.client() as client:
        client.write(request())
        await until(lambda: len(target.seen) == 1)
        client.write(b"POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 9999999\r\n\r\n" + b"x" * 200_000)
        await until(lambda: target.open == 0, timeout_s=2.0)
        await until(lambda: nothing_held(edge) and not edge.gateway.clients)


async def test_an_announced_body_takes_no_memory_before_it_comes() -> None:
    """Heads that announce much keep nobody out."""
    limits = Limits(reserved_bytes=1_000_000)
    async with serving({"alpha": Target()}, limits=limits) as edge, edge.client() as client:
        client.write(request(b"").replace(b"content-length: 0", b"content-length: 1000000"))
        await until(lambda: any(one._arriving is not None for one in edge.gateway.clients))
        assert edge.gateway.reserved_bytes == 0
        async with edge.client() as other:
            raw = request()
            other.write(raw[:-5])
            await until(lambda: edge.gateway.reserved_bytes == len(CALL) - 5)
            other.write(raw[-5:])
            assert (await other.read()).status == 200
        await until(lambda: edge.gateway.reserved_bytes == 0)


async def test_a_head_that_comes_byte_by_byte_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """However it is cut; and what each piece costs does not grow with what came before."""
    looked: list[int] = []
    real = listener.prefix_fault

    def counting(data: bytes, start: int) -> bool:
        looked.append(len(data) - start)
        return real(data, start)

    monkeypatch.setattr(listener, "prefix_fault", counting)
    async with serving({"alpha": Target()}) as edge, edge.client() as client:
        client.write(b"\r\n" + request()[:10])
        await until(lambda: len(edge.gateway.clients) == 1)
        (connection,) = edge.gateway.clients
        await until(lambda: len(connection._buffer) == 10)
        for byte in request()[10:]:
            connection.data_received(bytes((byte,)))
        assert (await client.read()).status == 200
        assert len(looked) > 50
        assert max(looked[1:]) <= 4
        client.write(b"GET / HTTP/1.1\r\nx: 1\r")
        await until(lambda: len(connection._buffer) == 21)
        connection.data_received(b"x")
        assert (await client.read()).status == 400


async def test_paths_that_clients_choose_fill_no_memory() -> None:
    """Long ones are not kept, and many displace what is usual only for a moment."""
    async with serving({"alpha": Target()}) as edge, edge.client() as client:
        for n in range(70):
            await client.ask(CALL, path=f"/v1/chat/completions?{n}")
            await client.ask(CALL, path=f"/v1/chat/completions?{n}{'q' * 4000}")
        await client.ask(CALL)
        (lane,) = edge.gateway.lanes()
        assert b"POST/chat/completions" in lane._prefixes
        assert len(lane._prefixes) <= 64
        assert sum(map(len, lane._prefixes)) <= 64 * 256
