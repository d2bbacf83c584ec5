"""The network of the in-memory doubles: one link for each client, which takes time and can be cut."""

import asyncio
import random
from contextlib import suppress
from dataclasses import dataclass

from shared.ports import Unavailable

SILENCE_S = 10.0
"""A subscription that hears nothing for longer ends, as those of the real adapters do."""


def now() -> float:
    """The loop's time, real or virtual."""
    return asyncio.get_running_loop().time()


@dataclass(slots=True)
class Link:
    """One client's connection to one server. While `cut`, nothing crosses, in either direction, and
    neither side is told."""

    rng: random.Random
    latency_s: tuple[float, float] = (0.0002, 0.001)
    cut: bool = False

    async def cross(self, until: float) -> None:
        """One way. Raises Unavailable at `until` (loop time) when it could not be crossed."""
        await asyncio.sleep(self.rng.uniform(*self.latency_s))
        if self.cut:
            await asyncio.sleep(max(0.0, until - now()))
            raise Unavailable("no answer: the link is cut")


async def signalled(event: asyncio.Event, within_s: float) -> None:
    """Wait for `event`, but no longer than `within_s`."""
    with suppress(TimeoutError):
        async with asyncio.timeout(within_s):
            await event.wait()
