"""What `leeward drill run` shows while a drill runs, and the report in the end."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from ops import render
from ops.drill.judge import NOT_MEASURED
from ops.drill.runner import Told
from ops.drill.words import amount, in_words, named
from shared.vocabulary.status import DrillEvent, DrillReport, Expected

LAST_EVENTS = 12
_COLOURS = {"PASSED": "green", "FAILED": "red", "ABORTED": "yellow"}
_PHASES = ("preparing", "warm", "fault", "recovery", "reporting")


@contextlib.contextmanager
def progress(*, on_stderr: bool) -> Iterator[Callable[[Told], None]]:
    """What to call with every change: a panel that renews itself on a terminal, else a line for each
    phase and event."""
    console = render.console(stderr=on_stderr)
    if not console.is_terminal:
        yield _lines(console)
        return
    with Live(console=console, auto_refresh=False, transient=True) as live:
        yield lambda told: live.update(panel(told), refresh=True)


def panel(told: Told) -> RenderableType:
    """How a drill stands, in a screenful."""
    course, tally = told.course, told.tally
    phases = Text(f"{told.drill.id} {told.drill.spec.drill}  ")
    for phase in _PHASES:
        phases.append(f"{phase} ", style="bold reverse" if phase == course.phase else "dim")
    load = Text(
        f"{tally.requests} requests, {tally.failed} failed, {tally.degraded} degraded, "
        f"{tally.lost} of {tally.streams} streams lost, success rate {tally.success_rate:.4%}"
    )
    events = [Text(_line(event)) for event in course.ordered[-LAST_EVENTS:]]
    return Group(phases, load, *events, Text("Ctrl-C ends it and undoes everything", style="dim"))


def table(report: DrillReport) -> Any:
    """The report for a terminal."""
    parts: list[Any] = [
        Text.assemble(f"{report.drill}: ", (report.outcome, _COLOURS[report.outcome]), f"  {report.id}"),
        *(Text(f"  {failure}", style="red") for failure in report.failures),
    ]
    if report.hypothesis:
        parts.append(Text(report.hypothesis, style="italic"))
    if report.expectations:
        rows = [
            (
                named(each.name),
                amount(each.name, each.expected),
                amount(each.name, each.measured),
                _verdict(each),
            )
            for each in report.expectations
        ]
        parts.append(render.rows(("what", "expected", "measured", "verdict"), rows))
    parts += [
        Text(
            f"detected {_ms(report.detect_ms, report)}, decided {_ms(report.decide_ms, report)}, applied "
            f"everywhere {_ms(report.apply_ms, report)}, recovered {_ms(report.recovered_ms, report)} "
            "(from its end)"
        ),
        Text(
            f"{report.requests} requests, {report.failed} failed, {report.degraded} degraded, "
            f"{report.lost_streams} of {report.streams} streams lost, success rate {report.success_rate:.4%}"
        ),
        render.rows(
            ("at", "event", "values"),
            [(f"{event.at_ms:.0f} ms", event.event, in_words(event.values)) for event in report.timeline],
        ),
    ]
    if report.trace_id:
        parts.append(Text(f"trace: leeward trace {report.trace_id}"))
    if report.report_html:
        parts.append(Text(f"report: {report.report_html}"))
    return Group(*parts)


def _lines(console: Console) -> Callable[[Told], None]:
    shown: set[int] = set()
    phase = ""

    def show(told: Told) -> None:
        nonlocal phase
        if told.course.phase != phase:
            phase = told.course.phase
            console.print(f"{told.drill.id} {told.drill.spec.drill}: {phase}", soft_wrap=True)
        for number, event in enumerate(told.course.timeline):
            if number not in shown:
                shown.add(number)
                console.print(f"  {_line(event)}", soft_wrap=True)

    return show


def _line(event: DrillEvent) -> str:
    said = in_words(event.values)
    return f"{event.at_ms:>8.0f} ms  {event.event}{f': {said}' if said else ''}"


def _verdict(each: Expected) -> str:
    if each.measured == NOT_MEASURED:
        return "-"
    return "as expected" if each.ok else "NOT as expected"


def _ms(value: float | None, report: DrillReport) -> str:
    if value is None:
        return "not waited for" if report.outcome == "ABORTED" else "never"
    return f"{value:.0f} ms"
