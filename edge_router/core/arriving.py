"""A request's body as it arrives in pieces: up to its announced length, or to its last chunk."""

from edge_router.core.chunked import Chunked


class TooLarge(Exception):
    """The body is over the limit."""


class Arriving:
    """One body. `length` as announced, None for chunked coding; `most` bytes of content are taken."""

    __slots__ = ("_chunked", "_left", "_most", "_pieces", "done", "got", "rest")

    def __init__(self, length: int | None, most: int) -> None:
        self._chunked = Chunked() if length is None else None
        self._left = length or 0
        self._most = most
        self._pieces: list[bytes] = []
        self.got = 0
        """Bytes so far, framing included."""
        self.rest = b""
        """What followed an announced body: the beginning of the next request."""
        self.done = False

    @property
    def spilled(self) -> bool:
        """Whether something followed the last chunk: where one ends cannot be told for sure."""
        return self._chunked is not None and self._chunked.spilled

    def feed(self, data: bytes) -> int:
        """More of it; how many bytes of content it brought. Raises Malformed, TooLarge."""
        self.got += len(data)
        chunked = self._chunked
        if chunked is not None:
            content = chunked.feed(data)
            self._left += len(content)
            if self._left > self._most:
                raise TooLarge
            self._pieces.append(content)
            self.done = chunked.done
            return len(content)
        if len(data) < self._left:
            self._left -= len(data)
            self._pieces.append(data)
            return len(data)
        self._pieces.append(data[: self._left])
        self.rest = data[self._left :]
        self.done = True
        return self._left

    def take(self) -> bytes:
        """All of it, once it is done."""
        body = b"".join(self._pieces)
        self._pieces.clear()
        return body
