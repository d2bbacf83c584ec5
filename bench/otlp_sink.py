"""Takes spans and forgets them: `python -m bench.otlp_sink PORT`. An OTLP/HTTP collector for a bench in which the edge
traces, but tracing's backend is not what is measured. GET /spans says how many exports have come.
"""

import asyncio
import sys

import uvloop


class _Sink(asyncio.Protocol):
    exports = 0

    def __init__(self) -> None:
        self._left = 0
        self._head = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        if not self._left:
            self._head += data
            head, end, body = self._head.partition(b"\r\n\r\n")
            if not end:
                return
            self._head = b""
            if head.startswith(b"GET "):
                self._answer(b"%d" % _Sink.exports)
                return
            lengths = [
                line[15:] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")
            ]
            self._left = int(lengths[0])
            data = body
        self._left -= len(data)
        if self._left <= 0:
            self._left = 0
            _Sink.exports += 1
            self._answer(b"")

    def _answer(self, body: bytes) -> None:
        self._transport.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: %d\r\n\r\n%b"
            % (len(body), body)
        )


async def _serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(_Sink, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1])))
