"""The configuration and the archive of whole replicas, on virtual time: who may write, what follows."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from control_plane.core.backup import chained, decode
from control_plane.loops.collect import Collector
from control_plane.loops.ledger import Records
from control_plane.loops.versions import VERSIONS_KEPT
from control_plane.metrics import Metrics
from control_plane.ports import ConfigOrder, InUse, NotKept, Objected, RestoreOrder, Stale
from shared import keys, topics
from shared.vocabulary.audit import AuditEntry
from shared.vocabulary.base import Version
from shared.vocabulary.config import Fleet
from tests.support.replicas import Running, World, fleet, play

ADA = ConfigOrder(author="ada", reason="because")


async def settled(world: World, *names: str) -> list[Running]:
    """Replicas with a first decision, and probers that say that all is well."""
    world.probe()
    running = [await world.start(name) for name in names]
    await world.until(lambda: world.version() >= Version(1, 1), within_s=5)
    await asyncio.sleep(3)
    return running


def edited(change: Callable[[dict[str, Any]], None]) -> Fleet:
    """The fleet of the tests after `change`."""
    raw = fleet().model_dump(mode="json")
    change(raw)
    return Fleet.model_validate(raw)


def slower(raw: dict[str, Any]) -> None:
    raw["monitors"][0]["interval_s"] = 2.0


def with_gamma(raw: dict[str, Any]) -> None:
    """A new target at the end of the second tier, and a route of its own."""
    gamma = {**raw["targets"][0], "id": "gamma-east", "provider": "gamma"}
    raw["targets"].append(gamma)
    raw["routes"][0]["tiers"][1]["targets"].append("gamma-east")
    raw["routes"].append(
        {"id": "talk", "match": {"models": ["talk"]}, "tiers": [{"targets": ["alpha-east", "gamma-east"]}]}
    )


def audit(world: World) -> list[AuditEntry]:
    return [AuditEntry.model_validate_json(item.value) for item in world.store.read(keys.AUDIT)]


def on_buses(world: World) -> set[int]:
    """The newest configuration version on each bus."""
    return {json.loads(world.on_bus(region, topics.CONFIG)[-1])["config_version"] for region in world.brokers}


async def backup_of(running: Running, since: Version | None = None) -> bytes:
    return b"".join([line async for line in await running.replica.archive.backup(since)])


def test_a_change_on_any_replica_is_decided_by_the_leader_and_told_to_all() -> None:
    """One transaction: the version, its record and the audit; then a decision under it, on every bus."""

    async def story(world: World) -> None:
        one, two = await settled(world, "cp-east", "cp-west")
        follower = two if one.leads else one
        revision = world.store.revision
        done = await follower.replica.configs.apply(edited(with_gamma), ADA)
        assert (done.applied, done.config_version, done.was, done.audit) == (True, 2, 1, 1)
        written = {
            changed: {change.key for change in changes}
            for changed, changes in world.store.history
            if changed > revision
        }
        assert {keys.CONFIG_HEAD, keys.config_version(2), keys.audit(1), keys.AUDIT_HEAD} in written.values()
        await world.until(lambda: (head := world.head()) and head.config_version == 2, within_s=1)
        await world.until(lambda: on_buses(world) == {2}, within_s=1)
        assert set(world.documents("south")) == {"chat", "talk"}
        (entry,) = audit(world)
        assert (entry.author, entry.reason, entry.action) == ("ada", "because", "config.apply")
        assert "added target gamma-east" in entry.values["changes"]

    play(story)


def test_what_is_gone_from_the_fleet_leaves_the_decisions() -> None:
    """A target and a route that the new version lacks: no document names the one, the other is ended."""

    async def story(world: World) -> None:
        (one,) = await settled(world, "cp-east")
        await one.replica.configs.apply(edited(with_gamma), ADA)
        await world.until(lambda: "talk" in world.documents("west"), within_s=2)
        await one.replica.configs.apply(fleet(), ADA)
        await world.until(lambda: world.documents("west")["talk"].removed, within_s=2)
        assert "gamma-east" not in world.used()
        head = world.head()
        assert head is not None
        assert (head.config_version, set(head.routes)) == (3, {"chat"})

    play(story)


def test_of_two_at_once_one_is_told_to_look_again() -> None:
    """Both were prepared from the same version, on two replicas: the second is stale, nothing is lost."""

    async def story(world: World) -> None:
        one, two = await settled(world, "cp-east", "cp-west")
        (head,) = await one.replica.configs.versions()
        order = ConfigOrder(author="ada", reason="because", based_on=head.etag)
        done = await asyncio.gather(
            one.replica.configs.apply(edited(slower), order),
            two.replica.configs.apply(edited(with_gamma), order),
            return_exceptions=True,
        )
        assert sorted(type(each).__name__ for each in done) == ["ConfigOutcome", "Stale"]
        assert len(audit(world)) == 1

    play(story)


def test_a_lost_reply_is_read_back() -> None:
    """The write was carried out: it is reported as done, once."""

    async def story(world: World) -> None:
        leader, other = await settled(world, "cp-east", "cp-west")
        other = other if leader.leads else leader
        inner = other.etcd.commit

        async def losing(compares: Any, then: Any) -> Any:
            if any(getattr(one, "key", "") == keys.CONFIG_HEAD for one in then):
                other.etcd.lose_replies = 1
            return await inner(compares, then)

        other.etcd.commit = losing  # type: ignore[method-assign]
        done = await other.replica.configs.apply(edited(slower), ADA)
        assert (done.applied, done.config_version) == (True, 2)
        assert [entry.n for entry in audit(world)] == [1]

    play(story)


def test_what_would_empty_a_route_is_refused_and_forcing_is_on_record() -> None:
    """While the others are down the last healthy target stays; who insists stands in the audit."""

    async def story(world: World) -> None:
        (one,) = await settled(world, "cp-east")
        world.down |= {target.id for target in fleet().targets} - {"beta-west"}
        await world.until(lambda: world.used() == {"beta-west"}, within_s=20)

        def without(raw: dict[str, Any]) -> None:
            raw["routes"][0]["tiers"] = [{"targets": ["alpha-east"]}]

        with pytest.raises(Objected, match="beta-west"):
            await one.replica.configs.apply(edited(without), ADA)
        tried = await one.replica.configs.apply(
            edited(without), ConfigOrder(author="ada", reason="r", dry_run=True)
        )
        assert (tried.applied, len(tried.judgement.objections)) == (False, 1)
        assert not audit(world)
        forced = ConfigOrder(author="ada", reason="r", forced=True)
        await one.replica.configs.apply(edited(without), forced)
        assert "beta-west" in audit(world)[0].values["overruled"][0]

    play(story)


def test_a_version_comes_back_under_a_new_number() -> None:
    """And what was never given, or is gone, does not. Nothing to change writes nothing."""

    async def story(world: World) -> None:
        (one,) = await settled(world, "cp-east")
        configs = one.replica.configs
        await configs.apply(edited(slower), ADA)
        assert not (await configs.apply(edited(slower), ADA)).applied
        done = await configs.roll_back(1, ADA)
        assert (done.config_version, [change.field for change in done.changes]) == (3, ["interval_s"])
        assert [head.config_version for head in await configs.versions()] == [3, 2, 1]
        _, raw = await configs.version(3)
        assert json.loads(raw)["fleet"] == fleet().model_dump(mode="json")
        with pytest.raises(NotKept):
            await configs.roll_back(9, ADA)
        with pytest.raises(Stale):
            await configs.roll_back(1, ConfigOrder(author="a", reason="r", based_on='"1-"'))

    play(story)


def test_a_version_that_anybody_passed_is_not_given_again() -> None:
    """An edge works by one of a history that etcd has lost. The leader would give the fleet a later
    number; whoever writes while nobody leads does so too."""

    async def story(world: World) -> None:
        leader, other = await settled(world, "cp-east", "cp-west")
        leader, other = (leader, other) if leader.leads else (other, leader)
        await world.ack(world.version(), config_version=7)
        await world.until(lambda: on_buses(world) == {8}, within_s=3)
        leader.etcd.link.cut = True
        await world.until(lambda: not leader.leads, within_s=10)
        await world.ack(world.version(), number=2, config_version=20)
        await asyncio.sleep(0.5)
        assert not other.leads
        assert (await other.replica.configs.apply(edited(slower), ADA)).config_version == 21

    play(story)


def test_old_versions_go_and_kept_ones_keep_their_content() -> None:
    """The last hundred; what two sweeps find named by a version alone is still there."""

    async def story(world: World) -> None:
        (one,) = await settled(world, "cp-east")
        configs = one.replica.configs
        for number in range(VERSIONS_KEPT + 5):
            await configs.apply(edited(slower) if number % 2 == 0 else fleet(), ADA)
        replica = one.replica
        records = Records(one.etcd, replica._blobs, clock=world.clock, metrics=Metrics())
        collector = Collector(
            one.etcd, records, lead=replica._lead, clock=world.clock, metrics=Metrics(), sweep_s=0.0
        )
        term = replica._lead.term
        assert term is not None
        for _ in range(3):
            await collector.collect(term)
        kept = await configs.versions()
        assert [head.config_version for head in kept] == list(range(VERSIONS_KEPT + 6, 6, -1))
        fresh = await world.start("cp-west")
        await asyncio.sleep(1)
        assert (await fresh.replica.configs.version(7))[0].config_version == 7
        blobs = {item.key.removeprefix(keys.BLOBS) for item in world.store.read(keys.BLOBS)}
        assert len(blobs) < VERSIONS_KEPT * 3 + 10

    play(story)


def test_a_backup_brings_an_emptied_etcd_back_and_no_edge_is_stuck() -> None:
    """A full one and one since it: fleet, order, audit and history as they were; generation and
    configuration above everything that edges hold, though they went on after the backup."""

    async def story(world: World) -> None:
        one, two = await settled(world, "cp-east", "cp-west")
        await one.replica.configs.apply(edited(slower), ADA)
        await world.until(lambda: world.version() == Version(1, 2), within_s=2)
        full = await backup_of(one)
        await two.replica.configs.apply(edited(with_gamma), ADA)
        await world.until(lambda: world.version() == Version(1, 3), within_s=2)
        later = await backup_of(two, Version(1, 2))
        assert len(later) < len(full) * 1.5
        world.down.add("alpha-west")
        await world.until(lambda: world.version() >= Version(1, 4), within_s=5)
        ahead = world.version()
        world.down.clear()
        world.store.restore()  # etcd is emptied
        await world.ack(ahead, number=2, config_version=3, seen_generation=1, seen_seq=ahead.seq)
        await world.until(lambda: world.version().generation == 2, within_s=20)
        assert not audit(world)
        order = RestoreOrder(author="eve", reason="etcd was lost")
        leader = next(running for running in (one, two) if running.leads)
        done = await leader.replica.archive.restore(full + later, order)
        assert done.generation == 3
        await world.until(lambda: world.version().generation == 3, within_s=2)
        head = world.head()
        assert head is not None
        assert head.config_version == done.config_version
        assert set(head.routes) == {"chat", "talk"}
        assert done.config_version > 3
        assert [entry.action for entry in audit(world)] == ["config.apply", "config.apply", "backup.restore"]
        logged = {Version(entry["generation"], entry["seq"]) for entry in world.log()}
        assert {Version(1, 1), Version(1, 2), Version(1, 3)} <= logged
        kept = {one.config_version for one in await leader.replica.configs.versions()}
        assert {2, 3, done.config_version} <= kept
        assert world.beats("east")[-1].generation == 3
        told = [
            reason.values
            for entry in leader.replica.log()
            for reason in entry.reasons
            if reason.code == "GENERATION_RAISED"
        ]
        assert [(values["to"], values.get("backup"), values.get("restored_by")) for values in told] == [
            (3, "1.3", "eve")
        ]

    play(story)


def test_a_restore_over_what_operators_wrote_is_forced_or_refused() -> None:
    """And then nothing of it is lost: the audit has both, in order."""

    async def story(world: World) -> None:
        (one,) = await settled(world, "cp-east")
        await one.replica.configs.apply(edited(slower), ADA)
        raw = await backup_of(one)
        await one.replica.configs.apply(edited(with_gamma), ADA)
        before = world.version()
        with pytest.raises(InUse, match="2 changes"):
            await one.replica.archive.restore(raw, RestoreOrder(author="eve", reason="r"))
        await asyncio.sleep(1)
        order = RestoreOrder(author="eve", reason="r", forced=True)
        done = await one.replica.archive.restore(raw, order)
        await world.until(
            lambda: world.version().generation == done.generation > before.generation, within_s=2
        )
        assert [entry.action for entry in audit(world)] == ["config.apply", "config.apply", "backup.restore"]
        _, config = await one.replica.configs.version(done.config_version)
        assert json.loads(config)["fleet"] == edited(slower).model_dump(mode="json")

    play(story)


def test_a_backup_since_a_commit_that_is_gone_is_refused() -> None:
    """Its history cannot be proven: take a full one."""

    async def story(world: World) -> None:
        (one,) = await settled(world, "cp-east")
        with pytest.raises(NotKept, match="full backup"):
            await one.replica.archive.backup(Version(3, 1))
        raw = await backup_of(one)
        assert keys.DECISIONS_HEAD in chained(decode(raw, name="it"))

    play(story)


def test_a_restore_whose_reply_is_lost_is_done_once() -> None:
    """The next look finds it on record: one generation, one entry, and the report of the first attempt."""

    async def story(world: World) -> None:
        (one,) = await settled(world, "cp-east")
        raw = await backup_of(one)
        inner = one.etcd.commit

        async def losing(compares: Any, then: Any) -> Any:
            if any(getattr(each, "key", "") == keys.AUDIT_HEAD for each in then):
                one.etcd.lose_replies = 1
            return await inner(compares, then)

        one.etcd.commit = losing  # type: ignore[method-assign]
        done = await one.replica.archive.restore(raw, RestoreOrder(author="eve", reason="r"))
        assert [entry.n for entry in audit(world)] == [done.audit] == [1]
        assert world.value(keys.GENERATION) == str(done.generation).encode() == b"2"

    play(story)
