"""Commands that only read: `status`, `health`, `decisions`, `explain`."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar
from urllib.parse import urlsplit

import typer

from ops import status as fleet_status
from ops.cli.output import STATE_DIR, Format, FormatOption, StateDirOption, UrlOption
from ops.cli.watching import Watchable, WatchOption, shown
from ops.client import ControlPlanes, Refused, open_client
from ops.errors import Bad, OpsError, Usage
from ops.leading import Leading, leading
from ops.local.processes import Kind
from ops.local.stack import Stack
from ops.shaping import Shaping, said, shaping
from shared.telemetry import trace_id_of
from shared.vocabulary.base import Version
from shared.vocabulary.status import StackStatus
from shared.vocabulary.view import HealthView

Answer = TypeVar("Answer")

LISTED = 5
"""Routes and reasons of a decision that its row names; `leeward explain` has all."""


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    for command in (status, health, decisions, explain):
        app.command(command.__name__, cls=Watchable)(command)


def status(
    state_dir: StateDirOption = STATE_DIR,
    url: UrlOption = None,
    output: FormatOption = Format.TABLE,
    watch: WatchOption = None,
) -> int:
    """Every part of the fleet, and what operators have ordered. Exit code 0 when all is well, 1 when
    not, 3 when nobody answers."""

    async def look() -> tuple[StackStatus, list[str]]:
        urls = known_urls(state_dir, url)
        async with open_client() as client:
            whole = (
                fleet_status.of_url(client, urls[0])
                if url
                else fleet_status.of_stack(client, Stack.find(state_dir).file)
            )
            now, notes = await asyncio.gather(whole, _notes(ControlPlanes(client, urls), output))
            return now, notes

    def table(answer: tuple[StackStatus, list[str]]) -> Any:
        from ops import render

        return render.status(*answer)

    def code(answer: tuple[StackStatus, list[str]]) -> int:
        if fleet_status.nobody_answers(answer[0]):
            return 3
        return 0 if fleet_status.is_good(answer[0]) else 1

    return shown(look, table, content=lambda answer: answer[0], code=code, output=output, every_s=watch)


async def _notes(planes: ControlPlanes, output: Format) -> list[str]:
    """For the table: what shapes the traffic besides health, and removals that are suspended by
    themselves. JSON and YAML have their commands for it."""
    if output is not Format.TABLE:
        return []
    try:
        found, view = await asyncio.gather(shaping(planes), planes.health())
    except OpsError:
        return []
    return [*said(found), *(f"automatic removals suspended: {freeze.detail}" for freeze in view.freezes)]


def health(
    state_dir: StateDirOption = STATE_DIR,
    url: UrlOption = None,
    output: FormatOption = Format.TABLE,
    watch: WatchOption = None,
) -> int:
    """The verdicts on regions and targets, with the evidence, and what operators have ordered. Exit code 1
    unless all is healthy and etcd answers."""

    async def question(planes: ControlPlanes) -> tuple[HealthView, Shaping, Leading]:
        if output is not Format.TABLE:
            return await planes.health(), Shaping(), await _leading(planes)
        return await asyncio.gather(planes.health(), shaping(planes), _leading(planes))

    def table(answer: tuple[HealthView, Shaping, Leading]) -> Any:
        from ops import render

        return render.health(answer[0], said(answer[1]), etcd_answers=answer[2].etcd_answers)

    return shown(
        lambda: put(state_dir, url, question),
        table,
        content=lambda answer: answer[0],
        code=lambda answer: 0 if answer[0].status == "healthy" and answer[2].etcd_answers else 1,
        output=output,
        every_s=watch,
    )


async def _leading(planes: ControlPlanes) -> Leading:
    try:
        return leading([await planes.get("/v1/leader")])
    except OpsError:
        return Leading()


def decisions(
    state_dir: StateDirOption = STATE_DIR,
    url: UrlOption = None,
    output: FormatOption = Format.TABLE,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many, newest first.")] = 20,
    watch: WatchOption = None,
) -> int:
    """The timeline of decisions, newest first."""

    async def question(planes: ControlPlanes) -> Any:
        return (await planes.get(f"/v1/decisions?limit={limit}"))["decisions"][:limit]

    return shown(
        lambda: put(state_dir, url, question),
        timeline,
        content=lambda entries: {"decisions": entries},
        output=output,
        every_s=watch,
    )


def explain(
    version: Annotated[str, typer.Argument(metavar="GEN.SEQ", help="As in a response's x-leeward-decision.")],
    state_dir: StateDirOption = STATE_DIR,
    url: UrlOption = None,
    output: FormatOption = Format.TABLE,
    watch: WatchOption = None,
) -> int:
    """Why a decision is what it is: reasons, evidence, and what it excluded."""
    try:
        asked = Version.parse(version)
    except ValueError as error:
        raise Usage(str(error)) from None

    async def question(planes: ControlPlanes) -> Any:
        try:
            return await planes.get(f"/v1/decisions/{asked}")
        except Refused as refused:
            raise Bad(f"decision {asked}: {refused}") from None

    return shown(lambda: put(state_dir, url, question), _explanation, output=output, every_s=watch)


async def put(
    state_dir: Path, url: str | None, question: Callable[[ControlPlanes], Awaitable[Answer]]
) -> Answer:
    """Put `question` to the control planes of the stack in `state_dir`, or to the one at `url`."""
    async with open_client() as client:
        return await question(ControlPlanes(client, known_urls(state_dir, url)))


def ask(state_dir: Path, url: str | None, question: Callable[[ControlPlanes], Awaitable[Answer]]) -> Answer:
    """As `put`, for a command that asks once."""
    return asyncio.run(put(state_dir, url, question))


def known_urls(state_dir: Path, url: str | None) -> list[str]:
    """The one that `--url` names, else the replicas of the local stack. Raises Usage for what is no
    address, and when there is no stack."""
    if not url:
        return control_plane_urls(state_dir)
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good:
        raise Usage(f"--url {url}: write http://HOST:PORT or https://HOST:PORT")
    return [url.rstrip("/")]


def control_plane_urls(state_dir: Path) -> list[str]:
    """The replicas of the local stack; raises Usage when there is no stack."""
    processes = Stack.find(state_dir).file.processes
    return [record.url for record in processes if record.kind is Kind.CONTROL_PLANE and record.url]


def timeline(entries: Sequence[Any]) -> Any:
    """Commits, as `GET /v1/decisions` tells them, for a terminal."""
    from ops import render

    return render.rows(
        ("version", "at (UTC)", "leader", "routes", "why"),
        [
            (
                entry["version"],
                str(entry["at"])[5:19].replace("T", " "),
                f"{entry['term']['holder']} ({entry['term']['epoch']})",
                _first([route for route, _ in entry["routes"]], entry.get("routes_changed"), " "),
                _first(list(dict.fromkeys(entry.get("brief") or entry["said"])), None, " "),
            )
            for entry in entries
        ],
    )


def _first(parts: Sequence[str], number: int | None, between: str) -> str:
    """The first of them, and how many more there are."""
    more = (number or len(parts)) - min(LISTED, len(parts))
    return between.join([*parts[:LISTED], *([f"and {more} more"] if more > 0 else [])])


def trace_of(explanation: Any) -> str | None:
    """The trace id of a decision, as `GET /v1/decisions/{version}` tells it."""
    told = [explanation.get("commit") or {}, *explanation["documents"]]
    return next((trace_id_of(each["traceparent"]) for each in told if each.get("traceparent")), None)


def _explanation(answer: Any) -> Any:
    from rich.console import Group
    from rich.text import Text

    from ops import render

    parts: list[Any] = [Text(f"because {told}") for told in answer.get("brief") or answer["said"]]
    if trace_id := trace_of(answer):
        parts.append(Text(f"trace {trace_id}: leeward trace {answer['version']}", style="dim"))
    for document in answer["documents"]:
        parts.append(
            Text(
                f"route {document['route']}: decided {document['decided_at']} by "
                f"{document['term']['holder']}, epoch {document['term']['epoch']}",
                style="bold",
            )
        )
        parts += [
            Text(f"  without {out['target']}: {out['reason']} ({out['by']})") for out in document["excluded"]
        ]
        parts.append(render.rows(("  client region", "tier", "share", "targets"), _shares(document)))
        evidence = [
            (
                f"  {item['vantage']}",
                item["target"],
                item["outcome"],
                f"{item['source']} boot {item['boot']} seq {item['seq']}",
                item.get("detail") or "",
            )
            for item in document["evidence"]
        ]
        if evidence:
            parts.append(render.rows(("  seen from", "target", "outcome", "event", "detail"), evidence))
    return Group(*parts)


def _shares(document: Any) -> list[tuple[str, ...]]:
    return [
        (
            f"  {region}",
            str(number),
            f"{tier['share_permille'] / 10:g} %",
            ", ".join(f"{t['id']} {t['weight_permille'] / 10:g} %" for t in tier["targets"]) or "-",
        )
        for region, plan in document["regions"].items()
        for number, tier in enumerate(plan["tiers"], start=1)
    ]
