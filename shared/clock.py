"""The one home of time. Everything else is handed a `Clock`, so that tests and the simulation run on virtual time.

Two times, never mixed: `now()` is what people and other machines read and may step at any moment;
`monotonic()` is for every deadline and age. Pauses are `asyncio.sleep`, which follows the loop's
own clock and so the simulation's.
"""

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Where a component reads the time."""

    def now(self) -> datetime:
        """UTC, aware. Only for display, for messages, and for what operators wrote as UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds from an arbitrary start; never steps. For deadlines and ages."""
        ...


class SystemClock:
    """The machine's clocks."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()
