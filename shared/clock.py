"""The one home of time. Everything else is handed a `Clock`, so that tests and the simulation run on virtual time.

Two times, never mixed: `now()` is what people and other machines read and may step at any moment;
`monotonic()` is for every deadline and age. Pauses are `asyncio.sleep`, which follows the loop's
own clock and so the simulation's.
"""

import os
import time
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

SKEW_VARIABLE: Final = "LEEWARD_CLOCK_SKEW_S"
"""Seconds by which this process's wall clock is to be off: a drill's fault, put by the local stack's keeper."""
STACK_VARIABLE: Final = "LEEWARD_LOCAL_STACK"
"""Set for the processes of a local stack; elsewhere a skew is not honoured."""
MAX_SKEW_S: Final = 31_536_000.0


class Clock(Protocol):
    """Where a component reads the time."""

    def now(self) -> datetime:
        """UTC, aware. Only for display, for messages, and for what operators wrote as UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds from an arbitrary start; never steps. For deadlines and ages."""
        ...


def skew_asked_for() -> float:
    """What the environment says the wall clock is to be off by, in seconds; 0 outside a local stack.

    Raises ValueError for what is no such number.
    """
    text = os.environ.get(SKEW_VARIABLE)
    if not text or STACK_VARIABLE not in os.environ:
        return 0.0
    try:
        skew_s = float(text)
    except ValueError:
        skew_s = float("nan")
    if not abs(skew_s) <= MAX_SKEW_S:
        raise ValueError(f"{SKEW_VARIABLE} takes seconds, at most a year either way, not {text!r}")
    return skew_s


class SystemClock:
    """The machine's clocks. The wall clock of a local stack's process may be off on purpose, from its
    start to its end; `monotonic` never is."""

    def __init__(self) -> None:
        skew_s = skew_asked_for()
        self._skew = timedelta(seconds=skew_s) if skew_s else None

    def now(self) -> datetime:
        now = datetime.now(UTC)
        return now if self._skew is None else now + self._skew

    monotonic = staticmethod(time.monotonic)
    """As it is: asked several times a request."""
