"""Says on every bus that this replica lives: a heartbeat such as probers and edges give.

So each replica can name the others that have fallen silent, stand-bys too, and since when. On every bus
and not on the region's own alone: it is silent only when no bus carries its word.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress

from shared.clock import Clock
from shared.cloudevents import headers
from shared.ports import Bus, PortError
from shared.topics import HEALTH
from shared.vocabulary.config import FleetConfig, Policy
from shared.vocabulary.health import HealthEvent
from shared.vocabulary.node import Node
from shared.vocabulary.terms import Role

PUBLISH_S = 2.0
WORDS_IN_TIME = 2.5
"""A heartbeat comes so often within `source_timeout_s` that one may be lost."""


class Announcer:
    """One `run` for each bus; they share the sequence of this life, number `boot`."""

    def __init__(
        self, node: Node, *, boot: int, config: Callable[[], FleetConfig | None], clock: Clock
    ) -> None:
        self._node = node
        self._boot = boot
        self._config = config
        self._clock = clock
        self._seq = 0

    async def run(self, bus: Bus) -> None:
        """For ever; a bus that does not take it is not waited for, the next word says as much."""
        while True:
            config = self._config()
            with suppress(PortError):
                await self._say(bus, config.config_version if config is not None else 0)
            policy = config.fleet.policy if config is not None else Policy()
            await asyncio.sleep(min(self._node.timings.beat_s, policy.source_timeout_s / WORDS_IN_TIME))

    async def _say(self, bus: Bus, config_version: int) -> None:
        self._seq += 1
        event = HealthEvent(
            kind="heartbeat",
            source=self._node.id,
            role=Role.CONTROL_PLANE,
            vantage=self._node.region,
            boot=self._boot,
            seq=self._seq,
            observed_at=self._clock.now(),
            config_version=config_version,
        )
        await bus.publish(
            HEALTH,
            key=self._node.id.encode(),
            value=event.model_dump_json().encode(),
            headers=headers(
                kind="leeward.health.heartbeat",
                source=f"/{self._node.region}/{self._node.id}",
                event_id=f"{self._boot}.{self._seq}",
                time=event.observed_at,
                traceparent=None,
            ),
            timeout_s=PUBLISH_S,
        )
