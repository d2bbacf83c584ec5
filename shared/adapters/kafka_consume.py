"""Reading topics without a group, for ever, whatever happens to the broker.

What can go wrong and is noticed: the connection breaks (`Links`); the broker comes back empty, or with
another log (`Cursor`); offsets were deleted; partitions were added; the client stops fetching without
an error (aio-libs/aiokafka#1154: the check every `CHECK_S` sees records that do not arrive); a record
cannot be decoded (aio-libs/aiokafka#321: it is skipped and counted). Everything but the last ends in
the same way: open a new consumer, compare positions with the log, go on.
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Literal

from aiokafka import AIOKafkaConsumer, TopicPartition, errors

from shared.adapters.cursor import Cursor
from shared.adapters.kafka_connect import Connector, Links, translate
from shared.backoff import Backoff
from shared.clock import Clock
from shared.log import get_logger
from shared.ports import Batch, PortError, Record, Refused, Unavailable

log = get_logger(__name__)

SILENCE_S = 10.0
"""Without an answer for longer, `consume` gives up (the port's promise)."""
CHECK_S = 5.0
OPEN_S = 6.0
MAX_RECORDS = 2_000
"""In one Batch."""
CAREFUL_S = 2.0
"""How long records are taken one at a time after one could not be decoded."""

Start = Literal["beginning", "end"] | float
Cursors = dict[TopicPartition, Cursor]


class Reopen(Exception):
    """This consumer is of no more use; a new one may be. The text says why."""


class Reader:
    """One reading of `topics`; `cursors` of an interrupted one continue it.

    `state_topics` (compacted) are read from their beginning on every new connection: they are small,
    and compaction removes the records by which a log could be recognised. `skipped` counts records
    that could not be decoded.
    """

    def __init__(
        self,
        connector: Connector,
        topics: Sequence[str],
        *,
        start: Start,
        idle_s: float,
        clock: Clock,
        state_topics: frozenset[str],
        cursors: Cursors | None,
    ) -> None:
        self._connector = connector
        self._topics = tuple(topics)
        self._start = start
        self._since_ms: int | None = None
        self._idle_s = idle_s
        self._poll_s = min(0.5, idle_s / 2)
        self._clock = clock
        self._state_topics = state_topics
        self._resumed = cursors is not None
        self.cursors: Cursors = cursors or {}
        self.skipped = 0
        self._answered = clock.monotonic()
        self._caught_up = False
        self._gap = False
        self._careful_until = 0.0
        self._polled_at: Mapping[TopicPartition, int | None] = {}
        self._stuck: dict[TopicPartition, int] = {}

    async def batches(self) -> AsyncGenerator[Batch, None]:
        """As `Bus.consume`. Raises Unavailable after `SILENCE_S` without an answer, Refused."""
        backoff = Backoff(cap_s=1.0)
        self._answered = self._clock.monotonic()
        while True:
            consumer: AIOKafkaConsumer | None = None
            try:
                consumer = await self._open()
                backoff.reset()
                async with aclosing(self._read(consumer)) as reading:
                    async for batch in reading:
                        yield batch
            except (Reopen, Unavailable) as reason:
                log.debug("bus consumer will be opened again", topics=self._topics, reason=str(reason))
                if self._clock.monotonic() - self._answered > SILENCE_S:
                    raise Unavailable(f"no answer for {SILENCE_S:.0f} s: {reason}") from reason
            finally:
                if consumer is not None:
                    await self._connector.stop(consumer)
            await asyncio.sleep(backoff.next())

    # ------------------------------------------------------------ opening

    async def _open(self) -> AIOKafkaConsumer:
        """A consumer that stands at the cursors. Raises Unavailable, Refused."""
        consumer = self._connector.consumer()
        await self._connector.start(consumer)
        try:
            await self._connector.ensure_topics()
            async with asyncio.timeout(OPEN_S):
                await self._place(consumer, await self._partitions(consumer))
        except BaseException as error:
            await self._connector.stop(consumer)
            if isinstance(error, (errors.KafkaError, OSError, TimeoutError)):
                raise translate(error) from error
            raise
        self._answered = self._clock.monotonic()
        return consumer

    async def _partitions(self, consumer: AIOKafkaConsumer) -> list[TopicPartition]:
        """All partitions of all topics; one that was just created may take a moment to be seen.

        Raises Unavailable when there is none at all.
        """
        deadline = self._clock.monotonic() + OPEN_S / 2
        while True:
            await consumer._client.set_topics(self._topics)
            found = _assignable(consumer, self._topics)
            missing = set(self._topics) - {partition.topic for partition in found}
            if not missing:
                return found
            if self._clock.monotonic() > deadline:
                break
            await consumer._client.force_metadata_update()
            await asyncio.sleep(0.1)
        if not found:
            raise Unavailable(f"none of the topics {self._topics} exists")
        return found

    async def _place(self, consumer: AIOKafkaConsumer, partitions: list[TopicPartition]) -> None:
        """Settle every cursor against the log as it is now, and seek there."""
        beginnings = await consumer.beginning_offsets(partitions)
        ends = await consumer.end_offsets(partitions)
        added = [partition for partition in partitions if partition not in self.cursors]
        known = [partition for partition in partitions if partition in self.cursors]
        for partition in set(self.cursors) - set(partitions):
            del self.cursors[partition]
            self._gap = True
        for partition in known:
            again = partition.topic in self._state_topics
            if self.cursors[partition].resume(beginnings[partition], ends[partition], again=again):
                self._gap, self._since_ms = True, None
                log.warning("records of the bus were lost, or it came back empty", partition=partition)
        if known or self._resumed:  # what appears later is new in all its length
            self.cursors |= {p: Cursor(beginnings[p], goal=beginnings[p]) for p in added}
        else:
            starts = await self._starts(consumer, added, beginnings, ends)
            self.cursors |= {p: Cursor(starts[p], goal=ends[p]) for p in added}
        # No await between these: aiokafka must not find a partition without a position.
        consumer.assign(partitions)
        for partition in partitions:
            consumer.seek(partition, self.cursors[partition].seek_to)
        consumer._client.set_topics(self._topics)  # also those that do not exist yet

    async def _starts(
        self,
        consumer: AIOKafkaConsumer,
        partitions: list[TopicPartition],
        beginnings: Mapping[TopicPartition, int],
        ends: Mapping[TopicPartition, int],
    ) -> Mapping[TopicPartition, int]:
        if self._start == "beginning":
            return beginnings
        if self._start == "end":
            return ends
        self._since_ms = int((self._clock.now().timestamp() - self._start) * 1000)
        found = await consumer.offsets_for_times(dict.fromkeys(partitions, self._since_ms))
        return {p: at.offset if (at := found.get(p)) is not None else ends[p] for p in partitions}

    # ------------------------------------------------------------ reading

    async def _read(self, consumer: AIOKafkaConsumer) -> AsyncGenerator[Batch, None]:
        """Yield from one consumer until it is of no more use: raises Reopen."""
        links = Links(consumer._client)
        links.broken()
        yielded_at = self._clock.monotonic()
        check_at = yielded_at + CHECK_S
        while True:
            fetched = await self._poll(consumer)
            if links.broken():
                raise Reopen("connection lost")
            records = self._take(fetched)
            await self._follow(consumer)
            now = self._clock.monotonic()
            if self._heard(consumer) or records:
                self._answered = now
            elif now - self._answered > SILENCE_S:
                raise Reopen("no answer to any fetch")
            if now >= check_at:
                await self._check(consumer)
                check_at = now + CHECK_S
            caught_up = self._caught_up or all(cursor.caught_up for cursor in self.cursors.values())
            news = records or self._gap or caught_up != self._caught_up
            idle = now - yielded_at >= self._idle_s - self._poll_s and now - self._answered < 2.0
            if news or idle:
                gap, self._gap, self._caught_up, yielded_at = self._gap, False, caught_up, now
                yield Batch(tuple(records), caught_up, gap)
                # The time that our user took says nothing about the broker.
                self._answered += self._clock.monotonic() - now

    async def _poll(self, consumer: AIOKafkaConsumer) -> Mapping[TopicPartition, list[Record]]:
        try:
            if self._clock.monotonic() < self._careful_until:
                return await self._poll_carefully(consumer)
            got = await consumer.getmany(timeout_ms=int(self._poll_s * 1000), max_records=MAX_RECORDS)
            return {partition: _records(partition, raw) for partition, raw in got.items()}
        except errors.OffsetOutOfRangeError as error:
            raise Reopen("offset out of range") from error
        except errors.TopicAuthorizationFailedError as error:
            raise Refused(str(error)) from error
        except errors.ConsumerStoppedError as error:
            raise Unavailable("the bus was closed") from error
        except PortError:
            raise
        except Exception as error:  # noqa: BLE001  (whatever a decoder makes of bytes that it cannot read)
            log.warning("record cannot be decoded, reading one at a time", error=repr(error))
            self._careful_until = self._clock.monotonic() + CAREFUL_S
            for partition, cursor in self.cursors.items():  # aiokafka has dropped what it had decoded before
                consumer.seek(partition, cursor.seek_to)
            return {}

    async def _poll_carefully(self, consumer: AIOKafkaConsumer) -> Mapping[TopicPartition, list[Record]]:
        """One record of each partition; what cannot be decoded by itself is skipped."""
        fetched: dict[TopicPartition, list[Record]] = {}
        for partition, cursor in self.cursors.items():
            try:
                got = await consumer.getmany(partition, timeout_ms=0, max_records=1)
            except errors.OffsetOutOfRangeError:
                raise
            except Exception as error:  # noqa: BLE001  (as in _poll)
                cursor.skip()
                self.skipped += 1
                log.warning("record skipped", partition=partition, offset=cursor.position, error=repr(error))
                consumer.seek(partition, cursor.position)
                self._careful_until = self._clock.monotonic() + CAREFUL_S
            else:
                fetched |= {p: _records(p, raw) for p, raw in got.items()}
        if not fetched:
            await asyncio.sleep(0.01)
        return fetched

    def _take(self, fetched: Mapping[TopicPartition, list[Record]]) -> list[Record]:
        """The new records. Raises Reopen, with nothing taken, when a log is not the one that was known."""
        foreign = [p for p, records in fetched.items() if not self.cursors[p].recognises(records)]
        if foreign:
            for partition in foreign:
                self.cursors[partition].forsake()
            raise Reopen(f"another log in {foreign}")
        taken = ((self.cursors[p], self.cursors[p].take(records)) for p, records in fetched.items())
        return [record for cursor, records in taken for record in records if self._wanted(record, cursor)]

    def _wanted(self, record: Record, cursor: Cursor) -> bool:
        """Whether it is young enough: the embedded broker looks times up only roughly."""
        was_there = record.offset < cursor.goal
        return self._since_ms is None or not was_there or record.timestamp_ms >= self._since_ms

    async def _follow(self, consumer: AIOKafkaConsumer) -> None:
        """Let cursors pass what is not a record to us: transaction markers, compacted tails."""
        if self._clock.monotonic() < self._careful_until:
            return
        for partition, cursor in self.cursors.items():
            if not cursor.doubtful:
                cursor.position = max(cursor.position, await consumer.position(partition))

    def _heard(self, consumer: AIOKafkaConsumer) -> bool:
        """Whether any fetch was answered since the last call, records or not."""
        before, self._polled_at = self._polled_at, {p: consumer.last_poll_timestamp(p) for p in self.cursors}
        return before != self._polled_at

    async def _check(self, consumer: AIOKafkaConsumer) -> None:
        """Compare with the log as the broker states it. Raises Reopen when they do not agree."""
        partitions = list(self.cursors)
        try:
            async with asyncio.timeout(CHECK_S):
                beginnings = await consumer.beginning_offsets(partitions)
                ends = await consumer.end_offsets(partitions)
        except (errors.KafkaError, OSError, TimeoutError) as error:
            raise Reopen(f"offsets not to be had: {error!r}") from error
        self._answered = self._clock.monotonic()
        for partition, cursor in self.cursors.items():
            # The embedded broker states the end as if its last batch held one record; a fetch tells more.
            ends[partition] = max(ends[partition], consumer.highwater(partition) or 0)
            if not cursor.inside(beginnings[partition], ends[partition]):
                raise Reopen(f"{partition} does not contain offset {cursor.position}")
            if cursor.overdue(ends[partition]):
                if self._stuck.get(partition) == cursor.position:  # a new consumer could not read it either
                    cursor.skip()
                    self.skipped += 1
                self._stuck[partition] = cursor.position
                raise Reopen(f"{partition} makes no progress at {cursor.position}")
        if set(_assignable(consumer, self._topics)) != set(partitions):
            raise Reopen("partitions were added")


def _assignable(consumer: AIOKafkaConsumer, topics: Sequence[str]) -> list[TopicPartition]:
    """The partitions of `topics` that the client's metadata knows."""
    return [
        TopicPartition(topic, partition)
        for topic in topics
        for partition in sorted(consumer.partitions_for_topic(topic) or ())
    ]


def _records(partition: TopicPartition, raw: Sequence[Any]) -> list[Record]:
    return [
        Record(
            topic=partition.topic,
            partition=partition.partition,
            offset=one.offset,
            key=one.key,
            value=one.value,
            headers=tuple(one.headers),
            timestamp_ms=one.timestamp,
        )
        for one in raw
    ]
