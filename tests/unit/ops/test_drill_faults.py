"""The promise about faults: on record first, undone always."""

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from drill_worlds import ManualClock, spec, terrain

from ops.drill.faults import Faults
from ops.drill.ports import Place
from ops.drill.scope import places
from ops.errors import Bad, Unreachable
from shared.vocabulary.drill import FAULT_TTL_S, DrillFault


@dataclass
class World:
    """Injectors that write down what is asked of them, in order, and fail on request."""

    clock: ManualClock = field(default_factory=ManualClock)
    history: list[str] = field(default_factory=list)
    fails: Callable[[str], bool] = lambda _: False
    lapsed: list[str] = field(default_factory=list)
    tries: int = 0

    def at(self, fault: DrillFault, place: Place, *, author: str, reason: str) -> "One":
        assert (author, reason) == ("ann", "because")
        return One(self, place.where)

    async def on_record(self) -> None:
        self.do("record")

    def do(self, what: str) -> None:
        if self.fails(what):
            raise Unreachable(f"no {what}")
        self.history.append(what)

    def faults(self, *wanted: dict[str, object]) -> Faults:
        return Faults(
            places(spec(*wanted), terrain(), drill="drill-1"),
            self,
            clock=self.clock,
            on_record=self.on_record,
            lapsed=self.lapsed.append,
            author="ann",
            reason="because",
        )


@dataclass
class One:
    world: World
    where: str

    async def put(self, *, for_s: float) -> None:
        assert for_s == FAULT_TTL_S
        self.world.do(f"put {self.where}")

    async def renew(self, *, for_s: float) -> None:
        assert for_s == FAULT_TTL_S
        self.world.do(f"renew {self.where}")

    async def undo(self) -> None:
        self.world.tries += 1
        self.world.do(f"undo {self.where}")


CUT = {"fault": "cut", "by": "panel", "targets": ["alpha-eu"]}
LATER = {"fault": "refuse", "by": "panel", "targets": ["beta-eu"], "delay_s": 2}


async def test_nothing_is_put_that_is_not_on_record() -> None:
    """Recorded as PLANNED, then put; and not put at all when the record could not be made."""
    world = World()
    faults = world.faults(CUT, LATER)
    with pytest.raises(Bad, match="on record"):
        await faults.put(0.0)
    await faults.plan()
    assert [one.state for one in faults.planned] == ["PLANNED", "PLANNED"]
    assert faults.delays == [0.0, 2.0]
    await faults.put(0.0)
    assert world.history == ["record", "put alpha-eu"]
    assert [one.state for one in faults.planned] == ["DONE", "PLANNED"]


async def test_a_record_that_cannot_be_made_leaves_everything_alone() -> None:
    """The error is the caller's to report; undoing finds nothing to do."""
    world = World(fails=lambda what: what == "record")
    faults = world.faults(CUT)
    with pytest.raises(Unreachable):
        await faults.plan()
    assert await faults.undo() == []
    assert world.history == []


async def test_whatever_was_begun_is_undone() -> None:
    """Also what failed half-way, for it may have been done; nothing begins afterwards."""
    world = World(fails=lambda what: what == "put beta-eu")
    faults = world.faults({"fault": "cut", "by": "panel"}, LATER)
    await faults.plan()
    with pytest.raises(Unreachable):
        await faults.put(0.0)
    assert await faults.undo() == []
    await faults.put(2.0)
    await faults.undo()
    assert world.history == ["record", "put alpha-eu", "undo alpha-eu", "undo beta-eu"]
    assert [one.state for one in faults.planned] == ["UNDONE", "UNDONE", "PLANNED"]


async def test_what_cannot_be_undone_is_said_to_lapse() -> None:
    """Once when nobody waits; and its time to live is what ends it."""
    world = World(fails=lambda what: what.startswith("undo"))
    faults = world.faults(CUT)
    await faults.plan()
    await faults.put(0.0)
    (told,) = await faults.undo(patient=False)
    assert "could not be undone" in told
    assert world.tries == 1
    assert [one.state for one in faults.planned] == ["LAPSED"]


async def test_undoing_is_tried_until_the_time_to_live_is_over() -> None:
    """Not a moment longer: from then on there is nothing to undo."""
    world = World()

    def fails(what: str) -> bool:
        world.clock.at += FAULT_TTL_S + 5
        return what.startswith("undo")

    faults = world.faults(CUT)
    await faults.plan()
    await faults.put(0.0)
    world.fails = fails
    (told,) = await faults.undo()
    assert "time to live" in told
    assert world.tries == 1


async def test_a_fault_that_is_not_renewed_lapses() -> None:
    """One missed renewal is nothing; after its time to live the drill hears of it."""
    world = World(fails=lambda what: what.startswith("renew"))
    faults = world.faults(CUT)
    await faults.plan()
    await faults.put(0.0)
    await faults._renew(faults.all[0])
    assert world.lapsed == []
    world.clock.at += FAULT_TTL_S + 1
    await faults._renew(faults.all[0])
    assert len(world.lapsed) == 1
    assert "lapsed" in world.lapsed[0]
    assert [one.state for one in faults.planned] == ["LAPSED"]
