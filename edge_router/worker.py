"""One worker of an edge: a data path that its parent hands what to serve by. Started by the parent alone.

    python -m edge_router.worker --fd N      N is its end of the line

It resolves the node file's credentials itself, listens when the parent says so, and reports several times a second.
It ends by draining: when told to, on SIGTERM, and when the line closes, for then the parent is gone. A stopped
worker is woken by its parent's death; one whose loop spins for `worker_silent_s` x 3 of CPU time is ended by the
kernel, with a traceback. So no worker is left behind.
"""

import argparse
import asyncio
import ctypes
import faulthandler
import gc
import random
import resource
import signal
import socket
import sys
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any, Final

import structlog
import uvloop
from prometheus_client import CollectorRegistry

from edge_router.adapters.credentials import resolve_all
from edge_router.adapters.gateway import Gateway
from edge_router.adapters.line import Line
from edge_router.adapters.shared_faults import take_over
from edge_router.adapters.worker_figures import families_of
from edge_router.core.fault_filter import FaultFilter
from edge_router.core.frames import (
    CannotListen,
    Drain,
    Faults,
    Figures,
    Hand,
    Listen,
    Listening,
    Measure,
    Missing,
    Report,
    Serves,
    Spare,
    Start,
    Word,
    from_parent,
)
from edge_router.core.handover import Holding, mode_after
from edge_router.core.merge import LoadPart
from edge_router.core.share import Share
from edge_router.core.table import RouteTable, build_table
from shared import log as logs
from shared.adapters.otel import telemetry_from_env
from shared.clock import SystemClock
from shared.log import get_logger
from shared.metrics import LoopLag, new_registry
from shared.signals import ended_by_signal
from shared.supervise import Supervisor
from shared.vocabulary.node import Node
from shared.vocabulary.terms import EdgeMode, Role

log = get_logger("edge_router.worker")

REPORT_S: Final = 0.2
FIGURES_S: Final = 0.5
FIGURES_PART: Final = 50
"""Metrics are told so rarely that gathering them takes at most one part in so many of the time."""
UNREAD_BYTES: Final = 4 * 1024 * 1024
"""A parent that has so much to read is told nothing more for now: the next report says it all."""
SWITCH_S: Final = 0.001
"""How long a thread that builds a table keeps the interpreter from the loop at a time."""
_PR_SET_PDEATHSIG: Final = 1
_PAGE_BYTES: Final = resource.getpagesize()


class Worker:
    """One life. `line` is set once it is open."""

    def __init__(self) -> None:
        self.clock = SystemClock()
        self.rng = random.Random()
        self.registry: CollectorRegistry = new_registry()
        self.line: Line | None = None
        self.ended = asyncio.Event()
        self.start: Start | None = None
        self.node: Node | None = None
        self.faults: FaultFilter | None = None
        self.gateway: Gateway | None = None
        self.lag = LoopLag(self.clock)
        self._hands: asyncio.Queue[tuple[Hand, float]] = asyncio.Queue()
        """At most one: the parent waits for each to be served."""
        self._may_listen = asyncio.Event()
        self._mode = EdgeMode.STALE
        self._word_at = self.clock.monotonic()
        self._drain_s: float | None = None

    async def run(self, end: socket.socket) -> int:
        """Until told to end; returns the exit code."""
        with ended_by_signal() as ended:
            signal.signal(
                signal.SIGINT, signal.SIG_IGN
            )  # a terminal sends it to the parent too, which decides
            self.ended = ended
            self.line = await Line.over(end, from_parent, self._take, ended.set)
            try:
                first, began = await self._first_hand()
            except asyncio.CancelledError:
                return 0
            assert self.start is not None
            assert self.node is not None
            async with AsyncExitStack() as held:
                telemetry = telemetry_from_env(
                    service="leeward-edge", node=self.node.id, region=self.node.region
                )
                held.push_async_callback(telemetry.close)
                credentials, missing = resolve_all(self.node.credentials)
                self.line.tell(Missing(missing))
                holding = Holding(self._build)
                table = await built(holding, first)
                async with Supervisor() as supervisor:
                    self.gateway = Gateway(
                        edge_id=self.node.id,
                        region=self.node.region,
                        table=table,
                        credentials=credentials,
                        clock=self.clock,
                        rng=self.rng,
                        telemetry=telemetry,
                        supervisor=supervisor,
                        registry=self.registry,
                        fault_filter=self.faults,
                        share=Share(self.start.index, self.start.of),
                    )
                    self.gateway.mode = self._mode
                    self._say(Serves(first.number, self.clock.monotonic() - began))
                    supervisor.start("lag", self.lag.run)
                    supervisor.start("tables", lambda: self._tables(holding))
                    supervisor.start("report", lambda: self._report(holding))
                    return await self._serve(supervisor)

    async def _serve(self, supervisor: Supervisor) -> int:
        assert self.gateway is not None
        assert self.start is not None
        assert self.node is not None
        opening = supervisor.spawn("listen", self._may_listen.wait())
        ending = supervisor.spawn("end", self.ended.wait())
        await asyncio.wait({opening, ending}, return_when=asyncio.FIRST_COMPLETED)
        if not self.ended.is_set():
            try:
                await self.gateway.start(self.start.host, self.start.port)
            except OSError as error:
                self._say(CannotListen(error.errno or 0, error.strerror or str(error)))
                return 1
            self._say(Listening())
            log.info("worker serves", port=self.start.port)
            await ending
        await self.gateway.drain(self.node.timings.drain_s if self._drain_s is None else self._drain_s)
        self._say(Figures(0, families_of(self.registry)))
        return 0

    async def _first_hand(self) -> tuple[Hand, float]:
        """What to begin by. Raises CancelledError when the end comes first."""
        async with Supervisor() as supervisor:
            handed = supervisor.spawn("first hand", self._hands.get())
            ending = supervisor.spawn("end", self.ended.wait())
            await asyncio.wait({handed, ending}, return_when=asyncio.FIRST_COMPLETED)
            if not handed.done():
                raise asyncio.CancelledError
            first: tuple[Hand, float] = handed.result()
            return first

    # ------------------------------------------------------------ hearing the parent

    def _take(self, message: Any) -> None:
        self._word_at = self.clock.monotonic()
        match message:
            case Start():
                self._begin(message)
            case Hand():
                self._hands.put_nowait((message, self._word_at))
            case Listen():
                self._may_listen.set()
            case Word(mode):
                self._mode = EdgeMode(mode)
                self._keep_mode()
            case Faults() if self.faults is not None:
                take_over(self.faults, message)
            case Spare(until) if self.gateway is not None:
                self.gateway.spare(until)
            case Measure(number):
                self._say(Figures(number, families_of(self.registry)))
            case Drain(timeout_s):
                self._drain_s = timeout_s
                self.ended.set()

    def _begin(self, start: Start) -> None:
        node = Node.model_validate_json(start.node)
        self.start, self.node, self._mode = start, node, EdgeMode(start.mode)
        if node.fault_filter:
            self.faults = FaultFilter(self.rng.random)

    def _build(self, *parts: Any) -> RouteTable:
        assert self.node is not None
        return build_table(*parts, region=self.node.region)

    async def _tables(self, holding: Holding) -> None:
        """Serve by what is handed; built beside the loop, taken in one step."""
        assert self.gateway is not None
        while True:
            hand, began = await self._hands.get()
            table = await built(holding, hand)
            self.gateway.swap(table, applied_in=hand.applied_in)
            self._say(Serves(hand.number, self.clock.monotonic() - began))

    def _keep_mode(self) -> None:
        if self.gateway is None or self.node is None:
            return
        timings = self.node.timings
        mode = mode_after(
            self._mode,
            self.clock.monotonic() - self._word_at,
            fresh_s=timings.fresh_s,
            static_s=timings.static_s,
        )
        if mode is not self.gateway.mode:
            log.info("mode", mode=mode.value)
            self.gateway.mode = mode

    # ------------------------------------------------------------ telling the parent

    def _say(self, message: Any) -> None:
        if self.line is not None:
            self.line.tell(message)

    async def _report(self, holding: Holding) -> None:
        assert self.gateway is not None
        assert self.node is not None
        figures_at = 0.0
        turned = False
        while True:
            self._keep_mode()
            signal.setitimer(signal.ITIMER_PROF, 3.0 * self.node.timings.worker_silent_s)
            if self.line is not None and self.line.unread_bytes < UNREAD_BYTES:
                self._say(self._seen(holding, turned=turned))
                now = self.clock.monotonic()
                if now >= figures_at:
                    self._say(Figures(0, families_of(self.registry)))
                    took_s = self.clock.monotonic() - now
                    figures_at = now + max(FIGURES_S, FIGURES_PART * took_s)
            turned = False
            with suppress(TimeoutError):
                await asyncio.wait_for(self.gateway.turned.wait(), REPORT_S)
                self.gateway.turned.clear()
                turned = True
                await asyncio.sleep(0)

    def _seen(self, holding: Holding, *, turned: bool) -> Report:
        gateway, config = self.gateway, holding.config
        assert gateway is not None
        assert config is not None
        window_s = config.fleet.policy.passive_window_s
        return Report(
            targets=gateway.parts(window_s),
            loads=[
                LoadPart(load.route, load.inflight, load.requests, load.failed, load.window_s)
                for load in gateway.loads(window_s)
            ],
            turned=turned,
            connections=len(gateway.clients),
            active=len(gateway.exchanges),
            upstream_connections=gateway.upstream_connections,
            cpu_s=_cpu_s(),
            rss_bytes=_rss_bytes(),
            lag_s=self.lag.worst_s,
            struck=_struck(self.faults),
        )


async def built(holding: Holding, hand: Hand) -> RouteTable:
    """The table of `hand`, made beside the loop, which gets its turn every `SWITCH_S`.

    A collection in the middle of it would look at everything that has just been made, in one piece: there is none
    meanwhile. A fleet lives long and has no cycles, so it is not looked at later either. What else happens to be
    there then is not looked at any more: little, and only when there is a new configuration.
    """
    if hand.config is not None:
        gc.collect(1)
    gc.disable()
    try:
        table = await asyncio.to_thread(holding.take, hand)
    finally:
        gc.enable()
    if hand.config is not None:
        gc.freeze()
    return table


def _struck(faults: FaultFilter | None) -> dict[str, int]:
    return {} if faults is None else {name: fault.struck for name, fault in faults.in_force.items()}


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _rss_bytes() -> int:
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE_BYTES
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _leave_nobody_behind() -> None:
    """See the module. Where the system knows no such signal, the closed line alone does it."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGCONT)
    faulthandler.register(signal.SIGPROF, chain=True)


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(prog="edge_router.worker")
    parser.add_argument("--fd", type=int, required=True)
    for name in ("--node", "--region", "--worker", "--log-level"):
        parser.add_argument(name, required=True, help="for its logs, and for whoever lists processes")
    given = parser.parse_args()
    logs.configure(role=Role.EDGE.value, node=given.node, region=given.region, level=given.log_level)
    structlog.contextvars.bind_contextvars(worker=int(given.worker))
    end = socket.socket(fileno=given.fd)
    end.set_inheritable(False)
    _leave_nobody_behind()
    sys.setswitchinterval(SWITCH_S)
    return uvloop.run(Worker().run(end))


if __name__ == "__main__":
    sys.exit(main())
