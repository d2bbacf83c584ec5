"""The decisions made while a drill ran, as the control plane's own log tells them."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from ops.client import ControlPlanes
from ops.drill.record import MAX_DECISIONS, MAX_SAID, DecisionSeen
from ops.errors import OpsError


async def decisions_since(
    planes: ControlPlanes, since: datetime, *, seconds: Callable[[datetime], float]
) -> tuple[DecisionSeen, ...]:
    """Oldest first; none where no control plane answers. `seconds` tells a time as the drill counts it."""
    try:
        answer = await planes.get(f"/v1/decisions?limit={MAX_DECISIONS}")
    except OpsError:
        return ()
    found = [_seen(raw, seconds) for raw in answer["decisions"] if _at(raw) >= since - timedelta(seconds=1)]
    return tuple(reversed(found))


def _seen(raw: Any, seconds: Callable[[datetime], float]) -> DecisionSeen:
    traceparent = raw.get("traceparent")
    return DecisionSeen(
        version=raw["version"],
        at_s=round(seconds(_at(raw)), 3),
        by=raw["term"]["holder"],
        routes=tuple(route for route, _ in raw["routes"]),
        said=tuple(raw["said"][:MAX_SAID]),
        trace_id=traceparent.split("-")[1] if traceparent else None,
        traceparent=traceparent,
    )


def _at(raw: Any) -> datetime:
    return datetime.fromisoformat(raw["at"])
