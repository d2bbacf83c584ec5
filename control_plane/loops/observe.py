"""Everything a bus says, folded: health events, edges' acks, Beats. One `Observer` for each distinct bus.

A poison message is counted, copied to the dead-letter topic by the leader, and passed over; the
partition never waits for it. Reading starts a few rounds back, so that a cold replica is warm within
one fetch; what is read late is aged by its record timestamps, so that old words do not look fresh.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from control_plane.core.fold import EventFold
from control_plane.loops import decode
from control_plane.loops.decode import Poison
from control_plane.loops.edges import EdgeTable
from control_plane.loops.pulse import Pulse, closing
from control_plane.loops.seen import Seen
from control_plane.metrics import Metrics
from shared.clock import Clock
from shared.log import get_logger
from shared.ports import Batch, Bus, PortError, Record
from shared.telemetry import Contexts, Telemetry, trace_id_of
from shared.topics import ACKS, BEATS, DLQ, HEALTH
from shared.vocabulary.health import HealthEvent

log = get_logger(__name__)

START_BACK_S = 15.0
"""Three times the default `source_timeout_s`: every live source has spoken since."""
LATE_S = 3.0
"""After such a pause in reading, what follows is a backlog and is aged as one."""
DLQ_LENGTH = 200
DLQ_VALUE_BYTES = 64 * 1024
RECORDS_AT_ONCE = 50
"""Between two looks at the rest of the event loop."""


@dataclass(slots=True)
class Heard:
    """What all observers of a replica write into."""

    fold: EventFold
    edges: EdgeTable
    seen: Seen
    folds: Contexts = field(default_factory=Contexts)
    """By trace id: where the word of an event that changed something was last folded."""


class Observer:
    """Reads one bus. `run` and `run_dlq` are its loops.

    `on_change` is called when a word changed something, `on_gap` when the bus had lost messages, as
    one that came back empty has; `leading` says whether this replica writes dead letters.
    """

    def __init__(
        self,
        bus: Bus,
        heard: Heard,
        *,
        clock: Clock,
        telemetry: Telemetry,
        metrics: Metrics,
        on_change: Callable[[], None],
        on_gap: Callable[[], None],
        leading: Callable[[], bool],
    ) -> None:
        self._bus = bus
        self._heard = heard
        self._clock = clock
        self._telemetry = telemetry
        self._metrics = metrics
        self._on_change = on_change
        self._on_gap = on_gap
        self._leading = leading
        self._letters: deque[tuple[Record, Poison]] = deque(maxlen=DLQ_LENGTH)
        self._letters_pulse = Pulse()
        self._newest_ms = 0
        self._read_at: float | None = None
        self.caught_up = False

    async def run(self) -> None:
        """Read until cancelled; an unreachable bus is tried for ever, by the adapter's own pace."""
        said = False
        while True:
            self._newest_ms, self._read_at = 0, None
            try:
                async with closing(self._bus.consume([HEALTH, ACKS, BEATS], start=START_BACK_S)) as batches:
                    async for batch in batches:
                        said = False
                        await self._take(batch)
            except PortError as error:
                if not said:
                    log.warning("bus is not readable", bus=self._bus.region, error=repr(error))
                said = True
            self.caught_up = False
            await asyncio.sleep(0.1)

    @property
    def letters(self) -> int:
        """Dead letters that wait to be written."""
        return len(self._letters)

    async def run_dlq(self) -> None:
        """Write dead letters, best effort: one attempt each, and the oldest give way."""
        while True:
            seen = self._letters_pulse.count
            while self._letters:
                record, poison = self._letters.popleft()
                headers = {
                    "leeward_reason": poison.reason.encode(),
                    "leeward_detail": poison.detail[:512].encode(),
                    "leeward_topic": record.topic.encode(),
                    "leeward_partition": str(record.partition).encode(),
                    "leeward_offset": str(record.offset).encode(),
                }
                value = None if record.value is None else record.value[:DLQ_VALUE_BYTES]
                with suppress(PortError):
                    await self._bus.publish(DLQ, key=record.key, value=value, headers=headers)
            await self._letters_pulse.wait(seen, 60.0)

    async def _take(self, batch: Batch) -> None:
        now = self._clock.monotonic()
        paused = self._read_at is not None and now - self._read_at > LATE_S
        late = paused or not self.caught_up
        self._read_at = now
        if batch.gap:
            self._metrics.gaps.labels(self._bus.region).inc()
            log.warning("bus had lost messages", bus=self._bus.region)
            self._on_gap()
        if batch.records:
            newest_ms = max(record.timestamp_ms for record in batch.records)
            self._newest_ms = max(self._newest_ms, newest_ms)
            lag_s = self._clock.now().timestamp() - newest_ms / 1000
            self._metrics.bus_lag.labels(self._bus.region).set(max(0.0, lag_s))
        changed = False
        for number, record in enumerate(batch.records, start=1):
            changed |= self._one(record, received_at=now - (self._age_s(record) if late else 0.0))
            if number % RECORDS_AT_ONCE == 0:
                await asyncio.sleep(0)
        if batch.caught_up != self.caught_up:
            self.caught_up = batch.caught_up
            changed = True
        if changed:
            self._on_change()

    def _age_s(self, record: Record) -> float:
        """How old a late record is, in doubt older: by the wall clock, or against the newest record
        on this bus where the clocks disagree. The next round, a second later, corrects both."""
        wall_ms = self._clock.now().timestamp() * 1000 - record.timestamp_ms
        return max(0.0, wall_ms, self._newest_ms - record.timestamp_ms) / 1000

    def _one(self, record: Record, *, received_at: float) -> bool:
        """Take one record; True when it changed something. Never raises for what it contains."""
        try:
            return self._fold(record, received_at=received_at)
        except Poison as poison:
            self._metrics.dlq.labels(poison.reason).inc()
            if self._leading():
                self._letters.append((record, poison))
                self._letters_pulse.fire()
            return False

    def _fold(self, record: Record, *, received_at: float) -> bool:
        now = self._clock.now()
        bus = self._bus.region
        if record.topic == HEALTH:
            event = decode.health_event(record.value, now=now)
            self._metrics.events.labels(bus, event.kind).inc()
            self._metrics.probe_states.inc(len(event.probes))
            self._heard.seen.config(event.config_version)
            return self._fold_event(event, received_at=received_at)
        if record.topic == ACKS:
            ack = decode.ack(record.value, now=now)
            self._metrics.events.labels(bus, "ack").inc()
            self._heard.seen.ack(ack)
            self._heard.edges.apply(ack, received_at=received_at, via="bus")
            return False
        beat = decode.beat(record.value, now=now)
        self._metrics.events.labels(bus, "beat").inc()
        self._heard.seen.beat(beat)
        return False

    def _fold_event(self, event: HealthEvent, *, received_at: float) -> bool:
        span = self._telemetry.begin("fold", kind="consumer", parent=event.traceparent)
        changed = self._heard.fold.apply(event, received_at=received_at)
        if changed:
            # A span that is never ended is never exported: rounds that say nothing new leave no trace.
            span.set(
                messaging__system="kafka",
                messaging__operation__name="process",
                messaging__operation__type="process",
                messaging__destination__name=HEALTH,
                leeward__bus=self._bus.region,
                leeward__source=event.source,
                leeward__kind=event.kind,
                leeward__seq=event.seq,
            )
            span.end()
            self._heard.folds.put(trace_id_of(span.traceparent), span.traceparent, at=received_at)
        return changed
