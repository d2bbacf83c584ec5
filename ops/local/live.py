"""What the foreground `leeward up` shows while the stack runs."""

import asyncio
import contextlib
from collections.abc import Callable

from rich.live import Live
from rich.text import Text

from ops import render, status
from ops.client import open_client
from ops.local.stack import Stack
from shared.vocabulary.status import StackStatus

REFRESH_S = 1.0


async def watch(stack: Stack, stop: asyncio.Event) -> None:
    """Show the stack until `stop` is set or another command took it down: a table that renews itself
    on a terminal, else a line whenever something changed."""
    console = render.console()
    if not console.is_terminal:
        await _follow(stack, stop, _print_changes())
        return
    with Live(console=console, auto_refresh=False) as live:

        def redraw(now: StackStatus) -> None:
            table = render.status(now)
            table.renderables.append(Text("Ctrl-C stops everything", style="dim"))
            live.update(table, refresh=True)

        await _follow(stack, stop, redraw)


async def _follow(stack: Stack, stop: asyncio.Event, show: Callable[[StackStatus], None]) -> None:
    async with open_client(timeout_s=REFRESH_S) as client:
        while not stop.is_set():
            stack.launcher.collect()
            file = stack.file
            if file.state == "stopped":
                return
            show(await status.of_stack(client, file))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), REFRESH_S)


def _print_changes() -> Callable[[StackStatus], None]:
    last = ""

    def show(now: StackStatus) -> None:
        nonlocal last
        line = render.plain_line(now)
        if line != last:
            print(line, flush=True)
            last = line

    return show
