"""The edge as the process that operators run: how it ends, and how it stands an overload (FAULTS row 23)."""

import asyncio
import hashlib
import json
import random
import signal
import socket
import ssl
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest
import yaml

from tests.support.certificates import Authority
from tests.support.data_path import Answer, Client, request
from tests.support.processes import HOST, Child, free_ports

pytestmark = pytest.mark.slow


@dataclass
class Stack:
    """An edge and one simulated target, each a process of its own."""

    edge: Child
    port: int
    admin: str
    panel: str
    tls: ssl.SSLContext | None

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        how = {} if self.tls is None else {"ssl": self.tls, "server_hostname": "localhost"}
        async with Client(*await asyncio.open_connection(HOST, self.port, limit=2**20, **how)) as client:
            yield client


@asynccontextmanager
async def stack(
    folder: Path,
    *,
    route: dict[str, Any] | None = None,
    node: dict[str, Any] | None = None,
    pace: tuple[str, ...],
) -> AsyncIterator[Stack]:
    """Both running, once the edge is ready."""
    target, panel, port, admin = free_ports(4)
    file = {
        "node": {
            "role": "edge",
            "id": "edge-here",
            "region": "here",
            "state_dir": str(folder / "state"),
            "listen": f"{HOST}:{port}",
            "admin_listen": f"{HOST}:{admin}",
            "control_planes": [f"http://{HOST}:9"],
            **(node or {}),
        },
        "fleet": {
            "regions": [{"id": "here"}],
            "targets": [
                {
                    "id": "alpha-here",
                    "provider": "alpha",
                    "model": "alpha-large",
                    "region": "here",
                    "url": f"http://{HOST}:{target}/v1",
                    "capacity_inflight": 100_000,
                }
            ],
            "routes": [
                {
                    "id": "chat",
                    "match": {"models": ["chat"]},
                    "tiers": [{"targets": ["alpha-here"]}],
                    **(route or {}),
                }
            ],
            "client_keys": [{"id": "dev", "sha256": hashlib.sha256(b"dev").hexdigest()}],
        },
    }
    config = folder / "edge.yaml"
    config.write_text(yaml.safe_dump(file))
    simulator = [
        *(sys.executable, "-m", "ops.cli", "simulator", "--id", "alpha-here"),
        *("--listen", f"{HOST}:{target}", "--admin-listen", f"{HOST}:{panel}", *pace),
    ]
    edge = [sys.executable, "-m", "ops.cli", "edge", "--config", str(config)]
    with (
        Child(simulator, log=folder / "simulator.log") as behind,
        Child(edge, log=folder / "edge.log") as child,
    ):
        async with httpx2.AsyncClient() as http:
            for url in (f"http://{HOST}:{panel}/livez", f"http://{HOST}:{admin}/readyz"):
                await answers(http, url, (behind, child))
        yield Stack(
            child,
            port,
            f"http://{HOST}:{admin}",
            f"http://{HOST}:{panel}",
            None,
        )


async def answers(http: httpx2.AsyncClient, url: str, children: tuple[Child, ...]) -> None:
    """Wait until `url` says 200."""
    async with asyncio.timeout(60):
        while True:
            assert all(child.alive for child in children), [child.last_lines() for child in children]
            with suppress(httpx2.HTTPError):
                if (await http.get(url)).status_code == 200:
                    return
            await asyncio.sleep(0.05)


def asking(words: int) -> bytes:
    content = f"Name what grows on the lee side, in {words} words."
    return json.dumps(
        {"model": "chat", "stream": True, "messages": [{"role": "user", "content": content}]}
    ).encode()


# ------------------------------------------------------------ the end


@pytest.mark.parametrize("secure", [False, True])
async def test_sigterm_lets_short_streams_finish_and_ends_long_ones_in_band(
    tmp_path: Path, secure: bool
) -> None:
    """Not ready and not listening at once; idle clients are closed; what is under way at `drain_s` ends with an
    error event and no clean end; a second signal changes nothing; exit code 0."""
    node: dict[str, Any] = {"timings": {"drain_s": 3.0}}
    authority = Authority(tmp_path)
    if secure:
        pair = authority.issue("edge", "localhost")
        node["listen_tls"] = {"cert_file": pair.cert, "key_file": pair.key}
    async with stack(tmp_path, node=node, pace=("--ttft-ms", "20", "--tokens-per-s", "20")) as running:
        running.tls = ssl.create_default_context(cafile=authority.ca_file) if secure else None

        async def ask(words: int, begun: asyncio.Semaphore) -> Answer:
            async with running.client() as client:
                client.write(request(asking(words)))
                head = await client.reader.readuntil(b"\r\n\r\n")
                assert b" 200 " in head
                begun.release()
                body, clean = await client._body({"transfer-encoding": "chunked"})
                return Answer(200, {}, body, clean)

        begun = asyncio.Semaphore(0)
        async with running.client() as idle, httpx2.AsyncClient() as http:
            url = (await http.get(f"{running.admin}/status")).json()["url"]
            assert url == f"{'https' if secure else 'http'}://{HOST}:{running.port}"
            short = [asyncio.ensure_future(ask(20, begun)) for _ in range(10)]
            long = [asyncio.ensure_future(ask(400, begun)) for _ in range(10)]
            async with asyncio.timeout(20):
                for _ in range(20):
                    await begun.acquire()
            told = time.monotonic()
            running.edge._process.send_signal(signal.SIGTERM)
            assert await idle.closed(2.0)
            ready = await http.get(f"{running.admin}/readyz")
            assert (ready.status_code, ready.text) == (503, "draining\n")
            with pytest.raises(OSError):
                await asyncio.open_connection(HOST, running.port)
            running.edge._process.send_signal(signal.SIGTERM)
            finished = await asyncio.gather(*short)
            broken = await asyncio.gather(*long)
            ended_s = time.monotonic() - told
            assert await asyncio.to_thread(running.edge._process.wait, 10) == 0
            print(
                f"\nsecure {secure}: streams ended {ended_s:.2f} s, process {time.monotonic() - told:.2f} s after SIGTERM"
            )
        assert all(got.clean and got.body.endswith(b"data: [DONE]\n\n") for got in finished)
        assert not any(got.clean for got in broken)
        last = [got.body.rstrip().rsplit(b"\n\n", 1)[-1] for got in broken]
        assert {json.loads(event.removeprefix(b"data: "))["error"]["code"] for event in last} == {
            "stream_broken"
        }
        assert 2.9 <= ended_s <= 5.0
        with pytest.raises(OSError):
            await asyncio.open_connection(HOST, running.port)


# ------------------------------------------------------------ overload

WORDS = 5
INFLIGHT = 12
GIVE_UP_S = 1.0


@dataclass
class Seen:
    """What came of requests: whole in time, turned away, and all."""

    good: int = 0
    shed: int = 0
    late: int = 0
    asked: int = 0
    shed_s: list[float] = field(default_factory=list)


async def one(running: Stack, idle: list[Client], seen: Seen, *, counts: bool) -> None:
    """One streamed request whose client goes away after `GIVE_UP_S`."""
    client = idle.pop() if idle else Client(*await asyncio.open_connection(HOST, running.port))
    began = time.monotonic()
    client.write(request(asking(WORDS)))
    try:
        got = await client.read(timeout_s=GIVE_UP_S)
    except (TimeoutError, asyncio.IncompleteReadError, ConnectionError):
        client.writer.transport.abort()
        seen.late += counts
        return
    idle.append(client)
    if got.status == 503:
        assert int(got.fields["retry-after"]) >= 1
        seen.shed += counts
        seen.shed_s.append(time.monotonic() - began)
    else:
        seen.good += counts and got.status == 200 and got.clean


async def capacity(running: Stack) -> float:
    """Good answers a second with just as many at once as the target carries."""
    idle: list[Client] = []
    seen, until = Seen(), time.monotonic() + 4.0

    async def turn() -> None:
        while time.monotonic() < until:
            await one(running, idle, seen, counts=True)

    await asyncio.gather(*(turn() for _ in range(INFLIGHT)))
    for client in idle:
        client.writer.transport.abort()
    return seen.good / 4.0


async def flood(running: Stack, rate: float, *, settle_s: float, for_s: float) -> Seen:
    """Requests at `rate`, whatever becomes of them; counted from `settle_s` on."""
    rng, seen, idle = random.Random(5), Seen(), list[Client]()
    began, due = time.monotonic(), 0.0
    async with asyncio.TaskGroup() as group:
        while due < settle_s + for_s:
            due += rng.expovariate(rate)
            await asyncio.sleep(max(0.0, began + due - time.monotonic()))
            counts = due > settle_s
            seen.asked += counts
            group.create_task(one(running, idle, seen, counts=counts))
    for client in idle:
        client.writer.transport.abort()
    return seen


async def test_at_twice_the_capacity_most_of_it_still_does_good(tmp_path: Path) -> None:
    """A target that gets slower with everybody beyond its capacity: without the limit nearly nobody is served in
    time, with it at least 80 % of the capacity, and the rest learn at once that they should come back."""
    pace = ("--ttft-ms", "100", "--tokens-per-s", "100")
    shares: dict[bool, float] = {}
    for limited in (False, True):
        folder = tmp_path / str(limited)
        folder.mkdir()
        async with stack(folder, route={"overload": {}} if limited else {}, pace=pace) as running:
            alone = await capacity(running)
            async with httpx2.AsyncClient() as http:
                faults = {"capacity": {"inflight": INFLIGHT, "slow_factor": 3.0}}
                assert (await http.put(f"{running.panel}/faults", json=faults)).status_code == 200
            seen = await flood(running, 2 * alone, settle_s=8.0, for_s=12.0)
            shares[limited] = seen.good / 12.0 / alone
            slowest = sorted(seen.shed_s)[int(len(seen.shed_s) * 0.99)] * 1000 if seen.shed_s else 0.0
            print(
                f"\nlimited {limited}: capacity {alone:.0f}/s, asked {seen.asked / 12:.0f}/s, good {seen.good / 12:.0f}/s"
                f" ({shares[limited]:.0%}), shed {seen.shed / 12:.0f}/s (p99 {slowest:.0f} ms), late {seen.late / 12:.0f}/s"
            )
    assert shares[True] >= 0.8
    assert shares[False] <= 0.3


# ------------------------------------------------------------ slow clients

SLOW = 5_000


@dataclass
class Held:
    """What a process holds."""

    descriptors: int
    rss_mb: float

    @classmethod
    def of(cls, child: Child) -> "Held":
        process = psutil.Process(child.pid)
        return cls(process.num_fds(), process.memory_info().rss / 2**20)


async def test_five_thousand_slow_clients_cost_others_nothing_and_leave_nothing(tmp_path: Path) -> None:
    """FAULTS row 24: heads and bodies that drip are told 408 within their deadline, others are served meanwhile;
    then disconnects at every moment. Afterwards as many descriptors as before, and no memory kept for anybody."""
    node = {"limits": {"head_s": 4.0, "body_s": 4.0, "body_bytes_per_s": 1e6}}
    async with stack(tmp_path, node=node, pace=("--ttft-ms", "1", "--tokens-per-s", "1000")) as running:
        for _ in range(20):
            async with running.client() as client:
                client.write(request(asking(5)))
                assert (await client.read()).clean
        before = Held.of(running.edge)
        slow = await dripping(running, 4.0)
        async with asyncio.timeout(4):
            while (during := Held.of(running.edge)).descriptors < SLOW:
                await asyncio.sleep(0.05)
        waits = []
        drips = asyncio.ensure_future(drip_on(slow, 8.0))
        while not drips.done():
            began = time.monotonic()
            async with running.client() as client:
                client.write(request(asking(5)))
                assert (await client.read()).clean
            waits.append(time.monotonic() - began)
        told = await drips
        assert told == SLOW
        await disconnects(running, 3_000)
        async with asyncio.timeout(20):
            while Held.of(running.edge).descriptors > before.descriptors + 2:
                await asyncio.sleep(0.1)
        after = Held.of(running.edge)
        waits.sort()
        print(
            f"\n{SLOW} slow clients: descriptors {before.descriptors} -> {during.descriptors} -> {after.descriptors},"
            f" RSS {before.rss_mb:.0f} -> {during.rss_mb:.0f} -> {after.rss_mb:.0f} MB; others meanwhile p50"
            f" {waits[len(waits) // 2] * 1000:.0f} ms, p99 {waits[int(len(waits) * 0.99)] * 1000:.0f} ms"
        )
        assert after.rss_mb - before.rss_mb < 60
        assert waits[len(waits) // 2] < 0.5


async def dripping(running: Stack, within_s: float) -> list[socket.socket]:
    """`SLOW` connections that have sent the beginning of a head, or a head and the beginning of a body."""
    began, made = time.monotonic(), []
    head = request(b"")[:40]
    body = request(b"").replace(b"content-length: 0", b"content-length: 100000")
    loop = asyncio.get_running_loop()
    for number in range(SLOW):
        one = socket.socket()
        one.setblocking(False)
        await loop.sock_connect(one, (HOST, running.port))
        one.send(body if number % 2 else head)
        made.append(one)
    assert time.monotonic() - began < within_s, "too slow a machine: the first are over before the last begin"
    return made


async def drip_on(slow: list[socket.socket], for_s: float) -> int:
    """A byte a second on each of them; how many were told 408 and closed."""
    until, told, open_ = time.monotonic() + for_s, 0, list(slow)
    while open_ and time.monotonic() < until:
        left = []
        for number, one in enumerate(open_):
            with suppress(ConnectionError):
                try:
                    data = one.recv(4096)
                except BlockingIOError:
                    with suppress(BlockingIOError):
                        one.send(b"x")
                    left.append(one)
                else:
                    told += data.startswith(b"HTTP/1.1 408 ")
                    one.close()
                    continue
            if number % 200 == 0:
                await asyncio.sleep(0)
        open_ = left
        await asyncio.sleep(0.5)
    for one in open_:
        one.close()
    return told


async def disconnects(running: Stack, count: int) -> None:
    """Clients that leave, some of them in the middle of a request or of its answer; about a thousand a second."""

    async def leave(number: int) -> None:
        async with running.client() as client:
            client.write(request(asking(50))[: 20 + number % 400])
            await asyncio.sleep((number % 5) * 0.005)

    for batch in range(count // 50):
        await asyncio.gather(*(leave(batch * 50 + number) for number in range(50)))
