"""What an edge makes of its attempts when a drill's fault filter strikes them, on real sockets."""

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest
from prometheus_client import CollectorRegistry

from edge_router.adapters.fault_panel import routes
from edge_router.core.fault_filter import FaultFilter, FilterOrder
from shared.admin import serve_admin
from shared.clock import SystemClock
from shared.vocabulary.terms import Outcome
from tests.support.data_path import (
    DONE,
    END,
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


async def streams(conversation: Conversation) -> None:
    events = [delta(role=True), *(delta(word) for word in "abcdef"), delta(finish="stop"), DONE]
    await conversation.send(STREAM_HEAD, *(chunk(event) for event in events), END)


async def hangs(conversation: Conversation) -> None:
    """A stream that begins, and goes on no further than a drill lets through."""
    events = [delta(role=True), *(delta(word) for word in "abcdef")]
    await conversation.send(STREAM_HEAD, *(chunk(event) for event in events))
    await conversation.hang()


def put(edge: Edge, fault: str, *targets: str, for_s: float = 60.0, **how: Any) -> FaultFilter:
    faults = edge.gateway.fault_filter
    if faults is None:
        faults = edge.gateway.fault_filter = FaultFilter(random.Random(1).random)
    order = FilterOrder.model_validate({"fault": fault, "targets": targets, "for_s": for_s, **how})
    faults.put(f"f-{len(faults.in_force)}", order, edge.gateway.monotonic())
    return faults


def totals(edge: Edge, target: str) -> dict[Outcome, int]:
    return next(lane.totals for lane in edge.gateway.lanes() if lane.entry.id == target)


async def test_a_refused_attempt_moves_on_and_the_target_is_blamed() -> None:
    """The client gets its answer elsewhere; the lane, the passive window and ejection see REFUSED."""
    a, b = Target(), Target()
    async with serving({"a": a, "b": b}) as edge:
        put(edge, "refuse", "a")
        answers = [await edge.ask() for _ in range(12)]
        assert [answer.status for answer in answers] == [200] * 12
        assert {answer.fields["x-leeward-target"] for answer in answers} == {"b"}
        assert answers[0].fields["x-leeward-attempts"] == "2"
        assert "connection_refused" in answers[0].fields["proxy-status"]
        assert answers[-1].fields["x-leeward-attempts"] == "1"  # by then it is ejected
        assert totals(edge, "a")[Outcome.REFUSED] == edge.metric(
            "leeward_edge_fault_filter_attempts_total", fault="refuse"
        )
        window = next(window for window in edge.gateway.passive(10.0) if window.target == "a")
        assert (window.admission, Outcome.REFUSED in window.counts) == ("EJECTED", True)
        assert not a.seen


@pytest.mark.parametrize(
    ("fault", "how", "outcome"),
    [("errors", {"status": 500}, Outcome.FAILED), ("throttle", {"retry_after_s": 30}, Outcome.THROTTLED)],
)
async def test_an_answer_in_the_targets_place(fault: str, how: dict[str, Any], outcome: Outcome) -> None:
    """It moves on as a real one would; where nobody else is, the client sees who gave it."""
    a, b = Target(), Target()
    async with serving({"a": a, "b": b}) as edge:
        put(edge, fault, "a", **how)
        assert (await edge.ask()).fields["x-leeward-target"] == "b"
        assert totals(edge, "a") == {outcome: 1}
        lane = next(lane for lane in edge.gateway.lanes() if lane.entry.id == "a")
        assert (lane.cool_until > edge.gateway.monotonic() + 20) is (fault == "throttle")
        assert not a.seen
    async with serving({"a": Target()}) as edge:
        put(edge, fault, "a", **how)
        got = await edge.ask()
        assert got.status == how.get("status", 429)
        assert b"fault filter" in got.body


async def test_latency_is_the_targets() -> None:
    """The answer comes late and whole, and the target is measured by it; a timeout is the target's."""
    async with serving({"a": Target()}) as edge:
        put(edge, "latency", "a", ms=300)
        began = time.monotonic()
        got = await edge.ask()
        assert got.status == 200
        assert time.monotonic() - began >= 0.3
        window = edge.gateway.passive(10.0)[0]
        assert window.latency_ms_p50 is not None
        assert window.latency_ms_p50 >= 250
    async with serving({"a": Target(), "b": Target()}, World(timeouts={"first_byte_s": 0.2})) as edge:
        put(edge, "latency", "a", ms=5_000)
        assert (await edge.ask()).fields["x-leeward-target"] == "b"
        assert totals(edge, "a") == {Outcome.TIMED_OUT: 1}


async def test_a_slow_first_token_moves_a_stream_on() -> None:
    """The head comes at once, the first event after the wait; beyond the route's TTFT it is another target's."""
    a, b = Target(streams), Target(streams)
    async with serving({"a": a, "b": b}, World(timeouts={"ttft_s": 0.5})) as edge:
        faults = put(edge, "slow_ttft", "a", ms=200)
        began = time.monotonic()
        got = await edge.ask(STREAM)
        assert (got.fields["x-leeward-target"], got.clean) == ("a", True)
        assert time.monotonic() - began >= 0.2
        faults.put(
            "f-0",
            FilterOrder(fault="slow_ttft", targets=("a",), ms=5_000, for_s=60),
            edge.gateway.monotonic(),
        )
        assert (await edge.ask(STREAM)).fields["x-leeward-target"] == "b"
        await until(lambda: totals(edge, "a") == {Outcome.TIMED_OUT: 1})


@pytest.mark.parametrize("fault", ["cut", "stall"])
async def test_a_stream_that_stops_is_never_ended_cleanly(fault: str) -> None:
    """What was let through is there, then an error in-band; the target's own connection is given up."""
    a = Target(hangs)
    async with serving({"a": a}, World(timeouts={"idle_s": 0.3})) as edge:
        put(edge, fault, "a", after_events=3)
        got = await edge.ask(STREAM)
        assert not got.clean
        assert all(delta(word) in got.body for word in "abc")
        assert delta("d") not in got.body
        assert b'"error"' in got.body
        assert sum(totals(edge, "a").values()) == 1
        await until(lambda: a.open == 0)


@pytest.mark.parametrize("fault", ["cut", "stall"])
async def test_an_answer_in_one_piece_that_stops_moves_on(fault: str) -> None:
    """Nothing of it has gone out, so another target answers."""
    async with serving({"a": Target(), "b": Target()}, World(timeouts={"idle_s": 0.3})) as edge:
        put(edge, fault, "a")
        got = await edge.ask()
        assert (got.status, got.fields["x-leeward-target"]) == (200, "b")


async def test_a_client_that_leaves_ends_a_struck_attempt() -> None:
    """Nothing is left under way (`serving` looks), and the target is not blamed."""
    a = Target(hangs)
    async with serving({"a": a}) as edge:
        put(edge, "latency", "a", ms=60_000)
        async with edge.client() as client:
            client.write(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer dev\r\n")
            client.write(b"content-length: %d\r\n\r\n%b" % (len(STREAM), STREAM))
            await until(lambda: bool(a.seen))
        await until(lambda: not edge.gateway.exchanges)
        assert totals(edge, "a") == {}
        await until(lambda: a.open == 0)


async def test_a_late_answer_does_not_take_another_request_along() -> None:
    """The connection is back in the pool while its answer waits: a client that leaves then must not break
    the request that uses it by now."""
    asked = asyncio.Event()

    async def slow(conversation: Conversation) -> None:
        asked.set()
        await asyncio.sleep(0.3)
        await conversation.send(answer())

    a = Target()
    async with serving({"a": a}) as edge:
        faults = put(edge, "latency", "a", ms=60_000)
        async with edge.client() as leaving, edge.client() as staying:
            leaving.write(request())
            await until(lambda: bool(a.seen))
            await until(lambda: len(next(iter(edge.gateway.lanes())).pool._idle) == 1)
            faults.drop("f-0", edge.gateway.monotonic())
            a.act = slow
            staying.write(request())
            await asked.wait()
            leaving.writer.transport.abort()
            assert (await staying.read()).status == 200
        assert a.connections == 1


async def test_a_share_of_the_attempts_and_no_other_target() -> None:
    """Half of them at the one, none at the other."""
    async with serving({"a": Target(), "b": Target()}, World(tiers=[["a", "b"]])) as edge:
        faults = put(edge, "latency", "a", ms=1, share_permille=500)
        answers = [await edge.ask() for _ in range(60)]
        to_a = sum(answer.fields["x-leeward-target"] == "a" for answer in answers)
        assert 0 < faults.struck["latency"] < to_a
        assert {answer.status for answer in answers} == {200}


# ---------------------------------------------------------------- the admin listener


@asynccontextmanager
async def panel(faults: FaultFilter | None) -> AsyncIterator[httpx2.AsyncClient]:
    server = await serve_admin(
        "127.0.0.1:0",
        registry=CollectorRegistry(),
        ready=lambda: None,
        status=dict,
        more=None if faults is None else routes(faults, clock=SystemClock()),
    )
    async with httpx2.AsyncClient(base_url=server.url, trust_env=False) as client:
        yield client
    await server.close()


async def test_a_fault_by_the_admin_listener_ends_though_nobody_says_so() -> None:
    """Put, shown, renewed, undone; and gone when whoever put it is."""
    async with serving({"a": Target(), "b": Target()}) as edge:
        faults = edge.gateway.fault_filter = FaultFilter(random.Random(1).random)
        async with panel(faults) as client:
            order = {"fault": "errors", "targets": ["a"], "for_s": 0.5}
            assert (await client.put("/faults/d-1", json=order)).status_code == 201
            assert (await client.put("/faults/d-1", json=order)).status_code == 200
            assert (await client.get("/faults")).json()["faults"][0]["id"] == "d-1"
            assert (await edge.ask()).fields["x-leeward-target"] == "b"
            assert (await client.delete("/faults/d-1")).status_code == 200
            assert (await client.delete("/faults/d-1")).status_code == 404
            assert (await client.put("/faults/d-1", json=order)).status_code == 201
        await until(lambda: not faults.in_force)
        assert edge.metric("leeward_edge_fault_filter_faults") == 0


async def test_a_page_or_a_mistake_puts_nothing() -> None:
    """400 names the field, 403 a web page; without the filter there is no such path."""
    faults = FaultFilter(random.Random(1).random)
    async with panel(faults) as client:
        order = {"fault": "errors", "targets": ["a"], "for_s": 5}
        wrong = await client.put("/faults/d-1", json={**order, "for_s": 999})
        assert (wrong.status_code, wrong.json()["errors"][0]["field"]) == (400, "for_s")
        assert (await client.put("/faults/d-1", content=b"{")).status_code == 400
        assert (await client.put("/faults/D-1", json=order)).status_code == 400
        page = await client.put("/faults/d-1", json=order, headers={"origin": "http://evil.example"})
        assert page.status_code == 403
        assert not faults.in_force
    async with panel(None) as client:
        assert (await client.put("/faults/d-1", json=order)).status_code == 404
