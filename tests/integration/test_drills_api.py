"""Drills through whole replicas: on in-memory servers in virtual time, and over HTTP onto a real etcd."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest

from control_plane.api.build import build
from control_plane.api.guard import own_hosts
from control_plane.core.drills import START_WITHIN_S
from control_plane.loops.blobs import Blobs
from control_plane.loops.collect import Collector
from control_plane.loops.drill_records import is_drill
from control_plane.loops.drill_watch import GRACE_S
from control_plane.loops.drills import CLAIM_TTL_S, Drills
from control_plane.loops.ledger import Records
from control_plane.loops.mirror import Mirror
from control_plane.loops.operations import Operations
from control_plane.metrics import Metrics
from control_plane.ports import Busy, ConfigOrder, NotKept, RestoreOrder, TooLarge, Unfit
from control_plane.ports_drills import DrillDesk
from shared import keys
from shared.adapters.etcd import EtcdStore
from shared.clock import SystemClock
from shared.ports import Coordination, Delete, Put, Unavailable
from shared.supervise import Supervisor
from shared.vocabulary.audit import AuditEntry
from shared.vocabulary.base import Version, sha256_hex
from shared.vocabulary.config import Fleet
from shared.vocabulary.drill import (
    Drill,
    DrillEnd,
    DrillFault,
    DrillRequest,
    DrillSchedule,
    DrillSpec,
    Progress,
    RunnerWord,
)
from shared.vocabulary.drill_list import ScheduleOrder
from shared.vocabulary.drill_policy import DrillPolicy
from shared.vocabulary.override import OverrideRequest
from shared.vocabulary.status import DrillEvent
from shared.vocabulary.terms import Verdict
from shared.vocabulary.view import HealthView, TargetHealth
from tests.integration.test_overrides import Operators, configured
from tests.support.etcd import etcd_cluster
from tests.support.replicas import Running, World, fleet, play
from tests.support.still_drills import REPORT, SPEC, drill
from tests.support.still_replica import StillReplica

PAGE = "<!doctype html><p>it went well"
ABORTED = REPORT.model_copy(update={"outcome": "ABORTED"})


def asked(**more: Any) -> DrillRequest:
    """Ann's: the region `east` dies; claimed by nobody unless `more` says so."""
    spec = DrillSpec(
        drill="region-outage",
        what="One region dies.",
        hypothesis="Nobody notices.",
        faults=(DrillFault(fault="kill", by="stack", **more.pop("fault", {})),),
    )
    fields = {"spec": spec, "region": "east", "author": "ann", "reason": "before the launch", **more}
    return DrillRequest.model_validate(fields)


def word(requests: int, *, runner: str = "cli-1", phase: str = "fault") -> RunnerWord:
    """After so many requests."""
    event = DrillEvent(at_ms=0.0, event="killed", values={"region": "east"})
    progress = {"phase": phase, "requests": requests, "timeline": (event,)}
    return RunnerWord(runner=runner, progress=Progress.model_validate(progress))


def end(*, runner: str = "cli-1", html: str | None = PAGE, **report: Any) -> DrillEnd:
    """It passed, unless `report` says otherwise."""
    told = REPORT.model_copy(update=report)
    return DrillEnd(runner=runner, progress=word(1000).progress, report=told, html=html)


def recorded(world: World) -> dict[str, Drill]:
    """In etcd."""
    return {
        item.key.removeprefix(keys.DRILLS): Drill.model_validate_json(item.value)
        for item in world.store.read(keys.DRILLS)
        if not item.key.startswith((keys.DRILL_ACTIVE, keys.DRILL_SCHEDULES))
    }


def audited(world: World) -> list[tuple[str, str, str]]:
    """Action, subject and author of each entry, oldest first."""
    entries = [AuditEntry.model_validate_json(item.value) for item in world.store.read(keys.AUDIT)]
    assert [entry.n for entry in entries] == list(range(1, len(entries) + 1))
    return [(entry.action, entry.subject, entry.author) for entry in entries]


async def settled(world: World, *names: str, seed: Fleet | None = None, **more: Any) -> list[Running]:
    """Replicas that agree, and know that all is well."""
    world.probe()
    running = [await world.start(name, seed=seed, **more) for name in names]
    await world.until(lambda: world.version() >= Version(1, 1), within_s=5)
    await world.until(lambda: all(map(all_healthy, running)), within_s=10)
    return running


def all_healthy(one: Running) -> bool:
    view = one.replica.view()
    return view is not None and all(health.verdict is Verdict.HEALTHY for health in view.targets)


def with_policy(**policy: Any) -> Fleet:
    """The fleet under this drill policy."""
    return fleet().model_copy(update={"drills": DrillPolicy.model_validate(policy)})


def test_a_drill_from_the_request_to_the_report_over_any_replica() -> None:
    """Asked for here, claimed there; every replica shows each step; all but progress is on audit."""

    async def story(world: World) -> None:
        one, two = await settled(world, "cp-east", "cp-west")
        due = await one.replica.drills.request(asked())
        assert (due.id, due.state, due.spec.region) == ("drill-1", "DUE", "east")
        claimed = await two.replica.drills.claim(due.id, "agent")
        assert (claimed.state, claimed.runner) == ("RUNNING", "agent")
        assert await one.replica.drills.claim(due.id, "agent") == claimed
        told = await one.replica.drills.progress(due.id, word(70, runner="agent"))
        assert (told.stop, told.progress.requests) == (None, 70)
        await world.until(lambda: two.replica.drills.known().drills == (told,), within_s=1)
        ended = await two.replica.drills.finish(due.id, end(runner="agent"))
        assert ended.state == "PASSED"
        assert ended.report is not None
        assert ended.report.id == due.id
        assert await one.replica.drills.finish(due.id, end(runner="agent")) == ended
        await world.until(lambda: one.replica.drills.known().active is None, within_s=1)
        assert await one.replica.drills.one(due.id) == ended
        assert await two.replica.drills.page(due.id) == PAGE.encode()
        assert audited(world) == [
            ("drill.request", "drill-1", "ann"),
            ("drill.claim", "drill-1", "agent"),
            ("drill.finish", "drill-1", "agent"),
        ]

    play(story)


def test_a_second_one_is_refused_and_told_of_the_first() -> None:
    """On another replica too, while the first waits and while it runs; then it may."""

    async def story(world: World) -> None:
        one, two = await settled(world, "cp-east", "cp-west")
        first = await one.replica.drills.request(asked(runner="cli-1"))
        assert first.state == "RUNNING"
        for replica in (one.replica, two.replica):
            with pytest.raises(Unfit, match=r"drill 'drill-1' \(region-outage, of ann: before the launch\)"):
                await replica.drills.request(asked(author="bob", runner="cli-2"))
        # Its own runner, whose answer was lost, is given it again.
        assert await two.replica.drills.request(asked(runner="cli-1")) == first
        await two.replica.drills.finish(first.id, end())
        assert (await two.replica.drills.request(asked(author="bob"))).id == "drill-3"
        assert len(recorded(world)) == 2

    play(story)


def test_a_drill_that_leaves_only_what_is_drained_is_refused() -> None:
    """What operators hold back counts for nobody who would be left; lifted, it does again."""

    async def story(world: World) -> None:
        (one,) = await settled(world, "cp-east")
        word = {"author": "bob", "reason": "new racks"}
        drains = [
            await one.replica.overrides.give(
                OverrideRequest.model_validate({"kind": "drain", "region": region, "for_s": 600.0, **word})
            )
            for region in ("west", "south")
        ]
        with pytest.raises(Unfit, match="no region with a target that answers would be left, and 1 must be"):
            await one.replica.drills.request(asked())
        await one.replica.overrides.lift(drains[0].override.id, **word)
        assert (await one.replica.drills.request(asked())).state == "DUE"

    play(story)


@pytest.mark.parametrize("seed", range(1, 7))
def test_of_two_that_ask_at_once_one_is_refused(seed: int) -> None:
    """However their calls to etcd interleave; and nothing is left of the other."""

    async def story(world: World) -> None:
        one, two = await settled(world, "cp-east", "cp-west")
        one.etcd.link.latency_s = two.etcd.link.latency_s = (0.0, 0.05)
        answers = await asyncio.gather(
            one.replica.drills.request(asked()),
            two.replica.drills.request(asked(author="bob")),
            return_exceptions=True,
        )
        assert sorted(type(answer).__name__ for answer in answers) == ["Drill", "Unfit"]
        assert len(recorded(world)) == len(audited(world)) == 1

    play(story, seed=seed)


@pytest.mark.parametrize("fault", ["lose", "drop", "late"])
def test_a_lost_reply_gives_one_drill(fault: str) -> None:
    """Carried out, not carried out, or carried out after it was given up: in the end it is there once."""

    async def story(world: World) -> None:
        faults: list[Operators] = []

        def wrapped(client: Any) -> Operators:
            faults.append(Operators(client))
            return faults[-1]

        _, two = await settled(world, "cp-east", "cp-west", wrap=wrapped)
        if fault == "late":
            faults[1].late_s = 0.03
        else:
            setattr(faults[1], fault, True)
        two.etcd.link.latency_s = (0.005, 0.02)
        drill = await two.replica.drills.request(asked())
        await asyncio.gather(*faults[1].late)
        assert recorded(world) == {"drill-1": drill}
        assert world.value(keys.DRILL_ACTIVE) == b"drill-1"

    play(story)


def test_nothing_that_drills_write_wakes_a_decision() -> None:
    """A minute of progress, told every second: no commit, and the head's key untouched."""

    async def story(world: World) -> None:
        (one,) = await settled(world, "cp-east")
        drill = await one.replica.drills.request(asked(runner="cli-1"))
        await asyncio.sleep(12)
        version, nudges = world.version(), one.replica._nudge.count
        history = len(world.store.history)
        for second in range(60):
            await one.replica.drills.progress(drill.id, word(second))
            await asyncio.sleep(1)
        assert world.version() == version
        since = list(world.store.history)[history:]
        written = [change.key for _, changes in since for change in changes]
        assert set(written) <= {keys.drill(drill.id), keys.BEAT}
        # Only the leader's own Beat in etcd is told on, every five seconds.
        assert one.replica._nudge.count - nudges <= 13
        # Nor is anything written when it says the same again.
        history = len(world.store.history)
        await one.replica.drills.progress(drill.id, word(59))
        assert len(world.store.history) == history

    play(story)


def test_what_nobody_takes_up_is_over_after_a_minute() -> None:
    """The leader ends it, and says so; then another may begin."""

    async def story(world: World) -> None:
        (one,) = await settled(world, "cp-east")
        drill = await one.replica.drills.request(asked())
        await asyncio.sleep(CLAIM_TTL_S - 5)
        assert recorded(world)[drill.id].state == "DUE"
        await world.until(lambda: recorded(world)[drill.id].state == "ABORTED", within_s=10)
        assert recorded(world)[drill.id].note == "nobody took it up in time"
        with pytest.raises(Unfit, match="only one that is DUE"):
            await one.replica.drills.claim(drill.id, "agent")
        assert audited(world)[-1] == ("drill.abort", "drill-1", "cp-east")
        await one.replica.drills.request(asked())

    play(story)


def test_a_runner_that_dies_loses_its_drill() -> None:
    """Once nobody has renewed its claim for a minute, and it had time to come back; not before."""

    async def story(world: World) -> None:
        one, two = await settled(world, "cp-east", "cp-west")
        drill = await two.replica.drills.request(asked(runner="cli-1"))
        for second in range(0, 90, 15):
            await asyncio.sleep(15)
            await two.replica.drills.progress(drill.id, word(second))
        lost_s = await world.until(
            lambda: recorded(world)[drill.id].state == "ABORTED", within_s=CLAIM_TTL_S + GRACE_S + 5
        )
        assert lost_s >= CLAIM_TTL_S + GRACE_S - 1
        assert recorded(world)[drill.id].note == "its runner is gone"
        # Its last word comes late, and is taken: it is what happened.
        ended = await one.replica.drills.finish(drill.id, end(outcome="FAILED"))
        assert (ended.state, ended.note) == ("FAILED", "its claim had lapsed: its runner is gone")

    play(story)


def test_a_runner_that_was_cut_off_comes_back() -> None:
    """All replicas are gone for longer than the claim lasts: it holds it anew, and ends as if nothing was."""

    async def story(world: World) -> None:
        (one,) = await settled(world, "cp-east")
        drill = await one.replica.drills.request(asked(runner="cli-1"))
        await one.crash()
        await asyncio.sleep(CLAIM_TTL_S + 20)
        assert world.value(keys.DRILL_ACTIVE) is None
        two = await world.start("cp-west")
        await world.until(lambda: two.leads and two.replica.drills.known().drills, within_s=10)
        with pytest.raises(Unfit, match="has lost its runner"):
            await two.replica.drills.request(asked(author="bob"))
        told = await two.replica.drills.progress(drill.id, word(500))
        assert told.state == "RUNNING"
        assert world.value(keys.DRILL_ACTIVE) == b"drill-1"
        await asyncio.sleep(GRACE_S + 5)
        assert (await two.replica.drills.finish(drill.id, end())).state == "PASSED"
        assert world.value(keys.DRILL_ACTIVE) is None

    play(story)


def test_an_abort_ends_what_waits_and_asks_what_runs() -> None:
    """With who and why; twice is once; what ended by itself is not aborted."""

    async def story(world: World) -> None:
        one, two = await settled(world, "cp-east", "cp-west")
        waiting = await one.replica.drills.request(asked())
        gone = await two.replica.drills.abort(waiting.id, author="bob", reason="not now")
        assert (gone.state, gone.note) == ("ABORTED", "aborted before anybody ran it")
        assert await one.replica.drills.abort(waiting.id, author="eve", reason="again") == gone
        running = await one.replica.drills.request(asked(runner="cli-1"))
        stopped = await two.replica.drills.abort(running.id, author="bob", reason="a real outage")
        assert stopped.state == "RUNNING"
        told = await one.replica.drills.progress(running.id, word(9))
        assert told.stop is not None
        assert (told.stop.by, told.stop.reason) == ("bob", "a real outage")
        await one.replica.drills.finish(running.id, end(outcome="ABORTED"))
        passed = await one.replica.drills.request(asked(runner="cli-1"))
        await one.replica.drills.finish(passed.id, end())
        with pytest.raises(Unfit, match="is PASSED: there is nothing to abort"):
            await one.replica.drills.abort(passed.id, author="bob", reason="x")
        assert [entry[0] for entry in audited(world)].count("drill.abort") == 2

    play(story)


def test_the_master_switch_stops_the_one_under_way() -> None:
    """`stop` is set in the leader's name, once; and none may begin."""

    async def story(world: World) -> None:
        (one,) = await settled(world, "cp-east")
        drill = await one.replica.drills.request(asked(runner="cli-1"))
        off = with_policy(enabled=False)
        await one.replica.configs.apply(off, ConfigOrder(author="ann", reason="an outage", forced=True))
        await world.until(lambda: recorded(world)[drill.id].stop is not None, within_s=5)
        stop = recorded(world)[drill.id].stop
        assert stop is not None
        assert (stop.by, stop.reason) == ("cp-east", "drills were switched off (fleet.drills.enabled)")
        await asyncio.sleep(5)
        assert [entry[0] for entry in audited(world)].count("drill.abort") == 1
        await one.replica.drills.finish(drill.id, end(outcome="ABORTED"))
        with pytest.raises(Unfit, match="switched off"):
            await one.replica.drills.request(asked())

    play(story)


def test_only_its_own_runner_speaks_for_a_drill() -> None:
    """And only once it has claimed it; a record that etcd does not have is said to be gone."""

    async def story(world: World) -> None:
        (one,) = await settled(world, "cp-east")
        desk = one.replica.drills
        drill = await desk.request(asked())
        with pytest.raises(Unfit, match="nobody has claimed it"):
            await desk.progress(drill.id, word(1))
        await desk.claim(drill.id, "cli-1")
        for attempt in (
            desk.progress(drill.id, word(1, runner="cli-2")),
            desk.finish(drill.id, end(runner="cli-2")),
        ):
            with pytest.raises(Unfit, match="is run by cli-1, and not by cli-2"):
                await attempt
        with pytest.raises(Unfit, match="is RUNNING by cli-1"):
            await desk.claim(drill.id, "cli-2")
        for attempt in (
            desk.progress("drill-99", word(1)),
            desk.claim("drill-99", "x"),
            desk.one("drill-99"),
        ):
            with pytest.raises(NotKept, match="drill-99"):
                await attempt

    play(story)


def test_a_report_that_is_too_large_is_refused_whole() -> None:
    """Nothing is written; a smaller one is taken."""

    async def story(world: World) -> None:
        (one,) = await settled(world, "cp-east")
        drill = await one.replica.drills.request(asked(runner="cli-1"))
        events = tuple(DrillEvent(at_ms=float(i), event="x", values={"text": "y" * 2000}) for i in range(400))
        with pytest.raises(TooLarge, match="shorten its timeline"):
            await one.replica.drills.finish(drill.id, end(timeline=events))
        assert recorded(world)[drill.id].state == "RUNNING"
        await one.replica.drills.finish(drill.id, end(timeline=events[:10]))

    play(story)


def seconds_to(world: World, *, minutes: int) -> float:
    """Until the next full so many minutes."""
    now = world.clock.now()
    return 60.0 * minutes - now.minute % minutes * 60 - now.second


def test_a_schedule_comes_due_while_somebody_leads() -> None:
    """At its minute, in the leader's name, once; the record of both says of each other."""

    async def story(world: World) -> None:
        one, two = await settled(world, "cp-east", "cp-west")
        order = ScheduleOrder(id="often", cron="*/3 * * * *", request=asked())
        made = await two.replica.drills.schedule(order)
        assert await one.replica.drills.schedule(order) == made
        with pytest.raises(Unfit, match="says something else"):
            await one.replica.drills.schedule(order.model_copy(update={"cron": "*/6 * * * *"}))
        await asyncio.sleep(seconds_to(world, minutes=3) - 1)
        assert recorded(world) == {}
        await world.until(lambda: len(recorded(world)) == 1, within_s=3)
        (drill,) = recorded(world).values()
        assert world.clock.now().minute % 3 == 0
        assert (drill.state, drill.schedule, drill.author) == ("DUE", "often", "ann")
        (leader,) = world.leaders()
        assert audited(world)[-1] == ("drill.request", drill.id, leader.replica.node.id)
        await one.replica.drills.claim(drill.id, "agent")
        await one.replica.drills.finish(drill.id, end(runner="agent"))
        await asyncio.sleep(100)
        assert len(recorded(world)) == 1
        (standing,) = two.replica.drills.known().schedules
        assert standing.last_word == drill.id
        await two.replica.drills.unschedule("often", author="bob", reason="enough")
        with pytest.raises(NotKept, match="often"):
            await two.replica.drills.unschedule("often", author="bob", reason="enough")
        await asyncio.sleep(190)
        assert len(recorded(world)) == 1

    play(story)


@pytest.mark.slow
def test_a_time_that_cannot_be_kept_is_passed_over_and_says_why() -> None:
    """While another drill runs, while nobody leads, while drills are blocked."""

    async def story(world: World) -> None:
        (one,) = await settled(world, "cp-east")
        await one.replica.drills.schedule(ScheduleOrder(id="often", cron="*/5 * * * *", request=asked()))

        def said() -> str:
            raw = world.value(keys.drill_schedule("often"))
            assert raw is not None
            return DrillSchedule.model_validate_json(raw).last_word

        await asyncio.sleep(max(0.0, seconds_to(world, minutes=5) - 20))
        other = await one.replica.drills.request(asked(author="bob", runner="cli-1"))
        await world.until(lambda: "of bob" in said(), within_s=50)
        await one.replica.drills.finish(other.id, end())

        await asyncio.sleep(seconds_to(world, minutes=5) - 10)
        await one.stop()
        await asyncio.sleep(10 + START_WITHIN_S)
        two = await world.start("cp-west")
        await world.until(lambda: "missed: nobody led" in said(), within_s=20)

        await world.until(lambda: all_healthy(two), within_s=20)
        window = {"start": "00:00", "end": "00:00", "reason": "quarter's end"}
        order = ConfigOrder(author="ann", reason="x", forced=True)
        await two.replica.configs.apply(with_policy(blocked=[window]), order)
        await asyncio.sleep(seconds_to(world, minutes=5))
        await world.until(lambda: "quarter's end" in said(), within_s=3)
        assert len(recorded(world)) == 1

    play(story)


def test_the_last_fifty_stay_with_their_pages() -> None:
    """The leader drops what is older within a minute or two; the page's blob goes too."""

    async def story(world: World) -> None:
        pages = [f"{PAGE} {n}".encode() for n in range(53)]
        shas = [sha256_hex(page) for page in pages]
        for n, page in enumerate(pages):
            over = drill(n, state="PASSED", report_sha=shas[n])
            world.store.commit(
                [], [Put(keys.drill(over.id), over.canonical()), Put(keys.blob(shas[n]), page)]
            )
        await settled(world, "cp-east")
        await world.until(lambda: len(world.store.read(keys.DRILLS)) == 50, within_s=130)
        assert {drill.report_sha for drill in recorded(world).values()} == set(shas[3:])
        assert [world.value(keys.blob(sha)) for sha in shas[:3]] == [None, None, None]
        assert world.value(keys.blob(shas[3])) == pages[3]

    play(story)


def test_a_page_is_not_collected_while_its_drill_is_kept() -> None:
    """Sweep after sweep it is still there; without the drill it goes."""

    async def story(world: World) -> None:
        (one,) = await settled(world, "cp-east")
        drill = await one.replica.drills.request(asked(runner="cli-1"))
        sha = str((await one.replica.drills.finish(drill.id, end())).report_sha)
        metrics = Metrics()
        records = Records(one.etcd, Blobs(one.etcd), clock=world.clock, metrics=metrics)
        lead = one.replica._lead
        collector = Collector(one.etcd, records, lead=lead, clock=world.clock, metrics=metrics, sweep_s=0)
        assert lead.term is not None
        for _ in range(3):
            await collector.collect(lead.term)
        assert world.value(keys.blob(sha)) == PAGE.encode()
        world.store.commit([], [Delete(keys.drill(drill.id))])
        for _ in range(2):
            await collector.collect(lead.term)
        assert world.value(keys.blob(sha)) is None

    play(story)


def test_a_backup_holds_drills_and_their_pages_and_no_claim() -> None:
    """Restored elsewhere, what had ended reads as before, and what was under way is over."""
    lines: list[bytes] = []

    async def backed_up(world: World) -> None:
        (one,) = await settled(world, "cp-east")
        first = await one.replica.drills.request(asked(runner="cli-1"))
        await one.replica.drills.finish(first.id, end())
        await one.replica.drills.schedule(ScheduleOrder(id="weekly", cron="0 3 * * 1", request=asked()))
        await one.replica.drills.request(asked(runner="cli-1"))
        lines.extend([line async for line in await one.replica.archive.backup(None)])

    async def restored(world: World) -> None:
        (one,) = await settled(world, "cp-east")
        assert keys.DRILL_ACTIVE.encode() not in b"".join(lines)
        own = await one.replica.drills.request(asked(author="bob", runner="cli-7"))
        order = RestoreOrder(author="ann", reason="moving", forced=True)
        await one.replica.archive.restore(b"".join(lines), order)
        await world.until(lambda: len(one.replica.drills.known().drills) == 2, within_s=5)
        found = {drill.id: drill for drill in one.replica.drills.known().drills}
        # What stands here under the same name stays.
        assert found.pop("drill-1") == own
        (left,) = found.values()
        assert (left.state, left.runner) == ("ABORTED", "cli-1")
        assert left.note.startswith("restored from a backup")
        assert [each.id for each in one.replica.drills.known().schedules] == ["weekly"]

    play(backed_up)
    play(restored)


@pytest.mark.parametrize("seed", range(1, 9))
def test_whatever_is_asked_and_lost_there_is_never_more_than_one(seed: int) -> None:
    """Operators and runners on three replicas, with slow links, lost replies and a crash, for minutes: at
    no revision of etcd do two drills wait or run, the claim is never another's than that one's, and in
    the end the next may begin."""

    async def story(world: World) -> None:
        faults: list[Operators] = []

        def wrapped(client: Any) -> Operators:
            faults.append(Operators(client))
            return faults[-1]

        running = await settled(world, "cp-east", "cp-west", "cp-south", wrap=wrapped)
        for each in running:
            each.etcd.link.latency_s = (0.0, 0.03)
        rng = random.Random(seed)
        done: list[str] = []

        async def somebody(name: str) -> None:
            for _ in range(25):
                await asyncio.sleep(rng.uniform(0.0, 4.0))
                try:
                    done.append((await deed(rng, rng.choice(running[1:]).replica.drills, name)).state)
                except (Unfit, NotKept, Busy, Unavailable):
                    continue

        async def mischief() -> None:
            for _ in range(8):
                await asyncio.sleep(rng.uniform(2.0, 8.0))
                setattr(rng.choice(faults), rng.choice(["lose", "drop"]), True)
            await running[0].crash()

        async with asyncio.TaskGroup() as group:
            for name in ("ann", "bob", "eve"):
                group.create_task(somebody(name))
            group.create_task(mischief())
        await asyncio.sleep(CLAIM_TTL_S + GRACE_S + 20)
        assert len(done) >= 5
        assert all(drill.over for drill in recorded(world).values())
        # Nothing is left that would keep the next one from it.
        for each in faults:
            each.lose = each.drop = False
        await running[1].replica.drills.request(asked())
        check_history(world)
        audited(world)

    play(story, seed=seed)


async def deed(rng: random.Random, desk: DrillDesk, name: str) -> Drill:
    """One thing that somebody may do, sensible or not."""
    known = desk.known().active or "drill-1"
    match rng.randrange(6):
        case 0:
            return await desk.claim(known, name)
        case 1:
            return await desk.progress(known, word(rng.randrange(9), runner=name))
        case 2:
            return await desk.finish(known, end(runner=name))
        case 3:
            return await desk.abort(known, author=name, reason="x")
        case _:
            return await desk.request(asked(author=name, runner=rng.choice([None, name])))


def check_history(world: World) -> None:
    """Every revision in turn, by what was written and deleted in it."""
    drills: dict[str, Drill] = {}
    begun = 0
    for _, changes in world.store.history:
        for change in changes:
            if is_drill(change.key) and change.value is not None:
                drills[change.key] = Drill.model_validate_json(change.value)
        waiting = [drill.id for drill in drills.values() if not drill.over]
        claims = [change.value for change in changes if change.key == keys.DRILL_ACTIVE and change.value]
        assert len(waiting) <= 1, waiting
        for claim in claims:
            begun += 1
            assert [claim.decode()] == waiting
    assert begun >= 2


# ---------------------------------------------------------------- real etcd, over HTTP


@asynccontextmanager
async def served(store: Coordination, number: int) -> AsyncIterator[httpx2.AsyncClient]:
    """The API of a replica that knows of etcd by its own mirror, and sees everybody HEALTHY."""
    clock, blobs, metrics = SystemClock(), Blobs(store), Metrics()
    mirror = Mirror(
        store,
        blobs,
        clock=clock,
        rng=random.Random(number),
        etcd_beat_s=60.0,
        metrics=metrics,
        on_change=lambda: None,
    )
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
    replica: Any = StillReplica()
    replica.drills = Drills(
        Operations(store, blobs, replica=f"cp-{number}", clock=clock),
        store,
        blobs,
        shelf=mirror.drills,
        catalogue={SPEC.drill: SPEC},
        in_force=lambda: mirror.in_force,
        view=lambda: view,
        clock=clock,
    )
    app = build(replica, hosts=own_hosts("127.0.0.1", 7100, None))
    async with Supervisor() as supervisor:
        supervisor.start("mirror", mirror.run)
        transport = httpx2.ASGITransport(app=app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1:7100") as client:
            yield client


@pytest.mark.timeout(90)
async def test_a_drill_on_a_real_etcd_over_two_replicas() -> None:
    """Asked for, refused to a second, claimed, its claim lost and held anew, aborted, ended, shown."""
    body = {"name": "region-outage", "region": "east", "author": "ann", "reason": "before the launch"}
    async with etcd_cluster() as cluster:
        stores = [EtcdStore(cluster.address(), clock=SystemClock()) for _ in range(2)]
        try:
            await configured(stores[0])
            async with served(stores[0], 0) as one, served(stores[1], 1) as two:
                made = await one.post("/v1/drills", json=body)
                assert (made.status_code, made.headers["location"]) == (201, "/v1/drills/drill-1"), made.text
                refused = await two.post("/v1/drills", json={**body, "author": "bob"})
                assert refused.status_code == 409
                assert (
                    "drill 'drill-1' (region-outage, of ann: before the launch)" in refused.json()["detail"]
                )
                assert (await two.post("/v1/drills/drill-1/claim", json={"runner": "r"})).status_code == 200

                active, _ = await stores[0].get(keys.DRILL_ACTIVE)
                assert active is not None
                assert active.lease
                await stores[0].revoke(active.lease)
                told = {"runner": "r", "progress": {"phase": "fault", "requests": 70}}
                assert (await one.put("/v1/drills/drill-1/progress", json=told)).status_code == 200
                again, _ = await stores[0].get(keys.DRILL_ACTIVE)
                assert again is not None
                assert again.lease != active.lease

                stop = {"author": "bob", "reason": "a real outage"}
                assert (await two.post("/v1/drills/drill-1/abort", json=stop)).json()["state"] == "RUNNING"
                answer = (await one.put("/v1/drills/drill-1/progress", json=told)).json()
                assert (answer["stop"]["by"], answer["progress"]["requests"]) == ("bob", 70)
                ended = DrillEnd(runner="r", progress=word(70).progress, report=ABORTED, html=PAGE)
                done = await two.post("/v1/drills/drill-1/finish", json=ended.model_dump(mode="json"))
                assert done.json()["state"] == "ABORTED"
                assert (await stores[0].get(keys.DRILL_ACTIVE))[0] is None

                await shown(one, "drill-1", "ABORTED")
                assert (await one.get("/v1/drills/drill-1/report")).text == PAGE
                assert (await one.post("/v1/drills", json=body)).status_code == 201
            entries = [
                AuditEntry.model_validate_json(item.value)
                for item in (await stores[1].list(keys.AUDIT)).items
            ]
            assert [(entry.action, entry.author) for entry in entries] == [
                ("drill.request", "ann"),
                ("drill.claim", "r"),
                ("drill.abort", "bob"),
                ("drill.finish", "r"),
                ("drill.request", "ann"),
            ]
        finally:
            for store in stores:
                await store.close()


async def shown(client: httpx2.AsyncClient, name: str, state: str) -> None:
    """Until a replica's own memory has it so."""
    async with asyncio.timeout(20):
        while True:
            listed = (await client.get("/v1/drills")).json()["drills"]
            if any((each["id"], each["state"]) == (name, state) for each in listed):
                return
            await asyncio.sleep(0.02)
