"""HealthView: what the control plane concludes, with the evidence of each conclusion (`GET /v1/health`)."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AwareDatetime, Field

from shared.vocabulary.base import Id, Message
from shared.vocabulary.decision import EvidenceRef
from shared.vocabulary.terms import Outcome, Role, Verdict


class Vote(Message):
    """One vantage's verdict on one target, all its probers folded to one."""

    vantage: Id
    verdict: Verdict
    hard: bool = False
    evidence: tuple[EvidenceRef, ...] = ()


class PassiveSummary(Message):
    """What the edges of one region see of one target in live traffic, summed."""

    region: Id
    attempts: int
    counts: Mapping[Outcome, int]
    inflight: int
    failing: bool
    """Enough attempts, and nearly all of them REFUSED, FAILED or TIMED_OUT: this region's DOWN."""
    evidence: tuple[EvidenceRef, ...] = ()
    """The windows behind `failing`; empty while it is not."""


class TargetHealth(Message):
    """Everything known of one target."""

    id: Id
    region: Id
    provider: Id
    verdict: Verdict
    """Global: by quorum of the fresh votes."""
    hard: bool = False
    """DOWN on evidence that justifies leaving at once."""
    since: AwareDatetime | None = None
    """When this replica first held the present verdict."""
    votes: tuple[Vote, ...] = ()
    passive: tuple[PassiveSummary, ...] = ()
    latency_ms_p50: float | None = None
    reason: str = ""
    """The verdict in words: `2 of 3 vantages DOWN: connect refused`."""


class RegionHealth(Message):
    """One region: the targets that stand there, and whether its observers speak."""

    id: Id
    verdict: Verdict
    """HEALTHY: all targets are; DOWN: all are; UNKNOWN: nothing is known; else DEGRADED."""
    targets_healthy: int
    targets: int
    sources_fresh: int
    sources: int


class SourceHealth(Message):
    """One prober or edge as the buses show it."""

    id: Id
    role: Role
    vantage: Id
    fresh: bool
    last_event_age_s: Annotated[float, Field(ge=0)]
    boot: int
    seq: int
    config_version: int


class BusHealth(Message):
    """One region's bus as this replica reaches it."""

    region: Id
    bootstrap: str
    reachable: bool
    caught_up: bool


class HealthView(Message):
    """The whole: `GET /v1/health`."""

    schema_version: Literal[1] = 1
    as_of: AwareDatetime
    replica: Id
    status: Literal["healthy", "degraded", "unhealthy"]
    """healthy: at least 95 % of targets HEALTHY; degraded: at least 80 %; else unhealthy."""
    config_version: int
    regions: tuple[RegionHealth, ...]
    targets: tuple[TargetHealth, ...]
    sources: tuple[SourceHealth, ...]
    buses: tuple[BusHealth, ...] = ()
    set_aside: tuple[Id, ...] = ()
    """Vantages that contradict the majority about most targets: their votes count for no global
    verdict."""
