"""Commands that only read: `status`, `health`, `decisions`, `explain`."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from ops import status as fleet_status
from ops.cli.output import STATE_DIR, Format, FormatOption, StateDirOption, UrlOption, emit
from ops.client import ControlPlanes, Refused, open_client
from ops.errors import Bad, Usage
from ops.local.processes import Kind
from ops.local.stack import Stack
from shared.vocabulary.base import Version

Answer = TypeVar("Answer")


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command("status")(status)
    app.command("health")(health)
    app.command("decisions")(decisions)
    app.command("explain")(explain)


def status(
    state_dir: StateDirOption = STATE_DIR, url: UrlOption = None, output: FormatOption = Format.TABLE
) -> int:
    """Every part of the fleet. Exit code 0 when all is well, 1 when not, 3 when nobody answers."""

    async def ask() -> Any:
        async with open_client() as client:
            if url:
                return await fleet_status.of_url(client, url.rstrip("/"))
            return await fleet_status.of_stack(client, Stack.find(state_dir).file)

    now = asyncio.run(ask())

    def table() -> Any:
        from ops import render

        return render.status(now)

    emit(now, output, table)
    if fleet_status.nobody_answers(now):
        return 3
    return 0 if fleet_status.is_good(now) else 1


def health(
    state_dir: StateDirOption = STATE_DIR, url: UrlOption = None, output: FormatOption = Format.TABLE
) -> int:
    """The verdicts on regions and targets, with the evidence. Exit code 1 unless all is healthy."""
    view = ask(state_dir, url, lambda planes: planes.health())

    def table() -> Any:
        from ops import render

        return render.health(view)

    emit(view, output, table)
    return 0 if view.status == "healthy" else 1


def decisions(
    state_dir: StateDirOption = STATE_DIR,
    url: UrlOption = None,
    output: FormatOption = Format.TABLE,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many, newest first.")] = 20,
) -> None:
    """The timeline of decisions, newest first."""
    answer = ask(state_dir, url, lambda planes: planes.get(f"/v1/decisions?limit={limit}"))
    entries = answer["decisions"][:limit]

    def table() -> Any:
        from ops import render

        return render.rows(
            ("version", "at", "leader", "routes", "why"),
            [
                (
                    entry["version"],
                    str(entry["at"])[11:19],
                    f"{entry['term']['holder']} ({entry['term']['epoch']})",
                    " ".join(route for route, _ in entry["routes"]),
                    "; ".join(entry["said"]),
                )
                for entry in entries
            ],
        )

    emit({"decisions": entries}, output, table)


def explain(
    version: Annotated[str, typer.Argument(metavar="GEN.SEQ", help="As in a response's x-leeward-decision.")],
    state_dir: StateDirOption = STATE_DIR,
    url: UrlOption = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """Why a decision is what it is: reasons, evidence, and what it excluded."""
    try:
        asked = Version.parse(version)
    except ValueError as error:
        raise Usage(str(error)) from None
    try:
        answer = ask(state_dir, url, lambda planes: planes.get(f"/v1/decisions/{asked}"))
    except Refused as refused:
        raise Bad(f"decision {asked}: {refused}") from None
    emit(answer, output, lambda: _explanation(answer))


def ask(state_dir: Path, url: str | None, question: Callable[[ControlPlanes], Awaitable[Answer]]) -> Answer:
    """Put `question` to the control planes of the stack in `state_dir`, or to the one at `url`."""

    async def put() -> Answer:
        async with open_client() as client:
            return await question(ControlPlanes(client, urls))

    urls = [url.rstrip("/")] if url else control_plane_urls(state_dir)
    return asyncio.run(put())


def control_plane_urls(state_dir: Path) -> list[str]:
    """The replicas of the local stack; raises Usage when there is no stack."""
    processes = Stack.find(state_dir).file.processes
    return [record.url for record in processes if record.kind is Kind.CONTROL_PLANE and record.url]


def _explanation(answer: Any) -> Any:
    from rich.console import Group
    from rich.text import Text

    from ops import render

    parts: list[Any] = [Text(f"because {said}") for said in answer["said"]]
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
        parts.append(
            render.rows(
                ("  client region", "tier", "share", "targets"),
                [
                    (
                        f"  {region}",
                        str(number),
                        f"{tier['share_permille'] / 10:g} %",
                        ", ".join(f"{t['id']} {t['weight_permille'] / 10:g} %" for t in tier["targets"])
                        or "-",
                    )
                    for region, plan in document["regions"].items()
                    for number, tier in enumerate(plan["tiers"], start=1)
                ],
            )
        )
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
