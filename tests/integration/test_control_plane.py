"""Whole replicas over in-memory Kafka and etcd, on virtual time: leadership, commits, the outbox, repair."""

import asyncio
import json
import random
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from control_plane.loops.blobs import Blobs, Fenced
from control_plane.loops.collect import Collector
from control_plane.loops.lead import Lead
from control_plane.loops.ledger import DECISIONS_MEMORY, Records
from control_plane.metrics import Metrics
from control_plane.ports import Tenure
from control_plane.replica import Replica
from shared import keys, topics
from shared.adapters.memory import MemoryClient
from shared.ports import Compare, Delete, Put, TxnResult, Unavailable, WatchBatch
from shared.telemetry import NoTelemetry, Span
from shared.vocabulary.base import Version, sha256_hex
from shared.vocabulary.decision import Beat, Head
from shared.vocabulary.terms import Role, Verdict
from shared.vocabulary.view import SourceHealth
from tests.support.replicas import TTL_S, Running, World, fleet, node, play

Story = Callable[[World], Coroutine[Any, Any, None]]


class Etcd:
    """A client with faults at exact places, in front of another."""

    def __init__(self, client: MemoryClient) -> None:
        self._client = client
        self.lose_head_reply = False
        """The next commit of a head is carried out, and its reply lost."""
        self.pause: asyncio.Event | None = None
        """The next commit of a head waits for it: a process stopped between deciding and writing."""
        self.paused = asyncio.Event()
        self.mute_watches = False
        """Watches hang without a sign, as those of a stopped server do."""
        self.heads: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    async def commit(self, compares: Sequence[Compare], then: Sequence[Put | Delete]) -> TxnResult:
        heads = [op.value for op in then if isinstance(op, Put) and op.key == keys.DECISIONS_HEAD]
        if heads and self.pause is not None:
            self.paused.set()
            await self.pause.wait()
            self.pause = None
        result = await self._client.commit(compares, then)
        if heads:
            self.heads += heads if result.succeeded else []
            if self.lose_head_reply:
                self.lose_head_reply = False
                raise Unavailable("the reply was lost")
        return result

    async def watch(self, prefix: str, *, from_revision: int) -> AsyncGenerator[WatchBatch, None]:
        async for batch in self._client.watch(prefix, from_revision=from_revision):
            while self.mute_watches and prefix == "":
                await asyncio.sleep(1.0)
            yield batch


async def settled(world: World, *names: str, **more: Any) -> list[Running]:
    """Replicas with a first decision, and probers that say that all is well."""
    world.probe()
    running = [await world.start(name, **more) for name in names]
    await world.until(lambda: world.version() >= Version(1, 1), within_s=5)
    await world.until(lambda: all(len(world.beats(region)) > 1 for region in world.brokers), within_s=5)
    await asyncio.sleep(3)
    return running


def test_a_first_leader_seeds_decides_and_publishes() -> None:
    """One replica on an empty etcd: its file's fleet under version 1, the head 1.1, and on every bus
    the configuration, a document for each route, and Beats that name exactly those."""

    async def story(world: World) -> None:
        await settled(world, "cp-east")
        head = world.head()
        assert head is not None
        assert (head.version, head.config_version) == (Version(1, 1), 1)
        for region in world.brokers:
            config = json.loads(world.on_bus(region, topics.CONFIG)[-1])
            assert config["config_version"] == 1
            raw = world.on_bus(region, topics.DECISIONS)[-1]
            assert head.routes["chat"] == (1, sha256_hex(raw))
            beat = world.beats(region)[-1]
            assert beat.head == head
            assert beat.head_sha == sha256_hex(world.value(keys.DECISIONS_HEAD) or b"")

    play(story)


def test_one_leads_and_the_next_takes_over() -> None:
    """A resigned leader is followed within a second, a crashed one within TTL + 2 s; epochs rise, and
    what was in force stays in force."""

    async def story(world: World) -> None:
        await settled(world, "cp-east", "cp-west", "cp-south")
        (first,) = world.leaders()
        before, epoch = world.version(), first.replica.leader().leader
        began = world.loop.time()
        await first.stop()
        world.running.remove(first)
        await world.until(lambda: len(world.leaders()) == 1, within_s=1.0)
        assert world.loop.time() - began < 1.0
        (second,) = world.leaders()
        leader = second.replica.leader().leader
        assert epoch is not None
        assert leader is not None
        assert leader.epoch > epoch.epoch
        await second.crash()
        world.running.remove(second)
        took_s = await world.until(lambda: len(world.leaders()) == 1, within_s=TTL_S + 2)
        assert took_s > TTL_S / 2
        await asyncio.sleep(1)
        assert world.version() == before
        assert world.beats("west")[-1].holder == world.leaders()[0].replica.node.id

    play(story)


def test_a_down_target_leaves_and_returns() -> None:
    """The prober's word becomes a decision within a second, on every bus; so does its recovery."""

    async def story(world: World) -> None:
        await settled(world, "cp-east", "cp-west")
        assert "alpha-east" in world.used()
        world.down.add("alpha-east")
        await world.until(lambda: "alpha-east" not in world.used(), within_s=1.5)
        assert {world.documents(region)["chat"].version for region in world.brokers} == {world.version()}
        document = world.documents("west")["chat"]
        assert {reason.code for reason in document.reasons} == {"TARGET_DOWN"}
        assert {evidence.source for evidence in document.evidence} >= {"prober-east", "prober-west"}
        assert document.traceparent is not None
        world.down.clear()
        await world.until(lambda: "alpha-east" in world.used(), within_s=30)

    play(story)


def test_constant_input_writes_nothing() -> None:
    """A minute of the same news: no key of etcd changes but the Beat, and the buses hear Beats alone."""

    async def story(world: World) -> None:
        await settled(world, "cp-east", "cp-west")
        await asyncio.sleep(5)
        revision, documents = world.store.revision, len(world.on_bus("east", topics.DECISIONS))
        beats = len(world.beats("east"))
        await asyncio.sleep(60)
        written = {c.key for r, changes in world.store.history if r > revision for c in changes}
        assert written == {keys.BEAT}
        assert len(world.on_bus("east", topics.DECISIONS)) == documents
        assert 28 <= len(world.beats("east")) - beats <= 32

    play(story)


def test_a_leader_paused_between_deciding_and_writing_writes_nothing() -> None:
    """Its transaction comes when another leads, and fails; versions rise in one line of terms."""

    async def story(world: World) -> None:
        made: list[Etcd] = []

        def wrap(client: MemoryClient) -> Etcd:
            made.append(Etcd(client))
            return made[-1]

        (old,) = await settled(world, "cp-east", wrap=wrap)
        new = await world.start("cp-west")
        (etcd,) = made
        etcd.pause = asyncio.Event()
        world.down.add("alpha-east")
        await etcd.paused.wait()
        release, old.etcd.link.cut = etcd.pause, True
        await world.until(lambda: new.leads, within_s=TTL_S + 2)
        assert not old.leads
        await world.until(lambda: "alpha-east" not in world.used(), within_s=3)
        before = world.version()
        old.etcd.link.cut = False
        heads = len(etcd.heads)
        release.set()
        await asyncio.sleep(3)
        assert len(etcd.heads) == heads, "the old leader's head was committed"
        terms = [entry["term"]["epoch"] for entry in world.log()]
        assert terms == sorted(terms)
        assert world.version() == before

    play(story)


def test_a_leader_cut_from_etcd_stops_before_its_lease_ends() -> None:
    """Overlap 0 s: it stops saying Beats before anybody else can lead."""

    async def story(world: World) -> None:
        old, new = await settled(world, "cp-east", "cp-west")
        if new.leads:
            old, new = new, old
        old.etcd.link.cut = True
        while not new.leads:
            assert not (old.leads and new.leads)
            await asyncio.sleep(0.005)
        assert not old.leads
        said = [beat.epoch for beat in world.beats("south")]
        assert said == sorted(said)

    play(story)


def test_a_lost_reply_is_read_back_and_nothing_is_committed_twice() -> None:
    """The transaction was carried out, its reply lost: the leader finds its own head and goes on."""

    async def story(world: World) -> None:
        made: list[Etcd] = []

        def wrap(client: MemoryClient) -> Etcd:
            made.append(Etcd(client))
            return made[-1]

        (one,) = await settled(world, "cp-east", wrap=wrap)
        made[0].lose_head_reply = True
        world.down.add("alpha-east")
        await world.until(lambda: "alpha-east" not in world.used(), within_s=2)
        await asyncio.sleep(2)
        seqs = [(entry["generation"], entry["seq"]) for entry in world.log()]
        assert seqs == [(1, number) for number in range(1, world.version().seq + 1)]
        assert len(made[0].heads) == len(set(made[0].heads)) == len(seqs)
        assert 'read_backs_total{found="True"} 1.0' in one.replica.metrics().decode()

    play(story)


def test_an_emptied_etcd_raises_the_generation() -> None:
    """An edge holds 1.1, etcd has nothing: the next decision is above all that anybody holds, and so
    is the configuration's version."""

    async def story(world: World) -> None:
        await settled(world, "cp-east", "cp-west")

        async def edge() -> None:
            number = 0
            while True:
                number += 1
                await world.ack(Version(1, 1), number=number, config_version=4)
                await asyncio.sleep(1)

        world.extras.start("edge", edge)
        await asyncio.sleep(2)
        world.store.restore()
        await world.until(lambda: world.version().generation >= 2, within_s=TTL_S + 5)
        head = world.head()
        assert head is not None
        assert head.version > Version(1, 1)
        await asyncio.sleep(5)
        head = world.head()
        assert head is not None
        assert head.config_version > 4
        assert world.beats("west")[-1].head == head

    play(story)


def test_an_older_snapshot_of_etcd_raises_the_generation() -> None:
    """Restored to 1.1 while edges hold 1.3: the head becomes 2.x, never 1.2 again."""

    async def story(world: World) -> None:
        await settled(world, "cp-east", "cp-west")
        snapshot = world.store.snapshot()
        world.down.add("alpha-east")
        await world.until(lambda: "alpha-east" not in world.used(), within_s=3)
        latest = world.version()
        await world.ack(latest, number=1)
        await asyncio.sleep(1)
        world.store.restore(snapshot)
        await world.until(lambda: world.version().generation == 2, within_s=20)
        await world.until(lambda: world.beats("south")[-1].generation == 2, within_s=20)
        said = [beat.head.version for beat in world.beats("south")]
        assert max(v for v in said if v.generation == 1) == latest

    play(story)


def test_the_same_version_with_another_content_raises_the_generation() -> None:
    """An edge that serves a 1.1 of another history must not be taken for up to date."""

    async def story(world: World) -> None:
        await settled(world, "cp-east")
        await world.ack(Version(1, 1), head_sha="f" * 64)
        await world.until(lambda: world.version() > Version(2, 0), within_s=2)

    play(story)


def test_a_bus_that_comes_back_empty_gets_everything_again() -> None:
    """Configuration, documents and Beats, by itself, within seconds; the other buses get nothing twice."""

    async def story(world: World) -> None:
        await settled(world, "cp-east", "cp-west")
        others = len(world.on_bus("east", topics.CONFIG))
        world.brokers["west"].up = False
        await asyncio.sleep(4)
        world.brokers["west"].empty()
        world.brokers["west"].up = True
        await world.until(lambda: "chat" in world.documents("west"), within_s=5)
        await world.until(lambda: world.beats("west"), within_s=3)
        assert world.on_bus("west", topics.CONFIG)
        assert len(world.on_bus("east", topics.CONFIG)) == others

    play(story)


def test_a_bus_emptied_in_the_blink_of_an_eye_gets_everything_again() -> None:
    """No publication ever failed: the observer's gap is what gives it away."""

    async def story(world: World) -> None:
        await settled(world, "cp-east")
        world.brokers["south"].empty()
        await world.until(lambda: "chat" in world.documents("south"), within_s=5)
        assert world.on_bus("south", topics.CONFIG)

    play(story)


def test_a_dead_bus_delays_nobody() -> None:
    """The others hear a decision as fast as ever; the dead one gets the newest when it is back."""

    async def story(world: World) -> None:
        await settled(world, "cp-east")
        world.brokers["west"].up = False
        await asyncio.sleep(1)
        world.down.add("alpha-east")
        await world.until(lambda: "alpha-east" not in world.used(), within_s=1.5)
        world.brokers["west"].up = True
        await world.until(lambda: world.documents("west")["chat"].version == world.version(), within_s=5)

    play(story)


POISON = {
    "garbage": b"\x00not json",
    "oversized": b'{"x":"' + b"a" * 901_000 + b'"}',
    "schema_version": b'{"schema_version":99,"kind":"heartbeat"}',
    "kind": b'{"schema_version":1,"kind":"gossip"}',
    "invalid": b'{"schema_version":1,"kind":"probe","source":"UPPER"}',
}


@pytest.mark.parametrize("reason", [*POISON, "future"])
def test_poison_goes_to_the_dead_letters_and_the_reader_goes_on(reason: str) -> None:
    """Counted by reason, kept with where it came from, and the view unchanged."""

    async def story(world: World) -> None:
        (one,) = await settled(world, "cp-east")
        poison = POISON.get(reason)
        if poison is None:
            event = world.event("east", 10_000)
            poison = event.model_copy(
                update={"observed_at": event.observed_at.replace(year=2099)}
            ).canonical()
        await world.say("east", topics.HEALTH, "prober-east", poison)
        await world.until(lambda: world.on_bus("east", topics.DLQ), within_s=2)
        records = [
            r for (topic, _), log in world.brokers["east"].logs.items() if topic == topics.DLQ for r in log
        ]
        headers = dict(records[0].headers)
        assert headers["leeward_reason"] == reason.encode()
        assert headers["leeward_topic"] == topics.HEALTH.encode()
        assert f'dlq_total{{reason="{reason}"}} 1.0' in one.replica.metrics().decode()
        world.down.add("alpha-east")
        await world.until(lambda: "alpha-east" not in world.used(), within_s=1.5)

    play(story)


def test_duplicates_and_reordering_change_nothing() -> None:
    """Old words after new ones, and everything twice: the same head."""

    async def story(world: World) -> None:
        await settled(world, "cp-east")
        before = world.version()
        for number in (3, 2, 3, 1):
            event = world.event("east", number).canonical()
            await world.say("east", topics.HEALTH, "prober-east", event)
        await asyncio.sleep(3)
        assert world.version() == before

    play(story)


def test_old_words_read_late_do_not_look_fresh() -> None:
    """A replica that starts after a prober died reads its last words, and knows them for old."""

    async def story(world: World) -> None:
        await settled(world, "cp-east")
        world.silent.add("west")
        await asyncio.sleep(9)
        late = await world.start("cp-west")
        await asyncio.sleep(1)
        view = late.replica.view()
        assert view is not None
        fresh = {source.id: source.fresh for source in view.sources if source.role is Role.PROBER}
        assert fresh == {"prober-east": True, "prober-west": False, "prober-south": True}

    play(story)


def test_replicas_hear_each_other() -> None:
    """Each names the others, stand-bys too; a dead bus makes nobody silent, and who dies is named with
    the time it was last heard."""

    async def story(world: World) -> None:
        (leader,) = await settled(world, "cp-east")
        standby = await world.start("cp-west")

        def heard(one: Running) -> dict[str, SourceHealth]:
            view = one.replica.view()
            assert view is not None
            return {source.id: source for source in view.sources if source.role is Role.CONTROL_PLANE}

        def all_fresh() -> bool:
            return all(
                heard(one).keys() == {"cp-east", "cp-west"}
                and all(each.fresh for each in heard(one).values())
                for one in (leader, standby)
            )

        await world.until(all_fresh, within_s=5)
        world.brokers["west"].up = False
        await asyncio.sleep(12)
        assert all_fresh()
        died_at = world.clock.now()
        await standby.crash()
        await world.until(lambda: not heard(leader)["cp-west"].fresh, within_s=8)
        silent_since = heard(leader)["cp-west"].silent_since
        assert silent_since is not None
        assert 0 <= (died_at - silent_since).total_seconds() <= 2.5
        view = leader.replica.view()
        assert view is not None
        assert view.summary is not None
        assert "cp-west" in view.summary.silent

    play(story)


def test_failovers_are_counted_from_the_log() -> None:
    """One target out is one failover of the last hour, on every replica, however long ago this one began."""

    async def story(world: World) -> None:
        await settled(world, "cp-east")
        world.down.add("alpha-east")
        await world.until(lambda: "alpha-east" not in world.used(), within_s=5)
        later = await world.start("cp-west")

        def counted() -> int:
            view = later.replica.view()
            return view.summary.failovers_last_hour if view is not None and view.summary is not None else 0

        await world.until(lambda: counted() == 1, within_s=5)

    play(story)


def test_silence_is_unknown_and_removes_nothing() -> None:
    """All probers dead: every verdict UNKNOWN, and not one decision more."""

    async def story(world: World) -> None:
        (one,) = await settled(world, "cp-east")
        before = world.version()
        world.silent |= set(world.brokers)
        await asyncio.sleep(30)
        view = one.replica.view()
        assert view is not None
        assert {target.verdict for target in view.targets} == {Verdict.UNKNOWN}
        assert world.version() == before

    play(story)


def test_a_watch_that_hangs_is_noticed_by_the_leaders_silence() -> None:
    """A follower whose watch is dead lists again within three Beats of etcd, and misses nothing."""

    async def story(world: World) -> None:
        made: list[Etcd] = []

        def wrap(client: MemoryClient) -> Etcd:
            made.append(Etcd(client))
            return made[-1]

        await settled(world, "cp-east")
        follower = await world.start("cp-west", wrap=wrap)
        await asyncio.sleep(2)
        made[0].mute_watches = True
        world.down.add("alpha-east")
        await world.until(lambda: "alpha-east" not in world.used(), within_s=2)
        assert follower.replica.in_force().version == Version(1, 1)
        await world.until(lambda: follower.replica.in_force().version == world.version(), within_s=17)

    play(story)


def test_a_replica_survives_compaction_under_its_watch() -> None:
    """History is gone when its link is back: it lists, and holds the head."""

    async def story(world: World) -> None:
        leader, follower = await settled(world, "cp-east", "cp-west")
        if follower.leads:
            leader, follower = follower, leader
        follower.etcd.link.cut = True
        world.down.add("alpha-east")
        await world.until(lambda: "alpha-east" not in world.used(), within_s=2)
        await asyncio.sleep(1)
        world.store.compact(world.store.revision)
        follower.etcd.link.cut = False
        await world.until(lambda: follower.replica.in_force().version == world.version(), within_s=15)

    play(story)


def test_a_lost_document_is_written_anew() -> None:
    """A blob that the head names is gone: the next leader raises the generation and rewrites all."""

    async def story(world: World) -> None:
        (first,) = await settled(world, "cp-east")
        head = world.head()
        assert head is not None
        await first.stop()
        world.running.remove(first)
        world.store.commit([], [Delete(keys.blob(head.routes["chat"][1]))])
        await world.start("cp-west")
        await world.until(lambda: world.version() > Version(2, 0), within_s=TTL_S + 5)
        await world.until(lambda: world.documents("east")["chat"].generation == 2, within_s=2)

    play(story)


def test_whoever_leads_next_publishes_what_the_last_one_could_not() -> None:
    """Committed and never published: the buses get it from the successor."""

    async def story(world: World) -> None:
        first, second = await settled(world, "cp-east", "cp-west")
        if second.leads:
            first, second = second, first
        for bus in first.buses.values():
            bus.link.cut = True
        await world.say("east", topics.HEALTH, "x", world.event("east", 1).canonical())
        # The leader hears nothing more, so it decides by what it is told over HTTP: an edge is ahead.
        first.replica.acknowledge(await world.ack(Version(1, 9)))
        await world.until(lambda: world.version().generation == 2, within_s=3)
        assert world.documents("east")["chat"].generation == 1
        await first.crash()
        world.running.remove(first)
        await world.until(lambda: world.documents("east")["chat"].generation == 2, within_s=TTL_S + 3)

    play(story)


def test_old_history_is_collected_and_what_is_named_stays() -> None:
    """The log keeps its last thousand; blobs go when two sweeps found nobody who names them."""

    async def story(world: World) -> None:
        (one,) = await settled(world, "cp-east")
        await one.stop()
        world.running.remove(one)
        entry = world.store.read(keys.DECISIONS_LOG)[0].value
        for number in range(1300):
            world.store.commit([], [Put(keys.log_entry(0, number), entry)])
        world.store.commit([], [Put(keys.log_entry(0, 1_299), b"not ours")])  # must not stop the sweep
        pieces = [Put(f"{keys.blob('b' * 64)}/{number:06d}", b"x") for number in range(2)]
        world.store.commit([], [Put(keys.blob("a" * 64), b"nobody's"), *pieces])
        client = world.store.client("cp-west")
        metrics = Metrics()
        lead = Lead(
            client,
            node=node("cp-west"),
            clock=world.clock,
            rng=world.rng,
            metrics=metrics,
            on_change=lambda: None,
        )
        records = Records(client, Blobs(client), clock=world.clock, metrics=metrics)
        collector = Collector(client, records, lead=lead, clock=world.clock, metrics=metrics, sweep_s=100.0)
        world.extras.start("lead", lead.run)
        world.extras.start("collect", collector.run)
        await asyncio.sleep(70)
        assert len(world.store.read(keys.DECISIONS_LOG)) == 1000
        assert world.value(keys.blob("a" * 64)) is not None, "one sweep is not enough"
        await asyncio.sleep(120)
        assert world.value(keys.blob("a" * 64)) is None
        assert not world.store.read(keys.blob("b" * 64))
        head = world.head()
        assert head is not None
        assert all(world.value(keys.blob(sha)) for _, sha in head.routes.values())

    play(story)


def test_another_leaders_term_cannot_be_written_in() -> None:
    """The fence itself: blobs, generation and configuration of a term that ended are refused, even where
    an emptied etcd has given the next leader's key the very revision of that term."""

    async def story(world: World) -> None:
        (first,) = await settled(world, "cp-east")
        stale = first.replica.leader().leader
        assert stale is not None
        await first.stop()
        world.running.remove(first)
        await world.start("cp-west")
        await world.until(lambda: len(world.leaders()) == 1, within_s=2)
        client = world.store.client("ghost")
        records = Records(client, Blobs(client), clock=world.clock, metrics=Metrics())
        ledger = await records.load()
        (leader,) = world.store.read(keys.LEADER)
        for epoch in (stale.epoch, leader.create_revision):
            term = Tenure(holder="cp-east", epoch=epoch, lease=leader.lease + 1)
            with pytest.raises(Fenced):
                await records.set_generation(ledger, 9, term=term)
            with pytest.raises(Fenced):
                await records.put_config(ledger, fleet(), version=9, author="x", reason="x", term=term)
        assert world.value(keys.GENERATION) == b"1"
        assert world.value(DECISIONS_MEMORY) is not None

    play(story)


class Recorder(NoTelemetry):
    """Remembers every span that was begun: (name, its context, parent, links)."""

    def __init__(self) -> None:
        super().__init__(random.Random(5))
        self.spans: list[tuple[str, str, str | None, tuple[str, ...]]] = []

    def begin(self, name: str, **told: Any) -> Span:
        span = super().begin(name, **told)
        self.spans.append((name, span.traceparent, told.get("parent"), tuple(told.get("links", ()))))
        return span

    @contextmanager
    def span(self, name: str, **told: Any) -> Iterator[Span]:
        yield self.begin(name, **told)


def test_a_decision_is_one_trace_that_links_its_evidence() -> None:
    """decide continues or links the probes behind it; commit and publish are its children; the document and the
    messages on the buses carry its trace on to the edges."""

    async def story(world: World) -> None:
        recorder = Recorder()
        await settled(world, "cp-east", telemetry=recorder)
        del recorder.spans[:]
        world.down.add("alpha-east")
        await world.until(lambda: "alpha-east" not in world.used(), within_s=2)
        document = world.documents("west")["chat"]
        decide = next(span for span in recorder.spans if span[1] == document.traceparent)
        assert decide[0] == "decide"
        probes = {evidence.traceparent for evidence in document.evidence} - {None}
        assert probes
        continued = {probe for probe in probes if decide[2] is not None and probe[3:35] == decide[2][3:35]}
        assert probes <= set(decide[3]) | continued
        children = {name for name, _, parent, _ in recorder.spans if parent == decide[1]}
        assert children == {"commit", f"publish {topics.DECISIONS}"}
        log = world.brokers["west"].logs
        record = next(reversed([r for (t, _), of in log.items() if t == topics.DECISIONS for r in of]))
        assert dict(record.headers)["traceparent"][3:35] == decide[1][3:35].encode()
        assert world.log()[-1]["traceparent"] == document.traceparent

    play(story)


# ---------------------------------------------------------------- the stream


def parse(chunk: bytes) -> list[tuple[str, bytes]]:
    """Events of a chunk as (name, data)."""
    events = []
    for block in chunk.split(b"\n\n"):
        fields = dict(line.split(b": ", 1) for line in block.split(b"\n") if line and line[:1] != b":")
        if fields:
            events.append((fields[b"event"].decode(), fields[b"data"]))
    return events


async def collect(world: World, replica: Replica, into: list[tuple[str, bytes]]) -> None:
    """Read a stream until it ends."""
    async for chunk in replica.follow():
        into += parse(chunk)


@pytest.mark.parametrize("leading", [True, False])
def test_a_stream_is_a_snapshot_and_then_what_happens(leading: bool) -> None:
    """From the leader and from a follower alike: hello, all that is in force, a Beat; then each change
    with its head, and Beats; and an end when the replica leaves."""

    async def story(world: World) -> None:
        one, other = await settled(world, "cp-east", "cp-west")
        asked = one if one.leads == leading else other
        events: list[tuple[str, bytes]] = []
        world.extras.spawn("reader", collect(world, asked.replica, events))
        await asyncio.sleep(0.5)
        assert [name for name, _ in events] == ["hello", "config", "decision", "head", "beat"]
        assert json.loads(events[0][1])["confirmed"] is True
        head = Head.model_validate_json(events[3][1])
        assert sha256_hex(events[2][1]) == head.routes["chat"][1]
        assert Beat.model_validate_json(events[4][1]).head == head
        del events[:]
        world.down.add("alpha-east")
        await world.until(lambda: "head" in [name for name, _ in events], within_s=2)
        names = [name for name, _ in events if name != "beat"]
        assert names[:2] == ["decision", "head"]
        await asyncio.sleep(12)
        beats = [Beat.model_validate_json(data).order for name, data in events if name == "beat"]
        assert beats == sorted(set(beats))
        assert len(beats) >= 2
        await asked.stop()
        await asyncio.sleep(0.1)

    play(story)


def test_without_etcd_a_stream_begins_with_the_last_known_and_says_so() -> None:
    """The mirror still holds a head: a restarted edge gets it, unconfirmed and without a Beat."""

    async def story(world: World) -> None:
        (one,) = await settled(world, "cp-east")
        world.store.up = False
        await asyncio.sleep(20)
        events: list[tuple[str, bytes]] = []
        world.extras.spawn("reader", collect(world, one.replica, events))
        await asyncio.sleep(4)
        assert json.loads(events[0][1])["confirmed"] is False
        assert [name for name, _ in events[1:]] == ["config", "decision", "head"]

    play(story)


def test_an_old_beat_in_etcd_makes_nobody_fresh() -> None:
    """The Beat key outlives the control plane: a replica that finds it does not hand it on."""

    async def story(world: World) -> None:
        (one,) = await settled(world, "cp-east")
        await one.crash()
        world.running.remove(one)
        await asyncio.sleep(TTL_S + 1)
        assert world.value(keys.BEAT) is not None

        class NoCampaign(Etcd):
            async def grant(self, ttl_s: int) -> int:
                raise Unavailable("no lease for this one")

        late = await world.start("cp-west", wrap=NoCampaign)
        events: list[tuple[str, bytes]] = []
        world.extras.spawn("reader", collect(world, late.replica, events))
        await asyncio.sleep(8)
        assert [name for name, _ in events] == ["hello", "config", "decision", "head"]

    play(story)


def test_why_is_answered_from_history() -> None:
    """The documents of a commit that is no longer in force come from etcd, by hash."""

    async def story(world: World) -> None:
        _, follower = await settled(world, "cp-east", "cp-west")
        world.down.add("alpha-east")
        await world.until(lambda: "alpha-east" not in world.used(), within_s=2)
        await asyncio.sleep(0.5)
        entry, texts = await follower.replica.documents_of(Version(1, 1))
        assert entry is not None
        assert [sha256_hex(text) for text in texts] == [sha for _, sha in entry.changed]
        seqs = [entry.seq for entry in follower.replica.log()]
        assert seqs == list(range(world.version().seq, 0, -1))

    play(story)


def test_a_million_byte_configuration_travels_in_pieces() -> None:
    """Blobs above etcd's request limit are cut, and put together by every reader."""

    async def story(world: World) -> None:
        big = fleet(routes=("chat",))
        keys_of = tuple({"id": f"key-{n}", "sha256": f"{n:064x}", "routes": ["*"]} for n in range(14_000))
        big = type(big).model_validate({**big.model_dump(mode="json"), "client_keys": keys_of})
        await world.start("cp-east", seed=big)
        follower = await world.start("cp-west", seed=big)
        await world.until(lambda: follower.replica.in_force().config is not None, within_s=8)
        assert len(follower.replica.in_force().config_raw) > 1_500_000
        assert any("/000001" in item.key for item in world.store.read(keys.BLOBS))

    play(story)
