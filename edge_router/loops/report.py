"""Tells the region's bus what live traffic shows: passive windows and the load of each route several times
a second while there is traffic, and a sign of life once a round.

A window is absolute state, so what a bus that was away did not hear is not kept for it: the next one
says more. Where traffic to a target or of a route ends, its empty window is told once, so that nobody
goes on reasoning from its last full one. An ejection is told at once: it may be all that anybody has
against the target. So is a cooling: other edges call with the same account.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import zip_longest
from typing import Any, Final, TypeVar

from pydantic import ValidationError

from edge_router.loops.carry import Carrier
from edge_router.metrics import Metrics
from edge_router.ports import Serving
from shared import cloudevents
from shared.clock import Clock
from shared.log import get_logger
from shared.ports import Bus, PortError
from shared.telemetry import Telemetry
from shared.topics import HEALTH
from shared.vocabulary.config import Policy
from shared.vocabulary.health import HealthEvent, PassiveWindow, RouteLoad
from shared.vocabulary.terms import Outcome, Role

Item = TypeVar("Item")

log = get_logger(__name__)

PUBLISH_TIMEOUT_S: Final = 2.0
WINDOWS_PER_EVENT: Final = 1000
"""At most some 400 bytes each: well below `MAX_EVENT_BYTES`."""
LEAST_PART: Final = 5
"""Of `passive_s` that lies between two events at least, whatever happens."""
LOADS_PER_EVENT: Final = 1000
"""At most some 200 bytes each, beside the windows."""


class Report:
    """The telling loop of one edge, in its life number `boot`."""

    def __init__(
        self,
        *,
        edge: str,
        region: str,
        boot: int,
        passive_s: float,
        round_s: float,
        serving: Callable[[], Serving[Any] | None],
        carrier: Carrier[Any],
        clock: Clock,
        telemetry: Telemetry,
        metrics: Metrics,
    ) -> None:
        self._edge = edge
        self._region = region
        self._boot = boot
        self._passive_s = passive_s
        self._round_s = round_s
        self._serving = serving
        self._carrier = carrier
        self._clock = clock
        self._telemetry = telemetry
        self._metrics = metrics
        self._seq = 0
        self._told: set[str] = set()
        self._broken: dict[str, int] = {}
        """Of each target, in the last window told: more of them are news, and worth a span."""
        self._told_routes: set[str] = set()
        self._working = True
        self._unsound: set[str] = set()
        """What was not fit to be told when it was last read."""

    async def run(self, bus: Bus) -> None:
        """For ever."""
        round_at = self._clock.monotonic()
        while True:
            now = self._clock.monotonic()
            windows = self._sound("windows", self._windows)
            loads = self._sound("loads", self._loads)
            if windows or loads or now >= round_at:
                round_at = now + self._round_s
                await self._tell(bus, windows, loads)
            await self._pause(self._clock.monotonic() - now)

    async def _pause(self, spent_s: float) -> None:
        """Until it is time again; or until a target is ejected or cools, but no sooner than bounds the events."""
        least_s = self._passive_s / LEAST_PART
        await asyncio.sleep(least_s)
        if (serving := self._serving()) is not None:
            with suppress(TimeoutError):
                await asyncio.wait_for(serving.turned.wait(), max(self._passive_s - spent_s - least_s, 0.0))
            serving.turned.clear()
        else:
            await asyncio.sleep(max(self._passive_s - spent_s - least_s, 0.0))

    def _sound(self, what: str, read: Callable[[], list[Item]]) -> list[Item]:
        """What `read` gives; nothing where that is not fit to be told. Told without it, the edge still counts
        as alive, and the other half is heard."""
        try:
            items = read()
        except ValidationError:
            if what not in self._unsound:
                log.exception("not fit to be told, left out until it is", what=what)
            self._unsound.add(what)
            return []
        self._unsound.discard(what)
        return items

    def _windows(self) -> list[PassiveWindow]:
        """Those that say something, and an empty one for each target that fell silent."""
        serving = self._serving()
        if serving is None:
            return []
        window_s = self._window_s()
        speaking = [window for window in serving.passive(window_s) if _says_something(window)]
        silent = self._told - {window.target for window in speaking}
        return [
            *speaking,
            *(PassiveWindow(target=target, window_s=window_s, counts={}) for target in sorted(silent)),
        ]

    def _loads(self) -> list[RouteLoad]:
        """Those of routes with traffic, and an empty one for each route that fell silent."""
        serving = self._serving()
        if serving is None:
            return []
        window_s = self._window_s()
        speaking = list(serving.loads(window_s))
        silent = self._told_routes - {load.route for load in speaking}
        return [
            *speaking,
            *(RouteLoad(route=route, inflight=0, window_s=window_s) for route in sorted(silent)),
        ]

    def _window_s(self) -> float:
        config = self._carrier.follower.config
        return (Policy() if config is None else config.fleet.policy).passive_window_s

    async def _tell(self, bus: Bus, windows: Sequence[PassiveWindow], all_loads: Sequence[RouteLoad]) -> None:
        for batch, loads in zip_longest(
            _batches(windows, WINDOWS_PER_EVENT) or [()], _batches(all_loads, LOADS_PER_EVENT), fillvalue=()
        ):
            kind = "passive" if batch or loads else "heartbeat"
            try:
                await self._publish(bus, kind, batch, loads)
            except PortError as error:
                self._metrics.events.labels(kind, "failed").inc()
                if self._working:
                    log.warning("bus does not take events, will go on trying", error=str(error))
                self._working = False
                return
            self._metrics.events.labels(kind, "told").inc()
            self._working = True
            self._told -= {window.target for window in batch}
            self._told |= {window.target for window in batch if _says_something(window)}
            self._told_routes -= {load.route for load in loads}
            self._told_routes |= {load.route for load in loads if load.inflight or load.requests}

    async def _publish(
        self, bus: Bus, kind: Any, batch: Sequence[PassiveWindow], loads: Sequence[RouteLoad]
    ) -> None:
        self._seq += 1
        config = self._carrier.follower.config
        with self._telemetry.span(
            f"publish {HEALTH}",
            kind="producer",
            attributes={**_KAFKA, "leeward.edge": self._edge, "leeward.entries": len(batch)},
            record=self._worse(batch),
        ) as span:
            event = HealthEvent(
                kind=kind,
                source=self._edge,
                role=Role.EDGE,
                vantage=self._region,
                boot=self._boot,
                seq=self._seq,
                observed_at=self._clock.now(),
                config_version=0 if config is None else config.config_version,
                passive=tuple(batch),
                routes=tuple(loads),
                traceparent=span.traceparent,
            )
            await bus.publish(
                HEALTH,
                key=self._edge.encode(),
                value=event.model_dump_json().encode(),
                headers=cloudevents.headers(
                    kind=f"leeward.health.{kind}",
                    source=f"/{self._region}/{self._edge}",
                    event_id=f"{self._boot}.{self._seq}",
                    time=event.observed_at,
                    traceparent=span.traceparent,
                ),
                timeout_s=PUBLISH_TIMEOUT_S,
            )

    def _worse(self, batch: Sequence[PassiveWindow]) -> bool:
        """Whether any target of `batch` has more broken attempts than when it was last told."""
        broken = {window.target: _broken(window) for window in batch}
        worse = any(count > self._broken.get(target, 0) for target, count in broken.items())
        self._broken = {target: count for target, count in {**self._broken, **broken}.items() if count}
        return worse


def _broken(window: PassiveWindow) -> int:
    return sum(window.counts.get(outcome, 0) for outcome in _BROKEN)


_BROKEN: Final = (Outcome.REFUSED, Outcome.FAILED, Outcome.TIMED_OUT, Outcome.GARBLED)
_KAFKA: Final = {
    "messaging.system": "kafka",
    "messaging.operation.name": "publish",
    "messaging.operation.type": "send",
    "messaging.destination.name": HEALTH,
}


def _batches(items: Sequence[Item], most: int) -> list[Sequence[Item]]:
    return [items[at : at + most] for at in range(0, len(items), most)]


def _says_something(window: PassiveWindow) -> bool:
    return bool(
        sum(window.counts.values()) or window.inflight or window.cooling_s or window.admission != "ADMITTING"
    )
