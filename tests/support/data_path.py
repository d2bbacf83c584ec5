"""The edge's data path on real sockets, between targets that do as they are told and a client that hides nothing."""

import asyncio
import hashlib
import json
import random
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from prometheus_client import CollectorRegistry

from edge_router.adapters.certificates import ServedCertificate
from edge_router.adapters.gateway import Gateway
from edge_router.core.limits import Limits
from edge_router.core.share import Share
from edge_router.core.table import ResolvedCredential, build_table
from shared.clock import SystemClock
from shared.supervise import Supervisor
from shared.telemetry import NoTelemetry, Telemetry
from shared.vocabulary.base import NO_VERSION
from shared.vocabulary.client_key import ClientKey
from shared.vocabulary.config import Fleet, FleetConfig

KEY = "dev"
REACHES_NOTHING = ClientKey(id="other", sha256=hashlib.sha256(b"other").hexdigest(), routes=("none-*",))
"""No file may say so, but a stored fleet whose route has gone."""
CALL = b'{"model":"chat","messages":[{"role":"user","content":"hi"}]}'
STREAM = b'{"model":"chat","stream":true,"messages":[]}'
COMPLETION = (
    b'{"id":"c","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant",'
    b'"content":"hello"},"finish_reason":"stop"}]}'
)


def answer(
    body: bytes = COMPLETION, status: str = "200 OK", fields: str = "", kind: str = "application/json"
) -> bytes:
    """A whole HTTP answer."""
    return (
        f"HTTP/1.1 {status}\r\ncontent-type: {kind}\r\n{fields}content-length: {len(body)}\r\n\r\n".encode()
        + body
    )


def chunk(content: bytes) -> bytes:
    """One chunk."""
    return b"%x\r\n%b\r\n" % (len(content), content)


STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"
DONE = b"data: [DONE]\n\n"


def delta(text: str | None = None, *, finish: str | None = None, role: bool = False) -> bytes:
    """One event of an OpenAI chat stream."""
    inner = '"role":"assistant"' if role else "" if text is None else f'"content":"{text}"'
    reason = "null" if finish is None else f'"{finish}"'
    return f'data: {{"id":"c","choices":[{{"index":0,"delta":{{{inner}}},"finish_reason":{reason}}}]}}\n\n'.encode()


@dataclass
class Seen:
    """A request as a target got it."""

    line: str
    fields: dict[str, str]
    body: bytes
    raw_head: bytes


Act = Callable[["Conversation"], Awaitable[None]]


@dataclass
class Conversation:
    """One connection at a target, in the hands of a test's script."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    request: Seen

    async def send(self, *pieces: bytes, pause_s: float = 0.0) -> None:
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()
            if pause_s:
                await asyncio.sleep(pause_s)

    def reset(self) -> None:
        """Break the connection with a RST."""
        self.writer.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
        )
        self.writer.transport.abort()

    def close(self) -> None:
        self.writer.close()

    async def hang(self) -> None:
        """Say nothing until the other side goes."""
        await self.reader.read()


def script(*pieces: bytes, then: str = "end", pause_s: float = 0.0) -> Act:
    """Send a stream in these pieces, one chunk each; then `end` it, `cut`, `reset` or `hang`."""

    async def act(talk: Conversation) -> None:
        await talk.send(STREAM_HEAD)
        for piece in pieces:
            await talk.send(chunk(piece), pause_s=pause_s)
        if then == "end":
            await talk.send(END)
        elif then == "cut":
            talk.close()
        elif then == "reset":
            await asyncio.sleep(0.05)
            talk.reset()
        else:
            await talk.hang()

    return act


def said(body: bytes) -> str:
    """The text of a chat stream, as a client reads it."""
    text = []
    for event in body.split(b"\n\n"):
        for line in event.split(b"\n"):
            if line.startswith(b"data: {"):
                for choice in json.loads(line[6:]).get("choices", ()):
                    text.append(choice["delta"].get("content") or "")
    return "".join(text)


class Target:
    """A target whose answers are scripted: `act` is called for each request, with the connection in hand."""

    def __init__(self, act: Act | bytes = b"") -> None:
        self.act: Act | bytes = act or answer()
        self.seen: list[Seen] = []
        self.connections = 0
        self.open = 0
        self.gone = asyncio.Event()
        self.port = 0
        self.tls: ssl.SSLContext | None = None
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(
            self._serve, "127.0.0.1", self.port, limit=2**20, ssl=self.tls
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        self.open += 1
        try:
            while not writer.is_closing():
                request = await _read_request(reader)
                self.seen.append(request)
                act = self.act
                if isinstance(act, bytes):
                    writer.write(act)
                else:
                    await act(Conversation(reader, writer, request))
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        except RuntimeError as error:
            if "closed" not in str(error):  # how uvloop says that the other side has gone
                raise
        finally:
            self.open -= 1
            self.gone.set()
            self._tasks.discard(task)
            writer.close()


async def _read_request(reader: asyncio.StreamReader) -> Seen:
    raw = await reader.readuntil(b"\r\n\r\n")
    line, *rest = raw[:-4].decode("latin-1").split("\r\n")
    fields = dict(field.split(": ", 1) for field in rest)
    body = await reader.readexactly(int(fields.get("content-length", "0")))
    return Seen(line, fields, body, raw)


@dataclass
class Answer:
    """What a client got. `clean` says whether it ended as HTTP says it must."""

    status: int
    fields: dict[str, str]
    body: bytes
    clean: bool


class Client:
    """A client on one connection, at the level of bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def __aenter__(self) -> "Client":
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.transport.abort()

    async def ask(
        self,
        body: bytes = CALL,
        *,
        path: str = "/v1/chat/completions",
        method: str = "POST",
        key: str | None = KEY,
        fields: str = "",
        timeout_s: float = 15.0,
    ) -> Answer:
        self.write(request(body, path=path, method=method, key=key, fields=fields))
        return await self.read(timeout_s=timeout_s, bodyless=method == "HEAD")

    def write(self, data: bytes) -> None:
        self.writer.write(data)

    async def read(self, *, timeout_s: float = 15.0, bodyless: bool = False) -> Answer:
        async with asyncio.timeout(timeout_s):
            raw = await self.reader.readuntil(b"\r\n\r\n")
            line, *rest = raw[:-4].decode("latin-1").split("\r\n")
            fields = dict(field.split(": ", 1) for field in rest)
            status = int(line.split()[1])
            if bodyless:
                return Answer(status, fields, b"", True)
            try:
                body, clean = await self._body(fields)
            except asyncio.IncompleteReadError as error:
                return Answer(status, fields, error.partial, False)
            except ConnectionError:
                return Answer(status, fields, b"", False)
            return Answer(status, fields, body, clean)

    async def _body(self, fields: Mapping[str, str]) -> tuple[bytes, bool]:
        if "content-length" in fields:
            return await self.reader.readexactly(int(fields["content-length"])), True
        if fields.get("transfer-encoding") != "chunked":
            return await self.reader.read(), True
        content = b""
        while True:
            try:
                size = int(await self.reader.readuntil(b"\r\n"), 16)
                content += (await self.reader.readexactly(size + 2))[:-2]
            except (asyncio.IncompleteReadError, ConnectionError):
                return content, False
            if size == 0:
                return content, True

    async def closed(self, timeout_s: float = 10.0) -> bool:
        """Whether the edge has closed the connection, with nothing more said."""
        try:
            async with asyncio.timeout(timeout_s):
                return await self.reader.read() == b""
        except ConnectionError:
            return True


def request(
    body: bytes = CALL,
    *,
    path: str = "/v1/chat/completions",
    method: str = "POST",
    key: str | None = KEY,
    fields: str = "",
) -> bytes:
    """A whole HTTP request."""
    auth = "" if key is None else f"authorization: Bearer {key}\r\n"
    length = f"content-length: {len(body)}\r\n" if body or method == "POST" else ""
    return f"{method} {path} HTTP/1.1\r\nhost: edge.test\r\n{auth}{fields}{length}\r\n".encode() + body


@dataclass
class Edge:
    """A gateway that serves."""

    gateway: Gateway
    host: str
    port: int
    registry: CollectorRegistry
    config: FleetConfig

    @asynccontextmanager
    async def client(self, **tls: Any) -> AsyncIterator[Client]:
        reader, writer = await asyncio.open_connection(self.host, self.port, limit=2**20, **tls)
        async with Client(reader, writer) as client:
            yield client

    async def ask(self, body: bytes = CALL, **how: Any) -> Answer:
        """One request on a connection of its own."""
        async with self.client() as client:
            return await client.ask(body, **how)

    def metric(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(name, labels) or 0.0


@dataclass
class World:
    """How `serving` sets the scene."""

    tiers: list[list[str]] | None = None
    timeouts: dict[str, float] = field(default_factory=dict)
    strategy: str = "weighted"
    dialect: str = "openai"
    target: dict[str, Any] = field(default_factory=dict)
    regions: dict[str, str] = field(default_factory=dict)
    """Of targets that do not stand in `us-east`."""
    paths: tuple[str, ...] = ()
    route: dict[str, Any] = field(default_factory=dict)
    """More members of the route."""
    more_routes: list[dict[str, Any]] = field(default_factory=list)
    more_keys: tuple[str, ...] = ()
    """Client keys that may use every route; each is its own id."""
    keys: list[dict[str, Any]] = field(default_factory=list)
    """Further client keys; `key` instead of its hash."""
    base: str = "http://127.0.0.1"
    """Scheme and host of targets."""
    each: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Fields of single targets, by name."""


FAST: dict[str, float] = {"connect_s": 1.0, "ttft_s": 1.0, "idle_s": 1.0, "total_s": 5.0}


def fleet_of(ports: Mapping[str, int], world: World) -> Fleet:
    """One route, `chat`, over targets at `ports`."""
    targets = [
        {
            "id": name,
            "provider": "p",
            "model": f"m-{name}",
            "region": world.regions.get(name, "us-east"),
            "url": f"{world.base}:{port}/v1",
            "dialect": world.dialect,
            **world.target,
            **world.each.get(name, {}),
        }
        for name, port in ports.items()
    ]
    match = {"paths": world.paths} if world.paths else {"models": ["chat"]}
    route = {
        "id": "chat",
        "match": match,
        "tiers": [{"targets": tier} for tier in world.tiers or [[name] for name in ports]],
        "timeouts": {**FAST, **world.timeouts},
        "strategy": world.strategy,
        **world.route,
    }
    keys = [
        {"id": "dev", "sha256": hashlib.sha256(KEY.encode()).hexdigest()},
        *({"id": key, "sha256": hashlib.sha256(key.encode()).hexdigest()} for key in world.more_keys),
        *({**rest, "sha256": hashlib.sha256(key.encode()).hexdigest()} for key, rest in _keys(world)),
    ]
    return Fleet.model_validate(
        {
            "regions": [{"id": "us-east"}, {"id": "eu-west"}, {"id": "ap-south"}],
            "targets": targets,
            "routes": [route, *world.more_routes],
            "client_keys": keys,
        }
    )


def _keys(world: World) -> list[tuple[str, dict[str, Any]]]:
    return [(str(key["key"]), {name: key[name] for name in key if name != "key"}) for key in world.keys]


@asynccontextmanager
async def serving(
    targets: Mapping[str, Target],
    world: World | None = None,
    *,
    credentials: Mapping[str, ResolvedCredential] | None = None,
    telemetry: Telemetry | None = None,
    limits: Limits | None = None,
    certificate: ServedCertificate | None = None,
    target_tls: ssl.SSLContext | None = None,
    divide_by: int = 1,
) -> AsyncIterator[Edge]:
    """An edge in `us-east` before `targets`, one tier each unless the world says otherwise."""
    for target in targets.values():
        await target.start()
    fleet = fleet_of({name: target.port for name, target in targets.items()}, world or World())
    fleet = fleet.model_copy(update={"client_keys": (*fleet.client_keys, REACHES_NOTHING)})
    config = FleetConfig(config_version=1, fleet=fleet)
    registry = CollectorRegistry()
    async with Supervisor() as supervisor:
        gateway = Gateway(
            edge_id="edge-us-east",
            region="us-east",
            table=build_table(config, {}, NO_VERSION, region="us-east"),
            credentials=credentials or {},
            clock=SystemClock(),
            rng=random.Random(1),
            telemetry=telemetry or NoTelemetry(),
            supervisor=supervisor,
            registry=registry,
            limits=limits or Limits(),
            certificate=certificate,
            target_tls=target_tls,
            share=Share(0, divide_by),
        )
        host, port = await gateway.start("127.0.0.1", 0)
        try:
            yield Edge(gateway, host, port, registry, config)
        finally:
            await gateway.drain(0.0)
            assert not gateway.exchanges, "a request was left under way"
            assert gateway.extra_active == 0
            assert gateway.reserved_bytes == 0
            assert all(lane.inflight == 0 for lane in gateway.lanes()), "a target's count of requests is off"
            assert gateway.upstream_connections == 0, "a connection to a target was left open"
            assert not supervisor.failures, supervisor.failures
    for target in targets.values():
        await target.stop()


async def until(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    """Wait until `condition` holds."""
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.005)
