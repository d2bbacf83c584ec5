"""`--watch [SECONDS]`: a reading command's answer, again and again."""

import asyncio
import re
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Group, RenderableType
from rich.text import Text
from typer.core import TyperArgument, TyperCommand

from ops.cli.output import Format, emit
from ops.errors import OpsError
from shared.clock import SystemClock

EVERY_S = 2.0
LEAST_S = 0.5
_NUMBER = re.compile(r"^[0-9]+(\.[0-9]+)?$")

Answer = TypeVar("Answer")

WatchOption = Annotated[
    float | None,
    typer.Option(
        "--watch",
        metavar="[SECONDS]",
        min=LEAST_S,
        max=3600,
        help=f"Ask again every SECONDS, {EVERY_S:g} when not said, until Ctrl-C.",
    ),
]


class Watchable(TyperCommand):
    """A command whose `--watch` may stand without its SECONDS."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As usual, with the seconds filled in. Where the command takes an argument, what follows a bare
        `--watch` is that argument: `--watch=5` then says the seconds."""
        positional = any(isinstance(parameter, TyperArgument) for parameter in self.params)
        return super().parse_args(ctx, spelled_out(args, eats=not positional))


def spelled_out(arguments: Sequence[str], *, eats: bool) -> list[str]:
    """`--watch` as `--watch=2`, unless a number follows and it `eats` numbers."""
    found: list[str] = []
    for place, argument in enumerate(arguments):
        if argument == "--":
            return [*found, *arguments[place:]]
        following = arguments[place + 1] if place + 1 < len(arguments) else ""
        bare = argument == "--watch" and not (
            eats and (_NUMBER.match(following) or following.startswith("="))
        )
        found.append(f"--watch={EVERY_S:g}" if bare else argument)
    return found


def shown(
    question: Callable[[], Awaitable[Answer]],
    table: Callable[[Answer], RenderableType],
    *,
    content: Callable[[Answer], object] | None = None,
    code: Callable[[Answer], int] = lambda _: 0,
    output: Format,
    every_s: float | None,
) -> int:
    """Ask once and print, or with `every_s` until Ctrl-C; the exit code of the last answer.

    `content` is what JSON and YAML show; the answer itself when absent. Raises OpsError, while watching
    for the first answer alone: later it is told, and asked again.
    """

    def printed(answer: Answer) -> int:
        emit(answer if content is None else content(answer), output, lambda: table(answer))
        sys.stdout.flush()  # whoever reads a pipe waits for this answer, not for a full buffer
        return code(answer)

    if every_s is None:
        return printed(asyncio.run(_once(question)))
    return asyncio.run(_again(question, table, printed, code, output, every_s))


async def _once(question: Callable[[], Awaitable[Answer]]) -> Answer:
    return await question()


async def _again(
    question: Callable[[], Awaitable[Answer]],
    table: Callable[[Answer], RenderableType],
    printed: Callable[[Answer], int],
    code: Callable[[Answer], int],
    output: Format,
    every_s: float,
) -> int:
    from rich.live import Live

    from ops.render import console

    terminal = console()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    answer = await question()
    if output is not Format.TABLE or not terminal.is_terminal:
        while True:
            last = printed(answer)
            if await _stopped(stop, every_s):
                return last
            answer = await question()
    trouble = ""
    with Live(console=terminal, auto_refresh=False, screen=True, vertical_overflow="crop") as live:
        asked_at = SystemClock().now()
        while True:
            head = Text(f"every {every_s:g} s; at {asked_at:%H:%M:%S} UTC; Ctrl-C ends it", style="dim")
            warning = [Text(f"no answer now: {trouble}", style="red")] if trouble else []
            live.update(Group(head, *warning, table(answer)), refresh=True)
            if await _stopped(stop, every_s):
                break
            try:
                answer, trouble, asked_at = await question(), "", SystemClock().now()
            except OpsError as error:
                trouble = str(error)
    return code(answer)


async def _stopped(stop: asyncio.Event, within_s: float) -> bool:
    try:
        await asyncio.wait_for(stop.wait(), within_s)
    except TimeoutError:
        return False
    return True
