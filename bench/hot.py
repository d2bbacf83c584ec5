"""What the hot path costs without the kernel: `python -m bench.hot`. Requests and stream events go through the real
Gateway between transports that only take bytes; best of many runs, so that a busy machine says much the same as a
quiet one. The kernel's and the event loop's part is the difference to what `bench.edge` says.
"""

import asyncio
import gc
import json
import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from prometheus_client import CollectorRegistry

from bench.edge_process import KEY, fleet
from bench.proxies import COMPLETION
from edge_router.adapters.gateway import Gateway
from edge_router.adapters.listener import ClientConnection
from edge_router.adapters.upstream import UpstreamConnection
from edge_router.core.table import ResolvedCredential, build_table
from shared.clock import SystemClock
from shared.supervise import Supervisor
from shared.telemetry import NoTelemetry
from shared.vocabulary.base import NO_VERSION
from shared.vocabulary.config import FleetConfig

RUNS = 400
LOOPS = 200
PORT = 9
_BODY = (
    b'{"model":"chat","messages":[{"role":"user","content":"Which side of a hill is the lee side? Answer in one '
    b'sentence."}],"max_tokens":64}'
)
_STREAM_BODY = b'{"model":"chat","messages":[{"role":"user","content":"hi"}],"stream":true}'
_ANSWER = (
    "HTTP/1.1 200 OK\r\nServer: nginx/1.22.1\r\nDate: Sat, 05 Dec 2026 10:00:00 GMT\r\nContent-Type: "
    f"application/json\r\nContent-Length: {len(COMPLETION)}\r\nConnection: keep-alive\r\n\r\n{COMPLETION}"
).encode()
_STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
_DELTA = (
    b'data: {"id":"chatcmpl-0123456789abcdef","object":"chat.completion.chunk","created":1790000000,"model":"m",'
    b'"choices":[{"index":0,"delta":{"content":" sheltered"},"logprobs":null,"finish_reason":null}]}\n\n'
)


def _request(body: bytes) -> bytes:
    return (
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:8080\r\ncontent-type: application/json\r\n"
        b"authorization: Bearer %b\r\nContent-Length: %d\r\n\r\n%b" % (KEY.encode(), len(body), body)
    )


class _Transport(asyncio.Transport):
    """Takes bytes, and keeps none."""

    taken = 0

    def write(self, data: Any) -> None:
        self.taken += 1

    def writelines(self, list_of_data: Any) -> None:
        self.taken += 1

    def is_closing(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def abort(self) -> None:
        pass


def _gateway(supervisor: Supervisor) -> Gateway:
    config = FleetConfig(config_version=0, fleet=fleet(PORT))
    credential = ResolvedCredential(
        b"authorization", b"Bearer sk-bench", frozenset({("http", "127.0.0.1", PORT)})
    )
    return Gateway(
        edge_id="edge-bench",
        region="here",
        table=build_table(config, {}, NO_VERSION, region="here"),
        credentials={"bench": credential},
        clock=SystemClock(),
        rng=random.Random(7),
        telemetry=NoTelemetry(),
        supervisor=supervisor,
        registry=CollectorRegistry(),
    )


def _ends(gateway: Gateway) -> tuple[ClientConnection, list[UpstreamConnection]]:
    """A client's connection, and one idle one to each target."""
    client = ClientConnection(gateway)
    client.connection_made(_Transport())
    upstreams = []
    for target in gateway.table.targets.values():
        pool = gateway.lane(target).pool
        connection = UpstreamConnection(pool)
        connection.connection_made(_Transport())
        pool.open.add(connection)
        pool.put(connection)
        upstreams.append(connection)
        break  # both are at one origin, and so of one pool
    return client, upstreams


def _best(work: Callable[[int], None], count: int) -> float:
    """Microseconds for one of `count`."""
    best = float("inf")
    for _ in range(RUNS):
        began = time.perf_counter()
        work(count)
        best = min(best, time.perf_counter() - began)
    return best / count * 1e6


async def measured() -> dict[str, float]:
    """Microseconds by what is done."""
    async with Supervisor() as supervisor:
        gateway = _gateway(supervisor)
        client, (upstream,) = _ends(gateway)
        request, call = _request(_BODY), _request(_STREAM_BODY)
        # As a socket hands them out: bytes of their own each time.
        requests = [bytes(bytearray(request)) for _ in range(LOOPS)]
        answers = [bytes(bytearray(_ANSWER)) for _ in range(LOOPS)]

        def exchange(count: int) -> None:
            for number in range(count):
                client.data_received(requests[number])
                upstream.data_received(answers[number])

        exchange(LOOPS)
        gc.collect()
        gc.freeze()
        client_transport = cast(_Transport, client._transport)
        before = client_transport.taken
        whole = _best(exchange, LOOPS)
        assert client_transport.taken - before == RUNS * LOOPS, "every request has its answer"

        client.data_received(call)
        piece = b"%x\r\n%b\r\n" % (len(_DELTA), _DELTA)
        upstream.data_received(_STREAM_HEAD + piece)
        pieces = [bytes(bytearray(piece)) for _ in range(LOOPS)]

        def events(count: int) -> None:
            for number in range(count):
                upstream.data_received(pieces[number])

        before = client_transport.taken
        event = _best(events, LOOPS)
        assert client_transport.taken - before == RUNS * LOOPS, "every event is passed on"
        client.abort()
    return {"request": whole, "event": event}


def main() -> None:
    """Print the figures; write them where BENCH_JSON says."""
    figures = asyncio.run(measured())
    for what, cost_us in figures.items():
        print(f"{what:10} {cost_us:7.2f} us")
    if path := os.environ.get("BENCH_JSON"):
        Path(path).write_text(json.dumps({what: round(cost, 3) for what, cost in figures.items()}))


if __name__ == "__main__":
    main()
