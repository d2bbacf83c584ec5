"""A TCP proxy that breaks links on command: a process of its own, asyncio, standard library only.

Whoever is to be cut off is given the proxy's port in place of the real one. Two protocols name addresses
themselves, so a link may rewrite them in what passes: `kafka`, whose clients learn their broker's address from
the broker, and `http`, whose servers may refuse a Host that is not theirs. A process inside a network namespace
keeps all addresses, for the proxy listens and connects inside that namespace as well.

What a link can do:

    pass       bytes go through
    latency    each piece is late by `latency_s`, both ways
    drop       nothing arrives, no connection ends; one way only if so told. What was sent arrives once the
               link passes again, as after TCP's retransmissions. A new connection is accepted and hears nothing
    reset      every connection is reset, and every new one
    half_open  connections of before are dead for ever and never end; new ones work

`FaultProxy` is the side of the tests: `open` a link, then `link.set(...)`. It ends with its stdin.
"""

import asyncio
import ctypes
import json
import os
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

HOST = "127.0.0.1"
PIECE = 65_536
CLONE_NEWNET = 0x40000000
Mode = Literal["pass", "latency", "drop", "reset", "half_open"]
Direction = Literal["both", "up", "down"]
"""`up` is towards the server."""
Protocol = Literal["kafka", "http"]


# ---------------------------------------------------------------- the side of the tests


@dataclass
class Link:
    """One listening port and where it leads. `name` is the test's own."""

    proxy: "FaultProxy"
    name: str
    port: int
    number: int

    def set(self, mode: Mode, *, direction: Direction = "both", latency_s: float = 0.0) -> None:
        """In force when this returns."""
        self.proxy.ask(op="set", number=self.number, mode=mode, direction=direction, latency_s=latency_s)

    def heal(self) -> None:
        """As in the beginning; what `half_open` killed stays dead."""
        self.set("pass")

    def counts(self) -> dict[str, int]:
        """`accepted`, `open`, and the bytes that passed: `up`, `down`."""
        return dict(self.proxy.ask(op="counts", number=self.number))


class FaultProxy:
    """The process. Use as a context."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            start_new_session=True,
        )
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def open(
        self,
        to: int,
        *,
        name: str = "",
        listen: int = 0,
        rewrite: Protocol | None = None,
        listen_in: str | None = None,
        connect_in: str | None = None,
    ) -> Link:
        """A link to port `to`, on a free port or on `listen`; each end in a network namespace if named."""
        told = self.ask(
            op="open", to=to, listen=listen, rewrite=rewrite, listen_in=listen_in, connect_in=connect_in
        )
        return Link(self, name or str(to), int(told["port"]), int(told["number"]))

    def ask(self, **question: Any) -> Any:
        """One question, one answer. Raises RuntimeError with what went wrong there."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._lock:
            self._process.stdin.write(json.dumps(question) + "\n")
            self._process.stdin.flush()
            answer = json.loads(self._process.stdout.readline() or '{"error": "the proxy ended"}')
        if "error" in answer:
            raise RuntimeError(f"fault proxy: {answer['error']}")
        return answer


# ---------------------------------------------------------------- the process


@dataclass(eq=False)
class Pair:
    """One connection of a client and the one it became."""

    inner: asyncio.StreamWriter
    outer: asyncio.StreamWriter | None = None
    dead: bool = False

    def abort(self) -> None:
        """RST to both sides."""
        for writer in (self.inner, self.outer):
            if writer is not None:
                sock = writer.get_extra_info("socket")
                with suppress(OSError):
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()


@dataclass
class Passage:
    """The serving side of a `Link`."""

    to: int
    connect_in: str | None
    replace: dict[str, tuple[bytes, bytes]] = field(default_factory=dict)
    """By direction; old and new are of one length."""
    mode: Mode = "pass"
    latency_s: float = 0.0
    accepted: int = 0
    passed: dict[str, int] = field(default_factory=lambda: {"up": 0, "down": 0})
    pairs: set[Pair] = field(default_factory=set)
    _open: dict[str, asyncio.Event] = field(
        default_factory=lambda: {"up": asyncio.Event(), "down": asyncio.Event()}
    )

    def set(self, mode: Mode, direction: Direction, latency_s: float) -> None:
        self.mode, self.latency_s = mode, latency_s if mode == "latency" else 0.0
        for way, gate in self._open.items():
            if mode == "drop" and direction in ("both", way):
                gate.clear()
            else:
                gate.set()
        for pair in list(self.pairs):
            if mode == "reset":
                pair.abort()
            elif mode == "half_open":
                pair.dead = True

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        pair = Pair(writer)
        self.pairs.add(pair)
        try:
            if self.mode == "reset":
                pair.abort()
                return
            await self._open["up"].wait()
            back, pair.outer = await asyncio.open_connection(sock=await self._connect())
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pump(pair, reader, pair.outer, "up"))
                both.create_task(self._pump(pair, back, writer, "down"))
        except* OSError:
            pair.abort()
        finally:
            self.pairs.discard(pair)
            for each in (writer, pair.outer):
                if each is not None:
                    each.close()

    async def _connect(self) -> socket.socket:
        with inside(self.connect_in):
            sock = socket.socket()
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await asyncio.get_running_loop().sock_connect(sock, (HOST, self.to))
        except BaseException:
            sock.close()
            raise
        return sock

    async def _pump(
        self, pair: Pair, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: str
    ) -> None:
        while True:
            piece = await reader.read(PIECE)
            await self._open[way].wait()
            if pair.dead:
                await asyncio.Event().wait()  # until the process ends, or the pair is reset
            if self.latency_s:
                await asyncio.sleep(self.latency_s)
            if not piece:
                if writer.can_write_eof():
                    writer.write_eof()
                return
            if way in self.replace:
                piece = piece.replace(*self.replace[way])
            self.passed[way] += len(piece)
            writer.write(piece)
            await writer.drain()


class Switchboard:
    """All links of one process."""

    def __init__(self) -> None:
        self.passages: list[Passage] = []
        self.servers: list[asyncio.Server] = []

    async def answer(self, question: dict[str, Any]) -> dict[str, Any]:
        operations: dict[str, Callable[..., Any]] = {
            "open": self._open,
            "set": self._set,
            "counts": self._counts,
        }
        try:
            answer = operations[question.pop("op")](**question)
            return dict(await answer if asyncio.iscoroutine(answer) else answer)
        except (OSError, LookupError, TypeError) as error:
            return {"error": repr(error)}

    async def _open(
        self, to: int, listen: int, rewrite: Protocol | None, listen_in: str | None, connect_in: str | None
    ) -> dict[str, int]:
        with inside(listen_in):
            sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((HOST, listen))
        port = int(sock.getsockname()[1])
        passage = Passage(to, connect_in)
        if rewrite == "kafka":
            passage.replace["down"] = (address(to), address(port))
        elif rewrite == "http":
            passage.replace["up"] = (host(port), host(to))
        passage.set("pass", "both", 0.0)
        self.servers.append(await asyncio.start_server(passage.serve, sock=sock))
        self.passages.append(passage)
        return {"port": port, "number": len(self.passages) - 1}

    def _set(self, number: int, mode: Mode, direction: Direction, latency_s: float) -> dict[str, int]:
        self.passages[number].set(mode, direction, latency_s)
        return {}

    def _counts(self, number: int) -> dict[str, int]:
        passage = self.passages[number]
        return {"accepted": passage.accepted, "open": len(passage.pairs), **passage.passed}


def host(port: int) -> bytes:
    """As a Host field has it."""
    return f"{HOST}:{port}".encode()


def address(port: int) -> bytes:
    """How a Kafka broker writes `127.0.0.1:port`: the text, then an INT32."""
    return HOST.encode() + struct.pack(">i", port)


@contextmanager
def inside(namespace: str | None) -> Iterator[None]:
    """Sockets made meanwhile belong to this network namespace, and stay there."""
    if namespace is None:
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    there = os.open(f"/var/run/netns/{namespace}", os.O_RDONLY)
    try:
        if libc.setns(there, CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), f"cannot enter the network namespace {namespace}")
        try:
            yield
        finally:
            libc.setns(home, CLONE_NEWNET)
    finally:
        os.close(there)
        os.close(home)


async def main() -> None:
    """Answer questions until stdin ends; open connections end with the process."""
    loop = asyncio.get_running_loop()
    questions = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(questions), sys.stdin)
    switchboard = Switchboard()
    while line := await questions.readline():
        sys.stdout.write(json.dumps(await switchboard.answer(json.loads(line))) + "\n")
        sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    asyncio.run(main())
