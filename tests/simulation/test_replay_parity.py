"""A replay decides as the leader did: the real loops on virtual time are recorded, then rehearsed."""

import asyncio
import logging
import random
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog

from control_plane.core.onward import Step
from control_plane.core.rehearse import Rehearsal
from control_plane.loops.view import FORGET_S
from control_plane.ports import LogEntry
from ops.replay.recording import Commit, Header, Recording, changes_of, commit_line, event_line, write
from ops.replay.run import replay
from shared import keys
from shared.topics import HEALTH
from shared.vocabulary.config import FleetConfig
from shared.vocabulary.decision import Decision
from tests.simulation.virtual_time import START, VirtualTimeLoop
from tests.simulation.world import TIMINGS, World, fleet

CALM_S = 12.0
ENDS_S = 70.0
PAUSE_S = 0.3
"""A pass and a fetch: how much later or earlier a replay may decide."""


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    """Twelve calm seconds; then two targets fail, one of them again while it returns, and all mend."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    loop = VirtualTimeLoop()
    asyncio.set_event_loop(loop)
    world = World(loop, random.Random(1))
    try:
        loop.run_until_complete(_trouble(world))
    finally:
        asyncio.set_event_loop(None)
        loop.close()
    return _kept(world, tmp_path_factory.mktemp("replay") / "world.jsonl.gz")


def test_the_same_policy_decides_the_same(recorded: Recording) -> None:
    """Decision by decision: the same weights for every client region, at the same time but for a pause."""
    began_at = recorded.header.began_at
    happened = [
        (line.at, _substance(changes_of(line.decision)))
        for line in recorded.lines()
        if line.decision and line.at >= began_at
    ]
    again: list[tuple[datetime, Any]] = []

    def stepped(at: datetime, step: Step) -> None:
        assert not step.refusals
        again.append((at, _substance(step.changed)))

    header = recorded.header
    rehearsal = Rehearsal(
        header.config,
        {document.route: document for document in header.documents},
        decides_from=began_at,
        tick_s=header.reconcile_s,
        forget_s=FORGET_S,
        on_step=stepped,
    )
    for line in recorded.lines():
        if line.event:
            rehearsal.hear(line.event, line.at)
    rehearsal.finish(header.ended_at)
    assert len(happened) >= 8
    assert [said for _, said in again] == [said for _, said in happened]
    for (did, _), (would, _) in zip(happened, again, strict=True):
        assert abs((did - would).total_seconds()) <= PAUSE_S


def test_its_figures_are_those_of_what_happened(recorded: Recording) -> None:
    """Side by side: the recorded policy differs from what happened by pauses only."""
    happened, again = replay(recorded, {}, tolerance_s=10.0).courses
    assert (again.commits, again.removals, again.returns, again.flaps) == (
        happened.commits,
        happened.removals,
        happened.returns,
        happened.flaps,
    )
    assert happened.removals >= 3
    assert happened.false_alarms == again.false_alarms == 0
    assert again.traffic_on_down_s == pytest.approx(happened.traffic_on_down_s, abs=PAUSE_S)
    assert again.differs_s <= PAUSE_S * happened.commits


async def _trouble(world: World) -> None:
    for name in world.machines:
        await world.start(name)
    down = world.truth.down
    await asyncio.sleep(CALM_S + 5)
    down.update({"alpha-eu-west", "beta-us-east"})
    await asyncio.sleep(10)
    down.clear()
    await asyncio.sleep(7)
    down.add("alpha-eu-west")
    await asyncio.sleep(8)
    down.clear()
    await asyncio.sleep(ENDS_S - CALM_S - 30)
    for name in [*world.running]:
        await world.crash(name)


def _kept(world: World, path: Path) -> Recording:
    """The recording of what the brokers and the store hold."""
    entries = [
        LogEntry.model_validate_json(item.value) for item in world.store.read(keys.DECISIONS_LOG, exact=False)
    ]
    entries.sort(key=lambda entry: entry.version)
    commits = [
        (entry.at, Commit(version=str(entry.version), documents=_documents(world, entry)))
        for entry in entries
    ]
    began_at = START + timedelta(seconds=CALM_S)
    before = {
        document.route: document for at, commit in commits if at < began_at for document in commit.documents
    }
    header = Header(
        heard_from=began_at - timedelta(seconds=8),
        began_at=began_at,
        ended_at=START + timedelta(seconds=ENDS_S - 1),
        config=FleetConfig(config_version=1, fleet=fleet()),
        documents=tuple(before.values()),
        reconcile_s=TIMINGS["reconcile_s"],
    )
    lines = [(at, commit_line(at, commit)) for at, commit in commits if at >= began_at]
    lines += [(at, line) for at, line in _events(world) if at >= header.heard_from]
    write(path, header, (line for _, line in sorted(lines)))
    return Recording.open(path)


def _events(world: World) -> Iterator[tuple[datetime, bytes]]:
    for region, broker in world.brokers.items():
        for (topic, _), log in broker.logs.items():
            for record in log if topic == HEALTH else ():
                at = START + timedelta(milliseconds=record.timestamp_ms - START.timestamp() * 1000)
                assert record.value is not None
                yield at, event_line(at, region, record.value)


def _documents(world: World, entry: LogEntry) -> tuple[Decision, ...]:
    blobs = [item for _, sha in entry.changed for item in world.store.read(keys.blob(sha), exact=True)]
    return tuple(Decision.model_validate_json(item.value) for item in blobs)


def _substance(documents: Any) -> Any:
    return {
        route: {region: decided.substance for region, decided in document.regions.items()}
        for route, document in documents.items()
    }
