"""`python -m bench.storms`: what is left of 5,000 slow clients and a minute of 1,000 disconnects a second.

A real edge process between a target and clients that misbehave. Four kinds are slow together: they send a head a byte
at a time, or a body, or read nothing of a stream, or say nothing at all. Meanwhile one client behaves, and its answers
are timed. Then others ask for a stream and reset the connection within 50 ms, so many a second. Before, during and
after, what the edge holds is counted from outside: file descriptors and resident memory by /proc, its tasks by its own
metrics, requests under way at the target by the target.

`STORM_CLIENTS`, `STORM_SECONDS` and `STORM_RATE` make it smaller; `BENCH_JSON=FILE` writes the figures.
"""

import asyncio
import contextlib
import hashlib
import json
import os
import random
import re
import resource
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import uvloop
import yaml

from bench.proxies import free_port

KEY: Final = "dev"
KINDS: Final = ("head", "body", "read", "mute")
PACE_S: Final = 1.0
"""Between two bytes of a slow sender."""
LET_GO_S: Final = 60.0
"""Given to the edge to let every slow client go."""
RESET: Final = struct.pack("ii", 1, 0)
TIGHT: Final = {"head_s": 10.0, "body_s": 10.0, "idle_s": 10.0, "write_stall_s": 10.0}
"""The edge's deadlines in this run, shorter than its defaults, so that a run has an end."""

_EVENT = b'data: {"id":"c","choices":[{"index":0,"delta":{"content":" lee"},"finish_reason":null}]}\n\n'
_BIG = _EVENT.replace(b" lee", b"lee " * 4096) * 64
"""More than the kernel's buffers on the way take, so that a client that does not read is felt at the edge."""
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
_ANSWER = json.dumps(
    {
        "id": "c",
        "object": "chat.completion",
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": "lee"}, "finish_reason": "stop"}
        ],
    }
).encode()


@dataclass(slots=True)
class Held:
    """What the edge holds at a moment."""

    fds: int
    rss_mb: float
    tasks: int
    target_requests: int
    """Under way at the target."""
    lag_s: float
    """How late the edge's event loop woke, the worst of the last 15 s."""

    def as_json(self) -> dict[str, float]:
        """For the report."""
        return {
            "fds": self.fds,
            "rss_mb": round(self.rss_mb, 1),
            "tasks": self.tasks,
            "target_requests": self.target_requests,
            "lag_s": round(self.lag_s, 3),
        }


class Target(asyncio.Protocol):
    """Answers plain calls at once; a streamed call gets one event now, or a MB for who asks for
    a big one, then an event a second, and no end."""

    busy: Final[set["Target"]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]
        self._got = b""
        self._beat: asyncio.TimerHandle | None = None

    def data_received(self, data: bytes) -> None:
        self._got += data
        head, mark, body = self._got.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head)
        if not mark or length is None or len(body) < int(length[1]):
            return
        self._got = b""
        if b'"stream":true' not in body:
            self.transport.write(
                b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
                % (len(_ANSWER), _ANSWER)
            )
            return
        self.busy.add(self)
        self.transport.write(_HEAD + _chunk(_BIG if b'"big"' in body else _EVENT))
        self._tick()

    def connection_lost(self, exc: Exception | None) -> None:
        self.busy.discard(self)
        if self._beat is not None:
            self._beat.cancel()

    def _tick(self) -> None:
        self.transport.write(_chunk(_EVENT))
        self._beat = asyncio.get_running_loop().call_later(1.0, self._tick)


class Slow(asyncio.Protocol):
    """One slow client, of a kind of `KINDS`. `over` is set when the edge has let it go; `said` is its status line."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.said = b""
        self.over = asyncio.get_running_loop().create_future()
        self._dripping: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]
        if self.kind == "read":
            self.transport.write(request(b'{"model":"chat","stream":true,"big":1,"messages":[]}'))
        elif self.kind == "body":
            self.transport.write(request(b"x" * 100_000)[: -100_000 + 1])
            self._drip()
        elif self.kind == "head":
            self.transport.write(b"POST /v1/chat/completions HTTP/1.1\r\nx-slow: ")
            self._drip()

    def data_received(self, data: bytes) -> None:
        self.said = self.said or data[:12]
        if self.kind == "read":
            self.transport.pause_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._dripping is not None:
            self._dripping.cancel()
        if not self.over.done():
            self.over.set_result(time.monotonic())

    def _drip(self) -> None:
        self.transport.write(b"x")
        self._dripping = asyncio.get_running_loop().call_later(PACE_S, self._drip)


def request(body: bytes) -> bytes:
    """A call as a client writes it."""
    return (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: edge\r\nauthorization: Bearer %b\r\n"
        b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (KEY.encode(), len(body), body)
    )


def _chunk(content: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(content), content)


@dataclass
class Edge:
    """The process under test."""

    process: subprocess.Popen[bytes]
    port: int
    admin_port: int
    log: Path

    async def held(self) -> Held:
        """Counted now."""
        proc = Path(f"/proc/{self.process.pid}")
        status = (proc / "status").read_text()
        rss = re.search(r"VmRSS:\s+(\d+)", status)
        metrics = await self._metrics()
        tasks = re.search(r"^leeward_process_tasks ([0-9.e+-]+)", metrics, re.MULTILINE)
        lag = re.search(r"^leeward_process_loop_lag_seconds ([0-9.e+-]+)", metrics, re.MULTILINE)
        assert rss is not None, "Linux says how much memory a process has"
        assert tasks is not None, "every process tells its tasks"
        assert lag is not None, "and its lag"
        return Held(
            len(list((proc / "fd").iterdir())),
            int(rss[1]) / 1024,
            int(float(tasks[1])),
            len(Target.busy),
            float(lag[1]),
        )

    async def _metrics(self) -> str:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.admin_port)
        writer.write(b"GET /metrics HTTP/1.0\r\nhost: edge\r\n\r\n")
        text = (await asyncio.wait_for(reader.read(), 10)).decode()
        writer.close()
        return text


@dataclass
class Behaving:
    """The one client that does no harm: its answers, while the others misbehave."""

    port: int
    times_ms: list[float] = field(default_factory=list)
    failed: int = 0
    how: str = ""
    """The first of them did."""

    async def run(self) -> None:
        """A call every 50 ms, on a connection of its own each, until cancelled."""
        call = request(b'{"model":"chat","messages":[]}').replace(
            b"\r\nhost", b"\r\nconnection: close\r\nhost", 1
        )
        while True:
            began = time.monotonic()
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                writer.write(call)
                got = await asyncio.wait_for(reader.read(), 10)
                writer.close()
                if not got.startswith(b"HTTP/1.1 200"):
                    self._fails(f"{got[9:12].decode() or 'no answer'} after {time.monotonic() - began:.1f} s")
            except OSError as error:
                self._fails(f"{error!r} after {time.monotonic() - began:.1f} s")
            self.times_ms.append((time.monotonic() - began) * 1000)
            await asyncio.sleep(0.05)

    def _fails(self, how: str) -> None:
        self.failed += 1
        self.how = self.how or how

    def told(self) -> dict[str, float | str]:
        """Requests, failed, p50 and p99."""
        ordered = sorted(self.times_ms) or [0.0]
        return {
            "requests": len(self.times_ms),
            "failed": self.failed,
            "first_failure": self.how,
            "p50_ms": round(ordered[len(ordered) // 2], 2),
            "p99_ms": round(ordered[int(len(ordered) * 0.99)], 2),
        }


async def storm(*, clients: int, seconds: float, rate: int) -> dict[str, Any]:
    """Both storms against one edge, and what it held before, in and after each."""
    report: dict[str, Any] = {"clients": clients, "seconds": seconds, "rate": rate}
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Target, "127.0.0.1", 0, backlog=4096)
    with tempfile.TemporaryDirectory(prefix="bench-storms-") as scratch:
        edge = await _started(Path(scratch), server.sockets[0].getsockname()[1])
        try:
            await _warm(edge)
            report["before"] = (await edge.held()).as_json()
            # A process of its own: this one is busy with being many.
            behaving = subprocess.Popen(
                [sys.executable, "-m", "bench.storms", "behave", str(edge.port)], stdout=subprocess.PIPE
            )
            report["slow"] = await _slow_clients(edge, clients)
            report["after_slow"] = (await _settled(edge)).as_json()
            report["disconnects"] = await _disconnects(edge, seconds=seconds, rate=rate)
            report["after_disconnects"] = (await _settled(edge)).as_json()
            behaving.terminate()
            told, _ = await asyncio.to_thread(behaving.communicate, None, 30)
            report["behaving"] = json.loads(told)
        finally:
            edge.process.terminate()
            report["exit_code"] = await asyncio.to_thread(edge.process.wait, 30)
            server.close()
    return report


async def _slow(port: int, kind: str) -> Slow:
    """One that is connected. A small window from the start, so that what it does not read stays at the edge."""
    loop = asyncio.get_running_loop()
    sock = socket.socket()
    sock.setblocking(False)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    await loop.sock_connect(sock, ("127.0.0.1", port))
    _, protocol = await loop.create_connection(lambda: Slow(kind), sock=sock)
    return protocol


async def _slow_clients(edge: Edge, clients: int) -> dict[str, Any]:
    began = time.monotonic()
    slow: list[Slow] = []
    for start in range(0, clients, 100):
        opening = (
            _slow(edge.port, KINDS[number % len(KINDS)]) for number in range(start, min(start + 100, clients))
        )
        slow += await asyncio.gather(*opening)
        # A thousand a second: faster, and what is measured is the kernel's queue of connections to accept.
        await asyncio.sleep(max(0.0, began + len(slow) / 1000 - time.monotonic()))
    opened_s = time.monotonic() - began
    in_it = await edge.held()
    for _ in range(8):
        await asyncio.sleep(0.25)
        now = await edge.held()
        in_it = now if now.fds > in_it.fds else in_it
    while time.monotonic() < began + LET_GO_S and _held_on(slow):
        await asyncio.sleep(0.05)
    took_s = time.monotonic() - began
    left = _held_on(slow)
    said = Counter(f"{one.kind} {one.said[9:12].decode() or '-'}" for one in slow)
    for one in slow:
        one.transport.abort()
    return {
        "opened_s": round(opened_s, 2),
        "in_it": in_it.as_json(),
        "told": dict(said),
        "not_let_go": left,
        "let_go_after_s": round(took_s, 1),
    }


def _held_on(slow: list[Slow]) -> int:
    """Clients that the edge has not let go. A window that is shut does not tell its client that nobody writes into it
    any more; the target knows."""
    return sum(one.kind != "read" and not one.over.done() for one in slow) + len(Target.busy)


async def _disconnects(edge: Edge, *, seconds: float, rate: int) -> dict[str, Any]:
    """`rate` connections a second, each reset 0 to 50 ms after its request for a stream."""
    loop = asyncio.get_running_loop()
    rng = random.Random(3)
    call = request(b'{"model":"chat","stream":true,"messages":[]}')
    made = refused = 0

    async def one(delay_s: float) -> None:
        nonlocal made, refused
        try:
            transport, _ = await loop.create_connection(asyncio.Protocol, "127.0.0.1", edge.port)
        except OSError:
            refused += 1
            return
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        transport.write(call)
        await asyncio.sleep(delay_s)
        transport.abort()
        made += 1

    began = time.monotonic()
    peak = Held(0, 0.0, 0, 0, 0.0)
    under_way: set[asyncio.Task[None]] = set()
    for turn in range(round(seconds * 20)):
        for _ in range(rate // 20):
            task = asyncio.create_task(one(rng.random() * 0.05))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
        if turn % 20 == 19:
            now = await edge.held()
            peak = now if now.fds > peak.fds else peak
        await asyncio.sleep(max(0.0, began + (turn + 1) / 20 - time.monotonic()))
    if under_way:
        await asyncio.wait(under_way, timeout=30)
    return {
        "made": made,
        "refused": refused,
        "took_s": round(time.monotonic() - began, 1),
        "peak": peak.as_json(),
    }


async def _settled(edge: Edge) -> Held:
    """When the target has nothing left to do, 10 s at most, and a moment later for what is counted once a second."""
    until = time.monotonic() + 10
    while Target.busy and time.monotonic() < until:
        await asyncio.sleep(0.05)
    await asyncio.sleep(2.5)
    return await edge.held()


async def _warm(edge: Edge) -> None:
    """Some requests first, so that what is made once has been made."""
    behaving = Behaving(edge.port)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(behaving.run(), 1.5)
    assert behaving.failed == 0, edge.log.read_text()[-2000:]
    await asyncio.sleep(1.0)


async def _started(where: Path, target_port: int) -> Edge:
    port, admin_port = free_port(), free_port()
    nobody = free_port()
    config = {
        "node": {
            "role": "edge",
            "id": "edge-storm",
            "region": "here",
            "state_dir": str(where / "state"),
            "listen": f"127.0.0.1:{port}",
            "admin_listen": f"127.0.0.1:{admin_port}",
            "control_planes": [f"http://127.0.0.1:{nobody}"],
            "limits": TIGHT,
        },
        "fleet": {
            "regions": [{"id": "here"}],
            "targets": [
                {
                    "id": "storm",
                    "provider": "bench",
                    "model": "m",
                    "region": "here",
                    "url": f"http://127.0.0.1:{target_port}/v1",
                    "capacity_inflight": 100_000,
                }
            ],
            "routes": [{"id": "chat", "match": {"models": ["chat"]}, "tiers": [{"targets": ["storm"]}]}],
            "client_keys": [{"id": "dev", "sha256": hashlib.sha256(KEY.encode()).hexdigest()}],
        },
    }
    path = where / "leeward.yaml"
    path.write_text(yaml.safe_dump(config))
    log = where / "edge.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "ops.cli", "edge", "--config", str(path), "--log-level", "WARNING"],
            stdout=out,
            stderr=out,
        )
    until = time.monotonic() + 30
    while time.monotonic() < until and process.poll() is None:
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            return Edge(process, port, admin_port, log)
        await asyncio.sleep(0.05)
    process.kill()
    raise RuntimeError(f"the edge did not start:\n{log.read_text()[-2000:]}")


async def _behave(port: int) -> None:
    """Be the one that behaves, until told to end; then print what it saw."""
    behaving, ended = Behaving(port), asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    calling = asyncio.create_task(behaving.run())
    await ended.wait()
    calling.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await calling
    print(json.dumps(behaving.told()))


def main() -> int:
    """See the module; returns an exit code."""
    if sys.argv[1:2] == ["behave"]:
        uvloop.run(_behave(int(sys.argv[2])))
        return 0
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    report = uvloop.run(
        storm(
            clients=int(os.environ.get("STORM_CLIENTS", "5000")),
            seconds=float(os.environ.get("STORM_SECONDS", "60")),
            rate=int(os.environ.get("STORM_RATE", "1000")),
        )
    )
    print(json.dumps(report, indent=2))
    if path := os.environ.get("BENCH_JSON"):
        Path(path).write_text(json.dumps(report, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
