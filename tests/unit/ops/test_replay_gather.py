"""Making a recording, over buses in memory and the API of a replica that stands still."""

import random
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path

import httpx2
import pytest

from control_plane.api.build import build
from ops.client import ControlPlanes
from ops.errors import Bad, Unreachable
from ops.replay.gather import Gathered, Span, distinct, record
from ops.replay.recording import Recording
from shared.adapters.memory import MemoryBroker
from shared.clock import SystemClock
from shared.ports import Bus
from shared.topics import HEALTH
from shared.vocabulary.node import BusAddress
from tests.support.still_replica import NOW, StillReplica
from tests.unit.control_plane.brain_worlds import probe_event, probe_state

BUSES = {"east": BusAddress(bootstrap=("east:1",)), "west": BusAddress(bootstrap=("west:1",))}
SPAN = Span(NOW, NOW + timedelta(seconds=60))


class BrokerClock(SystemClock):
    """What a broker takes for the time: set by hand. Deadlines are real."""

    at = NOW

    def now(self) -> datetime:
        return self.at


class Brokers:
    """A broker for each region, in which messages arrive when they are told to."""

    def __init__(self) -> None:
        self.clock = BrokerClock()
        self.by_region = {
            region: MemoryBroker(region, clock=self.clock, rng=random.Random(1)) for region in BUSES
        }

    def hear(self, region: str, second: float, *, seq: int, value: bytes | None = None) -> None:
        """A word of the region's prober, so many seconds after the beginning; or any `value`."""
        self.clock.at = NOW + timedelta(seconds=second)
        event = probe_event(region, [probe_state("alpha-east")], seq=seq, at=self.clock.at)
        self.by_region[region].accept(HEALTH, f"prober-{region}".encode(), value or event.canonical(), {})

    def connect(self, region: str, _: BusAddress) -> Bus:
        """As `gather.Connect`."""
        return self.by_region[region].bus("record")


async def gathered(
    path: Path, brokers: Brokers, replica: StillReplica, **more: Mapping[str, BusAddress]
) -> Gathered:
    """Record `SPAN`, ten minutes later."""
    transport = httpx2.ASGITransport(app=build(replica, hosts=frozenset()))
    async with httpx2.AsyncClient(transport=transport) as client:
        return await record(
            SPAN,
            path,
            buses=more.get("buses", BUSES),
            planes=ControlPlanes(client, ["http://replica"]),
            reconcile_s=0.5,
            connect=brokers.connect,
            clock=_Later(),
        )


class _Later(SystemClock):
    """The recorder's: all is past."""

    def now(self) -> datetime:
        return NOW + timedelta(minutes=10)


async def test_a_time_is_gathered_in_order(tmp_path: Path) -> None:
    """Events of both buses by the brokers' time, lead-in included, what is outside left out; the
    documents in force and the commits of the time with them."""
    brokers = Brokers()
    for seq, second in enumerate((-40, -20, 5, 15, 70), start=1):
        brokers.hear("east", second, seq=seq)
        brokers.hear("west", second + 1, seq=seq)
    found = await gathered(tmp_path / "out.jsonl.gz", brokers, StillReplica())
    made = Recording.open(tmp_path / "out.jsonl.gz")
    events = [((line.at - NOW).total_seconds(), line.region) for line in made.lines() if line.event]
    assert events == [
        (-20, "east"), (-19, "west"), (5, "east"), (6, "west"), (15, "east"), (16, "west"),
    ]  # fmt: skip
    assert found.events == 6
    assert [line.decision.version for line in made.lines() if line.decision] == ["1.5", "1.6", "1.7"]
    assert made.header.config.config_version == 1
    assert made.header.reconcile_s == 0.5
    assert [path.name for path in tmp_path.iterdir()] == ["out.jsonl.gz"]


async def test_poison_is_counted_and_left_out(tmp_path: Path) -> None:
    """As a replica passes it over."""
    brokers = Brokers()
    brokers.hear("east", 5, seq=1)
    brokers.hear("west", 5, seq=1)
    brokers.hear("west", 6, seq=2, value=b"garbage")
    found = await gathered(tmp_path / "out.jsonl", brokers, StillReplica())
    assert found.events == 2
    assert "the bus of west carried 1 messages that nobody can read" in found.notes


async def test_a_silent_bus_is_said(tmp_path: Path) -> None:
    """The others are recorded all the same."""
    brokers = Brokers()
    brokers.hear("east", 5, seq=1)
    found = await gathered(tmp_path / "out.jsonl", brokers, StillReplica())
    assert "the bus of west has no event of that time" in found.notes


async def test_nothing_at_all_is_an_error(tmp_path: Path) -> None:
    """And leaves no file behind."""
    with pytest.raises(Bad, match="no health events between 11:59:30 and 12:01:00"):
        await gathered(tmp_path / "out.jsonl", Brokers(), StillReplica())
    assert list(tmp_path.iterdir()) == []


async def test_without_a_control_plane_it_does_not_begin(tmp_path: Path) -> None:
    """Rather at once than after an hour of waiting."""

    def refuse(request: httpx2.Request) -> httpx2.Response:
        raise httpx2.ConnectError("refused", request=request)

    async with httpx2.AsyncClient(transport=httpx2.MockTransport(refuse)) as client:
        with pytest.raises(Unreachable):
            await record(
                SPAN, tmp_path / "out", buses=BUSES, planes=ControlPlanes(client, ["http://x"]),
                reconcile_s=0.25, connect=Brokers().connect,
            )  # fmt: skip


def test_a_cluster_is_read_once() -> None:
    """Several regions may share one."""
    shared = BusAddress(bootstrap=("one:1",))
    assert [region for region, _ in distinct({"east": shared, "west": shared})] == ["east"]
