"""One simulated run: three quarters of a minute of trouble drawn from a seed, then peace, in which all must become well."""

import asyncio
import hashlib
import logging
import random
from dataclasses import dataclass

import structlog

from shared.supervise import Supervisor
from tests.simulation.checkers import Broken
from tests.simulation.menu import MENU
from tests.simulation.virtual_time import VirtualTimeLoop
from tests.simulation.world import World

TROUBLE_S = 45.0
SETTLE_S = 120.0
"""Longest until all is well again: a lease, a re-list, bounded backoffs, hold-down and the ramp."""
QUIET_S = 14.0
"""Without a decision for so long, none follows on constant input: longer than hold-down and ramp together."""
WATCH_S = 0.05


@dataclass(frozen=True, slots=True)
class Result:
    """How a run ended. `trace_sha` is equal for two runs that went the same way."""

    seed: int
    broken: str | None
    faults: int
    commits: int
    virtual_s: float
    trace_sha: str
    trace: tuple[str, ...]


def simulate(seed: int) -> Result:
    """Run seed `seed` to its end; never raises for what the simulated system does."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    loop = VirtualTimeLoop()
    asyncio.set_event_loop(loop)
    try:
        return loop.run_until_complete(_run(loop, seed))
    finally:
        asyncio.set_event_loop(None)
        loop.close()


async def _run(loop: VirtualTimeLoop, seed: int) -> Result:
    rng = random.Random(seed)
    world = World(loop, rng)
    broken: str | None = None
    faults = rng.randint(3, 8)
    try:
        async with Supervisor() as injectors:
            for name in world.machines:
                await world.start(name)
            await _watch(world, 10.0)
            for _ in range(faults):
                fault = rng.choice(MENU)
                lasts_s = rng.uniform(1.0, 20.0)
                injectors.spawn(
                    fault.__name__, _later(rng.uniform(0.0, TROUBLE_S - lasts_s), fault, world, lasts_s)
                )
            await _watch(world, TROUBLE_S + 1.0)
            await _settle(world)
            if injectors.failures:
                raise Broken(f"the simulation itself failed: {injectors.failures}")
    except Broken as error:
        broken = str(error)
    finally:
        for name in [*world.running]:
            await world.crash(name)
    trace = tuple(world.trace)
    return Result(
        seed=seed,
        broken=broken,
        faults=faults,
        commits=world.ledger.commits,
        virtual_s=loop.time(),
        trace_sha=hashlib.sha256("\n".join(trace).encode()).hexdigest()[:16],
        trace=trace,
    )


async def _later(delay_s: float, fault: object, world: World, lasts_s: float) -> None:
    await asyncio.sleep(delay_s)
    world.say(f"{fault.__name__} for {lasts_s:.1f} s")  # type: ignore[attr-defined]
    await fault(world, random.Random(world.rng.random()), lasts_s)  # type: ignore[operator]


async def _watch(world: World, seconds: float) -> None:
    """Let time pass, checking all the while. Raises Broken."""
    until = world.loop.time() + seconds
    while world.loop.time() < until:
        await asyncio.sleep(WATCH_S)
        _check(world)


async def _settle(world: World) -> None:
    """Wait until all is well, and then that it stays so. Raises Broken when it does not come to that."""
    until = world.loop.time() + SETTLE_S
    quiet_since = world.loop.time()
    commits, what = world.ledger.commits, world.unsettled()
    while what is not None or world.loop.time() - quiet_since < QUIET_S:
        if world.loop.time() > until:
            raise Broken(
                f"{SETTLE_S:.0f} s after the last fault: {what or 'decisions go on, on constant input'}"
            )
        await asyncio.sleep(0.25)
        _check(world)
        what = world.unsettled()
        if commits != world.ledger.commits:
            commits, quiet_since = world.ledger.commits, world.loop.time()


def _check(world: World) -> None:
    world.check_now()
    for broker in world.brokers.values():
        if broker.broken:
            raise Broken(broker.broken[0])
