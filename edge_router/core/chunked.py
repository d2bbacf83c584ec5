"""Chunked coding (RFC 9112, section 7.1), the same in both directions.

llhttp (httptools) reads it, and is strict about sizes, line ends and trailers. Setting a parser up and being called
back by it costs 2 us and more, and what servers write is nearly always the plainest there is: whole chunks, a short
size without extensions. Those are read here, by a grammar that is a strict part of llhttp's; anything else, and the
last chunk always, is llhttp's, from the boundary on where it begins. Between two chunks a parser knows nothing that
one set up later would not, so that both read on where the other has stopped.
"""

import re
from typing import Final

import httptools

from edge_router.core.wire import Malformed


class Chunked:
    """A body, decoded as it comes. Not reusable.

    Trailers are dropped. `done` once the last chunk has been read; `spilled` when bytes came after it, whose meaning
    cannot be known: the connection must not be used again. `between` when all that has come are whole chunks, and the
    last one is still to come.
    """

    __slots__ = ("_begun", "_overhead", "_parser", "_pieces", "between", "done", "spilled")

    def __init__(self) -> None:
        self.done = False
        self.spilled = False
        self.between = True
        self._begun = 0
        self._overhead = _FREE_OVERHEAD
        self._pieces: list[bytes] = []
        self._parser: httptools.HttpResponseParser | None = None

    def feed(self, data: bytes) -> bytes:
        """The content in `data`. Raises Malformed."""
        if self.between:
            content, rest = _whole_chunks(data)
            if rest:
                content = b"".join((content, self._read(rest)))
        else:
            content = self._read(data)
        # Extensions, trailers and one-byte chunks cost without bringing anything: bounded.
        self._overhead += 8 * len(content) - len(data)
        if self._overhead < 0:
            raise Malformed("chunked coding: more framing than content")
        return content

    def _read(self, data: bytes) -> bytes:
        parser = self._parser
        if parser is None:
            parser = self._parser = httptools.HttpResponseParser(self)
            parser.feed_data(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        self.between = False
        try:
            parser.feed_data(data)
        except httptools.HttpParserError as error:
            if not self.done:
                raise Malformed(f"chunked coding: {error}") from None
            self.spilled = True
        # A size line calls back at its end, so that behind a chunk's own end nothing may have begun but a size
        # without one, and that does not end a line.
        self.between = self.between and not self.done and data.endswith(b"\n")
        pieces = self._pieces
        content = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        return content

    # called by the parser

    def on_message_begin(self) -> None:
        self._begun += 1
        if self._begun > 1:
            self.spilled = True

    def on_chunk_header(self) -> None:
        self.between = False

    def on_chunk_complete(self) -> None:
        self.between = True

    def on_body(self, piece: bytes) -> None:
        if not self.done:
            self._pieces.append(piece)

    def on_message_complete(self) -> None:
        self.done = True


_FREE_OVERHEAD: Final = 64 * 1024
_SIZE: Final = re.compile(rb"([0-9a-fA-F]{1,6})\r\n")


def _whole_chunks(data: bytes) -> tuple[bytes, bytes]:
    """The content of the whole chunks that `data` begins with, and what is left: a part of one, the last one, or
    anything out of the ordinary."""
    pieces = []
    at, length = 0, len(data)
    while at < length:
        line = _SIZE.match(data, at)
        if line is None:
            break
        size, begin = int(line[1], 16), line.end()
        end = begin + size
        # Read past the end, this is short, and so no line end.
        if not size or data[end : end + 2] != b"\r\n":
            break
        pieces.append(data[begin:end])
        at = end + 2
    if at == length:
        return (pieces[0] if len(pieces) == 1 else b"".join(pieces)), b""
    return b"".join(pieces), data[at:]
