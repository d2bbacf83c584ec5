"""`leeward config validate|schema|show|versions|diff|apply|rollback`."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from ops.cli.output import (
    STATE_DIR,
    AuthorOption,
    Format,
    FormatOption,
    StateDirOption,
    UrlOption,
    author_or_user,
    emit,
    reasoned,
)
from shared.vocabulary.config import Fleet, FleetConfig

FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="A leeward.yaml.")]
ReasonOption = Annotated[
    str | None, typer.Option("--reason", help="Why; it stands in the audit.", callback=reasoned)
]
YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
ForceOption = Annotated[bool, typer.Option("--force", help="In spite of what speaks against it.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Show what would come of it, change nothing.")]
WaitOption = Annotated[
    float,
    typer.Option("--wait", min=0, max=600, help="Seconds until everybody should run it; 0: do not wait."),
]
WAIT_S = 15.0


def build() -> typer.Typer:
    """The `config` group."""
    group = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
    for command in (validate, schema, show, versions, diff, apply, rollback):
        group.command(command.__name__)(command)
    return group


def validate(file: FileArgument = Path("leeward.yaml")) -> int:
    """Check a file: `node:`, `fleet:` or both. One line per fault, exit code 1 when there is any."""
    import yaml

    from shared.config_file import ConfigError, load, load_fleet

    try:
        if _has_node(file):
            load(file)
        else:
            load_fleet(file)
    except (ConfigError, yaml.YAMLError) as error:
        for problem in getattr(error, "problems", (str(error),)):
            print(problem, file=sys.stderr)
        return 1
    print(f"{file}: good")
    return 0


def schema() -> None:
    """The JSON Schema of `leeward.yaml`, for editors and checkers."""
    from shared.vocabulary.node import NodeFile

    print(json.dumps(NodeFile.model_json_schema(), indent=2))


def show(
    state_dir: StateDirOption = STATE_DIR, url: UrlOption = None, output: FormatOption = Format.YAML
) -> None:
    """The fleet in force, as etcd has it."""
    from ops.cli.reading import ask

    answer: Any = ask(state_dir, url, lambda planes: planes.get("/v1/config"))

    def text() -> Any:
        import yaml
        from rich.syntax import Syntax

        return Syntax(yaml.safe_dump(answer, sort_keys=False, allow_unicode=True), "yaml", theme="ansi_dark")

    emit(answer, output, text)


def versions(
    state_dir: StateDirOption = STATE_DIR, url: UrlOption = None, output: FormatOption = Format.TABLE
) -> None:
    """Every version kept: who put it in force, when and why. The first one is in force."""
    from ops.cli.reading import ask

    answer: Any = ask(state_dir, url, lambda planes: planes.get("/v1/config/versions"))

    def table() -> Any:
        from ops import render

        return render.rows(
            ("version", "", "at", "author", "reason"),
            [
                (
                    str(one["config_version"]),
                    "in force" if one["in_force"] else "",
                    str(one["at"])[:19].replace("T", " "),
                    one["author"],
                    one["reason"],
                )
                for one in answer["versions"]
            ],
        )

    emit(answer, output, table)


def diff(
    file: FileArgument,
    state_dir: StateDirOption = STATE_DIR,
    url: UrlOption = None,
    output: FormatOption = Format.TABLE,
) -> int:
    """What FILE would change in the fleet in force. Exit code 1 when it would change anything."""
    from control_plane.core.config_diff import changes
    from ops.cli.reading import ask

    fleet = _fleet_of(file)
    standing = FleetConfig.model_validate(
        ask(state_dir, url, lambda planes: planes.get("/v1/config")), extra="ignore"
    )
    found = changes(standing.fleet, fleet)

    def table() -> Any:
        from rich.console import Group
        from rich.text import Text

        from ops.differences import lines

        same = [Text(f"nothing differs from version {standing.config_version}")]
        return Group(*(lines(found) or same))

    emit({"changes": [change.model_dump(mode="json") for change in found]}, output, table)
    return 1 if found else 0


def apply(
    file: FileArgument,
    reason: ReasonOption = None,
    author: AuthorOption = None,
    yes: YesOption = False,
    force: ForceOption = False,
    dry_run: DryRunOption = False,
    wait: WaitOption = WAIT_S,
    state_dir: StateDirOption = STATE_DIR,
    url: UrlOption = None,
) -> int:
    """Put the fleet of FILE in force, without restarts: show the difference, ask, apply, and wait until
    everybody runs it. Exit code 1 when it is refused, or somebody lags."""
    from ops.cli.configure import Intent, put_through

    fleet = _fleet_of(file)
    intent = Intent(
        method="PUT",
        path="/v1/config",
        body={"fleet": fleet.model_dump(mode="json")},
        author=author_or_user(author),
        reason=reason or f"leeward config apply {file.name}",
        yes=yes,
        force=force,
        dry_run=dry_run,
        wait_s=wait,
    )
    return put_through(intent, state_dir, url)


def rollback(
    version: Annotated[int, typer.Argument(min=1, help="As in `leeward config versions`.")],
    reason: ReasonOption = None,
    author: AuthorOption = None,
    yes: YesOption = False,
    force: ForceOption = False,
    dry_run: DryRunOption = False,
    wait: WaitOption = WAIT_S,
    state_dir: StateDirOption = STATE_DIR,
    url: UrlOption = None,
) -> int:
    """Bring the fleet of an earlier version back, under a new version; otherwise as `config apply`."""
    from ops.cli.configure import Intent, put_through

    intent = Intent(
        method="POST",
        path="/v1/config/rollback",
        body={"to": version},
        author=author_or_user(author),
        reason=reason or f"leeward config rollback {version}",
        yes=yes,
        force=force,
        dry_run=dry_run,
        wait_s=wait,
    )
    return put_through(intent, state_dir, url)


def _fleet_of(file: Path) -> Fleet:
    """The file's fleet; also of one that `config show` printed. Raises ConfigError."""
    from shared.config_file import load_fleet

    return load_fleet(file)


def _has_node(file: Path) -> bool:
    """Whether its top level has `node:`; what cannot be read at all is left to the real check."""
    try:
        with file.open(encoding="utf-8", errors="replace") as lines:
            return any(line.startswith("node:") for line in lines)
    except OSError:
        return False
