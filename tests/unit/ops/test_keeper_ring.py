"""Which traces a keeper remembers, and how they are found."""

from collections.abc import Iterator

import pytest

from ops.keeper.ring import Ambiguous, Ring
from shared.adapters.otlp import Origin, ReceivedSpan

HERE = Origin("leeward-edge", "edge-1", "us-east")


def span(
    number: int,
    name: str = "span",
    *,
    of: int | None = None,
    parent: int | None = None,
    failed: bool = False,
    is_server: bool = False,
    links: tuple[int, ...] = (),
    marks: dict[str, str] | None = None,
    raw: bytes = b"",
) -> ReceivedSpan:
    """Span `number` of trace `of`, by default its own, beginning at second `number`."""
    return ReceivedSpan(
        origin=HERE,
        trace_id=trace_id(number if of is None else of),
        span_id=f"{number:016x}",
        parent_id="" if parent is None else f"{parent:016x}",
        name=name,
        is_server=is_server,
        start_ns=number * 10**9,
        end_ns=number * 10**9 + 5,
        failed=failed,
        links=tuple(map(trace_id, links)),
        marks=marks or {},
        raw=raw,
    )


def trace_id(number: int) -> str:
    return f"{number:08x}{0:024x}"


def test_the_oldest_traces_give_way_whole() -> None:
    """Never a part of one."""
    ring = Ring(max_spans=4)
    for number in (1, 3, 5):
        ring.add([span(number, of=number), span(number + 1, of=number, parent=number)])
    assert ring.spans == 4
    assert [trace.trace_id for trace in ring.latest(limit=9)] == [trace_id(5), trace_id(3)]
    assert ring.find(trace_id(1)) is None


def test_bytes_are_bounded_too() -> None:
    """By what the spans take."""
    ring = Ring(max_bytes=3_000)
    for number in range(1, 20):
        ring.add([span(number, raw=bytes(1000))])
    assert ring.bytes <= 3_000
    assert ring.find(trace_id(19)) is not None


def test_decisions_and_failures_outlive_ordinary_requests() -> None:
    """But not the present: they have three quarters of the room."""
    ring = Ring(max_spans=8)
    ring.add([span(1, "decide"), span(2, is_server=True, failed=True)])
    ring.add([span(3, is_server=True, marks={"leeward.attempts": "2"})])
    for number in range(10, 100):
        ring.add([span(number, is_server=True, marks={"leeward.attempts": "1"})])
    assert all(ring.find(trace_id(number)) for number in (1, 2, 3, 99))
    for number in range(100, 200):
        ring.add([span(number, "decide")])
    ring.add([span(200, is_server=True)])
    ring.add([span(201, "decide")])
    assert ring.find(trace_id(200)) is not None, "an outage has pushed out the present"
    assert ring.spans <= 8


def test_a_trace_is_what_its_most_telling_span_is() -> None:
    """A probe that led to a decision is that decision's trace, whichever arrives first."""
    ring = Ring()
    ring.add([span(2, "decide", of=1, parent=1, marks={"leeward.decision": "1.2"})])
    ring.add([span(1, "probe", failed=True)])
    (trace,) = ring.latest(kind="decision", limit=5)
    assert (trace.root.name, trace.marks["leeward.decision"], trace.failed) == ("probe", "1.2", 1)
    assert not ring.latest(kind="probe", limit=5)


def test_traces_are_found_by_id_by_its_beginning_and_by_request() -> None:
    """A beginning that several share is refused."""
    ring = Ring()
    ring.add([span(1), span(2), span(0xABCDEF01, is_server=True, marks={"leeward.request_id": "f00-1"})])
    assert ring.find("abcdef") is ring.find("ABCDEF01" + "0" * 24) is ring.find("f00-1") is not None
    with pytest.raises(Ambiguous):
        ring.find("000000")
    assert ring.find("00000") is None
    assert ring.find("ffffffff") is None


def test_links_join_either_way_while_both_are_kept() -> None:
    """And are forgotten with their trace."""
    ring = Ring(max_spans=2)
    ring.add([span(1), span(2, links=(1, 77))])
    one, two = ring.find(trace_id(1)), ring.find(trace_id(2))
    assert one is not None
    assert two is not None
    assert ring.joined(one) == [two]
    assert ring.joined(two) == [one]
    ring.add([span(3)])
    assert ring.joined(two) == []


def test_one_trace_cannot_take_all_the_room() -> None:
    """What is beyond its part is counted."""
    ring = Ring(max_spans_of_one=3)
    ring.add(span(number, of=1) for number in range(1, 10))
    trace = ring.find(trace_id(1))
    assert trace is not None
    assert (len(trace.spans), trace.left_out, ring.spans) == (3, 6, 3)


def test_the_old_gives_way_while_an_export_is_read() -> None:
    """Of a huge one only as many spans as there is room for are read, and the ring is never over its bounds."""
    ring = Ring(max_spans=100, max_bytes=5_000)
    most = 0

    def export() -> Iterator[ReceivedSpan]:
        nonlocal most
        for number in range(1, 10_000):
            most = max(most, ring.spans)
            yield span(number)

    ring.add(export())
    assert ring.received == 100
    assert most <= 5_000 // 400
    assert ring.bytes <= 5_000
