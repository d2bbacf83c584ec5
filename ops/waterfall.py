"""Traces drawn for a terminal of 100 columns. A keeper's JSON in, rich renderables out; prints nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from rich.console import Group
from rich.text import Text

from ops import render

LABEL: Final = 62
BAR: Final = 20
MAX_EVENTS: Final = 6
"""Of one span that are shown."""
FEW: Final = 4
"""Spans, below which none of them is an exception."""
FAR: Final = 3
"""How many times longer than nine in ten of its spans a trace is when its axis ends before it does."""
MAX_ROWS: Final = 400
"""Of one trace: the rest is counted."""


def listing(answer: Mapping[str, Any]) -> Any:
    """The table of the latest traces."""
    return render.rows(
        ("trace", "began", "kind", "spans", "errors", "took", "what"),
        [
            (
                trace["trace_id"],
                trace["started_at"][11:19],
                trace["kind"],
                str(trace["spans"]),
                str(trace["failed"] or "-"),
                _took(trace["duration_ms"]),
                _what(trace),
            )
            for trace in answer["traces"]
        ],
    )


def drawn(trace: Mapping[str, Any], joined: Sequence[Mapping[str, Any]]) -> Group:
    """The waterfall of `trace`, then one for each trace that a link joins to it."""
    parts: list[Text] = [_title(trace), *_rows(trace)]
    for other in joined:
        parts += [Text(), _title(other, joined=True), *_rows(other)]
    return Group(*parts)


@dataclass(slots=True)
class _Node:
    span: Mapping[str, Any]
    children: list["_Node"] = field(default_factory=list)


def _title(trace: Mapping[str, Any], *, joined: bool = False) -> Text:
    facts = [
        f"{trace['spans']} spans",
        _took(trace["duration_ms"]),
        f"at {trace['started_at'][11:23]}",
    ]
    if trace["failed"]:
        facts.insert(1, f"{trace['failed']} failed")
    if trace.get("decision"):
        facts.insert(0, f"decision {trace['decision']}")
    lead, told = "joined by a link: " if joined else "trace ", " · ".join(facts)
    fits = len(lead) + len(trace["trace_id"]) + 2 + len(told) <= render.WIDTH
    return Text.assemble(lead, (trace["trace_id"], "bold"), "  " if fits else "\n  ", told)


def _rows(trace: Mapping[str, Any]) -> list[Text]:
    spans = trace["all"]
    if not spans:
        return []
    start = min(span["start_ns"] for span in spans)
    scale = _scale([span["end_ns"] - start for span in spans])
    rows: list[Text] = []
    roots = _forest(spans)
    for root in roots:
        _draw(root, "", "", start, scale, rows)
    hidden = len(rows) - MAX_ROWS
    if hidden > 0:
        rows = [*rows[:MAX_ROWS], Text(f"… {hidden} more lines: -o json has them all")]
    if trace.get("spans_left_out"):
        rows.append(Text(f"… and {trace['spans_left_out']} spans that were more than is kept of one trace"))
    return rows


def _scale(ends: Sequence[int]) -> int:
    """The ns that the axis covers: all, but for a few spans that end long after the others."""
    ranked = sorted(ends)
    most, usual = max(ranked[-1], 1), max(ranked[(len(ranked) - 1) * 9 // 10], 1)
    return usual if len(ranked) >= FEW and most > FAR * usual else most


def _forest(spans: Sequence[Mapping[str, Any]]) -> list[_Node]:
    """By parent, in the order of beginning. A span whose parent is not here stands at the root; so does one
    of a circle, which only a broken sender makes."""
    nodes = {span["span_id"]: _Node(span) for span in spans}
    roots = []
    for node in nodes.values():
        parent = nodes.get(node.span["parent_id"] or "")
        if parent is None or _circular(node, nodes):
            roots.append(node)
        else:
            parent.children.append(node)
    return roots


def _circular(node: _Node, nodes: Mapping[str, _Node]) -> bool:
    seen = {node.span["span_id"]}
    at = nodes.get(node.span["parent_id"] or "")
    while at is not None:
        if at.span["span_id"] in seen:
            return True
        seen.add(at.span["span_id"])
        at = nodes.get(at.span["parent_id"] or "")
    return False


def _draw(top: _Node, lead: str, below: str, start: int, scale: int, rows: list[Text]) -> None:
    """`top` and what is below it; a stack of its own, for a sender decides how deep a trace is."""
    waiting = [(top, lead, below)]
    while waiting:
        node, lead, below = waiting.pop()
        rows.append(_line(node.span, lead, start, scale))
        rows += _events(node.span, below + ("│ " if node.children else "  "))
        last = len(node.children) - 1
        for place in range(last, -1, -1):
            glyph, deeper = ("└ ", "  ") if place == last else ("├ ", "│ ")
            waiting.append((node.children[place], below + glyph, below + deeper))


def _line(span: Mapping[str, Any], lead: str, start: int, scale: int) -> Text:
    lead = lead if len(lead) <= LABEL // 2 else "…" + lead[-(LABEL // 2) :]
    failed = span["failed"]
    line = Text(lead, style="dim")
    line.append(_short_name(span["name"]), style="bold red" if failed else "bold")
    said = _said(span)
    if said:
        line.append(" " + said, style="red" if failed else "")
    line.append("  " + (span["node"] or span["service"]), style="cyan")
    line.truncate(LABEL, overflow="ellipsis", pad=True)
    begin = (span["start_ns"] - start) * BAR // scale
    length = max(1, round((span["end_ns"] - span["start_ns"]) * BAR / scale))
    begin = min(begin, BAR - 1)
    bar = " " * begin + "━" * min(length, BAR - begin)
    if span["end_ns"] - start > scale:
        bar = f"{bar:━<{BAR}}"[: BAR - 1] + "»"  # it ends beyond the axis
    line.append(" ")
    line.append(f"{bar:<{BAR}}", style="red" if failed else "green")
    line.append(f"{_at(span['start_ns'] - start):>8}")
    line.append(f"{_took((span['end_ns'] - span['start_ns']) / 1e6):>8}")
    return line


def _events(span: Mapping[str, Any], below: str) -> list[Text]:
    told = [event for event in span["events"] if event["name"] != "end"]
    lines = []
    for event in told[:MAX_EVENTS]:
        after = _at(event["at_ns"] - span["start_ns"])
        values = " ".join(
            f"{name.removeprefix('leeward.')}={_short(value)}" for name, value in event["attributes"].items()
        )
        line = Text(f"{below}• {event['name']} {after} {values}", style="dim")
        line.truncate(render.WIDTH, overflow="ellipsis")
        lines.append(line)
    return lines


def _said(span: Mapping[str, Any]) -> str:
    """What of its attributes tells most, short."""
    has = span["attributes"]
    target = has.get("leeward.target", "")
    facts: list[str] = []
    if span["failed"]:
        facts.append(f"✗ {has.get('error.type') or span['status'] or 'error'}")
    if target and span["kind"] != "server":
        facts.append(str(target))
    if span["name"] in ("decide", "apply") or span["name"].startswith("receive"):
        facts.append(str(has.get("leeward.decision", "")))
    if span["name"] in ("apply", "first served"):
        facts.append(str(has.get("leeward.path") or has.get("leeward.route") or ""))
    if span["kind"] == "producer" and "leeward.bus" in has:
        facts.append(f"to {has['leeward.bus']}")
    if "http.response.status_code" in has:
        facts.append(str(has["http.response.status_code"]))
    if "gen_ai.usage.output_tokens" in has:
        facts.append(
            f"{has.get('gen_ai.usage.input_tokens', '?')}+{has['gen_ai.usage.output_tokens']} tokens"
        )
    return " ".join(fact for fact in facts if fact)


def _what(trace: Mapping[str, Any]) -> str:
    what = str(trace["root"])
    if trace.get("decision") and trace["kind"] == "decision":
        what = f"{trace['decision']}, from {what}"
    return what if len(what) <= 24 else what[:23] + "…"


def _at(ns: int) -> str:
    return f"+{_took(ns / 1e6)}"


def _took(ms: float) -> str:
    if ms < 0.9995:
        return f"{ms * 1000:.0f}us"
    if ms < 9.995:
        return f"{ms:.1f}ms"
    if ms < 9999.5:
        return f"{ms:.0f}ms"
    return f"{ms / 1000:.1f}s"


def _short_name(name: str) -> str:
    """`publish leeward.decisions.v1` without what all topics have in common."""
    return name.replace(" leeward.", " ").removesuffix(".v1")


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else text[:39] + "…"
