"""What one edge lets clients take: connections, bytes and time.

One connection holds at most a head (`head_bytes`), a body (of `reserved_bytes`, which all share), what was sent ahead
(`ahead_bytes` and one read of 256 KiB) and what waits to be written (64 KiB and one read from a target).
"""

from dataclasses import dataclass

from edge_router.core.wire import MAX_FIELDS, MAX_HEAD_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Of one edge. Whoever exceeds one is told so (408, 413, 431, 503) where that is still possible, and closed."""

    connections: int = 20_000
    head_bytes: int = MAX_HEAD_BYTES
    fields: int = MAX_FIELDS
    """Header fields of a request."""
    body_bytes: int = 32 * 1024 * 1024
    """Of one request."""
    reserved_bytes: int = 1024 * 1024 * 1024
    """Of all requests' bodies together, as far as they have come."""
    ahead_bytes: int = 64 * 1024
    """What a client may send behind the request under way; over: cut off, for only who is read is seen to go."""
    head_s: float = 10.0
    """From a connection's or a head's beginning to the head's end."""
    idle_s: float = 75.0
    """Between two requests."""
    body_s: float = 30.0
    body_bytes_per_s: float = 64 * 1024
    """A body may take `body_s`, and as long again as it needs at this rate."""
    write_stall_s: float = 60.0
    write_bytes_per_s: float = 1024
    """A client that has answers waiting and over `write_stall_s` takes less than this of them is given up: be it
    silent or dripping. One that takes large answers slowly is not."""
    linger_s: float = 2.0
    """After a refusal: for a client that is still sending to read why."""
