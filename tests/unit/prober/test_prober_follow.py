import asyncio
import random

from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from prober.core.jobs import Job
from prober.loops.follow import MAX_CONFIG_BYTES, Follow
from prober.metrics import Metrics
from shared.backoff import Backoff
from shared.supervise import Supervisor
from shared.vocabulary.base import canonical_json
from shared.vocabulary.config import Cost, Fleet, FleetConfig, Monitor
from shared.vocabulary.terms import Dialect
from tests.simulation.virtual_time import NodeClock
from tests.unit.prober.prober_world import RecordingBus, fleet, in_virtual_time, monitor, target


def config(version: int, *names: str) -> bytes:
    return canonical_json(FleetConfig(config_version=version, fleet=named(*names)).model_dump(mode="json"))


def named(*names: str) -> Fleet:
    return fleet([target(name) for name in names], [monitor()])


class Follower:
    """The loop, its bus, and what it made of both."""

    def __init__(self, clock: NodeClock, rng: random.Random) -> None:
        self.bus = RecordingBus(clock)
        self.applied: list[list[str]] = []
        self.registry = CollectorRegistry()
        self.follow = Follow(
            vantage="r",
            bus=self.bus,
            metrics=Metrics(self.registry),
            apply=self._apply,
            backoff=Backoff(rng=rng),
        )

    def _apply(self, jobs: tuple[Job, ...]) -> None:
        self.applied.append([job.target.id for job in jobs])

    @property
    def refused(self) -> float | None:
        return self.registry.get_sample_value("leeward_prober_config_refused_total")


def test_the_newest_version_wins_whatever_the_order() -> None:
    """Older, repeated and reordered messages change nothing."""

    async def story(clock: NodeClock, rng: random.Random) -> None:
        it = Follower(clock, rng)
        it.follow.seed(named("file"))
        async with Supervisor() as supervisor:
            supervisor.start("follow", it.follow.run)
            it.bus.feed(config(2, "two"), config(5, "five"), config(3, "three"))
            it.bus.feed(config(4, "four"))
            it.bus.feed(config(5, "five"))
            it.bus.feed(config(6, "six"))
            await asyncio.sleep(0.1)
        assert it.applied == [["file"], ["five"], ["six"]]
        assert it.follow.config_version == 6
        assert it.refused == 0

    in_virtual_time(story)


def test_poison_is_refused_and_what_follows_is_taken() -> None:
    """Garbage, an invalid fleet, an oversized message and a tombstone stop nothing."""

    async def story(clock: NodeClock, rng: random.Random) -> None:
        it = Follower(clock, rng)
        async with Supervisor() as supervisor:
            supervisor.start("follow", it.follow.run)
            invalid = canonical_json({"schema_version": 1, "config_version": 9, "fleet": {}})
            it.bus.feed(
                b"\xff{", b"[" * 9999, b"{}", None, invalid, b" " * (MAX_CONFIG_BYTES + 1), config(2, "two")
            )
            await asyncio.sleep(0.1)
        assert it.applied == [["two"]]
        assert it.refused == 5

    in_virtual_time(story)


def test_one_version_with_two_contents_is_an_alarm() -> None:
    """The first one stays in force, the other is refused."""

    async def story(clock: NodeClock, rng: random.Random) -> None:
        it = Follower(clock, rng)
        async with Supervisor() as supervisor:
            supervisor.start("follow", it.follow.run)
            it.bus.feed(config(2, "two"))
            it.bus.feed(config(2, "other"))
            await asyncio.sleep(0.1)
        assert it.applied == [["two"]]
        assert it.refused == 1

    in_virtual_time(story)


def test_a_bus_that_stops_answering_is_read_again() -> None:
    """The fleet in force stays, and the next one is found without a restart."""

    async def story(clock: NodeClock, rng: random.Random) -> None:
        it = Follower(clock, rng)
        it.follow.seed(named("file"))
        async with Supervisor() as supervisor:
            supervisor.start("follow", it.follow.run)
            for _ in range(5):
                it.bus.fail_reader()
            it.bus.feed(config(1, "one"))
            await asyncio.sleep(15.0)
        assert it.applied == [["file"], ["one"]]

    in_virtual_time(story)


def test_a_question_that_a_dialect_has_no_words_for_is_not_asked() -> None:
    """`chat` for every target leaves plain HTTP targets to the monitors that can."""

    async def story(clock: NodeClock, rng: random.Random) -> None:
        it = Follower(clock, rng)
        targets = [target("model"), target("plain", dialect=Dialect.HTTP)]
        it.follow.seed(fleet(targets, [monitor(), Monitor(id="chat", kind="chat")]))
        assert it.applied == [["model", "model", "plain"]]

    in_virtual_time(story)


def test_a_ceiling_that_pays_for_no_probe_is_named() -> None:
    """It is within the rules and surely not meant: the operator hears of it, with the price."""

    async def story(clock: NodeClock, rng: random.Random) -> None:
        it = Follower(clock, rng)
        dear = target(cost=Cost(output_usd_per_mtok=1000.0))
        chats = [
            Monitor(id=name, kind="chat", cost_ceiling_usd_per_hour=ceiling)
            for name, ceiling in (("poor", 0.001), ("rich", 1.0))
        ]
        with capture_logs() as logs:
            it.follow.seed(fleet([dear], chats))
        warnings = [log for log in logs if log["log_level"] == "warning"]
        assert [(log["monitor"], log["worst_case_usd"]) for log in warnings] == [("poor", 0.016)]
        assert it.applied == [["t", "t"]]

    in_virtual_time(story)
