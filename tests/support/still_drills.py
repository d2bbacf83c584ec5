"""Drills that stand still: one RUNNING, one that PASSED and has its page, and an answer for every word."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from control_plane.ports import Busy, NotKept, TooLarge, Unfit
from control_plane.ports_drills import DrillsKnown
from shared.ports import Unavailable
from shared.vocabulary.drill import (
    Drill,
    DrillEnd,
    DrillFault,
    DrillRequest,
    DrillSchedule,
    DrillSpec,
    Progress,
    RunnerWord,
    Stop,
)
from shared.vocabulary.drill_list import ScheduleOrder
from shared.vocabulary.drill_policy import DrillPolicy
from shared.vocabulary.status import DrillReport

NOW = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)
SPEC = DrillSpec(
    drill="region-outage",
    what="Everything in one region dies at once.",
    hypothesis="Nobody notices.",
    faults=(DrillFault(fault="kill", by="stack"),),
)
REPORT = DrillReport(
    drill="region-outage",
    outcome="PASSED",
    detect_ms=800.0,
    decide_ms=900.0,
    apply_ms=950.0,
    recovered_ms=7000.0,
    requests=1000,
    failed=0,
    degraded=0,
    success_rate=1.0,
    guard_rails=(),
    timeline=(),
    trace_id=None,
    report_html=None,
)
PAGE = b"<!doctype html><script>document.title = 'read'</script>"


def spec(**more: object) -> DrillSpec:
    """In `east`, unless `more` says otherwise."""
    return SPEC.model_copy(update={"region": "east", **more})


def drill(n: int = 23, **more: object) -> Drill:
    """Number `n` in the audit, DUE unless `more` says otherwise."""
    plain = Drill(
        id=f"drill-{n}",
        n=n,
        spec=spec(),
        author="ann",
        reason="before the launch",
        requested_at=NOW - timedelta(minutes=1),
    )
    return plain.model_copy(update=more)


def running(n: int = 23, **more: object) -> Drill:
    """Claimed by `cli-1`."""
    return drill(n, **{"state": "RUNNING", "runner": "cli-1", "started_at": NOW, **more})


class StillDrills:
    """Implements `control_plane.ports_drills.DrillDesk`: `drill-23` is RUNNING, `drill-9` has PASSED.

    `etcd_answers` False and `busy` make writes fail; so does a report of a drill that calls itself `huge`."""

    def __init__(self) -> None:
        self.etcd_answers = True
        self.busy = False
        self.policy = DrillPolicy()
        self.running = running()
        self.passed = running(
            9,
            state="PASSED",
            ended_at=NOW,
            report=REPORT,
            report_sha="ab" * 32,
            progress=Progress(requests=9),
        )
        self.schedules = [
            DrillSchedule(
                id="weekly",
                cron="0 3 * * 1",
                request=DrillRequest(name="region-outage", region="east", author="ann", reason="each week"),
                created_at=NOW,
            )
        ]

    @property
    def catalogue(self) -> Mapping[str, DrillSpec]:
        return {SPEC.drill: SPEC}

    def known(self) -> DrillsKnown:
        return DrillsKnown(NOW, self.policy, "drill-23", (self.running, self.passed), self.schedules)

    async def one(self, name: str) -> Drill:
        for known in (self.running, self.passed):
            if known.id == name:
                return known
        self._reach()
        raise NotKept(f"no drill {name!r} is on record")

    async def page(self, name: str) -> bytes:
        if (await self.one(name)).report_sha is None:
            raise NotKept(f"drill {name!r} has no report page")
        self._reach()
        return PAGE

    async def request(self, request: DrillRequest) -> Drill:
        self._reach()
        if request.name is not None and request.name not in self.catalogue:
            raise Unfit(f"no built-in drill {request.name!r}; there is region-outage")
        if request.region != "east":
            raise Unfit("drill 'drill-23' (region-outage, of ann: before the launch) is RUNNING")
        made = spec() if request.spec is None else request.spec
        return drill(24, spec=made, author=request.author, reason=request.reason)

    async def claim(self, name: str, runner: str) -> Drill:
        self._reach()
        return self._own(await self.one(name), runner)

    async def progress(self, name: str, word: RunnerWord) -> Drill:
        self._reach()
        return self._own(await self.one(name), word.runner).model_copy(update={"progress": word.progress})

    async def finish(self, name: str, end: DrillEnd) -> Drill:
        self._reach()
        if end.report.drill == "huge":
            raise TooLarge("the record of drill 'drill-23' would have 600000 bytes, and 524288 are kept")
        found = self._own(await self.one(name), end.runner)
        return found.model_copy(update={"state": end.report.outcome, "report": end.report})

    async def abort(self, name: str, *, author: str, reason: str) -> Drill:
        self._reach()
        found = await self.one(name)
        if found.over:
            raise Unfit(f"drill {name!r} is {found.state}: there is nothing to abort")
        return found.model_copy(update={"stop": Stop(at=NOW, by=author, reason=reason)})

    async def schedule(self, order: ScheduleOrder) -> DrillSchedule:
        self._reach()
        if any(known.id == order.id for known in self.schedules):
            raise Unfit(f"schedule {order.id!r} exists and says something else: remove it first")
        return DrillSchedule(id=order.id, cron=order.cron, request=order.request, created_at=NOW)

    async def unschedule(self, name: str, *, author: str, reason: str) -> None:
        self._reach()
        if all(known.id != name for known in self.schedules):
            raise NotKept(f"no schedule {name!r} is on record")

    @staticmethod
    def _own(found: Drill, runner: str) -> Drill:
        if found.runner != runner:
            raise Unfit(f"drill {found.id!r} is run by {found.runner}, and not by {runner}")
        return found

    def _reach(self) -> None:
        if not self.etcd_answers:
            raise Unavailable("no member answers")
        if self.busy:
            raise Busy("other changes were made each time this one was tried: try again")
