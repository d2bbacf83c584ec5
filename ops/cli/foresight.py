"""`leeward plan`, `record` and `replay`: what would be decided, and what would have been."""

import asyncio
import os
import tempfile
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from ops.cli.output import STATE_DIR, Format, FormatOption, StateDirOption, UrlOption, check_new, emit
from ops.cli.reading import control_plane_urls
from ops.client import ControlPlanes, open_client
from ops.errors import Usage
from ops.overrides import named

PLAN_TIMEOUT_S = 30.0

NodeOption = Annotated[
    Path | None,
    typer.Option("--node", metavar="FILE", help="A control plane's node file: the buses it names are read."),
]
BusOption = Annotated[
    list[str] | None, typer.Option("--bus", metavar="REGION=HOST:PORT", help="A bus to read; repeat it.")
]
UntilOption = Annotated[
    str | None, typer.Option("--until", metavar="TIME", help="The end; now when absent. As for --from.")
]


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command("plan")(plan)
    app.command("record")(record)
    app.command("replay")(replay)


def plan(
    config: Annotated[
        Path | None, typer.Option("--config", metavar="FILE", help="Decide by this file's fleet.")
    ] = None,
    drain: Annotated[
        list[str] | None, typer.Option(metavar="REGION|TARGET", help="As if drained; repeat it.")
    ] = None,
    pin: Annotated[
        list[str] | None,
        typer.Option(metavar="ROUTE=REGION|TARGET", help="As if the route were pinned there; repeat it."),
    ] = None,
    freeze: Annotated[
        list[str] | None, typer.Option(metavar="ROUTE|all", help="As if frozen; repeat it.")
    ] = None,
    lift: Annotated[
        list[str] | None, typer.Option(metavar="ID", help="As if this override were lifted; repeat it.")
    ] = None,
    down: Annotated[
        list[str] | None, typer.Option(metavar="REGION|TARGET", help="As if it were DOWN; repeat it.")
    ] = None,
    state_dir: StateDirOption = STATE_DIR,
    url: UrlOption = None,
    output: FormatOption = Format.TABLE,
) -> int:
    """What would be decided, at once and in the end; nothing is changed. Exit code 1 when it would be
    refused, or requests would fail."""
    from shared.config_file import load_fleet

    fleet = load_fleet(config).model_dump(mode="json") if config is not None else None
    pins = parse_pins(pin or ())

    async def ask() -> Any:
        async with open_client(timeout_s=PLAN_TIMEOUT_S) as client:
            planes = ControlPlanes(client, [url.rstrip("/")] if url else control_plane_urls(state_dir))
            known = fleet or (await planes.get("/v1/config"))["fleet"]

            def whom(name: str) -> dict[str, str]:
                return named(known, name, of=str(config) if config else "the configuration in force")

            for name in down or ():
                whom(name)
            question = {
                "fleet": fleet,
                "overrides": planned(whom, drain or (), pins, freeze or ()),
                "without_overrides": lift or [],
                "assume_down": down or [],
            }
            return await planes.change("POST", "/v1/plan", question, timeout_s=PLAN_TIMEOUT_S)

    answer = asyncio.run(ask())
    emit(answer, output, lambda: plan_table(answer))
    return 0 if answer["safe"] else 1


def record(
    to: Annotated[Path, typer.Option("--to", metavar="FILE", help="Where to; `.gz` at the end packs it.")],
    for_: Annotated[
        str | None, typer.Option("--for", metavar="SPAN", help="From now on, for so long: 90s, 30m, 2h.")
    ] = None,
    from_: Annotated[
        str | None,
        typer.Option("--from", metavar="TIME", help="From then on: 2026-11-22T19:30:00Z, or 30m ago."),
    ] = None,
    until: UntilOption = None,
    node: NodeOption = None,
    bus: BusOption = None,
    state_dir: StateDirOption = STATE_DIR,
    url: UrlOption = None,
) -> None:
    """Write what is heard and decided to a file, for `replay`: of the past, or for a time from now."""
    span = _span(for_, from_, until)
    check_new(to, "--to")
    gathered = asyncio.run(_record(span, to, node, bus, state_dir, url))
    print(f"{to}: {gathered.events} events, {gathered.commits} decisions and configurations")
    for note in gathered.notes:
        print(f"note: {note}")


def replay(
    from_: Annotated[
        str,
        typer.Option("--from", metavar="FILE|TIME", help="A recording; or a time, or 30m: read the buses."),
    ],
    policy: Annotated[
        list[Path] | None,
        typer.Option(
            "--policy", metavar="FILE", help="Another configuration, or its `policy:` alone; repeat it."
        ),
    ] = None,
    tolerance: Annotated[
        str,
        typer.Option(metavar="SPAN", help="A removal further than this from any outage is a false alarm."),
    ] = "10s",
    until: UntilOption = None,
    node: NodeOption = None,
    bus: BusOption = None,
    state_dir: StateDirOption = STATE_DIR,
    url: UrlOption = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """Run recorded events through other configurations, beside what happened."""
    from ops.moments import is_moment, span_s
    from ops.replay import render
    from ops.replay.recording import Recording

    tolerance_s = span_s(tolerance, option="--tolerance")
    if Path(from_).is_file() or not is_moment(from_):
        if until or node or bus:
            raise Usage("--until, --node and --bus are for reading the buses, and --from names a file")
        found = _replay(Recording.open(Path(from_)), policy or [], tolerance_s)
    else:
        with tempfile.TemporaryDirectory(prefix="leeward-replay-") as folder:
            file = Path(folder) / "recording.jsonl"
            asyncio.run(_record(_span(None, from_, until), file, node, bus, state_dir, url))
            found = _replay(Recording.open(file), policy or [], tolerance_s)
        found = found.model_copy(update={"recording": f"the buses since {from_}"})
    emit(found, output, lambda: render.report(found))


def _replay(recording: Any, policies: Sequence[Path], tolerance_s: float) -> Any:
    from rich.progress import Progress

    from ops.render import console
    from ops.replay.candidates import candidates
    from ops.replay.run import replay as run

    fleets = candidates(policies, recording.header.config.fleet)
    # Refreshed by hand, for the replay forks and wants no threads beside it.
    with Progress(console=console(stderr=True), transient=True, auto_refresh=False) as bar:
        task = bar.add_task("replaying", total=1.0)
        return run(
            recording,
            fleets,
            tolerance_s=tolerance_s,
            progress=lambda part: bar.update(task, completed=part, refresh=True),
            workers=os.cpu_count() or 1,
        )


async def _record(
    span: Any, to: Path, node: Path | None, bus: Sequence[str] | None, state_dir: Path, url: str | None
) -> Any:
    import logging

    import structlog

    from ops.render import console
    from ops.replay.gather import record as gather
    from ops.replay.origins import origins

    # What a bus has to say of itself is in the notes; its log lines would run through the progress.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    told = origins(state_dir, node=node, buses=bus or (), without_stack=url is not None)
    urls = [url.rstrip("/")] if url else control_plane_urls(state_dir)
    with console(stderr=True).status("recording") as line:
        async with open_client() as client:
            return await gather(
                span,
                to,
                buses=told.buses,
                planes=ControlPlanes(client, urls),
                reconcile_s=told.reconcile_s,
                progress=lambda text: line.update(f"recording: {text}"),
            )


def _span(for_: str | None, from_: str | None, until: str | None) -> Any:
    from ops.moments import moment, span_s
    from ops.replay.gather import Span
    from shared.clock import SystemClock

    now = SystemClock().now()
    if (for_ is None) == (from_ is None) or (for_ is not None and until is not None):
        raise Usage("say --for SPAN, or --from TIME with or without --until")
    began: datetime = now if from_ is None else moment(from_, now=now)
    if for_ is not None:
        ended = now + timedelta(seconds=span_s(for_, option="--for"))
    else:
        ended = moment(until, now=now) if until else now
    if not began < ended <= max(now, ended if for_ else now):
        raise Usage(
            f"from {began:%Y-%m-%d %H:%M:%S} until {ended:%Y-%m-%d %H:%M:%S} UTC is no time in the past"
        )
    return Span(began, ended)


def parse_pins(texts: Sequence[str]) -> list[tuple[str, str]]:
    """Route and whom it is pinned to. Raises Usage."""
    pins = []
    for text in texts:
        route, equals, name = text.partition("=")
        if not (route and equals and name):
            raise Usage(f"--pin {text}: write ROUTE=REGION or ROUTE=TARGET")
        pins.append((route, name))
    return pins


def planned(
    whom: Callable[[str], dict[str, str]],
    drains: Sequence[str],
    pins: Sequence[tuple[str, str]],
    freezes: Sequence[str],
) -> list[dict[str, str]]:
    """The specs of overrides that the options mean; `whom` says whether a name is a region's or a
    target's, and raises Usage for another."""
    planned = [{"kind": "drain", **whom(name)} for name in drains]
    planned += [{"kind": "pin", "route": route, **whom(name)} for route, name in pins]
    planned += [{"kind": "freeze", **({} if name == "all" else {"route": name})} for name in freezes]
    return planned


def plan_table(answer: Any) -> Any:
    """What `POST /v1/plan` answered, for a terminal."""
    from rich.console import Group
    from rich.text import Text

    from ops import render

    parts: list[Any] = [Text(f"from decision {answer['version']}, configuration {answer['config_version']}")]
    changes = [
        (
            clients["route"] if not number else "",
            clients["region"] if not number else "",
            share["target"],
            *(_percent(share[f"{stage}_permille"]) for stage in ("now", "at_once", "in_the_end")),
        )
        for clients in answer["changes"]
        for number, share in enumerate(clients["targets"])
    ]
    if changes:
        parts.append(render.rows(("route", "clients", "target", "now", "at once", "in the end"), changes))
        end = f"the end is reached after about {answer['after_s']:.0f} s"
        parts.append(Text(end if answer["settled"] else f"no end within {answer['after_s']:.0f} s"))
    else:
        parts.append(Text("nothing would change"))
    parts += [Text(f"because {said}") for said in answer["said"]]
    told = dict.fromkeys((each["route"], each["target"], each["reason"]) for each in answer["excluded"])
    parts += [Text(f"without {target} on {route}: {reason}") for route, target, reason in told]
    parts += [
        Text(
            f"warning: {each['route']}, clients of {each['region']}: {each['what']}",
            style="red" if each["grave"] else "yellow",
        )
        for each in answer["warnings"]
    ]
    parts += [Text(f"refused: {refusal}", style="red") for refusal in answer["refusals"]]
    return Group(*parts)


def _percent(permille: int) -> str:
    return f"{permille / 10:g} %" if permille else "-"
