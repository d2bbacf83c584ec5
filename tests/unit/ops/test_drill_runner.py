"""A whole drill against a fleet that answers from a script."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
from drill_worlds import AT, ManualClock, document, record, spec, terrain

from ops.client import ControlPlanes, EdgeState, Refused
from ops.drill.ground import Ground
from ops.drill.load import Load
from ops.drill.ports import Place
from ops.drill.ready import restless
from ops.drill.runner import Done, Runner
from ops.drill.scope import resolve
from ops.drill.sight import Sight
from ops.errors import Unreachable
from shared.clock import SystemClock
from shared.vocabulary.config import Policy
from shared.vocabulary.decision import Decision, Reason
from shared.vocabulary.drill import Drill, DrillEnd, DrillFault, DrillRequest, DrillSpec, RunnerWord, Stop
from shared.vocabulary.override import Override, OverrideSpec
from shared.vocabulary.status import (
    ControlPlaneStatus,
    EdgeStatus,
    LeaderStatus,
    RegionStatus,
    StackStatus,
)
from shared.vocabulary.terms import EdgeMode, Role, Verdict
from shared.vocabulary.view import HealthView, RegionHealth, SourceHealth, TargetHealth

QUICK: Mapping[str, Any] = {
    "warm_s": 0.05,
    "hold_s": 0.05,
    "react_timeout_s": 10.0,
    "recover_timeout_s": 10.0,
    "guard": {"after_requests": 20},
}
EDGES = ("edge-us", "edge-eu", "edge-ap")


@dataclass
class Fleet(Sight):
    """A sight fed by a script: it reacts to the fault as a good fleet does, unless told not to."""

    dead: bool = False
    decides: bool = True
    blames: str = ""
    """Whom the decision names in its reasons, instead of having the struck targets out."""
    returns: bool = True
    orders: tuple[Override, ...] = ()
    age: timedelta = timedelta(hours=1)
    """Of the decision in force."""
    leads: str = "us"
    seq: int = 4
    gone: bool = False
    """Well again, and still left."""
    history: list[str] = field(default_factory=list)

    async def follow_edges(self) -> None:
        while True:
            self._tell()
            await asyncio.sleep(0.005)

    async def follow_control_planes(self) -> None:
        await asyncio.Event().wait()

    async def overrides(self) -> tuple[Override, ...]:
        return self.orders

    # ------------------------------------------------------------ as injectors

    def at(self, fault: DrillFault, place: Place, *, author: str, reason: str) -> "Fleet":
        return self

    async def put(self, *, for_s: float) -> None:
        self.history.append("put")
        self.dead, self.seq = True, 5

    async def renew(self, *, for_s: float) -> None:
        self.history.append("renew")

    async def undo(self) -> None:
        self.history.append("undo")
        if self.dead:
            self.dead, self.seq = False, 6 if self.returns else 5
            self.gone = not self.returns

    def _tell(self) -> None:
        lost = (self.dead or self.gone) and self.decides
        excluded = ("alpha-eu", "beta-eu") if lost and not self.blames else ()
        decision: Decision = document(
            "chat", self.seq, *(("alpha-us",) if lost else ("alpha-eu", "alpha-us")), excluded=excluded
        )
        if not self.decides:
            decision = document("chat", 4, "alpha-eu", "alpha-us")
        because = (Reason(code="TARGET_DOWN", target=self.blames),) if self.blames and lost else ()
        at = self.clock.now() - self.age
        decision = decision.model_copy(update={"reasons": because, "decided_at": at})
        self._decided(decision.version, {"chat": decision})
        epoch, region = (8, "us") if self.dead and self.leads == "eu" else (7, self.leads)
        self.leader = LeaderStatus(id=f"control-plane-{region}", region=region, epoch=epoch)
        self.view, self.reached = view(dead=self.dead), True
        alive = [edge for edge in EDGES if not (self.dead and edge == "edge-eu")]
        self.states = {edge: EdgeState(edge, edge[-2:], EdgeMode.FRESH, self.head, 0.1) for edge in alive}
        self._changed.set()


def view(*, dead: bool) -> HealthView:
    """All of it HEALTHY, or without `eu`."""
    ground = terrain()
    return HealthView(
        as_of=AT,
        replica="control-plane-us",
        status="healthy",
        config_version=1,
        regions=tuple(
            RegionHealth(
                id=each, verdict=Verdict.HEALTHY, targets_healthy=2, targets=2, sources_fresh=1, sources=1
            )
            for each in ground.regions
        ),
        targets=tuple(
            TargetHealth(
                id=each.id,
                region=each.region,
                provider=each.provider,
                verdict=Verdict.DOWN if dead and each.region == "eu" else Verdict.HEALTHY,
            )
            for each in ground.fleet.targets
        ),
        sources=tuple(
            SourceHealth(
                id=f"control-plane-{each}",
                role=Role.CONTROL_PLANE,
                vantage=each,
                fresh=not (dead and each == "eu"),
                last_event_age_s=0.1,
                boot=1,
                seq=1,
                config_version=1,
            )
            for each in ground.regions
        ),
    )


@dataclass(frozen=True)
class Stage(Ground):
    """Where all is well at the beginning."""

    async def status(self, client: httpx2.AsyncClient) -> StackStatus:
        return StackStatus(
            leader=LeaderStatus(id="control-plane-us", region="us", epoch=7),
            control_planes=(
                ControlPlaneStatus(id="control-plane-us", region="us", url="http://cp", role="leader"),
            ),
            edges=tuple(
                EdgeStatus(id=each, region=each[-2:], url="", admin_url="", mode=EdgeMode.FRESH)
                for each in EDGES
            ),
            probers=(),
            buses=(),
            etcd=(),
            regions=(RegionStatus(id="us", verdict=Verdict.HEALTHY, targets_healthy=2, targets=2),),
            targets=(),
        )


class Clients(Load):
    """Traffic that never leaves: every request comes back at once with `fault`."""

    def __init__(self, of: DrillSpec, fault: Callable[[], str]) -> None:
        super().__init__(of.load, terrain().edges, clock=SystemClock(), key="dev", regions={})
        self.fault = fault

    async def run(self) -> None:
        while True:
            for _ in range(20):
                self._note(self._edges[0], self._clock.monotonic(), self.fault(), httpx2.Headers())
            await asyncio.sleep(0.01)


@dataclass
class Book:
    """A control plane's record of one drill; `deaf` where none can be asked."""

    drill: Drill
    words: list[RunnerWord] = field(default_factory=list)
    deaf: Callable[[RunnerWord], bool] = lambda _: False
    stop: Stop | None = None
    fleet: Fleet | None = None

    async def request(self, request: DrillRequest) -> Drill:
        return self.drill

    async def claim(self, drill: str, runner: str) -> Drill:
        return self.drill

    async def progress(self, drill: str, word: RunnerWord) -> Drill:
        if self.deaf(word):
            raise Unreachable("no control plane answers")
        self.words.append(word)
        if self.fleet is not None and any(one.state == "PLANNED" for one in word.progress.injections):
            self.fleet.history.append("recorded")
        return self.drill.model_copy(update={"stop": self.stop})

    async def finish(self, drill: str, end: DrillEnd) -> Drill:
        return self.drill

    async def due(self) -> Sequence[Drill]:
        return []


async def drill(
    fault: Callable[[], str] = str, *, of: DrillSpec | None = None, book: Book | None = None, **script: Any
) -> tuple[Done, Fleet, Book]:
    wanted = of or spec(**QUICK)
    register = book or Book(record(wanted))
    async with httpx2.AsyncClient() as client:
        fleet = Fleet(
            edges={}, planes=ControlPlanes(client, []), client=client, clock=SystemClock(), **script
        )
        register.fleet = fleet
        runner = Runner(
            register.drill,
            Stage(terrain=terrain(), planes=(), key="dev", folder=Path("unused")),
            name="runner",
            sight=fleet,
            register=register,
            injectors=fleet,
            clock=SystemClock(),
            tell=lambda _: None,
            load=Clients(wanted, fault),
        )
        return await runner.run(), fleet, register


async def test_a_fleet_that_reacts_passes() -> None:
    """All times measured, in order; recorded, then put once, then undone; the record tells all of it."""
    done, fleet, book = await drill()
    report = done.report
    assert (report.outcome, report.failures) == ("PASSED", ())
    assert report.detect_ms is not None
    assert report.decide_ms is not None
    assert report.apply_ms is not None
    assert report.recovered_ms is not None
    assert 0 <= report.decide_ms <= report.apply_ms
    assert report.requests > 50
    assert fleet.history[:3] == ["recorded", "put", "undo"]
    moments = [event.at_ms for event in report.timeline]
    assert moments == sorted(moments)
    assert [event.event for event in report.timeline][-2:] == ["recovered", "planned as before"]
    assert all(rail.ok for rail in report.guard_rails)
    assert {figure.period for figure in done.data.figures} == {"before", "during", "after"}
    (injected,) = done.data.injections
    assert (injected.by, injected.state) == ("stack", "UNDONE")
    assert done.data.struck_targets == ("alpha-eu", "beta-eu")
    phases = list(dict.fromkeys(word.progress.phase for word in book.words))
    assert "fault" in phases


async def test_a_dead_leaders_successor_is_waited_for() -> None:
    """The timeline says that the leader died with its region, and who followed."""
    done, _, _ = await drill(leads="eu")
    assert done.report.outcome == "PASSED"
    events = {event.event: event.values for event in done.report.timeline}
    assert events["steady"]["leader_struck"] is True
    assert events["new leader"] == {"leader": "control-plane-us", "old": "control-plane-eu"}


IMPATIENT = {**QUICK, "react_timeout_s": 0.3, "recover_timeout_s": 0.3}


async def test_a_decision_for_other_reasons_is_no_answer() -> None:
    """It gives the struck targets nothing, and says that another went; then one that names them."""
    done, _, _ = await drill(of=spec(**IMPATIENT), blames="alpha-ap")
    assert done.report.decide_ms is None
    assert any("no decision left" in failure for failure in done.report.failures)
    done, _, _ = await drill(blames="alpha-eu")
    assert (done.report.outcome, done.report.failures) == ("PASSED", ())


async def test_the_decision_that_left_is_no_recovery() -> None:
    """All is well again, and nobody takes them back."""
    done, _, _ = await drill(
        of=spec({"fault": "errors", "by": "panel"}, **IMPATIENT), returns=False, blames="alpha-eu"
    )
    assert done.report.decide_ms is not None
    assert done.report.recovered_ms is None
    assert any("do not take back" in failure for failure in done.report.failures)


def frozen(**more: object) -> Override:
    return Override(
        id="freeze-3",
        spec=OverrideSpec.model_validate({"kind": "freeze", **more}),
        reason="launch",
        author="bo",
        created_at=AT,
        expires_at=AT,
    )


async def test_a_freeze_refuses_what_needs_moves() -> None:
    """By its name, before anything is broken; one of another route is only told."""
    done, fleet, _ = await drill(orders=(frozen(),))
    assert "freeze-3 by bo (launch) freezes automatic removals" in done.report.failures[0]
    assert fleet.history == []
    done, _, _ = await drill(orders=(frozen(route="other"),))
    assert done.report.outcome == "PASSED"
    assert any(event.event == "warning: overrides are in force" for event in done.report.timeline)


def at_rest(*documents: Decision, stood_s: float) -> list[str]:
    clock = ManualClock()
    seen = Sight(edges={}, planes=ControlPlanes(None, []), client=None, clock=clock)  # type: ignore[arg-type]  # asks nobody
    for each in documents:
        seen._decided(each.version, {"chat": each})
    clock.at += stood_s
    wanted = spec()
    policy = Policy(ramp_s=10.0)
    return restless(
        wanted, resolve(wanted, terrain()), terrain().fleet.model_copy(update={"policy": policy}), seen
    )


def test_a_plan_that_moves_is_waited_for() -> None:
    """As long as a step of the ramp without a change; and nobody struck out, or on the way back."""
    first, second = document("chat", 4, "alpha-us"), document("chat", 5, "alpha-eu", "alpha-us")
    assert "decision 1.5 was seen 4.9 s ago" in at_rest(first, second, stood_s=4.9)[0]
    assert at_rest(first, second, stood_s=5.0) == []
    assert at_rest(stood_s=9.0) == ["no control plane said what is in force"]
    out = document("chat", 6, "alpha-us", excluded=("alpha-eu", "alpha-ap"))
    assert at_rest(out, stood_s=9.0) == ["alpha-eu is down"]
    step = Reason(code="RAMP_STEP", target="beta-eu", values={"permille": 300, "from_permille": 100})
    climbing = second.model_copy(update={"reasons": (step,)})
    assert at_rest(climbing, stood_s=9.0) == ["beta-eu returns, and has 30 % of its weight"]


async def test_a_fleet_that_does_not_decide_fails() -> None:
    """FAILED with the reason, no time for what never happened, and mended all the same."""
    brief = spec(**{**QUICK, "react_timeout_s": 0.3, "recover_timeout_s": 0.3})
    done, fleet, _ = await drill(of=brief, decides=False)
    assert done.report.outcome == "FAILED"
    assert done.report.decide_ms is None
    assert done.report.apply_ms is None
    assert any("no decision left" in failure for failure in done.report.failures)
    assert fleet.history[-1] == "undo"


async def test_traffic_that_moves_against_expectation_fails() -> None:
    """And the report says which decision moved it."""
    done, _, _ = await drill(of=spec(**QUICK, expect={"moves": False}))
    assert done.report.outcome == "FAILED"
    assert any(
        "no decision was expected to move traffic" in one and "1.5" in one for one in done.report.failures
    )


async def test_the_guard_rail_ends_the_drill() -> None:
    """Too many failed requests: ABORTED at once, mended, and the rail shown as crossed."""
    done, fleet, _ = await drill(fault=lambda: "status 502", of=spec(**{**QUICK, "hold_s": 30.0}))
    assert done.report.outcome == "ABORTED"
    assert done.report.success_rate == 0.0
    assert [rail.ok for rail in done.report.guard_rails if rail.name == "success_rate"] == [False]
    assert any("guard rail" in failure for failure in done.report.failures)
    assert not fleet.dead


async def test_an_abort_on_record_ends_it() -> None:
    """Whoever asked, and why, stands in the report; what was put is undone."""
    book = Book(record(spec(**{**QUICK, "hold_s": 30.0})), stop=Stop(at=AT, by="ann", reason="enough"))
    done, fleet, _ = await drill(of=book.drill.spec, book=book)
    assert done.report.outcome == "ABORTED"
    assert "aborted by ann: enough" in done.report.failures
    assert not fleet.dead


async def test_what_cannot_be_put_on_record_is_not_done() -> None:
    """No control plane heard of the fault, so nothing was broken."""
    book = Book(record(spec(**QUICK)), deaf=lambda word: bool(word.progress.injections))
    done, fleet, _ = await drill(of=book.drill.spec, book=book)
    assert done.report.outcome == "FAILED"
    assert fleet.history == []


async def test_a_control_plane_that_is_away_later_is_no_reason_to_end() -> None:
    """It can be what the drill takes away."""
    heard: list[RunnerWord] = []

    def deaf(word: RunnerWord) -> bool:
        heard.append(word)
        return any(one.state == "DONE" for one in word.progress.injections)

    book = Book(record(spec(**QUICK)), deaf=deaf)
    done, _, _ = await drill(of=book.drill.spec, book=book)
    assert done.report.outcome == "PASSED"


async def test_a_claim_that_was_lost_ends_it() -> None:
    """Another drill may begin now: never two."""

    def deaf(word: RunnerWord) -> bool:
        if any(one.state == "DONE" for one in word.progress.injections):
            raise Refused(409, "another drill has the claim")
        return False

    book = Book(record(spec(**{**QUICK, "hold_s": 30.0})), deaf=deaf)
    done, fleet, _ = await drill(of=book.drill.spec, book=book)
    assert done.report.outcome == "ABORTED"
    assert not fleet.dead


async def test_a_cancelled_drill_mends_first() -> None:
    """Its runner is told to end in the middle: the faults go before it does."""
    wanted = spec(**{**QUICK, "hold_s": 30.0})
    async with httpx2.AsyncClient() as client:
        fleet = Fleet(edges={}, planes=ControlPlanes(client, []), client=client, clock=SystemClock())
        book = Book(record(wanted))
        runner = Runner(
            book.drill,
            Stage(terrain=terrain(), planes=(), key="dev", folder=Path("unused")),
            name="runner",
            sight=fleet,
            register=book,
            injectors=fleet,
            clock=SystemClock(),
            tell=lambda _: None,
            load=Clients(wanted, str),
        )
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.0):
                await runner.run()
    assert fleet.history[0] == "put"
    assert fleet.history[-1] == "undo"
    assert not fleet.dead
