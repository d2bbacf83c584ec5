"""From a fault at a place to its injector."""

import zlib
from typing import Any

import httpx2

from ops.client import ControlPlanes
from ops.drill.injectors.drain import Drain
from ops.drill.injectors.order import Kept, Order
from ops.drill.ports import Injector, Place
from ops.local.stack import Stack
from shared.vocabulary.drill import DrillFault

TOKENS_BEFORE = 2
"""Of a stalled or cut stream, when the fault does not say."""


class HttpInjectors:
    """All four, over one HTTP client. `stack` is the local one whose keeper is asked, where there is one."""

    def __init__(
        self, client: httpx2.AsyncClient, planes: ControlPlanes, *, stack: Stack | None = None
    ) -> None:
        self._client = client
        self._planes = planes
        self._stack = stack

    def at(self, fault: DrillFault, place: Place, *, author: str, reason: str) -> Injector:
        """As `Injectors.at`."""
        match fault.by:
            case "stack":
                return Kept(self._client, place, _to_keeper(fault, place), stack=self._stack)
            case "panel":
                return Order(self._client, place, _to_panel(fault, place))
            case "edge":
                return Order(self._client, place, _to_edge(fault, place))
            case "override":
                return Drain(self._planes, place, author=author, reason=reason)


def _to_keeper(fault: DrillFault, place: Place) -> dict[str, Any]:
    return _said(fault=fault.fault, processes=list(place.processes), skew_s=fault.skew_s)


def _to_edge(fault: DrillFault, place: Place) -> dict[str, Any]:
    return _said(
        fault=fault.fault,
        targets=list(place.targets),
        share_permille=fault.share_permille,
        ms=fault.ms,
        status=fault.status,
        retry_after_s=fault.retry_after_s,
        after_events=fault.after_events,
    )


def _to_panel(fault: DrillFault, place: Place) -> dict[str, Any]:
    """In the words of `ops.simulator.faults.Faults`."""
    tokens = TOKENS_BEFORE if fault.after_events is None else fault.after_events
    said: dict[str, dict[str, Any]] = {
        "latency": {"latency_ms": fault.ms},
        "slow_ttft": {"ttft_ms": fault.ms},
        "errors": {"status": {"code": fault.status or 503}},
        "throttle": {"throttle": {"retry_after": 1 if fault.retry_after_s is None else fault.retry_after_s}},
        # A closed listener is closed to all; for a part of them the connection is reset as it is made.
        "refuse": {"refuse": True} if fault.share_permille == 1000 else {"reset": "accept"},
        "stall": {"stall_after_tokens": tokens},
        "cut": {"cut_after_tokens": tokens},
        # To whom it is cut off, a server takes the request and says nothing.
        "partition": {"hang": True, "only": {"agents": [f"leeward-prober/{place.observer}"]}},
    }
    # Faults of one seed would fall on the same requests, on every target.
    seed = zlib.crc32(place.id.encode())
    return {**said[fault.fault], "share": fault.share_permille / 1000, "seed": seed}


def _said(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}
