"""`-o table|json|yaml`: the same answer for people and for scripts."""

import json
import os
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import BaseModel, TypeAdapter, ValidationError
from rich.console import RenderableType

from ops.errors import Usage
from ops.local.stack import DEFAULT_STATE_DIR
from shared.vocabulary.override import Author, Words


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


def reasoned(text: str | None) -> str | None:
    """A `--reason` as the audit takes it: said before anybody is asked. Raises Usage."""
    return _as(Words, text, "--reason: say why, in a line of at most 512 characters; it goes on record")


def signed(text: str | None) -> str | None:
    """An `--author` as the audit takes it. Raises Usage."""
    return _as(Author, text, "--author: say who, in at most 128 characters; it goes on record")


def check_new(file: Path, option: str) -> None:
    """Whether `file`, given to `option`, can be written where nothing is yet: said before the work is done
    that would fill it. Raises Usage."""
    if file.exists():
        raise Usage(f"{option} {file}: exists already, and nothing is written over: name another file")
    if not file.parent.is_dir():
        raise Usage(f"{option} {file}: there is no folder {file.parent}")
    if not os.access(file.parent, os.W_OK | os.X_OK):
        raise Usage(f"{option} {file}: {file.parent} cannot be written to")


def _as(kind: Any, text: str | None, otherwise: str) -> str | None:
    if text is None:
        return None
    try:
        return str(TypeAdapter(kind).validate_python(text))
    except ValidationError:
        raise Usage(otherwise) from None


AuthorOption = Annotated[
    str | None,
    typer.Option("--author", help="Who answers for it; you on this machine when absent.", callback=signed),
]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why; it goes on record.", callback=reasoned)]


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
