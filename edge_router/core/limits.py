"""What one edge lets clients take: connections, bytes and time."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Of one edge. Whoever exceeds one is told so (408, 413, 431, 503) where that is still possible, and closed."""

    connections: int = 20_000
    reserved_bytes: int = 1024 * 1024 * 1024
    """Of all requests' bodies together."""
    ahead_bytes: int = 64 * 1024
    """What a client may send behind the request under way."""
    head_s: float = 10.0
    """From a connection's or a head's beginning to the head's end."""
    idle_s: float = 75.0
    """Between two requests."""
    body_s: float = 30.0
    body_bytes_per_s: float = 64 * 1024
    """A body may take `body_s`, and as long again as it needs at this rate."""
    write_stall_s: float = 60.0
    """A client that takes nothing of its answer for so long is given up."""
    linger_s: float = 2.0
    """After a refusal: for a client that is still sending to read why."""
