"""How a change of the configuration is put through: shown, agreed to, made, and followed until everybody
works by it. `config apply` and `config rollback` differ in what they ask for alone."""

import asyncio
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
from rich.console import Console

from control_plane.core.config_diff import Change
from ops.adoption import adopted
from ops.cli.failures import complain
from ops.cli.reading import control_plane_urls
from ops.client import ControlPlanes, Refused, open_client
from ops.differences import lines
from ops.errors import Bad
from ops.render import console


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """What the operator wants, and how."""

    method: str
    path: str
    body: dict[str, Any]
    author: str
    reason: str
    yes: bool
    force: bool
    dry_run: bool
    wait_s: float


def put_through(intent: Intent, state_dir: Path, url: str | None) -> int:
    """Carry it out on the local stack, or at `url`; the command's exit code. Raises OpsError."""
    urls = [url.rstrip("/")] if url else control_plane_urls(state_dir)
    return asyncio.run(_put_through(intent, urls))


async def _put_through(intent: Intent, urls: list[str]) -> int:
    terminal = console()
    async with open_client() as client:
        planes = ControlPlanes(client, urls)
        etag = await _standing(planes)
        foreseen = await _ask_for(planes, intent, etag, dry_run=True)
        if not foreseen["changes"]:
            terminal.print(f"nothing differs from version {foreseen['config_version']}")
            return 0
        _show(terminal, foreseen)
        if foreseen["objections"] and not intent.force:
            complain("refused; nothing was changed. --force overrules it")
            return 1
        if intent.dry_run:
            return 0
        if not intent.yes and sys.stdin.isatty() and not typer.confirm("Apply?"):
            complain("nothing was changed")
            return 1
        done = await _ask_for(planes, intent, etag, dry_run=False)
        terminal.print(f"version {done['config_version']} is in force, by {intent.author}")
        if intent.wait_s == 0:
            return 0
        everybody, lagging = await adopted(client, planes, done["config_version"], within_s=intent.wait_s)
    for one in lagging:
        runs = "does not answer" if one.config_version is None else f"still runs {one.config_version}"
        complain(f"{one.id} {runs}")
    if not lagging:
        terminal.print(f"everybody runs it: {', '.join(one.id for one in everybody[1:])}")
    return 1 if lagging else 0


async def _standing(planes: ControlPlanes) -> str:
    """The entity tag of what is in force, which the change must find unchanged."""
    try:
        _, etag = await planes.get_tagged("/v1/config")
    except Refused as refused:
        if refused.status == 404:
            return '"0-"'
        raise
    return etag


async def _ask_for(planes: ControlPlanes, intent: Intent, etag: str, *, dry_run: bool) -> dict[str, Any]:
    try:
        answer: dict[str, Any] = await planes.change(
            intent.method,
            f"{intent.path}?dry_run={str(dry_run).lower()}",
            {**intent.body, "author": intent.author, "reason": intent.reason, "forced": intent.force},
            headers={"if-match": etag},
        )
    except Refused as refused:
        if refused.status == 412:
            raise Bad(f"somebody else changed it meanwhile: {refused}") from None
        raise
    return answer


def _show(terminal: Console, foreseen: dict[str, Any]) -> None:
    for line in lines([Change.model_validate(change) for change in foreseen["changes"]]):
        terminal.print(line)
    for finding in foreseen["warnings"]:
        complain(f"warning: {finding['what']}")
    for finding in foreseen["objections"]:
        complain(f"objection: {finding['what']}")
