"""Rollouts on whole replicas, on virtual time: by steps to the end, or back by themselves."""

import asyncio
from typing import Any

import pytest

from control_plane.ports import NotKept, Unfit
from shared import topics
from shared.vocabulary.config import Fleet
from shared.vocabulary.decision import Decision
from shared.vocabulary.health import HealthEvent, PassiveWindow
from shared.vocabulary.override import OverrideRequest
from shared.vocabulary.rollout import Rollout, RolloutSpec, RolloutStep
from shared.vocabulary.terms import Outcome, Role
from tests.support.replicas import World, fleet, play

NEW, OLD = "alpha-west", "alpha-east"
SPEC = RolloutSpec.model_validate(
    {
        "route": "chat",
        "targets": [NEW],
        "steps": [{"permille": 100, "bake_s": 30}, {"permille": 1000, "bake_s": 30}],
    }
)


def with_candidate() -> Fleet:
    """The usual fleet; `NEW` takes no part until a rollout brings it in."""
    plain = fleet().model_dump()
    plain["routes"][0]["tiers"][0]["candidates"] = [NEW]
    return Fleet.model_validate(plain)


class Traffic:
    """What an edge says of live traffic, once a second: the outcomes of the new and of the old."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.new: dict[Outcome, int] = {Outcome.OK: 30}
        self.old: dict[Outcome, int] = {Outcome.OK: 300, Outcome.FAILED: 2}
        self.latency_ms = {NEW: 100.0, OLD: 100.0}
        world.extras.start("traffic", self._run)

    async def _run(self) -> None:
        seq = 0
        while True:
            seq += 1
            event = HealthEvent(
                kind="passive",
                source="edge-east",
                role=Role.EDGE,
                vantage="east",
                boot=1,
                seq=seq,
                observed_at=self._world.clock.now(),
                passive=tuple(
                    PassiveWindow(
                        target=target,
                        window_s=10.0,
                        counts=counts,
                        latency_ms_mean=self.latency_ms[target] if counts else 0.0,
                    )
                    for target, counts in ((NEW, self.new), (OLD, self.old))
                ),
            )
            await self._world.say("east", topics.HEALTH, event.source, event.canonical())
            await asyncio.sleep(1.0)


def weight(world: World, target: str, client: str = "east") -> int | None:
    """Of `target` for the clients of a region, by the document on the bus; None when it takes no part."""
    document: Decision = world.documents("east")["chat"]
    for tier in document.regions[client].tiers:
        for part in tier.targets:
            if part.id == target:
                return part.weight_permille
    return None


def state(running: Any) -> Rollout:
    """Of the only rollout, as a replica mirrors it."""
    (found,) = running.replica.rollouts.all()
    rollout: Rollout = found[0]
    return rollout


def found(running: Any) -> str:
    """What the last look at the only rollout found."""
    ((_, why),) = running.replica.rollouts.all()
    return str(why)


async def drained_but_new(running: Any, *, forced: bool) -> list[str]:
    """Everything but `NEW` drained; the ids of the drains."""
    drains = []
    for spec in ({"region": "east"}, {"region": "south"}, {"target": "beta-west"}):
        request = OverrideRequest.model_validate(
            {"kind": "drain", "author": "bob", "reason": "racks", "for_s": 900, "forced": forced, **spec}
        )
        drains.append((await running.replica.overrides.give(request)).override.id)
    return drains


async def begun(world: World, spec: RolloutSpec = SPEC) -> tuple[list[Any], Traffic]:
    """Two replicas, live traffic, and a rollout started on the follower."""
    world.probe()
    running = [await world.start(name, seed=with_candidate()) for name in ("cp-east", "cp-west")]
    traffic = Traffic(world)
    await world.until(lambda: "chat" in world.documents("east") and world.leaders(), within_s=20)
    await asyncio.sleep(5)
    assert weight(world, NEW) is None
    excluded = {each.target: each for each in world.documents("east")["chat"].excluded}
    assert (excluded[NEW].by, excluded[NEW].reason) == ("policy", "candidate: no rollout has brought it in")
    follower = next(one for one in running if not one.leads)
    rollout = await follower.replica.rollouts.start(spec, author="ann", reason="a newer model")
    assert rollout.id == "ro-1"
    await world.until(lambda: weight(world, NEW) == spec.steps[0].permille, within_s=5)
    (reason,) = world.documents("east")["chat"].reasons
    assert (reason.code, reason.values["permille"]) == ("ROLLOUT_STEP", spec.steps[0].permille)
    return running, traffic


def test_as_good_and_it_goes_on_to_the_end() -> None:
    """Each step gives every client region the step's share wherever the target stands; after the last it is
    promoted and keeps everything; the old are stand-bys. Ended, the configuration alone counts again."""

    async def story(world: World) -> None:
        running, _ = await begun(world)
        assert {weight(world, NEW, client) for client in world.brokers} == {100}
        just_before = state(running[0]).old_before.attempts
        await world.until(lambda: weight(world, NEW) == 1000, within_s=60)
        assert state(running[0]).old_before.attempts > just_before > 0
        assert state(running[0]).state == "RUNNING"
        assert weight(world, OLD) == 0
        await world.until(lambda: state(running[0]).state == "PROMOTED", within_s=60)
        assert "failed and 0 garbled of" in state(running[0]).outcome
        assert weight(world, NEW) == 1000
        with pytest.raises(Unfit, match="only a running one"):
            await running[1].replica.rollouts.abort("ro-1", author="ann", reason="too late")
        desk = running[1].replica.rollouts
        with pytest.raises(Unfit, match="still has them as candidates"):
            await desk.end("ro-1", author="ann", reason="done")
        await desk.end("ro-1", author="ann", reason="it was only a trial", forced=True)
        await world.until(lambda: weight(world, NEW) is None, within_s=5)
        actions = [(entry.action, entry.author) for entry in running[0].replica.audit()]
        assert list(reversed(actions)) == [
            ("rollout.start", "ann"),
            ("rollout.step", world.leaders()[0].replica.node.id),
            ("rollout.promote", world.leaders()[0].replica.node.id),
            ("rollout.end", "ann"),
        ]

    play(story)


def test_worse_and_it_goes_back_by_itself() -> None:
    """Before the bake time is over, when chance cannot explain it; the figures are the reason for everybody."""

    async def story(world: World) -> None:
        running, traffic = await begun(world)
        traffic.new = {Outcome.OK: 20, Outcome.GARBLED: 10}
        took_s = await world.until(lambda: weight(world, NEW) is None, within_s=30)
        assert took_s < 30
        assert state(running[0]).state == "ROLLED_BACK"
        excluded = {each.target: each for each in world.documents("east")["chat"].excluded}
        assert excluded[NEW].by == "policy"
        (reason,) = world.documents("east")["chat"].reasons
        assert (reason.code, reason.values["state"]) == ("ROLLOUT_ENDED", "ROLLED_BACK")
        assert "garbled of" in reason.values["found"]
        assert excluded[NEW].reason.startswith("rollout ro-1 rolled back: garbled more than 20 permille")

    play(story)


def test_a_new_leader_watches_on() -> None:
    """It counts the step afresh, so it waits longer, and promotes all the same."""

    async def story(world: World) -> None:
        running, _ = await begun(world)
        await asyncio.sleep(20)
        (leader,) = world.leaders()
        await leader.crash()
        world.running.remove(leader)
        other = next(one for one in running if one is not leader)
        took_s = await world.until(lambda: state(other).step == 1, within_s=60)
        assert took_s > 30
        await world.until(lambda: state(other).state == "PROMOTED", within_s=150)
        assert weight(world, NEW) == 1000

    play(story)


@pytest.mark.parametrize("steps", [SPEC.steps, SPEC.steps[-1:]], ids=["by steps", "blue/green"])
def test_a_new_leader_knows_what_the_old_targets_did(steps: tuple[RolloutStep, ...]) -> None:
    """Though they have no traffic left, and it never saw them have any: what is slow is not promoted."""

    async def story(world: World) -> None:
        running, traffic = await begun(world, SPEC.model_copy(update={"steps": steps}))
        await world.until(lambda: weight(world, NEW) == 1000, within_s=60)
        traffic.old, traffic.latency_ms[NEW] = {}, 300.0
        await asyncio.sleep(15)
        (leader,) = world.leaders()
        await leader.crash()
        world.running.remove(leader)
        other = next(one for one in running if one is not leader)
        await world.until(lambda: state(other).state != "RUNNING", within_s=150)
        assert state(other).state == "ROLLED_BACK"
        assert "slower than 1.5 times the old" in state(other).outcome

    play(story)


def test_it_does_not_go_back_to_nobody() -> None:
    """All others drained: worse as it is it stays at its step, and says so; an operator may insist. When
    one of the others is back it goes back by itself."""

    async def story(world: World) -> None:
        _, traffic = await begun(world)
        (leader,) = world.leaders()
        drains = await drained_but_new(leader, forced=True)
        traffic.new = {Outcome.OK: 20, Outcome.GARBLED: 10}
        await world.until(lambda: "should go back, but nobody" in found(leader), within_s=30)
        await asyncio.sleep(60)
        assert (state(leader).state, state(leader).step) == ("RUNNING", 0)
        with pytest.raises(Unfit, match="nobody who answers would be left to route chat in east"):
            await leader.replica.rollouts.abort("ro-1", author="ann", reason="it garbles")
        await leader.replica.overrides.lift(drains[0], author="bob", reason="racks are in")
        await world.until(lambda: state(leader).state == "ROLLED_BACK", within_s=30)

    play(story)


def test_an_operator_may_insist() -> None:
    """Forced, it goes back to nobody, and the audit says that it was."""

    async def story(world: World) -> None:
        running, _ = await begun(world)
        await drained_but_new(running[0], forced=True)
        desk = running[0].replica.rollouts
        with pytest.raises(Unfit, match="force it if that is meant"):
            await desk.abort("ro-1", author="ann", reason="it leaks secrets")
        await desk.abort("ro-1", author="ann", reason="it leaks secrets", forced=True)
        await world.until(lambda: state(running[0]).state == "ABORTED", within_s=5)
        assert running[0].replica.audit()[0].values["forced"] is True
        await desk.end("ro-1", author="ann", reason="a candidate has nothing to lose")

    play(story)


def test_a_promoted_candidate_keeps_its_record_while_nobody_else_answers() -> None:
    """Without the record it is a candidate again, and gets nothing."""

    async def story(world: World) -> None:
        running, _ = await begun(world, SPEC.model_copy(update={"steps": SPEC.steps[-1:]}))
        desk = running[0].replica.rollouts
        await world.until(lambda: state(running[0]).state == "PROMOTED", within_s=90)
        await drained_but_new(running[0], forced=False)
        with pytest.raises(Unfit, match="nobody who answers would be left"):
            await desk.end("ro-1", author="ann", reason="done")
        await desk.end("ro-1", author="ann", reason="done", forced=True)

    play(story)


def test_aborted_it_goes_back_at_once() -> None:
    """By an operator's word on any replica. A second rollout of the route waits until the record is ended."""

    async def story(world: World) -> None:
        running, _ = await begun(world)
        desk = running[1].replica.rollouts
        with pytest.raises(NotKept):
            await desk.abort("ro-9", author="ann", reason="no such")
        with pytest.raises(Unfit, match="abort it first"):
            await desk.start(SPEC, author="bob", reason="again")
        await desk.abort("ro-1", author="ann", reason="the launch is off")
        await world.until(lambda: weight(world, NEW) is None, within_s=5)
        assert state(running[0]).outcome == "the launch is off"
        with pytest.raises(Unfit, match="end it first"):
            await desk.start(SPEC, author="bob", reason="again")
        await desk.end("ro-1", author="bob", reason="tidy")
        again = await desk.start(SPEC, author="bob", reason="again")
        assert again.id == "ro-4"

    play(story)
