"""Crashes at every await: the leader dies before and after each call that reaches etcd or a bus.

A story is played once to count its calls, then once for each place to die in; whoever is left must make
good what was begun, and nobody may be able to tell a version twice.
"""

import asyncio
import json
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from shared import keys
from shared.vocabulary.base import sha256_hex
from shared.vocabulary.decision import Decision
from shared.vocabulary.override import OverrideRequest
from tests.support.replicas import Running, World, play

NEVER = 1_000_000
AFTERMATH_S = 1.0
"""After the deed: what follows from it reaches the buses in this time."""
LIMIT_S = 30.0
"""Virtual time for the survivor to take over and make everything good: lease, election, outbox."""


class Fate:
    """Counts the moments of one process, and ends it at the given one: from then on no call of it has an
    effect or an answer. (Its tasks are ended later; what they do until then reaches nobody.)"""

    def __init__(self, dies_at: int) -> None:
        self._dies_at = dies_at
        self.moments = 0
        self.counting = False
        self.dead = asyncio.Event()

    async def moment(self) -> None:
        if self.counting:
            self.moments += 1
            if self.moments >= self._dies_at:
                self.dead.set()
        if self.dead.is_set():
            await asyncio.Event().wait()


class Mortal:
    """A port of a process with a fate: a moment before each call that changes something, and one after."""

    MORTAL = frozenset({"commit", "grant", "keep_alive", "revoke", "publish", "get", "list"})

    def __init__(self, port: Any, fate: Fate) -> None:
        self._port = port
        self._fate = fate

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._port, name)
        if name not in self.MORTAL:
            return found

        async def called(*args: Any, **kwargs: Any) -> Any:
            await self._fate.moment()
            answer = await found(*args, **kwargs)
            await self._fate.moment()
            return answer

        return called


Deed = Callable[[World, Running], Coroutine[Any, Any, None]]


async def pair(world: World, fate: Fate, *, settled: bool) -> Running:
    """A leader with that fate, beside a standby; `settled`: its moments count from when all is quiet."""
    world.probe()
    fate.counting = not settled
    leader = await world.start(
        "cp-east", wrap=lambda client: Mortal(client, fate), wrap_bus=lambda bus: Mortal(bus, fate)
    )
    if settled:
        await world.until(lambda: world.documents("east") and leader.leads, within_s=10)
        await asyncio.sleep(2)
    await world.start("cp-west")
    return leader


def lives_through(deed: Deed, *, settled: bool, for_s: float) -> int:
    """Play `deed` with a leader that dies at each of its moments in turn; how many there were."""

    def once(dies_at: int) -> int:
        counted = 0

        async def story(world: World) -> None:
            nonlocal counted
            fate = Fate(dies_at)
            leader = await pair(world, fate, settled=settled)
            fate.counting = True
            doing = world.extras.spawn("deed", deed(world, leader))
            dying = world.extras.spawn("death", fate.dead.wait())
            await asyncio.wait([doing, dying], timeout=for_s, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait([dying], timeout=AFTERMATH_S)
            counted = fate.moments
            if fate.dead.is_set():
                await leader.crash()
                world.running.remove(leader)
            doing.cancel()
            dying.cancel()
            await world.until(lambda: made_good(world), within_s=LIMIT_S)
            check_history(world)

        play(story)
        return counted

    moments = once(NEVER)
    for dies_at in range(1, moments + 1):
        once(dies_at)
    print(f"every await: {moments} places to die in")
    return moments


def made_good(world: World) -> bool:
    """Somebody leads, what was asked is in force, and every bus has the head's documents."""
    head = world.head()
    if head is None or len(world.leaders()) != 1:
        return False
    wanted = {route: sha for route, (_, sha) in head.routes.items()}
    told = [
        {route: sha256_hex(document.canonical()) for route, document in world.documents(region).items()}
        for region in world.brokers
    ]
    used_down = world.down & world.used()
    drained = {drain["spec"]["target"] for drain in _records(world, keys.OVERRIDES)}
    return all(each == wanted for each in told) and not used_down and not drained & world.used()


def check_history(world: World) -> None:
    """One content per version everywhere, versions and terms in order, one audit entry per number."""
    contents: dict[tuple[str, int, int], bytes] = {}
    for region in world.brokers:
        for raw in world.on_bus(region, "leeward.decisions.v1"):
            document = Decision.model_validate_json(raw)
            key = (document.route, *document.version)
            assert contents.setdefault(key, raw) == raw, f"two contents of {key}"
    entries = world.log()
    versions = [(entry["generation"], entry["seq"]) for entry in entries]
    assert versions == sorted(set(versions))
    epochs = [entry["term"]["epoch"] for entry in entries]
    assert epochs == sorted(epochs), f"terms interleave: {epochs}"
    committed = {(entry["generation"], entry["seq"]) for entry in entries}
    assert {key[1:] for key in contents} <= committed, "published, but never committed"
    audit = _records(world, keys.AUDIT)
    assert [entry["n"] for entry in audit] == list(range(1, len(audit) + 1))
    given = [entry for entry in audit if entry["action"].startswith("override.")]
    assert len(given) == len(_records(world, keys.OVERRIDES)), "a write without a record, or the reverse"


def _records(world: World, prefix: str) -> list[Mapping[str, Any]]:
    return [json.loads(item.value) for item in world.store.read(prefix)]


def test_the_first_leader_may_die_anywhere() -> None:
    """From winning the first election over seeding the configuration to the first Beats: whoever comes next
    seeds what is missing, decides and publishes."""

    async def nothing(world: World, leader: Running) -> None:
        await world.until(lambda: world.documents("east"), within_s=20)

    assert lives_through(nothing, settled=False, for_s=3.0) > 20


def test_a_leader_may_die_anywhere_in_a_failover() -> None:
    """A target dies; between seeing it and the last acknowledgement of the last bus, no place to die in
    loses the decision or makes two of it."""

    async def failover(world: World, leader: Running) -> None:
        world.down.add("alpha-east")
        await world.until(lambda: "alpha-east" not in world.used(), within_s=20)

    assert lives_through(failover, settled=True, for_s=3.0) > 20


def test_a_replica_may_die_anywhere_in_an_operators_write() -> None:
    """The write is whole or not there, and is on record if and only if it is there."""

    async def drain(world: World, leader: Running) -> None:
        request = OverrideRequest.model_validate(
            {
                "kind": "drain",
                "target": "alpha-east",
                "author": "ann",
                "reason": "work",
                "for_s": 3600,
            }
        )
        await leader.replica.overrides.give(request)

    assert lives_through(drain, settled=True, for_s=3.0) > 10
