"""The one way loops wake each other: a counter that can be waited on; and two ways not to leak tasks.

Level-based on purpose: a waiter learns that something changed and reads the newest state itself, so
nothing is queued, nothing can overflow, and a burst of changes costs one wake-up.
"""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

Item = TypeVar("Item")


class Pulse:
    """Any number may wait; each remembers the count it has acted on, so no beat is lost between."""

    def __init__(self) -> None:
        self.count = 0
        self._event = asyncio.Event()

    def fire(self) -> None:
        """Wake everyone who waits."""
        self.count += 1
        event, self._event = self._event, asyncio.Event()
        event.set()

    async def wait(self, seen: int, timeout_s: float) -> int:
        """The count once it differs from `seen`, or `seen` itself after `timeout_s`."""
        if self.count == seen and timeout_s > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await self._event.wait()
        return self.count


@asynccontextmanager
async def closing(stream: AsyncIterator[Item]) -> AsyncIterator[AsyncIterator[Item]]:
    """`stream`, closed on leaving: a watch or consumer must not outlive the loop that reads it."""
    try:
        yield stream
    finally:
        close = getattr(stream, "aclose", None)
        if close is not None:
            await close()


async def together(work: Iterable[Coroutine[Any, Any, Item]]) -> list[Item]:
    """All results in order; when one raises, the others are cancelled and awaited, and it is raised
    (`asyncio.gather` would leave them running)."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one) for one in work]
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]
