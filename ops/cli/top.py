"""`leeward top`: the fleet on one screen, live."""

import asyncio
import contextlib
import os
import signal
import sys
import termios
import tty
from collections.abc import Iterator
from datetime import datetime
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from ops.cli.output import STATE_DIR, Format, FormatOption, StateDirOption, UrlOption, emit
from ops.cli.reading import known_urls
from ops.client import ControlPlanes, open_client
from ops.errors import OpsError
from ops.glance import Glance, Glancer, plain
from ops.render import console
from ops.render_top import Room, screen, top
from shared.clock import SystemClock

EVERY_S = 1.0


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("top")(show)


def show(
    once: Annotated[
        bool, typer.Option("--once", help="Print it once; so it is where no terminal watches, too.")
    ] = False,
    state_dir: StateDirOption = STATE_DIR,
    url: UrlOption = None,
    output: FormatOption = Format.TABLE,
) -> int:
    """The fleet on one screen, each second anew: what is wrong first. q ends it, space holds it."""
    urls = known_urls(state_dir, url)
    terminal = console()
    if once or output is not Format.TABLE or not terminal.is_terminal:
        glance = asyncio.run(_once(urls))
        emit(plain(glance), output, lambda: top(glance, Room()))
        return 0
    return asyncio.run(_live(urls, terminal))


async def _once(urls: list[str]) -> Glance:
    async with open_client() as client:
        return await Glancer(ControlPlanes(client, urls)).look()


class Keys:
    """What was typed meanwhile. `done` is set by q, Ctrl-C and TERM; `held` turns with each space."""

    def __init__(self) -> None:
        self.done = asyncio.Event()
        self.held = False
        self._typed = asyncio.Event()

    def take(self, typed: bytes) -> None:
        """Heed each byte; what is not known is ignored."""
        for byte in typed:
            if byte in b"qQ\x03\x04":
                self.done.set()
            elif byte == 0x20:
                self.held = not self.held
        self._typed.set()

    def end(self) -> None:
        """As q does."""
        self.take(b"q")

    async def pause(self, seconds: float) -> None:
        """Let time pass, until a key is struck."""
        self._typed.clear()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._typed.wait(), seconds)


async def _live(urls: list[str], terminal: Console) -> int:
    from rich.live import Live

    clock, keys = SystemClock(), Keys()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, keys.end)
    async with open_client() as client:
        glancer = Glancer(ControlPlanes(client, urls))
        glance, at, trouble = await glancer.look(), clock.now(), ""
        with (
            _struck(keys),
            Live(console=terminal, auto_refresh=False, screen=True, vertical_overflow="crop") as live,
        ):
            while not keys.done.is_set():
                head = [_head(keys, at, trouble)]
                live.update(screen(glance, terminal, head=head), refresh=True)
                await keys.pause(EVERY_S)
                if keys.held or keys.done.is_set():
                    continue
                try:
                    glance, at, trouble = await glancer.look(), clock.now(), ""
                except OpsError as error:
                    trouble = str(error)
    return 3 if trouble else 0


def _head(keys: Keys, at: datetime, trouble: str) -> Text:
    if trouble:
        return Text(f"as of {at:%H:%M:%S} UTC, for now {trouble}", style="bold red")
    if keys.held:
        return Text(f"held at {at:%H:%M:%S} UTC: space goes on, q ends it", style="bold yellow")
    return Text("leeward top: q ends it, space holds it", style="dim")


@contextlib.contextmanager
def _struck(keys: Keys) -> Iterator[None]:
    """Keys arrive as they are struck; the terminal is afterwards as it was."""
    if not sys.stdin.isatty():
        yield
        return
    number = sys.stdin.fileno()
    before = termios.tcgetattr(number)
    loop = asyncio.get_running_loop()
    tty.setcbreak(number)
    loop.add_reader(number, lambda: keys.take(os.read(number, 64) or b"q"))
    try:
        yield
    finally:
        loop.remove_reader(number)
        termios.tcsetattr(number, termios.TCSADRAIN, before)
