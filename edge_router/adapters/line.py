"""One end of the line between the parent of an edge and a worker: messages over a socket pair.

Neither side waits for the other: what is written and not read is bounded, and whoever does not read is no longer
there as far as the other is concerned.
"""

import asyncio
import socket
from collections.abc import Callable
from typing import Any, Final, Self, cast

import msgspec

from edge_router.core.frames import BadFrame, Frames, FromParent, FromWorker, framed
from shared.log import get_logger

log = get_logger(__name__)

UNREAD_BYTES: Final = 128 * 1024 * 1024
"""A table in full, twice."""


class Line(asyncio.Protocol):
    """`take` gets each message; `lost` is called once, when the other side is gone or makes no sense."""

    def __init__(
        self, decoder: msgspec.msgpack.Decoder[Any], take: Callable[[Any], None], lost: Callable[[], None]
    ) -> None:
        self._decoder = decoder
        self._take = take
        self._lost = lost
        self._frames = Frames()
        self._transport: asyncio.Transport | None = None

    @classmethod
    async def over(
        cls,
        end: socket.socket,
        decoder: msgspec.msgpack.Decoder[Any],
        take: Callable[[Any], None],
        lost: Callable[[], None],
    ) -> Self:
        """The line over `end`, which it owns from now on."""
        end.setblocking(False)
        loop = asyncio.get_running_loop()
        _, line = await loop.create_unix_connection(lambda: cls(decoder, take, lost), sock=end)
        return line

    def tell(self, message: FromParent | FromWorker) -> bool:
        """Send it; False where the other side is gone or reads nothing."""
        transport = self._transport
        if transport is None or transport.is_closing() or self.unread_bytes > UNREAD_BYTES:
            return False
        transport.write(framed(message))
        return True

    @property
    def unread_bytes(self) -> int:
        """Written, and not yet taken by the other side's kernel."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def close(self) -> None:
        """Hang up, once what was written has gone out; `lost` is called."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but name

    def data_received(self, data: bytes) -> None:
        try:
            for content in self._frames.feed(data):
                self._take(self._decoder.decode(content))
        except (BadFrame, msgspec.DecodeError) as error:
            log.exception("bad frame on the line between parent and worker", error=str(error))
            assert self._transport is not None
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost()
