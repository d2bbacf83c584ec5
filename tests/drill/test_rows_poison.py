"""Rows 7 and 13 of the fault table, on Apache Kafka where it is at hand and on the embedded broker: what a stranger
may write on a bus, and what a broker may have thrown away before it was read."""

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml
from aiokafka import AIOKafkaProducer, TopicPartition, errors
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.protocol.produce import ProduceRequest
from fault_rows import Rows

from shared import topics
from shared.ports import Bus, Refused, Unavailable
from shared.topics import TOPICS
from shared.vocabulary.health import HealthEvent, ProbeState
from shared.vocabulary.node import NodeFile
from shared.vocabulary.terms import Outcome, Role
from tests.support.brokers import BROKERS, Broker, running
from tests.support.etcd import etcd_cluster
from tests.support.fault_proxy import FaultProxy, Link
from tests.support.processes import HOST, Child, free_ports, temporary_directory, until
from tests.support.replicas import fleet

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

REGIONS = ("east", "west", "south")
MIB = 2**20


@dataclass
class Listening:
    """One control-plane process that reads one broker, through a link, and vantages that say that all is well."""

    broker: Broker
    link: Link
    bus: Bus
    client: httpx2.AsyncClient
    url: str
    said: list[bytes] = field(default_factory=list)
    number: int = 0
    watched: bool = False

    async def view(self) -> dict[str, str]:
        """Verdicts by target; empty while it does not answer."""
        try:
            answer = (await self.client.get(f"{self.url}/v1/health")).json()
        except (httpx2.HTTPError, ValueError):
            return {}
        return {target["id"]: target["verdict"] for target in answer.get("targets", [])}

    async def counter(self, name: str) -> float:
        text = (await self.client.get(f"{self.url}/metrics")).text
        lines = [line for line in text.splitlines() if line.startswith(f"leeward_control_plane_{name}")]
        return sum(float(line.rpartition(" ")[2]) for line in lines)

    async def all_well(self) -> bool:
        view = await self.view()
        return bool(view) and set(view.values()) == {"HEALTHY"}

    async def speak(self) -> None:
        """Every vantage says twice a second that everything is up."""
        while True:
            self.number += 1
            for region in REGIONS:
                said = event(region, self.number)
                self.said.append(said.canonical())
                try:
                    await self.bus.publish(topics.HEALTH, key=said.source.encode(), value=self.said[-1])
                except (Refused, Unavailable):
                    continue
            await asyncio.sleep(0.5)


def event(
    region: str, seq: int, *, boot: int = 2, state: str = "UP", at: datetime | None = None
) -> HealthEvent:
    now = at or datetime.now(UTC)
    up = state == "UP"
    probes = tuple(
        ProbeState(
            target=target.id,
            monitor="http",
            state="UP" if up else "DOWN",
            consecutive_good=9 if up else 0,
            consecutive_bad=0 if up else 9,
            outcome=Outcome.OK if up else Outcome.REFUSED,
            hard=not up,
            latency_ms=1.0,
            latency_ms_p50=1.0,
            latency_ms_p99=1.0,
            probed_at=now,
            changed_at=now,
            interval_s=0.5,
        )
        for target in fleet(REGIONS).targets
    )
    return HealthEvent(
        kind="probe",
        source=f"prober-{region}",
        role=Role.PROBER,
        vantage=region,
        boot=boot,
        seq=seq,
        observed_at=now,
        config_version=1,
        probes=probes,
    )


@asynccontextmanager
async def listening(name: str) -> AsyncIterator[Listening]:
    """It has heard all vantages, and sees everything HEALTHY."""
    if reason := BROKERS[name].why_not():
        pytest.skip(f"{name} is not at hand: {reason}")
    async with AsyncExitStack() as stack:
        broker = await stack.enter_async_context(running(name))
        cluster = await stack.enter_async_context(etcd_cluster())
        proxy = stack.enter_context(FaultProxy())
        directory = stack.enter_context(temporary_directory("poison"))
        link = proxy.open(int(broker.bootstrap.rpartition(":")[2]), rewrite="kafka")
        (port,) = free_ports(1)
        bus = await stack.enter_async_context(broker.bus(TOPICS, client="vantages"))
        child = stack.enter_context(_replica(directory, port, link.port, cluster.address().endpoints))
        client = await stack.enter_async_context(httpx2.AsyncClient(trust_env=False, timeout=5.0))
        listener = Listening(broker, link, bus, client, f"http://{HOST}:{port}")
        speaking = asyncio.create_task(listener.speak())
        try:
            await until(listener.all_well, within_s=90, what=child.last_lines)
            yield listener
        finally:
            speaking.cancel()
            await asyncio.wait([speaking])


def _replica(directory: Path, port: int, bus_port: int, endpoints: Sequence[str]) -> Child:
    bus = {"bootstrap": [f"{HOST}:{bus_port}"], "fetch_max_wait_ms": 25, "replication_factor": 1}
    node = {
        "role": "control-plane",
        "id": "cp",
        "region": "east",
        "state_dir": str(directory),
        "listen": f"{HOST}:{port}",
        "buses": dict.fromkeys(REGIONS, bus),
        "etcd": {"endpoints": list(endpoints)},
    }
    content = {"node": node, "fleet": fleet(REGIONS).model_dump(mode="json", exclude_unset=True)}
    NodeFile.model_validate(content)
    path = directory / "cp.yaml"
    path.write_text(yaml.safe_dump(content))
    argv = [sys.executable, "-m", "ops.cli", "control-plane", "--config", str(path)]
    return Child(argv, log=directory / "cp.log", env=dict(os.environ))


POISON: dict[str, bytes | None] = {
    "garbage": b"\x00\xff{",
    "half a JSON text": b'{"schema_version": 1, "kind": "pro',
    "nested 100,000 deep": b"[" * 100_000,
    "another schema": b'{"schema_version": 99, "kind": "probe"}',
    "another kind": b'{"schema_version": 1, "kind": "surprise"}',
    "nothing in it": None,
    "950 KB": b'"' + b"x" * 950_000 + b'"',
    "an hour ahead": b"",
    "NaN": b"",
}


def poison() -> dict[str, bytes | None]:
    future = event("east", 10**6, state="DOWN", at=datetime.now(UTC) + timedelta(hours=1)).canonical()
    nan = event("east", 10**6, state="DOWN").canonical().replace(b'"latency_ms":1.0', b'"latency_ms":NaN')
    assert b"NaN" in nan
    return POISON | {"an hour ahead": future, "NaN": nan}


@pytest.mark.parametrize("name", [pytest.param("apache", marks=pytest.mark.kafka_apache), "tansu"])
async def test_what_strangers_write_on_a_bus(row: Rows, name: str) -> None:
    """Row 7: refused by the broker or put aside by the reader, which never stops; the view stays as it was."""
    async with listening(name) as at:
        read_before = await at.counter("events_total")
        watching = asyncio.create_task(_watched(at))
        refused = await _what_the_broker_refuses(at)
        put = poison()
        for value in put.values():
            await at.bus.publish(topics.HEALTH, key=b"prober-east", value=value, timeout_s=10.0)
        for region in REGIONS:  # older words than those already heard, late and doubled: all say DOWN
            for boot, seq in ((2, 1), (1, 10**6), (2, 1)):
                stale = event(region, seq, boot=boot, state="DOWN").canonical()
                await at.bus.publish(topics.HEALTH, key=b"x", value=stale, timeout_s=10.0)
        for repeated in at.said[:20]:
            await at.bus.publish(topics.HEALTH, key=b"x", value=repeated, timeout_s=10.0)
        await asyncio.sleep(6.0)
        at.watched = True
        seen, longest_s = await watching
        set_aside = await at.counter("dlq_total")
        letters = await _dead_letters(at, len(put))
        read = await at.counter("events_total") - read_before
    wrong = seen - {"HEALTHY"}
    row(
        7,
        f"poison on {name}: {len(put)} kinds put aside, other verdicts than HEALTHY seen:",
        f"{', '.join(sorted(wrong)) or 'none'}; refused by the broker: {', '.join(refused) or 'nothing'}, "
        f"dead letters {letters}, {read:.0f} good events read, longest pause {longest_s:.1f} s",
        limit="none, never stops",
        wrong=len(wrong),
        longest_pause_s=longest_s,
    )
    assert not wrong
    assert set_aside >= len(put)
    assert letters >= len(put)
    assert longest_s < 5.0, "sources time out after that"


async def _what_the_broker_refuses(at: Listening) -> list[str]:
    """What is too large, packed or damaged; taken by some brokers, which the reader must then survive."""
    refused = []
    try:
        await at.bus.publish(topics.HEALTH, key=b"k", value=bytes(2 * MIB), timeout_s=10.0)
    except Refused:
        refused.append("2 MB")
    producer = AIOKafkaProducer(
        bootstrap_servers=at.broker.bootstrap, compression_type="gzip", max_request_size=128 * MIB
    )
    await producer.start()
    try:
        await producer.send_and_wait(topics.HEALTH, key=b"k", value=bytes(64 * MIB), partition=0)
    except errors.KafkaError:
        refused.append("64 MB zipped")
    try:
        if await _damaged(producer) != 0:
            refused.append("bad CRC")
    except errors.KafkaError:
        refused.append("bad CRC")
    finally:
        await producer.stop()
    return refused


async def _damaged(producer: AIOKafkaProducer) -> int:
    """The broker's answer to a batch whose checksum is wrong."""
    batch = producer.create_batch()
    batch.append(key=b"k", value=b"damaged", timestamp=None)
    batch.close()
    raw = bytearray(batch._build())
    raw[-3] ^= 0xFF
    leader = producer.client.cluster.leader_for_partition(TopicPartition(topics.HEALTH, 0))
    request = ProduceRequest(
        transactional_id=None,
        required_acks=-1,
        timeout=5000,
        topics=[(topics.HEALTH, [(0, bytes(raw))])],
    )
    answer: Any = await producer.client.send(leader, request)
    return int(answer.topics[0][1][0][1])


async def _watched(at: Listening) -> tuple[set[str], float]:
    """Every verdict seen until `at.watched`, and the longest time in which nothing was read, in seconds."""
    seen: set[str] = set()
    longest_s, last, last_at = 0.0, 0.0, time.monotonic()
    while not at.watched:
        seen |= set((await at.view()).values())
        now = await at.counter("events_total")
        if now > last:
            last, last_at = now, time.monotonic()
        longest_s = max(longest_s, time.monotonic() - last_at)
        await asyncio.sleep(0.1)
    return seen, longest_s


async def _dead_letters(at: Listening, expected: int) -> int:
    found = 0
    async with asyncio.timeout(30):
        async for batch in at.bus.consume([topics.DLQ], start="beginning", idle_s=0.5):
            found += len(batch.records)
            if found >= expected and batch.caught_up:
                break
    return found


@pytest.mark.kafka_apache
async def test_messages_are_gone_before_they_were_read(row: Rows) -> None:
    """Row 13: with its offset deleted by retention while it was cut off, a reader says so and goes on."""
    async with listening("apache") as at:
        gaps = await at.counter("bus_gaps_total")
        at.link.set("drop")
        await asyncio.sleep(3.0)
        await _delete_all(at.broker)
        await asyncio.sleep(2.0)
        at.link.heal()
        healed_at = time.monotonic()

        async def noticed() -> bool:
            return await at.counter("bus_gaps_total") > gaps

        await until(noticed, within_s=60, what="the gap is noticed")
        noticed_s = time.monotonic() - healed_at
        await until(at.all_well, within_s=30, what="the view is whole again")
        whole_s = time.monotonic() - healed_at
    row(
        13,
        "offsets out of range (retention) on apache: gap noticed after",
        f"{noticed_s:.1f} s, view whole after {whole_s:.1f} s",
        limit="noticed",
        noticed_s=noticed_s,
        whole_s=whole_s,
    )


async def _delete_all(broker: Broker) -> None:
    """As retention does: everything up to the end of each partition."""
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap)
    await admin.start()
    try:
        partitions = [TopicPartition(topics.HEALTH, number) for number in range(3)]
        await admin.delete_records({each: RecordsToDelete(before_offset=-1) for each in partitions})
    finally:
        await admin.close()
