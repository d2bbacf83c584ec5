"""`leeward backup`, `leeward backup verify` and `leeward restore`."""

import asyncio
import sys
from pathlib import Path
from typing import Annotated

import typer

from ops.cli.output import (
    STATE_DIR,
    AuthorOption,
    StateDirOption,
    UrlOption,
    author_or_user,
    check_new,
    reasoned,
)
from ops.errors import Bad, Usage
from shared.vocabulary.base import Version


def register(app: typer.Typer) -> None:
    """Add `restore`, and `backup` with what belongs to it."""
    group = typer.Typer(rich_markup_mode=None)
    group.callback(invoke_without_command=True)(take)
    group.command("verify")(verify)
    app.add_typer(group, name="backup", help="Write everything the control plane knows into a file.")
    app.command("restore")(restore)


def take(
    context: typer.Context,
    to: Annotated[Path | None, typer.Option("--to", help="The file to write; it must not exist.")] = None,
    since: Annotated[
        str | None, typer.Option("--since", metavar="GEN.SEQ", help="Only what came after this commit.")
    ] = None,
    state_dir: StateDirOption = STATE_DIR,
    url: UrlOption = None,
) -> int | None:
    """Write everything the control plane knows into a file: configurations, decisions, orders, audit."""
    if context.invoked_subcommand is not None:
        return None
    if to is None:
        raise Usage("name the file: leeward backup --to FILE")
    check_new(to, "--to")
    if since is not None:
        try:
            Version.parse(since)
        except ValueError as error:
            raise Usage(str(error)) from None
    from ops.backups import described, fetch, write

    raw = asyncio.run(fetch(_urls(state_dir, url), since))
    write(to, raw)
    print(f"{to}: {described(raw, name=str(to))[0]}")
    return 0


def verify(
    files: Annotated[list[Path], typer.Argument(metavar="FILE [SINCE...]", help="Full one first, in order.")],
) -> int:
    """Prove that files are whole, and that those since a version go on from the ones before. Exit code 1
    when they are not."""
    from ops.backups import described, load, whole

    for file in files:
        for line in described(load(file), name=str(file)):
            print(f"{file}: {line}")
    records = whole([(str(file), load(file)) for file in files])
    print(f"good: {records} records can be restored")
    return 0


def restore(
    files: Annotated[list[Path], typer.Argument(metavar="FILE [SINCE...]", help="Full one first, in order.")],
    reason: Annotated[
        str | None, typer.Option("--reason", help="Why; it stands in the audit.", callback=reasoned)
    ] = None,
    author: AuthorOption = None,
    force: Annotated[
        bool, typer.Option("--force", help="Over what operators have changed there since it was empty.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    state_dir: StateDirOption = STATE_DIR,
    url: UrlOption = None,
) -> int:
    """Put a backup back, with those since it: the generation rises, and every edge follows."""
    from ops.backups import load, put_back, whole

    parts = [(str(file), load(file)) for file in files]
    records = whole(parts)
    if not yes and sys.stdin.isatty() and not typer.confirm(f"Restore {records} records?"):
        raise Bad("nothing was restored")
    done = asyncio.run(
        put_back(
            _urls(state_dir, url),
            b"".join(raw for _, raw in parts),
            author=author_or_user(author),
            reason=reason or f"leeward restore {' '.join(file.name for file in files)}"[:512],
            forced=force,
        )
    )
    print(
        f"restored the backup of {done['version']}: generation {done['generation']}, configuration "
        f"{done['config_version']}, {done['overrides']} overrides, {done['rollouts']} rollouts; "
        f"audit entry {done['audit']}"
    )
    return 0


def _urls(state_dir: Path, url: str | None) -> list[str]:
    from ops.cli.reading import control_plane_urls

    return [url.rstrip("/")] if url else control_plane_urls(state_dir)
