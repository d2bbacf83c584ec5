"""Monitors against real endpoints: the pace that follows doubt, and known answers in every dialect."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import pytest

from ops.simulator.app import Simulator
from ops.simulator.faults import NO_FAULTS, Faults, Status
from ops.simulator.identity import identity_of
from prober.adapters.probes import Probes
from prober.app import serve
from prober.core.counters import Finding
from prober.core.jobs import Job
from shared.clock import SystemClock
from shared.telemetry import NoTelemetry
from shared.vocabulary.config import Monitor, Target
from shared.vocabulary.health import ProbeState
from shared.vocabulary.node import BusAddress, Node, Timings
from shared.vocabulary.terms import Dialect, Outcome, Role
from tests.unit.prober.prober_world import RecordingBus, fleet, monitor, target

USUAL_S, HURRIED_S = 0.4, 0.05
DEADLINE_S = 30.0


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    """A target that answers as fast as it can."""
    async with Simulator(identity_of("alpha-us-east")) as simulator:
        yield simulator


class Counted:
    """The real probes, and when each began."""

    def __init__(self) -> None:
        self._probes = Probes(credentials={}, clock=SystemClock())
        self.at: list[float] = []

    async def probe(self, job: Job) -> Finding | None:
        self.at.append(time.monotonic())
        return await self._probes.probe(job)

    async def close(self) -> None:
        await self._probes.close()

    def gaps(self, since: int) -> list[float]:
        """Between the starts of probes, from the `since`-th on."""
        return [later - earlier for earlier, later in pairwise(self.at[since:])]


@asynccontextmanager
async def prober(watched: Target, paced: Monitor) -> AsyncIterator[tuple[RecordingBus, Counted]]:
    """A whole prober on the real probes and a recording bus."""
    bus, probe = RecordingBus(SystemClock()), Counted()  # type: ignore[arg-type]
    node = Node(
        role=Role.PROBER,
        id="prober-r",
        region="r",
        state_dir="unused",
        buses={"r": BusAddress(bootstrap=("127.0.0.1:1",))},
        timings=Timings(round_s=0.2),
    )
    task = asyncio.create_task(
        serve(
            node=node,
            fleet=fleet([watched], [paced]),
            boot=1,
            bus=bus,
            probe=probe,
            clock=SystemClock(),
            telemetry=NoTelemetry(),
            rng=random.Random(3),
        )
    )
    try:
        yield bus, probe
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await probe.close()


async def until(what: Callable[[], Any]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not what():
            await asyncio.sleep(0.01)


def told(bus: RecordingBus) -> ProbeState | None:
    """The newest word on the one target."""
    states = [state for event in bus.told for state in event.event.probes]
    return states[-1] if states else None


def tells(bus: RecordingBus, state: str, interval_s: float) -> bool:
    newest = told(bus)
    return newest is not None and (newest.state, newest.interval_s) == (state, interval_s)


async def test_the_pace_follows_the_doubt(simulator: Simulator) -> None:
    """A target that begins to fail is DOWN in a fraction of two intervals; while it stays so the pace eases
    off, and readers are told every pace; when it is back, it is UP in a fraction of three."""
    watched = target(url=simulator.url)
    paced = monitor(interval_s=USUAL_S, timeout_s=USUAL_S, min_interval_s=HURRIED_S)
    async with prober(watched, paced) as (bus, probe):
        await until(lambda: tells(bus, "UP", USUAL_S))
        known = len(probe.at)
        await until(lambda: len(probe.at) >= known + 3)
        calm = probe.gaps(known)
        await simulator.apply(Faults(status=Status(code=503)))
        failing = len(probe.at)
        await until(lambda: tells(bus, "DOWN", HURRIED_S))
        await until(lambda: tells(bus, "DOWN", USUAL_S))
        doubtful = probe.gaps(failing)
        await simulator.apply(NO_FAULTS)
        mending = len(probe.at)
        await until(lambda: tells(bus, "UP", HURRIED_S))
        mended = probe.gaps(mending)
    hurried = sorted(doubtful)[: len(doubtful) // 2]
    print(f"\ncalm {max(calm):.2f} s, in doubt {min(doubtful):.3f} s, {len(doubtful)} probes until eased off")
    assert max(calm) > USUAL_S / 2
    assert hurried[-1] < USUAL_S / 2
    assert doubtful[-1] > hurried[-1]
    assert min(mended) < USUAL_S / 2


@pytest.mark.parametrize("dialect", [Dialect.OPENAI, Dialect.ANTHROPIC, Dialect.GEMINI])
async def test_a_known_answer_is_known_in_every_dialect(simulator: Simulator, dialect: Dialect) -> None:
    """The right word is OK; another word, and 200 with the JSON of something else, are GARBLED and say why."""
    probes = Probes(credentials={}, clock=SystemClock())
    url = simulator.url.replace("/v1", "/v1beta") if dialect is Dialect.GEMINI else simulator.url
    watched = target(url=url, dialect=dialect, model="alpha-large")

    async def asked(**fields: Any) -> Finding | None:
        chat = monitor("chat", kind="chat", timeout_s=10.0, **fields)
        return await probes.probe(Job(watched, chat))

    right = await asked(expect_answer="Ready!")
    wrong = await asked(expect_answer="ready", prompt="Reply with the single word: already")
    await simulator.apply(Faults(garbage_200="other"))
    garbled = await asked(expect_answer="ready")
    await probes.close()
    assert right is not None
    assert wrong is not None
    assert garbled is not None
    assert right.outcome is Outcome.OK
    assert (wrong.outcome, wrong.detail) == (Outcome.GARBLED, "answer without the expected text")
    assert (garbled.outcome, garbled.detail) == (Outcome.GARBLED, f"not a {dialect.value} chat answer")


@pytest.mark.parametrize("dialect", [Dialect.OPENAI, Dialect.GEMINI])
async def test_an_embedding_is_as_long_as_its_model_makes_it(simulator: Simulator, dialect: Dialect) -> None:
    """The simulator's vectors have 256 numbers; a monitor that expects 1536 knows another model."""
    probes = Probes(credentials={}, clock=SystemClock())
    url = simulator.url.replace("/v1", "/v1beta") if dialect is Dialect.GEMINI else simulator.url
    watched = target(url=url, dialect=dialect, model="alpha-large")
    right, wrong = [
        await probes.probe(Job(watched, monitor("e", kind="embedding", expect_dimensions=dimensions)))
        for dimensions in (256, 1536)
    ]
    await probes.close()
    assert right is not None
    assert right.outcome is Outcome.OK
    assert wrong is not None
    assert (wrong.outcome, wrong.detail) == (Outcome.GARBLED, "embedding of dimension 256, not 1536")
