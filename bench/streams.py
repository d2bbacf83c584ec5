"""Many concurrent event streams: the target that writes them, the client that counts them, as processes of their own.

`python -m bench.streams target PORT HZ EVENTS` answers every request with EVENTS events, HZ a second, each a chunk of its own;
`python -m bench.streams load PORT COUNT` opens COUNT streams at once and prints what it got as JSON;
`python -m bench.streams first PORT COUNT` opens COUNT one after the other, each of a single event that comes at once, and
prints how long that took.
"""

import asyncio
import contextlib
import json
import statistics
import sys
import time

import uvloop

from bench.edge_process import KEY

GROUPS = 10
"""Streams write in so many groups, one after the other, so that events do not all come at once."""

_EVENT = (
    b'data: {"id":"chatcmpl-0123456789abcdef","object":"chat.completion.chunk","created":1790000000,"model":"m",'
    b'"choices":[{"index":0,"delta":{"content":" sheltered"},"logprobs":null,"finish_reason":null}]}\n\n'
)
_LAST = _EVENT.replace(b'{"content":" sheltered"}', b"{}").replace(
    b'"finish_reason":null', b'"finish_reason":"stop"'
)
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def _chunk(content: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(content), content)


_PIECE = _chunk(_EVENT)
_END = _chunk(_LAST) + _chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"
_SHORT = b'{"model":"chat","messages":[{"role":"user","content":"hi"}],"stream":true,"max_tokens":1}'
_BODY = b'{"model":"chat","messages":[{"role":"user","content":"hi"}],"stream":true}'


class _Target(asyncio.Protocol):
    def __init__(self, groups: list[set["_Target"]], events: int) -> None:
        self._groups = groups
        self._events = events
        self._left = 0
        self._group: set[_Target] = set()
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        if data.endswith(b'"max_tokens":1}'):
            self.transport.write(_HEAD + _PIECE)
            # Later, for a stream that is there all at once is no stream.
            asyncio.get_running_loop().call_later(0.003, self.transport.write, _END)
        elif data.endswith(b"}"):
            self._left = self._events
            self._group = min(self._groups, key=len)
            self._group.add(self)
            self.transport.write(_HEAD)

    def connection_lost(self, exc: Exception | None) -> None:
        self._group.discard(self)

    def tick(self) -> None:
        self._left -= 1
        if self._left > 0:
            self.transport.write(_PIECE)
        else:
            self._group.discard(self)
            self.transport.write(_PIECE + _END)


async def _target(port: int, rate_hz: float, events: int) -> None:
    groups: list[set[_Target]] = [set() for _ in range(GROUPS)]
    loop = asyncio.get_running_loop()
    await loop.create_server(lambda: _Target(groups, events), "127.0.0.1", port, backlog=4096)
    due, step = time.monotonic(), 1 / rate_hz / GROUPS
    while True:
        for group in groups:
            due += step
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            for stream in tuple(group):
                stream.tick()


def _request(body: bytes) -> bytes:
    fields = f"host: bench\r\nauthorization: Bearer {KEY}\r\ncontent-type: application/json\r\n"
    head = f"POST /v1/chat/completions HTTP/1.1\r\n{fields}content-length: {len(body)}\r\n\r\n"
    return head.encode() + body


class _Client(asyncio.Protocol):
    def __init__(self, done: asyncio.Event) -> None:
        self.events = 0
        self.complete = False
        self.first_s = 0.0
        self._sent = 0.0
        self._done = done

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._sent = time.monotonic()
        transport.write(_request(_BODY))  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        if not self.events and b"data: " in data:
            self.first_s = time.monotonic() - self._sent
        self.events += data.count(b"data: ")
        if data.endswith(b"0\r\n\r\n"):
            self.complete = True
            self._done.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self._done.set()


async def _load(port: int, count: int) -> dict[str, float]:
    loop = asyncio.get_running_loop()
    waits, clients = [], []
    for _ in range(count):
        done = asyncio.Event()
        _, client = await loop.create_connection(lambda done=done: _Client(done), "127.0.0.1", port)  # type: ignore[misc]
        waits.append(done.wait())
        clients.append(client)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(asyncio.gather(*waits), 60)
    return {
        "events": sum(client.events for client in clients),
        "complete": sum(client.complete for client in clients),
        "ttft_ms": statistics.median(client.first_s for client in clients) * 1000,
    }


async def _first(port: int, count: int) -> dict[str, float]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    took_s = []
    for _ in range(count):
        began = time.perf_counter()
        writer.write(_request(_SHORT))
        await reader.readuntil(b"data: ")
        took_s.append(time.perf_counter() - began)
        await asyncio.wait_for(reader.readuntil(b"[DONE]\n\n"), 10)
        await asyncio.sleep(0.001)  # for the end of the framing, whichever it is
    writer.close()
    return {"first_ms_p50": statistics.median(took_s) * 1000}


def main() -> None:
    """See the module."""
    role, port, *rest = sys.argv[1:]
    if role == "target":
        uvloop.run(_target(int(port), float(rest[0]), int(rest[1])))
    else:
        work = _first if role == "first" else _load
        print(json.dumps(uvloop.run(work(int(port), int(rest[0])))))


if __name__ == "__main__":
    main()
