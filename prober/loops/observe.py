"""Runs what is due: each job at its own pace, never twice at once, and never more at once than can be carried."""

import asyncio
from collections.abc import Callable
from typing import Final

from prober.core.board import Board
from prober.core.cost import Spending, actual_usd, carried_s, permitted, spend
from prober.core.counters import Finding, credible
from prober.core.jobs import Job, Key
from prober.core.pace import paced_s, wanted_s
from prober.core.schedule import Schedule
from prober.metrics import Metrics
from prober.ports import Probe
from shared.clock import Clock
from shared.log import get_logger
from shared.supervise import Supervisor
from shared.telemetry import Telemetry, trace_id_of

log = get_logger(__name__)

MAX_INFLIGHT: Final = 512
"""Probes at once: half of the file descriptors that a process usually has. What is due beyond that
waits, the longest overdue first."""
SAMPLED: Final = 0.01
"""Share of probes that get a span although they cannot change a state."""
IDLE_S: Final = 60.0
"""Longest sleep with nothing scheduled."""


class Observe:
    """The observing loop. `draw` gives uniform values in [0, 1); `on_news` is called when the board
    has something that should be told at once."""

    def __init__(
        self,
        *,
        board: Board,
        schedule: Schedule,
        probe: Probe,
        clock: Clock,
        telemetry: Telemetry,
        supervisor: Supervisor,
        metrics: Metrics,
        draw: Callable[[], float],
        on_news: Callable[[], None],
    ) -> None:
        self._board = board
        self._schedule = schedule
        self._probe = probe
        self._clock = clock
        self._telemetry = telemetry
        self._supervisor = supervisor
        self._metrics = metrics
        self._draw = draw
        self._on_news = on_news
        self._inflight: set[Key] = set()
        self._again: set[Key] = set()
        self._spending: dict[Key, Spending] = {}
        self._woken = asyncio.Event()

    def replace(self, jobs: tuple[Job, ...]) -> None:
        """Observe exactly `jobs` from now on."""
        gone = self._schedule.jobs.keys() - {job.key for job in jobs}
        self._board.replace(jobs)
        self._schedule.replace(jobs, now=self._clock.monotonic())
        self._metrics.forget(gone)
        self._metrics.jobs.set(len(jobs))
        for key in gone:
            self._spending.pop(key, None)
        for state in self._board.states():  # and not the others: a first probe waits for no pace
            self._pace((state.target, state.monitor))
        self._woken.set()

    async def run(self) -> None:
        """For ever: start what is due, sleep until the next is."""
        while True:
            for job in self._schedule.take(self._clock.monotonic(), most=MAX_INFLIGHT - len(self._inflight)):
                self._start(job)
            self._metrics.skipped.set(self._schedule.skipped)
            await self._sleep()

    async def _sleep(self) -> None:
        self._woken.clear()
        delay = IDLE_S
        if (due := self._schedule.next_at()) is not None and len(self._inflight) < MAX_INFLIGHT:
            delay = min(delay, max(0.0, due - self._clock.monotonic()))
        try:
            async with asyncio.timeout(delay):
                await self._woken.wait()
        except TimeoutError:
            return

    def _start(self, job: Job) -> None:
        if job.key in self._inflight:
            # Due again before the last one ended (a timeout as long as the interval): it follows at once.
            self._again.add(job.key)
            return
        self._inflight.add(job.key)
        self._metrics.inflight.set(len(self._inflight))
        self._supervisor.spawn(f"probe {job.target.id} {job.monitor.id}", self._carry_out(job))

    async def _carry_out(self, job: Job) -> None:
        key = job.key
        current: Job | None = job
        try:
            while current is not None:
                await self._once(current)
                self._pace(key)
                current = self._board.jobs.get(key) if key in self._again else None
                self._again.discard(key)
        finally:
            self._again.discard(key)
            self._inflight.discard(key)
            self._metrics.inflight.set(len(self._inflight))
            if len(self._inflight) == MAX_INFLIGHT - 1:
                self._woken.set()  # the loop was waiting for a place

    async def _once(self, job: Job) -> None:
        """One probe, counted; a span of its own when it may change the state, or by sampling."""
        if not self._affordable(job):
            return
        traced = self._board.track(job.key).on_the_verge(job.monitor) or self._draw() < SAMPLED
        span = (
            self._telemetry.begin(
                "probe",
                kind="client",
                attributes={
                    "leeward.target": job.target.id,
                    "leeward.monitor": job.monitor.id,
                    "leeward.provider": job.target.provider,
                },
            )
            if traced
            else None
        )
        finding: Finding | None = None
        try:
            try:
                finding = await self._probe.probe(job)
            finally:
                self._pay(job, actual_usd(job, finding))
            if finding is None or not credible(finding, job.monitor):
                self._metrics.untold.labels(job.monitor.id).inc()
                return
            applied = self._board.apply(
                job, finding, now=self._clock.now(), traceparent=span.traceparent if span else None
            )
            if applied is None:
                return
            self._metrics.probed(job, finding, applied.after)
            if span is not None:
                span.set(leeward__outcome=finding.outcome.value, leeward__state=applied.after)
                if not finding.outcome.good:
                    span.set(error__type=finding.outcome.value)
                    span.fail(finding.detail)
            if applied.before != applied.after:
                # A healthy target met for the first time is no event; hundreds of them are noise.
                tell = log.debug if (applied.before, applied.after) == ("UNKNOWN", "UP") else log.info
                tell(
                    "target changed",
                    target=job.target.id,
                    monitor=job.monitor.id,
                    before=applied.before,
                    after=applied.after,
                    outcome=finding.outcome.value,
                    detail=finding.detail,
                    trace_id=trace_id_of(span.traceparent) if span else None,
                )
            if applied.news:
                self._on_news()
        finally:
            if span is not None:
                span.end()

    def _affordable(self, job: Job) -> bool:
        if permitted(self._spending.get(job.key, ()), job, now=self._clock.monotonic()):
            return True
        self._metrics.unpaid.labels(job.monitor.id).inc()
        return False

    def _pay(self, job: Job, usd: float) -> None:
        if usd > 0.0:
            self._metrics.cost.labels(*job.key).inc(usd)
            self._spending[job.key] = spend(self._spending.get(job.key, ()), usd, now=self._clock.monotonic())

    def _pace(self, key: Key) -> None:
        """Let the next probe of `key` come when its last outcomes and its ceiling say; nothing when it is
        no longer watched."""
        job = self._board.jobs.get(key)
        if job is None:
            return
        now = self._clock.monotonic()
        interval_s = paced_s(
            wanted_s(self._board.track(key), job.monitor),
            carried_s(self._spending.get(key, ()), job, now=now),
            job.monitor,
        )
        self._board.pace(key, interval_s)
        self._metrics.interval.labels(*key).set(interval_s)
        if self._schedule.pace(key, interval_s, now=now):
            self._woken.set()
