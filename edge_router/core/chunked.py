"""Chunked coding (RFC 9112, section 7.1), the same in both directions."""

from typing import Final

import httptools

from edge_router.core.wire import Malformed


class Chunked:
    """A body, decoded as it comes. Not reusable.

    llhttp (httptools) is strict about sizes, line ends and trailers; trailers are dropped.
    `done` once the last chunk has been read; `spilled` when bytes came after it, whose meaning cannot be
    known: the connection must not be used again.
    """

    __slots__ = ("_begun", "_decoded", "_overhead", "_parser", "_pieces", "done", "spilled")

    def __init__(self) -> None:
        self.done = False
        self.spilled = False
        self._begun = 0
        self._decoded = 0
        self._overhead = _FREE_OVERHEAD
        self._pieces: list[bytes] = []
        self._parser = httptools.HttpResponseParser(self)
        self._parser.feed_data(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")

    def feed(self, data: bytes) -> bytes:
        """The content in `data`. Raises Malformed."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            if not self.done:
                raise Malformed(f"chunked coding: {error}") from None
            self.spilled = True
        pieces = self._pieces
        content = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        # Extensions, trailers and one-byte chunks cost without bringing anything: bounded.
        self._overhead += 8 * len(content) - len(data)
        if self._overhead < 0:
            raise Malformed("chunked coding: more framing than content")
        return content

    # called by the parser

    def on_message_begin(self) -> None:
        self._begun += 1
        if self._begun > 1:
            self.spilled = True

    def on_body(self, piece: bytes) -> None:
        if not self.done:
            self._pieces.append(piece)

    def on_message_complete(self) -> None:
        self.done = True


_FREE_OVERHEAD: Final = 64 * 1024
