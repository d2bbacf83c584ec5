"""Which attempts a drill's faults strike at an edge, and what of a stream they let through."""

import random

import pytest
from pydantic import ValidationError

from edge_router.core.endpoints import Kind
from edge_router.core.fault_filter import (
    MAX_FAULTS,
    Cutter,
    Effect,
    FaultFilter,
    FilterOrder,
    TooMany,
    answer_of,
)
from edge_router.core.sse import MAX_EVENT_BYTES
from shared.vocabulary.terms import Dialect


def order(fault: str = "refuse", *targets: str, **how: object) -> FilterOrder:
    return FilterOrder.model_validate({"fault": fault, "targets": targets or ("*",), "for_s": 10, **how})


def filter_of(*orders: FilterOrder, seed: int = 1) -> FaultFilter:
    made = FaultFilter(random.Random(seed).random)
    for number, each in enumerate(orders):
        made.put(f"f-{number}", each, 0.0)
    return made


def event(text: str | None) -> bytes:
    inner = '"role":"assistant","content":""' if text is None else f'"content":"{text}"'
    return f'data: {{"choices":[{{"index":0,"delta":{{{inner}}},"finish_reason":null}}]}}\n\n'.encode()


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"fault": "refuse", "targets": ["a"]}, "for_s"),
        ({"fault": "refuse", "targets": ["a"], "for_s": 301}, "less than or equal to 300"),
        ({"fault": "refuse", "targets": [], "for_s": 1}, "at least 1 item"),
        ({"fault": "kill", "targets": ["a"], "for_s": 1}, "fault"),
        ({"fault": "latency", "targets": ["a"], "for_s": 1}, "latency needs ms"),
        ({"fault": "refuse", "targets": ["a"], "for_s": 1, "ms": 5}, "refuse does not take ms"),
        ({"fault": "errors", "targets": ["a"], "for_s": 1, "status": 200}, "status"),
        ({"fault": "refuse", "target": ["a"], "for_s": 1}, "Extra inputs"),
    ],
)
def test_an_order_that_makes_no_sense_is_refused(body: dict[str, object], words: str) -> None:
    """A fault without an end, misspelt, or with what it does not take, is no fault."""
    with pytest.raises(ValidationError, match=words):
        FilterOrder.model_validate(body)


def test_patterns_say_whom_it_strikes() -> None:
    """Target ids, by shell patterns; nobody else."""
    faults = filter_of(order("refuse", "alpha-*", "beta-us-east"))
    struck = {name for name in ("alpha-x", "beta-us-east", "beta-x") if faults.strike(name, 1.0)}
    assert struck == {"alpha-x", "beta-us-east"}
    assert faults.struck == {"refuse": 2}


def test_its_time_ends_it_whoever_forgets_it() -> None:
    """To the moment, whether or not anybody looked; putting it again renews it and keeps its count."""
    faults = filter_of(order())
    assert faults.strike("a", 9.99) is not None
    assert faults.strike("a", 10.0) is None
    assert faults.expire(10.0) == ("f-0",)
    assert faults.put("f-1", order(), 5.0)
    assert not faults.put("f-1", order(), 8.0)
    assert faults.strike("a", 17.0) is not None
    assert [shown["remaining_s"] for shown in faults.shown(17.0)] == [1.0]
    assert faults.expire(18.0) == ("f-1",)
    assert not faults.drop("f-1", 18.0)


def test_a_share_is_a_share_of_the_attempts() -> None:
    """About that many, drawn one by one."""
    faults = filter_of(order(share_permille=300))
    assert 250 <= sum(faults.strike("a", 1.0) is not None for _ in range(1000)) <= 350
    assert filter_of(order(share_permille=0)).strike("a", 1.0) is None


def test_several_faults_strike_together() -> None:
    """Waits add up; an answer in its place and a refusal stand beside them."""
    faults = filter_of(
        order("latency", ms=100), order("latency", ms=50), order("slow_ttft", ms=30), order("stall", after_events=4)
    )  # fmt: skip
    effect = faults.strike("a", 1.0)
    assert effect is not None
    assert effect == Effect(latency_s=pytest.approx(0.15), ttft_s=0.03, stop="stall", after=4)
    throttled = filter_of(order("throttle", retry_after_s=7)).strike("a", 1.0)
    assert throttled == Effect(status=429, retry_after_s=7.0)


def test_there_is_an_end_to_faults() -> None:
    """One more is not taken; one whose time is over makes room."""
    faults = filter_of(*[order() for _ in range(MAX_FAULTS)])
    with pytest.raises(TooMany):
        faults.put("more", order(), 1.0)
    assert faults.put("more", order(), 10.0)


@pytest.mark.parametrize("dialect", [Dialect.OPENAI, Dialect.ANTHROPIC, Dialect.HTTP])
def test_the_answer_in_a_targets_place_is_one(dialect: Dialect) -> None:
    """A whole answer, with its length right, that says who gave it."""
    head, body = answer_of(Effect(status=429, retry_after_s=3.0), dialect)
    assert (head.status, head.content_length, head.retry_after) == (429, len(body), b"3")
    assert b"fault filter" in body


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 10_000])
def test_a_cutter_counts_events_with_something_in_them(size: int, end: bytes) -> None:
    """A role-only event is none of them; however the stream is cut into pieces, and its lines end."""
    stream = b"".join(map(event, (None, "a", "b", "c", "d"))).replace(b"\n", end)
    cutter = Cutter(Kind.CHAT, choices=1, after=2)
    passed, last = b"", False
    for start in range(0, len(stream), size):
        part, last = cutter.feed(stream[start : start + size])
        passed += part
        if last:
            break
    assert last
    assert passed == (event(None) + event("a") + event("b")).replace(b"\n", end)


def test_a_shorter_stream_gets_through() -> None:
    """What ends before the cut is whole, what was kept back of its last piece included."""
    cutter = Cutter(Kind.CHAT, choices=1, after=9)
    assert cutter.feed(event("a") + b"data: ") == (event("a"), False)
    assert cutter.rest() == b"data: "


def test_a_cutter_keeps_back_no_more_than_a_relay_takes() -> None:
    """Beyond that all of it gets through, as the target sent it."""
    cutter = Cutter(Kind.CHAT, choices=1, after=0)
    piece = b"x" * 65_536
    kept = MAX_EVENT_BYTES // len(piece)
    assert [cutter.feed(piece) for _ in range(kept)] == [(b"", False)] * kept
    assert cutter.feed(piece) == (piece * (kept + 1), False)
    assert cutter.feed(b"y\n\n" + event("a")) == (b"y\n\n" + event("a"), False)
    assert cutter.rest() == b""
