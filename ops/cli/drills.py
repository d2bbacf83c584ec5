"""`leeward drill list|show|run|report|agent`; the rest of the group is `drill_schedule`."""

import asyncio
import signal
from pathlib import Path
from typing import Annotated, Any

import typer

from ops.cli import drill_schedule
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
from ops.cli.reading import ask, known_urls
from ops.errors import Bad, Usage
from shared.vocabulary.drill import DrillSpec
from shared.vocabulary.status import DrillReport

KeyOption = Annotated[
    str | None,
    typer.Option("--key", metavar="REF", help="What clients present to edges: env:NAME or file:PATH."),
]


def build() -> typer.Typer:
    """The `drill` group."""
    group = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
    group.command("list")(list_drills)
    for command in (show, run, report, agent):
        group.command(command.__name__)(command)
    drill_schedule.register(group)
    return group


def list_drills(output: FormatOption = Format.TABLE) -> None:
    """The built-in drills, and what each would prove."""
    from control_plane.catalogue.loader import builtin

    content = [
        {"drill": name, "what": spec.what, "hypothesis": spec.hypothesis} for name, spec in builtin().items()
    ]

    def table() -> Any:
        from ops import render

        rows = [(each["drill"], f"{each['what']} {each['hypothesis']}") for each in content]
        return render.rows(("drill", "what, and what should come of it"), rows)

    emit(content, output, table)


def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="One of `leeward drill list`.")],
) -> None:
    """A built-in drill's YAML, to start one of your own from."""
    from ops.drill.catalogue import text_of

    print(text_of(name), end="")


def run(
    drill: Annotated[
        str, typer.Argument(metavar="NAME|FILE", help="One of `leeward drill list`, or a YAML file.")
    ],
    region: Annotated[
        str | None, typer.Option(help="Where it strikes; the file's, or the fleet's second when absent.")
    ] = None,
    hold: Annotated[
        float | None,
        typer.Option(min=0.1, max=3600, help="Seconds that the fault stays; the file's when absent."),
    ] = None,
    short: Annotated[bool, typer.Option("--short", help="The same in less time: for CI.")] = False,
    rate: Annotated[
        float | None,
        typer.Option(min=1, max=200, help="Requests per second meanwhile; the file's when absent."),
    ] = None,
    reason: Annotated[str, typer.Option("--reason", help="Why; it goes on record.")] = "rehearsal",
    author: AuthorOption = None,
    key: KeyOption = None,
    state_dir: StateDirOption = STATE_DIR,
    url: UrlOption = None,
    output: FormatOption = Format.TABLE,
) -> int:
    """Break something on purpose, measure what clients feel, and mend it. Exit code 0 when the
    hypothesis held, 1 when it did not or the drill ended early."""
    from ops.drill.catalogue import find, shaped

    spec = shaped(find(drill), region=region, hold_s=hold, rate_per_s=rate, short=short)
    done = asyncio.run(
        _run(spec, author_or_user(author), reason, key=key, state_dir=state_dir, url=url, output=output)
    )
    emit(done, output, lambda: _table(done))
    return 0 if done.outcome == "PASSED" else 1


def report(
    name: Annotated[str, typer.Argument(metavar="ID", help="As `leeward drill run` showed it: drill-23.")],
    html: Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write the page here.")] = None,
    json: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the report here.")
    ] = None,
    junit: Annotated[
        Path | None, typer.Option("--junit", metavar="FILE", help="Write JUnit XML here.")
    ] = None,
    state_dir: StateDirOption = STATE_DIR,
    url: UrlOption = None,
    output: FormatOption = Format.TABLE,
) -> int:
    """The report of a drill that is over. Exit code 1 unless it passed."""
    from ops.client import ControlPlanes, DrillRegister

    async def question(planes: ControlPlanes) -> tuple[DrillReport | None, str, str]:
        register = DrillRegister(planes)
        record = await register.one(name)
        page = await register.page(name) if html is not None else ""
        return record.report, page, f"drill {name} is {record.state} {record.note}".strip()

    found, page, state = ask(state_dir, url, question)
    if found is None:
        raise Bad(f"{state}: it has no report")
    if html is not None:
        html.write_text(page)
    if json is not None:
        json.write_text(found.model_dump_json(indent=2) + "\n")
    if junit is not None:
        from ops.drill.junit import document

        junit.write_text(document(found))
    emit(found, output, lambda: _table(found))
    return 0 if found.outcome == "PASSED" else 1


def agent(key: KeyOption = None, state_dir: StateDirOption = STATE_DIR, url: UrlOption = None) -> None:
    """Run drills that the dashboard or a schedule asks for, until told to end. A local stack has one."""
    urls = tuple(known_urls(state_dir, url))
    asyncio.run(_agent(urls, _key(key, url), state_dir, url))


async def _agent(urls: tuple[str, ...], key: str, state_dir: Path, url: str | None) -> None:
    from ops.drill import agent as drill_agent
    from ops.drill.conduct import Line
    from ops.drill.ground import Ground, of_stack, of_url
    from ops.local.stack import Stack
    from shared.clock import SystemClock
    from shared.signals import ended_by_signal
    from shared.supervise import Supervisor

    async def ground(line: Line) -> Ground:
        if url is None:
            return await of_stack(line.orders, Stack.find(state_dir), key=key)
        return await of_url(line.orders, url, key=key, folder=state_dir / "drills")

    with ended_by_signal() as ended:
        async with Supervisor() as supervisor:
            supervisor.start("drills", lambda: drill_agent.run(lambda: urls, ground, clock=SystemClock()))
            await ended.wait()


async def _run(
    spec: DrillSpec,
    author: str,
    reason: str,
    *,
    key: str | None,
    state_dir: Path,
    url: str | None,
    output: Format,
) -> DrillReport:
    from ops.cli.drill_live import progress
    from ops.drill.agent import runner_name
    from ops.drill.conduct import conduct, fitting, line_to
    from ops.drill.ground import of_stack, of_url
    from ops.drill.sight import Sight
    from ops.local.stack import Stack
    from shared.clock import SystemClock
    from shared.vocabulary.drill import DrillRequest

    def stoppable(sight: Sight) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, sight.stop, "interrupted")

    name = runner_name("leeward drill run")
    presented = _key(key, url)
    async with line_to(tuple(known_urls(state_dir, url))) as line:
        if url is None:
            ground = await of_stack(line.orders, Stack.find(state_dir), key=presented)
        else:
            ground = await of_url(line.orders, url, key=presented, folder=state_dir / "drills")
        request = DrillRequest(spec=fitting(spec, ground), author=author, reason=reason, runner=name)
        drill = await line.register.request(request)
        with progress(on_stderr=output is not Format.TABLE) as tell:
            return await conduct(
                drill, ground, line, name=name, clock=SystemClock(), tell=tell, on_sight=stoppable
            )


def _key(reference: str | None, url: str | None) -> str:
    """The secret itself; empty where nothing is said. Raises Usage."""
    from shared.secrets import SecretError, resolve

    if reference is None:
        return ""
    try:
        return resolve(reference)
    except SecretError as error:
        raise Usage(f"--key: {error.problem}") from None


def _table(done: DrillReport) -> Any:
    from ops.cli.drill_live import table

    return table(done)
