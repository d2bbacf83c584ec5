"""What `shared.ports.Bus` promises, on every broker at hand and on our own double.

Topics are each test's own, so that one broker serves all; those that break it leave it running.
"""

import asyncio
import itertools
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions
from aiokafka.protocol.produce import ProduceRequest

from shared.ports import Batch, Bus, Record, Refused, Unavailable
from shared.topics import TOPICS, TopicSpec
from tests.support.brokers import Broker

pytest_plugins = ("tests.support.bus_contract",)
pytestmark = pytest.mark.timeout(300)  # a broker's start counts, and a JVM on a busy machine takes its time

PATIENT = 10.0
"""For writes whose deadline is not what is tested: a machine may be busy."""

_names = itertools.count()


def topic(partitions: int = 1, **config: str) -> TopicSpec:
    """A topic that no other test has."""
    named = {key.replace("_", "."): value for key, value in config.items()}
    return TopicSpec(f"contract.{os.getpid()}.{next(_names)}", partitions, named)


class Reading:
    """A `consume` under way, whose batches are looked at one by one."""

    def __init__(self, batches: AsyncIterator[Batch]) -> None:
        self._batches = batches
        self.records: list[Record] = []
        self.caught_up = False
        self.gaps = 0

    @property
    def values(self) -> list[bytes | None]:
        return [record.value for record in self.records]

    async def next(self, within_s: float = 15.0) -> Batch:
        """One more batch. Raises what `consume` raises."""
        async with asyncio.timeout(within_s):
            batch = await anext(self._batches)
        self.records += batch.records
        self.caught_up = batch.caught_up
        self.gaps += batch.gap
        return batch

    async def until(self, count: int, within_s: float = 15.0) -> list[bytes | None]:
        """Read on until there are `count` records."""
        deadline = monotonic() + within_s
        while len(self.records) < count:
            assert monotonic() < deadline, f"{len(self.records)} of {count} records in {within_s} s"
            await self.next(within_s)
        return self.values

    async def quiet(self, for_s: float) -> None:
        """Read on for a while, expecting nothing."""
        deadline, count = monotonic() + for_s, len(self.records)
        while monotonic() < deadline:
            await self.next()
        assert len(self.records) == count, f"unexpected: {self.values[count:]}"


@asynccontextmanager
async def reading(bus: Bus, *topics: TopicSpec, start: str | float = "beginning") -> AsyncIterator[Reading]:
    batches = bus.consume([t.name for t in topics], start=start, idle_s=0.2)  # type: ignore[arg-type]
    try:
        yield Reading(batches)
    finally:
        await batches.aclose()  # type: ignore[attr-defined]


async def publish_until_it_works(bus: Bus, to: TopicSpec, value: bytes, within_s: float = 15.0) -> float:
    """Seconds until a message was taken."""
    began = monotonic()
    while True:
        try:
            await bus.publish(to.name, key=b"k", value=value, timeout_s=2.0)
        except Unavailable:
            assert monotonic() - began < within_s, f"not writable within {within_s} s"
            await asyncio.sleep(0.05)
        else:
            return monotonic() - began


async def damage(bootstrap: str, name: str, partition: int) -> None:
    """Write a batch whose checksum is wrong."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap)
    await producer.start()
    try:
        await producer.partitions_for(name)
        batch = producer.create_batch()
        batch.append(key=b"k", value=b"damaged", timestamp=None)
        batch.close()
        raw = bytearray(batch._build())
        raw[-3] ^= 0xFF
        node = producer.client.cluster.leader_for_partition(TopicPartition(name, partition))
        request = ProduceRequest(
            transactional_id=None, required_acks=-1, timeout=5000, topics=[(name, [(partition, bytes(raw))])]
        )
        answer = await producer.client.send(node, request)
        assert answer.topics[0][1][0][1] == 0, answer
    finally:
        await producer.stop()


async def test_a_message_arrives_whole(broker: Broker) -> None:
    """Key, value, headers and the broker's time arrive as they were sent."""
    t = topic()
    async with broker.bus([t]) as bus, reading(bus, t) as got:
        headers = {"traceparent": b"00-aa", "ce_id": b"\xff\x00"}
        await bus.publish(t.name, key=b"key", value=b'{"a": 1}', headers=headers, timeout_s=PATIENT)
        await got.until(1)
    (record,) = got.records
    assert (record.topic, record.key, record.value) == (t.name, b"key", b'{"a": 1}')
    assert dict(record.headers) == headers
    assert record.timestamp_ms > 1_700_000_000_000


async def test_odd_messages_pass_through(broker: Broker) -> None:
    """Nothing is interpreted: no key, no value, empty, not text, not JSON."""
    t = topic()
    odd = [(None, b"no key"), (b"no value", None), (b"", b""), (b"\xff\xfe", b"\x00\x80{"), (b"k", b"null")]
    async with broker.bus([t]) as bus, reading(bus, t) as got:
        for key, value in odd:
            await bus.publish(t.name, key=key, value=value, timeout_s=PATIENT)
        await got.until(len(odd))
    assert sorted(map(repr, ((record.key, record.value) for record in got.records))) == sorted(map(repr, odd))


async def test_order_holds_for_a_key(broker: Broker) -> None:
    """Messages of one key arrive in the order in which they were sent, whatever the number of partitions."""
    t = topic(3)
    async with broker.bus([t]) as bus, reading(bus, t) as got:
        for number in range(60):
            await bus.publish(t.name, key=b"%d" % (number % 4), value=b"%d" % number, timeout_s=PATIENT)
        await got.until(60)
    for key in range(4):
        mine = [int(record.value or b"") for record in got.records if record.key == b"%d" % key]
        assert mine == list(range(key, 60, 4))


async def test_half_a_megabyte_passes(broker: Broker) -> None:
    """A large config document fits, in each of several messages at once."""
    t = topic()
    large = os.urandom(500_000)
    async with broker.bus([t]) as bus, reading(bus, t) as got:
        await asyncio.gather(*(bus.publish(t.name, key=b"k", value=large, timeout_s=10) for _ in range(3)))
        assert await got.until(3) == [large] * 3


async def test_what_can_never_be_taken_is_refused(broker: Broker) -> None:
    """Too large, or neither key nor value: Refused, and the next message is taken."""
    t = topic()
    async with broker.bus([t]) as bus:
        with pytest.raises(Refused):
            await bus.publish(t.name, key=b"k", value=bytes(2_000_000), timeout_s=PATIENT)
        with pytest.raises(Refused):
            await bus.publish(t.name, key=None, value=None, timeout_s=PATIENT)
        await bus.publish(t.name, key=b"k", value=b"v", timeout_s=PATIENT)
        assert bus.reachable


async def test_many_writes_at_once_all_arrive(broker: Broker) -> None:
    """Concurrent writes are batched, not lost."""
    t = topic(3)
    async with broker.bus([t]) as bus, reading(bus, t) as got:
        await asyncio.gather(
            *(bus.publish(t.name, key=b"%d" % n, value=b"%d" % n, timeout_s=PATIENT) for n in range(500))
        )
        await got.until(500)
    assert {int(value or b"") for value in got.values} == set(range(500))


async def test_start_at_the_end_shows_only_what_comes_later(broker: Broker) -> None:
    """`end` skips what is there."""
    t = topic()
    async with broker.bus([t]) as bus:
        await bus.publish(t.name, key=b"k", value=b"before", timeout_s=PATIENT)
        async with reading(bus, t, start="end") as got:
            await got.next()
            assert got.caught_up
            await bus.publish(t.name, key=b"k", value=b"after", timeout_s=PATIENT)
            assert await got.until(1) == [b"after"]


@pytest.mark.needs("times")
async def test_start_some_seconds_ago_shows_what_is_younger(broker: Broker) -> None:
    """A number of seconds begins there; where nothing is younger, at the end."""
    old, both = topic(), topic()
    async with broker.bus([old, both]) as bus:
        await bus.publish(old.name, key=b"k", value=b"old", timeout_s=PATIENT)
        await bus.publish(both.name, key=b"k", value=b"old", timeout_s=PATIENT)
        await asyncio.sleep(1.6)
        await bus.publish(both.name, key=b"k", value=b"young", timeout_s=PATIENT)
        async with reading(bus, old, both, start=0.8) as got:
            assert await got.until(1) == [b"young"]
            await got.quiet(0.5)
        async with reading(bus, old, both, start=3600.0) as got:
            assert sorted(v or b"" for v in await got.until(3)) == [b"old", b"old", b"young"]


async def test_caught_up_means_the_end_as_it_was_at_first(broker: Broker) -> None:
    """Not before everything that was there has been read; at once where there is nothing."""
    full, void = topic(3), topic(3)
    async with broker.bus([full, void]) as bus:
        for number in range(30):
            await bus.publish(full.name, key=b"%d" % number, value=b"%d" % number, timeout_s=PATIENT)
        async with reading(bus, full, void) as got:
            while not got.caught_up:
                await got.next()
            assert len(got.records) == 30
        async with reading(bus, void) as got:
            assert (await got.next()).caught_up


async def test_silence_is_punctuated(broker: Broker) -> None:
    """While the broker answers there is a batch every `idle_s`, empty if need be."""
    t = topic()
    async with broker.bus([t]) as bus, reading(bus, t) as got:
        await got.next()
        began = monotonic()
        for _ in range(4):
            assert (await got.next()).records == ()
        assert monotonic() - began < 4 * 0.2 + 1.0


async def test_every_reader_gets_everything(broker: Broker) -> None:
    """There are no groups: two readers share nothing."""
    t = topic()
    async with (
        broker.bus([t], client="a") as one,
        broker.bus([t], client="b") as two,
        reading(one, t) as first,
        reading(two, t) as second,
    ):
        await one.publish(t.name, key=b"k", value=b"1", timeout_s=PATIENT)
        await two.publish(t.name, key=b"k", value=b"2", timeout_s=PATIENT)
        assert await first.until(2) == await second.until(2) == [b"1", b"2"]


@pytest.mark.needs("create")
async def test_topics_are_made_as_specified(broker: Broker) -> None:
    """Missing topics are created with their partitions by whoever comes first, and coming second is no error."""
    t = topic(3, retention_ms="600000")
    async with broker.bus([t], client="a") as one, broker.bus([t], client="b") as two:
        first = {b"0": one, b"1": two}  # their keys go to different partitions: see the next test
        await asyncio.gather(
            *(bus.publish(t.name, key=key, value=b"v", timeout_s=PATIENT) for key, bus in first.items())
        )
        async with reading(one, t) as got:
            for number in range(40):
                await one.publish(t.name, key=b"%d" % number, value=b"v", timeout_s=PATIENT)
            await got.until(42)
    assert {record.partition for record in got.records} == {0, 1, 2}
    assert len({record.partition for record in got.records if record.offset == 0}) == 3


@pytest.mark.needs("create", "first")
async def test_two_first_writers_of_a_partition_are_both_kept(broker: Broker) -> None:
    """Neither of two messages that meet in an empty partition is lost."""
    for _ in range(20):
        t = topic()
        async with broker.bus([t], client="a") as one, broker.bus([t], client="b") as two:
            await asyncio.gather(
                *(bus.publish(t.name, key=b"k", value=b"v", timeout_s=PATIENT) for bus in (one, two))
            )
            async with reading(one, t) as got:
                await got.until(2)


@pytest.mark.needs("create")
async def test_our_own_topics_can_be_made(broker: Broker) -> None:
    """Every topic of the contract is accepted as it is specified, and can be written."""
    async with broker.bus(TOPICS) as bus:
        for spec in TOPICS:
            await bus.publish(spec.name, key=b"k", value=b"v", timeout_s=PATIENT)
        async with reading(bus, *TOPICS, start=60.0) as got:
            await got.until(len(TOPICS))


@pytest.mark.needs("restart", "empty")
async def test_a_broker_that_comes_back_empty_is_noticed(broker: Broker) -> None:
    """Writes fail in time and work again soon after; a reader reports the gap and goes on with what is new."""
    t = topic(2)
    async with broker.bus([t]) as bus, reading(bus, t) as got:
        for number in range(10):
            await bus.publish(t.name, key=b"%d" % number, value=b"old", timeout_s=PATIENT)
        await got.until(10)
        await broker.kill()
        began = monotonic()
        with pytest.raises(Unavailable):
            await bus.publish(t.name, key=b"k", value=b"lost", timeout_s=1.0)
        assert monotonic() - began < 1.5
        assert not bus.reachable
        await broker.restart(empty=True)
        assert await publish_until_it_works(bus, t, b"new") < 6.0
        assert bus.reachable
        while got.values.count(b"new") == 0:
            await got.next()
        assert got.gaps >= 1
        await publish_until_it_works(bus, t, b"newer")
        while b"newer" not in got.values:
            await got.next()


@pytest.mark.needs("restart", "empty", "quick")
async def test_another_log_is_not_taken_for_the_old_one(broker: Broker) -> None:
    """A broker that came back empty and was filled beyond the reader's offset is noticed as well."""
    t = topic()
    async with broker.bus([t]) as bus, broker.bus([t], client="b") as other, reading(bus, t) as got:
        for _ in range(3):
            await bus.publish(t.name, key=b"k", value=b"old", timeout_s=PATIENT)
        await got.until(3)
        await broker.kill()
        await broker.restart(empty=True)
        await publish_until_it_works(other, t, b"0")
        for number in range(1, 8):
            await publish_until_it_works(other, t, b"%d" % number)
        while b"7" not in got.values:
            await got.next()
        assert got.gaps >= 1
        assert got.values[3:] == [b"%d" % number for number in range(8)]


@pytest.mark.slow
@pytest.mark.needs("restart", "keep")
async def test_a_broker_that_kept_its_log_leaves_no_trace(broker: Broker) -> None:
    """After a restart with its data nothing is missing, nothing comes twice, and there is no gap."""
    t = topic()
    async with broker.bus([t]) as bus, reading(bus, t) as got:
        for number in range(5):
            await bus.publish(t.name, key=b"k", value=b"%d" % number, timeout_s=PATIENT)
        await got.until(5)
        await broker.kill()
        await broker.restart(empty=False)
        await publish_until_it_works(bus, t, b"5", within_s=30)
        assert await got.until(6, within_s=30) == [b"%d" % number for number in range(6)]
        assert got.gaps == 0


@pytest.mark.needs("damage")
async def test_a_record_that_cannot_be_read_is_skipped(broker: Broker) -> None:
    """Damaged bytes in the log cost themselves only: what stands before and after them arrives, once."""
    t = topic()
    async with broker.bus([t]) as bus, reading(bus, t, start="end") as got:
        await got.next()
        await bus.publish(t.name, key=b"k", value=b"before", timeout_s=PATIENT)
        await got.until(1)
        partition = got.records[0].partition
        await damage(broker.bootstrap, t.name, partition)
        await bus.publish(t.name, key=b"k", value=b"after", timeout_s=PATIENT)
        assert await got.until(2, within_s=30) == [b"before", b"after"]
        await got.quiet(0.5)
        assert getattr(bus, "skipped", 1) == 1


@pytest.mark.needs("pause")
async def test_a_silent_broker_is_survived(broker: Broker) -> None:
    """A broker that hangs costs a write its deadline; when it answers again all is as before, without a gap."""
    t = topic()
    async with broker.bus([t]) as bus, reading(bus, t) as got:
        await bus.publish(t.name, key=b"k", value=b"before", timeout_s=PATIENT)
        await got.until(1)
        broker.pause()
        try:
            began = monotonic()
            with pytest.raises(Unavailable):
                await bus.publish(t.name, key=b"k", value=b"into the void", timeout_s=0.7)
            assert monotonic() - began < 1.2
        finally:
            broker.resume()
        await publish_until_it_works(bus, t, b"after")
        while b"after" not in got.values:
            await got.next()
        assert got.gaps == 0
        assert got.values[0] == b"before"
        assert got.values.count(b"before") == 1


@pytest.mark.needs("pause")
async def test_a_bus_is_closed_even_when_its_broker_hangs(broker: Broker) -> None:
    """`close` takes at most 5 s, with a write and a reading under way."""
    t = topic()
    try:
        async with broker.bus([t]) as bus:
            async with reading(bus, t) as got:
                await bus.publish(t.name, key=b"k", value=b"v", timeout_s=PATIENT)
                await got.until(1)
                broker.pause()
                with pytest.raises(Unavailable):
                    await bus.publish(t.name, key=b"k", value=b"v", timeout_s=0.3)
                began = monotonic()
            await bus.close()
            assert monotonic() - began < 5.0
    finally:
        broker.resume()


@pytest.mark.needs("restart", "empty", "quick")
async def test_a_reader_gives_up_after_ten_seconds_and_continues_later(broker: Broker) -> None:
    """Unavailable after 10 s without an answer; the next `consume` still knows where it was, and reports the gap."""
    t = topic()
    async with broker.bus([t]) as bus:
        async with reading(bus, t) as got:
            await bus.publish(t.name, key=b"k", value=b"old", timeout_s=PATIENT)
            await got.until(1)
            await broker.kill()
            began = monotonic()
            with pytest.raises(Unavailable):
                await got.until(2, within_s=20)
            assert 8.0 < monotonic() - began < 15.0
        await broker.restart(empty=True)
        async with reading(bus, t, start="end") as got:
            await got.next()
            await publish_until_it_works(bus, t, b"new")
            while b"new" not in got.values:
                await got.next()
            assert got.gaps >= 1


@pytest.mark.slow
@pytest.mark.needs("partitions")
async def test_added_partitions_are_read_too(broker: Broker) -> None:
    """Partitions that appear later are read from their beginning, within half a minute."""
    t = topic()
    async with broker.bus([t]) as bus, reading(bus, t) as got:
        await bus.publish(t.name, key=b"k", value=b"v", timeout_s=PATIENT)
        await got.until(1)
        admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap)
        await admin.start()
        await admin.create_partitions({t.name: NewPartitions(total_count=3)})
        await admin.close()
        async with broker.bus([t], client="b") as other:
            for number in range(30):
                await other.publish(t.name, key=b"%d" % number, value=b"later", timeout_s=PATIENT)
        await got.until(31, within_s=40)
        assert got.gaps == 0
