"""An asyncio loop whose clock jumps to the next timer instead of waiting for it, and clocks that can lie.

An hour of protocol takes as long as its callbacks do, and the same seed gives the same run: nothing reads the
machine's clock, and ready callbacks run in the order in which they were scheduled.
"""

import asyncio
import selectors
from datetime import UTC, datetime, timedelta
from typing import Any

START = datetime(2030, 1, 1, tzinfo=UTC)


class DeadlockError(RuntimeError):
    """Every task waits for something that no timer and nobody will bring."""


class _JumpingSelector(selectors.SelectSelector):
    loop: "VirtualTimeLoop"

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise DeadlockError("no timer is set and nothing is ready")
        if timeout > 0:
            self.loop.jump(timeout)
        return []  # nothing here has a socket to be ready


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """`time()` starts at 0 and advances only by jumps."""

    def __init__(self) -> None:
        selector = _JumpingSelector()
        super().__init__(selector)
        selector.loop = self
        self._virtual_s = 0.0

    def time(self) -> float:
        return self._virtual_s

    def jump(self, seconds: float) -> None:
        """Let `seconds` pass at once."""
        self._virtual_s += seconds

    def run_in_executor(self, *args: Any, **kwargs: Any) -> Any:
        """Refused: a thread runs in real time and would make runs differ."""
        raise RuntimeError("the simulation has no threads")


class NodeClock:
    """One machine's clocks: wall time may be skewed and stepped; both stop while the machine is paused.

    A paused process neither runs nor knows that time passes, then finds both clocks far ahead: just what
    SIGSTOP and SIGCONT, or a long garbage collection, do to a leader between deciding and writing.
    """

    def __init__(self, loop: VirtualTimeLoop) -> None:
        self._loop = loop
        self.skew_s = 0.0
        self._paused_at: float | None = None

    def monotonic(self) -> float:
        return 1000.0 + (self._loop.time() if self._paused_at is None else self._paused_at)

    def now(self) -> datetime:
        return START + timedelta(seconds=self.monotonic() - 1000.0 + self.skew_s)

    def pause(self) -> None:
        """Stop both clocks."""
        self._paused_at = self._loop.time()

    def resume(self) -> None:
        """Let them jump to the present."""
        self._paused_at = None
