"""Writes the last-known-good file: the newest state, one write at a time, never in the way of serving.

What waits is one state, not a queue: when a disk is slow, the states in between are not worth keeping.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from edge_router.loops.alarms import Alarms
from edge_router.metrics import Metrics
from edge_router.ports import Kept, LastKnownGood, StoreError
from shared.log import get_logger

log = get_logger(__name__)

RETRY_S: Final = 5.0
ALARM: Final = "LKG_UNWRITABLE"


class Keep:
    """The writing loop. `last` is what the store holds already; `on_settled` is called after every
    attempt, when what was put may be acknowledged."""

    def __init__(
        self, *, store: LastKnownGood, alarms: Alarms, metrics: Metrics, on_settled: Callable[[], None]
    ) -> None:
        self._store = store
        self._alarms = alarms
        self._metrics = metrics
        self._on_settled = on_settled
        self._woken = asyncio.Event()
        self._next: Kept | None = None
        self._last: Kept | None = None

    @property
    def pending(self) -> bool:
        """Whether something was put that no attempt has been made for."""
        return self._next is not None

    def holds(self, kept: Kept) -> None:
        """The store holds `kept` already: it is where this edge started from."""
        self._last = kept

    def put(self, kept: Kept) -> None:
        """Write this, instead of anything that still waits."""
        if kept != self._last:
            self._next = kept
            self._woken.set()

    async def run(self) -> None:
        """For ever."""
        while True:
            await self._woken.wait()
            self._woken.clear()
            kept, self._next = self._next, None
            if kept is None:
                continue
            failed = not await self._keep(kept)
            self._on_settled()
            if failed:
                await self._pause()
                if self._next is None:
                    self._next = kept
                self._woken.set()

    async def _keep(self, kept: Kept) -> bool:
        try:
            await self._store.keep(kept)
        except StoreError as error:
            self._metrics.kept.labels("failed").inc()
            self._alarms.ring(ALARM, str(error))
            return False
        self._metrics.kept.labels("written").inc()
        self._alarms.clear(ALARM)
        self._last = kept
        log.debug("kept", version=str(kept.version))
        return True

    async def _pause(self) -> None:
        """Until it is time to try again, or something newer is to be written, but never a busy loop."""
        await asyncio.sleep(RETRY_S / 10)
        try:
            async with asyncio.timeout(RETRY_S):
                await self._woken.wait()
        except TimeoutError:
            return
