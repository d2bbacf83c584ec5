"""Drill: a rehearsed failure. `DrillSpec` is what its YAML file says, `Drill` what `drills/<id>` in etcd
tells of it, from the request to the report.
"""

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import AwareDatetime, ConfigDict, Field, StringConstraints, model_validator

from shared.vocabulary.base import ConfigModel, Id, Message, Permille, PositiveSeconds, Sha256
from shared.vocabulary.override import Author, Words
from shared.vocabulary.status import DrillEvent, DrillReport

MAX_DRILL_S = 3600.0
"""No fault is held for longer; the whole drill, waits included, may take twice that."""
MAX_EVENTS = 500
MAX_INJECTIONS = 200
FAULT_TTL_S = 15.0
"""For how long an injector keeps a fault that nobody renews."""

Ms = Annotated[float, Field(ge=0, le=600_000, allow_inf_nan=False)]
Process = Literal["etcd", "bus", "control-plane", "prober", "edge", "targets"]
Injector = Literal["stack", "panel", "edge", "override"]
FaultKind = Literal[
    "kill",
    "stop",
    "partition",
    "clock_skew",
    "latency",
    "slow_ttft",
    "errors",
    "throttle",
    "refuse",
    "stall",
    "cut",
    "drain",
]

BY: Mapping[str, frozenset[str]] = {
    "stack": frozenset({"kill", "stop", "partition", "clock_skew"}),
    "panel": frozenset({"latency", "slow_ttft", "errors", "throttle", "refuse", "stall", "cut", "partition"}),
    "edge": frozenset({"latency", "slow_ttft", "errors", "throttle", "refuse", "stall", "cut"}),
    "override": frozenset({"drain"}),
}
"""What each injector can do: the local stack's keeper to processes, the simulator's panel to what targets
answer, the edge's fault filter to what the edge makes of it, an override by the control plane alone."""


class DrillFault(ConfigModel):
    """One thing that goes wrong. Where: `regions`, `providers`, `targets` narrow each other; what is left
    out does not narrow. An absent `regions` means the drill's own `region`; `["*"]` means every one."""

    fault: FaultKind
    by: Injector
    processes: tuple[Process, ...] = ()
    """For `stack`: which kinds; all when empty. For a `partition` by `panel`: `prober` alone makes sense."""
    regions: tuple[Id | Literal["*"], ...] = ()
    providers: tuple[Id, ...] = ()
    targets: tuple[Annotated[str, StringConstraints(min_length=1, max_length=128)], ...] = ()
    """Shell patterns of target ids."""
    share_permille: Permille = 1000
    """Of the requests that suffer it."""
    ms: Ms | None = None
    """`latency`: before anything of the answer; `slow_ttft`: before the first token."""
    status: Annotated[int, Field(ge=400, le=599)] | None = None
    """`errors`; 503 when absent."""
    retry_after_s: Annotated[float, Field(ge=0, le=86_400)] | None = None
    """`throttle`."""
    after_events: Annotated[int, Field(ge=0, le=100_000)] | None = None
    """`stall` and `cut`: tokens of the stream that still get through; 2 when absent."""
    skew_s: Annotated[float, Field(ge=-31_536_000, le=31_536_000)] | None = None
    """`clock_skew`: what the wall clock is off by."""
    delay_s: Annotated[float, Field(ge=0, le=MAX_DRILL_S)] = 0.0
    """After the drill's injection begins."""

    @model_validator(mode="after")
    def _sensible(self) -> Self:
        if self.fault not in BY[self.by]:
            able = ", ".join(sorted(name for name, kinds in BY.items() if self.fault in kinds))
            raise ValueError(f"{self.by} cannot do {self.fault}: by {able} it can be done")
        needs = {"latency": "ms", "slow_ttft": "ms", "clock_skew": "skew_s"}.get(self.fault)
        if needs is not None and getattr(self, needs) is None:
            raise ValueError(f"{self.fault} needs {needs}")
        if self.by != "stack" and self.processes and self.fault != "partition":
            raise ValueError("processes are the stack's")
        return self


class DrillLoad(ConfigModel):
    """The traffic that is watched."""

    source: Literal["drill", "traffic"] = "drill"
    """`drill`: requests of its own, through every edge that survives; `traffic`: what edges report of
    real traffic, and nothing is sent."""
    model: Annotated[str, StringConstraints(min_length=1, max_length=256)] = "chat"
    rate_per_s: Annotated[float, Field(gt=0, le=200)] = 30.0
    stream_permille: Permille = 300
    """Of the requests that are streamed."""
    through: Literal["survivors", "all"] = "survivors"
    """Edges of regions that no fault is in, or all that are expected to live."""


class DrillGuard(ConfigModel):
    """Lines that end the drill at once when crossed."""

    min_success_permille: Permille = 990
    max_latency_ms_p99: Ms | None = None
    max_planned_permille: Annotated[int, Field(ge=0, le=10_000)] | None = None
    """Of the survivors' capacity that a plan may ask for."""
    min_regions: Annotated[int, Field(ge=0, le=200)] = 1
    """Regions with a target that answers, outside the drill's scope; also checked before it begins."""
    after_requests: Annotated[int, Field(ge=1, le=100_000)] = 50
    """Below, a single failed request would cross a line."""


class DrillExpect(ConfigModel):
    """What the hypothesis comes to. A null is measured and not judged. Times in ms from the injection,
    `recover_ms` from its end."""

    detect_ms: Ms | None = None
    decide_ms: Ms | None = None
    apply_ms: Ms | None = None
    recover_ms: Ms | None = None
    min_success_permille: Permille = 990
    """A degraded answer counts as failed."""
    max_lost_streams: Annotated[int, Field(ge=0)] = 0
    """Streams that ended as if complete and were not, or without an error in-band."""
    moves: bool = True
    """Whether decisions are expected to leave the struck targets; false: they are expected not to."""
    max_load_permille: Annotated[int, Field(ge=0, le=10_000)] | None = None
    """Of its plan that a survivor or a returning target is given at most, by what edges report."""


class DrillSpec(ConfigModel):
    """A drill's YAML file."""

    schema_version: Literal[1] = 1
    drill: Id
    what: Words
    hypothesis: Words
    region: Id | None = None
    """Where it strikes; `--region` overrules it."""
    faults: Annotated[tuple[DrillFault, ...], Field(min_length=1, max_length=16)]
    load: DrillLoad = DrillLoad()
    guard: DrillGuard = DrillGuard()
    expect: DrillExpect = DrillExpect()
    warm_s: PositiveSeconds = 3.0
    """Steady load before the fault,"""
    hold_s: Annotated[float, Field(gt=0, le=MAX_DRILL_S, allow_inf_nan=False)] = 10.0
    """how long the fault stays,"""
    react_timeout_s: PositiveSeconds = 30.0
    """how long detection, decision and application may take before they count as missing,"""
    recover_timeout_s: PositiveSeconds = 90.0
    """and recovery."""


State = Literal["DUE", "RUNNING", "PASSED", "FAILED", "ABORTED"]


class Injection(Message):
    """One fault at one place, on record before it is done."""

    n: Annotated[int, Field(ge=0, le=MAX_INJECTIONS)]
    by: Injector
    fault: FaultKind
    where: Annotated[str, Field(max_length=512)]
    """`eu-west: alpha-eu-west, edge-eu-west`, a URL, an override's id."""
    state: Literal["PLANNED", "DONE", "UNDONE", "LAPSED"]
    """LAPSED: its time to live ended it."""
    at: AwareDatetime


class Stop(Message):
    """Somebody asked for its end."""

    at: AwareDatetime
    by: Author
    reason: Words


class Progress(Message):
    """What its runner tells while it runs."""

    phase: Literal["preparing", "warm", "fault", "recovery", "reporting"] = "preparing"
    injections: Annotated[tuple[Injection, ...], Field(max_length=MAX_INJECTIONS)] = ()
    timeline: Annotated[tuple[DrillEvent, ...], Field(max_length=MAX_EVENTS)] = ()
    requests: Annotated[int, Field(ge=0)] = 0
    failed: Annotated[int, Field(ge=0)] = 0
    degraded: Annotated[int, Field(ge=0)] = 0


class Drill(Message):
    """The value of `drills/<id>`."""

    schema_version: Literal[1] = 1
    id: Id
    """`drill-23`: the number of its entry in the audit."""
    n: Annotated[int, Field(ge=0, le=2**53)]
    spec: DrillSpec
    """With its region filled in."""
    author: Author
    reason: Words
    schedule: Id | None = None
    """Which schedule asked for it."""
    state: State = "DUE"
    requested_at: AwareDatetime
    runner: Author | None = None
    started_at: AwareDatetime | None = None
    ended_at: AwareDatetime | None = None
    stop: Stop | None = None
    progress: Progress = Progress()
    report: DrillReport | None = None
    report_sha: Sha256 | None = None
    """The HTML report, a blob."""
    note: Annotated[str, Field(max_length=512)] = ""
    """Why it ended without a report."""

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self.state not in ("DUE", "RUNNING")


class DrillRequest(Message):
    """The body of `POST /v1/drills`: a built-in by its name, or a whole spec."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Id | None = None
    spec: DrillSpec | None = None
    region: Id | None = None
    hold_s: Annotated[float, Field(gt=0, le=MAX_DRILL_S, allow_inf_nan=False)] | None = None
    """Instead of the spec's."""
    author: Author
    reason: Words
    runner: Author | None = None
    """Claim it at once, for this runner; else it waits, DUE, for one."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.name is None) == (self.spec is None):
            raise ValueError("give name or spec, and not both")
        return self


class DrillSchedule(Message):
    """The value of `drills/schedules/<name>`."""

    schema_version: Literal[1] = 1
    id: Id
    cron: Annotated[str, StringConstraints(min_length=9, max_length=128)]
    """Five fields, in UTC."""
    request: DrillRequest
    created_at: AwareDatetime
    last_at: AwareDatetime | None = None
    """The time of the cron expression that was last acted upon, or passed over."""
    last_word: Annotated[str, Field(max_length=512)] = ""
    """The drill it became, or why none began."""


class RunnerWord(Message):
    """What a runner says with each renewal of its claim: `PUT /v1/drills/{id}/progress`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    runner: Author
    progress: Progress


class DrillEnd(Message):
    """`POST /v1/drills/{id}/finish`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    runner: Author
    progress: Progress
    report: DrillReport
    html: Annotated[str, Field(max_length=1_000_000)] | None = None
