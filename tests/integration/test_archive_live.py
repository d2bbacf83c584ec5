"""Configuration and archive on a real etcd: its limits, its transactions, emptied and filled again."""

from datetime import timedelta

import pytest

from control_plane.loops.archive import Backups
from control_plane.loops.blobs import Blobs
from control_plane.loops.operations import Operations
from control_plane.loops.restore import Restorer
from control_plane.loops.seen import Seen
from control_plane.loops.versions import Versions
from control_plane.ports import ConfigOrder, LogEntry, RestoreOrder, Stale, TooLarge
from shared import keys
from shared.adapters.etcd import EtcdStore
from shared.clock import SystemClock
from shared.ports import Delete, Put
from shared.vocabulary.base import canonical_json, sha256_hex
from shared.vocabulary.decision import Head, Term
from shared.vocabulary.override import Override, OverrideSpec
from tests.support.etcd import etcd_cluster
from tests.support.replicas import fleet

ADA = ConfigOrder(author="ada", reason="because")
EVE = RestoreOrder(author="eve", reason="etcd was lost")
COMMITS = 250
"""More than one transaction takes."""


class Desk:
    """What a replica would wire, without the replica."""

    def __init__(self, store: EtcdStore) -> None:
        clock = SystemClock()
        seen, blobs = Seen(), Blobs(store)
        operations = Operations(store, blobs, replica="cp", clock=clock)
        self.versions = Versions(
            store, blobs, operations, seen=seen, view=lambda: None, edges=list, clock=clock
        )
        self.archive = Backups(
            store,
            Restorer(store, blobs, seen=seen, replica="cp", clock=clock),
            replica="cp",
            clock=clock,
        )

    async def backup(self) -> bytes:
        return b"".join([line async for line in await self.archive.backup(None)])


async def write_history(store: EtcdStore, *, overrides: int) -> None:
    """Commits 1.1 to the last, one document each, the head, and overrides in force."""
    clock = SystemClock()
    entries: list[Put] = []
    for seq in range(1, COMMITS + 1):
        document = b'{"document":%d}' % seq
        sha = sha256_hex(document)
        head = Head(generation=1, seq=seq, config_version=1, routes={"chat": (seq, sha)}).canonical()
        entry = LogEntry(
            generation=1,
            seq=seq,
            config_version=1,
            head_sha=sha256_hex(head),
            at=clock.now(),
            term=Term(holder="cp", epoch=1),
            changed=(("chat", sha),),
        )
        entries += [Put(keys.blob(sha), document), Put(keys.log_entry(1, seq), entry.canonical())]
    orders = [
        Override(
            id=f"o{number}",
            spec=OverrideSpec(kind="drain", region="east"),
            reason="r",
            author="ada",
            created_at=clock.now(),
            expires_at=clock.now() + timedelta(hours=1),
        )
        for number in range(overrides)
    ]
    entries += [Put(keys.override(one.id), one.canonical()) for one in orders]
    entries += [Put(keys.DECISIONS_HEAD, head), Put(keys.GENERATION, b"1")]
    entries.append(Put(keys.DECISIONS_MEMORY, canonical_json({})))
    for start in range(0, len(entries), 100):
        assert (await store.commit([], entries[start : start + 100])).succeeded


@pytest.mark.timeout(90)
async def test_a_long_history_goes_out_and_comes_back() -> None:
    """Hundreds of records, more than a transaction holds, into an emptied etcd: byte for byte what it
    was but for what must rise; and more orders than one transaction can put in force are refused whole."""
    async with etcd_cluster() as cluster:
        store = EtcdStore(cluster.address(), clock=SystemClock())
        try:
            desk = Desk(store)
            done = await desk.versions.apply(fleet(), ADA)
            assert (done.config_version, done.audit) == (1, 1)
            with pytest.raises(Stale):
                await desk.versions.apply(fleet(("east",)), ConfigOrder("ada", "r", based_on='"0-"'))
            await write_history(store, overrides=20)
            raw = await desk.backup()
            before = {item.key: item.value for item in (await store.list("")).items}

            await store.commit([], [Delete("", prefix=True)])
            assert not (await store.list("")).items
            restored = await Desk(store).archive.restore(raw, EVE)
            assert (restored.generation, restored.config_version, restored.overrides) == (2, 2, 20)
            after = {item.key: item.value for item in (await store.list("")).items}
            raised = {keys.GENERATION, keys.CONFIG_HEAD, keys.AUDIT_HEAD}
            assert {key: value for key, value in before.items() if key not in raised}.items() <= after.items()
            kept = await Desk(store).versions.versions()
            assert [head.config_version for head in kept] == [2, 1]

            await write_history(store, overrides=120)
            many = await desk.backup()
            await store.commit([], [Delete("", prefix=True)])
            with pytest.raises(TooLarge, match="end overrides"):
                await Desk(store).archive.restore(many, EVE)
            assert not (await store.list("")).items
        finally:
            await store.close()
