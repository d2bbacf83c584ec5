"""What a limited key gets over time, whatever it tries."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_router.core.answers import Refusal
from edge_router.core.endpoints import ENDPOINTS
from edge_router.core.entrance import CLIENT_GONE, Entrance
from edge_router.core.estimate import UNSAID, estimated_tokens
from edge_router.core.keys import KeyLimits, KeyScope
from edge_router.core.quota import Exceeded, Quotas, retry_lines, settle, span
from edge_router.core.reception import Turned
from edge_router.core.table import build_table
from edge_router.core.tokens import NONE, Tokens
from shared.vocabulary.base import NO_VERSION
from shared.vocabulary.config import FleetConfig
from tests.support.data_path import World, fleet_of

CHAT = ENDPOINTS[b"/v1/chat/completions"]


def scope(requests: int | None = None, tokens: int | None = None, concurrency: int | None = None) -> KeyScope:
    return KeyScope(None, b"", "acme", KeyLimits(requests, tokens, concurrency))


@given(
    limit=st.integers(1, 10_000),
    divide_by=st.integers(1, 8),
    gaps=st.lists(st.floats(0, 90, allow_nan=False), min_size=1, max_size=150),
)
def test_over_any_time_a_key_gets_its_limit_and_one_bucket_more(
    limit: int, divide_by: int, gaps: list[float]
) -> None:
    """Of each worker its part of the limit, a bucket of a minute beside it; checked over every interval."""
    quotas, key, now, taken = Quotas(divide_by=divide_by), scope(requests=limit), 1000.0, []
    for gap in gaps:
        now += gap
        for _ in range(3):
            with suppress(Exceeded):
                quotas.enter(key, lambda: 0, now)
                taken.append(now)
    part = limit / divide_by
    for first, began in enumerate(taken):
        for count, ended in enumerate(taken[first:], start=1):
            assert count <= max(1.0, part) + part * (ended - began) / 60 + 1e-3


@given(limit=st.integers(1, 100_000), amount=st.integers(1, 200_000))
def test_who_waits_as_long_as_told_is_let_in(limit: int, amount: int) -> None:
    """`wait_s` is neither too short nor needlessly long, even for more than a whole bucket."""
    quotas, key = Quotas(), scope(tokens=limit)
    quotas.enter(key, lambda: amount, 0.0)
    try:
        quotas.enter(key, lambda: amount, 0.0)
    except Exceeded as exceeded:
        wait_s = exceeded.wait_s
    else:
        assert 2 * amount <= limit
        return
    with pytest.raises(Exceeded):
        quotas.enter(key, lambda: amount, wait_s * 0.98)
    quotas.enter(key, lambda: amount, wait_s * 1.0001 + 1e-6)


@given(
    steps=st.lists(st.tuples(st.integers(1, 500), st.integers(0, 2000), st.floats(0, 20)), max_size=80),
    limit=st.integers(100, 5000),
)
def test_tokens_used_stay_within_the_limit_but_for_what_nobody_could_know(
    steps: list[tuple[int, int, float]], limit: int
) -> None:
    """What answers told is charged in the end, not what was guessed: the excess is at most the last debt."""
    quotas, key, now, used = Quotas(), scope(tokens=limit), 0.0, 0
    worst = 0
    for guess, took, gap in steps:
        now += gap
        try:
            state, asked, _ = quotas.enter(key, lambda guess=guess: guess, now)
        except Exceeded:
            continue
        settle(state, asked, took)
        used += took
        worst = max(worst, took - asked)
    assert used <= limit + limit * now / 60 + max(0, worst) + 1


def test_requests_at_once_are_counted_and_freed() -> None:
    """`concurrency` counts those under way; the one that ends makes room."""
    quotas, key = Quotas(), scope(concurrency=2)
    first, asked, lines = quotas.enter(key, lambda: 0, 0.0)
    quotas.enter(key, lambda: 0, 0.0)
    with pytest.raises(Exceeded) as over:
        quotas.enter(key, lambda: 0, 0.0)
    assert (over.value.unit, over.value.limit, lines) == ("concurrency", 2, b"")
    settle(first, asked, 0)
    quotas.enter(key, lambda: 0, 0.0)


def test_a_changed_limit_keeps_what_was_taken_and_a_gone_key_is_forgotten() -> None:
    """A new table does not fill the bucket."""
    quotas = Quotas()
    for _ in range(10):
        quotas.enter(scope(requests=10), lambda: 0, 0.0)
    with pytest.raises(Exceeded):
        quotas.enter(scope(requests=10), lambda: 0, 0.1)
    for _ in range(2):
        quotas.enter(scope(requests=12), lambda: 0, 0.1)
    with pytest.raises(Exceeded):
        quotas.enter(scope(requests=12), lambda: 0, 0.1)
    quotas.keep({"acme"})
    assert len(quotas) == 1
    quotas.keep({"other"})
    assert len(quotas) == 0


def test_what_is_left_is_told_as_openai_tells_it() -> None:
    """Limit as stated, whatever part of it this worker holds."""
    quotas, key = Quotas(divide_by=2), scope(requests=120, tokens=6000)
    _, _, lines = quotas.enter(key, lambda: 1000, 0.0)
    assert lines == (
        b"x-ratelimit-limit-requests: 120\r\nx-ratelimit-remaining-requests: 118\r\n"
        b"x-ratelimit-reset-requests: 1s\r\n"
        b"x-ratelimit-limit-tokens: 6000\r\nx-ratelimit-remaining-tokens: 4000\r\n"
        b"x-ratelimit-reset-tokens: 20s\r\n"
    )
    assert retry_lines(0.0021) == b"retry-after: 1\r\nretry-after-ms: 3\r\n"
    assert [span(s) for s in (0, 0.02, 7.5, 60, 366)] == [b"0ms", b"20ms", b"7.5s", b"1m0s", b"6m6s"]


@pytest.mark.parametrize(
    ("body", "tokens"),
    [
        (b'{"max_tokens":50}', 5 + 50),
        (b'{"max_tokens":50,"n":3}', 6 + 150),
        (b'{"max_tokens":9,"max_completion_tokens":70}', 11 + 70),
        (b'{"max_output_tokens":33}', 6 + 33),
        (b'{"generationConfig":{"maxOutputTokens":7}}', 11 + 7),
        (b'{"max_tokens":-5}', 5 + UNSAID),
        (b'{"max_tokens":"many"}', 6 + UNSAID),
        (b'{"max_tokens":true,"n":[]}', 7 + UNSAID),
        (b"{}", 1 + UNSAID),
        (b"[", 1 + UNSAID),
    ],
)
def test_a_request_is_estimated_by_its_size_and_what_it_allows(body: bytes, tokens: int) -> None:
    """Four bytes a token, and the answer's limit in the words of each dialect."""
    assert estimated_tokens(body) == tokens
    assert estimated_tokens(body, writes=False) == -(-len(body) // 4)


@pytest.mark.parametrize(
    ("status", "code", "tokens", "used"),
    [
        (200, "", Tokens(30, 40), 70),
        (200, "", NONE, 257),
        (CLIENT_GONE, "", NONE, 257),
        (400, "", NONE, 0),
        (502, Refusal.UPSTREAM.code, NONE, 0),
    ],
)
def test_what_a_request_is_charged_in_the_end(status: int, code: str, tokens: Tokens, used: int) -> None:
    """The usage it told; without, what was estimated; errors nothing."""
    fleet = fleet_of({"alpha": 1}, World())
    route = build_table(FleetConfig(config_version=0, fleet=fleet), {}, NO_VERSION, region="us-east").routes[
        "chat"
    ]
    from edge_router.core.body import read_call

    body = b'{"model":"chat"}'
    entrance, key = Entrance(), scope(tokens=6000)
    permit = entrance.let_in(key, route, CHAT, read_call(body), body, 0.0)
    assert b"remaining-tokens: 5740" in permit.lines
    permit.close(status, code, tokens, "alpha", 1.0, broken=False)
    permit.close(status, code, tokens, "alpha", 1.0, broken=False)
    left = entrance.let_in(key, route, CHAT, read_call(body), body, 0.0).lines
    expected = 6000 - (used + 3 if used == 257 else used) - 260
    assert b"remaining-tokens: %d\r" % expected in left


def test_over_the_limit_is_429_with_when_to_come_back() -> None:
    """In the request's own dialect, with both retry fields."""
    fleet = fleet_of({"alpha": 1}, World())
    route = build_table(FleetConfig(config_version=0, fleet=fleet), {}, NO_VERSION, region="us-east").routes[
        "chat"
    ]
    entrance, key = Entrance(), scope(requests=1)
    entrance.let_in(key, route, CHAT, None, b"", 0.0)
    with pytest.raises(Turned) as turned:
        entrance.let_in(key, route, CHAT, None, b"", 15.0)
    assert turned.value.refusal is Refusal.RATE_LIMITED
    assert turned.value.refusal.status == 429
    assert b"retry-after: 45\r\nretry-after-ms: 45000\r\n" in turned.value.fields
    assert b"x-ratelimit-remaining-requests: 0\r\n" in turned.value.fields
