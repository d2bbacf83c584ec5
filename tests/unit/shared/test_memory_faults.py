"""The faults that the in-memory doubles can be given, on virtual time. What they do without faults is the contract
suites' matter."""

import random
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from shared.adapters.memory import MemoryBroker, MemoryStore, MessageFaults
from shared.ports import Bus, Compare, Put, Unavailable
from shared.topics import HEALTH
from tests.simulation.virtual_time import VirtualTimeLoop


class LoopClock:
    """Both clocks from the loop's own."""

    def __init__(self, loop: VirtualTimeLoop) -> None:
        self._loop = loop

    def now(self) -> datetime:
        return datetime(2030, 1, 1, tzinfo=UTC) + timedelta(seconds=self._loop.time())

    def monotonic(self) -> float:
        return self._loop.time()


def play(scenario: Callable[[MemoryBroker, MemoryStore], Coroutine[Any, Any, Any]], seed: int = 1) -> Any:
    """Run it on virtual time from its beginning."""
    loop = VirtualTimeLoop()
    rng = random.Random(seed)
    try:
        broker = MemoryBroker("here", clock=LoopClock(loop), rng=rng)
        return loop.run_until_complete(scenario(broker, MemoryStore(rng=rng)))
    finally:
        loop.close()


async def received(bus: Bus, idle: int = 5) -> list[bytes | None]:
    """Everything there is, until nothing has come `idle` times."""
    values: list[bytes | None] = []
    batches = bus.consume([HEALTH], start="beginning")
    async for batch in batches:
        values += [record.value for record in batch.records]
        idle -= not batch.records
        if idle == 0:
            break
    await batches.aclose()  # type: ignore[attr-defined]
    return values


async def send(broker: MemoryBroker, count: int) -> list[bytes | None]:
    bus = broker.bus("prober")
    for number in range(count):
        await bus.publish(HEALTH, key=b"k", value=b"%d" % number)
    return await received(bus)


def test_messages_are_dropped_and_doubled_as_often_as_asked() -> None:
    """And with a fault of certainty, always."""

    async def scenario(broker: MemoryBroker, _: MemoryStore) -> tuple[int, int]:
        broker.faults = MessageFaults(drop=1.0)
        dropped = len(await send(broker, 20))
        broker.faults = MessageFaults(duplicate=1.0)
        return dropped, len(await send(broker, 20))

    assert play(scenario) == (0, 40)


def test_delayed_messages_overtake_each_other() -> None:
    """All arrive, in another order, and one seed gives one order."""

    async def scenario(broker: MemoryBroker, _: MemoryStore) -> list[bytes | None]:
        broker.faults = MessageFaults(delay=0.5)
        return await send(broker, 30)

    got = play(scenario)
    assert sorted(got) != got
    assert len(got) == 30
    assert play(scenario) == got != play(scenario, seed=2)


def test_a_cut_link_answers_nobody_until_it_is_mended() -> None:
    """A write costs its deadline and leaves nothing behind; other clients are not concerned."""

    async def scenario(broker: MemoryBroker, _: MemoryStore) -> list[bytes | None]:
        bus, other = broker.bus("a"), broker.bus("b")
        bus.link.cut = True
        with pytest.raises(Unavailable):
            await bus.publish(HEALTH, key=b"k", value=b"lost")
        assert not bus.reachable
        await other.publish(HEALTH, key=b"k", value=b"1")
        bus.link.cut = False
        await bus.publish(HEALTH, key=b"k", value=b"2")
        return await received(bus)

    assert play(scenario) == [b"1", b"2"]


def test_a_commit_whose_reply_is_lost_has_happened() -> None:
    """Exactly once; a retry under the same condition finds it done."""

    async def scenario(_: MemoryBroker, store: MemoryStore) -> bool:
        client = store.client("a")
        client.lose_replies = 1
        with pytest.raises(Unavailable):
            await client.commit([Compare("k", "create", 0)], [Put("k", b"v")])
        return (await client.commit([Compare("k", "create", 0)], [Put("k", b"again")])).succeeded

    assert play(scenario) is False


def test_a_restored_snapshot_takes_revisions_back() -> None:
    """What was written since is gone, watches end, and the next revision is one that has been before."""

    async def scenario(_: MemoryBroker, store: MemoryStore) -> tuple[bytes, int, int]:
        client = store.client("a")
        await client.commit((), [Put("k", b"old")])
        backup = store.snapshot()
        last = (await client.commit((), [Put("k", b"new")])).revision
        watch = client.watch("k", from_revision=last + 1)
        await anext(watch)
        store.restore(backup)
        with pytest.raises(Unavailable):
            await anext(watch)
        item, revision = await client.get("k")
        assert item is not None
        return item.value, last, revision

    value, last, revision = play(scenario)
    assert (value, revision) == (b"old", last - 1)


def test_without_a_quorum_no_lease_expires_and_with_it_all_are_renewed() -> None:
    """As etcd does: a new leader gives every lease its whole TTL again."""

    async def scenario(_: MemoryBroker, store: MemoryStore) -> list[float]:
        client = store.client("a")
        lease = await client.grant(5)
        store.up = False
        for _ in range(10):
            with pytest.raises(Unavailable):
                await client.keep_alive(lease)
        store.up = True
        alive = await client.keep_alive(lease)
        client.link.cut = True
        for _ in range(3):
            with pytest.raises(Unavailable):
                await client.get("k")
        client.link.cut = False
        return [alive, await client.keep_alive(lease)]

    assert play(scenario) == [5.0, 0.0]
