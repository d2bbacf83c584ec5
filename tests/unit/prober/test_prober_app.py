import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise

from control_plane.core.fold import STALE_AFTER_INTERVALS
from prober.app import serve
from shared import topics
from shared.adapters.memory import MemoryBroker, MemoryBus
from shared.telemetry import NoTelemetry
from shared.vocabulary.base import canonical_json
from shared.vocabulary.config import Cost, Fleet, FleetConfig
from shared.vocabulary.health import HealthEvent, ProbeState
from shared.vocabulary.node import BusAddress, Node
from shared.vocabulary.terms import Role
from tests.simulation.virtual_time import NodeClock
from tests.unit.prober.prober_world import OK, REFUSED, ToldProbe, fleet, in_virtual_time, monitor, target

NODE = Node(
    role=Role.PROBER,
    id="prober-r",
    region="r",
    state_dir="unused",
    buses={"r": BusAddress(bootstrap=("127.0.0.1:1",))},
)


def of(*names: str) -> Fleet:
    return fleet([target(name) for name in names], [monitor()])


class World:
    """A broker, targets of which some are dead, and probers to run against both."""

    def __init__(self, clock: NodeClock, rng: random.Random) -> None:
        self.clock, self.rng = clock, rng
        self.broker = MemoryBroker("r", clock=clock, rng=rng)
        self.dead: set[str] = set()

    @asynccontextmanager
    async def prober(self, boot: int = 1, watching: Fleet | None = None) -> AsyncIterator[MemoryBus]:
        bus = self.broker.bus("prober-r")
        task = asyncio.create_task(
            serve(
                node=NODE,
                fleet=watching or of("a", "b", "c"),
                boot=boot,
                bus=bus,
                probe=ToldProbe(answer=lambda job: REFUSED if job.target.id in self.dead else OK),
                clock=self.clock,
                telemetry=NoTelemetry(self.rng),
                rng=self.rng,
            )
        )
        try:
            yield bus
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def events(self) -> list[HealthEvent]:
        records = [r for (name, _), log in self.broker.logs.items() if name == topics.HEALTH for r in log]
        return [HealthEvent.model_validate_json(r.value) for r in records if r.value is not None]

    def known(self) -> dict[str, ProbeState]:
        """What a reader knows that keeps the greatest (boot, seq) per target."""
        ordered = sorted(self.events(), key=lambda event: (event.boot, event.seq))
        return {state.target: state for event in ordered for state in event.probes}


def test_readers_end_with_the_truth_whatever_happens_to_messages() -> None:
    """With loss, duplicates and reordering, everybody knows the state of every target a few rounds later."""

    async def story(clock: NodeClock, rng: random.Random) -> None:
        world = World(clock, rng)
        faults = world.broker.faults
        faults.drop, faults.duplicate, faults.delay, faults.lose_reply = 0.3, 0.3, 0.3, 0.1
        async with world.prober():
            for dead in ({"a"}, {"a", "b"}, set(), {"c"}):
                world.dead = set(dead)
                await asyncio.sleep(30.0)
                expected = {name: "DOWN" if name in dead else "UP" for name in ("a", "b", "c")}
                assert {name: state.state for name, state in world.known().items()} == expected

    in_virtual_time(story)


def test_a_cut_from_the_bus_heals_by_itself() -> None:
    """What happened while nobody could be told is told within seconds of the link's return."""

    async def story(clock: NodeClock, rng: random.Random) -> None:
        world = World(clock, rng)
        async with world.prober() as bus:
            await asyncio.sleep(10.0)
            bus.link.cut = True
            world.dead = {"b"}
            await asyncio.sleep(600.0)
            before = len(world.events())
            bus.link.cut = False
            await asyncio.sleep(5.0)
        assert world.known()["b"].state == "DOWN"
        assert world.known()["b"].hard
        assert len(world.events()) - before < 10

    in_virtual_time(story)


def test_an_emptied_bus_is_filled_again_within_a_round() -> None:
    """A broker that comes back with nothing knows everything after one round."""

    async def story(clock: NodeClock, rng: random.Random) -> None:
        world = World(clock, rng)
        async with world.prober():
            await asyncio.sleep(10.0)
            world.broker.empty()
            await asyncio.sleep(1.5)
            assert {name: state.state for name, state in world.known().items()} == dict.fromkeys("abc", "UP")

    in_virtual_time(story)


def test_a_second_life_is_heard_over_the_first() -> None:
    """A restarted prober counts from one again, and what it says is the newer word."""

    async def story(clock: NodeClock, rng: random.Random) -> None:
        world = World(clock, rng)
        async with world.prober(boot=1):
            await asyncio.sleep(60.0)
        world.dead = {"a"}
        async with world.prober(boot=2):
            await asyncio.sleep(5.0)
        assert world.known()["a"].state == "DOWN"
        assert next(event.seq for event in world.events() if event.boot == 2) == 1

    in_virtual_time(story)


def test_a_fleet_on_the_bus_is_followed() -> None:
    """Config that arrives, even before the prober started, replaces the file's fleet."""

    async def story(clock: NodeClock, rng: random.Random) -> None:
        world = World(clock, rng)
        writer = world.broker.bus("control-plane")

        async def put(version: int, *names: str) -> None:
            raw = canonical_json(
                FleetConfig(config_version=version, fleet=of(*names)).model_dump(mode="json")
            )
            await writer.publish(topics.CONFIG, key=b"fleet", value=raw)

        await put(3, "a", "x")
        async with world.prober():
            await asyncio.sleep(5.0)
            assert {state.target for state in world.events()[-1].probes} <= {"a", "x"}
            await put(4, "y")
            await asyncio.sleep(5.0)
            assert world.events()[-1].config_version == 4
            assert {state.target for state in world.events()[-1].probes} <= {"y"}
        assert world.known()["y"].state == "UP"

    in_virtual_time(story)


def test_however_slow_the_pace_the_prober_is_heard_and_what_it_knows_stays_fresh() -> None:
    """Calm, doubt, recovery and a ceiling that stretches the pace over minutes: an event goes out every
    round all the same, and no state in it is older than its own pace lets a reader take it for stale."""

    async def story(clock: NodeClock, rng: random.Random) -> None:
        world = World(clock, rng)
        paid = Cost(output_usd_per_mtok=1000.0)
        watching = fleet(
            [target("a", cost=paid), target("b", cost=paid)],
            [
                monitor(interval_s=10.0, min_interval_s=0.5, max_interval_s=300.0),
                monitor("chat", kind="chat", min_interval_s=5.0, cost_ceiling_usd_per_hour=0.16),
            ],
        )
        async with world.prober(watching=watching):
            for dead, for_s in ((set(), 1500.0), ({"a"}, 200.0), (set(), 100.0)):
                world.dead = set(dead)
                await asyncio.sleep(for_s)
        events = world.events()
        told = [(event.observed_at - state.probed_at, state) for event in events for state in event.probes]
        rounds = [
            (later.observed_at - earlier.observed_at).total_seconds() for earlier, later in pairwise(events)
        ]
        assert max(rounds) < 1.5
        assert max(age.total_seconds() / state.interval_s for age, state in told) < STALE_AFTER_INTERVALS
        paces = {key: {s.interval_s for _, s in told if s.monitor == key} for key in ("http", "chat")}
        assert min(paces["http"]) == 0.5
        assert max(paces["http"]) > 100.0
        assert max(paces["chat"]) > 200.0

    in_virtual_time(story)
