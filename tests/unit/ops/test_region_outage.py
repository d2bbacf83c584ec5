"""The drill `region-outage` against a fleet that answers from a script."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import httpx2
import pytest
from test_drill_sight import document

from ops.client import ControlPlanes, EdgeState
from ops.drill.load import Load
from ops.drill.region_outage import Pace, Scope, run
from ops.drill.sight import Sight
from shared.clock import SystemClock
from shared.vocabulary.base import Version
from shared.vocabulary.decision import Decision
from shared.vocabulary.status import DrillReport, LeaderStatus
from shared.vocabulary.terms import EdgeMode, Verdict

QUICK = Pace(warm_s=0.05, settle_s=0.05, guard_s=0.01, react_timeout_s=0.3, recover_timeout_s=0.3)
SCOPE = Scope(
    region="eu",
    targets=frozenset({"alpha-eu"}),
    survivors=("edge-us",),
    edges=("edge-us", "edge-eu"),
)


@dataclass
class Fleet(Sight):
    """A sight fed by a script: it reacts to the fault as a good fleet does, unless told not to."""

    dead: bool = False
    decides: bool = True
    leads: str = "us"
    seq: int = 4
    history: list[str] = field(default_factory=list)

    async def follow_edges(self) -> None:
        while True:
            self._tell()
            await asyncio.sleep(0.005)

    async def follow_control_planes(self) -> None:
        await asyncio.Event().wait()

    async def kill(self) -> None:
        self.history.append("kill")
        self.dead, self.seq = True, 5

    async def restore(self) -> None:
        self.history.append("restore")
        if self.dead:
            self.dead, self.seq = False, 6

    def _tell(self) -> None:
        lost = self.dead or (not self.decides and "kill" in self.history)
        decision: Decision = document("chat", self.seq, "alpha-us", excluded=("alpha-eu",))
        if not (self.dead and self.decides):
            decision = document("chat", self.seq, "alpha-us", "alpha-eu")
        self.documents = {"chat": decision}
        self.head = Version(1, self.seq)
        self.verdicts = {"alpha-eu": Verdict.DOWN if lost and self.dead else Verdict.HEALTHY}
        epoch = 8 if self.dead and self.leads == "eu" else 7
        region = "us" if epoch == 8 else self.leads
        self.leader = LeaderStatus(id=f"cp-{region}", region=region, epoch=epoch)
        alive = SCOPE.survivors if self.dead else SCOPE.edges
        self.states = {edge: EdgeState(edge, edge[-2:], EdgeMode.FRESH, self.head, 0.1) for edge in alive}
        self._changed.set()


class Clients(Load):
    """Traffic that never leaves: every request comes back at once with `fault`."""

    def __init__(self, fault: Callable[[], str]) -> None:
        super().__init__([("edge-us", "http://edge")], rate_per_s=100, clock=SystemClock())
        self.fault = fault

    async def run(self) -> None:
        while True:
            for _ in range(20):
                self._note("edge-us", self._clock.monotonic(), self.fault(), httpx2.Headers())
            await asyncio.sleep(0.01)


async def drill(fault: Callable[[], str] = str, **script: object) -> tuple[DrillReport, Fleet]:
    async with httpx2.AsyncClient() as client:
        fleet = Fleet(
            edges={}, planes=ControlPlanes(client, []), client=client, clock=SystemClock(), **script
        )
        report = await run(
            SCOPE, ground=fleet, sight=fleet, load=Clients(fault), clock=SystemClock(), pace=QUICK
        )
        return report, fleet


async def test_a_fleet_that_reacts_passes() -> None:
    """All times measured, in order; no failure; the fault injected once and mended."""
    report, fleet = await drill()
    assert (report.outcome, report.failures) == ("PASSED", ())
    assert report.detect_ms is not None
    assert report.decide_ms is not None
    assert report.apply_ms is not None
    assert report.recovered_ms is not None
    assert 0 <= report.decide_ms <= report.apply_ms
    assert report.requests > 50
    assert fleet.history[0] == "kill"
    assert not fleet.dead
    moments = [event.at_ms for event in report.timeline]
    assert moments == sorted(moments)
    assert [rail.ok for rail in report.guard_rails] == [True]


async def test_a_dead_leaders_successor_is_waited_for() -> None:
    """The timeline says that the leader died with its region, and who followed."""
    report, _ = await drill(leads="eu")
    assert report.outcome == "PASSED"
    events = {event.event: event.values for event in report.timeline}
    assert events["killed"]["leader_died"] is True
    assert events["new leader"] == {"leader": "cp-us", "old": "cp-eu"}


async def test_a_fleet_that_does_not_decide_fails() -> None:
    """FAILED with the reason, no time for what never happened, and mended all the same."""
    report, fleet = await drill(decides=False)
    assert report.outcome == "FAILED"
    assert report.decide_ms is None
    assert report.apply_ms is None
    assert any("no decision left" in failure for failure in report.failures)
    assert fleet.history[-1] == "restore"


async def test_the_guard_rail_ends_the_drill() -> None:
    """Too many failed requests: ABORTED at once, mended, and the rail shown as crossed."""
    report, fleet = await drill(fault=lambda: "status 502")
    assert report.outcome == "ABORTED"
    assert report.success_rate == 0.0
    assert [rail.ok for rail in report.guard_rails] == [False]
    assert any("guard rail" in failure for failure in report.failures)
    assert fleet.history[-1] == "restore"


async def test_an_interrupted_drill_mends_first() -> None:
    """Stopped from outside: ABORTED, with the region started again."""
    async with httpx2.AsyncClient() as client:
        fleet = Fleet(edges={}, planes=ControlPlanes(client, []), client=client, clock=SystemClock())
        fleet.stop("interrupted")
        report = await run(
            SCOPE, ground=fleet, sight=fleet, load=Clients(str), clock=SystemClock(), pace=QUICK
        )
    assert report.outcome == "ABORTED"
    assert "interrupted" in report.failures
    assert fleet.history == ["restore"]


@pytest.mark.parametrize("rate", [0.0, -1.0, 500.0])
def test_a_senseless_load_is_refused(rate: float) -> None:
    """The load is bounded on purpose."""
    with pytest.raises(ValueError, match="rate_per_s"):
        Load([("e", "http://e")], rate_per_s=rate, clock=SystemClock())
