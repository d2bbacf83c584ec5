"""What a bus of the stack holds, and what a stranger may write on it."""

import asyncio
from collections.abc import Callable, Sequence

from aiokafka import AIOKafkaProducer

from shared import topics
from shared.adapters.kafka import KafkaBus
from shared.clock import SystemClock
from shared.ports import Record
from shared.vocabulary.base import sha256_hex
from shared.vocabulary.node import BusAddress

HOST = "127.0.0.1"


def address(port: int) -> BusAddress:
    """A broker of this machine."""
    return BusAddress(
        bootstrap=(f"{HOST}:{port}",), fetch_max_wait_ms=25, replication_factor=1, create_topics=False
    )


def read_bus(
    port: int, names: Sequence[str], *, enough: Callable[[list[Record]], bool] = lambda _: False
) -> list[Record]:
    """Everything on these topics, from the beginning to the end as it was when reading began."""

    async def read() -> list[Record]:
        bus = KafkaBus("here", address(port), client_id="row", clock=SystemClock(), topics=())
        found: list[Record] = []
        try:
            async with asyncio.timeout(15):
                async for batch in bus.consume(names, start="beginning", idle_s=0.2):
                    found += batch.records
                    if batch.caught_up or enough(found):
                        return found
        finally:
            await bus.close()
        return found

    return asyncio.run(read())


def documents_on_bus(port: int) -> set[str]:
    """The hashes of all decision documents there."""
    return {sha256_hex(record.value) for record in read_bus(port, [topics.DECISIONS]) if record.value}


def write_bus(port: int, messages: Sequence[tuple[str, bytes | None, bytes | None]]) -> None:
    """Put (topic, key, value) on a bus, in this order."""

    async def write() -> None:
        bus = KafkaBus("here", address(port), client_id="row", clock=SystemClock(), topics=())
        try:
            for topic, key, value in messages:
                await bus.publish(topic, key=key, value=value, timeout_s=5.0)
        finally:
            await bus.close()

    asyncio.run(write())


def write_large(port: int, messages: Sequence[tuple[str, bytes, bytes]]) -> None:
    """As `write_bus`, of any size that the broker takes: not through our own adapter, which refuses to."""

    async def write() -> None:
        producer = AIOKafkaProducer(bootstrap_servers=f"{HOST}:{port}", max_request_size=64 * 2**20)
        await producer.start()
        try:
            for topic, key, value in messages:
                await producer.send_and_wait(topic, key=key, value=value)
        finally:
            await producer.stop()

    asyncio.run(write())
