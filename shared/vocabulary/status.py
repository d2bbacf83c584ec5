"""What `leeward status -o json` and `leeward drill run -o json` print (contract)."""

from typing import Any, Literal

from pydantic import Field

from shared.vocabulary.base import Message
from shared.vocabulary.terms import EdgeMode, Verdict


class LeaderStatus(Message):
    """Who leads."""

    id: str
    region: str
    epoch: int


class ControlPlaneStatus(Message):
    """One replica. `role` is `unreachable` when it does not answer."""

    id: str
    region: str
    url: str
    role: Literal["leader", "follower", "unreachable"]
    last_event_age_s: float | None = None
    """Since its last heartbeat on the buses; null where the replica asked has heard none."""
    config_version: int | None = None
    pid: int | None = None


class EdgeStatus(Message):
    """One edge; `mode` and `decision` are null when it does not answer."""

    id: str
    region: str
    url: str
    admin_url: str
    mode: EdgeMode | None = None
    decision: str | None = None
    """The head it serves, `generation.seq`."""
    beat_age_s: float | None = None
    config_version: int | None = None
    """The configuration it serves by; 0 is its own file's."""
    pid: int | None = None


class ProberStatus(Message):
    """One prober, by its last event on the buses."""

    id: str
    region: str
    last_event_age_s: float | None = None
    config_version: int | None = None
    pid: int | None = None


class BusStatus(Message):
    """One bus."""

    region: str
    bootstrap: str
    reachable: bool
    pid: int | None = None


class EtcdStatus(Message):
    """One etcd member."""

    region: str
    url: str
    reachable: bool
    pid: int | None = None


class RegionStatus(Message):
    """One region."""

    id: str
    verdict: Verdict
    targets_healthy: int
    targets: int


class TargetStatus(Message):
    """One target."""

    id: str
    region: str
    verdict: Verdict
    url: str
    admin_url: str | None = None
    pid: int | None = None


class StackStatus(Message):
    """`leeward status -o json`. `leader` is null while nobody leads."""

    leader: LeaderStatus | None
    control_planes: tuple[ControlPlaneStatus, ...]
    edges: tuple[EdgeStatus, ...]
    probers: tuple[ProberStatus, ...]
    buses: tuple[BusStatus, ...]
    etcd: tuple[EtcdStatus, ...]
    regions: tuple[RegionStatus, ...]
    targets: tuple[TargetStatus, ...]
    last_leader: LeaderStatus | None = None
    """The last one on record, whether it leads or not."""
    etcd_answers: bool = True
    """Whether anything new can be decided: false without a quorum, or when no Beat comes through etcd."""


class GuardRail(Message):
    """A line that a drill must not cross, and how close it came."""

    name: str
    limit: float
    worst: float
    ok: bool


class DrillEvent(Message):
    """One moment of a drill, in ms from the injection of the fault."""

    at_ms: float
    event: str
    values: dict[str, Any] = Field(default_factory=dict)


class Expected(Message):
    """One expectation of a drill's hypothesis, and what happened. `measured` is null when it never did."""

    name: str
    expected: float | str
    measured: float | str | None
    ok: bool


class DrillReport(Message):
    """`leeward drill run … -o json`. Times are ms from the fault; null when it never happened."""

    drill: str
    outcome: Literal["PASSED", "FAILED", "ABORTED"]
    detect_ms: float | None
    decide_ms: float | None
    apply_ms: float | None
    recovered_ms: float | None
    """From the end of the fault until the first decision without it is applied everywhere."""
    requests: int
    failed: int
    degraded: int
    success_rate: float
    """A degraded answer counts as failed."""
    streams: int = 0
    lost_streams: int = 0
    """That ended like complete ones and were not, or without an error in-band."""
    guard_rails: tuple[GuardRail, ...]
    timeline: tuple[DrillEvent, ...]
    trace_id: str | None
    report_html: str | None
    id: str = ""
    """Under which the control plane keeps it; empty where none could be reached."""
    region: str | None = None
    hypothesis: str = ""
    expectations: tuple[Expected, ...] = ()
    started_at: str = ""
    """UTC, ISO 8601."""
    failures: tuple[str, ...] = ()
    """What the outcome FAILED or ABORTED is owed to."""
