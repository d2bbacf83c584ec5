"""Telling the control plane how a drill goes, and hearing from it that it is to end.

Before a fault is put anywhere the word must have arrived; afterwards it may be late: the control plane
can be what the drill takes away.
"""

import asyncio
from collections.abc import Callable

from ops.client import Refused
from ops.drill.ports import Register
from ops.errors import OpsError, Unreachable
from shared.clock import Clock
from shared.vocabulary.drill import Drill, DrillEnd, Progress, RunnerWord
from shared.vocabulary.status import DrillReport

TELL_S = 1.0
FINISH_TIMEOUT_S = 30.0
GONE = (404, 409)
"""Its record, or the claim to it."""


class Recorder:
    """One drill's line to its record. `stop` is called, once or more, with why it is to end."""

    def __init__(
        self,
        register: Register,
        drill: Drill,
        runner: str,
        *,
        clock: Clock,
        progress: Callable[[], Progress],
        stop: Callable[[str], None],
    ) -> None:
        self._register = register
        self._drill = drill
        self._runner = runner
        self._clock = clock
        self._progress = progress
        self._stop = stop

    async def tell(self) -> None:
        """Put the present state on record. Raises OpsError when that may not have been done."""
        word = RunnerWord(runner=self._runner, progress=self._progress())
        self._heed(await self._register.progress(self._drill.id, word))

    async def keep(self) -> None:
        """Tell it once a second, for ever; an answer that does not come is no reason to end."""
        while True:
            try:
                await self.tell()
            except Refused as refused:
                if refused.status in GONE:
                    self._stop(f"its record: {refused}")
            except OpsError:
                pass
            await asyncio.sleep(TELL_S)

    async def finish(self, report: DrillReport, html: str | None) -> str | None:
        """Put the report on record, waiting for a control plane if there is none now; why not, in
        words, when it could not be done."""
        end = DrillEnd(runner=self._runner, progress=self._progress(), report=report, html=html)
        deadline = self._clock.monotonic() + FINISH_TIMEOUT_S
        while True:
            try:
                await self._register.finish(self._drill.id, end)
            except Unreachable as error:
                if self._clock.monotonic() < deadline:
                    await asyncio.sleep(TELL_S)
                    continue
                return str(error)
            except OpsError as error:
                return str(error)
            return None

    def _heed(self, drill: Drill) -> None:
        if drill.stop is not None:
            self._stop(f"aborted by {drill.stop.by}: {drill.stop.reason}")
        elif drill.over:
            self._stop(f"its record says {drill.state}: {drill.note}")
