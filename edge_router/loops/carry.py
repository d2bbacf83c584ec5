"""Carries values into the follower and its effects out, in order. Nothing here waits: a swap is one
assignment, and what takes time (files, acks, reading again) is handed to the loop whose work it is.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Generic, TypeVar

from edge_router.core.follow import Follower
from edge_router.core.lapse import Lapsed
from edge_router.core.signals import (
    Acknowledge,
    Alarm,
    Apply,
    Confirmed,
    DocumentSeen,
    Ease,
    Effect,
    Event,
    ModeIs,
    Refused,
    Resync,
)
from edge_router.loops.alarms import Alarms
from edge_router.loops.recall import kept_of
from edge_router.loops.trail import Path, Trail
from edge_router.metrics import Metrics
from edge_router.ports import Kept, Serving
from shared.clock import Clock
from shared.log import get_logger
from shared.telemetry import Telemetry, trace_id_of
from shared.vocabulary.terms import EdgeMode

log = get_logger(__name__)

MAX_LINKS = 64
"""Documents that one apply span is linked to."""
OVER_WHEN_CONFIRMED = (
    "CONTROL_PLANE_BEHIND",
    "INCOMPLETE",
    "UNSAFE_HEAD",
    "HEAD_CONFLICT",
    "DOCUMENT_CONFLICT",
)
"""Alarms about following: once a Beat states what this edge serves, they are history."""
LOG_REFUSALS_EVERY_S = 10.0

TableT = TypeVar("TableT")


class Carrier(Generic[TableT]):
    """One edge's follower, wired. Until `attach`, applied tables wait in `table`.

    `on_apply`, `on_acknowledge` and `on_resync` are called for the effects of those names; set them
    before the first event.
    """

    def __init__(
        self,
        *,
        edge: str,
        region: str,
        follower: Follower[TableT],
        clock: Clock,
        telemetry: Telemetry,
        alarms: Alarms,
        metrics: Metrics,
    ) -> None:
        self.follower = follower
        self._edge = edge
        self._region = region
        self._clock = clock
        self._telemetry = telemetry
        self._trail = Trail(edge=edge, region=region, clock=clock, telemetry=telemetry)
        self._alarms = alarms
        self._metrics = metrics
        self._serving: Serving[TableT] | None = None
        self._refusal_logged_at: dict[tuple[str, str], float] = {}
        self.mode = EdgeMode.STALE
        """The same everywhere: in response headers, acks and `/status`."""
        self.table: TableT | None = None
        self.read_ahead: Callable[[bytes], None] = lambda _: None
        """Makes ready, in a thread, for a large configuration that is about to come."""
        self.on_table: Callable[[], None] = _nothing
        self.on_kept: Callable[[Kept], None] = lambda _: None
        self.on_acknowledge: Callable[[], None] = _nothing
        self.on_resync: Callable[[], None] = _nothing
        self.applied_at: datetime = clock.now()
        self._began = self.applied_at
        self.applied_monotonic: float = clock.monotonic()
        self.traceparent: str | None = None
        """Of the last apply span."""

    def attach(self, serving: Serving[TableT]) -> None:
        """The data path now runs: bring it up to date, and keep it so."""
        self._serving = serving
        if self.table is not None:
            serving.swap(self.table)
        serving.mode = self.mode

    def hear(self, event: Event, path: Path, context: str | None = None) -> None:
        """Take one event and do all that follows from it. `context` is the traceparent of the message that
        carried it, where it had one."""
        if isinstance(event, DocumentSeen):
            self._trail.received(event.raw, path, context)
        if path != "clock":
            self._metrics.heard.labels(path, type(event).__name__.removesuffix("Seen").lower()).inc()
        self.carry_out(self.follower.step(event, self._clock.monotonic()), path)

    def bus_read(self, timestamp_ms: int) -> None:
        """A Beat of this time of the broker's was read just now."""
        lag_s = self._clock.now().timestamp() - timestamp_ms / 1000
        self._metrics.bus_lag.set(max(0.0, lag_s))

    def carry_out(self, effects: list[Effect[TableT]], path: Path = "file") -> None:
        """In the order given; what they follow from came by `path`."""
        for effect in effects:
            match effect:
                case Apply():
                    self._apply(effect, path)
                case Ease(table, over):
                    self._ease(table, over)
                case ModeIs(mode):
                    log.info("mode", mode=mode.value)
                    self.mode = mode
                    if self._serving is not None:
                        self._serving.mode = mode
                case Acknowledge():
                    self.on_acknowledge()
                case Confirmed():
                    self._alarms.clear(*OVER_WHEN_CONFIRMED)
                case Refused():
                    self._refused(effect)
                case Alarm(code, detail):
                    self._alarms.ring(code, detail)
                case Resync(missing):
                    self._metrics.resyncs.inc()
                    log.warning("reading both paths again", documents_missing=missing)
                    self.on_resync()

    def _apply(self, effect: Apply[TableT], path: Path) -> None:
        newest = sorted(effect.changed, key=lambda decision: decision.version, reverse=True)
        decided_in = dict.fromkeys(d.traceparent for d in newest if d.traceparent is not None)
        parent = next(iter(decided_in), None)
        if parent is not None:
            parent = self._trail.behind(parent, newest[0].seq, path)
        with self._telemetry.span(
            "apply",
            parent=parent,
            links=list(decided_in)[1 : 1 + MAX_LINKS],
            attributes={
                "leeward.edge": self._edge,
                "cloud.region": self._region,
                "leeward.path": path,
                "leeward.decision": str(effect.version),
                "leeward.decision.previous": str(effect.previous),
                "leeward.config_version": effect.config.config.config_version,
                "leeward.routes_changed": len(effect.changed),
            },
        ) as span:
            self.table = effect.table
            if self._serving is not None:
                self._serving.swap(effect.table, applied_in=span.traceparent)
        self.traceparent = span.traceparent
        self.applied_at, self.applied_monotonic = self._clock.now(), self._clock.monotonic()
        self._metrics.applied.inc()
        for decision in effect.changed:
            # What was decided before this edge began is old, and says nothing of how fast word travels.
            if decision.decided_at >= self._began:
                lag_s = (self.applied_at - decision.decided_at).total_seconds()
                self._metrics.decision_lag.observe(max(0.0, lag_s))
        log.info(
            "applied",
            decision=str(effect.version),
            previous=str(effect.previous),
            config_version=effect.config.config.config_version,
            routes=[f"{decision.route} {decision.version}" for decision in effect.changed[:10]],
            path=path,
            trace_id=trace_id_of(span.traceparent),
        )
        self.on_table()
        # The node file's own order is never kept: a kept one would hide what the file says next time.
        if effect.head is not None or effect.config.config.config_version > 0:
            self.on_kept(kept_of(effect, follower=self.follower))

    def _ease(self, table: TableT, over: Lapsed) -> None:
        """Not kept and not acknowledged: what is served is the same decision."""
        self.table = table
        if self._serving is not None:
            self._serving.swap(table)
        if over:
            log.warning("nobody leads, and drains are past their end", drains=sorted(over)[:20])
        else:
            log.info("somebody leads again: drains are as decided")

    def _refused(self, effect: Refused) -> None:
        self._metrics.refused.labels(effect.what, effect.reason).inc()
        kind, now = (effect.what, effect.reason), self._clock.monotonic()
        if now - self._refusal_logged_at.get(kind, -LOG_REFUSALS_EVERY_S) >= LOG_REFUSALS_EVERY_S:
            self._refusal_logged_at[kind] = now
            log.warning("refused", what=effect.what, reason=effect.reason, detail=effect.detail)


def _nothing() -> None: ...
