"""The whole prober over real sockets: what it tells, when, and that it leaves nothing behind."""

import asyncio
import json
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest

from prober.adapters.probes import Probes
from prober.app import serve
from shared.boot import next_boot
from shared.clock import SystemClock
from shared.telemetry import NoTelemetry
from shared.vocabulary.base import canonical_json
from shared.vocabulary.config import FleetConfig
from shared.vocabulary.health import HealthEvent, ProbeState
from shared.vocabulary.node import BusAddress, Node, Timings
from shared.vocabulary.terms import Outcome, Role
from tests.unit.prober.prober_world import RecordingBus, fleet, monitor, target

INTERVAL_S = 0.1
ROUND_S = 0.5
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"


def node(state_dir: Path, **fields: Any) -> Node:
    return Node(
        role=Role.PROBER,
        id="prober-r",
        region="r",
        state_dir=str(state_dir),
        buses={"r": BusAddress(bootstrap=("127.0.0.1:1",))},
        timings=Timings(round_s=ROUND_S),
        **fields,
    )


class Endpoint:
    """A model endpoint that can be killed and started again on its port."""

    def __init__(self) -> None:
        self.url = ""
        self._server: asyncio.Server | None = None
        self._port = 0

    async def start(self) -> None:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(ANSWER)
            except (asyncio.IncompleteReadError, ConnectionError):
                pass
            finally:
                writer.close()

        self._server = await asyncio.start_server(handle, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}/v1"

    def kill(self) -> None:
        assert self._server is not None
        self._server.close()


@pytest.fixture
async def endpoints() -> AsyncIterator[list[Endpoint]]:
    made = [Endpoint() for _ in range(3)]
    for each in made:
        await each.start()
    yield made
    for each in made:
        each.kill()
    await asyncio.sleep(0.02)


@asynccontextmanager
async def prober(
    state_dir: Path, endpoints: list[Endpoint], bus: RecordingBus, **fields: Any
) -> AsyncIterator[None]:
    """A whole prober on real sockets and a recording bus."""
    clock = SystemClock()
    probe = Probes(credentials={}, clock=clock)
    monitors = [monitor(interval_s=INTERVAL_S, timeout_s=INTERVAL_S)]
    started = asyncio.Event()
    task = asyncio.create_task(
        serve(
            node=node(state_dir, **fields),
            fleet=fleet([target(f"t{n}", url=each.url) for n, each in enumerate(endpoints)], monitors)
            if endpoints
            else None,
            boot=next_boot(state_dir, "prober-r"),
            bus=bus,
            probe=probe,
            clock=clock,
            telemetry=NoTelemetry(),
            rng=random.Random(3),
            started=started.set,
        )
    )
    try:
        async with asyncio.timeout(5):
            await started.wait()
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await probe.close()


async def until(what: Callable[[], Any], deadline_s: float = 10.0) -> None:
    async with asyncio.timeout(deadline_s):
        while not what():
            await asyncio.sleep(0.005)


def recording_bus() -> RecordingBus:
    return RecordingBus(SystemClock())  # type: ignore[arg-type]


def events(bus: RecordingBus) -> list[HealthEvent]:
    return [told.event for told in bus.told]


def latest(bus: RecordingBus) -> dict[str, ProbeState]:
    return {state.target: state for event in events(bus) for state in event.probes}


def all_are(bus: RecordingBus, state: str) -> bool:
    return [each.state for each in latest(bus).values()] == [state] * 3


async def test_a_killed_target_is_told_down_at_once_and_up_when_it_is_back(
    tmp_path: Path, endpoints: list[Endpoint]
) -> None:
    """Two intervals after the kill, hard evidence is on the bus, with the trace of the probe that found
    it; three good probes after the restart it is UP again."""
    bus = recording_bus()
    async with prober(tmp_path, endpoints, bus):
        await until(lambda: all_are(bus, "UP"))
        endpoints[1].kill()
        killed = time.monotonic()
        await until(lambda: latest(bus)["t1"].state == "DOWN")
        found_s = time.monotonic() - killed
        state = latest(bus)["t1"]
        event = next(e for e in events(bus) for p in e.probes if p.target == "t1" and p.state == "DOWN")
        await until(lambda: latest(bus)["t1"].hard)
        await endpoints[1].start()
        await until(lambda: all_are(bus, "UP"))
    print(f"\nkilled -> told DOWN: {found_s * 1000:.0f} ms at an interval of {INTERVAL_S * 1000:.0f} ms")
    assert state.outcome is Outcome.REFUSED
    assert state.traceparent is not None
    assert event.traceparent is not None
    assert event.traceparent[3:35] == state.traceparent[3:35]
    assert found_s < 10 * INTERVAL_S + 1.0


async def test_everything_is_told_every_round_in_order_across_restarts(
    tmp_path: Path, endpoints: list[Endpoint]
) -> None:
    """Rounds are complete and regular; (boot, seq) only rises, also when the process starts again."""
    bus = recording_bus()
    for _ in range(2):
        seen = len(bus.told)

        def complete_rounds(seen: int = seen) -> list[float]:
            return [told.at for told in bus.told[seen:] if len(told.event.probes) == 3]

        async with prober(tmp_path, endpoints, bus):
            await until(lambda: len(complete_rounds()) >= 4)
        gaps = [b - a for a, b in pairwise(complete_rounds()[1:])]
        assert max(gaps) < ROUND_S + 0.5
    order = [(event.boot, event.seq) for event in events(bus)]
    assert order == sorted(set(order))
    assert len({boot for boot, _ in order}) == 2


async def test_the_fleet_of_the_bus_replaces_that_of_the_file(
    tmp_path: Path, endpoints: list[Endpoint]
) -> None:
    """A newer configuration takes effect in the running prober, and its version is told."""
    bus = recording_bus()
    async with prober(tmp_path, endpoints, bus):
        await until(lambda: all_are(bus, "UP"))
        moved = fleet([target("only", url=endpoints[0].url)], [monitor(interval_s=0.1, timeout_s=0.1)])
        bus.feed(canonical_json(FleetConfig(config_version=7, fleet=moved).model_dump(mode="json")))
        await until(lambda: events(bus)[-1].config_version == 7)
        bus.told.clear()
        await until(lambda: latest(bus).get("only") is not None and latest(bus)["only"].state == "UP")
    assert set(latest(bus)) == {"only"}


async def test_the_admin_listener_tells_how_it_stands(tmp_path: Path, endpoints: list[Endpoint]) -> None:
    """Live always, ready with a fleet, with metrics by target and a status that holds every state."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        admin = f"127.0.0.1:{free.getsockname()[1]}"
    bus = recording_bus()
    async with (
        prober(tmp_path, endpoints, bus, admin_listen=admin),
        aiohttp.ClientSession(f"http://{admin}") as client,
    ):
        await until(lambda: all_are(bus, "UP"))
        assert (await client.get("/livez")).status == 200
        assert (await client.get("/readyz")).status == 200
        metrics = await (await client.get("/metrics")).text()
        status = await (await client.get("/status")).json()
    assert 'leeward_prober_target_up{monitor="http",target="t0"} 1.0' in metrics
    assert status["id"] == "prober-r"
    assert {probe["target"] for probe in status["probes"]} == {"t0", "t1", "t2"}


async def test_without_a_fleet_it_waits_for_one_and_beats(tmp_path: Path) -> None:
    """A prober with nothing but its node file is alive, says so, and is not ready."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        admin = f"127.0.0.1:{free.getsockname()[1]}"
    bus = recording_bus()
    async with (
        prober(tmp_path, [], bus, admin_listen=admin),
        aiohttp.ClientSession(f"http://{admin}") as client,
    ):
        await until(lambda: len(bus.told) >= 2)
        assert (await client.get("/livez")).status == 200
        assert (await client.get("/readyz")).status == 503
    assert {event.kind for event in events(bus)} == {"heartbeat"}


async def test_a_prober_leaves_no_connection(tmp_path: Path, endpoints: list[Endpoint]) -> None:
    """However often it starts and stops, and whatever was under way, its sockets go with it."""
    before = len(psutil.Process().net_connections(kind="all"))
    for _ in range(5):
        bus = recording_bus()
        async with prober(tmp_path, endpoints, bus):
            await until(lambda bus=bus: len(bus.told) >= 2)
    for _ in range(100):
        if len(psutil.Process().net_connections(kind="all")) <= before:
            return
        await asyncio.sleep(0.02)
    pytest.fail("connections are left")


PROCESS = """
import asyncio, json, sys
from pathlib import Path
from shared import log
from shared.vocabulary.node import NodeFile
from prober.app import run
log.configure(role="prober", node="prober-r", region="r")
asyncio.run(run(NodeFile.model_validate(json.loads(Path(sys.argv[1]).read_text())),
                started=lambda: print("started", flush=True)))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_process_with_its_bus_away_starts_and_ends_when_told(tmp_path: Path, number: int) -> None:
    """A dead bus holds up neither the start nor the end of a prober; it ends with status 0."""
    file = {"node": node(tmp_path).model_dump(mode="json")}
    (tmp_path / "node.json").write_text(json.dumps(file))
    process = subprocess.Popen(
        [sys.executable, "-c", PROCESS, str(tmp_path / "node.json")], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        line = await asyncio.wait_for(asyncio.to_thread(process.stdout.readline), 30)
        assert line == "started\n"
        process.send_signal(number)
        assert await asyncio.to_thread(process.wait, 15) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        process.stdout.close()  # type: ignore[union-attr]
