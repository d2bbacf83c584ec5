"""An edge's following over real HTTP and a bus in memory: two paths, their losses, files, modes, and what it tells."""

import asyncio
import json
import random
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from edge_router.adapters.store import DiskFiles, DiskStore
from edge_router.adapters.stream import MAX_EVENT_BYTES, HttpControlPlane
from edge_router.app import Outside, serve
from edge_router.core.table import RouteTable
from edge_router.ports import LastKnownGood
from shared.adapters.memory import MemoryBroker
from shared.clock import SystemClock
from shared.ports import PortError
from shared.telemetry import NoTelemetry
from shared.topics import ACKS, BEATS, CONFIG, DECISIONS, HEALTH
from shared.vocabulary.config import Fleet
from shared.vocabulary.decision import Ack
from shared.vocabulary.health import HealthEvent, PassiveWindow, RouteLoad
from shared.vocabulary.node import Node
from shared.vocabulary.terms import EdgeMode, Outcome
from tests.support.edge_worlds import REGIONS, ToyControlPlane, fleet
from tests.support.toy_replica import ToyReplica

SILENCE_S = 0.4
FRESH_S = 0.6
STATIC_S = 1.5
TIMINGS = {
    "fresh_s": FRESH_S,
    "static_s": STATIC_S,
    "beat_s": 0.1,
    "etcd_beat_s": 0.1,
    "round_s": 0.1,
    "passive_s": 0.05,
    "drain_s": 1.0,
}


class Recorder:
    """The data path as following sees it."""

    def __init__(self, table: RouteTable) -> None:
        self.tables = [table]
        self.mode = EdgeMode.STALE
        self.windows: tuple[PassiveWindow, ...] = ()
        self.carried: tuple[RouteLoad, ...] = ()
        self.drained: float | None = None
        self.turned = asyncio.Event()

    async def start(self, host: str, port: int) -> tuple[str, int]:
        return host, port

    async def drain(self, timeout_s: float) -> None:
        self.drained = timeout_s

    def swap(self, table: RouteTable, *, applied_in: str | None = None) -> None:
        self.tables.append(table)

    def passive(self, window_s: float) -> tuple[PassiveWindow, ...]:
        return self.windows

    def loads(self, window_s: float) -> tuple[RouteLoad, ...]:
        return self.carried


class Running:
    """One edge that runs, and what a test may look at."""

    def __init__(self, admin: str) -> None:
        self.recorder: Recorder | None = None
        self.admin = admin
        self.ended = asyncio.Event()
        self.session: aiohttp.ClientSession | None = None

    async def status(self) -> dict[str, Any]:
        assert self.session is not None
        async with self.session.get(f"{self.admin}/status") as response:
            shown: dict[str, Any] = await response.json()
            return shown

    async def ready(self) -> tuple[int, str]:
        assert self.session is not None
        async with self.session.get(f"{self.admin}/readyz") as response:
            return response.status, await response.text()

    async def until(self, **expected: Any) -> dict[str, Any]:
        """Wait until the status shows all of `expected`."""
        shown: dict[str, Any] = {}

        async def as_expected() -> bool:
            nonlocal shown
            shown = await self.status()
            return all(shown[name] == value for name, value in expected.items())

        await eventually(as_expected, lambda: f"wanted {expected}, shown {json.dumps(shown)}")
        return shown


async def eventually(
    holds: Callable[[], Awaitable[bool]], why: Callable[[], str] = lambda: "never", within_s: float = 15.0
) -> None:
    until = asyncio.get_running_loop().time() + within_s
    while not await holds():
        assert asyncio.get_running_loop().time() < until, why()
        await asyncio.sleep(0.02)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Stage:
    """What an edge of us-east stands on. Nothing of it is started or reachable unless a test does so."""

    def __init__(self, state_dir: Path) -> None:
        self.cp = ToyControlPlane()
        self.cp.commit()
        self.clock = SystemClock()
        self.broker = MemoryBroker("us-east", clock=self.clock, rng=random.Random(1))
        self.state_dir = state_dir
        self.telemetry: Any = NoTelemetry()
        self.boot = 0

    async def publish(self, topic: str, value: bytes, key: bytes = b"key") -> None:
        await self.broker.bus("cp").publish(topic, key=key, value=value)

    async def publish_newest(self) -> None:
        """As the leader's outbox does."""
        await self.publish(CONFIG, self.cp.configs[-1], b"fleet")
        for route, raw in self.cp.documents.items():
            await self.publish(DECISIONS, raw, route.encode())

    def told(self, topic: str) -> list[Any]:
        """All records of a topic, oldest first."""
        records = [r for (t, _), log in self.broker.logs.items() if t == topic for r in log]
        return sorted(records, key=lambda record: record.timestamp_ms)

    @asynccontextmanager
    async def edge(
        self,
        *urls: str,
        with_fleet: bool = True,
        with_bus: bool = True,
        store: LastKnownGood | None = None,
        region: str = "us-east",
    ) -> AsyncIterator[Running]:
        """Run an edge until the block ends."""
        self.boot += 1
        port = free_port()
        node = Node.model_validate(
            {
                "role": "edge",
                "id": "edge-us-east",
                "region": region,
                "state_dir": str(self.state_dir),
                "listen": "127.0.0.1:9",
                "admin_listen": f"127.0.0.1:{port}",
                "control_planes": urls or ("http://127.0.0.1:9",),
                "timings": TIMINGS,
            }
        )
        running = Running(f"http://127.0.0.1:{port}")

        def make_serving(table: RouteTable, *_: object) -> Recorder:
            running.recorder = Recorder(table)
            return running.recorder

        bus = self.broker.bus(node.id) if with_bus else None
        async with AsyncExitStack() as held:
            running.session = await held.enter_async_context(aiohttp.ClientSession())
            control_plane = HttpControlPlane(silence_s=SILENCE_S)
            held.push_async_callback(control_plane.close)
            outside = Outside(
                bus=bus,
                control_plane=control_plane,
                store=store or DiskStore(self.state_dir),
                make_serving=make_serving,
                clock=self.clock,
                telemetry=self.telemetry,
                rng=random.Random(2),
            )
            given: Fleet | None = fleet() if with_fleet else None
            serving = asyncio.create_task(
                serve(node, given, outside, boot=self.boot, ended=running.ended), name="edge"
            )
            try:

                async def answers() -> bool:
                    if serving.done():
                        serving.result()
                    try:
                        return bool(await running.status())
                    except aiohttp.ClientConnectorError:
                        return False

                await eventually(answers)
                yield running
            finally:
                running.ended.set()
                await asyncio.wait_for(serving, 10)


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path / "lkg")


@asynccontextmanager
async def beating(*beats: Callable[[], Awaitable[None]], every_s: float = 0.1) -> AsyncIterator[None]:
    """Call each of `beats` again and again while the block runs."""

    async def beat() -> None:
        while True:
            for one in beats:
                with suppress(PortError):  # a bus that a test takes away in between
                    await one()
            await asyncio.sleep(every_s)

    task = asyncio.create_task(beat())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


# ---------------------------------------------------------------- two paths


async def test_the_stream_alone_is_enough(stage: Stage) -> None:
    """With no bus the edge applies, becomes FRESH, and acknowledges to the replica it follows."""
    stage.broker.up = False
    async with ToyReplica(stage.cp).running() as replica, stage.edge(replica.url) as edge:
        shown = await edge.until(decision="1.1", stream=replica.url)
        assert shown["mode"] != "FRESH", "no Beat has come; how long ago it began is the machine's business"
        async with beating(replica.beat):
            shown = await edge.until(mode="FRESH")
            assert shown["routes"] == {"chat": "1.1", "embed": "1.1"}
            assert shown["config_version"] == 1
            await eventually(lambda: _done(any(ack.mode is EdgeMode.FRESH for ack in replica.acks)))
        ack = replica.acks[-1]
        assert (ack.edge, ack.region, str(ack.version)) == ("edge-us-east", "us-east", "1.1")
        assert ack.head_sha == shown["head_sha"]
        assert (ack.seen_generation, ack.seen_seq) == (1, 1)
        assert ack.admin_url == edge.admin
        numbers = [ack.ack for ack in replica.acks]
        assert numbers == sorted(set(numbers))
    assert edge.recorder is not None
    assert str(edge.recorder.tables[-1].head) == "1.1"


async def test_the_bus_alone_is_enough(stage: Stage) -> None:
    """With no replica reachable the edge applies, becomes FRESH, and acknowledges on the bus."""
    await stage.publish_newest()
    async with stage.edge() as edge:

        async def beat() -> None:
            await stage.publish(BEATS, stage.cp.beat())

        async with beating(beat):
            await edge.until(decision="1.1", mode="FRESH")
            await eventually(lambda: _done(b'"FRESH"' in stage.told(ACKS)[-1].value))
    record = stage.told(ACKS)[-1]
    headers = dict(record.headers)
    assert record.key == b"edge-us-east"
    assert (headers["ce_specversion"], headers["ce_type"]) == (b"1.0", b"leeward.ack")
    assert Ack.model_validate_json(record.value).version == (1, 1)


async def test_losing_either_path_is_not_felt(stage: Stage) -> None:
    """FRESH throughout, while first the bus and then the replica is gone, and new heads arrive."""
    await stage.publish_newest()
    async with ToyReplica(stage.cp).running() as replica, stage.edge(replica.url) as edge:

        async def beat() -> None:
            raw = stage.cp.beat()
            await replica.say("beat", raw)
            if stage.broker.up:
                await stage.publish(BEATS, raw)

        async with beating(beat):
            await edge.until(decision="1.1", mode="FRESH", stream=replica.url)
            stage.broker.up = False
            stage.cp.commit("chat")
            await replica.tell_newest()
            await edge.until(decision="1.2", mode="FRESH")
            stage.broker.up = True
            await edge.until(bus_reachable=True)
            await replica.stop()
            stage.cp.commit("embed")
            await stage.publish_newest()
            await edge.until(decision="1.3", mode="FRESH", stream=None)
        assert edge.recorder is not None
        heads = [table.head for table in edge.recorder.tables]
        assert heads == sorted(heads)


async def test_a_replica_that_falls_silent_is_left_for_the_next_one(stage: Stage) -> None:
    """FAULTS 32: an open connection on which nothing comes is dead, also when it never said a word."""
    silent, other = ToyReplica(stage.cp), ToyReplica(stage.cp)
    silent.silent = True
    async with silent.running(), other.running(), stage.edge(silent.url, other.url, with_bus=False) as edge:
        async with beating(other.beat):
            await edge.until(stream=other.url, decision="1.1", mode="FRESH")
        began = asyncio.get_running_loop().time()
        await edge.until(stream=None)  # `other` now says nothing more either
        assert asyncio.get_running_loop().time() - began < SILENCE_S + 2
        assert silent.streams >= 1


@pytest.mark.parametrize(
    "words",
    [
        b"data: " + b"x" * (MAX_EVENT_BYTES + 1),
        b"event: decision\n" + b"data: x\n" * (MAX_EVENT_BYTES // 2),
    ],
    ids=["one line", "many lines"],
)
async def test_an_endless_event_is_not_swallowed(stage: Stage, words: bytes) -> None:
    """The replica is left before the event has filled the memory; the next one is followed."""
    bad, good = ToyReplica(stage.cp), ToyReplica(stage.cp)
    bad.first_words = words
    async with (
        bad.running(),
        good.running(),
        stage.edge(bad.url, good.url, with_bus=False) as edge,
        beating(good.beat),
    ):
        await edge.until(stream=good.url, decision="1.1")


async def test_garbage_on_either_path_is_refused_and_counted_and_the_rest_goes_on(stage: Stage) -> None:
    """A poison message stops neither loop."""
    for topic in (CONFIG, DECISIONS):
        await stage.publish(topic, b"\xff{", b"poison")
    await stage.publish_newest()
    async with ToyReplica(stage.cp).running() as replica, stage.edge(replica.url) as edge:
        for kind in ("config", "decision", "head", "beat", "something-newer"):
            await replica.say(kind, b"{}")
        async with beating(replica.beat):
            shown = await edge.until(decision="1.1", mode="FRESH")
    refused = {name for name in shown["refused"] if name.endswith("malformed")}
    assert refused == {"config.malformed", "document.malformed", "head.malformed", "beat.malformed"}


async def test_a_document_lost_on_the_way_is_fetched_again(stage: Stage) -> None:
    """The head stays incomplete, so both paths are read from their beginning, and it is completed."""
    async with ToyReplica(stage.cp).running() as replica, stage.edge(replica.url, with_fleet=False) as edge:
        await edge.until(decision="1.1")
        stage.cp.commit("chat")
        async with beating(replica.beat):
            await eventually(lambda: _shows(edge, "waiting", {"1.2": 1}))
            assert (await edge.status())["decision"] == "1.1"
            shown = await edge.until(decision="1.2", mode="FRESH")
        assert replica.streams == 2
        assert not [alarm for alarm in shown["alarms"] if alarm["code"] == "INCOMPLETE"]


# ---------------------------------------------------------------- modes and restarts


async def test_without_beats_stale_then_static_then_fresh_again_by_itself(stage: Stage) -> None:
    """The table stays throughout; each mode is acknowledged."""
    async with ToyReplica(stage.cp).running() as replica, stage.edge(replica.url) as edge:
        async with beating(replica.beat):
            await edge.until(decision="1.1", mode="FRESH")
        await edge.until(decision="1.1", mode="STALE")
        await edge.until(decision="1.1", mode="STATIC")
        assert edge.recorder is not None
        assert edge.recorder.mode is EdgeMode.STATIC
        async with beating(replica.beat):
            await edge.until(decision="1.1", mode="FRESH")
        assert edge.recorder.mode is EdgeMode.FRESH


async def test_started_with_everything_dead_it_serves_what_it_last_knew(stage: Stage) -> None:
    """FAULTS 25: ready from its file within 3 s, STALE, and never behind where it was."""
    async with ToyReplica(stage.cp).running() as replica, stage.edge(replica.url) as edge:
        stage.cp.commit("chat")
        await replica.tell_newest()
        await edge.until(decision="1.2")
        await eventually(lambda: _done(any(ack.version == (1, 2) for ack in replica.acks)))
    stage.broker.up = False
    began = asyncio.get_running_loop().time()
    async with stage.edge(with_fleet=False) as edge:
        shown = await edge.until(decision="1.2", mode="STALE", seen="1.2")
        assert (await edge.ready())[0] == 200
        assert asyncio.get_running_loop().time() - began < 3
        assert shown["routes"] == {"chat": "1.2", "embed": "1.1"}
        assert edge.recorder is not None
        assert [str(table.head) for table in edge.recorder.tables] == ["1.2", "1.2"]


async def test_with_no_file_it_serves_the_fleets_own_order_at_once(stage: Stage) -> None:
    """Version 0.0, STALE; and the node file's order is not kept as if it had been decided."""
    stage.broker.up = False
    async with stage.edge() as edge:
        await edge.until(decision="0.0", mode="STALE", config_version=0)
        assert (await edge.ready())[0] == 200
    assert not stage.state_dir.exists()


async def test_with_neither_file_nor_fleet_it_is_ready_once_a_configuration_arrives(stage: Stage) -> None:
    """Alive at once, ready later."""
    stage.cp.heads.clear()
    async with ToyReplica(stage.cp).running() as replica:
        async with stage.edge("http://127.0.0.1:9", with_fleet=False, with_bus=False) as edge:
            assert (await edge.ready())[0] == 503
            assert edge.recorder is None
        async with stage.edge(replica.url, with_fleet=False) as edge:
            await edge.until(decision="0.0", config_version=1)
            await eventually(lambda: _ready(edge))
            assert edge.recorder is not None


async def test_a_damaged_file_falls_back_to_the_one_before_it(stage: Stage) -> None:
    """FAULTS 26: the older head is served, the newer one remembered, and an alarm says so."""
    async with ToyReplica(stage.cp).running() as replica, stage.edge(replica.url) as edge:
        await edge.until(decision="1.1")
        await eventually(lambda: _done(len(list(stage.state_dir.glob("lkg-*-1.1.json"))) == 1))
        stage.cp.commit("chat")
        await replica.tell_newest()
        await edge.until(decision="1.2")
        await eventually(lambda: _done(len(list(stage.state_dir.glob("lkg-*-1.2.json"))) == 1))
    (newest,) = stage.state_dir.glob("lkg-*-1.2.json")
    newest.write_bytes(newest.read_bytes()[:-1])
    async with stage.edge(with_fleet=False, with_bus=False) as edge:
        shown = await edge.until(decision="1.1", seen="1.2")
        assert [alarm["code"] for alarm in shown["alarms"]] == ["LKG_DAMAGED"]


async def test_a_file_of_another_region_is_not_served(stage: Stage) -> None:
    """Undamaged, and of no use here: the configuration it carries is, in its own order."""
    async with ToyReplica(stage.cp).running() as replica, stage.edge(replica.url) as edge:
        await edge.until(decision="1.1")
        await eventually(lambda: _done(any(stage.state_dir.glob("lkg-*-1.1.json"))))
    async with stage.edge(region="ap-south", with_bus=False) as edge:
        await edge.until(decision="0.0", config_version=None)
        assert (await edge.ready())[0] == 503
    async with stage.edge(region=REGIONS[1], with_bus=False) as edge:
        await edge.until(decision="1.1")


async def test_a_full_disk_costs_the_file_and_nothing_else(stage: Stage) -> None:
    """The head is applied and acknowledged, an alarm stands, and ends when the disk works again."""

    class Full(DiskFiles):
        full = True

        def write(self, path: Path, raw: bytes) -> None:
            if self.full:
                raise OSError(28, "No space left on device")
            super().write(path, raw)

    files = Full()
    store = DiskStore(stage.state_dir, files=files)
    async with ToyReplica(stage.cp).running() as replica, stage.edge(replica.url, store=store) as edge:
        shown = await edge.until(decision="1.1")
        await eventually(lambda: _shows_alarm(edge, "LKG_UNWRITABLE"))
        await eventually(lambda: _done(any(str(ack.version) == "1.1" for ack in replica.acks)))
        files.full = False
        stage.cp.commit("chat")
        await replica.tell_newest()
        await edge.until(decision="1.2")
        shown = await edge.until(alarms=[])
        assert shown["decision"] == "1.2"
    assert len(list(stage.state_dir.glob("lkg-*-1.2.json"))) == 1


# ---------------------------------------------------------------- an emptied store


async def test_an_edge_ahead_keeps_its_head_says_so_and_follows_a_raised_generation(stage: Stage) -> None:
    """FAULTS 11: etcd emptied; stuck edges 0."""
    for _ in range(4):
        stage.cp.commit()
    async with ToyReplica(stage.cp).running() as replica, stage.edge(replica.url) as edge:
        async with beating(replica.beat):
            await edge.until(decision="1.5", mode="FRESH")
        replica.cp = emptied = ToyControlPlane()
        emptied.commit()
        await replica.tell_newest()
        await asyncio.sleep(0.3)
        assert (await edge.status())["decision"] == "1.5"
        ack = replica.acks[-1]
        emptied.raise_generation(ack.seen_generation + 1)
        async with beating(replica.beat):
            await replica.tell_newest()
            await edge.until(decision="2.2", mode="FRESH")


# ---------------------------------------------------------------- reports


def window(target: str = "alpha-us-east", **more: Any) -> PassiveWindow:
    return PassiveWindow(target=target, window_s=10, counts={Outcome.OK: 3}, **more)


async def test_traffic_is_told_several_times_a_second_and_its_end_once(stage: Stage) -> None:
    """Passive windows while there are any, one empty window when there are none, heartbeats always."""
    async with stage.edge() as edge:
        await eventually(lambda: _done(edge.recorder is not None))
        assert edge.recorder is not None
        await eventually(lambda: _done(len(_events(stage)) >= 2))
        assert {event.kind for event in _events(stage)} == {"heartbeat"}
        edge.recorder.windows = (window(), window("beta-us-east", inflight=2))
        await eventually(lambda: _done(sum(event.kind == "passive" for event in _events(stage)) >= 3))
        edge.recorder.windows = ()
        await eventually(lambda: _done(_events(stage)[-1].kind == "heartbeat"))
    events = _events(stage)
    passive = [event for event in events if event.kind == "passive"]
    assert [w.counts for w in passive[0].passive] == [{Outcome.OK: 3}, {Outcome.OK: 3}]
    assert [w.counts for w in passive[-1].passive] == [{}, {}]
    assert sum(not any(w.counts for w in event.passive) for event in passive) == 1
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert {(e.source, e.vantage, e.boot) for e in events} == {("edge-us-east", "us-east", 1)}
    headers = dict(stage.told(HEALTH)[-1].headers)
    assert headers["ce_type"] == b"leeward.health.heartbeat"
    assert headers["traceparent"].decode() == events[-1].traceparent


async def test_the_load_of_a_route_is_told_and_its_end_once(stage: Stage) -> None:
    """Also where all of it is turned away and no target sees any; nothing carried is said once."""
    async with stage.edge() as edge:
        await eventually(lambda: _done(edge.recorder is not None))
        assert edge.recorder is not None
        edge.recorder.carried = (RouteLoad(route="chat", inflight=2.5, requests=9, window_s=10),)
        await eventually(lambda: _done(any(event.routes for event in _events(stage))))
        edge.recorder.carried = ()
        await eventually(lambda: _done(_events(stage)[-1].kind == "heartbeat"))
    told = [load for event in _events(stage) for load in event.routes]
    assert (told[0].route, told[0].inflight, told[0].requests) == ("chat", 2.5, 9)
    assert [load.inflight for load in told].count(0) == 1
    assert told[-1].inflight == 0


async def test_a_bus_that_is_away_is_told_the_newest_when_it_is_back(stage: Stage) -> None:
    """Nothing piles up meanwhile: what it missed is not repeated."""
    async with stage.edge() as edge:
        await eventually(lambda: _done(edge.recorder is not None))
        assert edge.recorder is not None
        edge.recorder.windows = (window(inflight=1),)
        await eventually(lambda: _done(any(event.kind == "passive" for event in _events(stage))))
        stage.broker.up = False
        before = len(_events(stage))
        await asyncio.sleep(0.5)
        edge.recorder.windows = (window(inflight=7),)
        await asyncio.sleep(0.3)  # an attempt that had begun may still tell what then was
        stage.broker.up = True
        await eventually(lambda: _done(len(_events(stage)) > before))
    assert _events(stage)[before].passive[0].inflight == 7


# ---------------------------------------------------------------- tracing, and the end


class Spans(NoTelemetry):
    """Notes what was begun."""

    def __init__(self) -> None:
        super().__init__(random.Random(3))
        self.begun: list[tuple[str, str | None, tuple[str, ...], dict[str, Any], str]] = []

    def begin(
        self,
        name: str,
        *,
        kind: Any = "internal",
        parent: Any = None,
        links: Any = (),
        attributes: Any = None,
    ) -> Any:
        span = super().begin(name, kind=kind, parent=parent)
        self.begun.append((name, parent, tuple(links), dict(attributes or {}), span.traceparent))
        return span

    def span(self, name: str, **more: Any) -> Any:
        return nullcontext(self.begin(name, **more))


async def test_the_apply_span_belongs_to_the_decisions_trace_and_is_acknowledged(stage: Stage) -> None:
    """Child of the newest document's span, linked to the others, and its context goes back in the ack."""
    stage.telemetry = spans = Spans()
    stage.cp.commit("chat")
    async with ToyReplica(stage.cp).running() as replica, stage.edge(replica.url) as edge:
        await edge.until(decision="1.2")
        await eventually(lambda: _done(any(ack.version == (1, 2) for ack in replica.acks)))
    (_, parent, links, attributes, traceparent) = [s for s in spans.begun if s[0] == "apply"][-1]
    assert parent == f"00-{2:032x}-{3:016x}-01"
    assert links == (f"00-{1:032x}-{2:016x}-01",)
    assert attributes["leeward.decision"] == "1.2"
    assert next(ack for ack in replica.acks if ack.version == (1, 2)).traceparent == traceparent


async def test_told_to_end_it_says_so_drains_and_returns(stage: Stage) -> None:
    """SIGTERM's path: the data plane is given `drain_s`."""
    async with stage.edge() as edge:
        await eventually(lambda: _ready(edge))
    assert edge.recorder is not None
    assert edge.recorder.drained == TIMINGS["drain_s"]


async def test_the_metrics_page_says_what_was_followed(stage: Stage) -> None:
    """Prometheus text, with the head, the refusals and the paths."""
    async with ToyReplica(stage.cp).running() as replica, stage.edge(replica.url) as edge:
        await edge.until(decision="1.1")
        await replica.say("head", b"{}")
        await eventually(lambda: _shows(edge, "refused", {"head.malformed": 1}))
        assert edge.session is not None
        async with edge.session.get(f"{edge.admin}/metrics") as response:
            text = await response.text()
        async with edge.session.get(f"{edge.admin}/livez") as response:
            assert response.status == 200
    assert "leeward_edge_head_seq 1.0" in text
    assert 'leeward_edge_follow_refused_total{reason="malformed",what="head"} 1.0' in text
    assert 'leeward_edge_heard_total{kind="document",path="http"} 2.0' in text


async def _done(holds: bool) -> bool:
    return holds


async def _shows(edge: Running, name: str, value: object) -> bool:
    return bool((await edge.status())[name] == value)


async def _shows_alarm(edge: Running, code: str) -> bool:
    return any(alarm["code"] == code for alarm in (await edge.status())["alarms"])


async def _ready(edge: Running) -> bool:
    return (await edge.ready())[0] == 200


def _events(stage: Stage) -> list[HealthEvent]:
    return sorted(
        (HealthEvent.model_validate_json(record.value) for record in stage.told(HEALTH)),
        key=lambda event: event.seq,
    )
