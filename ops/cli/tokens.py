"""`leeward token`, and the options by which every command presents one."""

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from typer.models import CommandInfo, TyperInfo

from ops import presenting
from ops.errors import Usage
from shared.vocabulary.node import ANONYMOUS, Api, ApiToken
from shared.vocabulary.terms import ApiRole


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("token")(token)


def token(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whose it is: alice, ci, edge-eu-west.")],
    role: Annotated[ApiRole, typer.Option("--role", help="What it is for.")],
) -> None:
    """Make a token for the control plane's API, and show it once, with the entry that lets it in.

    Nothing is kept here: the entry, which holds its hash alone, goes into the node file of every
    control plane under `node.api.tokens`, and they are started again, one after another.
    """
    secret, digest = presenting.mint()
    try:
        Api(tokens=(ApiToken(id=name, role=role, sha256=digest),))
    except ValidationError:
        raise Usage(
            f"{name!r} is no name for a token: small letters, digits, '.', '_' and '-', at most 63, "
            f"and not {ANONYMOUS!r}"
        ) from None
    print(secret)
    print(f"- {{id: {name}, role: {role.value}, sha256: {digest}}}")


def present(app: typer.Typer) -> typer.Typer:
    """Give `--token-file` and `--ca-file` to every command of `app` that has `--url`, so that none of
    them needs to hand them down."""
    commands: list[CommandInfo | TyperInfo] = [*app.registered_commands]
    if app.registered_callback is not None:
        commands.append(app.registered_callback)
    for command in commands:
        if command.callback is not None and "url" in inspect.signature(command.callback).parameters:
            command.callback = _presenting(command.callback)
    for group in app.registered_groups:
        if group.typer_instance is not None:
            present(group.typer_instance)
    return app


TokenFileOption = Annotated[
    Path | None,
    typer.Option("--token-file", help=f"What the control plane knows you by; else {presenting.FROM_ENV}."),
]
CaFileOption = Annotated[
    Path | None, typer.Option("--ca-file", help=f"Who signed its certificate; else {presenting.CA_FILE}.")
]
_OPTIONS = (
    inspect.Parameter("token_file", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=TokenFileOption),
    inspect.Parameter("ca_file", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=CaFileOption),
)


def _presenting(command: Callable[..., Any]) -> Callable[..., Any]:
    """`command` with the two options, in force while it runs."""

    @functools.wraps(command)
    def presents(*args: Any, token_file: Path | None, ca_file: Path | None, **options: Any) -> Any:
        with presenting.given(token_file=token_file, ca_file=ca_file):
            return command(*args, **options)

    signature = inspect.signature(command)
    presents.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=(*signature.parameters.values(), *_OPTIONS)
    )
    presents.__annotations__ = {
        **command.__annotations__,
        "token_file": TokenFileOption,
        "ca_file": CaFileOption,
    }
    return presents
