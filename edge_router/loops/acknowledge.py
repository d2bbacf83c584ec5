"""Says what this edge serves and how: at each change and once a round, on the bus and to the replica
that is followed. The paths do not wait for each other; each tells the newest state when its turn comes.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

from edge_router.loops.carry import Carrier
from edge_router.metrics import Metrics
from edge_router.ports import ControlPlane
from shared import cloudevents
from shared.clock import Clock
from shared.ports import Bus, PortError
from shared.topics import ACKS
from shared.vocabulary.decision import Ack

PUBLISH_TIMEOUT_S: Final = 2.0
LEAST_PAUSE_S: Final = 0.02
"""Between two acks on one path: a burst of changes is told as its last."""


class Acknowledge:
    """The telling loops `run_bus` and `run_http` of one edge, in its life number `boot`."""

    def __init__(
        self,
        *,
        edge: str,
        region: str,
        boot: int,
        round_s: float,
        url: Callable[[], str | None],
        admin_url: Callable[[], str | None],
        carrier: Carrier[Any],
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._edge = edge
        self._region = region
        self._boot = boot
        self._round_s = round_s
        self._url = url
        self._admin_url = admin_url
        self._carrier = carrier
        self._clock = clock
        self._metrics = metrics
        self._number = 0
        self.settled: Callable[[], Awaitable[None]] = _at_once
        """Returns when what is in force is what every request is served by."""
        self._woken: list[asyncio.Event] = []

    def nudge(self) -> None:
        """Something changed."""
        for woken in self._woken:
            woken.set()

    def ack(self) -> Ack:
        """What is to be said at this moment."""
        follower = self._carrier.follower
        now = self._clock.monotonic()
        self._number += 1
        return Ack(
            edge=self._edge,
            region=self._region,
            boot=self._boot,
            ack=self._number,
            mode=self._carrier.mode,
            generation=follower.version.generation,
            seq=follower.version.seq,
            head_sha=None if follower.head is None else follower.head.sha,
            config_version=0 if follower.config is None else follower.config.config_version,
            beat_age_s=follower.beat_age_s(now),
            applied_at=self._carrier.applied_at,
            url=self._url(),
            admin_url=self._admin_url(),
            refused=sum(follower.refused.values()),
            seen_generation=follower.seen.generation,
            seen_seq=follower.seen.seq,
            beat_generation=follower.confirmed[0],
            beat_epoch=follower.confirmed[1],
            traceparent=self._carrier.traceparent,
        )

    async def run_bus(self, bus: Bus) -> None:
        """For ever; while the bus is away each attempt fails within its deadline and nothing piles up."""

        async def tell() -> bool:
            ack = self.ack()
            headers = cloudevents.headers(
                kind="leeward.ack",
                source=f"/{self._region}/{self._edge}",
                event_id=f"ack.{ack.boot}.{ack.ack}",
                time=self._clock.now(),
                traceparent=ack.traceparent,
            )
            await bus.publish(
                ACKS,
                key=self._edge.encode(),
                value=ack.canonical(),
                headers=headers,
                timeout_s=PUBLISH_TIMEOUT_S,
            )
            return True

        await self._run("bus", tell)

    async def run_http(self, control_plane: ControlPlane, followed: Callable[[], str | None]) -> None:
        """For ever; silent while no replica is followed."""

        async def tell() -> bool:
            replica = followed()
            if replica is None:
                return False
            ack = self.ack()
            headers = {} if ack.traceparent is None else {"traceparent": ack.traceparent}
            await control_plane.acknowledge(replica, ack.canonical(), headers)
            return True

        await self._run("http", tell)

    async def _run(self, path: str, tell: Callable[[], Awaitable[bool]]) -> None:
        woken = asyncio.Event()
        self._woken.append(woken)
        try:
            while True:
                woken.clear()
                try:
                    await self.settled()
                    if await tell():
                        self._metrics.acks.labels(path, "told").inc()
                except PortError:
                    self._metrics.acks.labels(path, "failed").inc()
                await asyncio.sleep(LEAST_PAUSE_S)
                try:
                    async with asyncio.timeout(self._round_s):
                        await woken.wait()
                except TimeoutError:
                    continue
        finally:
            self._woken.remove(woken)


async def _at_once() -> None: ...
