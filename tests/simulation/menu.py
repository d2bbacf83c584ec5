"""The menu of faults: each does its harm, lasts as long as it was told, and undoes itself."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from control_plane.loops.blobs import Missing
from control_plane.ports import Busy, NotKept, OverrideDesk, Unfit
from shared import keys
from shared.ports import PortError
from shared.vocabulary.override import OverrideRequest
from tests.simulation.world import PROVIDERS, REGIONS, TARGETS, World, client_links

Answer = TypeVar("Answer")
ASK_S = 15.0
"""So long an operator waits for an answer."""
Fault = Callable[[World, random.Random, float], Awaitable[None]]
"""`(world, rng, lasts_s)`: returns when the fault is over."""


async def targets_down(world: World, rng: random.Random, lasts_s: float) -> None:
    """One to three targets refuse connections."""
    for target in rng.sample(TARGETS, rng.randint(1, 3)):
        world.truth.down.add(target)
    world.say(f"down {sorted(world.truth.down)}")
    await asyncio.sleep(lasts_s)
    world.truth.down.clear()


async def region_dies(world: World, rng: random.Random, lasts_s: float) -> None:
    """Everything of a region at once: targets, bus, prober, control plane, edge."""
    region = rng.choice(REGIONS)
    world.say(f"region {region} dies")
    world.truth.down |= {f"{provider}-{region}" for provider in PROVIDERS}
    world.brokers[region].up = False
    names = [f"{kind}-{region}" for kind in ("cp", "edge", "prober")]
    for name in names:
        await world.crash(name)
    await asyncio.sleep(lasts_s)
    world.truth.down -= {f"{provider}-{region}" for provider in PROVIDERS}
    world.brokers[region].empty()
    world.brokers[region].up = True
    for name in names:
        await world.start(name)


async def process_crashes(world: World, rng: random.Random, lasts_s: float) -> None:
    """Any one process is killed and comes back."""
    name = rng.choice([*world.machines])
    await world.crash(name)
    await asyncio.sleep(lasts_s)
    await world.start(name)


async def leader_stops(world: World, rng: random.Random, lasts_s: float) -> None:
    """The leader is told to end, and starts again."""
    for name in [*world.replicas]:
        if name in world.replicas and world.replicas[name].leader().leading:
            await world.stop(name)
            await asyncio.sleep(lasts_s)
            await world.start(name)


async def machine_pauses(world: World, rng: random.Random, lasts_s: float) -> None:
    """A control plane stands still, between any two of its steps, and then goes on as if nothing was."""
    name = rng.choice([*world.replicas] or ["cp-us-east"])
    world.say(f"pause {name} for {lasts_s:.1f} s")
    world.machines[name].pause()
    await asyncio.sleep(lasts_s)
    world.machines[name].resume()


async def link_cut(world: World, rng: random.Random, lasts_s: float) -> None:
    """One connection of one process carries nothing, and nobody is told."""
    name = rng.choice([*world.machines])
    links = client_links(world, name)
    if not links:
        return
    link = rng.choice(links)
    world.say(f"cut a link of {name}")
    link.cut = True
    await asyncio.sleep(lasts_s)
    link.cut = False


async def edge_loses_http(world: World, rng: random.Random, lasts_s: float) -> None:
    """An edge has only its bus."""
    path = world.http[rng.choice([*world.http])]
    path.cut = True
    await asyncio.sleep(lasts_s)
    path.cut = False


async def bus_dies(world: World, rng: random.Random, lasts_s: float) -> None:
    """A region's bus is gone, and comes back with all it had or with nothing."""
    broker = world.brokers[rng.choice(REGIONS)]
    world.say(f"bus of {broker.region} dies")
    broker.up = False
    await asyncio.sleep(lasts_s)
    if rng.random() < 0.5:
        broker.empty()
    broker.up = True


async def messages_suffer(world: World, rng: random.Random, lasts_s: float) -> None:
    """A bus loses, doubles, delays and so reorders messages, and loses acknowledgements."""
    faults = world.brokers[rng.choice(REGIONS)].faults
    faults.drop, faults.duplicate, faults.delay = rng.random() * 0.3, rng.random() * 0.3, rng.random() * 0.5
    faults.lose_reply = rng.random() * 0.2
    await asyncio.sleep(lasts_s)
    faults.drop = faults.duplicate = faults.delay = faults.lose_reply = 0.0


async def quorum_lost(world: World, rng: random.Random, lasts_s: float) -> None:
    """etcd answers nobody."""
    world.say("etcd loses its quorum")
    world.store.up = False
    await asyncio.sleep(lasts_s)
    world.store.up = True


async def replies_lost(world: World, rng: random.Random, lasts_s: float) -> None:
    """Commits are carried out and reported as unknown."""
    for client in world.etcd.values():
        client.lose_replies += rng.randint(1, 3)
    await asyncio.sleep(lasts_s)
    for client in world.etcd.values():
        client.lose_replies = 0


async def history_compacted(world: World, rng: random.Random, lasts_s: float) -> None:
    """Watchers that were cut off find their history gone."""
    name = rng.choice([*world.etcd])
    world.etcd[name].link.cut = True
    await asyncio.sleep(lasts_s)
    world.store.compact(world.store.revision)
    world.etcd[name].link.cut = False


async def store_goes_back(world: World, rng: random.Random, lasts_s: float) -> None:
    """etcd is restored from an older snapshot, or comes back empty."""
    snapshot = world.store.snapshot()
    await asyncio.sleep(lasts_s)
    emptied = rng.random() < 0.5
    world.say("etcd comes back empty" if emptied else "etcd is restored from an older snapshot")
    world.store.restore(None if emptied else snapshot)
    world.restored_at = world.loop.time()
    head = world.store.read(keys.DECISIONS_HEAD, exact=True)
    world.ledger.store_restarted(head[0].value if head else None)


async def prober_blind(world: World, rng: random.Random, lasts_s: float) -> None:
    """The probers of one region reach no target."""
    region = rng.choice(REGIONS)
    world.say(f"probers of {region} are blind")
    world.truth.blind.add(region)
    await asyncio.sleep(lasts_s)
    world.truth.blind.discard(region)


async def clock_steps(world: World, rng: random.Random, lasts_s: float) -> None:
    """One machine's wall clock is wrong, and later steps back."""
    machine = world.machines[rng.choice([*world.machines])]
    machine.clock.skew_s = rng.uniform(-40.0, 40.0)
    await asyncio.sleep(lasts_s)
    machine.clock.skew_s = 0.0


async def disk_full(world: World, rng: random.Random, lasts_s: float) -> None:
    """An edge cannot write its last-known-good file."""
    disk = world.disks[rng.choice([*world.disks])]
    disk.broken = True
    await asyncio.sleep(lasts_s)
    disk.broken = False


async def operator_drains(world: World, rng: random.Random, lasts_s: float) -> None:
    """A region or a target is drained through any replica, for a while or for good, and often undrained
    through another before its time."""
    whom = {"region": rng.choice(REGIONS)} if rng.random() < 0.6 else {"target": rng.choice(TARGETS)}
    ends = {"for_s": 3600.0 if rng.random() < 0.3 else rng.uniform(2.0, 40.0), "forced": rng.random() < 0.2}
    await _ordered(world, rng, lasts_s, {"kind": "drain", **whom, **ends})


async def operator_freezes(world: World, rng: random.Random, lasts_s: float) -> None:
    """Nobody may leave by itself for a while."""
    await _ordered(world, rng, lasts_s, {"kind": "freeze", "for_s": rng.uniform(2.0, 40.0)})


async def _ordered(world: World, rng: random.Random, lasts_s: float, what: dict[str, Any]) -> None:
    """Given at once, and lifted after `lasts_s` in two of three cases."""
    request = OverrideRequest.model_validate({**what, "reason": "simulated", "author": "ann"})
    given = await _asked(world, rng, lambda desk: desk.give(request))
    await asyncio.sleep(lasts_s)
    if given is not None and rng.random() < 0.67:
        name = given.override.id
        await _asked(world, rng, lambda desk: desk.lift(name, author="bob", reason="simulated"))


async def _asked(
    world: World, rng: random.Random, question: Callable[[OverrideDesk], Awaitable[Answer]]
) -> Answer | None:
    """The answer of any replica that runs; None when it has none in time, which leaves open what was done."""
    name = rng.choice([*world.replicas] or [""])
    if not name:
        return None
    try:
        async with asyncio.timeout(ASK_S):
            answer = await question(world.replicas[name].overrides)
    except (Unfit, NotKept, Busy, Missing, PortError, TimeoutError) as error:
        world.say(f"{name} says {error!r}")
        return None
    world.say(f"{name} says {answer}")
    return answer


MENU: tuple[Fault, ...] = (
    targets_down,
    targets_down,
    region_dies,
    process_crashes,
    process_crashes,
    leader_stops,
    machine_pauses,
    machine_pauses,
    link_cut,
    link_cut,
    edge_loses_http,
    bus_dies,
    messages_suffer,
    quorum_lost,
    replies_lost,
    history_compacted,
    store_goes_back,
    prober_blind,
    clock_steps,
    disk_full,
    operator_drains,
    operator_drains,
    operator_freezes,
)
