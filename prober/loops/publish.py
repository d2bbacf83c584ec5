"""Tells what is known on the region's own bus: changes at once, everything once a round.

What is told is the board's state at that moment and no diary of it, so an absent bus needs no buffer:
when it is back, it hears the newest state of everything, and nothing else was worth keeping.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from prober.core.batches import batches
from prober.core.board import Board
from prober.metrics import Metrics
from shared import cloudevents, topics
from shared.backoff import Backoff
from shared.clock import Clock
from shared.log import get_logger
from shared.ports import Bus, PortError
from shared.telemetry import Span, Telemetry
from shared.vocabulary.health import HealthEvent, ProbeState
from shared.vocabulary.terms import Role

log = get_logger(__name__)

PUBLISH_TIMEOUT_S: Final = 2.0
MAX_LINKS: Final = 64
"""Probes that one event's span is linked to; when hundreds change at once, a few tell the story."""


class Publish:
    """The telling loop of `source`, in its life number `boot`."""

    def __init__(
        self,
        *,
        source: str,
        vantage: str,
        boot: int,
        round_s: float,
        board: Board,
        bus: Bus,
        clock: Clock,
        telemetry: Telemetry,
        metrics: Metrics,
        config_version: Callable[[], int],
        backoff: Backoff,
    ) -> None:
        self._source = source
        self._vantage = vantage
        self._boot = boot
        self._round_s = round_s
        self._board = board
        self._bus = bus
        self._clock = clock
        self._telemetry = telemetry
        self._metrics = metrics
        self._config_version = config_version
        self._backoff = backoff
        self._seq = 0
        self._woken = asyncio.Event()
        self.taken: bool | None = None
        """Whether the bus took the last event; None before the first."""

    @property
    def seq(self) -> int:
        """Of the last event made."""
        return self._seq

    def nudge(self) -> None:
        """There are news on the board."""
        self._woken.set()

    async def run(self) -> None:
        """For ever. The first event, if only a heartbeat, goes out at once: a life has begun."""
        round_at = self._clock.monotonic()
        while True:
            self._woken.clear()
            now = self._clock.monotonic()
            if now >= round_at:
                round_at = now + self._round_s
                due: Sequence[ProbeState] | None = self._board.states()
            else:
                news = self._board.news()
                due = self._board.states(news) if news else None
            if due is None:
                await self._sleep(round_at - now)
                continue
            try:
                await self._tell(due)
            except PortError as error:
                self._metrics.events.labels("failed").inc()
                if self.taken is not False:
                    log.warning("bus does not take events, will go on trying", error=str(error))
                self.taken = False
                await asyncio.sleep(min(self._round_s, self._backoff.next()))
            else:
                self._backoff.reset()

    async def _sleep(self, delay: float) -> None:
        try:
            async with asyncio.timeout(delay):
                await self._woken.wait()
        except TimeoutError:
            return

    async def _tell(self, states: Sequence[ProbeState]) -> None:
        """Publish `states` in as many events as it takes. Raises PortError at the first that fails;
        the round tells the rest."""
        traces = self._board.untold_traces(states)
        with self._telemetry.span(
            f"publish {topics.HEALTH}",
            kind="producer",
            parent=traces[0] if traces else None,
            links=traces[1 : 1 + MAX_LINKS],
            attributes={
                "messaging.system": "kafka",
                "messaging.operation.name": "publish",
                "messaging.operation.type": "send",
                "messaging.destination.name": topics.HEALTH,
                "leeward.entries": len(states),
            },
            record=bool(traces),  # a round that repeats what is known is no news
        ) as span:
            for batch, encoded in batches(states, lambda some: self._encode(some, span)):
                await self._publish(encoded, span, kind="probe" if batch else "heartbeat")
                self._board.told(batch)
                self._metrics.entries.inc(len(batch))

    async def _publish(self, encoded: bytes, span: Span, *, kind: str) -> None:
        await self._bus.publish(
            topics.HEALTH,
            key=self._source.encode(),
            value=encoded,
            headers=cloudevents.headers(
                kind=f"leeward.health.{kind}",
                source=f"/{self._vantage}/{self._source}",
                event_id=f"{self._boot}.{self._seq}",
                time=self._clock.now(),
                traceparent=span.traceparent,
            ),
            timeout_s=PUBLISH_TIMEOUT_S,
        )
        self._metrics.events.labels("published").inc()
        if not self.taken:
            log.info("bus takes events", boot=self._boot, seq=self._seq)
        self.taken = True

    def _encode(self, states: Sequence[ProbeState], span: Span) -> bytes:
        self._seq += 1
        event = HealthEvent(
            kind="probe" if states else "heartbeat",
            source=self._source,
            role=Role.PROBER,
            vantage=self._vantage,
            boot=self._boot,
            seq=self._seq,
            observed_at=self._clock.now(),
            config_version=self._config_version(),
            probes=tuple(states),
            traceparent=span.traceparent,
        )
        return event.model_dump_json().encode()
