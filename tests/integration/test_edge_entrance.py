"""Who is let in, how much of the edge each may take, and for how long (DESIGN: Workers; FAULTS rows 23, 24)."""

import asyncio
import json
import socket
import time
from collections.abc import Callable
from contextlib import suppress

import pytest

from edge_router.core.limits import Limits
from edge_router.core.table import ResolvedCredential, build_table
from shared.vocabulary.base import NO_VERSION
from shared.vocabulary.config import FleetConfig
from tests.support.data_path import (
    CALL,
    COMPLETION,
    STREAM,
    STREAM_HEAD,
    Conversation,
    Edge,
    Target,
    World,
    answer,
    chunk,
    delta,
    request,
    serving,
    until,
)

USED = COMPLETION[:-1] + b',"usage":{"prompt_tokens":30,"completion_tokens":70,"total_tokens":100}}'


def limited(**limits: object) -> World:
    """A world with the key `acme` beside the unlimited `dev`."""
    return World(keys=[{"id": "acme", "key": "acme", **limits}])


def rates(fields: dict[str, str]) -> dict[str, str]:
    return {name.removeprefix("x-ratelimit-"): value for name, value in fields.items() if "ratelimit" in name}


# ------------------------------------------------------------ client keys


async def test_a_key_gets_its_requests_and_is_told_when_to_come_back() -> None:
    """Over the limit: 429 in OpenAI's envelope, the connection lives on, no target hears of it; others are free."""
    target = Target()
    async with serving({"alpha": target}, limited(requests_per_minute=2)) as edge, edge.client() as client:
        first, second, third = [await client.ask(key="acme") for _ in range(3)]
        assert (first.status, second.status, third.status) == (200, 200, 429)
        assert rates(first.fields) == {
            "limit-requests": "2",
            "remaining-requests": "1",
            "reset-requests": "30s",
        }
        assert third.fields["x-ratelimit-remaining-requests"] == "0"
        assert third.fields["retry-after"] == "30"
        assert 29_000 < int(third.fields["retry-after-ms"]) <= 30_000
        error = json.loads(third.body)["error"]
        assert (error["code"], error["type"]) == ("rate_limit_exceeded", "requests")
        unlimited = await client.ask()
        assert (unlimited.status, rates(unlimited.fields)) == (200, {})
        assert len(target.seen) == 3
        assert edge.metric("leeward_edge_refused_total", reason="rate_limit_exceeded") == 1


async def test_over_the_limit_in_anthropics_dialect() -> None:
    """`rate_limit_error`, as its SDK expects."""
    world = World(dialect="anthropic", keys=[{"id": "acme", "key": "acme", "requests_per_minute": 1}])
    target = Target(answer(b'{"type":"message","content":[]}'))
    async with serving({"alpha": target}, world) as edge:
        assert (await edge.ask(path="/v1/messages", key="acme")).status == 200
        over = await edge.ask(path="/v1/messages", key="acme")
    assert over.status == 429
    assert json.loads(over.body)["error"]["type"] == "rate_limit_error"


async def test_tokens_are_charged_as_the_answer_tells_them() -> None:
    """Plain and streamed: the estimate at first, then what was really used."""

    async def act(talk: Conversation) -> None:
        if b'"stream":true' not in talk.request.body:
            await talk.send(answer(USED))
            return
        usage = b'data: {"choices":[],"usage":{"prompt_tokens":100,"completion_tokens":400}}\n\n'
        await talk.send(STREAM_HEAD, chunk(delta("x")), chunk(delta(finish="stop")))
        await talk.send(chunk(usage + b"data: [DONE]\n\n"), b"0\r\n\r\n")

    async def left(edge: Edge) -> int:
        got = await edge.ask(key="acme")
        assert got.status == 200
        # Back to what it was before this call's own estimate.
        return int(got.fields["x-ratelimit-remaining-tokens"]) + -(-len(CALL) // 4) + 256

    async with serving({"alpha": Target(act)}, limited(tokens_per_minute=60)) as edge:
        first = await edge.ask(key="acme")
        assert (first.status, first.fields["x-ratelimit-remaining-tokens"]) == (200, "0")
        over = await edge.ask(key="acme")
        assert (over.status, json.loads(over.body)["error"]["type"]) == (429, "tokens")
        # 100 were used of 60: it waits for these, and for the whole bucket that a call of more than that needs.
        assert 98 <= int(over.fields["retry-after"]) <= 100
    async with serving({"alpha": Target(act)}, limited(tokens_per_minute=10_000)) as edge:
        assert (await edge.ask(key="acme")).status == 200
        assert 9_900 <= await left(edge) <= 9_910
        assert (await edge.ask(STREAM, key="acme")).clean
        assert 9_300 <= await left(edge) <= 9_350
        await edge.ask(b'{"model":"nope"}', key="acme")
        assert 9_200 <= await left(edge) <= 9_280, "what never reached a target costs nothing"


async def test_a_key_has_so_many_requests_at_once() -> None:
    """And one more as soon as one has ended, be it that its client left."""
    waiting = asyncio.Event()

    async def wait(talk: Conversation) -> None:
        await waiting.wait()
        await talk.send(answer())

    async with serving({"alpha": Target(wait)}, limited(concurrency=2)) as edge, edge.client() as leaver:
        under_way = asyncio.ensure_future(edge.ask(key="acme"))
        leaver.write(request(key="acme"))
        await until(lambda: len(edge.gateway.exchanges) == 2)
        over = await edge.ask(key="acme")
        assert (over.status, over.fields["retry-after"]) == (429, "1")
        leaver.writer.transport.abort()
        await until(lambda: len(edge.gateway.exchanges) == 1)
        third = asyncio.ensure_future(edge.ask(key="acme"))
        await until(lambda: len(edge.gateway.exchanges) == 2)
        waiting.set()
        assert {(await under_way).status, (await third).status} == {200}


async def test_limits_survive_a_new_table_and_are_divided_among_workers() -> None:
    """The table changes, what was taken stays taken; of two workers each holds half."""
    world = limited(requests_per_minute=4)
    async with serving({"alpha": Target()}, world, divide_by=2) as edge:
        first = await edge.ask(key="acme")
        assert (
            first.fields["x-ratelimit-limit-requests"],
            first.fields["x-ratelimit-remaining-requests"],
        ) == (
            "4",
            "2",
        )
        assert (await edge.ask(key="acme")).status == 200
        config = FleetConfig.model_validate(edge.config.model_dump(mode="json"))
        edge.gateway.swap(build_table(config, {}, NO_VERSION, region="us-east"))
        assert (await edge.ask(key="acme")).status == 429


async def test_a_providers_own_limits_are_not_mixed_with_a_keys() -> None:
    """Where the key is limited, the client sees its own figures and no others; its other fields stay."""
    own = "x-ratelimit-remaining-requests: 7\r\nx-other: a x-ratelimit-b\r\n"
    target = Target(answer(fields=own))
    async with serving({"alpha": target}, limited(requests_per_minute=9)) as edge, edge.client() as client:
        client.write(request(key="acme"))
        raw = (await client.reader.readuntil(b"\r\n\r\n")).decode()
        plain = await edge.ask()
    assert raw.count("x-ratelimit-remaining-requests") == 1
    assert "x-ratelimit-remaining-requests: 8\r\n" in raw
    assert "x-other: a x-ratelimit-b\r\n" in raw
    assert plain.fields["x-ratelimit-remaining-requests"] == "7"


async def test_a_credential_does_not_follow_a_target_that_moves() -> None:
    """Another port is another origin: the new table sends it no secret."""
    alpha, moved = Target(), Target()
    await alpha.start()
    await moved.start()
    secret = ResolvedCredential(
        b"authorization", b"Bearer sk", frozenset({("http", "127.0.0.1", alpha.port)})
    )
    await alpha.stop()
    async with serving(
        {"alpha": alpha}, World(target={"credential": "p"}), credentials={"p": secret}
    ) as edge:
        await edge.ask()
        config = edge.config.model_dump(mode="json")
        config["fleet"]["targets"][0]["url"] = f"http://127.0.0.1:{moved.port}/v1"
        edge.gateway.swap(build_table(FleetConfig.model_validate(config), {}, NO_VERSION, region="us-east"))
        assert (await edge.ask()).status == 200
    await moved.stop()
    assert alpha.seen[0].fields["authorization"] == "Bearer sk"
    assert "authorization" not in moved.seen[0].fields


# ------------------------------------------------------------ routes with a limit


async def test_a_full_route_turns_away_at_once_the_less_urgent_first() -> None:
    """503 with a Retry-After by priority; counted by route and priority; a request that ends makes room."""
    waiting = asyncio.Event()

    async def wait(talk: Conversation) -> None:
        await waiting.wait()
        await talk.send(answer())

    keys = [{"id": name, "key": name, "priority": name} for name in ("high", "low")]
    bounds = {"min_concurrency": 1, "initial_concurrency": 10, "max_concurrency": 10}
    world = World(keys=keys, route={"overload": bounds})
    async with serving({"alpha": Target(wait)}, world) as edge:
        under_way = [asyncio.ensure_future(edge.ask()) for _ in range(6)]
        await until(lambda: len(edge.gateway.exchanges) == 6)
        low = await edge.ask(key="low")
        assert (low.status, low.fields["retry-after"], low.fields["retry-after-ms"]) == (503, "4", "4000")
        assert json.loads(low.body)["error"]["code"] == "route_overloaded"
        under_way += [asyncio.ensure_future(edge.ask()) for _ in range(3)]
        await until(lambda: len(edge.gateway.exchanges) == 9)
        assert (await edge.ask()).fields["retry-after"] == "2"
        under_way.append(asyncio.ensure_future(edge.ask(key="high")))
        await until(lambda: len(edge.gateway.exchanges) == 10)
        assert (await edge.ask(key="high")).fields["retry-after"] == "1"
        for priority in ("high", "normal", "low"):
            assert edge.metric("leeward_edge_shed_total", route="chat", priority=priority) == 1
        assert edge.metric("leeward_edge_route_active", route="chat") == 10
        assert edge.metric("leeward_edge_route_limit", route="chat") == 10
        waiting.set()
        assert {(await each).status for each in under_way} == {200}
        assert (await edge.ask(key="low")).status == 200
        assert edge.metric("leeward_edge_route_active", route="chat") == 0


# ------------------------------------------------------------ wire


async def test_an_absolute_target_is_taken_when_host_says_the_same() -> None:
    """RFC 9112, section 3.2.2; and refused when two readers could believe two hosts."""
    target = Target()
    async with serving({"alpha": target}) as edge:
        for line, status in (
            (b"POST http://edge.test/v1/chat/completions", 200),
            (b"POST https://EDGE.test/v1/chat/completions", 200),
            (b"POST http://other.test/v1/chat/completions", 400),
            (b"POST http://edge.test:80/v1/chat/completions", 400),
            (b"POST http://a@edge.test/v1/chat/completions", 400),
            (b"POST ftp://edge.test/v1/chat/completions", 400),
            (b"POST http://edge.test", 400),
        ):
            async with edge.client() as client:
                client.write(request().replace(b"POST /v1/chat/completions", line))
                assert (await client.read()).status == status, line
    assert {seen.line for seen in target.seen} == {"POST /v1/chat/completions HTTP/1.1"}


async def test_a_providers_cookies_and_names_stay_with_the_edge() -> None:
    """On model calls, streamed or not; plain routes pass what their target sends."""
    fields = "set-cookie: a=b\r\nserver: x\r\nopenai-organization: org\r\nx-kept: 1\r\n"

    async def act(talk: Conversation) -> None:
        if b'"stream":true' in talk.request.body:
            head = STREAM_HEAD.replace(b"\r\n\r\n", b"\r\n" + fields.encode() + b"\r\n")
            await talk.send(
                head, chunk(delta("x") + delta(finish="stop") + b"data: [DONE]\n\n"), b"0\r\n\r\n"
            )
        else:
            await talk.send(answer(fields=fields))

    async with serving({"alpha": Target(act)}) as edge:
        for body in (CALL, STREAM):
            got = await edge.ask(body)
            assert got.fields["x-kept"] == "1"
            assert not {"set-cookie", "server", "openai-organization"} & set(got.fields)
    async with serving({"alpha": Target(act)}, World(dialect="http", paths=("/docs",))) as edge:
        got = await edge.ask(b"", method="GET", path="/docs")
        assert (got.fields["set-cookie"], got.fields["server"]) == ("a=b", "x")


# ------------------------------------------------------------ time and space


QUICK = Limits(head_s=0.5, body_s=0.5, write_stall_s=0.6, write_bytes_per_s=20_000, linger_s=0.5)


async def slow_read(edge: Edge, size: int, every_s: float, *, window: int) -> tuple[int, float]:
    """Ask for a long answer and take `size` bytes of it every so often: how much came, and in how many seconds.
    A bare socket, for a reader of asyncio's takes more than it hands out."""
    loop, began, got = asyncio.get_running_loop(), time.monotonic(), 0
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
        sock.setblocking(False)
        await loop.sock_connect(sock, (edge.host, edge.port))
        await loop.sock_sendall(sock, request(fields="connection: close\r\n"))
        with suppress(ConnectionError):
            while data := await loop.sock_recv(sock, size):
                got += len(data)
                await asyncio.sleep(every_s)
    return got, time.monotonic() - began


async def test_a_reader_that_drips_is_given_up_and_one_that_is_only_slow_is_not() -> None:
    """The least rate over `write_stall_s` tells them apart, however large the answer."""
    size = 12_000_000  # more than the kernel takes on behalf of a client that does not read
    long = COMPLETION.replace(b"hello", b"x" * size)
    world = World(timeouts={"total_s": 30.0})
    async with serving({"alpha": Target(answer(long))}, world, limits=QUICK) as edge:
        dripping = asyncio.ensure_future(slow_read(edge, 1, 0.02, window=4096))
        await until(lambda: bool(edge.gateway.clients))
        began = time.monotonic()
        await until(lambda: not edge.gateway.clients)
        assert QUICK.write_stall_s <= time.monotonic() - began < 10 * QUICK.write_stall_s
        assert not dripping.done(), "it was still taking its drops"
        dripping.cancel()
        taken, slow_s = await asyncio.wait_for(slow_read(edge, 2**17, 0.03, window=2**18), 60)
        assert taken > size
        assert slow_s > 3 * QUICK.write_stall_s


@pytest.mark.skipif(
    not hasattr(socket, "TCP_USER_TIMEOUT"), reason="the kernel gives up stalled clients on Linux alone"
)
async def test_a_reader_that_takes_nothing_is_given_up_although_the_kernel_holds_all_of_it() -> None:
    """What it is sent fits into the kernel's buffers, so that the edge itself never has to wait for it."""

    async def much_and_then_a_little(talk: Conversation) -> None:
        await talk.send(STREAM_HEAD, *(chunk(delta("x" * 30_000)) for _ in range(8)))
        for _ in range(100):
            await talk.send(chunk(delta(" more")), pause_s=0.1)

    target = Target(much_and_then_a_little)
    async with serving({"alpha": target}, limits=QUICK) as edge:
        loop = asyncio.get_running_loop()
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.setblocking(False)
            await loop.sock_connect(sock, (edge.host, edge.port))
            await loop.sock_sendall(sock, request(STREAM))
            await until(lambda: bool(edge.gateway.exchanges))
            await until(lambda: not edge.gateway.clients, timeout_s=10 * QUICK.write_stall_s)
            await asyncio.wait_for(target.gone.wait(), 5)


async def test_a_flood_of_pipelined_requests_is_held_back() -> None:
    """While one is served, at most `ahead_bytes` and a read of the others are held; who sends more is let go, and so is
    the target. What stays below is answered, all of it."""
    waiting = asyncio.Event()

    async def wait(talk: Conversation) -> None:
        await waiting.wait()
        await talk.send(answer())

    target = Target(wait)
    async with serving({"alpha": target}) as edge, edge.client() as client, edge.client() as modest:
        ahead = edge.gateway.limits.ahead_bytes // len(request())
        modest.write(request())
        await until(lambda: len(edge.gateway.exchanges) == 1)
        (connection,) = (one for one in edge.gateway.clients if one._exchange is not None)
        modest.write(request() * ahead)
        await until(lambda: len(connection._buffer) == ahead * len(request()))
        client.write(request() * 4000)
        assert await client.closed()
        await until(lambda: len(edge.gateway.exchanges) == 1 and target.open == 1)
        waiting.set()
        assert {(await modest.read()).status for _ in range(1 + ahead)} == {200}


async def test_limits_come_from_the_node_file() -> None:
    """Connections, head, fields and body as they are set."""
    limits = Limits(connections=1, head_bytes=1024, fields=8, body_bytes=2048)
    async with serving({"alpha": Target()}, limits=limits) as edge:
        for how, status in (
            ({"fields": "x-long: " + "x" * 1024 + "\r\n"}, 431),
            ({"fields": "".join(f"x-{n}: 1\r\n" for n in range(8))}, 431),
            ({"body": CALL[:-1] + b',"x":"' + b"x" * 2048 + b'"}'}, 413),
        ):
            assert (await edge.ask(**how)).status == status
            await until(lambda: not edge.gateway.clients)
        async with edge.client() as first:
            assert (await first.ask()).status == 200
            assert (await edge.ask()).status == 503
            assert (await first.ask()).status == 200


# ------------------------------------------------------------ clients that go


async def silent(talk: Conversation) -> None:
    await talk.hang()


async def streaming(talk: Conversation) -> None:
    await talk.send(STREAM_HEAD, chunk(delta("x")))
    await talk.hang()


async def held(talk: Conversation) -> None:
    """Half of a JSON answer, which the edge keeps back until it is whole."""
    await talk.send(answer()[:-20])
    await talk.hang()


@pytest.mark.parametrize(("act", "body"), [(silent, CALL), (streaming, STREAM), (held, CALL)])
@pytest.mark.parametrize("half", [False, True])
async def test_a_client_that_goes_stops_the_targets_work_within_100_ms(
    act: Callable[[Conversation], object],
    body: bytes,
    half: bool,
    record_property: Callable[[str, object], None],
) -> None:
    """Fifty times: from its end to the end of the target's connection. One that only says that it will send no
    more (shutdown) is taken to be gone as well."""
    target = Target(act)  # type: ignore[arg-type]
    took: list[float] = []
    async with serving({"alpha": target}, World(timeouts={"ttft_s": 30.0, "total_s": 60.0})) as edge:
        for number in range(50):
            async with edge.client() as client:
                client.write(request(body))
                await until(lambda number=number: len(target.seen) == number + 1)
                if act is streaming:
                    await client.reader.readuntil(b'"x"')
                target.gone.clear()
                began = time.monotonic()
                if half:
                    client.writer.write_eof()
                else:
                    client.writer.transport.abort()
                await asyncio.wait_for(target.gone.wait(), 5)
                took.append(time.monotonic() - began)
        await until(lambda: not edge.gateway.exchanges)
    print(f"\n{act.__name__}, half-closed {half}: target let go after {max(took) * 1000:.1f} ms at most")  # type: ignore[attr-defined]
    record_property("max_ms", max(took) * 1000)
    assert max(took) <= 0.1


async def test_a_client_that_goes_while_the_edge_connects_ends_the_connecting() -> None:
    """Fifty times, to a target whose backlog is full and so never accepts."""
    full = socket.socket()
    full.bind(("127.0.0.1", 0))
    full.listen(0)
    stuck = []
    for _ in range(4):
        one = socket.socket()
        one.setblocking(False)
        one.connect_ex(full.getsockname())
        stuck.append(one)
    nowhere = Target()
    took = []
    try:
        async with serving({"alpha": nowhere}, World(timeouts={"connect_s": 20.0, "total_s": 30.0})) as edge:
            config = edge.config.model_dump(mode="json")
            config["fleet"]["targets"][0]["url"] = f"http://127.0.0.1:{full.getsockname()[1]}/v1"
            edge.gateway.swap(
                build_table(FleetConfig.model_validate(config), {}, NO_VERSION, region="us-east")
            )
            for _ in range(50):
                async with edge.client() as client:
                    client.write(request())
                    await until(lambda: len(edge.gateway.exchanges) == 1)
                    connecting = next(iter(edge.gateway.exchanges))._connecting
                    assert connecting is not None
                    began = time.monotonic()
                    client.writer.transport.abort()
                    await asyncio.wait({connecting}, timeout=5)
                    took.append(time.monotonic() - began)
                    assert connecting.cancelled()
    finally:
        for one in (*stuck, full):
            one.close()
    print(f"\nconnecting: given up after {max(took) * 1000:.1f} ms at most")
    assert max(took) <= 0.1
