import asyncio
import random
from datetime import UTC, datetime

from prometheus_client import CollectorRegistry

from prober.core.board import Board
from prober.core.counters import Finding
from prober.core.jobs import Job
from prober.loops.publish import Publish
from prober.metrics import Metrics
from shared.backoff import Backoff
from shared.supervise import Supervisor
from shared.telemetry import NoTelemetry
from tests.simulation.virtual_time import NodeClock
from tests.unit.prober.prober_world import OK, REFUSED, RecordingBus, in_virtual_time, monitor, target

JOBS = [Job(target(f"t{n}"), monitor(consecutive_down=1, consecutive_up=1)) for n in range(3)]
TRACE = "00-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-bbbbbbbbbbbbbbbb-00"


class Teller:
    """A board and the loop that tells it."""

    def __init__(self, clock: NodeClock, rng: random.Random, *, boot: int = 4) -> None:
        self.clock = clock
        self.bus = RecordingBus(clock)
        self.board = Board()
        self.board.replace(JOBS)
        self.publish = Publish(
            source="prober-r",
            vantage="r",
            boot=boot,
            round_s=1.0,
            board=self.board,
            bus=self.bus,
            clock=clock,
            telemetry=NoTelemetry(rng),
            metrics=Metrics(CollectorRegistry()),
            config_version=lambda: 3,
            backoff=Backoff(rng=rng),
        )

    def found(self, n: int, finding: Finding, trace: str | None = None) -> None:
        applied = self.board.apply(JOBS[n], finding, now=self.clock.now(), traceparent=trace)
        assert applied is not None
        if applied.news:
            self.publish.nudge()


def test_changes_are_told_at_once_and_alone() -> None:
    """A change does not wait for the round, and does not carry the rest along."""

    async def story(clock: NodeClock, rng: random.Random) -> None:
        teller = Teller(clock, rng)
        async with Supervisor() as supervisor:
            supervisor.start("publish", teller.publish.run)
            for n in range(3):
                teller.found(n, OK)
            await asyncio.sleep(1.5)
            teller.bus.told.clear()
            changed = clock.monotonic()
            teller.found(1, REFUSED, TRACE)
            await asyncio.sleep(0.01)
        (told,) = teller.bus.told
        assert told.at - changed < 0.005
        (state,) = told.event.probes
        assert (state.target, state.state, state.hard) == ("t1", "DOWN", True)

    in_virtual_time(story)


def test_everything_is_told_once_a_round_even_when_nothing_changes() -> None:
    """Who comes later, or lost an event, knows everything after one round."""

    async def story(clock: NodeClock, rng: random.Random) -> None:
        teller = Teller(clock, rng)
        for n in range(3):
            teller.found(n, OK)
        async with Supervisor() as supervisor:
            supervisor.start("publish", teller.publish.run)
            await asyncio.sleep(10.5)
        assert [len(told.event.probes) for told in teller.bus.told] == [3] * 11

    in_virtual_time(story)


def test_a_prober_that_knows_nothing_beats() -> None:
    """The first heartbeat goes out at once: a life has begun, and silence would be evidence."""

    async def story(clock: NodeClock, rng: random.Random) -> None:
        teller = Teller(clock, rng)
        began = clock.monotonic()
        async with Supervisor() as supervisor:
            supervisor.start("publish", teller.publish.run)
            await asyncio.sleep(2.5)
        assert [told.event.kind for told in teller.bus.told] == ["heartbeat"] * 3
        assert teller.bus.told[0].at - began < 0.01

    in_virtual_time(story)


def test_events_are_numbered_and_carry_their_headers() -> None:
    """Boot and sequence order them, CloudEvents headers identify them, the trace joins them."""

    async def story(clock: NodeClock, rng: random.Random) -> None:
        teller = Teller(clock, rng, boot=9)
        async with Supervisor() as supervisor:
            supervisor.start("publish", teller.publish.run)
            await asyncio.sleep(1.5)
            teller.found(0, REFUSED, TRACE)
            await asyncio.sleep(1.0)
        events = [told.event for told in teller.bus.told]
        assert [event.seq for event in events] == sorted({event.seq for event in events})
        assert {(event.boot, event.source, event.vantage, event.config_version) for event in events} == {
            (9, "prober-r", "r", 3)
        }
        for told in teller.bus.told:
            headers = {name: value.decode() for name, value in told.headers.items()}
            assert told.key == b"prober-r"
            assert headers["ce_specversion"] == "1.0"
            assert headers["ce_type"] == f"leeward.health.{told.event.kind}"
            assert headers["ce_source"] == "/r/prober-r"
            assert headers["ce_id"] == f"9.{told.event.seq}"
            assert datetime.fromisoformat(headers["ce_time"]).tzinfo == UTC
            assert headers["content-type"] == "application/json"
            assert headers["traceparent"] == told.event.traceparent
        change = next(event for event in events if event.probes)
        assert change.traceparent is not None
        assert change.traceparent[3:35] == TRACE[3:35]
        assert change.probes[0].traceparent == TRACE

    in_virtual_time(story)


def test_an_absent_bus_hears_the_newest_state_when_it_is_back() -> None:
    """Nothing is buffered while the bus is away, however long; what counts is told within a round."""

    async def story(clock: NodeClock, rng: random.Random) -> None:
        teller = Teller(clock, rng)
        async with Supervisor() as supervisor:
            supervisor.start("publish", teller.publish.run)
            await asyncio.sleep(0.5)
            teller.bus.away = True
            teller.bus.told.clear()
            attempts = teller.bus.attempts
            for second in range(600):
                for n in range(3):
                    teller.found(n, REFUSED if second % 2 else OK, TRACE)
                await asyncio.sleep(1.0)
            tried = teller.bus.attempts - attempts
            teller.bus.away = False
            back = clock.monotonic()
            await asyncio.sleep(2.0)
        assert tried < 600 * 4
        first = teller.bus.told[0]
        assert first.at - back < 1.5
        assert [state.state for state in first.event.probes] == ["DOWN"] * 3
        assert len(teller.bus.told) <= 4

    in_virtual_time(story)


def test_many_changes_at_once_are_few_events() -> None:
    """While one event is on its way, changes gather for the next."""

    async def story(clock: NodeClock, rng: random.Random) -> None:
        teller = Teller(clock, rng)
        teller.bus.latency_s = 0.05
        async with Supervisor() as supervisor:
            supervisor.start("publish", teller.publish.run)
            await asyncio.sleep(0.3)
            teller.bus.told.clear()
            for turn in range(10):
                for n in range(3):
                    teller.found(n, REFUSED if turn % 2 else OK)
                await asyncio.sleep(0.005)
            await asyncio.sleep(0.2)
        assert len(teller.bus.told) <= 3
        assert {state.target for state in teller.bus.told[-1].event.probes} == {"t0", "t1", "t2"}

    in_virtual_time(story)
