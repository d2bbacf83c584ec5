"""`leeward rollout start|status|abort|end`."""

import re
import time
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
from ops.errors import Usage
from ops.moments import span_s
from shared.vocabulary.rollout import MAX_BAKE_S

_STEP = re.compile(r"^(?P<percent>\d+(?:\.\d)?)%(?::(?P<bake>.+))?$")
BAKE_S = 300.0
"""Where no time is given."""
WATCH_S = 2.0

NameArgument = Annotated[str, typer.Argument(metavar="ID", help="As `leeward rollout status` shows it.")]
ForceOption = Annotated[
    bool, typer.Option("--force", help="Though nobody who answers were left to the route.")
]


def build() -> typer.Typer:
    """The `rollout` group."""
    group = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
    for command in (start, status, abort, end):
        group.command(command.__name__)(command)
    return group


def start(
    route: Annotated[str, typer.Argument(metavar="ROUTE")],
    targets: Annotated[list[str], typer.Argument(metavar="TARGET...", help="The new, of one tier.")],
    reason: ReasonOption,
    steps: Annotated[
        str,
        typer.Option(
            "--steps",
            help="Share and bake time of each step: `1%:5m,10%:5m,50%:10m,100%:10m`. One: blue/green.",
        ),
    ] = "1%:5m,10%:5m,50%:5m,100%:5m",
    min_attempts: Annotated[int, typer.Option(min=1, help="Of the new in a step, to be judged by.")] = 50,
    error_over: Annotated[
        float, typer.Option("--error-over", min=0, max=100, help="Percent more failures than the old.")
    ] = 2.0,
    garbled_over: Annotated[
        float, typer.Option("--garbled-over", min=0, max=100, help="Percent more garbled answers.")
    ] = 2.0,
    latency_ratio: Annotated[float, typer.Option(min=1, max=100, help="Mean latency, to the old's.")] = 1.5,
    author: AuthorOption = None,
    state_dir: StateDirOption = STATE_DIR,
    url: UrlOption = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """Let targets take over from the others of their tier, by steps, watched.

    Each step is held for its bake time and compared with the old in live traffic: as good, and the next
    step follows; worse, and the old get everything back by themselves.
    """
    spec = {
        "route": route,
        "targets": targets,
        "steps": parse_steps(steps),
        "limits": {
            "min_attempts": min_attempts,
            "error_permille_over": round(error_over * 10),
            "garbled_permille_over": round(garbled_over * 10),
            "latency_ratio": latency_ratio,
        },
    }
    body = {"spec": spec, "author": author_or_user(author), "reason": reason}
    report = ask(state_dir, url, lambda planes: planes.change("POST", "/v1/rollouts", body))
    emit(report, output, lambda: _table([report]))


def status(
    name: Annotated[str | None, typer.Argument(metavar="[ID]")] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Until it is no longer running; exit code 1 if it went back.")
    ] = False,
    state_dir: StateDirOption = STATE_DIR,
    url: UrlOption = None,
    output: FormatOption = Format.TABLE,
) -> int:
    """The rollouts on record, or one. Exit code 1 when one was rolled back or aborted."""
    if watch and name is None:
        raise Usage("--watch needs the ID of one rollout")
    reports = _reports(state_dir, url, name)
    seen: Any = None
    while watch and reports[0]["rollout"]["state"] == "RUNNING":
        if reports != seen and output is Format.TABLE:
            emit(reports, output, lambda shown=reports: _table(shown))  # type: ignore[misc]
        seen = reports
        time.sleep(WATCH_S)
        reports = _reports(state_dir, url, name)
    emit({"rollouts": reports}, output, lambda: _table(reports))
    return int(any(each["rollout"]["state"] in ("ROLLED_BACK", "ABORTED") for each in reports))


def abort(
    name: NameArgument,
    reason: ReasonOption,
    force: ForceOption = False,
    author: AuthorOption = None,
    state_dir: StateDirOption = STATE_DIR,
    url: UrlOption = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """Give the traffic of a running rollout back to the old, at once."""
    report = _steer(state_dir, url, name, "abort", reason, author, force)
    emit(report, output, lambda: _table([report]))


def end(
    name: NameArgument,
    reason: ReasonOption,
    force: ForceOption = False,
    author: AuthorOption = None,
    state_dir: StateDirOption = STATE_DIR,
    url: UrlOption = None,
) -> None:
    """Drop the record of an ended rollout: the configuration alone then says what its targets get."""
    _steer(state_dir, url, name, "end", reason, author, force)
    print(f"{name}: off the record")


def parse_steps(text: str) -> list[dict[str, float]]:
    """`10%:5m,100%:1h` as the steps of a RolloutSpec; 5 minutes where no time is given. Raises Usage."""
    steps: list[dict[str, float]] = []
    for part in text.split(","):
        found = _STEP.match(part.strip())
        if found is None:
            raise Usage(f"--steps: {part.strip()!r} is no step: write SHARE%:TIME, as in 10%:5m or 0.5%:90s")
        bake_s = span_s(found["bake"], option="--steps", most_s=MAX_BAKE_S) if found["bake"] else BAKE_S
        permille = round(float(found["percent"]) * 10)
        if not (steps[-1]["permille"] if steps else 0) < permille <= 1000:
            raise Usage(f"--steps: {part.strip()!r}: shares rise from step to step, to 100% at most")
        steps.append({"permille": permille, "bake_s": bake_s})
    return steps


def _steer(
    state_dir: Path, url: str | None, name: str, verb: str, reason: str, author: str | None, force: bool
) -> Any:
    body = {"author": author_or_user(author), "reason": reason, "forced": force}
    return ask(state_dir, url, lambda planes: planes.change("POST", f"/v1/rollouts/{name}/{verb}", body))


def _reports(state_dir: Path, url: str | None, name: str | None) -> list[Any]:
    """One rollout or all; `found` is known to the leader only, so its own answer is preferred."""

    async def question(planes: ControlPlanes) -> list[Any]:
        planes = await planes.leader_first()
        if name is not None:
            return [await planes.get(f"/v1/rollouts/{name}")]
        return list((await planes.get("/v1/rollouts"))["rollouts"])

    return ask(state_dir, url, question)


def _table(reports: list[Any]) -> Any:
    from ops import render

    return render.rows(
        ("rollout", "route", "targets", "state", "step", "gets", "because"),
        [
            (
                each["rollout"]["id"],
                each["rollout"]["spec"]["route"],
                " ".join(each["rollout"]["spec"]["targets"]),
                each["rollout"]["state"],
                f"{each['rollout']['step'] + 1}/{len(each['rollout']['spec']['steps'])}",
                f"{each['permille'] / 10:g} %",
                each["rollout"]["outcome"] or each["found"] or each["rollout"]["reason"],
            )
            for each in reports
        ],
    )
