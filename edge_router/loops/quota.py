"""Rings as long as an account's quota is used up: nobody but a person can pay."""

import asyncio
from collections.abc import Callable
from typing import Any, Final

from edge_router.loops.alarms import Alarms
from edge_router.ports import Serving

ALARM: Final = "QUOTA_EXHAUSTED"
LOOK_S: Final = 1.0
NAMED: Final = 20
"""Targets that one alarm names."""


class QuotaWatch:
    """The watching loop of one edge."""

    def __init__(self, *, serving: Callable[[], Serving[Any] | None], alarms: Alarms) -> None:
        self._serving = serving
        self._alarms = alarms
        self._exhausted: tuple[str, ...] = ()

    async def run(self) -> None:
        """For ever."""
        while True:
            self.look()
            await asyncio.sleep(LOOK_S)

    def look(self) -> None:
        """Once: ring when it is others than before, clear when it is none."""
        serving = self._serving()
        windows = () if serving is None else serving.passive(LOOK_S)
        exhausted = tuple(sorted(window.target for window in windows if window.quota_exhausted))
        if exhausted == self._exhausted:
            return
        self._exhausted = exhausted
        if exhausted:
            more = f" and {len(exhausted) - NAMED} more" if len(exhausted) > NAMED else ""
            self._alarms.ring(ALARM, f"no quota or no money left for {', '.join(exhausted[:NAMED])}{more}")
        else:
            self._alarms.clear(ALARM)
