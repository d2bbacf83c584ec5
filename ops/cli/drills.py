"""`leeward drill list|run`."""

import asyncio
import signal
from pathlib import Path
from typing import Annotated, Any

import typer

from ops.cli.output import STATE_DIR, Format, FormatOption, StateDirOption, emit
from ops.errors import Usage
from ops.local.stack import Stack
from shared.vocabulary.status import DrillReport

DRILLS = {"region-outage": "Everything in one region dies at once, and comes back."}


def build() -> typer.Typer:
    """The `drill` group."""
    group = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
    group.command("list")(list_drills)
    group.command("run")(run)
    return group


def list_drills(output: FormatOption = Format.TABLE) -> None:
    """The drills there are."""
    content = [{"drill": name, "what": what} for name, what in DRILLS.items()]

    def table() -> Any:
        from ops import render

        return render.rows(("drill", "what"), [(each["drill"], each["what"]) for each in content])

    emit(content, output, table)


def run(
    drill: Annotated[str, typer.Argument(metavar="DRILL", help="One of `leeward drill list`.")],
    region: Annotated[
        str | None, typer.Option(help="Where it strikes; the second of the stack's when absent.")
    ] = None,
    rate: Annotated[float, typer.Option(min=1, max=200, help="Requests per second meanwhile.")] = 30.0,
    state_dir: StateDirOption = STATE_DIR,
    output: FormatOption = Format.TABLE,
) -> int:
    """Break the local stack on purpose, measure, and mend it. Exit code 0 when it passed."""
    if drill not in DRILLS:
        raise Usage(f"no drill {drill!r}; there is {', '.join(DRILLS)}")
    stack = Stack.find(state_dir)
    where = region or stack.file.regions[min(1, len(stack.file.regions) - 1)]
    report = asyncio.run(_run(stack, where, rate))
    emit(report, output, lambda: _table(report))
    return 0 if report.outcome == "PASSED" else 1


async def _run(stack: Stack, region: str, rate: float) -> DrillReport:
    from ops.drill.local import run_region_outage
    from ops.drill.sight import Sight
    from shared.clock import SystemClock

    def stoppable(sight: Sight) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, sight.stop, "interrupted")

    return await run_region_outage(stack, region, clock=SystemClock(), on_sight=stoppable, rate_per_s=rate)


def _table(report: DrillReport) -> Any:
    from rich.console import Group
    from rich.text import Text

    from ops import render
    from ops.drill.html import in_words

    def ms(value: float | None) -> str:
        return "never" if value is None else f"{value:.0f} ms"

    colour = {"PASSED": "green", "FAILED": "red", "ABORTED": "yellow"}[report.outcome]
    parts: list[Any] = [
        Text.assemble(f"{report.drill}: ", (report.outcome, colour)),
        *(Text(f"  {failure}", style="red") for failure in report.failures),
        Text(
            f"detected {ms(report.detect_ms)}, decided {ms(report.decide_ms)}, applied everywhere "
            f"{ms(report.apply_ms)}, recovered {ms(report.recovered_ms)} after its end"
        ),
        Text(
            f"{report.requests} requests, {report.failed} failed, {report.degraded} degraded, "
            f"success rate {report.success_rate:.4%}"
        ),
        render.rows(
            ("at", "event", "values"),
            [
                (
                    f"{event.at_ms:.0f} ms",
                    event.event,
                    in_words(event.values),
                )
                for event in report.timeline
            ],
        ),
    ]
    if report.report_html:
        parts.append(Text(f"report: {Path(report.report_html)}"))
    return Group(*parts)
