"""One region's Kafka cluster as `shared.ports.Bus`, over aiokafka.

Writing goes through one producer that is made when it is first needed and made anew whenever it has
lost its connection: a broker may come back empty, and then its topics must be made again first.
Reading is `kafka_consume`; clients come and go in `kafka_connect`.
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing

from aiokafka import AIOKafkaProducer, errors

from shared.adapters.kafka_connect import Connector, LastWords, Links, listen_to_aiokafka, translate
from shared.adapters.kafka_consume import Cursors, Reader, Start
from shared.clock import Clock
from shared.log import get_logger
from shared.ports import Batch, PortError, Refused, Unavailable
from shared.supervise import Supervisor
from shared.topics import TOPICS, TopicSpec
from shared.vocabulary.node import BusAddress

log = get_logger(__name__)

RECONNECT_S = 0.25
"""At most one attempt to connect the producer in this time, however many want to write."""
MAX_UNDER_WAY = 10_000
"""Writes not yet acknowledged; more are turned away at once."""


class KafkaBus:
    """`shared.ports.Bus`. Must be made inside the event loop that uses it; `close` it in the end.

    A `consume` that ended in Unavailable is continued where it stood by the next one of the same
    topics, so that a gap is noticed across any outage.
    """

    def __init__(
        self,
        region: str,
        address: BusAddress,
        *,
        client_id: str,
        clock: Clock,
        topics: Sequence[TopicSpec] = TOPICS,
    ) -> None:
        self.region = region
        self._clock = clock
        self._own = Supervisor()
        self._connector = Connector(address, client_id=client_id, topics=topics, supervisor=self._own)
        self._state_topics = frozenset(
            t.name for t in topics if "compact" in t.config.get("cleanup.policy", "")
        )
        self._words: LastWords = listen_to_aiokafka()
        self._producer: AIOKafkaProducer | None = None
        self._links: Links | None = None
        self._connecting: asyncio.Task[PortError | None] | None = None
        self._connect_at = 0.0
        self._written_at = -1.0
        self._under_way = 0
        self._interrupted: dict[tuple[str, ...], Cursors] = {}
        self._reachable: bool | None = None
        self._closed = False
        self.skipped = 0

    @property
    def reachable(self) -> bool:
        """Whether the last exchange with it succeeded."""
        return self._reachable is True

    async def publish(
        self,
        topic: str,
        *,
        key: bytes | None,
        value: bytes | None,
        headers: Mapping[str, bytes] | None = None,
        timeout_s: float = 2.0,
    ) -> None:
        """As `Bus.publish`; with the broker away it fails after a quarter second or `timeout_s`."""
        if key is None and value is None:
            raise Refused("a message needs a key or a value")
        if self._under_way >= MAX_UNDER_WAY:
            raise Unavailable(f"{MAX_UNDER_WAY} writes are waiting already")
        began = self._clock.monotonic()
        producer: AIOKafkaProducer | None = None
        self._under_way += 1
        try:
            async with asyncio.timeout(timeout_s):
                producer = await self._connected()
                acknowledged = await producer.send(
                    topic, key=key, value=value, headers=list((headers or {}).items())
                )
                await acknowledged
        except (errors.KafkaError, OSError, TimeoutError) as error:
            raise self._failed(producer, error, began) from error
        except PortError as error:
            self._note(error)
            raise
        finally:
            self._under_way -= 1
        self._written_at = self._clock.monotonic()
        self._note(None)

    async def consume(
        self, topics: Sequence[str], *, start: Start, idle_s: float = 1.0
    ) -> AsyncGenerator[Batch, None]:
        """As `Bus.consume`. Compacted topics are read again from their beginning after every break of
        the connection, with or without a gap."""
        names = tuple(topics)
        reader = Reader(
            self._connector,
            names,
            start=start,
            idle_s=idle_s,
            clock=self._clock,
            state_topics=self._state_topics,
            cursors=self._interrupted.pop(names, None),
        )
        counted = 0
        try:
            async with aclosing(reader.batches()) as batches:
                async for batch in batches:
                    self._note(None)
                    self.skipped, counted = self.skipped + reader.skipped - counted, reader.skipped
                    yield batch
        except Unavailable as error:
            self._note(error)
            if reader.cursors:
                self._interrupted[names] = reader.cursors
            raise

    async def close(self) -> None:
        """Release everything, within 5 s, reachable or not."""
        self._closed = True
        await self._connector.close()
        await self._own.stop()

    # ------------------------------------------------------------ the producer

    async def _connected(self) -> AIOKafkaProducer:
        """A producer with a live connection. Raises PortError."""
        if self._closed:
            raise Unavailable("the bus was closed")
        if self._links is not None and self._links.broken():
            self._discard()
        if self._producer is None:
            if self._connecting is None or self._connecting.done():
                self._connecting = self._own.spawn(f"bus {self.region} connect", self._connect())
            await asyncio.wait([self._connecting])
            error = Unavailable("closed") if self._connecting.cancelled() else self._connecting.result()
            if error is not None:
                raise error
        if self._producer is None:
            raise Unavailable("connection lost")
        return self._producer

    async def _connect(self) -> PortError | None:
        """Its outcome is for everyone who waits, so an error is returned, not raised."""
        await asyncio.sleep(max(0.0, self._connect_at - self._clock.monotonic()))
        self._connect_at = self._clock.monotonic() + RECONNECT_S
        try:
            producer = await self._connector.producer()
        except PortError as error:
            return error
        try:
            await self._connector.ensure_topics()
        except PortError as error:
            await self._connector.stop(producer)
            return error
        self._producer, self._links = producer, Links(producer.client)
        return None

    def _failed(self, producer: AIOKafkaProducer | None, error: Exception, began: float) -> PortError:
        """What `error` means; a producer that has achieved nothing since `began` is replaced."""
        meaning = translate(error)
        if isinstance(meaning, Unavailable):
            if producer is not None and producer is self._producer and self._written_at < began:
                self._discard()
            self._note(meaning)
        return meaning

    def _discard(self) -> None:
        producer, self._producer, self._links = self._producer, None, None
        if producer is not None:
            self._own.spawn(f"bus {self.region} discard", self._connector.stop(producer))

    def _note(self, error: PortError | None) -> None:
        """Keep `reachable`, and say when it changes."""
        if (error is None) is self._reachable:
            return
        self._reachable = error is None
        if error is None:
            log.info("bus reachable", bus=self.region)
        else:
            log.warning("bus not reachable", bus=self.region, error=str(error), detail=self._words.said)
