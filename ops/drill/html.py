"""A drill's report as one HTML file that needs nothing else: no script, nothing that is loaded.

It may be shown under `default-src 'none'; style-src 'unsafe-inline'`, and sandboxed. Whatever a fleet says
is escaped. However long the drill was, it stays below MAX_BYTES; what is left out for that is said, and
stands in the JSON beside it.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from html import escape
from urllib.parse import quote, urlsplit

import yaml

from ops.drill.pictures import Pictures, pictures
from ops.drill.plots import STYLE as PLOT_STYLE
from ops.drill.plots import areas, lines, mark_letters, patterns
from ops.drill.record import DecisionSeen, DrillRecordData, Injected
from ops.drill.words import amount, in_words, named
from shared.vocabulary.status import DrillReport

MAX_BYTES = 300_000
MAX_ROWS = 40
"""Of the timeline, the decisions and whatever else is a list: the first ones and the last."""
MAX_FAILURES = 20
MAX_SAID = 3
MAX_WORDS = 200
NO_BREAK = "\N{NO-BREAK SPACE}"
MAX_TEXT_BYTES = 400
"""Of one text, escaped."""

_STYLE = """
*{box-sizing:border-box}body{font:16px/1.5 system-ui,sans-serif;max-width:62rem;margin:1.5rem auto;padding:0 1rem;color:var(--ink);background:var(--paper)}
h1{font-size:1.5rem;margin:.2rem 0}h2{font-size:1.15rem;margin:2.2rem 0 .5rem;border-bottom:1px solid var(--rule);padding-bottom:.2rem}
p{margin:.5rem 0}.soft{color:var(--soft)}a{color:var(--c0)}
.outcome{display:inline-block;padding:0 .6rem;border-radius:.3rem;border:2px solid currentColor;font-size:1.1rem;white-space:nowrap}
.good{color:#116329}.bad{color:#a40e26}.middling{color:#7d4e00}
@media screen and (prefers-color-scheme:dark){.good{color:#56d364}.bad{color:#ff7b72}.middling{color:#e3b341}}
.figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(9.5rem,1fr));gap:.6rem;margin:1rem 0;padding:0}
.figures div{border:1px solid var(--rule);border-radius:.4rem;padding:.4rem .7rem}.figures dt{color:var(--soft);font-size:.85rem}
.figures dd{margin:0;font-size:1.25rem;font-variant-numeric:tabular-nums;white-space:nowrap}
blockquote{margin:.5rem 0;padding:.2rem 0 .2rem .9rem;border-left:4px solid var(--c0)}
.wide{overflow-x:auto}table{border-collapse:collapse;width:100%;font-size:.92rem}
th,td{text-align:left;padding:.3rem .7rem .3rem 0;border-bottom:1px solid var(--rule);vertical-align:top;overflow-wrap:break-word}
th{color:var(--soft);font-weight:600}td.n,th.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}td.w{min-width:13rem}
@media (max-width:40rem){td.n,th.n{white-space:normal}td,th{padding-right:.5rem}td.w{min-width:8rem}.x{display:none}}
td ul{margin:0;padding-left:1.1rem}code{font-size:.9em;overflow-wrap:anywhere}pre{overflow-x:auto;font-size:.85rem}
@media print{body{max-width:none;margin:0;font-size:11pt}figure,tr{break-inside:avoid}h2{break-after:avoid}.wide{overflow:visible}}
"""


def page(
    report: DrillReport,
    record: DrillRecordData | None = None,
    *,
    at: datetime,
    trace_url: str | None = None,
    explain_url: str | None = None,
) -> str:
    """The whole document. `at` is when it was written.

    `trace_url` and `explain_url` are templates of links, with `{id}` for a trace's id and `{version}` for
    a decision's; raises ValueError for one that has no such place, or is neither http nor https.
    """
    for template, place in ((trace_url, "{id}"), (explain_url, "{version}")):
        if template is not None:
            checked_template(template, place)
    shown = pictures(report, record) if record is not None else None
    sections = [
        _head(report, record, at),
        _summary(report, record),
        _failures(report),
        _hypothesis(report),
        _guard_rails(report),
        _plots(shown) if shown else "",
        _periods(record) if record else "",
        _traffic(shown) if shown else "",
        _timeline(report, record),
        _decisions(record, explain_url) if record else "",
        _injections(record) if record else "",
        _loads(record) if record else "",
        _failed_requests(record) if record else "",
        _trace(report, trace_url),
        _spec(record) if record else "",
    ]
    title = f"Drill {escape(report.drill)}: {report.outcome}"
    return (
        "<!doctype html><html lang=en><meta charset=utf-8>"
        "<meta name=viewport content='width=device-width,initial-scale=1'><meta name=color-scheme content='light dark'>"
        f"<title>{title}</title><style>{PLOT_STYLE}{_STYLE}</style>{''.join(sections)}</html>\n"
    )


def checked_template(template: str, place: str) -> str:
    """`template`, when it is an http address with `place` in it. Raises ValueError."""
    if place not in template or urlsplit(template).scheme not in ("http", "https"):
        raise ValueError(f"{template!r} is no template of a link: write https://HOST/PATH with {place} in it")
    return template


def _head(report: DrillReport, record: DrillRecordData | None, at: datetime) -> str:
    sign, how = {"PASSED": ("✓", "good"), "FAILED": ("✗", "bad"), "ABORTED": ("■", "middling")}[
        report.outcome
    ]
    told = [report.id, report.started_at[:19].replace("T", " ") + " UTC" if report.started_at else ""]
    if record is not None:
        told += [
            f"by {record.author}" if record.author else "",
            f"“{record.reason}”" if record.reason else "",
            f"run by {record.runner}" if record.runner else "",
        ]
    where = f" in {escape(report.region)}" if report.region else ""
    return (
        f"<h1>Drill {escape(report.drill)}{where} <span class='outcome {how}'>{sign} {report.outcome}</span></h1>"
        f"<p class=soft>{escape(' · '.join(part for part in told if part))}"
        f"{' · ' if any(told) else ''}written {at:%Y-%m-%d %H:%M:%S} UTC</p>"
        f"{f'<p>{escape(record.spec.what)}</p>' if record is not None else ''}"
    )


def _summary(report: DrillReport, record: DrillRecordData | None) -> str:
    figures = [
        ("detected after", amount("_ms", report.detect_ms)),
        ("decided after", amount("_ms", report.decide_ms)),
        ("applied after", amount("_ms", report.apply_ms)),
        ("recovered after its end", amount("_ms", report.recovered_ms)),
        ("success rate", amount("success_rate", report.success_rate)),
        ("requests", str(report.requests)),
        ("failed", str(report.failed)),
        ("degraded", str(report.degraded)),
        ("lost streams", f"{report.lost_streams} of {report.streams}"),
    ]
    if record is not None and record.held_s is not None:
        figures.insert(0, ("the fault was held for", f"{record.held_s:.1f} s"))
    boxes = "".join(f"<div><dt>{name}</dt><dd>{escape(value)}</dd></div>" for name, value in figures)
    return f"<dl class=figures>{boxes}</dl>"


def _failures(report: DrillReport) -> str:
    if not report.failures:
        return ""
    told = "".join(f"<li>{_clipped(failure)}" for failure in report.failures[:MAX_FAILURES])
    verb = "ended early" if report.outcome == "ABORTED" else "failed"
    heading = f"Why it {verb}" if report.outcome != "PASSED" else "Besides"
    return f"<h2>{heading}</h2><ul>{told}</ul>"


def _hypothesis(report: DrillReport) -> str:
    if not (report.hypothesis or report.expectations):
        return ""
    content = [
        (
            _verdict(each.ok, "as expected", "not so"),
            _clipped(named(each.name)),
            _right(_bound(each.name, each.expected)),
            _right("never" if each.measured is None else amount(each.name, each.measured)),
        )
        for each in report.expectations
    ]
    said = f"<blockquote>{escape(report.hypothesis)}</blockquote>" if report.hypothesis else ""
    table = _table(("verdict", "what", ">expected", ">what happened"), content) if content else ""
    return f"<h2>The hypothesis, and what happened</h2>{said}{table}"


def _bound(name: str, value: float | str) -> str:
    """`at most 5000 ms`: an expectation is a bound, and which one its name tells."""
    if isinstance(value, str | bool):
        return amount(name, value)
    at_least = name.startswith("min_") or name.endswith("success_permille") or name == "success_rate"
    return f"{'at least' if at_least else 'at most'} {amount(name, value)}"


def _guard_rails(report: DrillReport) -> str:
    if not report.guard_rails:
        return ""
    content = [
        (
            _verdict(rail.ok, "kept", "crossed"),
            _clipped(named(rail.name)),
            _right(_bound(rail.name, rail.limit)),
            _right(amount(rail.name, rail.worst)),
        )
        for rail in report.guard_rails
    ]
    return f"<h2>Guard rails</h2>{_table(('verdict', 'line', '>limit', '>worst'), content)}"


def _plots(shown: Pictures) -> str:
    letters = ", ".join(
        f"<b>{letter}</b> {escape(mark.name)} at {mark.at_s:.2f} s"
        for letter, mark in mark_letters(shown.marks)
    )
    return (
        f"<h2>Before, during and after</h2><p class=soft>Seconds from the injection; the fault is shaded."
        f"{f' {letters}.' if letters else ''} Point at a plot for its values.</p>"
        f"{patterns()}{lines(shown.success)}{areas(shown.requests)}{lines(shown.latency)}"
    )


def _traffic(shown: Pictures) -> str:
    if not shown.traffic:
        return ""
    rest = f"<p class=soft>{shown.clients_left_out} client regions with fewer requests are left out here.</p>"
    return (
        "<h2>Who served whom</h2>"
        + "".join(areas(plot) for plot in shown.traffic)
        + (rest if shown.clients_left_out else "")
    )


def _periods(record: DrillRecordData) -> str:
    content = [
        (
            f"{each.period} the fault",
            _right(f"{each.from_s:.1f} to {each.to_s:.1f} s"),
            _right(str(each.requests)),
            _right(str(each.failed)),
            _right(str(each.degraded)),
            _right(amount("success_rate", each.success_rate) if each.requests else "-"),
            _right(f"{each.lost_streams} of {each.streams}"),
            _right("-" if each.latency_ms_p50 is None else f"{each.latency_ms_p50:.0f} ms"),
            _right("-" if each.latency_ms_p99 is None else f"{each.latency_ms_p99:.0f} ms"),
        )
        for each in record.figures
    ]
    headers = ("", ">when", ">requests", ">failed", ">degraded", ">success", ">lost streams", ">p50", ">p99")
    return _table(headers, content) if content else ""


def _timeline(report: DrillReport, record: DrillRecordData | None) -> str:
    begun = record.injected_at if record is not None else None
    content = [
        (
            _right(f"{event.at_ms:+,.0f} ms".replace(",", " ")),
            escape(f"{begun + timedelta(milliseconds=event.at_ms):%H:%M:%S}") if begun else "",
            _clipped(event.event),
            _clipped(in_words(event.values)),
        )
        for event in report.timeline
    ]
    return (
        f"<h2>Timeline</h2>{_table(('>from the injection', '^UTC', 'what', '~details'), content)}"
        if content
        else ""
    )


def _decisions(record: DrillRecordData, explain_url: str | None) -> str:
    content = [
        (
            _explained(decision.version, explain_url),
            _right(f"{decision.at_s:+.2f} s"),
            f"{_said(decision)}<span class=soft>by {_clipped(decision.by)}, for {_clipped(', '.join(decision.routes) or 'no route')}</span>",
        )
        for decision in record.decisions
    ]
    if not content:
        return "<h2>Decisions</h2><p>None was made while the drill ran."
    return f"<h2>Decisions, and why</h2>{_table(('to explain it', '>at', '~why'), content)}"


def _said(decision: DecisionSeen) -> str:
    told = "".join(f"<li>{_clipped(sentence)}" for sentence in decision.said[:MAX_SAID])
    more = len(decision.said) - MAX_SAID
    return f"<ul>{told}{f'<li class=soft>and {more} more' if more > 0 else ''}</ul>"


def _explained(version: str, template: str | None) -> str:
    command = f"<code>leeward explain {escape(version)}</code>"
    if template is None:
        return command
    return f"<a href='{escape(template.replace('{version}', quote(version, safe='')))}'>{command}</a>"


def _injections(record: DrillRecordData) -> str:
    content = [
        (
            _clipped(each.fault.replace("_", " ")),
            f"{_clipped(each.where)} <span class=soft>by {_clipped(each.by)}</span>",
            _right(_moment(each.done_s)),
            _right(_moment(each.undone_s)),
            _fate(each),
        )
        for each in record.injections
    ]
    if not content:
        return "<h2>What was done</h2><p>Nothing was injected."
    headers = ("fault", "~where", ">done", ">undone", "state")
    return f"<h2>What was done, and undone</h2>{_table(headers, content)}"


def _fate(injected: Injected) -> str:
    words = {
        "PLANNED": "planned, not done",
        "DONE": "not known to be undone: its time to live ends it",
        "UNDONE": "undone",
        "LAPSED": "ended by its time to live",
    }
    return words[injected.state]


def _moment(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds:+.2f} s"


def _loads(record: DrillRecordData) -> str:
    content = [
        (_clipped(each.target), _clipped(each.region), _right(_percent(each.planned_permille_of_capacity)),
         _right(_percent(each.given_permille_of_plan)))
        for each in record.loads
    ]  # fmt: skip
    headers = ("target", "region", ">planned, of its capacity", ">given, of the plan")
    return f"<h2>Load at its worst moment</h2>{_table(headers, content)}" if content else ""


def _percent(permille: int | None) -> str:
    return "-" if permille is None else f"{permille / 10:g} %"


def _failed_requests(record: DrillRecordData) -> str:
    content = [
        (
            _right(f"{each.at_s:+.2f} s"),
            _clipped(each.client),
            _clipped(each.target or "-"),
            _right(f"{each.latency_ms:.0f} ms"),
            _clipped(each.detail),
        )
        for each in record.failed
    ]
    headers = (">left", "clients in", "target", ">took", "~what was wrong")
    return f"<h2>Requests that failed</h2>{_table(headers, content)}" if content else ""


def _trace(report: DrillReport, template: str | None) -> str:
    if not report.trace_id:
        return "<h2>Trace</h2><p>No decision answered the fault, so there is no trace of one."
    command = f"<code>leeward trace {_clipped(report.trace_id)}</code>"
    link = ""
    if template is not None:
        address = template.replace("{id}", quote(report.trace_id, safe=""))
        link = f" It is also kept <a href='{escape(address)}'>where traces go</a>."
    return f"<h2>Trace</h2><p>From the failed probe to the edges that applied the decision: {command}.{link}"


def _spec(record: DrillRecordData) -> str:
    written = record.spec.model_dump(mode="json", exclude_defaults=True)
    text = yaml.safe_dump(written, sort_keys=False, allow_unicode=True, width=100)
    return f"<h2>The drill as it was asked for</h2><details><summary>YAML</summary><pre>{escape(text[:20_000])}</pre></details>"


def _verdict(ok: bool, good: str, bad: str) -> str:
    return f"<span class=good>✓ {good}</span>" if ok else f"<span class=bad>✗ {bad}</span>"


def _right(text: str) -> str:
    """A cell of figures: escaped, and set to the right; a short one stays in one line."""
    return f"\0{_clipped(text.replace(' ', NO_BREAK) if len(text) <= len('+600 000 ms') else text)}"


def _table(headers: Sequence[str], content: Iterable[Sequence[str]]) -> str:
    """Rows of escaped markup. Of a header, `>` sets its column to the right, `~` gives it room, `^` leaves it
    out where the page is narrow. Of more than MAX_ROWS the first and the last stand."""
    rows = list(content)
    left_out = len(rows) - MAX_ROWS
    kinds = [_KINDS.get(header[:1], "") for header in headers]
    told = [_row(kinds, row) for row in rows]
    if left_out > 0:
        note = f"<tr><td class=soft colspan={len(headers)}>… {left_out} more; the JSON report has them"
        told[MAX_ROWS * 2 // 3 : MAX_ROWS * 2 // 3 + left_out] = [note]
    titles = "".join(f"<th{kind}>{header.lstrip('>~^')}" for kind, header in zip(kinds, headers, strict=True))
    return f"<div class=wide><table><tr>{titles}{''.join(told)}</table></div>"


_KINDS = {">": " class=n", "~": " class=w", "^": " class=x"}


def _row(kinds: Sequence[str], row: Sequence[str]) -> str:
    cells = "".join(
        f"<td class=n>{cell[1:]}" if cell.startswith("\0") else f"<td{kind}>{cell}"
        for kind, cell in zip(kinds, row, strict=True)
    )
    return f"<tr>{cells}"


def _clipped(text: str) -> str:
    """Escaped; at most MAX_WORDS characters, and less of what grows much by it."""
    kept = text[:MAX_WORDS]
    while len(escape(kept).encode()) > MAX_TEXT_BYTES:
        kept = kept[: len(kept) * 3 // 4]
    return escape(kept if kept == text else f"{kept.rstrip()}…")
