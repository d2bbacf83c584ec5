"""A Kafka cluster in memory: `MemoryBroker` is the server, `bus()` makes each client's handle."""

import asyncio
import random
import zlib
from collections import deque
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Literal

from shared.adapters.cursor import Cursor
from shared.adapters.memory_link import SILENCE_S, Link, now, signalled
from shared.clock import Clock
from shared.ports import Batch, Record, Refused, Unavailable
from shared.topics import TOPICS, TopicSpec

KEPT_RECORDS = 10_000
"""Of one partition of a topic that is not compacted."""
MAX_MESSAGE_BYTES = 1_048_576


@dataclass(slots=True)
class MessageFaults:
    """What happens to messages between their acknowledgement and the log: probabilities, and a range of
    delay, by which messages also overtake each other."""

    drop: float = 0.0
    duplicate: float = 0.0
    delay: float = 0.0
    delay_s: tuple[float, float] = (0.05, 2.0)
    lose_reply: float = 0.0


class MemoryBroker:
    """One region's cluster. Not `up`: connections are refused. `hung`: nobody is answered. `empty()`: it
    restarts with nothing."""

    def __init__(
        self, region: str, *, clock: Clock, rng: random.Random, topics: Sequence[TopicSpec] = TOPICS
    ) -> None:
        self.region = region
        self.clock = clock
        self.rng = rng
        self.faults = MessageFaults()
        self.up = True
        self.hung = False
        self.changed = asyncio.Event()
        self._topics = {topic.name: topic for topic in topics}
        self.logs: dict[tuple[str, int], deque[Record]] = {}
        self._ends: dict[tuple[str, int], int] = {}

    def bus(self, client: str) -> "MemoryBus":
        """A handle for one process; `.link` is its connection."""
        return MemoryBus(self, client)

    def add_topics(self, topics: Sequence[TopicSpec]) -> None:
        """Create those that are new to it."""
        self._topics = {topic.name: topic for topic in topics} | self._topics

    def empty(self) -> None:
        """Lose everything, offsets included."""
        self.logs.clear()
        self._ends.clear()
        self._wake()

    def partitions(self, topics: Sequence[str]) -> list[tuple[str, int]]:
        """All partitions of `topics`; an unknown topic has one."""
        return [(t, n) for t in topics for n in range(self._partitions_of(t))]

    def bounds(self, partition: tuple[str, int]) -> tuple[int, int]:
        """The first offset that is still there, and the next one to be written."""
        end = self._ends.get(partition, 0)
        if self.compacted(partition[0]):
            return 0, end
        log = self.logs.get(partition)
        return (log[0].offset if log else end), end

    def tail(self, partition: tuple[str, int], offset: int) -> list[Record]:
        """The records from `offset` on."""
        after = takewhile(lambda record: record.offset >= offset, reversed(self.logs.get(partition, ())))
        return list(after)[::-1]

    def compacted(self, topic: str) -> bool:
        """Whether only the last record of each key is kept."""
        spec = self._topics.get(topic)
        return spec is not None and spec.config.get("cleanup.policy") == "compact"

    def accept(
        self, topic: str, key: bytes | None, value: bytes | None, headers: Mapping[str, bytes]
    ) -> None:
        """Take a message, and do to it what `faults` say."""
        draw, faults = self.rng.random, self.faults
        copies = 0 if draw() < faults.drop else 2 if draw() < faults.duplicate else 1
        for _ in range(copies):
            if draw() < faults.delay:
                later = self.rng.uniform(*faults.delay_s)
                asyncio.get_running_loop().call_later(later, self._append, topic, key, value, headers)
            else:
                self._append(topic, key, value, headers)

    def _append(
        self, topic: str, key: bytes | None, value: bytes | None, headers: Mapping[str, bytes]
    ) -> None:
        count = self._partitions_of(topic)
        number = zlib.crc32(key) % count if key is not None else self.rng.randrange(count)
        partition = (topic, number)
        log = self.logs.setdefault(partition, deque())
        if self.compacted(topic):
            log = self.logs[partition] = deque(record for record in log if record.key != key)
        elif len(log) >= KEPT_RECORDS:
            log.popleft()
        offset = self._ends.get(partition, 0)
        at_ms = int(self.clock.now().timestamp() * 1000)
        log.append(Record(topic, number, offset, key, value, tuple(headers.items()), at_ms))
        self._ends[partition] = offset + 1
        self._wake()

    def _partitions_of(self, topic: str) -> int:
        return self._topics[topic].partitions if topic in self._topics else 1

    def _wake(self) -> None:
        self.changed.set()
        self.changed = asyncio.Event()


class MemoryBus:
    """`shared.ports.Bus` on a `MemoryBroker`."""

    def __init__(self, broker: MemoryBroker, client: str) -> None:
        self.region = broker.region
        self.client = client
        self.link = Link(broker.rng)
        self._broker = broker
        self._reachable = False
        self._closed = False
        self._interrupted: dict[tuple[str, ...], dict[tuple[str, int], Cursor]] = {}

    @property
    def reachable(self) -> bool:
        """Whether the last exchange with it succeeded."""
        return self._reachable

    async def publish(
        self,
        topic: str,
        *,
        key: bytes | None,
        value: bytes | None,
        headers: Mapping[str, bytes] | None = None,
        timeout_s: float = 2.0,
    ) -> None:
        """As `Bus.publish`."""
        if key is None and value is None:
            raise Refused("a message needs a key or a value")
        if len(key or b"") + len(value or b"") > MAX_MESSAGE_BYTES:
            raise Refused(f"larger than {MAX_MESSAGE_BYTES} bytes")
        until = now() + timeout_s
        try:
            await self._exchange(until)
            self._broker.accept(topic, key, value, dict(headers or {}))
            if self._broker.rng.random() < self._broker.faults.lose_reply:
                raise Unavailable("the acknowledgement was lost")  # noqa: TRY301  (the fault itself)
            await self._exchange(until)
        except Unavailable:
            self._reachable = False
            raise
        self._reachable = True

    async def consume(
        self, topics: Sequence[str], *, start: Literal["beginning", "end"] | float, idle_s: float = 1.0
    ) -> AsyncGenerator[Batch, None]:
        """As `Bus.consume`."""
        broker, names = self._broker, tuple(topics)
        cursors = self._interrupted.pop(names, None) or {
            partition: self._first(partition, start) for partition in broker.partitions(names)
        }
        answered, said, yielded_at = now(), None, now()
        while not self._closed:
            woken = broker.changed
            if self._connected:
                answered, self._reachable = now(), True
                gap = self._compare(cursors)
                records = self._fetch(cursors)
                caught_up = all(cursor.caught_up for cursor in cursors.values())
                if records or gap or caught_up != said or now() >= yielded_at + idle_s:
                    said, yielded_at = caught_up, now()
                    yield Batch(records, caught_up, gap)
                    continue
            elif now() - answered > SILENCE_S:
                self._reachable = False
                self._interrupted[names] = cursors
                raise Unavailable(f"no answer for {SILENCE_S:.0f} s")
            await signalled(woken, max(0.0, yielded_at + idle_s - now()) or idle_s)
            await asyncio.sleep(broker.rng.uniform(*self.link.latency_s))
        raise Unavailable("the bus was closed")

    async def close(self) -> None:
        """As `Bus.close`."""
        self._closed = True

    @property
    def _connected(self) -> bool:
        return self._broker.up and not self._broker.hung and not self.link.cut

    async def _exchange(self, until: float) -> None:
        await self.link.cross(until)
        if self._broker.hung:
            await asyncio.sleep(max(0.0, until - now()))
            raise Unavailable("no answer: the broker hangs")
        if self._closed or not self._broker.up:
            await asyncio.sleep(min(0.25, max(0.0, until - now())))
            raise Unavailable("connection refused")

    def _first(self, partition: tuple[str, int], start: Literal["beginning", "end"] | float) -> Cursor:
        beginning, end = self._broker.bounds(partition)
        if start == "beginning":
            return Cursor(beginning, goal=end)
        if start == "end":
            return Cursor(end, goal=end)
        since_ms = (self._broker.clock.now().timestamp() - start) * 1000
        later = (r.offset for r in self._broker.logs.get(partition, ()) if r.timestamp_ms >= since_ms)
        return Cursor(next(later, end), goal=end)

    def _compare(self, cursors: dict[tuple[str, int], Cursor]) -> bool:
        """Whether records were lost: offsets that are gone, or the last known record is another one."""
        gap = False
        for partition, cursor in cursors.items():
            known = cursor.last
            if known is not None and known not in self._broker.tail(partition, known.offset):
                cursor.forsake()
            beginning, end = self._broker.bounds(partition)
            if not cursor.inside(beginning, end):
                gap = cursor.resume(beginning, end, again=True) or gap
        return gap

    def _fetch(self, cursors: dict[tuple[str, int], Cursor]) -> tuple[Record, ...]:
        records: list[Record] = []
        for partition, cursor in cursors.items():
            records += cursor.take(self._broker.tail(partition, cursor.position))
            cursor.position = max(cursor.position, self._broker.bounds(partition)[1])
        return tuple(records)
