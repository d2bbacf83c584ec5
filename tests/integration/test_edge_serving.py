"""The edge between real sockets: what reaches a target, what comes back, who is let in."""

import asyncio
import json
from contextlib import AsyncExitStack
from typing import Any

import pytest

from edge_router.core.admission import CLEAN
from edge_router.core.limits import Limits
from edge_router.core.table import ResolvedCredential
from tests.support.data_path import (
    CALL,
    COMPLETION,
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
    serving,
    until,
)


async def test_a_call_is_answered_by_the_target_and_says_who_answered() -> None:
    """The response headers of the contract are there, and the body comes as the target sent it."""
    async with serving({"alpha": Target()}) as edge:
        got = await edge.ask()
    assert (got.status, got.body, got.clean) == (200, COMPLETION, True)
    assert got.fields["x-leeward-region"] == "us-east"
    assert got.fields["x-leeward-target"] == "alpha"
    assert got.fields["x-leeward-tier"] == "1"
    assert got.fields["x-leeward-decision"] == "0.0"
    assert got.fields["x-leeward-mode"] == "STALE"
    assert got.fields["x-leeward-attempts"] == "1"
    assert got.fields["x-leeward-request-id"]


async def test_only_the_value_of_model_changes_on_the_way() -> None:
    """The body reaches the target byte for byte, but for the model's name."""
    target = Target()
    body = b'{ "messages" : [ {"role":"user","content":"\\u00e9 \\"model\\" x","model":"keep"} ],\n "model"\t: "chat" ,"z":1e5}'
    async with serving({"alpha": target}) as edge:
        assert (await edge.ask(body)).status == 200
    assert target.seen[0].body == body.replace(b'"chat"', b'"m-alpha"')
    assert target.seen[0].line == "POST /v1/chat/completions HTTP/1.1"


async def test_what_is_not_for_targets_is_stripped_and_what_is_ours_is_set() -> None:
    """Hop-by-hop fields, those that Connection names, credentials, forwarded and internal fields do not pass."""
    target = Target()
    extra = (
        "connection: x-secret-hop\r\nx-secret-hop: 1\r\nkeep-alive: 5\r\nte: trailers\r\nproxy-authorization: x\r\n"
        "x-forwarded-for: 1.2.3.4\r\nforwarded: for=1.2.3.4\r\nx-leeward-target: evil\r\ncookie: a=b\r\n"
        "accept-encoding: gzip\r\nopenai-organization: org\r\nx-kept: yes\r\n"
        "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\ntracestate: a=1\r\n"
    )
    async with serving({"alpha": target}) as edge:
        assert (await edge.ask(fields=extra)).status == 200
    fields = target.seen[0].fields
    assert fields.pop("x-leeward-request-id")
    assert fields == {
        "host": f"127.0.0.1:{target.port}",
        "via": "1.1 leeward",
        "x-kept": "yes",
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "tracestate": "a=1",
        "accept-encoding": "identity",
        "content-length": str(len(CALL) + len("m-alpha") - len("chat")),
    }


async def test_a_credential_goes_only_to_the_origin_it_is_bound_to() -> None:
    """The target's credential replaces the client's key; one bound to another origin is not sent."""
    alpha, beta = Target(), Target()
    await alpha.start()
    credential = ResolvedCredential(
        b"authorization", b"Bearer sk-secret", frozenset({("http", "127.0.0.1", alpha.port)})
    )
    assert "sk-secret" not in repr(credential)
    await alpha.stop()
    world = World(target={"credential": "p"}, strategy="round_robin", tiers=[["alpha", "beta"]])
    async with serving({"alpha": alpha, "beta": beta}, world, credentials={"p": credential}) as edge:
        for _ in range(4):
            await edge.ask()
    assert {seen.fields.get("authorization") for seen in alpha.seen} == {"Bearer sk-secret"}
    assert {seen.fields.get("authorization") for seen in beta.seen} == {None}
    assert len(alpha.seen) == len(beta.seen) == 2


async def test_a_connection_is_kept_on_both_sides() -> None:
    """Requests on one client connection use one connection to the target, in order."""
    target = Target()
    async with serving({"alpha": target}) as edge, edge.client() as client:
        ids = {(await client.ask()).fields["x-leeward-request-id"] for _ in range(20)}
    assert len(ids) == 20
    assert target.connections == 1


async def test_pipelined_requests_are_answered_in_order() -> None:
    """Requests sent ahead are served one after the other."""

    async def echo(talk: Conversation) -> None:
        number = json.loads(talk.request.body)["n"]
        await asyncio.sleep(0.02 if number == 1 else 0)
        await talk.send(answer(b'{"n":%d,"choices":[{"finish_reason":"stop"}]}' % number))

    async with serving({"alpha": Target(echo)}) as edge, edge.client() as client:
        client.write(b"".join(request(b'{"model":"chat","n":%d}' % n) for n in range(1, 9)))
        got = [json.loads((await client.read()).body)["n"] for _ in range(8)]
    assert got == list(range(1, 9))


async def test_a_request_may_come_in_any_pieces() -> None:
    """Byte by byte, the same request is the same request."""
    target = Target()
    async with serving({"alpha": target}) as edge, edge.client() as client:
        for byte in request(fields="content-type: application/json\r\n"):
            client.write(bytes([byte]))
            await client.writer.drain()
            await asyncio.sleep(0)
        assert (await client.read()).status == 200
    assert json.loads(target.seen[0].body)["model"] == "m-alpha"


async def test_a_chunked_body_is_taken_and_goes_on_with_its_length() -> None:
    """Chunked coding is decoded, checked and not forwarded."""
    target = Target()
    head = request(b"", fields="transfer-encoding: chunked\r\n").replace(b"content-length: 0\r\n", b"")
    async with serving({"alpha": target}) as edge, edge.client() as client:
        for _ in range(2):
            client.write(head + chunk(CALL[:10]) + chunk(CALL[10:]))
            client.write(b"0\r\nx-trailer: dropped\r\n\r\n")
            assert (await client.read()).status == 200
    assert len(target.seen) == 2
    assert "transfer-encoding" not in target.seen[0].fields
    assert b"dropped" not in target.seen[0].raw_head
    assert len(target.seen[0].body) == int(target.seen[0].fields["content-length"])


async def test_expect_100_continue_is_met_before_the_body() -> None:
    """A client that waits for 100 gets it, once it has been let in; a stranger gets its 401 instead."""
    head = request(CALL, fields="expect: 100-continue\r\n").removesuffix(CALL)
    async with serving({"alpha": Target()}) as edge:
        async with edge.client() as client:
            client.write(head)
            assert (await client.read(bodyless=True)).status == 100
            client.write(CALL)
            assert (await client.read()).status == 200
        async with edge.client() as client:
            client.write(head.replace(b"Bearer dev", b"Bearer nobody"))
            assert (await client.read()).status == 401
            assert await client.closed()


@pytest.mark.parametrize(
    ("how", "status", "code"),
    [
        ({"key": None}, 401, "invalid_api_key"),
        ({"key": "wrong"}, 401, "invalid_api_key"),
        ({"key": None, "fields": "authorization: Basic ZGV2\r\n"}, 401, "invalid_api_key"),
        ({"key": "other"}, 403, "model_not_allowed"),
        ({"body": b'{"model":"nope"}'}, 404, "model_not_found"),
        ({"body": b'{"messages":[]}'}, 400, "invalid_body"),
        ({"body": b'{"model":7}'}, 400, "invalid_body"),
        ({"body": b"[]"}, 400, "invalid_body"),
        ({"body": b""}, 400, "invalid_body"),
        ({"body": b'{"model":"chat"'}, 400, "invalid_body"),
        ({"body": b'{"model":"chat","model":"chat"}'}, 400, "invalid_body"),
        ({"body": b'{"model":"chat","x":1,"x":2}'}, 400, "invalid_body"),
        ({"body": b'{"model":"chat","mod\\u0065l":"other"}'}, 400, "invalid_body"),
        ({"path": "/v1/nothing"}, 404, "unknown_url"),
        ({"method": "GET", "body": b""}, 405, "method_not_allowed"),
        ({"path": "/v1/models", "body": b""}, 405, "method_not_allowed"),
    ],
)
async def test_who_is_turned_away_learns_why_in_openais_envelope(how: dict, status: int, code: str) -> None:
    """The edge's own errors have the dialect's shape, and no target hears of the request."""
    target = Target()
    async with serving({"alpha": target}) as edge:
        got = await edge.ask(**{"body": CALL, **how})
    assert got.status == status
    error = json.loads(got.body)["error"]
    assert error["code"] == code
    assert error["message"]
    assert target.seen == []
    if status == 405:
        assert got.fields["allow"] in ("POST", "GET")


async def test_a_turned_away_request_leaves_its_connection_usable() -> None:
    """A request that was read whole and refused does not cost the client its connection."""
    async with serving({"alpha": Target()}) as edge, edge.client() as client:
        assert (await client.ask(b'{"model":"nope"}')).status == 404
        assert (await client.ask(key="wrong")).status == 401
        assert (await client.ask()).status == 200


async def test_keys_are_taken_from_either_field() -> None:
    """`x-api-key` is as good as a bearer token."""
    async with serving({"alpha": Target()}) as edge:
        assert (await edge.ask(key=None, fields="x-api-key: dev\r\n")).status == 200


async def test_models_lists_what_the_key_may_use() -> None:
    """GET /v1/models names the models of the key's routes and no others."""
    async with serving({"alpha": Target()}) as edge:
        mine = await edge.ask(b"", method="GET", path="/v1/models")
        none = await edge.ask(b"", method="GET", path="/v1/models", key="other")
    assert [model["id"] for model in json.loads(mine.body)["data"]] == ["chat"]
    assert json.loads(none.body) == {"object": "list", "data": []}


async def test_anthropic_messages_pass_in_their_own_dialect() -> None:
    """POST /v1/messages reaches Anthropic targets, query included, and errors have Anthropic's shape."""
    target = Target(answer(b'{"type":"message","content":[]}'))
    async with serving({"alpha": target}, World(dialect="anthropic")) as edge:
        got = await edge.ask(path="/v1/messages?beta=true", key=None, fields="x-api-key: dev\r\n")
        wrong = await edge.ask(b'{"model":"nope"}', path="/v1/messages")
    assert got.status == 200
    assert target.seen[0].line == "POST /v1/messages?beta=true HTTP/1.1"
    assert json.loads(wrong.body)["type"] == "error"
    assert json.loads(wrong.body)["error"]["type"] == "not_found_error"


async def test_plain_routes_take_what_lies_under_their_path() -> None:
    """A plain HTTP route passes method, path, query, cookies and who asked; nothing leads out of it."""
    target = Target(answer(b"hello", kind="text/plain"))
    world = World(dialect="http", paths=("/docs",))
    async with serving({"alpha": target}, world) as edge:
        got = await edge.ask(b"", method="GET", path="/docs/a?b=c", fields="cookie: s=1\r\n")
        head = await edge.ask(b"", method="HEAD", path="/docs")
        outside = [
            await edge.ask(b"", method="GET", path=path)
            for path in (
                "/docsx",
                "/docs/../x",
                "/docs/%2e%2e/x",
                "/docs//x",
                "/docs/..",
                "/docs/a%2fb",
                "/other",
            )
        ]
    assert (got.status, got.body) == (200, b"hello")
    assert target.seen[0].line == "GET /v1/docs/a?b=c HTTP/1.1"
    assert target.seen[0].fields["cookie"] == "s=1"
    assert target.seen[0].fields["x-forwarded-for"] == "127.0.0.1"
    assert "authorization" not in target.seen[0].fields
    assert (head.status, head.fields["content-length"]) == (200, "5")
    assert {answer.status for answer in outside} == {404}
    assert len(target.seen) == 2


async def test_a_client_of_http_1_0_is_served_and_closed() -> None:
    """HTTP/1.0 gets a delimited answer and no second request."""
    async with serving({"alpha": Target()}) as edge, edge.client() as client:
        client.write(request().replace(b"HTTP/1.1", b"HTTP/1.0"))
        got = await client.read()
        assert (got.status, got.body) == (200, COMPLETION)
        assert await client.closed()


async def test_a_body_over_the_limit_is_refused_before_it_is_read() -> None:
    """32 MiB is the most a request may bring, announced or not."""
    async with serving({"alpha": Target()}) as edge:
        async with edge.client() as client:
            client.write(request(b"").replace(b"content-length: 0", b"content-length: 33554433"))
            got = await client.read()
            assert got.status == 413
            assert await client.closed()
        async with edge.client() as client:
            client.write(request(b"").replace(b"content-length: 0", b"transfer-encoding: chunked"))
            piece = chunk(b"x" * 2**20)
            try:
                for _ in range(40):
                    client.write(piece)
                    await client.writer.drain()
            except ConnectionError:
                return
            assert (await client.read()).status == 413


async def test_a_large_body_is_passed_whole() -> None:
    """A prompt of several MiB arrives as it was sent."""
    target = Target()
    body = b'{"messages":[{"role":"user","content":"%b"}],"model":"chat"}' % (b"x" * 6_000_000)
    async with serving({"alpha": target}) as edge:
        assert (await edge.ask(body)).status == 200
    assert target.seen[0].body == body.replace(b'"chat"', b'"m-alpha"')


async def test_connections_beyond_the_limit_are_told_so() -> None:
    """One connection too many gets a 503 and is closed; the others live on."""
    limits = Limits(connections=2)
    async with (
        serving({"alpha": Target()}, limits=limits) as edge,
        edge.client() as one,
        edge.client() as two,
    ):
        assert (await one.ask()).status == (await two.ask()).status == 200
        async with edge.client() as three:
            got = await three.read()
            assert got.status == 503
            assert got.fields["retry-after"]
        assert (await one.ask()).status == 200


async def test_bytes_of_requests_under_way_are_bounded() -> None:
    """When all bodies together would hold too much, the next is told to come again."""
    async with (
        serving({"alpha": Target()}, limits=Limits(reserved_bytes=1_000_000)) as edge,
        edge.client() as slow,
    ):
        slow.write(request(b"").replace(b"content-length: 0", b"content-length: 900001") + b"x" * 900_000)
        await until(lambda: edge.gateway.reserved_bytes == 900_000)
        async with edge.client() as client:
            client.write(
                request(b"").replace(b"content-length: 0", b"content-length: 200001") + b"x" * 200_000
            )
            assert (await client.read()).status == 503


async def test_drain_finishes_what_is_under_way_and_takes_nothing_new() -> None:
    """A request under way gets its whole answer; new connections are refused."""

    async def slow(talk: Conversation) -> None:
        await asyncio.sleep(0.3)
        await talk.send(answer())

    target = Target(slow)
    async with serving({"alpha": target}) as edge, edge.client() as client, edge.client() as idle:
        client.write(request())
        await until(lambda: len(target.seen) == 1)
        draining = asyncio.ensure_future(edge.gateway.drain(5.0))
        got = await client.read()
        assert (got.status, got.body, got.clean) == (200, COMPLETION, True)
        assert await client.closed()
        assert await idle.closed()
        await draining
        with pytest.raises(ConnectionError):
            async with edge.client():
                pass


@pytest.mark.parametrize("more", [{}, {"stream_recovery": "resume"}])
async def test_the_edges_own_ending_is_not_its_targets(more: dict[str, Any]) -> None:
    """A drain that ends streams says in-band who ended them, asks nobody else, and no target is the worse for it."""

    async def act(talk: Conversation) -> None:
        await talk.send(STREAM_HEAD + chunk(delta(role=True)) + chunk(delta("hello")))
        await talk.hang()

    targets = {"alpha": Target(act), "beta": Target()}
    where = World(tiers=[["alpha"], ["beta"]], route=more)
    async with serving(targets, where) as edge, AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(edge.client()) for _ in range(5)]
        for client in clients:
            client.write(request(STREAM))
            await client.reader.readuntil(b"hello")
        await edge.gateway.drain(0.0)
        for client in clients:
            rest = await client.reader.read()
            assert b'"message":"the edge is shutting down"' in rest
            assert not rest.endswith(END)
        alpha = next(lane for lane in edge.gateway.lanes() if lane.entry.id == "alpha")
        assert (alpha.totals, alpha.admission, alpha.inflight) == ({}, CLEAN, 0)
    assert not targets["beta"].seen


async def test_a_request_that_a_drain_ends_is_told_so() -> None:
    """Before anything of an answer: the edge's own error, and nothing against the target."""

    async def act(talk: Conversation) -> None:
        await talk.hang()

    target = Target(act)
    async with serving({"alpha": target}) as edge, edge.client() as client:
        client.write(request())
        await until(lambda: len(target.seen) == 1)
        await edge.gateway.drain(0.0)
        got = await client.read()
        assert (got.status, b"the edge is shutting down" in got.body) == (502, True)
        assert got.fields["proxy-status"].startswith("leeward; error=proxy_internal_error")
        alpha = next(iter(edge.gateway.lanes()))
        assert (alpha.totals, alpha.admission) == ({}, CLEAN)


MESSAGE = (
    b'{"id":"m","type":"message","role":"assistant","model":"x","content":[{"type":"text","text":"hi"}],'
    b'"stop_reason":"end_turn","usage":{"input_tokens":1,"output_tokens":1}}'
)


@pytest.mark.parametrize(
    ("status", "kind", "body"),
    [
        ("200 OK", "application/json", MESSAGE),
        ("400 Bad Request", "application/json", b'{"type":"error","error":{"type":"x","message":"no"}}'),
        ("404 Not Found", "text/html", b"<html>no</html>"),
    ],
)
async def test_a_translated_answer_is_described_as_it_is(status: str, kind: str, body: bytes) -> None:
    """What the target said of its own content is not said of what is written anew."""
    coded = "" if status.startswith("200") else "content-encoding: gzip\r\n"
    stale = 'etag: "x"\r\ncontent-md5: abc\r\nlast-modified: x\r\ndigest: y\r\ncontent-language: z\r\n'
    target = Target(answer(body, status=status, fields=coded + stale + "x-kept: 1\r\n", kind=kind))
    async with serving({"a": target}, World(dialect="anthropic")) as edge:
        got = await edge.ask()
    assert got.status == int(status[:3])
    json.loads(got.body)
    said = {name: value for name, value in got.fields.items() if name.startswith("content-")}
    assert said == {"content-type": "application/json", "content-length": str(len(got.body))}
    assert not {"etag", "last-modified", "digest"} & got.fields.keys()
    assert got.fields["x-kept"] == "1"


async def test_what_each_route_carries_is_measured() -> None:
    """Requests that ended count, and those under way in the mean; what no target was asked for is not there."""
    async with serving({"alpha": Target()}) as edge:
        assert edge.gateway.loads(10.0) == ()
        await asyncio.sleep(0.3)
        for _ in range(5):
            await edge.ask()
        await until(lambda: sum(load.requests for load in edge.gateway.loads(10.0)) == 5)
        (load,) = edge.gateway.loads(10.0)
    assert load.failed == 0
    assert 0 <= load.inflight < 5
