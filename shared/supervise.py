"""Task supervision: every long-lived loop of a process runs here, is restarted when it fails, and is waited for.

A loop that raises is a bug or a dead dependency; either way the process keeps its other loops, says
so once per failure, and tries again with backoff. Nothing runs unsupervised: ruff bans
`asyncio.create_task` elsewhere.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from types import TracebackType
from typing import Any, Self

from shared.backoff import Backoff
from shared.log import get_logger

log = get_logger(__name__)


class Supervisor:
    """An async context: `start` loops inside it; leaving it cancels and awaits them all.

    `failures` counts restarts by loop name, for metrics and tests.
    """

    def __init__(self) -> None:
        self._tasks: dict[asyncio.Task[Any], str] = {}
        self.failures: dict[str, int] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    def start(self, name: str, loop: Callable[[], Awaitable[None]]) -> None:
        """Run `loop` for ever; when it raises, log and run it again after a backoff of at most 2 s.

        A loop that returns has finished its work and is not run again.
        """
        self.spawn(name, self._forever(name, loop))

    def spawn(self, name: str, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run `work` once, owned by this supervisor; an exception is logged, not lost."""
        task = asyncio.create_task(work, name=name)  # noqa: TID251  (the one home of create_task)
        self._tasks[task] = name
        task.add_done_callback(self._reap)
        return task

    async def stop(self) -> None:
        """Cancel everything and wait until it has ended."""
        while self._tasks:
            tasks = list(self._tasks)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for task in tasks:
                self._tasks.pop(task, None)

    async def _forever(self, name: str, loop: Callable[[], Awaitable[None]]) -> None:
        backoff = Backoff()
        while True:
            try:
                await loop()
                return
            except Exception as error:
                self.failures[name] = self.failures.get(name, 0) + 1
                log.error("loop failed, will restart", loop=name, error=repr(error), exc_info=True)
                await asyncio.sleep(backoff.next())

    def _reap(self, task: asyncio.Task[Any]) -> None:
        name = self._tasks.pop(task, task.get_name())
        if not task.cancelled() and (error := task.exception()) is not None:
            self.failures[name] = self.failures.get(name, 0) + 1
            log.error("task failed", task=name, error=repr(error), exc_info=error)
