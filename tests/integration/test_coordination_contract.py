"""What `shared.ports.Coordination` promises, on a real three-member etcd and on our own double; in `make test-all`
also on the newer etcd that `make etcd` builds.

One cluster serves the module; each test has a prefix of its own, and those that break members leave all three
running.
"""

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from time import monotonic

import pytest

from shared.adapters.etcd import EtcdStore
from shared.adapters.memory import MemoryStore
from shared.clock import SystemClock
from shared.ports import (
    Change,
    Compare,
    Coordination,
    Delete,
    Put,
    Refused,
    TxnResult,
    Unavailable,
    WatchBatch,
    WatchCompacted,
)
from tests.support.etcd import BINARIES, EtcdCluster, etcd_cluster, why_not

pytestmark = pytest.mark.timeout(180)

_prefixes = itertools.count()


CLUSTERS = [pytest.param(runs, marks=[pytest.mark.slow] * (runs != BINARIES[0])) for runs in BINARIES]


@pytest.fixture(scope="module")
def clusters() -> Iterator[Callable[[str], EtcdCluster]]:
    """Three members of each etcd that is asked for, running."""
    stack = AsyncExitStack()
    running: dict[str, EtcdCluster] = {}
    with asyncio.Runner() as runner:

        def cluster(runs: str) -> EtcdCluster:
            if reason := why_not(runs):
                pytest.skip(reason)
            if runs not in running:
                running[runs] = runner.run(stack.enter_async_context(etcd_cluster(runs)))
            return running[runs]

        try:
            yield cluster
        finally:
            runner.run(stack.aclose())


@dataclass
class World:
    """Either of the two, with clients that see the same keys."""

    cluster: EtcdCluster | None
    memory: MemoryStore | None = None
    prefix: str = field(default_factory=lambda: f"/contract/{next(_prefixes)}/")

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Coordination]:
        store: Coordination
        if self.cluster is not None:
            store = EtcdStore(self.cluster.address(prefix=self.prefix), clock=SystemClock())
        else:
            if self.memory is None:
                self.memory = MemoryStore(rng=random.Random(1))
            store = self.memory.client("test")
        try:
            yield store
        finally:
            await store.close()


@pytest.fixture(params=[*CLUSTERS, "memory"])
def world(request: pytest.FixtureRequest, clusters: Callable[[str], EtcdCluster]) -> World:
    """All, one after the other."""
    return World(None if request.param == "memory" else clusters(request.param))


@pytest.fixture(params=CLUSTERS)
def real(request: pytest.FixtureRequest, clusters: Callable[[str], EtcdCluster]) -> World:
    """The real ones, for what happens to members."""
    return World(clusters(request.param))


class Watching:
    """A watch that stands, whose changes are looked at one by one."""

    def __init__(self, batches: AsyncIterator[WatchBatch]) -> None:
        self._batches = batches
        self.changes: list[Change] = []
        self.revision = 0

    async def next(self, within_s: float = 20.0) -> WatchBatch:
        async with asyncio.timeout(within_s):
            batch = await anext(self._batches)
        assert batch.revision >= self.revision, "revisions go up"
        self.changes += batch.changes
        self.revision = batch.revision
        return batch

    async def until(self, count: int) -> list[tuple[str, bytes | None]]:
        while len(self.changes) < count:
            await self.next()
        return [(change.key, change.value) for change in self.changes]


@asynccontextmanager
async def watching(store: Coordination, prefix: str, from_revision: int) -> AsyncIterator[Watching]:
    batches = store.watch(prefix, from_revision=from_revision)
    watch = Watching(batches)
    try:
        yield watch
    finally:
        await batches.aclose()  # type: ignore[attr-defined]


async def put(store: Coordination, key: str, value: bytes, lease: int = 0) -> int:
    result = await store.commit((), [Put(key, value, lease)])
    assert result.succeeded
    return result.revision


async def persist(store: Coordination, key: str, within_s: float = 20.0) -> float:
    """Seconds until a write is taken."""
    began = monotonic()
    while True:
        try:
            await put(store, key, b"v")
        except Unavailable:
            assert monotonic() - began < within_s, f"not writable within {within_s} s"
        else:
            return monotonic() - began


# ---------------------------------------------------------------- keys and transactions


async def test_what_is_put_is_read(world: World) -> None:
    """A key has its value, its revisions and its count of versions; an absent one is None at a revision."""
    async with world.client() as store:
        nothing, before = await store.get("a")
        created = await put(store, "a", b"1")
        changed = await put(store, "a", b"\xff\x00")
        item, now = await store.get("a")
        assert nothing is None
        assert before < created < changed == now
        assert item is not None
        assert (item.key, item.value, item.version, item.lease) == ("a", b"\xff\x00", 2, 0)
        assert (item.create_revision, item.mod_revision) == (created, changed)


async def test_a_transaction_happens_only_when_all_its_conditions_hold(world: World) -> None:
    """Revision 0 means absent; one false condition and nothing is done; the revision is told either way."""
    async with world.client() as store:
        absent = [Compare("a", "create", 0), Compare("b", "mod", 0)]
        first = await store.commit(absent, [Put("a", b"1"), Put("b", b"1")])
        again = await store.commit(absent, [Put("a", b"2")])
        assert (first.succeeded, again.succeeded) == (True, False)
        assert again.revision >= first.revision
        kept, _ = await store.get("a")
        assert kept is not None
        assert kept.value == b"1"
        fence = [Compare("a", "create", first.revision), Compare("b", "mod", first.revision)]
        third = await store.commit(fence, [Put("a", b"3"), Delete("b")])
        assert third == TxnResult(succeeded=True, revision=first.revision + 1)
        assert not (await store.commit(fence, [Put("a", b"4")])).succeeded


async def test_a_key_made_anew_has_a_new_creation(world: World) -> None:
    """The fence of an earlier life of a key does not hold in the next one."""
    async with world.client() as store:
        first = await put(store, "leader", b"one")
        await store.commit((), [Delete("leader")])
        await put(store, "leader", b"two")
        fenced = await store.commit([Compare("leader", "create", first)], [Put("x", b"stale")])
        assert not fenced.succeeded
        assert (await store.get("x"))[0] is None


async def test_a_condition_on_the_lease_tells_two_holders_apart(world: World) -> None:
    """A key bound to another lease, or to none, is not the one that this lease's holder wrote."""
    async with world.client() as store:
        mine, other = await store.grant(30), await store.grant(30)
        await store.commit((), [Put("leader", b"one", mine)])
        assert mine != other
        assert (await store.commit([Compare("leader", "lease", mine)], [Put("x", b"1")])).succeeded
        assert not (await store.commit([Compare("leader", "lease", other)], [Put("x", b"2")])).succeeded
        await store.commit((), [Put("leader", b"two")])
        assert not (await store.commit([Compare("leader", "lease", mine)], [Put("x", b"3")])).succeeded


async def test_a_listing_is_of_one_revision_and_in_order(world: World) -> None:
    """However many pages it takes; other prefixes are left out; a prefix is deleted as a whole."""
    async with world.client() as store:
        names = [f"log/{number:04d}" for number in range(250)]
        for start in range(0, len(names), 100):
            await store.commit((), [Put(name, b"v") for name in names[start : start + 100]])
        revision = await put(store, "logs", b"beside")
        listed = await store.list("log/")
        assert [item.key for item in listed.items] == names
        assert listed.revision == revision
        await store.commit((), [Delete("log/", prefix=True)])
        assert (await store.list("log/")).items == ()
        assert len((await store.list("")).items) == 1


async def test_what_can_never_be_done_is_refused_with_nothing_done(world: World) -> None:
    """Too large, too many, a lease that is gone: Refused, and no part of it happened."""
    async with world.client() as store:
        with pytest.raises(Refused):
            await store.commit((), [Put("small", b"v"), Put("large", bytes(2_000_000))])
        with pytest.raises(Refused):
            await store.commit((), [Put(f"{number}", b"v") for number in range(200)])
        with pytest.raises(Refused):
            await store.commit((), [Put("small", b"v"), Put("bound", b"v", lease=4711)])
        assert (await store.list("")).items == ()


async def test_a_megabyte_passes(world: World) -> None:
    """A blob of the size that documents are cut to is kept, and several are listed."""
    async with world.client() as store:
        for number in range(3):
            await put(store, f"blobs/{number}", bytes([number]) * 1_000_000)
        listed = await store.list("blobs/")
        assert [item.value[0] for item in listed.items] == [0, 1, 2]


# ---------------------------------------------------------------- leases


async def test_keys_go_with_their_lease(world: World) -> None:
    """A lease that is renewed lives; one that is not ends after its TTL, and its keys with it, as a change."""
    async with world.client() as store:
        kept, left = await store.grant(2), await store.grant(2)
        await put(store, "kept", b"v", kept)
        revision = await put(store, "left", b"v", left)
        began = monotonic()
        while (await store.get("left"))[0] is not None:
            assert await store.keep_alive(kept) == 2
            assert monotonic() - began < 10
            await asyncio.sleep(0.2)
        assert monotonic() - began > 1.5
        assert (await store.get("kept"))[0] is not None
        async with watching(store, "left", revision + 1) as watch:
            assert await watch.until(1) == [("left", None)]
        assert await store.keep_alive(left) == 0


async def test_a_revoked_lease_is_gone_at_once(world: World) -> None:
    """Its keys too; renewing it says 0; revoking it again is no error."""
    async with world.client() as store:
        lease = await store.grant(60)
        await put(store, "bound", b"v", lease)
        item, _ = await store.get("bound")
        assert item is not None
        assert item.lease == lease
        await store.revoke(lease)
        assert (await store.get("bound"))[0] is None
        assert await store.keep_alive(lease) == 0
        await store.revoke(lease)


# ---------------------------------------------------------------- watching


async def test_a_watch_tells_every_change_in_order(world: World) -> None:
    """From the past on, puts and deletes, whole transactions together, nothing of other prefixes."""
    async with world.client() as store:
        first = await put(store, "a/1", b"past")
        async with watching(store, "a/", first) as watch:
            await store.commit((), [Put("a/2", b"x"), Put("a/3", b"x"), Put("b", b"beside")])
            await store.commit((), [Delete("a/1")])
            last = await put(store, "a/1", b"anew")
            seen = await watch.until(5)
        assert seen[0] == ("a/1", b"past")
        assert sorted(seen[1:3]) == [("a/2", b"x"), ("a/3", b"x")]
        assert seen[3:] == [("a/1", None), ("a/1", b"anew")]
        assert watch.revision == last
        assert [c.mod_revision for c in watch.changes] == [first, first + 1, first + 1, first + 2, last]
        assert watch.changes[-1].create_revision == last


async def test_a_watch_says_when_it_stands(world: World) -> None:
    """The first batch comes without any change, and does not claim to have delivered more than it has."""
    async with world.client() as store:
        revision = await put(store, "a", b"v")
        async with watching(store, "a", revision + 1) as watch:
            assert await watch.next() == WatchBatch((), revision)


async def test_compacted_history_is_said(world: World) -> None:
    """A watch from before the compaction ends in WatchCompacted; from the compaction on it works; twice is no error."""
    async with world.client() as store:
        first = await put(store, "a", b"1")
        for number in range(5):
            last = await put(store, "a", b"%d" % number)
        await store.compact(last)
        await store.compact(last)
        async with watching(store, "a", first) as watch:
            with pytest.raises(WatchCompacted) as compacted:
                await watch.until(1)
        assert compacted.value.revision == last
        async with watching(store, "a", last) as watch:
            await put(store, "a", b"next")
            assert (await watch.until(1))[-1] in {("a", b"4"), ("a", b"next")}


@pytest.mark.slow
async def test_an_idle_watch_stays(real: World) -> None:
    """Silence of the keys is not silence of the server: a change after a long pause is delivered."""
    async with real.client() as store:
        _, revision = await store.get("a")
        async with watching(store, "a", revision + 1) as watch:
            await watch.next()
            waiting = asyncio.ensure_future(watch.until(1))
            await asyncio.sleep(12)
            await put(store, "a", b"late")
            assert await waiting == [("a", b"late")]


async def test_health_names_the_leader(world: World) -> None:
    """Reachable, with the leading member's name and no alarm."""
    async with world.client() as store:
        health = await store.health()
        assert health.reachable
        assert health.leader_member in {"one", "two", "three", "memory"}
        assert health.alarms == ()


# ---------------------------------------------------------------- members fail


async def test_a_dead_member_is_passed_over(real: World) -> None:
    """With the first endpoint dead every call works at once; back again, it is used when the others are not."""
    assert real.cluster is not None
    members = real.cluster.members
    async with real.client() as store:
        await put(store, "a", b"v")
        members[0].stop()
        try:
            assert await persist(store, "a") < 5.0  # an election, when it was the leader
            began = monotonic()
            for _ in range(5):
                await put(store, "a", b"v")
            assert monotonic() - began < 2.0
        finally:
            real.cluster.restart(0)
            await real.cluster.ready()
        members[1].stop()
        try:
            await persist(store, "a")
        finally:
            real.cluster.restart(1)
            await real.cluster.ready()
        async with asyncio.timeout(10):
            assert (await store.get("a"))[0] is not None


async def test_a_fresh_client_starts_with_a_dead_first_endpoint(real: World) -> None:
    """Nothing depends on the order of the endpoints."""
    assert real.cluster is not None
    real.cluster.members[0].stop()
    try:
        async with real.client() as store:
            assert await persist(store, "a") < 5.0
    finally:
        real.cluster.restart(0)
        await real.cluster.ready()


async def test_without_a_quorum_every_call_ends_in_time(real: World) -> None:
    """Unavailable within the deadline, health says so, and all works again soon after the quorum is back."""
    assert real.cluster is not None
    async with real.client() as store:
        lease = await store.grant(60)
        await put(store, "a", b"v")
        real.cluster.members[1].stop()
        real.cluster.members[2].stop()
        try:
            began = monotonic()
            ends = await asyncio.gather(
                store.get("a"),
                store.commit((), [Put("a", b"v")]),
                store.list(""),
                store.grant(5),
                store.keep_alive(lease),
                return_exceptions=True,
            )
            assert monotonic() - began < 2.5
            assert [type(end) for end in ends] == [Unavailable] * 5
            assert not (await store.health()).reachable
        finally:
            real.cluster.restart(1)
            real.cluster.restart(2)
            await real.cluster.ready()
        assert await persist(store, "a") < 5.0
        assert await store.keep_alive(lease) == 60


async def test_a_watch_notices_a_dead_member(real: World) -> None:
    """Unavailable at once; the next watch, on another member, has missed nothing."""
    assert real.cluster is not None
    async with real.client() as store, real.client() as other:
        revision = await put(store, "a", b"1")
        async with watching(store, "a", revision) as watch:
            await watch.until(1)
            real.cluster.members[0].stop()
            try:
                with pytest.raises(Unavailable):
                    await watch.until(2)
                await persist(other, "a")
                async with watching(store, "a", watch.revision + 1) as resumed:
                    assert (await resumed.until(1))[0] == ("a", b"v")
            finally:
                real.cluster.restart(0)
                await real.cluster.ready()


async def test_a_member_that_hangs_is_left(real: World) -> None:
    """A stopped process keeps its connections: a watch on it is given up within 15 s, calls within their deadline,
    and a repeatable call does not even fail."""
    assert real.cluster is not None
    async with real.client() as store:
        lease = await store.grant(60)
        revision = await put(store, "a", b"1")
        async with watching(store, "a", revision) as watch:
            await watch.until(1)
            real.cluster.members[0].pause()
            try:
                began = monotonic()
                assert await store.keep_alive(lease) == 60
                assert monotonic() - began < 2.5
                with pytest.raises(Unavailable):
                    await watch.until(2)
                assert monotonic() - began < 15.0
                assert await persist(store, "a") < 8.0
                async with watching(store, "a", watch.revision + 1) as resumed:
                    assert len(await resumed.until(1)) >= 1
            finally:
                real.cluster.members[0].resume()
                await real.cluster.ready()


async def test_a_store_closes_with_everything_dead(real: World) -> None:
    """`close` takes at most 5 s, and calls under way end."""
    assert real.cluster is not None
    async with real.client() as store:
        await put(store, "a", b"v")
        for member in real.cluster.members:
            member.pause()
        try:
            waiting = asyncio.ensure_future(store.get("a"))
            await asyncio.sleep(0.2)
            began = monotonic()
            await store.close()
            assert monotonic() - began < 5.0
            with pytest.raises(Unavailable):
                await waiting
        finally:
            for member in real.cluster.members:
                member.resume()
            await real.cluster.ready()
