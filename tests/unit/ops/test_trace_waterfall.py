"""How a trace is drawn in a terminal of 100 columns."""

from io import StringIO
from typing import Any

from rich.console import Console

from ops import waterfall


def span(number: int, name: str, *, parent: int | None = None, **more: Any) -> dict[str, Any]:
    return {
        "span_id": f"{number:016x}",
        "parent_id": None if parent is None else f"{parent:016x}",
        "name": name,
        "kind": "internal",
        "service": "leeward-edge",
        "node": "edge-us-east",
        "start_ns": number * 1_000_000,
        "end_ns": number * 1_000_000 + 2_500_000,
        "failed": False,
        "status": "",
        "attributes": {},
        "events": [],
        **more,
    }


def trace(*spans: dict[str, Any], trace_id: str = "ab" * 16) -> dict[str, Any]:
    return {
        "trace_id": trace_id,
        "kind": "decision",
        "root": "probe",
        "started_at": "2026-01-01T10:20:30.123+00:00",
        "duration_ms": 12.5,
        "spans": len(spans),
        "failed": sum(span["failed"] for span in spans),
        "decision": "1.7",
        "all": list(spans),
    }


def lines(drawing: Any) -> list[str]:
    out = StringIO()
    Console(file=out, width=100, no_color=True, highlight=False).print(drawing)
    return out.getvalue().splitlines()


def test_children_hang_below_their_parents_and_errors_are_marked() -> None:
    """With when each began and how long it took; nothing is wider than 100 columns."""
    failed = {"failed": True, "attributes": {"error.type": "REFUSED", "leeward.target": "alpha-eu-west"}}
    drawn = lines(
        waterfall.drawn(
            trace(
                span(1, "probe", **failed),
                span(2, "publish leeward.health.v1", parent=1),
                span(3, "decide", parent=2, attributes={"leeward.decision": "1.7"}),
                span(4, "apply" + " long" * 40, parent=3),
            ),
            [],
        )
    )
    assert drawn[0].startswith("trace " + "ab" * 16)
    assert "decision 1.7 · 4 spans · 1 failed · 12ms" in drawn[0]
    assert drawn[1].startswith("probe ✗ REFUSED alpha-eu-west  edge-us-east")
    assert drawn[2].startswith("└ publish health  edge-us-east")
    assert drawn[3].startswith("  └ decide 1.7")
    assert drawn[3].rstrip().endswith("+2.0ms   2.5ms")
    assert max(map(len, drawn)) <= 100
    assert len(drawn) == 5


def test_one_late_span_does_not_squeeze_the_others() -> None:
    """The axis ends where most have ended; what goes on beyond it is marked."""
    spans = [span(number, "apply", parent=1) for number in range(2, 20)]
    late = span(20, "first served", parent=1, start_ns=13_000_000_000, end_ns=13_002_000_000)
    root = span(1, "decide", end_ns=13_002_000_000)
    drawn = lines(waterfall.drawn(trace(root, *spans, late), []))
    bars = [line[waterfall.LABEL + 1 :][: waterfall.BAR] for line in drawn[1:]]
    assert bars[0] == "━" * 19 + "»"
    assert bars[-1] == " " * 19 + "»"
    assert len({len(bar) - len(bar.lstrip()) for bar in bars[1:-1]}) > 10
    assert not any("»" in bar for bar in bars[1:17])
    assert max(map(len, drawn)) <= 100
    few = lines(waterfall.drawn(trace(root, late), []))
    assert "»" not in "".join(few)


def test_a_title_is_never_broken_in_its_midst() -> None:
    """Where it has no room in one line, the facts stand in a second one."""
    long = trace(span(1, "probe", failed=True)) | {"spans": 1234, "decision": "123.4567890"}
    drawn = lines(waterfall.drawn(long, [long]))
    facts = "  decision 123.4567890 · 1234 spans · 1 failed · 12ms · at 10:20:30.123"
    assert drawn[:2] == ["trace " + "ab" * 16, facts]
    assert drawn[4:6] == ["joined by a link: " + "ab" * 16, facts]


def test_traces_that_links_join_are_drawn_below() -> None:
    """Each on its own scale."""
    drawn = lines(waterfall.drawn(trace(span(1, "decide")), [trace(span(9, "probe"), trace_id="cd" * 16)]))
    assert drawn[3].startswith("joined by a link: " + "cd" * 16)
    assert drawn[4].startswith("probe")


def test_moments_stand_below_their_span() -> None:
    """Except the end, which the bar shows."""
    moved = {"name": "moved", "at_ns": 2_000_000, "attributes": {"leeward.to": "beta", "error.type": "x"}}
    end = {"name": "end", "at_ns": 3_000_000, "attributes": {}}
    drawn = lines(waterfall.drawn(trace(span(1, "POST /v1", events=[moved, end])), []))
    assert drawn[2].strip() == "• moved +1.0ms to=beta error.type=x"
    assert len(drawn) == 3


def test_a_broken_sender_is_drawn_all_the_same() -> None:
    """Spans in a circle, a parent that is missing, a chain deeper than any stack, more spans than lines."""
    circle = [span(1, "a", parent=2), span(2, "b", parent=1)]
    assert len(lines(waterfall.drawn(trace(*circle, span(3, "c", parent=99)), []))) == 4
    deep = [span(number, "deep", parent=number - 1 or None) for number in range(1, 3000)]
    drawn = lines(waterfall.drawn(trace(*deep), []))
    assert "2599 more lines" in drawn[-1]
    assert max(map(len, drawn)) <= 100


def test_the_list_fits_and_names_the_decision() -> None:
    """One line each."""
    drawn = lines(waterfall.listing({"traces": [trace(span(1, "probe"))] * 3}))
    assert len(drawn) == 4
    assert drawn[1].rstrip().endswith("1.7, from probe")
    assert max(map(len, drawn)) <= 100
