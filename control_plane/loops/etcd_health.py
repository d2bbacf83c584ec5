"""Asks etcd how it is, and says aloud when it raises an alarm: out of space, it takes no more decisions."""

import asyncio

from control_plane.metrics import Metrics
from shared.log import get_logger
from shared.ports import Coordination

log = get_logger(__name__)

LOOK_S = 10.0


class EtcdHealth:
    """`run` is its loop."""

    def __init__(self, store: Coordination, *, metrics: Metrics) -> None:
        self._store = store
        self._metrics = metrics
        self.reachable = True
        """At the last look; believed until the first."""
        self.alarms: tuple[str, ...] = ()

    async def run(self) -> None:
        """For ever."""
        while True:
            health = await self._store.health()
            self.reachable = health.reachable
            self._metrics.etcd_reachable.set(health.reachable)
            if health.reachable and health.alarms != self.alarms:
                self.alarms = health.alarms
                log.error(
                    "etcd raised an alarm" if self.alarms else "etcd has no alarm any more",
                    alarms=self.alarms,
                )
            self._metrics.etcd_alarms.set(len(self.alarms))
            await asyncio.sleep(LOOK_S)
