"""The headers of every message on a bus: CloudEvents 1.0 in Kafka's binary mode, and W3C Trace Context.

The body stays the bare message; what any CloudEvents reader needs stands beside it (CloudEvents Kafka
Protocol Binding 1.0.2, section 3.2).
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final


def headers(
    *, kind: str, source: str, event_id: str, time: datetime, traceparent: str | None = None
) -> dict[str, bytes]:
    """Message headers.

    `kind` becomes `ce_type`, in reverse-dotted form (`leeward.health.probe`); `source` becomes
    `ce_source`, a URI reference (`/us-east/prober-us-east`); `source` and `event_id` together are unique.
    """
    told = {
        "ce_specversion": b"1.0",
        "ce_type": kind.encode(),
        "ce_source": source.encode(),
        "ce_id": event_id.encode(),
        "ce_time": time.astimezone(UTC).isoformat().replace("+00:00", "Z").encode(),
        "content-type": b"application/json",
    }
    if traceparent is not None:
        told["traceparent"] = traceparent.encode()
    return told


def context_of(told: Iterable[tuple[str, bytes]]) -> str | None:
    """The traceparent among a message's headers; None where there is none that could be one."""
    for name, value in told:
        if name == "traceparent" and len(value) == _TRACEPARENT_BYTES:
            return value.decode("ascii", "replace")
    return None


_TRACEPARENT_BYTES: Final = 55
"""W3C Trace Context, section 3.2, version 00."""
