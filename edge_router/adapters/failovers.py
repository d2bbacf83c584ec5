"""One line in the log for each failover and each degraded request, and never so many that a storm fills a disk.

A bucket of `BURST` lines that refills with one a second: an outage shows its first moves in full and then a
sample, and the next line says how many were left out. Metrics count them all.
"""

from typing import Final

from shared.log import get_logger

log = get_logger(__name__)

BURST: Final = 20.0
PER_S: Final = 1.0
SAY_S: Final = 10.0
"""How long lines may be left out before that is said by itself."""


class FailoverLog:
    """Mutable; one per edge. `now` is monotonic seconds."""

    __slots__ = ("_at", "_left", "_said_at", "suppressed")

    def __init__(self, *, now: float) -> None:
        self._left = BURST
        self._at = self._said_at = now
        self.suppressed = 0
        """Not logged since the last line."""

    def moved(
        self,
        now: float,
        *,
        request_id: str,
        route: str,
        decision: str,
        attempt: int,
        failed: str,
        error: str,
        target: str,
        trace_id: str | None,
    ) -> None:
        """A request moves from the target `failed` to `target`, which is its attempt number `attempt`."""
        more = self._affords(now, trace_id)
        if more is None:
            return
        log.info(
            "failover",
            request_id=request_id,
            route=route,
            decision=decision,
            attempt=attempt,
            failed=failed,
            error=error,
            target=target,
            **more,
        )

    def degraded(
        self,
        now: float,
        *,
        request_id: str,
        route: str,
        decision: str,
        attempts: int,
        rung: str,
        why: str,
        failures: str,
        active: int,
        body_bytes: int,
        trace_id: str | None,
    ) -> None:
        """A request takes a step of its route's ladder, with `active` requests under way at this edge."""
        more = self._affords(now, trace_id)
        if more is None:
            return
        log.info(
            "degraded",
            request_id=request_id,
            route=route,
            decision=decision,
            attempts=attempts,
            rung=rung,
            why=why,
            failures=failures,
            active=active,
            body_bytes=body_bytes,
            **more,
        )

    def _affords(self, now: float, trace_id: str | None) -> dict[str, int | str] | None:
        """What a line says besides; None when there is to be none."""
        self._left = min(BURST, self._left + (now - self._at) * PER_S)
        self._at = now
        if self._left < 1.0:
            self.suppressed += 1
            return None
        self._left -= 1.0
        more: dict[str, int | str] = {"suppressed": self.suppressed} if self.suppressed else {}
        if trace_id is not None:
            more["trace_id"] = trace_id
        self._told(now)
        return more

    def turn(self, now: float) -> None:
        """Now and then: own up to what was left out, where no other line does."""
        if self.suppressed and now - self._said_at >= SAY_S:
            log.info("failovers not logged one by one", suppressed=self.suppressed)
            self._told(now)

    def _told(self, now: float) -> None:
        self.suppressed, self._said_at = 0, now
