"""`-o table|json|yaml`: the same answer for people and for scripts."""

import json
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import BaseModel
from rich.console import RenderableType

from ops.local.stack import DEFAULT_STATE_DIR


class Format(StrEnum):
    """How an answer is printed."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


FormatOption = Annotated[Format, typer.Option("-o", "--output", help="How to print it.")]
StateDirOption = Annotated[
    Path, typer.Option("--state-dir", help="Where the local stack keeps its files.", show_default=True)
]
UrlOption = Annotated[
    str | None, typer.Option("--url", help="A control plane to ask instead of the local stack's.")
]
STATE_DIR = DEFAULT_STATE_DIR
AuthorOption = Annotated[
    str | None, typer.Option("--author", help="Who answers for it; you on this machine when absent.")
]


def author_or_user(author: str | None) -> str:
    """The author as given, or the account and machine this runs on."""
    import getpass
    import socket

    return author or f"{getpass.getuser()}@{socket.gethostname()}"[:128]


def emit(answer: BaseModel | Any, form: Format, table: Callable[[], RenderableType]) -> None:
    """Print `answer` on stdout: as `table()` for people, or whole as JSON or YAML."""
    if form is Format.TABLE:
        from ops.render import console

        console().print(table())
        return
    plain = answer.model_dump(mode="json") if isinstance(answer, BaseModel) else answer
    if form is Format.JSON:
        print(json.dumps(plain, indent=2, ensure_ascii=False))
        return
    import yaml

    print(yaml.safe_dump(plain, sort_keys=False, allow_unicode=True), end="")
