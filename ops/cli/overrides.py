"""`leeward drain|undrain|pin|weights|freeze|unfreeze`, `overrides` and `audit`."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from ops.cli.output import (
    STATE_DIR,
    AuthorOption,
    Format,
    FormatOption,
    ReasonOption,
    StateDirOption,
    UrlOption,
    author_or_user,
    emit,
)
from ops.cli.reading import ask
from ops.client import ControlPlanes
from ops.errors import Bad, Usage
from ops.moments import span_s
from ops.overrides import Word, carried_by, foreseen, give, in_force, lift, whom
from ops.shaping import left, what
from shared.vocabulary.override import MAX_OVERRIDE_S

WhomArgument = Annotated[str, typer.Argument(metavar="REGION|TARGET")]
ForOption = Annotated[
    str, typer.Option("--for", metavar="SPAN", help="How long it holds: 90s, 30m, 2h, 1d; at most 30d.")
]
RouteOption = Annotated[
    str | None, typer.Option("--route", metavar="ROUTE", help="One route; all when absent.")
]
ClientsOption = Annotated[
    str | None, typer.Option("--clients", metavar="REGION", help="One region's clients; all when absent.")
]
ForceOption = Annotated[
    bool, typer.Option("--force", help="Even though it leaves a route nobody who answers.")
]


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    for command in (drain, undrain, pin, weights, freeze, unfreeze, audit):
        app.command(command.__name__)(command)
    group = typer.Typer(rich_markup_mode=None)
    group.callback(invoke_without_command=True)(overrides)
    group.command("end")(end)
    app.add_typer(group, name="overrides", help="What operators have ordered, and how to end it.")


def drain(
    name: WhomArgument,
    span: ForOption,
    reason: ReasonOption,
    route: RouteOption = None,
    force: ForceOption = False,
    author: AuthorOption = None,
    state_dir: StateDirOption = STATE_DIR,
    url: UrlOption = None,
    output: FormatOption = Format.TABLE,
) -> int:
    """Take a region's targets, or one target, out of the traffic for a time.

    Exit code 1 when it is refused: it would leave a route nobody who answers.
    """

    for_s = _for_s(span)

    async def order(planes: ControlPlanes) -> _Told:
        spec = {"kind": "drain", **await whom(planes, name), **({"route": route} if route else {})}
        return await _give(planes, spec, _word(author, reason), for_s, output, forced=force)

    return _carry_out(order, state_dir, url, output)


def undrain(
    name: Annotated[str, typer.Argument(metavar="REGION|TARGET|ID")],
    reason: ReasonOption = "not needed any more",
    route: RouteOption = None,
    author: AuthorOption = None,
    state_dir: StateDirOption = STATE_DIR,
    url: UrlOption = None,
    output: FormatOption = Format.TABLE,
) -> int:
    """End the drains of a region or target, as they were given, before their time."""

    def meant(override: Any) -> bool:
        spec = override["spec"]
        named = name in (override["id"], spec["region"], spec["target"])
        return spec["kind"] == "drain" and named and (route is None or spec["route"] == route)

    return _lift_all(meant, f"no drain of {name} is in force", _word(author, reason), state_dir, url, output)


def pin(
    route: Annotated[str, typer.Argument(metavar="ROUTE")],
    to: Annotated[str, typer.Option("--to", metavar="REGION|TARGET", help="Whom to use first.")],
    span: ForOption,
    reason: ReasonOption,
    clients: ClientsOption = None,
    author: AuthorOption = None,
    state_dir: StateDirOption = STATE_DIR,
    url: UrlOption = None,
    output: FormatOption = Format.TABLE,
) -> int:
    """Have a route use one region's targets, or one target, before all others while they can serve."""

    for_s = _for_s(span)

    async def order(planes: ControlPlanes) -> _Told:
        spec = {"kind": "pin", "route": route, **await whom(planes, to), **_clients(clients)}
        return await _give(planes, spec, _word(author, reason), for_s, output)

    return _carry_out(order, state_dir, url, output)


def weights(
    route: Annotated[str, typer.Argument(metavar="ROUTE")],
    parts: Annotated[
        list[str], typer.Argument(metavar="TARGET=PART...", help="Parts of a whole: a=1 b=3, or a=250 b=750.")
    ],
    span: ForOption,
    reason: ReasonOption,
    clients: ClientsOption = None,
    author: AuthorOption = None,
    state_dir: StateDirOption = STATE_DIR,
    url: UrlOption = None,
    output: FormatOption = Format.TABLE,
) -> int:
    """Share a route's traffic among the targets named, by hand, while they can serve."""
    spec = {"kind": "weights", "route": route, "weights": parse_weights(parts), **_clients(clients)}
    for_s = _for_s(span)

    async def order(planes: ControlPlanes) -> _Told:
        return await _give(planes, spec, _word(author, reason), for_s, output)

    return _carry_out(order, state_dir, url, output)


def freeze(
    span: ForOption,
    reason: ReasonOption,
    route: RouteOption = None,
    author: AuthorOption = None,
    state_dir: StateDirOption = STATE_DIR,
    url: UrlOption = None,
    output: FormatOption = Format.TABLE,
) -> int:
    """Suspend automatic removals: health takes nobody out, and lets everybody back in."""
    spec = {"kind": "freeze", **({"route": route} if route else {})}
    for_s = _for_s(span)

    async def order(planes: ControlPlanes) -> _Told:
        return await _give(planes, spec, _word(author, reason), for_s, output)

    return _carry_out(order, state_dir, url, output)


def unfreeze(
    reason: ReasonOption = "not needed any more",
    route: RouteOption = None,
    author: AuthorOption = None,
    state_dir: StateDirOption = STATE_DIR,
    url: UrlOption = None,
    output: FormatOption = Format.TABLE,
) -> int:
    """End freezes before their time: that of one route, or all."""

    def meant(override: Any) -> bool:
        return override["spec"]["kind"] == "freeze" and route in (None, override["spec"]["route"])

    return _lift_all(meant, "no such freeze is in force", _word(author, reason), state_dir, url, output)


def overrides(
    context: typer.Context,
    every: Annotated[bool, typer.Option("--all", help="Those that ended within the hour, too.")] = False,
    state_dir: StateDirOption = STATE_DIR,
    url: UrlOption = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """The overrides in force, the newest first."""
    if context.invoked_subcommand is not None:
        return
    path = "/v1/overrides?all=true" if every else "/v1/overrides"
    answer = ask(state_dir, url, lambda planes: planes.get(path))
    emit(answer, output, lambda: _listed(answer["overrides"]))


def end(
    name: Annotated[str, typer.Argument(metavar="ID", help="As `leeward overrides` shows it.")],
    reason: ReasonOption = "not needed any more",
    author: AuthorOption = None,
    state_dir: StateDirOption = STATE_DIR,
    url: UrlOption = None,
    output: FormatOption = Format.TABLE,
) -> int:
    """End one override of any kind before its time."""

    def meant(override: Any) -> bool:
        return bool(override["id"] == name)

    return _lift_all(meant, f"no override {name} is in force", _word(author, reason), state_dir, url, output)


def audit(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many, newest first.")] = 20,
    action: Annotated[
        str | None, typer.Option(metavar="ACTION", help="`override.create`; or `override.`, all such.")
    ] = None,
    by: Annotated[str | None, typer.Option("--by", metavar="AUTHOR", help="One author's alone.")] = None,
    state_dir: StateDirOption = STATE_DIR,
    url: UrlOption = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """Who changed what, when and why."""
    from urllib.parse import urlencode

    asked = {"limit": limit, "action": action, "author": by}
    query = urlencode({name: value for name, value in asked.items() if value is not None})
    answer = ask(state_dir, url, lambda planes: planes.get(f"/v1/audit?{query}"))
    emit(answer, output, lambda: _audited(answer["entries"]))


def parse_weights(parts: Sequence[str]) -> dict[str, int]:
    """`a=1 b=3` as target -> permille of the whole, none of them lost to rounding. Raises Usage."""
    found: dict[str, float] = {}
    for part in parts:
        target, _, text = part.partition("=")
        try:
            weight = float(text)
        except ValueError:
            weight = -1.0
        if not target or not 0 <= weight < float("inf"):
            raise Usage(f"{part!r} is no weight: write TARGET=PART, as in alpha-us-east=3")
        if target in found:
            raise Usage(f"{target!r} is given twice")
        found[target] = weight
    total = sum(found.values())
    if not total:
        raise Usage("all weights are 0: at least one target must get something")
    return {target: max(1, round(1000 * weight / total)) if weight else 0 for target, weight in found.items()}


# ---------------------------------------------------------------- carrying out

_Told = tuple[list[Any], int]
"""What to print, an entry for each override: itself and `decision`; and the exit code."""


def _word(author: str | None, reason: str) -> Word:
    return Word(author_or_user(author), reason)


def _for_s(span: str) -> float:
    return span_s(span, option="--for", most_s=MAX_OVERRIDE_S)


def _clients(region: str | None) -> dict[str, str]:
    return {"clients": region} if region else {}


async def _give(
    planes: ControlPlanes,
    spec: Mapping[str, Any],
    word: Word,
    for_s: float,
    output: Format,
    *,
    forced: bool = False,
) -> _Told:
    if output is Format.TABLE:
        for line in await foreseen(planes, spec):
            print(line)
    given = await give(planes, spec, word, for_s=for_s, forced=forced)
    version = await carried_by(planes, given["id"])
    return [{**given, "decision": version}], 0 if version else 1


def _lift_all(
    meant: Callable[[Any], bool],
    otherwise: str,
    word: Word,
    state_dir: Path,
    url: str | None,
    output: Format,
) -> int:
    async def order(planes: ControlPlanes) -> _Told:
        found = await in_force(planes, meant)
        if not found:
            raise Bad(otherwise)
        ended = [await lift(planes, override["id"], word) for override in found]
        versions = [await carried_by(planes, override["id"], ended=True) for override in ended]
        told = [{**override, "decision": version} for override, version in zip(ended, versions, strict=True)]
        return told, 0 if all(versions) else 1

    return _carry_out(order, state_dir, url, output)


def _carry_out(
    order: Callable[[ControlPlanes], Awaitable[_Told]], state_dir: Path, url: str | None, output: Format
) -> int:
    told, code = ask(state_dir, url, order)
    emit({"overrides": told}, output, lambda: _outcomes(told))
    return code


# ---------------------------------------------------------------- tables


def _outcomes(overrides: Sequence[Any]) -> Any:
    from rich.console import Group
    from rich.text import Text

    lines = []
    for override in overrides:
        ended = override["ended"]
        state = f"ended by {ended['by']}" if ended else f"until {_time(override['expires_at'])}"
        lines.append(Text(f"{override['id']}: {what(override['spec'])}, {state}"))
        lines += [Text(f"  warning: {warning}", style="yellow") for warning in override["warnings"]]
        version = override["decision"]
        lines.append(
            Text(f"  carried by decision {version}")
            if version
            else Text("  no decision carries it yet: see `leeward status` for who leads", style="yellow")
        )
    return Group(*lines)


def _listed(overrides: Sequence[Any]) -> Any:
    from ops import render

    return render.rows(
        ("id", "what", "state", "left", "by", "why"),
        [
            (
                each["id"] + (" (forced)" if each["forced"] else ""),
                what(each["spec"]),
                each["state"].lower().replace("_", " "),
                left(each["remaining_s"]),
                each["author"],
                each["reason"],
            )
            for each in overrides
        ],
        wrapping=("what",),
    )


def _audited(entries: Sequence[Any]) -> Any:
    from ops import render

    return render.rows(
        ("n", "at", "by", "action", "subject", "why"),
        [
            (
                str(each["n"]),
                _time(each["at"]),
                each["author"],
                each["action"],
                each["subject"],
                each["reason"],
            )
            for each in entries
        ],
    )


def _time(text: str) -> str:
    return text[:19].replace("T", " ")
