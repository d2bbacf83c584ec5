"""What the kernel is told about a client's socket: it holds megabytes for each, which a process never sees."""

import asyncio
import socket
import struct
from typing import Final

_USER_TIMEOUT: Final[int | None] = getattr(socket, "TCP_USER_TIMEOUT", None)
_NO_LINGER: Final = struct.pack("ii", 1, 0)


def bound_stall(transport: asyncio.BaseTransport, stall_s: float) -> None:
    """Give up a client that acknowledges nothing, or whose window stays shut, for `stall_s` while something is on its
    way to it: an answer that fits into the kernel's buffers would wait there for as long as the client likes
    (tcp(7), TCP_USER_TIMEOUT; Linux alone)."""
    sock = transport.get_extra_info("socket")
    if sock is not None and _USER_TIMEOUT is not None:
        sock.setsockopt(socket.IPPROTO_TCP, _USER_TIMEOUT, max(1, int(stall_s * 1000)))


def forget_unsent(transport: asyncio.BaseTransport) -> None:
    """Let closing reset the connection, and drop what the kernel still holds (socket(7), SO_LINGER)."""
    sock = transport.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
