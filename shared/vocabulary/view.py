"""HealthView: what the control plane concludes, with the evidence of each conclusion (`GET /v1/health`)."""

from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Literal

from pydantic import AwareDatetime, Field

from shared.vocabulary.base import Id, Message, Permille
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
    latency_ms_mean: float = 0.0
    """Of the answers; 0 when there is none."""
    failing: bool
    """Enough attempts, and nearly all of them REFUSED, FAILED or TIMED_OUT: this region's DOWN."""
    evidence: tuple[EvidenceRef, ...] = ()
    """The windows behind `failing`; empty while it is not."""
    cooling: Literal["", "briefly", "long"] = ""
    """Whether an edge spares it after a 429, and for long yet."""
    quota_exhausted: bool = False
    """And because its account's quota is used up."""


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
    caution_permille: Permille = 1000
    """The part of its weight that is advised to keep: 1000 unless figures have been out of the usual
    for several windows. It changes by steps with hysteresis, never from one moment to the next."""
    warning: str = ""
    """What is likely to make it DEGRADED soon, in words; only where the policy asks for warnings."""

    @cached_property
    def accused_in(self) -> frozenset[str]:
        """Regions whose own vote is DOWN, or whose live traffic fails."""
        return frozenset(
            [vote.vantage for vote in self.votes if vote.verdict is Verdict.DOWN]
            + [summary.region for summary in self.passive if summary.failing]
        )


class RegionHealth(Message):
    """One region: the targets that stand there, and whether its observers speak."""

    id: Id
    verdict: Verdict
    """HEALTHY: all targets are; DOWN: all are; UNKNOWN: nothing is known; else DEGRADED."""
    targets_healthy: int
    targets: int
    sources_fresh: int
    sources: int


class Freeze(Message):
    """Automatic removals are suspended, because what speaks for them is not to be believed now.
    Re-admissions and operators go on."""

    cause: Literal["MOST_SILENT", "CONTRADICTED"]
    """MOST_SILENT: most vantages fell silent together. CONTRADICTED: probes say that targets are
    failing, and live traffic to them goes well."""
    since: AwareDatetime
    targets: tuple[Id, ...] = ()
    """Whose removal is suspended; empty for all."""
    detail: str = ""
    """In words: `2 of 3 vantages silent: ap-south, eu-west`."""


class QualityScore(Message):
    """How many of the last answers were right: of one target, or of a model over all its targets."""

    provider: Id
    model: str
    target: Id | None = None
    """Absent for the model as a whole."""
    by: Literal["probes", "traffic"]
    """probes: known answers to monitors' prompts. traffic: whether live answers were whole."""
    score_permille: Permille
    judged: int
    """Answers behind the score: at most the last 100 of each source."""
    standing: Literal["GOOD", "DEGRADED", "DRAINED", "UNDECIDED"]
    """By the policy's thresholds. UNDECIDED: too few answers."""


class RouteTraffic(Message):
    """What the edges of one region carry of one route, summed."""

    route: Id
    region: Id
    inflight: float
    """Requests under way, mean over the window."""
    requests: int
    """Of clients, that ended in the window."""
    failed: int
    """Of these, without a good answer."""
    window_s: float


class RouteSummary(Message):
    """One route at a glance, over the edges' last windows."""

    route: Id
    requests: int
    success_permille: Permille | None
    """Of `requests`; null without any."""
    inflight: float


class HealthSummary(Message):
    """The fleet at a glance. Figures of traffic are over the edges' last windows; null without any."""

    failovers_last_hour: int
    """Removals of a target from routes by health, each counted once however many routes it served;
    from the log of decisions, so all replicas agree and a restart forgets nothing that etcd keeps."""
    attempts: int
    """Of edges at targets."""
    success_permille: Permille | None
    """Attempts that ended OK or SLOW."""
    response_ms_mean: float | None
    """To the complete answer, arithmetic mean over the answers (edges' bins make it right to 10 %)."""
    routes: tuple[RouteSummary, ...] = ()
    silent: tuple[Id, ...] = ()
    """Probers, edges and replicas that were heard and have fallen silent."""


class SourceHealth(Message):
    """One prober, edge or control-plane replica as the buses show it."""

    id: Id
    role: Role
    vantage: Id
    fresh: bool
    last_event_age_s: Annotated[float, Field(ge=0)]
    silent_since: AwareDatetime | None = None
    """When it was last heard, where that is too long ago to be fresh."""
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
    freezes: tuple[Freeze, ...] = ()
    quality: tuple[QualityScore, ...] = ()
    """Models first, then the targets that are not plainly good."""
    loads: tuple[RouteTraffic, ...] = ()
    """Per route and client region with traffic."""
    summary: HealthSummary | None = None
