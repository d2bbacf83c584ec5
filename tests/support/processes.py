"""Child processes of tests: on free ports, in their own process group, awaited by condition, always removed."""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

HOST = "127.0.0.1"


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago, all different."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind((HOST, 0))
        return [int(one.getsockname()[1]) for one in sockets]
    finally:
        for one in sockets:
            one.close()


async def until(
    condition: Callable[[], Awaitable[bool]],
    *,
    within_s: float,
    what: str | Callable[[], str],
    every_s: float = 0.05,
) -> None:
    """Wait for `condition`; fails with `what`, asked only then, after `within_s`."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within_s
    while not await condition():
        if loop.time() > deadline:
            raise AssertionError(f"not within {within_s:.0f} s: {what if isinstance(what, str) else what()}")
        await asyncio.sleep(every_s)


class Child:
    """One process; its output goes to `log`. Use as a context, or `stop` it."""

    def __init__(self, argv: Sequence[str], *, log: Path, env: Mapping[str, str] | None = None) -> None:
        self.log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(os.environ if env is None else env),
                start_new_session=True,
            )
        self.pid = self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    def pause(self) -> None:
        """SIGSTOP: connected, but silent."""
        os.killpg(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        os.killpg(self.pid, signal.SIGCONT)

    def stop(self) -> None:
        """SIGKILL to it and to all that it started, and wait. Safe to repeat."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait(10)

    def last_lines(self, count: int = 15) -> str:
        """What it said last, for a failure's message."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-count:])


@contextmanager
def temporary_directory(prefix: str) -> Iterator[Path]:
    """A directory that is gone afterwards, whatever was left in it."""
    path = Path(tempfile.mkdtemp(prefix=f"leeward-{prefix}-"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
