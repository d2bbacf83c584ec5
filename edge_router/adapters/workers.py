"""The data path in several processes: what an edge's parent does so that its workers serve as one edge.

serving     Each worker is a whole data path on the same address (SO_REUSEPORT: the kernel spreads connections).
            The parent carries no request.
one truth   What workers report is merged here: the edge has one source id, one boot number, one set of metrics.
a swap      Every worker is handed the new table at once; `settled` is when all that accept requests serve by it,
            and only then is it acknowledged. A worker that has just started accepts nobody before it has the newest.
a death     costs the requests under way in that worker. It is started again, after a pause that grows to 10 s; the
            others go on. One that is silent, or does not take its table, for `worker_silent_s` is killed: what it
            serves may be old, and what it sees is lost.
the end     A worker whose line closes drains and ends, so none outlives its parent.
"""

import asyncio
import random
import socket
from collections.abc import Callable
from typing import Any, Final

from prometheus_client import CollectorRegistry

from edge_router.adapters.shared_faults import SharedFaults
from edge_router.adapters.worker_figures import WorkersCollector
from edge_router.adapters.worker_process import WorkerProcess, reserve
from edge_router.core.fault_filter import FaultFilter
from edge_router.core.frames import Drain, Measure, Report, Spare, Start, Word
from edge_router.core.handover import Plan
from edge_router.core.merge import Coolings, by_target, merged, merged_loads, summed
from edge_router.core.series import Retired
from shared.backoff import Backoff
from shared.clock import Clock
from shared.log import get_logger
from shared.supervise import Supervisor
from shared.vocabulary.base import Version
from shared.vocabulary.health import PassiveWindow, RouteLoad
from shared.vocabulary.node import Node
from shared.vocabulary.terms import EdgeMode

log = get_logger(__name__)

WATCH_S: Final = 0.25
START_S: Final = 30.0
"""From a worker's start to its first word that it serves."""
PAUSE_CAP_S: Final = 10.0
STEADY_S: Final = 30.0
"""A worker that lived for so long was all right: the pause before it is started again is short."""
DRAIN_GRACE_S: Final = 2.0
MEASURE_S: Final = 1.0
"""A scrape waits no longer for workers; what they told last is shown then."""


class Workers:
    """See the module. `Serving` of `Plan`s, and `Crew`."""

    def __init__(
        self,
        plan: Plan,
        *,
        node: Node,
        clock: Clock,
        rng: random.Random,
        supervisor: Supervisor,
        registry: CollectorRegistry,
        faults: SharedFaults | None = None,
    ) -> None:
        self._plan = plan
        self._node = node
        self._clock = clock
        self._rng = rng
        self._supervisor = supervisor
        self._faults = faults
        self._mode = EdgeMode.STALE
        self._workers: dict[int, WorkerProcess] = {}
        self._restarts = dict.fromkeys(range(node.workers), 0)
        self._retired = Retired()
        self._coolings = Coolings()
        self._address: tuple[str, int] | None = None
        self._reserved: socket.socket | None = None
        self._started = False
        self._failed: OSError | None = None
        self._draining = False
        self._measures = 0
        self._waiting: set[asyncio.Event] = set()
        self.turned = asyncio.Event()
        self.on_alarm: Callable[[str, str], None] = lambda _code, _detail: None
        self.on_over: Callable[[str], None] = lambda _code: None
        registry.register(WorkersCollector(self._alive, self._retired, self._restarts))
        if faults is not None:
            faults.on_change = self._tell_faults

    # ------------------------------------------------------------ Serving

    async def start(self, host: str, port: int) -> tuple[str, int]:
        """Have all workers listen; returns the address as bound. Raises OSError."""
        self._reserved = reserve(host, port)
        bound = self._reserved.getsockname()
        self._address = (str(bound[0]), int(bound[1]))
        for index in range(self._node.workers):
            self._supervisor.spawn(f"worker {index}", self._keep(index))
        self._supervisor.start("workers", self._watch)
        try:
            await self._until(lambda: self._failed is not None or self._serving_all())
        finally:
            self._started = self._failed is None
        if self._failed is not None:
            await self.drain(0.0)
            raise self._failed
        return self._address

    async def drain(self, timeout_s: float) -> None:
        """Have every worker drain, and end those that have not within `timeout_s` and a little more."""
        self._draining = True
        self._change()
        for worker in self._alive():
            if worker.serves and timeout_s > 0:
                worker.tell(Drain(timeout_s))
            else:
                worker.kill()
        try:
            async with asyncio.timeout(timeout_s + DRAIN_GRACE_S):
                await self._until(lambda: not self._alive())
        except TimeoutError:
            for worker in self._alive():
                log.warning("worker did not drain in time", worker=worker.index, pid=worker.pid)
                worker.kill()
            await self._until(lambda: not self._alive())
        if self._reserved is not None:
            self._reserved.close()

    def swap(self, table: Plan, *, applied_in: str | None = None) -> None:
        """Have every worker serve by it; when they do, `settled` returns."""
        self._plan = table
        self._retired.keep(routes=table.routes, targets=table.targets)
        for worker in self._alive():
            worker.hand(table, applied_in)

    @property
    def mode(self) -> EdgeMode:
        """As the workers show it to clients."""
        return self._mode

    @mode.setter
    def mode(self, mode: EdgeMode) -> None:
        self._mode = mode
        for worker in self._alive():
            worker.tell(Word(mode.value))

    def passive(self, window_s: float) -> tuple[PassiveWindow, ...]:
        """What all workers together saw of each target. The window is the one of the fleet's policy."""
        now = self._clock.monotonic()
        targets = by_target(report.targets for report in self._reports())
        return tuple(merged(parts, now) for parts in targets.values())

    def loads(self, window_s: float) -> tuple[RouteLoad, ...]:
        """What all workers together carried of each route."""
        return merged_loads(report.loads for report in self._reports())

    # ------------------------------------------------------------ Crew

    async def settled(self) -> None:
        """Until every worker that accepts requests serves by the newest table. Ends, because one that does not
        take it is killed."""
        await self._until(
            lambda: self._draining or (self._started and all(worker.settled for worker in self._alive()))
        )

    async def measured(self) -> None:
        """Have every worker tell its metrics now, as far as they answer within `MEASURE_S`."""
        self._measures += 1
        number = self._measures
        asked = [worker for worker in self._alive() if worker.serves]
        for worker in asked:
            worker.tell(Measure(number))
        try:
            async with asyncio.timeout(MEASURE_S):
                await self._until(
                    lambda: all(worker.measured >= number or worker.ended.is_set() for worker in asked)
                )
        except TimeoutError:
            log.warning("not all workers told their metrics in time")

    def why_not_ready(self) -> str | None:
        """None while any worker serves."""
        return None if any(worker.serves for worker in self._alive()) else "no worker serves"

    def served(self) -> Version | None:
        """The oldest head that any worker serves; None while none serves."""
        return min((worker.version for worker in self._alive() if worker.serves), default=None)

    def shown(self) -> list[dict[str, Any]]:
        """Each worker, for `/status`."""
        now = self._clock.monotonic()
        return [_shown(worker, self._restarts[worker.index], now) for worker in self._alive()]

    # ------------------------------------------------------------ keeping them alive

    async def _keep(self, index: int) -> None:
        """One worker, life after life, until the edge drains."""
        backoff = Backoff(base_s=0.2, cap_s=PAUSE_CAP_S, floor_s=0.05, rng=self._rng)
        while not self._draining:
            worker = WorkerProcess(
                index=index,
                clock=self._clock,
                reported=self._reported,
                changed=self._change,
                missing=self._missing,
            )
            try:
                why = await self._live(worker)
            except OSError as error:
                why = f"cannot be started: {error}"
            finally:
                worker.kill()
                if self._workers.get(index) is worker:
                    del self._workers[index]
                self._retired.add(worker.families)
                self._change()
            if self._draining:
                return
            if not self._started:
                refused = worker.refused
                self._failed = (
                    OSError(f"worker {index} {why}")
                    if refused is None
                    else OSError(refused.errno, refused.text)
                )
                self._change()
                return
            self._restarts[index] += 1
            self.on_alarm("WORKER_ENDED", f"worker {index}, pid {worker.pid}, {why}")
            if self._clock.monotonic() - worker.began >= STEADY_S:
                backoff.reset()
            await asyncio.sleep(backoff.next())

    async def _live(self, worker: WorkerProcess) -> str:
        """One life of it, and how that ended. Raises OSError when it cannot be started."""
        assert self._address is not None
        host, port = self._address
        first = Start(
            node=self._node.model_dump_json().encode(),
            index=worker.index,
            of=self._node.workers,
            host=host,
            port=port,
            mode=self._mode.value,
        )
        self._workers[worker.index] = worker
        await worker.start(first, self._plan, self._node)
        if self._faults is not None:
            worker.tell(self._faults.as_message())
        worker.tell(Spare(self._coolings.until))
        code = await worker.wait()
        if not self._draining:
            log.error("worker ended", worker=worker.index, pid=worker.pid, code=code)
        return f"ended by signal {-code}" if code < 0 else f"ended with {code}"

    async def _watch(self) -> None:
        """Word to the workers, and an eye on them."""
        looked_at = self._clock.monotonic()
        while not self._draining:
            await asyncio.sleep(WATCH_S)
            now = self._clock.monotonic()
            # After a pause of its own, the parent has not read what the workers said meanwhile.
            paused_s, looked_at = now - looked_at - WATCH_S, now
            for worker in self._alive():
                if paused_s > 1.0:
                    worker.heard_at = worker.handed_at = now
                worker.tell(Word(self._mode.value))
                self._judge(worker, now)
            if self._serving_all():
                self.on_over("WORKER_ENDED")
            if self._faults is not None:
                self._faults.expire(now)
                self._faults.tell_struck(summed(report.struck for report in self._reports()))

    def _judge(self, worker: WorkerProcess, now: float) -> None:
        patience_s = self._node.timings.worker_silent_s if worker.serves else START_S
        silent_s = now - worker.heard_at
        late_s = 0.0 if worker.settled else now - worker.handed_at
        if max(silent_s, late_s) > patience_s and not worker.ended.is_set():
            what = "says nothing" if silent_s > patience_s else "does not take its table"
            log.error(f"worker {what}, ended", worker=worker.index, pid=worker.pid, after_s=patience_s)
            worker.kill()

    def _reported(self, worker: WorkerProcess, report: Report) -> None:
        if report.turned:
            self.turned.set()
        news = self._coolings.news(report.targets, self._clock.monotonic())
        if news:
            for other in self._alive():
                if other is not worker:
                    other.tell(Spare(news))

    # ------------------------------------------------------------ small things

    def _alive(self) -> list[WorkerProcess]:
        return [worker for _, worker in sorted(self._workers.items()) if worker.pid]

    def _reports(self) -> list[Report]:
        return [worker.report for worker in self._alive() if worker.report is not None]

    def _serving_all(self) -> bool:
        return sum(worker.serves for worker in self._alive()) == self._node.workers

    def _tell_faults(self) -> None:
        if self._faults is not None:
            for worker in self._alive():
                worker.tell(self._faults.as_message())

    def _missing(self, problems: dict[str, str]) -> None:
        for name, problem in problems.items():
            self.on_alarm("CREDENTIAL_MISSING", f"{name}: {problem}")

    def _change(self) -> None:
        for event in self._waiting:
            event.set()

    async def _until(self, holds: Callable[[], bool]) -> None:
        """Wait for a state of the workers; each change of one has it looked at again."""
        changed = asyncio.Event()
        self._waiting.add(changed)
        try:
            while not holds():
                await changed.wait()
                changed.clear()
        finally:
            self._waiting.discard(changed)


def in_workers(
    node: Node, clock: Clock, rng: random.Random, faults: FaultFilter | None
) -> Callable[[Plan, Supervisor, CollectorRegistry], Workers]:
    """What makes the data path of `node` around its first plan."""

    def workers(plan: Plan, supervisor: Supervisor, registry: CollectorRegistry) -> Workers:
        return Workers(
            plan,
            node=node,
            clock=clock,
            rng=rng,
            supervisor=supervisor,
            registry=registry,
            faults=faults if isinstance(faults, SharedFaults) else None,
        )

    return workers


def _shown(worker: WorkerProcess, restarts: int, now: float) -> dict[str, Any]:
    report = worker.report
    return {
        "worker": worker.index,
        "pid": worker.pid,
        "serves": worker.serves,
        "decision": str(worker.version),
        "connections": 0 if report is None else report.connections,
        "active": 0 if report is None else report.active,
        "upstream_connections": 0 if report is None else report.upstream_connections,
        "cooling": 0 if report is None else sum(part.cool_until > now for part in report.targets),
        "cpu_s": 0.0 if report is None else round(report.cpu_s, 3),
        "rss_mb": 0.0 if report is None else round(report.rss_bytes / 2**20, 1),
        "loop_lag_ms": 0.0 if report is None else round(report.lag_s * 1000, 1),
        "swap_ms": round(worker.swap_s * 1000, 1),
        "heard_age_s": round(now - worker.heard_at, 3),
        "uptime_s": round(now - worker.began, 3),
        "restarts": restarts,
    }
