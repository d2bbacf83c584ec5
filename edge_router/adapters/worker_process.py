"""One worker as its parent sees it: the process, the line to it, what it was handed and what it last told."""

import asyncio
import os
import socket
import sys
from asyncio.subprocess import Process
from collections.abc import Callable
from typing import Any, Final

from edge_router.adapters.line import Line
from edge_router.core.frames import (
    CannotListen,
    Drain,
    Faults,
    Figures,
    FromParent,
    Listen,
    Listening,
    Measure,
    Missing,
    Report,
    Serves,
    Spare,
    Start,
    Word,
    from_worker,
)
from edge_router.core.handover import Handover, Plan
from edge_router.core.series import Family
from shared.clock import Clock
from shared.log import get_logger, level
from shared.vocabulary.base import NO_VERSION, Version
from shared.vocabulary.node import Node

log = get_logger(__name__)

MODULE: Final = "edge_router.worker"


class WorkerProcess:
    """One life of one worker. `reported` is called with what it sees, `changed` when it serves by what it
    was handed, and when it has ended."""

    def __init__(
        self,
        *,
        index: int,
        clock: Clock,
        reported: Callable[["WorkerProcess", Report], None],
        changed: Callable[[], None],
        missing: Callable[[dict[str, str]], None],
    ) -> None:
        self.index = index
        self.pid = 0
        self.began = clock.monotonic()
        self.heard_at = self.began
        """When it last said anything, monotonic."""
        self.serves = False
        """Whether it listens."""
        self.handed_at = self.began
        """When it was last given something to serve by, monotonic."""
        self.version = NO_VERSION
        """Of the head it serves."""
        self.swap_s = 0.0
        """How long it took, from the last hand to serving by it."""
        self.report: Report | None = None
        self.families: list[Family] = []
        self.measured = 0
        """Number of the last `Measure` it has answered."""
        self.refused: CannotListen | None = None
        self.ended = asyncio.Event()
        self.said_last = asyncio.Event()
        """Set once it has hung up: nothing more will come."""
        self._clock = clock
        self._reported = reported
        self._changed = changed
        self._missing = missing
        self._handover = Handover()
        self._handing: tuple[int, Plan] | None = None
        self._wanted: tuple[Plan, str | None] | None = None
        self._line: Line | None = None
        self._process: Process | None = None
        self._may_listen = False

    # ------------------------------------------------------------ life

    async def start(self, first: Start, plan: Plan, node: Node) -> None:
        """Start it, and hand it `plan`. Raises OSError when no process can be started."""
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                self._process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    "-m",
                    MODULE,
                    *("--fd", str(theirs.fileno()), "--worker", str(self.index)),
                    *("--node", node.id, "--region", node.region, "--log-level", level()),
                    stdin=asyncio.subprocess.DEVNULL,
                    pass_fds=(theirs.fileno(),),
                )
        except BaseException:
            ours.close()
            raise
        self.pid = self._process.pid
        self._line = await Line.over(ours, from_worker, self._take, self.said_last.set)
        self._line.tell(first)
        self.hand(plan, None)

    async def wait(self) -> int:
        """Until it has ended; returns its exit code, negative for a signal's number."""
        assert self._process is not None
        code = await self._process.wait()
        # Its last words may still be on the line; the kernel closes that with the process.
        await self.said_last.wait()
        self.serves = self._may_listen = False
        self._handing = self._wanted = None
        self.ended.set()
        self._changed()
        return code

    def kill(self) -> None:
        """End it at once. It may have ended already."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()

    # ------------------------------------------------------------ telling it

    def tell(self, message: Word | Faults | Spare | Measure | Drain) -> None:
        """Send it; one that does not read is ended."""
        self._tell(message)

    def hand(self, plan: Plan, applied_in: str | None) -> None:
        """Have it serve by `plan`: one hand at a time, and of those that wait only the newest."""
        self._wanted = (plan, applied_in)
        if self._handing is None:
            self._hand_next()

    @property
    def settled(self) -> bool:
        """Whether it serves by the newest plan, or accepts nobody before it does."""
        return self._handing is None or not self._may_listen

    def _hand_next(self) -> None:
        wanted, self._wanted = self._wanted, None
        if wanted is None:
            return
        self.handed_at = self._clock.monotonic()
        hand = self._handover.hand(*wanted)
        self._handing = (hand.number, wanted[0])
        self._tell(hand)

    def _tell(self, message: FromParent) -> None:
        if self._line is not None and not self._line.tell(message) and not self.said_last.is_set():
            log.error("worker does not read", worker=self.index, pid=self.pid)
            self.kill()

    # ------------------------------------------------------------ hearing it

    def _take(self, message: Any) -> None:
        self.heard_at = self._clock.monotonic()
        match message:
            case Report():
                self.report = message
                self._reported(self, message)
            case Figures(number, families):
                self.families = families
                self.measured = max(self.measured, number)
                if number:
                    self._changed()
            case Serves():
                self._now_serves(message)
            case Missing(problems):
                self._missing(problems)
            case Listening():
                self.serves = True
                self._changed()
            case CannotListen():
                self.refused = message

    def _now_serves(self, told: Serves) -> None:
        if self._handing is not None and self._handing[0] == told.number:
            self.version = Version(*self._handing[1].head)
            self._handing = None
        self.swap_s = told.took_s
        self._hand_next()
        if self._handing is None and not self._may_listen:
            # Only now: what it would have served by until here may be older than what was acknowledged.
            self._may_listen = True
            self._tell(Listen())
        self._changed()


def reserve(host: str, port: int) -> socket.socket:
    """A socket bound to the address and not listening: it keeps the port for this edge's workers, and is how an
    address in use is found out, for workers would share it with anybody of the same user. Raises OSError."""
    family, kind, _, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    with socket.socket(family, kind) as alone:
        alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        alone.bind(address)
        bound = alone.getsockname()
    shared = socket.socket(family, kind)
    try:
        if os.name == "posix":
            shared.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            shared.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        shared.bind(bound)
    except BaseException:
        shared.close()
        raise
    return shared
