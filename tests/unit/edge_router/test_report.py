import asyncio
import random
from types import SimpleNamespace
from typing import Any, cast

from prometheus_client import CollectorRegistry

from edge_router.loops.report import Report
from edge_router.metrics import Metrics
from shared.supervise import Supervisor
from shared.telemetry import NoTelemetry
from shared.vocabulary.health import PassiveWindow, RouteLoad
from shared.vocabulary.terms import Outcome
from tests.simulation.virtual_time import NodeClock
from tests.unit.prober.prober_world import RecordingBus, in_virtual_time

PASSIVE_S = 0.25


class Serving:
    """A data path that saw one target."""

    def __init__(self) -> None:
        self.turned = asyncio.Event()

    def passive(self, window_s: float) -> tuple[PassiveWindow, ...]:
        return (PassiveWindow(target="alpha", window_s=window_s, counts={Outcome.REFUSED: 3}),)

    def loads(self, window_s: float) -> tuple[()]:
        return ()


def report(clock: NodeClock, rng: random.Random, serving: Serving) -> Report:
    return Report(
        edge="edge-r",
        region="r",
        boot=1,
        passive_s=PASSIVE_S,
        round_s=1.0,
        serving=lambda: cast(Any, serving),
        carrier=cast(Any, SimpleNamespace(follower=SimpleNamespace(config=None))),
        clock=clock,
        telemetry=NoTelemetry(rng),
        metrics=Metrics(CollectorRegistry()),
    )


def test_an_ejection_is_told_at_once() -> None:
    """It does not wait for its turn."""

    async def story(clock: NodeClock, rng: random.Random) -> None:
        bus, serving = RecordingBus(clock), Serving()
        async with Supervisor() as supervisor:
            supervisor.start("report", lambda: report(clock, rng, serving).run(cast(Any, bus)))
            await asyncio.sleep(2.1)
            bus.told.clear()
            ejected = clock.monotonic()
            serving.turned.set()
            await asyncio.sleep(0.06)
        assert bus.told
        assert bus.told[0].at - ejected < 0.055

    in_virtual_time(story)


def test_a_storm_of_ejections_is_bounded() -> None:
    """However many targets leave, the bus hears five times the usual at most."""

    async def story(clock: NodeClock, rng: random.Random) -> None:
        bus, serving = RecordingBus(clock), Serving()
        async with Supervisor() as supervisor:
            supervisor.start("report", lambda: report(clock, rng, serving).run(cast(Any, bus)))
            for _ in range(2000):
                serving.turned.set()
                await asyncio.sleep(0.001)
        assert len(bus.told) <= 2 / PASSIVE_S * 5 + 1

    in_virtual_time(story)


class Unsound(Serving):
    """One whose loads are below zero for a while."""

    requests = -1

    def loads(self, window_s: float) -> Any:
        return (RouteLoad(route="chat", inflight=1, requests=self.requests, window_s=window_s),)


def test_what_is_not_fit_to_be_told_silences_nothing_else() -> None:
    """Windows go on being told, and loads too as soon as they can be."""

    async def story(clock: NodeClock, rng: random.Random) -> None:
        bus, serving = RecordingBus(clock), Unsound()
        async with Supervisor() as supervisor:
            supervisor.start("report", lambda: report(clock, rng, serving).run(cast(Any, bus)))
            await asyncio.sleep(2.1)
            events = [told.event for told in bus.told]
            assert [event.seq for event in events] == list(range(1, len(events) + 1)), "it began once"
            assert len(events) >= 2 / PASSIVE_S
            assert all(event.passive and not event.routes for event in events)
            serving.requests = 7
            await asyncio.sleep(2 * PASSIVE_S)
        assert [load.requests for load in bus.told[-1].event.routes] == [7]

    in_virtual_time(story)
