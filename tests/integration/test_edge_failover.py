"""Failing over before the first byte: each way a target can fail, on real sockets (FAULTS rows 18, 19, 21, 22)."""

import asyncio
import itertools
import socket
import time
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from shared.vocabulary.terms import Outcome
from tests.support.data_path import (
    CALL,
    COMPLETION,
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


async def _reset(talk: Conversation) -> None:
    talk.reset()


async def _close(talk: Conversation) -> None:
    talk.close()


async def _hang(talk: Conversation) -> None:
    await talk.hang()


async def _cut_head(talk: Conversation) -> None:
    await talk.send(b"HTTP/1.1 200 OK\r\ncontent-ty")
    talk.close()


async def _cut_body(talk: Conversation) -> None:
    await talk.send(answer()[:-10])
    talk.close()


async def _cut_chunked(talk: Conversation) -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
    await talk.send(head + chunk(COMPLETION[:40]))
    talk.close()


async def _drip(talk: Conversation) -> None:
    for byte in answer():
        await talk.send(bytes([byte]), pause_s=0.2)


BAD: dict[str, tuple[Callable[[Conversation], Awaitable[None]] | bytes, Outcome]] = {
    "reset": (_reset, Outcome.FAILED),
    "closed": (_close, Outcome.FAILED),
    "500": (answer(b"{}", status="500 Internal Server Error"), Outcome.FAILED),
    "502": (answer(b"{}", status="502 Bad Gateway"), Outcome.FAILED),
    "503": (answer(b"{}", status="503 Service Unavailable"), Outcome.FAILED),
    "408": (answer(b"{}", status="408 Request Timeout"), Outcome.FAILED),
    "503 that says until when": (
        answer(b"{}", status="503 Service Unavailable", fields="retry-after: 1\r\n"),
        Outcome.THROTTLED,
    ),
    "529": (answer(b"{}", status="529 Overloaded"), Outcome.THROTTLED),
    "429": (answer(b"{}", status="429 Too Many Requests", fields="retry-after: 1\r\n"), Outcome.THROTTLED),
    "401": (answer(b'{"error":"sk-secret"}', status="401 Unauthorized"), Outcome.FAILED),
    "403": (answer(b"{}", status="403 Forbidden"), Outcome.FAILED),
    "head cut off": (_cut_head, Outcome.FAILED),
    "body cut off": (_cut_body, Outcome.GARBLED),
    "chunked body cut off": (_cut_chunked, Outcome.GARBLED),
}


@pytest.mark.parametrize("name", BAD)
async def test_a_target_that_fails_is_replaced_within_the_request(name: str) -> None:
    """The client sees one good answer, and the headers say that it took two attempts."""
    act, outcome = BAD[name]
    bad, good = Target(act), Target()
    async with serving({"bad": bad, "good": good}) as edge:
        got = await edge.ask()
        assert (got.status, got.body, got.clean) == (200, COMPLETION, True)
        assert (got.fields["x-leeward-target"], got.fields["x-leeward-tier"]) == ("good", "2")
        assert got.fields["x-leeward-attempts"] == "2"
        assert 'next-hop="bad"' in got.fields["proxy-status"]
        assert edge.metric("leeward_edge_attempts_total", target="bad", outcome=outcome.value) == 1
        assert edge.metric("leeward_edge_failovers_total", route="chat") == 1
        windows = {window.target: window for window in edge.gateway.passive(10)}
    assert windows["bad"].counts == {outcome: 1}
    assert windows["good"].counts == {Outcome.OK: 1}


async def test_a_target_that_refuses_is_replaced_and_not_asked_again() -> None:
    """Nobody listening ejects at the third time: the next request does not even try. None of them fails."""
    bad, good = Target(), Target()
    async with serving({"bad": bad, "good": good}) as edge:
        await bad.stop()
        attempts = [(await edge.ask()).fields["x-leeward-attempts"] for _ in range(5)]
        windows = {window.target: window for window in edge.gateway.passive(10)}
    assert attempts == ["2", "2", "2", "1", "1"]
    assert windows["bad"].admission == "EJECTED"
    assert windows["bad"].counts == {Outcome.REFUSED: 3}


async def test_an_ejected_target_is_tried_by_one_request_and_comes_back() -> None:
    """After the bench one trial at a time is sent; when it is good, the target takes its part again."""
    bad, good = Target(), Target()
    async with serving({"bad": bad, "good": good}) as edge:
        await bad.stop()
        assert {(await edge.ask()).fields["x-leeward-target"] for _ in range(3)} == {"good"}
        slow = asyncio.Event()

        async def wait(talk: Conversation) -> None:
            await slow.wait()
            await talk.send(answer())

        bad.act = wait
        await bad.start()
        await asyncio.sleep(1.1)
        trial = asyncio.ensure_future(edge.ask())
        await until(lambda: len(bad.seen) == 1)
        assert {(await edge.ask()).fields["x-leeward-target"] for _ in range(5)} == {"good"}
        slow.set()
        assert (await trial).fields["x-leeward-target"] == "bad"
        assert (await edge.ask()).fields["x-leeward-target"] == "bad"


async def test_a_target_silent_about_a_whole_answer_is_left_too() -> None:
    """An answer that is not streamed and does not begin in `first_byte_s` is asked for elsewhere."""
    bad, good = Target(_hang), Target()
    async with serving({"bad": bad, "good": good}, World(timeouts={"first_byte_s": 0.3})) as edge:
        answered = await edge.ask(CALL)
    assert (answered.status, answered.fields["x-leeward-target"]) == (200, "good")
    assert answered.fields["x-leeward-attempts"] == "2"


async def test_a_silent_target_is_left_when_its_time_is_up() -> None:
    """A stream whose first byte does not come in `ttft_s` is asked for elsewhere; the silent target once only."""

    async def stream(talk: Conversation) -> None:
        await talk.send(
            STREAM_HEAD,
            chunk(delta("hi")),
            chunk(delta(finish="stop")),
            chunk(b"data: [DONE]\n\n"),
            b"0\r\n\r\n",
        )

    bad, good = Target(_hang), Target(stream)
    async with serving({"bad": bad, "good": good}, World(timeouts={"ttft_s": 0.3})) as edge:
        began = time.monotonic()
        got = await edge.ask(STREAM)
        assert 0.3 <= time.monotonic() - began < 1.0
        assert (got.status, got.fields["x-leeward-target"], got.clean) == (200, "good", True)
        assert edge.metric("leeward_edge_attempts_total", target="bad", outcome="TIMED_OUT") == 1
        await until(lambda: bad.open == 0)
    assert len(bad.seen) == 1


async def test_a_target_that_accepts_nothing_is_left_after_the_connect_timeout() -> None:
    """A full backlog looks like a host that is gone: `connect_s` and no longer."""
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        fillers = []
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(deaf.getsockname())
            fillers.append(filler)
        bad, good = Target(), Target()
        async with serving({"bad": bad, "good": good}, World(timeouts={"connect_s": 0.3})) as edge:
            await bad.stop()
            _point(edge, "bad", deaf.getsockname()[1])
            began = time.monotonic()
            got = await edge.ask()
            assert 0.25 <= time.monotonic() - began < 1.0
            assert got.fields["x-leeward-target"] == "good"
            assert edge.metric("leeward_edge_attempts_total", target="bad", outcome="TIMED_OUT") == 1
        for filler in fillers:
            filler.close()


def _point(edge: object, target: str, port: int) -> None:
    """Let `target` stand elsewhere, by a new table."""
    from edge_router.core.table import build_table
    from shared.vocabulary.base import NO_VERSION
    from shared.vocabulary.config import FleetConfig

    config = edge.config.model_dump(mode="json")  # type: ignore[attr-defined]
    for entry in config["fleet"]["targets"]:
        if entry["id"] == target:
            entry["url"] = f"http://127.0.0.1:{port}/v1"
    table = build_table(FleetConfig.model_validate(config), {}, NO_VERSION, region="us-east")
    edge.gateway.swap(table)  # type: ignore[attr-defined]


async def test_a_dripping_target_is_left_at_the_total_deadline() -> None:
    """The whole request has `total_s`, whoever drips."""
    async with serving({"bad": Target(_drip)}, World(timeouts={"total_s": 1.0, "ttft_s": 1.0})) as edge:
        got = await edge.ask()
        assert got.status == 504
        assert "http_response_timeout" in got.fields["proxy-status"]


async def test_the_clients_own_deadline_wins() -> None:
    """`x-leeward-timeout-ms` caps the whole, whatever the route allows."""
    async with serving({"bad": Target(_hang), "other": Target(_hang)}) as edge:
        began = time.monotonic()
        got = await edge.ask(fields="x-leeward-timeout-ms: 300\r\n")
        assert time.monotonic() - began < 1.0
        assert got.status == 504


async def test_a_stale_connection_is_retried_on_the_same_target() -> None:
    """A kept connection that the target closed as we wrote is no failure: the request is sent again, uncounted."""
    target = Target()
    async with serving({"alpha": target, "beta": Target()}) as edge, edge.client() as client:
        assert (await client.ask()).status == 200

        async def close_once(talk: Conversation) -> None:
            target.act = answer()
            talk.close()

        target.act = close_once
        got = await client.ask()
        assert (got.status, got.fields["x-leeward-target"], got.fields["x-leeward-attempts"]) == (
            200,
            "alpha",
            "1",
        )
        assert edge.metric("leeward_edge_attempts_total", target="alpha", outcome="OK") == 2
    assert target.connections == 2


@pytest.mark.parametrize(
    "status", ["400 Bad Request", "404 Not Found", "413 Content Too Large", "422 Unprocessable Content"]
)
async def test_a_clients_own_fault_goes_back_untouched(status: str) -> None:
    """It would be the same everywhere; it counts neither for nor against the target."""
    body = b'{"error":{"message":"your fault","code":"context_length_exceeded"}}'
    first, second = Target(answer(body, status=status)), Target()
    async with serving({"first": first, "second": second}) as edge:
        got = await edge.ask()
        assert (got.status, got.body) == (int(status[:3]), body)
        assert got.fields["x-leeward-attempts"] == "1"
        assert edge.gateway.passive(10) == ()
    assert second.seen == []


async def test_a_refused_credential_is_the_edges_fault_not_the_clients() -> None:
    """A target's 401 reaches no client: it is about the edge's credential, and may quote it."""
    async with serving(
        {"only": Target(answer(b'{"error":"Incorrect API key sk-12"}', status="401 Unauthorized"))}
    ) as edge:
        got = await edge.ask()
    assert got.status == 502
    assert b"sk-12" not in got.body
    assert "upstream_credential_refused" in got.fields["proxy-status"]


async def test_a_429_cools_the_target_for_as_long_as_it_said() -> None:
    """It is spared until then, by all requests, and comes back by itself."""
    limited = Target(answer(b"{}", status="429 Too Many Requests", fields="retry-after-ms: 700\r\n"))
    async with serving({"limited": limited, "other": Target()}) as edge:
        first = await edge.ask()
        assert (first.status, first.fields["x-leeward-attempts"]) == (200, "2")
        limited.act = answer()
        assert {(await edge.ask()).fields["x-leeward-target"] for _ in range(5)} == {"other"}
        window = next(window for window in edge.gateway.passive(10) if window.target == "limited")
        assert 0.0 < window.cooling_s <= 0.7
        assert window.admission == "ADMITTING"
        await asyncio.sleep(0.8)
        assert (await edge.ask()).fields["x-leeward-target"] == "limited"


async def test_when_all_cool_one_is_still_asked_and_its_429_handed_on() -> None:
    """A last resort, once: attempts per request stay near one in a storm of 429."""
    storm = answer(
        b'{"error":{"code":"rate_limit"}}', status="429 Too Many Requests", fields="retry-after: 5\r\n"
    )
    targets = {"a": Target(storm), "b": Target(storm), "c": Target(storm)}
    async with serving(targets) as edge:
        got = [await edge.ask() for _ in range(30)]
        assert {answer.status for answer in got} == {429}
        assert {answer.fields["retry-after"] for answer in got} == {"5"}
        sent = sum(len(target.seen) for target in targets.values())
    assert sent / 30 <= 1.2


async def test_a_5xx_is_handed_on_when_nobody_else_can_answer() -> None:
    """A lone one is asked for once more on the same target; then its own words tell more than ours."""
    body = b'{"error":{"message":"database on fire"}}'
    async with serving({"only": Target(answer(body, status="500 Internal Server Error"))}) as edge:
        got = await edge.ask()
    assert (got.status, got.body, got.fields["x-leeward-attempts"]) == (500, body, "2")


async def test_a_lone_accident_is_repaired_on_the_only_target() -> None:
    """One reset, and the next try is good: the client does not notice."""
    target = Target()

    async def reset_once(talk: Conversation) -> None:
        target.act = answer()
        talk.reset()

    target.act = reset_once
    async with serving({"only": target}) as edge:
        got = await edge.ask()
    assert (got.status, got.fields["x-leeward-attempts"]) == (200, "2")


async def test_three_attempts_at_most() -> None:
    """Five targets fail; the client waits for three."""
    targets = {name: Target(_reset) for name in "abcde"}
    async with serving(targets) as edge:
        got = await edge.ask()
        assert (got.status, got.fields["x-leeward-attempts"]) == (502, "3")
    assert sum(len(target.seen) for target in targets.values()) == 3


async def test_further_moves_come_out_of_a_budget() -> None:
    """When every target fails, many requests at once do not become three times as many: each has its free
    move, and beyond these a fifth of those under way."""
    arrived = itertools.count(1)
    waves = [asyncio.Event(), asyncio.Event()]

    async def fail(talk: Conversation) -> None:
        # Everybody's first attempt fails at one moment, and everybody's second: so all ask the budget at once.
        number = next(arrived)
        if number % 100 == 0 and number <= 200:
            waves[number // 100 - 1].set()
        if number <= 200:
            await waves[(number - 1) // 100].wait()
        else:
            await asyncio.sleep(0.5)
        await talk.send(answer(b"{}", status="500 Internal Server Error"))

    targets = {name: Target(fail) for name in "abcd"}
    async with serving(targets, World(tiers=[list("abcd")])) as edge:
        await asyncio.gather(*(edge.ask() for _ in range(100)))
        sent = sum(len(target.seen) for target in targets.values())
        assert edge.gateway.figures.budget_spent > 0
    assert 200 < sent <= 220


async def test_all_down_is_said_at_once_and_the_ejected_are_still_tried() -> None:
    """With everything ejected a request still tries one target rather than none, and heals when it can."""
    a, b = Target(), Target()
    async with serving({"a": a, "b": b}) as edge:
        await a.stop()
        await b.stop()
        assert (await edge.ask()).status == 502
        assert (await edge.ask()).fields["x-leeward-attempts"] == "2"
        await b.start()
        assert {(await edge.ask()).fields["x-leeward-target"] for _ in range(5)} == {"b"}


async def test_capacity_bounds_what_a_target_is_sent() -> None:
    """A full target is passed over; when all are full the client is told to come again."""

    async def slow(talk: Conversation) -> None:
        await asyncio.sleep(0.5)
        await talk.send(answer())

    a, b = Target(slow), Target(slow)
    async with serving({"a": a, "b": b}, World(target={"capacity_inflight": 2})) as edge:
        got = await asyncio.gather(*(edge.ask() for _ in range(7)))
    assert sorted(answer.status for answer in got) == [200] * 4 + [503] * 3
    assert {answer.fields.get("retry-after") for answer in got if answer.status == 503} == {"1"}
    assert len(a.seen) == len(b.seen) == 2


async def test_a_body_too_large_to_keep_has_one_attempt() -> None:
    """Over 4 MiB a request is not sent twice; unsent it may still move."""
    body = CALL[:-1] + b',"x":"%b"}' % (b"x" * (5 * 1024 * 1024))
    bad, good = Target(_reset), Target()
    async with serving({"bad": bad, "good": good}) as edge:
        assert (await edge.ask(body)).status == 502
        await bad.stop()
        edge.gateway.lane(edge.gateway.table.targets["bad"]).admission = type(
            edge.gateway.lane(edge.gateway.table.targets["bad"]).admission
        )()
        assert (await edge.ask(body)).fields["x-leeward-target"] == "good"
    assert len(good.seen) == 1


@pytest.mark.parametrize(
    ("method", "moves"), [("GET", True), ("PUT", True), ("DELETE", True), ("POST", False), ("PATCH", False)]
)
async def test_plain_requests_move_only_when_their_method_is_idempotent(method: str, moves: bool) -> None:
    """RFC 9110, section 9.2.2; an Idempotency-Key makes any method movable."""
    bad, good = Target(_reset), Target(answer(b"ok", kind="text/plain"))
    async with serving({"bad": bad, "good": good}, World(dialect="http", paths=("/",))) as edge:
        body = b"" if method in ("GET", "DELETE") else b"x"
        got = await edge.ask(body, method=method, path="/thing")
        keyed = await edge.ask(body, method=method, path="/thing", fields="idempotency-key: 1\r\n")
    assert (got.status == 200) is moves
    assert keyed.status == 200


async def test_what_is_bound_to_a_providers_state_stays() -> None:
    """A request that continues a stored response is not sent elsewhere once it was sent."""
    bad, good = Target(_reset), Target(answer(b'{"id":"r","output":[]}'))
    async with serving({"bad": bad, "good": good}) as edge:
        bound = b'{"model":"chat","previous_response_id":"resp_1","input":"x"}'
        assert (await edge.ask(bound, path="/v1/responses")).status == 502
        free = b'{"model":"chat","previous_response_id":null,"input":"x"}'
        assert (await edge.ask(free, path="/v1/responses")).status == 200


@asynccontextmanager
async def _leaving_client(edge: object):  # type: ignore[no-untyped-def]
    async with edge.client() as client:  # type: ignore[attr-defined]
        yield client


async def test_a_client_that_leaves_stops_the_targets_work_at_once() -> None:
    """Within 100 ms of the disconnect the target's connection is gone, waiting or streaming."""

    async def stream(talk: Conversation) -> None:
        await talk.send(STREAM_HEAD)
        while True:
            await talk.send(chunk(delta("x")), pause_s=0.01)

    for act, body in ((_hang, CALL), (stream, STREAM)):
        target = Target(act)
        async with serving({"alpha": target}) as edge:
            async with edge.client() as client:
                client.write(request(body))
                await until(lambda target=target: len(target.seen) == 1)
                if body is STREAM:
                    await client.reader.readuntil(
                        b"[",
                    )
                target.gone.clear()
                left = time.monotonic()
            await asyncio.wait_for(target.gone.wait(), 5)
            assert time.monotonic() - left < 0.1
            await until(lambda edge=edge: not edge.gateway.exchanges)
            # It says nothing about the target.
            assert all(not window.counts for window in edge.gateway.passive(10))


async def test_the_excluded_and_those_elsewhere_are_never_asked() -> None:
    """Residency holds even when everything permitted is dead."""
    from edge_router.core.table import build_table
    from shared.vocabulary.base import NO_VERSION
    from shared.vocabulary.config import FleetConfig

    home, abroad = Target(_reset), Target()
    async with serving({"home": home, "abroad": abroad}, World(regions={"abroad": "eu-west"})) as edge:
        config = edge.config.model_dump(mode="json")
        config["fleet"]["routes"][0]["residency"] = ["us-east"]
        edge.gateway.swap(build_table(FleetConfig.model_validate(config), {}, NO_VERSION, region="us-east"))
        assert (await edge.ask()).status == 502
    assert abroad.seen == []
