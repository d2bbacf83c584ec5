"""DESIGN, section 5, "Serving": a test for each sentence that has none elsewhere (docs/FAILOVER.md has the whole table).

sentence                                        tested in
"connect 2 s", "TTFT 20 s streamed",            test_edge_failover: accepts_nothing, silent_target_is_left,
"unstreamed first byte = total", "total 600 s"  silent_about_a_whole_answer, dripping_target
"the client's remaining budget wins"            test_edge_failover: clients_own_deadline; here: how it is told
"Role-only events ... do not count"             test_edge_streams: before_anything_of_substance, other_dialects
"not yet sent may always move"                  test_edge_failover: body_too_large, plain_requests_move_only
"sent may move when stateless ... or            test_edge_failover: target_that_fails_is_replaced,
carries an Idempotency-Key", "plain HTTP"       plain_requests_move_only
"bound to one provider's state stay"            test_edge_failover: bound_to_a_providers_state
"first move ... always allowed", "budget"       test_edge_failover: further_moves, capacity_bounds
"at most 3 in all"                              test_edge_failover: three_attempts
"kept for replay up to 4 MiB"                   test_edge_failover: body_too_large
"Local ejection"                                test_edge_failover: refuses, ejected_target; test_edge_admission
"cut, stalls, malformed", "finish reason"       test_edge_streams
"A client that goes away"                       test_edge_failover: client_that_leaves
"Same-dialect bodies are spliced"               test_edge_serving: only_the_value_of_model
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from edge_router.core.attempts import AGAIN_LEAST_S, AGAIN_MOST_S
from edge_router.core.choose import Readiness
from tests.support.data_path import (
    CALL,
    COMPLETION,
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

SWEEP_S = 0.05


async def _hang(talk: Conversation) -> None:
    await talk.hang()


async def _stream(talk: Conversation) -> None:
    await talk.send(STREAM_HEAD, chunk(delta("hi") + delta(finish="stop") + DONE), END)


def error(status: str, fields: str = "", **inner: Any) -> bytes:
    """An error in OpenAI's envelope."""
    return answer(json.dumps({"error": inner}).encode(), status=status, fields=fields)


def lane(edge: Edge, name: str):  # type: ignore[no-untyped-def]
    return edge.gateway.lane(edge.gateway.table.targets[name])


# ---------------------------------------------------------------- deadlines


async def test_ttft_is_never_below_twice_the_targets_own_p99() -> None:
    """ "TTFT 20 s streamed ..., never below twice the target's own p99": who takes 0.3 s as a rule is not called
    late at 0.2 s."""

    async def slow(talk: Conversation) -> None:
        await asyncio.sleep(0.3)
        await _stream(talk)

    usual = Target(slow)
    async with serving({"slow": usual, "other": Target(_stream)}, World(timeouts={"ttft_s": 0.2})) as edge:
        first = await edge.ask(STREAM)
        assert (first.fields["x-leeward-target"], first.fields["x-leeward-attempts"]) == ("other", "2")
        # What it usually takes is known from when its deadline was longer.
        now = edge.gateway.monotonic()
        lane(edge, "slow").window.add_stream(400.0, 300.0, now)
        lane(edge, "slow").refresh(now)
        got = await edge.ask(STREAM)
        assert (got.fields["x-leeward-target"], got.fields["x-leeward-attempts"]) == ("slow", "1")


async def test_a_reasoning_target_has_its_own_times() -> None:
    """ "(300 s where the target is `reasoning`)", "idle between chunks 60 s (300 s reasoning)"."""

    async def thinks(talk: Conversation) -> None:
        await asyncio.sleep(0.5)
        await talk.send(STREAM_HEAD, chunk(delta("so")))
        await asyncio.sleep(0.5)
        await talk.send(chunk(delta(finish="stop") + DONE), END)

    times = {"ttft_s": 0.2, "idle_s": 0.2, "ttft_reasoning_s": 3.0, "idle_reasoning_s": 3.0}
    thinker = {"only": {"capabilities": ["stream", "reasoning"]}}
    async with serving({"only": Target(thinks)}, World(timeouts=times, each=thinker)) as edge:
        got = await edge.ask(STREAM)
        assert (got.status, got.clean) == (200, True)
    async with serving({"only": Target(thinks)}, World(timeouts=times)) as edge:
        assert (await edge.ask(STREAM)).status == 504


@pytest.mark.parametrize(
    "fields", ["x-leeward-timeout-ms: 300\r\n", "x-envoy-expected-rq-timeout-ms: 300\r\n"]
)
async def test_the_clients_remaining_budget_wins(fields: str) -> None:
    """ "The client's remaining budget wins": over a stream that goes on, too; and the target is told what is left."""

    async def forever(talk: Conversation) -> None:
        await talk.send(STREAM_HEAD)
        while True:
            await talk.send(chunk(delta("x")), pause_s=0.02)

    target = Target(forever)
    async with serving({"only": target}) as edge:
        began = time.monotonic()
        got = await edge.ask(STREAM, fields=fields)
        assert time.monotonic() - began < 1.0
        assert not got.clean
        assert b'data: {"error"' in got.body
    assert 0 < int(target.seen[0].fields["x-leeward-timeout-ms"]) <= 300


async def test_each_attempt_is_told_what_is_left_of_the_budget() -> None:
    """A target that is an edge itself does not begin what nobody waits for any more; others get no such field."""
    bad, good = Target(_hang), Target()
    async with serving({"bad": bad, "good": good}, World(timeouts={"first_byte_s": 0.3})) as edge:
        # How long the client waits for a beginning is not how long the answer may take.
        told = "x-leeward-timeout-ms: 2000\r\nx-stainless-read-timeout: 1\r\n"
        assert (await edge.ask(fields=told)).status == 200
        assert (await edge.ask()).status == 200
    left = [int(seen.fields["x-leeward-timeout-ms"]) for seen in (bad.seen[0], good.seen[0])]
    assert 1900 <= left[0] <= 2000
    assert left[0] - left[1] >= 290
    assert "x-leeward-timeout-ms" not in good.seen[1].fields


@pytest.mark.parametrize("field", ["x-stainless-read-timeout: 0.3\r\n", "x-stainless-timeout: 0.3\r\n"])
async def test_who_has_stopped_waiting_is_not_waited_for(field: str) -> None:
    """What an SDK says of its own timeout holds until the answer begins, and no longer."""

    async def slow(talk: Conversation) -> None:
        await talk.send(STREAM_HEAD, chunk(delta("hi")))
        await asyncio.sleep(0.6)
        await talk.send(chunk(delta(finish="stop") + DONE), END)

    async with serving({"only": Target(_hang)}) as edge:
        began = time.monotonic()
        assert (await edge.ask(fields=field)).status == 504
        assert time.monotonic() - began < 1.0
    async with serving({"only": Target(slow)}) as edge:
        got = await edge.ask(STREAM, fields=field)
        assert (got.status, got.clean) == (200, True)


# ---------------------------------------------------------------- counted as possibly billed


async def test_what_was_sent_and_not_answered_is_counted_as_possibly_billed() -> None:
    """ "Counted as possibly billed: `x-leeward-attempts`, per-target cost counter": who was sent the request and
    was left, not who refused the connection, nor who said that it does not take it."""

    async def cut(talk: Conversation) -> None:
        talk.close()

    targets = {"refuses": Target(), "cuts": Target(cut), "good": Target()}
    async with serving(targets, World(tiers=[["refuses"], ["cuts"], ["good"]])) as edge:
        await targets["refuses"].stop()
        got = await edge.ask()
        assert (got.fields["x-leeward-target"], got.fields["x-leeward-attempts"]) == ("good", "3")
        billed = {name: edge.metric("leeward_edge_possibly_billed_total", target=name) for name in targets}
    assert billed == {"refuses": 0, "cuts": 1, "good": 0}


# ---------------------------------------------------------------- the same target once more


async def test_a_lone_5xx_is_asked_once_more_after_a_jittered_pause() -> None:
    """ "A lone 5xx or reset may be retried once on the same target": not at once, not in step, and within 0.2 s."""
    at: list[float] = []

    async def every_other(talk: Conversation) -> None:
        at.append(time.monotonic())
        bad = len(at) % 2 == 1
        await talk.send(answer(b"{}", status="500 Internal Server Error") if bad else answer())

    async with serving({"only": Target(every_other)}) as edge:
        got = [await edge.ask() for _ in range(16)]
    assert {(each.status, each.fields["x-leeward-attempts"]) for each in got} == {(200, "2")}
    pauses = [again - first for first, again in zip(at[::2], at[1::2], strict=True)]
    assert min(pauses) >= AGAIN_LEAST_S
    assert max(pauses) <= AGAIN_MOST_S + 2 * SWEEP_S + 0.1
    assert max(pauses) - min(pauses) > 0.05
    print(f"pause before the same target: {min(pauses) * 1000:.0f} to {max(pauses) * 1000:.0f} ms")


async def test_a_client_that_leaves_during_the_pause_ends_it() -> None:
    """Nothing is sent for somebody who is gone, and nothing remains."""
    only = Target(answer(b"{}", status="500 Internal Server Error"))
    async with serving({"only": only}) as edge:
        async with edge.client() as client:
            client.write(request())
            await until(lambda: len(only.seen) == 1 and lane(edge, "only").inflight == 0)
        await until(lambda: not edge.gateway.exchanges)
        await asyncio.sleep(AGAIN_MOST_S + 2 * SWEEP_S)
    assert len(only.seen) == 1


async def test_an_edge_that_goes_away_ends_the_pause_with_an_error() -> None:
    """Draining waits for nobody who waits."""
    only = Target(answer(b"{}", status="500 Internal Server Error"))
    async with serving({"only": only}) as edge, edge.client() as client:
        client.write(request())
        await until(lambda: len(only.seen) == 1 and lane(edge, "only").inflight == 0)
        await edge.gateway.drain(0.0)
        assert (await client.read()).status == 502
    assert len(only.seen) == 1


async def test_there_is_no_second_try_beyond_the_deadline() -> None:
    """The pause is bounded by what is left: where it would not fit, the answer that there is goes back."""
    only = Target(error("500 Internal Server Error", message="on fire"))
    async with serving({"only": only}) as edge:
        got = await edge.ask(fields="x-leeward-timeout-ms: 150\r\n")
    assert (got.status, got.fields["x-leeward-attempts"], b"on fire" in got.body) == (500, "1", True)


async def test_a_silent_target_is_not_asked_twice() -> None:
    """ "A silent target is not asked twice", though there is no other."""
    only = Target(_hang)
    async with serving({"only": only}, World(timeouts={"first_byte_s": 0.2})) as edge:
        got = await edge.ask()
    assert (got.status, len(only.seen)) == (504, 1)


# ---------------------------------------------------------------- 429


async def test_targets_of_one_account_cool_together() -> None:
    """ "429 cools (target, credential, model)": the same address, credential and model under two names is one
    limit; another model there is another."""
    limited = Target(error("429 Too Many Requests", "retry-after: 5\r\n"))
    async with serving({"one": limited, "other": Target()}) as edge:
        url = f"http://127.0.0.1:{limited.port}/v1"
        config = edge.config.model_dump(mode="json")
        entry = next(t for t in config["fleet"]["targets"] if t["id"] == "one")
        config["fleet"]["targets"] += [
            {**entry, "id": "twin", "url": url},
            {**entry, "id": "cousin", "url": url, "model": "another"},
        ]
        config["fleet"]["routes"][0]["tiers"] = [{"targets": [n]} for n in ("one", "twin", "cousin", "other")]
        _swap(edge, config)
        got = await edge.ask()
        assert got.fields["x-leeward-target"] == "other"
        assert [json.loads(seen.body)["model"] for seen in limited.seen] == ["m-one", "another"]
        now = edge.gateway.monotonic()
        assert {
            n for n in ("one", "twin", "cousin") if lane(edge, n).readiness(now) is Readiness.COOLING
        } == {
            "one",
            "twin",
            "cousin",
        }


def _swap(edge: Edge, config: dict[str, Any]) -> None:
    from edge_router.core.table import build_table
    from shared.vocabulary.base import NO_VERSION
    from shared.vocabulary.config import FleetConfig

    edge.gateway.swap(build_table(FleetConfig.model_validate(config), {}, NO_VERSION, region="us-east"))


@pytest.mark.parametrize("split", [False, True])
async def test_a_used_up_quota_is_ten_minutes_and_nobodys_riddle(split: bool) -> None:
    """ "`insufficient_quota` 10 min and an alarm": whatever Retry-After says, and also when the body comes late;
    when nobody else answers, the client is not told to check its plan."""
    body = b'{"error":{"message":"check your plan","type":"insufficient_quota","code":"insufficient_quota"}}'
    whole = answer(body, status="429 Too Many Requests", fields="retry-after: 1\r\n")

    async def late(talk: Conversation) -> None:
        await talk.send(whole[:-40])
        await asyncio.sleep(0.1)
        await talk.send(whole[-40:])

    async with serving({"poor": Target(late if split else whole), "rich": Target()}) as edge:
        got = await edge.ask()
        assert (got.status, got.fields["x-leeward-target"]) == (200, "rich")
        assert "upstream_quota_exhausted" in got.fields["proxy-status"]
        window = next(window for window in edge.gateway.passive(10) if window.target == "poor")
        assert window.quota_exhausted
        assert 590 < window.cooling_s <= 600
        assert edge.metric("leeward_edge_quota_exhausted", target="poor") == 1
        assert edge.gateway.turned.is_set()
    async with serving({"poor": Target(whole)}) as edge:
        got = await edge.ask()
        assert (got.status, b"check your plan" in got.body) == (502, False)


async def test_an_error_event_that_says_busy_cools_too() -> None:
    """In-band before the answer, a rate limit is as good as a 429."""

    async def busy(talk: Conversation) -> None:
        await talk.send(STREAM_HEAD, chunk(b'data: {"error":{"type":"rate_limit_error"}}\n\n'))
        await talk.hang()

    async with serving({"busy": Target(busy), "good": Target(_stream)}) as edge:
        assert (await edge.ask(STREAM)).fields["x-leeward-target"] == "good"
        assert lane(edge, "busy").readiness(edge.gateway.monotonic()) is Readiness.COOLING


@pytest.mark.parametrize(
    ("fields", "least", "most"),
    [
        ("retry-after: 999999999\r\n", 590.0, 600.0),
        ("retry-after: Fri, 31 Dec 9999 23:59:59 GMT\r\n", 590.0, 600.0),
        ("retry-after: -1\r\n", 0.5, 1.0),
        ("retry-after: 0\r\n", 0.3, 0.5),
        ("x-ratelimit-remaining-tokens: 0\r\nx-ratelimit-reset-tokens: 7m12s\r\n", 425.0, 432.0),
    ],
)
async def test_row_21_a_storm_of_429_costs_one_attempt_a_request(
    fields: str, least: float, most: float
) -> None:
    """FAULTS row 21, "429 storm, absurd Retry-After": cooled, clamped; attempts per request <= 1.2."""
    storm = error("429 Too Many Requests", fields, code="rate_limit_exceeded")
    targets = {name: Target(storm) for name in "abc"}
    requests = 300
    async with serving({**targets, "good": Target()}, World(tiers=[list("abc"), ["good"]])) as edge:
        got = []
        for _ in range(requests // 10):
            got += await asyncio.gather(*(edge.ask() for _ in range(10)))
        cooling = [lane(edge, name).cool_until - edge.gateway.monotonic() for name in "abc"]
        attempts = sum(len(target.seen) for target in targets.values()) + requests
        assert {each.status for each in got} == {200}
    print(
        f"row 21: {attempts / requests:.2f} attempts a request with {fields.strip()!r}, cooling {cooling[0]:.1f} s"
    )
    if least > 1.0:
        assert attempts / requests <= 1.2
    # Who says "at once" is asked again after half a second: never in a loop.
    assert all(seconds <= most for seconds in cooling)
    assert least <= 1.0 or min(cooling) >= least


async def test_row_21_with_nobody_else_each_request_asks_once() -> None:
    """The same with all targets of the route limited: a last resort is one attempt, and its 429 goes back."""
    storm = error("429 Too Many Requests", "retry-after: 99999\r\n", code="rate_limit_exceeded")
    targets = {name: Target(storm) for name in "abc"}
    async with serving(targets, World(tiers=[list("abc")])) as edge:
        got = [await edge.ask() for _ in range(100)]
    attempts = sum(len(target.seen) for target in targets.values())
    print(f"row 21: {attempts / 100:.2f} attempts a request when every target is limited")
    assert {each.status for each in got} == {429}
    assert attempts / 100 <= 1.2


# ---------------------------------------------------------------- errors about the request


LENGTHS = {
    "small": {"context_length": 8_000},
    "equal": {"context_length": 8_000},
    "unknown": {},
    "large": {"context_length": 128_000},
}
TOO_LONG = error("400 Bad Request", code="context_length_exceeded", message="too long")


@pytest.mark.parametrize("split", [False, True])
async def test_a_prompt_that_is_too_long_goes_only_to_a_longer_context(split: bool) -> None:
    """ "Context-length errors go only to a target with a longer context"; it is nobody's failure."""

    async def late(talk: Conversation) -> None:
        await talk.send(TOO_LONG[:-20])
        await asyncio.sleep(0.05)
        await talk.send(TOO_LONG[-20:])

    targets = {name: Target(late if split else TOO_LONG) for name in LENGTHS}
    targets["large"].act = answer()
    async with serving(targets, World(each=LENGTHS)) as edge:
        got = await edge.ask()
        assert (got.status, got.fields["x-leeward-target"], got.fields["x-leeward-attempts"]) == (
            200,
            "large",
            "2",
        )
        assert [len(targets[name].seen) for name in LENGTHS] == [1, 0, 0, 1]
        assert lane(edge, "small").totals == {}


async def test_after_a_prompt_was_too_long_no_shorter_context_is_asked_any_more() -> None:
    """The longer one failing, the request does not come back to those that cannot take it."""
    targets = {name: Target() for name in LENGTHS}
    targets["small"].act = TOO_LONG
    targets["large"].act = error("500 Internal Server Error", message="on fire")
    async with serving(targets, World(each=LENGTHS)) as edge:
        got = await edge.ask()
        assert (got.status, got.fields["x-leeward-attempts"]) == (500, "2")
    assert [len(targets[name].seen) for name in LENGTHS] == [1, 0, 0, 1]


@pytest.mark.parametrize("each", [{}, {"one": {"context_length": 9}}, {"two": {"context_length": 9}}])
async def test_a_prompt_too_long_for_all_goes_back_untouched(each: dict[str, Any]) -> None:
    """ "Otherwise back untouched": unknown counts as not longer, on either side."""
    one, two = Target(TOO_LONG), Target()
    async with serving({"one": one, "two": two}, World(each=each)) as edge:
        got = await edge.ask()
        assert (got.status, got.fields["x-leeward-attempts"]) == (400, "1")
        assert got.body == TOO_LONG.partition(b"\r\n\r\n")[2]
        assert edge.gateway.passive(10) == ()
    assert two.seen == []


@pytest.mark.parametrize(
    ("status", "inner"),
    [
        ("400 Bad Request", {"code": "content_policy_violation", "message": "no"}),
        (
            "400 Bad Request",
            {"code": "content_filter", "innererror": {"code": "ResponsibleAIPolicyViolation"}},
        ),
        ("404 Not Found", {"code": "previous_response_not_found"}),
        ("413 Content Too Large", {"type": "request_too_large"}),
        ("422 Unprocessable Content", {"type": "invalid_request_error"}),
    ],
)
async def test_refusals_and_client_faults_go_back_untouched(status: str, inner: dict[str, Any]) -> None:
    """ "Content-policy refusals and other client faults go back untouched"."""
    one, two = Target(error(status, **inner)), Target()
    async with serving({"one": one, "two": two}, World(each=LENGTHS)) as edge:
        got = await edge.ask()
    assert (got.status, json.loads(got.body), two.seen) == (int(status[:3]), {"error": inner}, [])


async def test_a_model_that_the_target_does_not_know_is_the_fleets_mistake() -> None:
    """The client's name was good here: another target is asked, and without one a 502 names who was wrong."""
    unknown = error("404 Not Found", code="model_not_found", message="The model `m-bad` does not exist")
    async with serving({"bad": Target(unknown), "good": Target()}) as edge:
        got = await edge.ask()
        assert (got.status, got.fields["x-leeward-target"]) == (200, "good")
        assert edge.metric("leeward_edge_attempts_total", target="bad", outcome="FAILED") == 1
    async with serving({"bad": Target(unknown)}) as edge:
        got = await edge.ask()
        assert (got.status, b"m-bad" in got.body) == (502, False)
        assert "upstream_model_unknown" in got.fields["proxy-status"]


async def test_an_error_larger_than_is_read_passes_whole() -> None:
    """Reading is bounded by 64 KiB; what is larger goes on as it comes."""
    body = b'{"error":{"message":"%b"}}' % (b"x" * 200_000)
    async with serving({"one": Target(answer(body, status="400 Bad Request")), "two": Target()}) as edge:
        got = await edge.ask()
    assert (got.status, got.body, got.clean) == (400, body, True)


async def test_an_error_cut_off_while_it_is_read_is_no_answer() -> None:
    """Nothing of it has gone out, so the request moves."""

    async def cut(talk: Conversation) -> None:
        await talk.send(TOO_LONG[:-10])
        talk.close()

    async with serving({"one": Target(cut), "two": Target()}) as edge:
        got = await edge.ask()
    assert (got.status, got.fields["x-leeward-target"]) == (200, "two")


# ---------------------------------------------------------------- faults 18


async def _reset(talk: Conversation) -> None:
    talk.reset()


async def _accept_and_hang(talk: Conversation) -> None:
    await talk.hang()


async def _drip(talk: Conversation) -> None:
    for byte in STREAM_HEAD + chunk(delta("x")):
        await talk.send(bytes([byte]), pause_s=0.1)


async def _drip_pings(talk: Conversation) -> None:
    await talk.send(STREAM_HEAD)
    while True:
        await talk.send(chunk(b": ping\n\n"), pause_s=0.05)


@pytest.mark.parametrize(
    ("name", "act", "limit_s"),
    [
        ("refuses", None, 0.05),
        ("resets", _reset, 0.05),
        ("accepts and hangs", _accept_and_hang, 0.4),
        ("drips bytes", _drip, 0.4),
        ("drips pings", _drip_pings, 0.4),
    ],
)
async def test_row_18_failover_within_its_timeout_and_nothing_leaks(
    name: str, act: Callable[[Conversation], Awaitable[None]] | None, limit_s: float
) -> None:
    """FAULTS row 18: each way to be no target, 40 requests at once, TTFT 0.4 s: every one is answered elsewhere
    within its timeout and a sweep, and no connection remains."""
    bad, good = Target(act or b""), Target(_stream)
    async with serving({"bad": bad, "good": good}, World(timeouts={"ttft_s": 0.4})) as edge:
        if act is None:
            await bad.stop()

        async def timed() -> float:
            began = time.monotonic()
            got = await edge.ask(STREAM)
            assert (got.status, got.clean, got.fields["x-leeward-target"]) == (200, True, "good")
            return time.monotonic() - began

        took = sorted(await asyncio.gather(*(timed() for _ in range(40))))
        await until(lambda: bad.open == 0)
        idle = edge.gateway.upstream_connections
        assert not edge.gateway.exchanges
    print(
        f"row 18: {name}: failover in {took[20] * 1000:.0f} ms (p50), {took[-1] * 1000:.0f} ms (most); leaked 0"
    )
    # Forty clients on one loop beside the targets: what they cost each other is not the edge's.
    assert took[-1] < limit_s + SWEEP_S + 0.5
    assert idle <= 40
    assert bad.open == 0


# ---------------------------------------------------------------- ejection's bounds


async def test_ejected_by_share_is_kept_in_when_too_many_are_out() -> None:
    """Three of four that fail half of the time are too many to be out: the best of them stays in, none is alone."""
    targets = {name: Target() for name in "abcd"}
    async with serving(targets, World(tiers=[list("abcd")])) as edge:
        now = edge.gateway.monotonic()
        from shared.vocabulary.terms import Outcome

        for name, good in (("a", 8), ("b", 9), ("c", 10)):
            for _ in range(good):
                lane(edge, name).window.add_answer(5.0, now)
            for _ in range(20 - good):
                lane(edge, name).window.add(Outcome.FAILED, now)
            lane(edge, name).refresh(now)
            assert lane(edge, name).partial
        # The first good answer of whoever stays in readmits it; until then it is asked although it is ejected.
        got = {(await edge.ask()).fields["x-leeward-target"] for _ in range(12)}
    assert got == {"c", "d"}


async def test_what_is_asked_at_the_same_time_as_a_cooling_is_still_one_attempt_more() -> None:
    """A burst that finds the limit at one moment moves on once each, and the next one does not ask at all."""
    limited = Target(error("429 Too Many Requests", "retry-after: 5\r\n"))
    async with serving({"limited": limited, "good": Target(answer(COMPLETION))}) as edge:
        got = await asyncio.gather(*(edge.ask(CALL) for _ in range(20)))
        assert {each.status for each in got} == {200}
        asked = len(limited.seen)
        assert (await edge.ask()).fields["x-leeward-attempts"] == "1"
        assert len(limited.seen) == asked
