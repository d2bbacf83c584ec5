"""`leeward config validate|schema|show`."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from ops.cli.output import STATE_DIR, Format, FormatOption, StateDirOption, UrlOption, emit

FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="A leeward.yaml.")]


def build() -> typer.Typer:
    """The `config` group."""
    group = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
    group.command("validate")(validate)
    group.command("schema")(schema)
    group.command("show")(show)
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


def _has_node(file: Path) -> bool:
    """Whether its top level has `node:`; what cannot be read at all is left to the real check."""
    try:
        with file.open(encoding="utf-8", errors="replace") as lines:
            return any(line.startswith("node:") for line in lines)
    except OSError:
        return False
