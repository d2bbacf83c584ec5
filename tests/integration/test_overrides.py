"""Operators' orders through whole replicas: on in-memory servers in virtual time, and onto a real etcd."""

import asyncio
import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from control_plane.loops.blobs import Blobs
from control_plane.loops.mirror import Mirror
from control_plane.loops.operations import Operations, Stand, Write
from control_plane.loops.overrides import Desk
from control_plane.metrics import Metrics
from control_plane.ports import Busy, ConfigHead, Given, NotKept, Unfit
from shared import keys
from shared.adapters.etcd import EtcdStore
from shared.adapters.memory import MemoryClient
from shared.clock import SystemClock
from shared.ports import Compare, Coordination, Delete, Put, TxnResult, Unavailable
from shared.vocabulary.audit import AuditEntry
from shared.vocabulary.base import Version, canonical_json, sha256_hex
from shared.vocabulary.config import FleetConfig
from shared.vocabulary.override import Override, OverrideRequest, OverrideSpec
from shared.vocabulary.terms import Verdict
from shared.vocabulary.view import HealthView, TargetHealth
from tests.support.etcd import etcd_cluster
from tests.support.replicas import REGIONS, Running, World, fleet, play


def request(kind: str = "drain", **more: Any) -> OverrideRequest:
    """Of ann's, for half an hour."""
    fields = {"kind": kind, "reason": "new racks", "author": "ann", "for_s": 1800.0}
    return OverrideRequest.model_validate({**fields, **more})


def overrides_in(world: World) -> list[Override]:
    """On record in etcd."""
    return [Override.model_validate_json(item.value) for item in world.store.read(keys.OVERRIDES)]


def audit_in(world: World) -> list[AuditEntry]:
    """On record in etcd, oldest first; their numbers have no gap."""
    entries = [AuditEntry.model_validate_json(item.value) for item in world.store.read(keys.AUDIT)]
    assert [entry.n for entry in entries] == list(range(1, len(entries) + 1))
    assert (world.value(keys.AUDIT_HEAD) or b"0") == str(len(entries)).encode()
    return entries


def last(world: World, code: str) -> dict[str, Any]:
    """The values of the newest reason with this code."""
    found = [reason for entry in world.log() for reason in entry["reasons"] if reason["code"] == code]
    assert found, [reason["code"] for entry in world.log() for reason in entry["reasons"]]
    values: dict[str, Any] = found[-1]["values"]
    return values


async def told(world: World, code: str) -> dict[str, Any]:
    """The same, once it is there."""

    def there() -> bool:
        return any(reason["code"] == code for entry in world.log() for reason in entry["reasons"])

    await world.until(there, within_s=5)
    return last(world, code)


async def settled(world: World, *names: str, **more: Any) -> list[Running]:
    """Replicas that agree, and know that all is well."""
    world.probe()
    running = [await world.start(name, **more) for name in names]
    await world.until(lambda: world.version() >= Version(1, 1), within_s=5)
    await world.until(lambda: all(all_healthy(one) for one in running), within_s=10)
    return running


def all_healthy(one: Running) -> bool:
    view = one.replica.view()
    return view is not None and all(health.verdict is Verdict.HEALTHY for health in view.targets)


def uses(world: World, *targets: str) -> bool:
    """Whether all of these are to be used, by the documents on the buses."""
    return set(targets) <= world.used()


class Operators:
    """A client that treats operators' writes badly: the next one is carried out and its reply lost
    (`lose`), fails before it is carried out (`drop`), or is carried out later than it failed (`late_s`)."""

    def __init__(self, client: MemoryClient) -> None:
        self._client = client
        self.lose = self.drop = False
        self.late_s: float | None = None
        self.outrun = 0
        """So many of the next ones find that another was faster."""
        self.late: list[asyncio.Task[TxnResult]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    async def commit(self, compares: Sequence[Compare], then: Sequence[Put | Delete]) -> TxnResult:
        if not any(isinstance(operation, Put) and operation.key == keys.AUDIT_HEAD for operation in then):
            return await self._client.commit(compares, then)
        if self.outrun:
            self.outrun -= 1
            count, _ = await self._client.get(keys.AUDIT_HEAD)
            await self._client.commit([], [Put(keys.AUDIT_HEAD, count.value if count else b"0")])
        if self.drop:
            self.drop = False
            raise Unavailable("the connection broke")
        if self.late_s is not None:
            delay_s, self.late_s = self.late_s, None
            self.late.append(asyncio.ensure_future(self._later(delay_s, compares, then)))
            raise Unavailable("the connection broke")
        result = await self._client.commit(compares, then)
        if self.lose:
            self.lose = False
            raise Unavailable("the reply was lost")
        return result

    async def _later(
        self, delay_s: float, compares: Sequence[Compare], then: Sequence[Put | Delete]
    ) -> TxnResult:
        await asyncio.sleep(delay_s)
        return await self._client.commit(compares, then)


def test_a_drain_is_carried_and_ends_by_itself() -> None:
    """Any replica takes it; the next decision excludes its targets by name, on every route, until it is
    over; then they are back, and the reasons tell both."""

    async def story(world: World) -> None:
        _, follower = await settled(world, "cp-east", "cp-west", seed=fleet(routes=("chat", "embed")))
        given = await follower.replica.overrides.give(request(region="east", for_s=60.0))
        assert given.override.id == "drain-1"
        values = await told(world, "DRAINED")
        assert values["override"] == "drain-1"
        assert (values["author"], values["reason"], values["targets_in"]) == ("ann", "new racks", "east")
        await world.until(lambda: not uses(world, "alpha-east"), within_s=2)
        for document in world.documents("west").values():
            assert {each.target: each.expires_at for each in document.excluded if each.by == "operator"} == {
                "alpha-east": given.override.expires_at,
                "beta-east": given.override.expires_at,
            }
            assert document.forced_by is None
        version = world.version()
        await asyncio.sleep(55)
        assert world.version() == version
        await world.until(lambda: uses(world, "alpha-east", "beta-east"), within_s=6)
        assert last(world, "UNDRAINED")["override"] == "drain-1"
        assert "ended_by" not in last(world, "UNDRAINED")
        assert [entry.action for entry in audit_in(world)] == ["override.create"]

    play(story)


def test_lifting_is_carried_with_who_and_why() -> None:
    """At once. Twice changes nothing more; what was never there is said to be so."""

    async def story(world: World) -> None:
        leader, follower = await settled(world, "cp-east", "cp-west")
        given = await leader.replica.overrides.give(request(target="alpha-south"))
        await told(world, "DRAINED")
        await world.until(lambda: follower.replica.in_force().overrides != (), within_s=1)
        lifted = await follower.replica.overrides.lift(given.override.id, author="bob", reason="done")
        assert lifted.ended is not None
        values = await told(world, "UNDRAINED")
        assert (values["ended_by"], values["ended_reason"], values["author"]) == ("bob", "done", "ann")
        await world.until(lambda: uses(world, "alpha-south"), within_s=2)
        again = await leader.replica.overrides.lift(given.override.id, author="eve", reason="again")
        assert again == lifted
        with pytest.raises(NotKept, match="drain-9"):
            await leader.replica.overrides.lift("drain-9", author="eve", reason="x")
        assert [(entry.action, entry.author) for entry in audit_in(world)] == [
            ("override.create", "ann"),
            ("override.end", "bob"),
        ]
        assert [entry.n for entry in follower.replica.audit()] == [2, 1]

    play(story)


def test_lifting_on_a_machine_whose_clock_is_ahead_ends_it_for_all() -> None:
    """The order is over by that clock, and not by the leader's: it is ended now, on record."""

    async def story(world: World) -> None:
        leader, _ = await settled(world, "cp-east", "cp-west")
        given = await leader.replica.overrides.give(request(target="alpha-south", for_s=30))
        await told(world, "DRAINED")
        await asyncio.sleep(31)  # over by less than clocks may differ
        lifted = await leader.replica.overrides.lift(given.override.id, author="bob", reason="done")
        assert lifted.ended is not None
        assert [entry.action for entry in audit_in(world)] == ["override.create", "override.end"]

    play(story)


def test_who_drains_everybody_is_told_that_all_is_turned_away() -> None:
    """Forced, the last place goes too, and the decision says what that means."""

    async def story(world: World) -> None:
        (leader,) = await settled(world, "cp-east")
        for region in ("east", "west", "south"):
            await leader.replica.overrides.give(request(region=region, forced=True))
        values = await told(world, "SHED")
        assert values == {"shed_permille": 1000, "why": "policy and operators leave it no target"}

    play(story)


def test_a_drain_of_a_stand_by_is_carried_too() -> None:
    """No weight changes, and yet nobody may fall back on it."""

    async def story(world: World) -> None:
        (one,) = await settled(world, "cp-east")
        before = world.documents("east")["chat"].regions
        await one.replica.overrides.give(request(target="beta-south"))
        await told(world, "DRAINED")
        await world.until(lambda: not uses(world, "beta-south"), within_s=2)
        after = world.documents("east")["chat"].regions
        for region in REGIONS:
            assert [tier.share_permille for tier in after[region].tiers] == [
                tier.share_permille for tier in before[region].tiers
            ]

    play(story)


def test_every_kind_is_carried_and_named() -> None:
    """Pin, weights and freeze each give a decision with their own reason, and one when they end."""

    async def story(world: World) -> None:
        (one,) = await settled(world, "cp-east")
        desk = one.replica.overrides
        for asked, code in (
            (request("pin", route="chat", region="south", clients="west"), "PINNED"),
            (request("weights", route="chat", weights={"alpha-east": 1, "alpha-west": 3}), "WEIGHTS_SET"),
            (request("freeze"), "OPERATOR_FROZEN"),
        ):
            given = await desk.give(asked)
            assert (await told(world, code))["override"] == given.override.id
            await desk.lift(given.override.id, author="bob", reason="done")
            await world.until(
                lambda name=given.override.id: (  # type: ignore[misc]
                    "OVERRIDE_ENDED" in str(world.log()) and last(world, "OVERRIDE_ENDED")["override"] == name
                ),
                within_s=5,
            )

    play(story)


def test_the_last_region_is_not_drained_unless_forced() -> None:
    """Nothing is written; the routes are named. Forced, it is done, and the decision says on whose word."""

    async def story(world: World) -> None:
        (one,) = await settled(world, "cp-east")
        desk = one.replica.overrides
        for region in ("east", "west"):
            await desk.give(request(region=region))
        with pytest.raises(Unfit, match="chat in east, west, south"):
            await desk.give(request(region="south"))
        assert len(audit_in(world)) == len(overrides_in(world)) == 2
        await desk.give(request(region="south", forced=True))
        await world.until(lambda: world.documents("east")["chat"].forced_by == "drain-3", within_s=3)
        assert {decided.shed_permille for decided in world.documents("east")["chat"].regions.values()} == {
            1000
        }
        await desk.lift("drain-3", author="ann", reason="enough")
        await world.until(lambda: uses(world, "alpha-south"), within_s=3)
        assert world.documents("east")["chat"].forced_by is None

    play(story)


def test_who_is_down_is_not_relied_upon() -> None:
    """With two regions DOWN the third is not drained, though three are configured."""

    async def story(world: World) -> None:
        (one,) = await settled(world, "cp-east")
        world.down |= {f"{kind}-{region}" for kind in ("alpha", "beta") for region in ("east", "west")}
        await world.until(lambda: not uses(world, "alpha-east"), within_s=10)
        with pytest.raises(Unfit, match="nobody who answers"):
            await one.replica.overrides.give(request(region="south"))
        assert audit_in(world) == []

    play(story)


@pytest.mark.parametrize("seed", range(1, 9))
def test_of_two_that_drain_the_last_two_regions_one_is_refused(seed: int) -> None:
    """On different replicas, at the same moment, however their calls to etcd interleave."""

    async def story(world: World) -> None:
        one, two = await settled(world, "cp-east", "cp-west")
        await one.replica.overrides.give(request(region="east"))
        one.etcd.link.latency_s = two.etcd.link.latency_s = (0.0, 0.05)
        answers = await asyncio.gather(
            one.replica.overrides.give(request(region="west")),
            two.replica.overrides.give(request(region="south", author="bob")),
            return_exceptions=True,
        )
        assert sorted(type(answer).__name__ for answer in answers) == ["Given", "Unfit"]
        assert len(overrides_in(world)) == len(audit_in(world)) == 2

    play(story, seed=seed)


@pytest.mark.parametrize("fault", ["lose", "drop", "late"])
def test_a_lost_reply_gives_one_override(fault: str) -> None:
    """Carried out, not carried out, or carried out after it was given up: in the end it is there once."""

    async def story(world: World) -> None:
        faults: list[Operators] = []

        def wrapped(client: MemoryClient) -> Operators:
            faults.append(Operators(client))
            return faults[-1]

        _, two = await settled(world, "cp-east", "cp-west", wrap=wrapped)
        if fault == "late":
            faults[1].late_s = 0.03
        else:
            setattr(faults[1], fault, True)
        two.etcd.link.latency_s = (0.005, 0.02)
        given = await two.replica.overrides.give(request(region="east"))
        await asyncio.gather(*faults[1].late)
        assert overrides_in(world) == [given.override]
        assert [entry.subject for entry in audit_in(world)] == ["drain-1"]

    play(story)


def test_whoever_is_always_outrun_gives_up() -> None:
    """After five times, with nothing written; four are no matter."""

    async def story(world: World) -> None:
        client = Operators(world.store.client("cp-east"))
        operations = Operations(client, Blobs(client), replica="cp-east", clock=world.clock)

        def prepare(stand: Stand) -> Write:
            return Write("override.create", "x", {}, puts={keys.override("x"): b"{}"})

        client.outrun = 5
        with pytest.raises(Busy):
            await operations.write(author="ann", reason="x", prepare=prepare)
        assert world.store.read(keys.OVERRIDES) == ()
        client.outrun = 4
        assert (await operations.write(author="ann", reason="x", prepare=prepare)).n == 1

    play(story)


def test_a_decision_rests_on_all_orders() -> None:
    """A leader that has read before an order was given, and writes after it, is refused by etcd."""

    async def story(world: World) -> None:
        leader, other = await settled(world, "cp-east", "cp-west")
        leader.etcd.link.latency_s = (0.3, 0.3)
        world.down.add("alpha-west")
        await asyncio.sleep(1.0)
        await other.replica.overrides.give(request(region="south"))
        record = world.store.read(keys.AUDIT_HEAD, exact=True)[0]
        await told(world, "DRAINED")
        heads = [
            change.value
            for _, changes in world.store.history
            for change in changes
            if change.key == keys.DECISIONS_HEAD and change.mod_revision > record.mod_revision
        ]
        assert heads
        first = world.log()[-len(heads)]
        assert "DRAINED" in [reason["code"] for reason in first["reasons"]]

    play(story)


def test_an_order_survives_its_leader() -> None:
    """The next one decides under it, without a word of it being new."""

    async def story(world: World) -> None:
        one, two = await settled(world, "cp-east", "cp-west")
        leader, other = (one, two) if one.leads else (two, one)
        await leader.replica.overrides.give(request(region="south"))
        await told(world, "DRAINED")
        await leader.crash()
        await world.until(lambda: other.leads, within_s=10)
        world.down.add("alpha-west")
        await world.until(lambda: not uses(world, "alpha-west"), within_s=10)
        assert not uses(world, "alpha-south")
        assert [reason["code"] for reason in world.log()[-1]["reasons"]].count("DRAINED") == 0

    play(story)


def test_what_is_long_over_leaves_the_record() -> None:
    """An hour after its end, by the leader, on audit; nothing is decided for it, and what ended lately stays."""

    async def story(world: World) -> None:
        def past(name: str, minutes: int) -> Put:
            ended = world.clock.now() - timedelta(minutes=minutes)
            override = Override(
                id=name,
                spec=OverrideSpec(kind="freeze"),
                reason="x",
                author="ann",
                created_at=ended - timedelta(hours=1),
                expires_at=ended,
            )
            return Put(keys.override(name), override.canonical())

        world.store.commit([], [past("freeze-old", 90), past("freeze-new", 10)])
        await settled(world, "cp-east", "cp-west")
        version = world.version()
        await world.until(lambda: len(overrides_in(world)) == 1, within_s=130)
        assert [each.id for each in overrides_in(world)] == ["freeze-new"]
        (entry,) = audit_in(world)
        assert (entry.action, entry.subject) == ("override.expire", "freeze-old")
        await asyncio.sleep(3)
        assert world.version() == version

    play(story)


@pytest.mark.parametrize("hours", [-1, 31 * 24])
def test_an_end_must_lie_ahead_and_within_a_month(hours: int) -> None:
    """By the clock of the replica that is asked."""

    async def story(world: World) -> None:
        (one,) = await settled(world, "cp-east")
        until = world.clock.now() + timedelta(hours=hours)
        with pytest.raises(Unfit, match="expires_at"):
            await one.replica.overrides.give(request(region="east", for_s=None, expires_at=until))
        assert audit_in(world) == []

    play(story)


# ---------------------------------------------------------------- real etcd


@pytest.mark.timeout(90)
async def test_on_a_real_etcd_one_of_two_is_refused() -> None:
    """Two replicas' desks, at once, round after round: never are both of the last two regions drained."""
    clock = SystemClock()
    async with etcd_cluster() as cluster:
        stores = [EtcdStore(cluster.address(), clock=clock) for _ in range(2)]
        try:
            await configured(stores[0])
            desks = [desk(store, number) for number, store in enumerate(stores)]
            await desks[0].give(request(region="east"))
            for _ in range(10):
                answers = await asyncio.gather(
                    desks[0].give(request(region="west")),
                    desks[1].give(request(region="south", author="bob")),
                    return_exceptions=True,
                )
                given = [answer for answer in answers if isinstance(answer, Given)]
                assert len(given) == 1, answers
                assert any(isinstance(answer, Unfit) for answer in answers), answers
                await both(desk.lift(given[0].override.id, author="ann", reason="x") for desk in desks)
            entries = (await stores[1].list(keys.AUDIT)).items
            numbers = [AuditEntry.model_validate_json(item.value).n for item in entries]
            assert numbers == list(range(1, 22))
        finally:
            for store in stores:
                await store.close()


async def both(work: Any) -> None:
    """At once; the one that finds it done already says so."""
    ended: list[Override] = await asyncio.gather(*work)
    assert ended[0] == ended[1]


async def configured(store: Coordination) -> None:
    """A configuration in force, as a leader would have seeded it."""
    raw = canonical_json(FleetConfig(config_version=1, fleet=fleet()).model_dump(mode="json"))
    head = ConfigHead(
        config_version=1, sha=sha256_hex(raw), author="x", at=datetime(2030, 1, 1, tzinfo=UTC), reason="x"
    )
    await Blobs(store).write((), {head.sha: raw})
    await store.commit([], [Put(keys.CONFIG_HEAD, head.canonical())])


def desk(store: Coordination, number: int) -> Desk:
    """Of a replica that sees everybody HEALTHY."""
    clock = SystemClock()
    view = HealthView(
        as_of=clock.now(),
        replica=f"cp-{number}",
        status="healthy",
        config_version=1,
        regions=(),
        targets=tuple(
            TargetHealth(id=each.id, region=each.region, provider=each.provider, verdict=Verdict.HEALTHY)
            for each in fleet().targets
        ),
        sources=(),
        buses=(),
    )
    mirror = Mirror(
        store,
        Blobs(store),
        clock=clock,
        rng=random.Random(number),
        etcd_beat_s=5.0,
        metrics=Metrics(),
        on_change=lambda: None,
    )
    operations = Operations(store, Blobs(store), replica=f"cp-{number}", clock=clock)
    return Desk(operations, mirror, view=lambda: view, clock=clock)
