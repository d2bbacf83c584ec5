"""`leeward drill schedule add|list|remove`, `drill abort` and `drill history`."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from ops.cli.output import (
    STATE_DIR,
    AuthorOption,
    Format,
    FormatOption,
    StateDirOption,
    UrlOption,
    author_or_user,
    emit,
)
from ops.cli.reading import ask
from ops.client import ControlPlanes, DrillRegister
from ops.errors import Usage
from shared.vocabulary.drill import DrillRequest
from shared.vocabulary.drill_list import DrillBrief, DrillList, ScheduleOrder, ScheduleReport

ReasonOption = Annotated[str, typer.Option("--reason", help="Why; it goes on record.")]


def register(group: typer.Typer) -> None:
    """Add the commands to the `drill` group."""
    for command in (abort, history):
        group.command(command.__name__)(command)
    schedules = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
    schedules.command("add")(add)
    schedules.command("list")(list_schedules)
    schedules.command("remove")(remove)
    group.add_typer(schedules, name="schedule", help="Drills that come due by themselves.")


def add(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What to call it: weekly-outage.")],
    cron: Annotated[
        str, typer.Option("--cron", help="Minute, hour, day, month, weekday, in UTC: '0 3 * * 1'.")
    ],
    drill: Annotated[
        str, typer.Option("--drill", metavar="NAME|FILE", help="A built-in one, or a YAML file.")
    ],
    reason: ReasonOption,
    region: Annotated[
        str | None, typer.Option("--region", help="Where it strikes; the file's when absent.")
    ] = None,
    hold: Annotated[
        float | None, typer.Option("--hold", min=0.1, max=3600, help="Seconds that the fault stays.")
    ] = None,
    author: AuthorOption = None,
    state_dir: StateDirOption = STATE_DIR,
    url: UrlOption = None,
    output: FormatOption = Format.TABLE,
) -> int:
    """Have a drill come due by a cron expression. The leader asks for it, and an agent (`leeward drill
    agent`; a local stack has one) runs it. Exit code 1 when it is refused."""
    from control_plane.catalogue.loader import builtin
    from control_plane.core.cron import fault
    from ops.drill.catalogue import find

    if (wrong := fault(cron)) is not None:
        raise Usage(f"--cron: {wrong}")
    meant = {"name": drill} if drill in builtin() else {"spec": find(drill)}
    asked = {**meant, "region": region, "hold_s": hold, "author": author_or_user(author), "reason": reason}
    order = ordered({"id": name, "cron": cron, "request": asked})

    async def put(planes: ControlPlanes) -> ScheduleReport:
        desk = DrillRegister(planes)
        made = await desk.schedule(order)
        known = {each.schedule.id: each for each in (await desk.all()).schedules}
        return known.get(made.id, ScheduleReport(schedule=made, next_at=None))

    report = ask(state_dir, url, put)
    emit(report, output, lambda: _scheduled([report]))
    return 0


def ordered(fields: Mapping[str, Any]) -> ScheduleOrder:
    """The order, by the letter. Raises Usage with the option that says what nobody could understand."""
    try:
        return ScheduleOrder.model_validate(fields)
    except ValidationError as error:
        wrong = [(".".join(map(str, each["loc"])), each["msg"]) for each in error.errors(include_url=False)]
        raise Usage("\n".join(f"{_OPTIONS.get(field, field)}: {what}" for field, what in wrong)) from None


_OPTIONS = {
    "id": "NAME",
    "cron": "--cron",
    "request.region": "--region",
    "request.author": "--author",
    "request.reason": "--reason",
}


def list_schedules(
    state_dir: StateDirOption = STATE_DIR, url: UrlOption = None, output: FormatOption = Format.TABLE
) -> None:
    """The schedules, with their next time and what became of the last."""
    found = ask(state_dir, url, lambda planes: DrillRegister(planes).all()).schedules
    content = {"schedules": [each.model_dump(mode="json") for each in found]}
    emit(content, output, lambda: _scheduled(found))


def remove(
    name: Annotated[str, typer.Argument(metavar="NAME", help="As `leeward drill schedule list` shows it.")],
    reason: ReasonOption = "not needed any more",
    author: AuthorOption = None,
    state_dir: StateDirOption = STATE_DIR,
    url: UrlOption = None,
) -> None:
    """Drop a schedule. A drill that it has asked for already goes on."""
    by = author_or_user(author)
    ask(state_dir, url, lambda planes: DrillRegister(planes).unschedule(name, author=by, reason=reason))
    print(f"{name}: off the record")


def abort(
    name: Annotated[str, typer.Argument(metavar="ID", help="As `leeward drill history` shows it: drill-23.")],
    reason: ReasonOption,
    author: AuthorOption = None,
    state_dir: StateDirOption = STATE_DIR,
    url: UrlOption = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """End a drill before its time. Of one that runs, its runner undoes everything a moment later."""
    by = author_or_user(author)
    drill = ask(state_dir, url, lambda planes: DrillRegister(planes).abort(name, author=by, reason=reason))
    brief = DrillBrief.of(drill)
    emit(drill, output, lambda: _listed([brief]))


def history(
    limit: Annotated[int, typer.Option(min=1, max=200, help="At most so many, newest first.")] = 20,
    state_dir: StateDirOption = STATE_DIR,
    url: UrlOption = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """The drills on record: the one under way, and the last 50 that are over."""
    known = ask(state_dir, url, lambda planes: DrillRegister(planes).all())
    shown = known.drills[:limit]
    content = {
        **known.model_dump(mode="json", exclude={"schedules"}),
        "drills": [each.model_dump(mode="json") for each in shown],
    }
    emit(content, output, lambda: _history(known, shown))


def _history(known: DrillList, shown: Sequence[DrillBrief]) -> Any:
    from rich.console import Group
    from rich.text import Text

    parts: list[Any] = [_listed(shown)] if shown else [Text("no drill is on record")]
    if known.blocked is not None:
        parts.append(Text(f"none may begin now: {known.blocked}", style="yellow"))
    return Group(*parts)


def _listed(drills: Sequence[DrillBrief]) -> Any:
    from ops import render

    return render.rows(
        ("drill", "what", "region", "asked", "state", "applied", "recovered", "success", "because"),
        [
            (
                each.id,
                each.drill,
                each.region or "-",
                f"{each.requested_at:%m-%d %H:%M}",
                each.state if each.state != "RUNNING" else f"RUNNING, {each.phase}",
                _ms(each.apply_ms),
                _ms(each.recovered_ms),
                "-" if each.success_rate is None else f"{each.success_rate:.2%}",
                _because(each),
            )
            for each in drills
        ],
    )


def _because(drill: DrillBrief) -> str:
    if drill.stop is not None:
        return f"stopped by {drill.stop.by}: {drill.stop.reason}"
    return drill.note or f"{drill.author}: {drill.reason}"


def _scheduled(schedules: Sequence[ScheduleReport]) -> Any:
    from rich.text import Text

    from ops import render

    if not schedules:
        return Text("no drill is scheduled")
    return render.rows(
        ("schedule", "cron", "drill", "region", "next", "last"),
        [
            (
                each.schedule.id,
                each.schedule.cron,
                _drill_of(each.schedule.request),
                _region_of(each.schedule.request) or "-",
                _minute(each.next_at) if each.next_at is not None else "never",
                each.schedule.last_word or "-",
            )
            for each in schedules
        ],
    )


def _drill_of(request: DrillRequest) -> str:
    return request.spec.drill if request.spec is not None else str(request.name)


def _region_of(request: DrillRequest) -> str | None:
    return request.region or (request.spec.region if request.spec is not None else None)


def _minute(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M}"


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f} ms"
