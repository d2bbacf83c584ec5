"""One picture for all who watch: what each is told, and what it costs."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any

import pytest

from control_plane.api.events import EventStream
from control_plane.api.picture import Painter, _seen
from control_plane.loops.live import CLOCK_S, KEPT, MAX_READERS, PACE_S, Live, differences
from control_plane.ports import TooManyReaders
from shared.vocabulary.terms import Outcome, Verdict
from shared.vocabulary.view import Vote
from tests.simulation.virtual_time import NodeClock, VirtualTimeLoop
from tests.support.still_replica import EVIDENCE, StillReplica


class Scene:
    """What is pictured, and how often somebody looked."""

    def __init__(self) -> None:
        self.items: dict[str, dict[str, Any]] = {"targets": {"a": 1, "b": 2}}
        self.looks = 0

    def take(self) -> dict[str, dict[str, Any]]:
        self.looks += 1
        return {name: dict(section) for name, section in self.items.items()}


def play(story: Callable[[Live, Scene], Coroutine[Any, Any, None]]) -> None:
    """Run `story` on virtual time."""
    loop = VirtualTimeLoop()

    async def staged() -> None:
        await story(Live(clock=NodeClock(loop), life="cp.1"), Scene())

    try:
        loop.run_until_complete(staged())
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


async def told(stream: AsyncGenerator[bytes, None]) -> list[tuple[str, str, Any]]:
    """The next events: name, id, data; without the clock."""
    while True:
        found = []
        for block in (await anext(stream)).decode().strip().split("\n\n"):
            fields = dict(line.split(": ", 1) for line in block.splitlines())
            if fields["event"] != "clock":
                found.append((fields["event"], fields["id"], json.loads(fields["data"])["sections"]))
        if found:
            return found


def test_a_snapshot_then_what_differs() -> None:
    """Changed items by section, null for those that are gone; nothing of what stayed."""

    async def story(live: Live, scene: Scene) -> None:
        stream = live.follow(scene.take)
        assert await told(stream) == [("snapshot", "cp.1-1", {"targets": {"a": 1, "b": 2}})]
        scene.items = {"targets": {"a": 3, "c": 4}}
        assert await told(stream) == [("change", "cp.1-2", {"targets": {"a": 3, "b": None, "c": 4}})]
        await stream.aclose()

    play(story)


def test_many_watch_and_one_looks() -> None:
    """Ten readers for ten seconds: a picture a second, and without a reader none."""

    async def story(live: Live, scene: Scene) -> None:
        async def read() -> None:
            async with asyncio.timeout(10):
                async for _ in live.follow(scene.take):
                    scene.items["targets"]["a"] += 1

        await asyncio.gather(*(read() for _ in range(10)), return_exceptions=True)
        assert 10 <= scene.looks <= 11
        await asyncio.sleep(60)
        assert scene.looks <= 11

    play(story)


def test_who_comes_back_hears_what_was_missed() -> None:
    """By the id of the last event; with too old an id, another replica's or a made-up one: a snapshot."""

    async def story(live: Live, scene: Scene) -> None:
        stream = live.follow(scene.take)
        await told(stream)
        for n in range(3):
            scene.items["targets"]["a"] = f"n{n}"
            await told(stream)
        back = live.follow(scene.take, after="cp.1-2")
        assert [(name, at) for name, at, _ in await told(back)] == [
            ("change", "cp.1-3"),
            ("change", "cp.1-4"),
        ]
        await back.aclose()
        for after in ("", "cp.2-2", "cp.1-99", "cp.1-0", "cp.1--1", "nonsense"):
            other = live.follow(scene.take, after=after)
            assert [name for name, _, _ in await told(other)] == ["snapshot"], after
            await other.aclose()
        for n in range(KEPT):
            scene.items["targets"]["a"] = n
            await told(stream)
        late = live.follow(scene.take, after="cp.1-2")
        assert [name for name, _, _ in await told(late)] == ["snapshot"]
        await late.aclose()
        await stream.aclose()

    play(story)


def test_calm_is_not_silence() -> None:
    """Where nothing changes, the time is said every five seconds."""

    async def story(live: Live, scene: Scene) -> None:
        loop = asyncio.get_running_loop()
        stream = live.follow(scene.take)
        await anext(stream)
        began = loop.time()
        assert (await anext(stream)).startswith(b"event: clock\n")
        assert CLOCK_S <= loop.time() - began <= CLOCK_S + PACE_S
        await stream.aclose()

    play(story)


def test_readers_are_bounded_and_let_go_at_the_end() -> None:
    """The next one is refused at once; closing ends them all without waiting for a picture."""

    async def story(live: Live, scene: Scene) -> None:
        streams = [live.follow(scene.take) for _ in range(MAX_READERS)]
        for stream in streams:
            await anext(stream)
        with pytest.raises(TooManyReaders):
            live.follow(scene.take)
        await streams.pop().aclose()
        streams.append(live.follow(scene.take))
        await anext(streams[-1])
        live.close()
        for stream in streams:
            with pytest.raises(StopAsyncIteration):
                await anext(stream)
        with pytest.raises(TooManyReaders):
            live.follow(scene.take)

    play(story)


def test_readers_are_bounded_before_they_read() -> None:
    """A burst that comes in before anybody has read; and a place is free again when its response has ended without
    a first write, or never began."""

    async def left() -> Any:
        return {"type": "http.disconnect"}

    async def nothing(_: Any) -> None: ...

    async def story(live: Live, scene: Scene) -> None:
        streams = [live.follow(scene.take) for _ in range(MAX_READERS)]
        with pytest.raises(TooManyReaders):
            live.follow(scene.take)
        scope = {"type": "http", "asgi": {"spec_version": "2.3"}}
        await EventStream(streams[0])(scope, left, nothing)
        streams.append(live.follow(scene.take))
        with pytest.raises(TooManyReaders):
            live.follow(scene.take)
        streams.pop()
        streams.append(live.follow(scene.take))

    play(story)


def test_differences_lead_from_one_picture_to_the_other() -> None:
    """Sections that come and go included."""
    assert differences({"a": {"x": 1}}, {"b": {"y": 2}}) == {"a": {"x": None}, "b": {"y": 2}}
    assert differences({"a": {"x": 1}}, {"a": {"x": 1}}) == {}


def test_a_vote_that_is_down_is_not_explained_by_ok() -> None:
    """What was seen last may be good already; then nothing is told."""
    good = EVIDENCE.model_copy(update={"outcome": Outcome.OK, "detail": ""})
    assert _seen(Vote(vantage="west", verdict=Verdict.DOWN, evidence=(good,))) == ""
    assert _seen(Vote(vantage="west", verdict=Verdict.DOWN, evidence=(good, EVIDENCE))).startswith("REFUSED")
    assert _seen(Vote(vantage="west", verdict=Verdict.HEALTHY, evidence=(good,))) == "OK"


def test_the_picture_of_a_replica_that_stands_still_does_not_change() -> None:
    """Two pictures are equal and JSON; sources, orders, drills and decisions are in them."""
    replica = StillReplica()
    painter = Painter(replica)
    one, other = painter.take(), painter.take()
    assert one == other
    assert json.loads(json.dumps(one)) == one
    assert one["targets"]["alpha-east"]["votes"]["west"] == {
        "verdict": "DOWN",
        "hard": True,
        "seen": "REFUSED, connect ECONNREFUSED",
    }
    assert one["routes"]["chat>east"] == one["routes"]["*>east"]
    assert one["routes"]["chat>east"]["to"] == {"west": 1000}
    assert one["overrides"].keys() == {"drain-17"}
    assert one["drills"]["drill-23"]["state"] == "RUNNING"
    assert one["decisions"]["1.7"]["in_force"]
    assert one["edges"]["edge-west"]["silent"]
