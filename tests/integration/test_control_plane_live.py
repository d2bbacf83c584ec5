"""Replicas over real etcd, a real Kafka protocol and real sockets: what the doubles cannot show."""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from control_plane import app
from shared import topics
from shared.adapters.etcd import EtcdStore
from shared.adapters.kafka import KafkaBus
from shared.clock import SystemClock
from shared.telemetry import NoTelemetry
from shared.vocabulary.base import Version
from shared.vocabulary.decision import Beat
from shared.vocabulary.node import EtcdAddress, Node, NodeFile
from tests.support.brokers import Broker, running
from tests.support.etcd import etcd_cluster
from tests.support.processes import HOST, free_ports, until
from tests.support.replicas import fleet


@dataclass
class Live:
    """One replica in this process, behind a real socket."""

    name: str
    port: int
    stop: asyncio.Event
    task: "asyncio.Task[None]"
    client: httpx2.AsyncClient

    async def get(self, path: str) -> Any:
        """The JSON there; None while it does not answer."""
        try:
            answer = await self.client.get(f"http://{HOST}:{self.port}{path}")
        except httpx2.HTTPError:
            return None
        return answer.json() if answer.is_success else None

    async def leads(self) -> bool:
        return ((await self.get("/v1/leader")) or {}).get("role") == "leader"

    async def version(self) -> Version:
        return Version.parse((await self.get("/v1/decisions/current"))["version"])


@asynccontextmanager
async def live(name: str, broker: Broker, etcd: EtcdAddress) -> AsyncIterator[Live]:
    """A replica that follows one bus and `etcd`; ends gracefully."""
    (port,) = free_ports(1)
    address = {
        "bootstrap": [broker.bootstrap],
        "fetch_max_wait_ms": broker.fetch_max_wait_ms,
        "replication_factor": 1,
    }
    node = Node.model_validate(
        {
            "role": "control-plane",
            "id": name,
            "region": "east",
            "state_dir": "/nowhere",
            "listen": f"{HOST}:{port}",
            "buses": {"east": address},
            "etcd": etcd.model_dump(),
            "timings": {"lease_ttl_s": 2, "beat_s": 0.5, "etcd_beat_s": 1.0},
        }
    )
    clock, stop, started = SystemClock(), asyncio.Event(), asyncio.Event()
    async with AsyncExitStack() as stack:
        store = EtcdStore(etcd, clock=clock)
        stack.push_async_callback(store.close)
        bus = KafkaBus("east", node.buses["east"], client_id=name, clock=clock)
        stack.push_async_callback(bus.close)
        client = await stack.enter_async_context(httpx2.AsyncClient(trust_env=False, timeout=3))
        serving = app.serve(
            NodeFile(node=node, fleet=fleet(("east",))),
            buses={"east": bus},
            store=store,
            clock=clock,
            rng=random.Random(name),
            telemetry=NoTelemetry(),
            stop=stop,
            started=started.set,
        )
        task = asyncio.create_task(serving)
        try:
            async with asyncio.timeout(10):
                await started.wait()
            yield Live(name, port, stop, task, client)
        finally:
            stop.set()
            async with asyncio.timeout(15):
                await task


async def messages(broker: Broker, topic: str, enough: Callable[[list[bytes]], bool]) -> list[bytes]:
    """Values on a topic, from its beginning, until there are enough."""
    found: list[bytes] = []
    async with broker.bus(client="reader") as bus, asyncio.timeout(20):
        async for batch in bus.consume([topic], start="beginning"):
            found += [record.value for record in batch.records if record.value is not None]
            if enough(found):
                break
    return found


@pytest.mark.timeout(90)
async def test_two_replicas_on_real_etcd_and_kafka() -> None:
    """They elect, decide, publish and stream; a resigned leader is followed within a second; a bus that
    lost its memory is given everything again; an etcd member's death changes nothing."""
    async with (
        etcd_cluster() as cluster,
        running("tansu") as broker,
        live("cp-one", broker, cluster.address()) as one,
        live("cp-two", broker, cluster.address()) as two,
    ):
        await until(lambda: decided(one), within_s=15, what="a first decision")
        await until(lambda: decided(two), within_s=5, what="both see it")
        leader, other = (one, two) if await one.leads() else (two, one)
        (document,) = await messages(broker, topics.DECISIONS, lambda found: len(found) >= 1)
        assert json.loads(document)["route"] == "chat"

        async with other.client.stream("GET", f"http://{HOST}:{other.port}/v1/stream") as stream:
            events = []
            async for line in stream.aiter_lines():
                if line.startswith("event: "):
                    events.append(line.removeprefix("event: "))
                if "beat" in events:
                    break
        assert events == ["hello", "config", "decision", "head", "beat"]

        await broker.kill()
        await broker.restart(empty=True)
        found = await messages(broker, topics.DECISIONS, lambda found: len(found) >= 1)
        assert found[0] == document
        assert await messages(broker, topics.CONFIG, lambda found: len(found) >= 1)
        assert await messages(broker, topics.BEATS, lambda found: len(found) >= 2)

        cluster.members[2].stop()
        await asyncio.sleep(3)  # it may have been etcd's leader: the others elect one,
        # which takes longer than the short lease of this test, so that leading may have ended or moved.

        async def one_leads() -> bool:
            return await one.leads() or await two.leads()

        await until(one_leads, within_s=15, what="somebody leads again")
        leader, other = (one, two) if await one.leads() else (two, one)
        clock = SystemClock()
        began = clock.monotonic()
        leader.stop.set()
        await until(other.leads, within_s=3, what="the other leads")
        took_s = clock.monotonic() - began
        assert took_s < 1.0
        beats = await messages(
            broker, topics.BEATS, lambda found: Beat.model_validate_json(found[-1]).holder == other.name
        )
        assert await other.version() == Version(1, 1)
        orders = [Beat.model_validate_json(beat).order for beat in beats]
        assert orders == sorted(orders)


async def decided(replica: Live) -> bool:
    """Whether it holds a head."""
    current = await replica.get("/v1/decisions/current")
    return current is not None and current["head"] is not None


@pytest.mark.timeout(60)
async def test_a_taken_port_is_named(tmp_path: Path) -> None:
    """The process cannot start, and says where it could not listen."""
    (port,) = free_ports(1)
    blocker = await asyncio.start_server(lambda _r, _w: None, HOST, port)
    node = Node.model_validate(
        {
            "role": "control-plane",
            "id": "cp",
            "region": "east",
            "state_dir": str(tmp_path),
            "listen": f"{HOST}:{port}",
            "buses": {"east": f"{HOST}:1"},
            "etcd": {"endpoints": [f"{HOST}:1"]},
        }
    )
    async with blocker:
        with pytest.raises(OSError, match=f"cannot listen on {HOST}:{port}"):
            await app.run(NodeFile(node=node))
    exposed = node.model_copy(update={"listen": f"0.0.0.0:{port}"})
    with pytest.raises(PermissionError, match="LEEWARD_INSECURE_LISTEN"):
        await app.run(NodeFile(node=exposed))
