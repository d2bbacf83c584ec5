"""Alarms: what somebody should look at, shown in `/status`, counted, and logged without flooding."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from edge_router.metrics import Metrics
from shared.clock import Clock
from shared.log import get_logger

log = get_logger(__name__)

LOG_EVERY_S = 30.0
"""The same code is logged at most this often; all are counted."""


@dataclass(slots=True)
class _Standing:
    detail: str
    since: datetime
    times: int
    logged_at: float


class Alarms:
    """The alarms that stand. Codes are few and fixed, so this is bounded."""

    def __init__(self, *, clock: Clock, metrics: Metrics) -> None:
        self._clock = clock
        self._metrics = metrics
        self._standing: dict[str, _Standing] = {}

    def ring(self, code: str, detail: str) -> None:
        """`code` stands from now on, until it is cleared."""
        self._metrics.alarms.labels(code).inc()
        now = self._clock.monotonic()
        standing = self._standing.get(code)
        if standing is None:
            standing = _Standing(detail, self._clock.now(), 0, now - LOG_EVERY_S)
            self._standing[code] = standing
        standing.detail = detail
        standing.times += 1
        if now - standing.logged_at >= LOG_EVERY_S:
            standing.logged_at = now
            log.warning("alarm", code=code, detail=detail, times=standing.times)

    def clear(self, *codes: str) -> None:
        """These are over; no error for one that does not stand."""
        for code in codes:
            if self._standing.pop(code, None) is not None:
                log.info("alarm over", code=code)

    def shown(self) -> list[dict[str, Any]]:
        """For `/status`."""
        return [
            {
                "code": code,
                "detail": standing.detail,
                "since": standing.since.isoformat(),
                "times": standing.times,
            }
            for code, standing in self._standing.items()
        ]
