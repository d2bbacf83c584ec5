"""`GET /v1/stream` and `POST /v1/acks` of a control-plane replica, over aiohttp.

Every wait has a deadline: a replica that says nothing for 15 s, not even a ping, is dead, however
open its connection looks. An event is bounded in size, and so is what is read ahead of the reader.
"""

import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import Final, Literal, get_args

import aiohttp

from edge_router.ports import StreamEvent
from shared.log import get_logger
from shared.ports import Refused, Unavailable
from shared.secrets import SecretError, resolve

log = get_logger(__name__)

SILENCE_S = 15.0
"""Three of the server's pings."""
CONNECT_S = 2.0
ACK_S = 2.0
MAX_EVENT_BYTES = 9 * 2**20
"""A configuration of the largest size that is taken, and its framing."""
READ_AHEAD_BYTES = 256 * 2**10

Kind = Literal["hello", "config", "decision", "head", "beat"]
KINDS: Final[Mapping[bytes, Kind]] = {kind.encode(): kind for kind in get_args(Kind)}


class Presented:
    """The token of `node.control_plane_token`, for the replicas that the node file names alone.

    Read when made, which raises SecretError, and again when a replica does not know it: it may have been
    exchanged.
    """

    def __init__(self, ref: str, *, urls: Collection[str]) -> None:
        self._ref = ref
        self._urls = frozenset(urls)
        self._token = resolve(ref)

    def header(self, url: str) -> dict[str, str]:
        """What a request to `url` carries."""
        return {"authorization": f"Bearer {self._token}"} if url in self._urls else {}

    def unknown(self, url: str) -> None:
        """The replica at `url` answered 401."""
        try:
            self._token = resolve(self._ref)
        except SecretError as error:
            log.warning("the token cannot be read again", problem=str(error))
        log.warning("the control plane does not know our token", url=url, ref=self._ref)


class HttpControlPlane:
    """`ControlPlane` over HTTP. Must be made inside a running loop."""

    def __init__(
        self,
        *,
        silence_s: float = SILENCE_S,
        token: Presented | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._silence_s = silence_s
        self._token = token
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=8, ssl=tls if tls is not None else True),
            auto_decompress=False,  # nothing that unpacks to more than it weighs
            read_bufsize=READ_AHEAD_BYTES,
            headers={"accept-encoding": "identity", "user-agent": "leeward-edge"},
        )

    @asynccontextmanager
    async def stream(self, url: str) -> AsyncIterator[AsyncIterator[StreamEvent]]:
        """Raises Unavailable, also while iterating."""
        timeout = aiohttp.ClientTimeout(total=None, connect=CONNECT_S, sock_read=self._silence_s)
        try:
            async with self._session.get(
                f"{url}/v1/stream",
                headers={
                    "accept": "text/event-stream",
                    "cache-control": "no-store",
                    **self._presenting(url),
                },
                timeout=timeout,
                allow_redirects=False,
            ) as response:
                self._heard(url, response.status)
                if response.status != 200 or response.content_type != "text/event-stream":
                    raise Unavailable(f"{url} answers {response.status} {response.content_type}")
                async with aclosing(self._events(response.content)) as events:
                    yield events
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unavailable(f"{url}: {type(error).__name__}: {error}") from None

    async def _events(self, content: aiohttp.StreamReader) -> AsyncGenerator[StreamEvent, None]:
        """Ends when the replica ends the stream. Raises Unavailable for an event beyond all bounds."""
        parser = EventParser()
        snapshot = True
        while chunk := await content.readany():  # its wait is bounded by `sock_read`
            for name, data in parser.feed(chunk):
                kind = KINDS.get(name)
                if kind is None:
                    continue  # a newer replica may say more
                yield StreamEvent(kind, data, live=not (snapshot and kind == "beat"))
                # The snapshot ends with the stored Beat; what follows happens as it is told.
                snapshot = snapshot and kind != "beat"

    async def acknowledge(self, url: str, ack: bytes, headers: Mapping[str, str]) -> None:
        """Raises Unavailable, or Refused for an answer of 4xx."""
        try:
            async with self._session.post(
                f"{url}/v1/acks",
                data=ack,
                headers={"content-type": "application/json", **headers, **self._presenting(url)},
                timeout=aiohttp.ClientTimeout(total=ACK_S),
                allow_redirects=False,
            ) as response:
                status = response.status
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unavailable(f"{url}: {type(error).__name__}: {error}") from None
        self._heard(url, status)
        if 400 <= status < 500:
            raise Refused(f"{url} answers {status}")
        if status >= 300:
            raise Unavailable(f"{url} answers {status}")

    def _presenting(self, url: str) -> Mapping[str, str]:
        return self._token.header(url) if self._token is not None else {}

    def _heard(self, url: str, status: int) -> None:
        if status == 401 and self._token is not None:
            self._token.unknown(url)

    async def close(self) -> None:
        """Ends streams under way."""
        await self._session.close()


class EventParser:
    """Server-sent events (HTML standard, section 9.2.6) out of chunks; lines end with LF or CRLF.

    Raises Unavailable when an event grows beyond `MAX_EVENT_BYTES`: such a peer is not followed.
    """

    def __init__(self) -> None:
        self._pieces: list[bytes] = []  # of a line that has not ended
        self._size = 0
        self._name = b""
        self._data: list[bytes] = []

    def feed(self, chunk: bytes) -> list[tuple[bytes, bytes]]:
        """The events that `chunk` completes, as (name, data)."""
        events: list[tuple[bytes, bytes]] = []
        *ends, rest = chunk.split(b"\n")
        for end in ends:
            self._pieces.append(end)
            self._grow(len(end))
            line = b"".join(self._pieces)
            self._pieces.clear()
            self._take(line.removesuffix(b"\r"), events)
        if rest:
            self._pieces.append(rest)
            self._grow(len(rest))
        return events

    def _take(self, line: bytes, events: list[tuple[bytes, bytes]]) -> None:
        if not line:
            if self._data:
                events.append((self._name or b"message", b"\n".join(self._data)))
            self._name, self._size = b"", 0
            self._data.clear()
            return
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            self._data.append(value)
        elif field == b"event":
            self._name = value
        elif not field:
            self._size -= len(line)  # a comment keeps the connection alive and belongs to no event

    def _grow(self, size: int) -> None:
        self._size += size
        if self._size > MAX_EVENT_BYTES:
            raise Unavailable(f"an event is larger than {MAX_EVENT_BYTES} bytes")
