"""The bodies of the API's answers, made of the vocabulary's models."""

from typing import Annotated, Literal

from pydantic import AwareDatetime, Field

from control_plane.api.sentences import brief, sentence
from control_plane.ports import EdgeRecord, LogEntry, Transition
from shared.vocabulary.base import Id, Message, Sha256, Version
from shared.vocabulary.decision import Decision, EvidenceRef, Head, Reason, Term
from shared.vocabulary.status import LeaderStatus
from shared.vocabulary.terms import EdgeMode
from shared.vocabulary.view import RegionHealth, SourceHealth, TargetHealth

VersionText = Annotated[str, Field(pattern=r"^[0-9]{1,10}\.[0-9]{1,16}$", examples=["1.7"])]
SILENT_S = 10.0
"""An edge says something every second."""


class Alive(Message):
    """`GET /livez`."""

    alive: Literal[True] = True


class RegionReport(RegionHealth):
    """`GET /v1/health/regions/{region}`: the region, its targets, and its observers."""

    target_health: tuple[TargetHealth, ...]
    observers: tuple[SourceHealth, ...]


class TargetReport(TargetHealth):
    """`GET /v1/health/targets/{target}`: the target, and its last changes as this replica saw them."""

    history: tuple[Transition, ...]


class DecisionSummary(Message):
    """One commit."""

    version: VersionText
    generation: int
    seq: int
    config_version: int
    at: AwareDatetime
    term: Term
    in_force: bool
    """Whether it is the head."""
    routes: tuple[tuple[Id, Sha256], ...]
    """Routes it changed and the hashes of their documents; at most 500 are named."""
    routes_changed: int
    removed: tuple[Id, ...]
    reasons: tuple[Reason, ...]
    said: tuple[str, ...]
    """The reasons in sentences."""
    brief: tuple[str, ...] = ()
    """The same without figures: what was seen or done."""
    traceparent: str | None = None


class Timeline(Message):
    """`GET /v1/decisions`: commits, newest first."""

    decisions: tuple[DecisionSummary, ...]


class CurrentDecisions(Message):
    """`GET /v1/decisions/current`. `head` is null before the first decision."""

    version: VersionText
    head: Head | None
    head_sha: str | None
    documents: tuple[Decision, ...]
    """One for each live route."""


class DecisionReport(Message):
    """`GET /v1/decisions/{version}`: why. `commit` is null when its log entry has been collected and
    only a document in force still carries the version."""

    version: VersionText
    commit: DecisionSummary | None
    said: tuple[str, ...]
    """The documents' reasons in sentences."""
    brief: tuple[str, ...] = ()
    """The same without figures: what was seen or done."""
    evidence: tuple[EvidenceRef, ...]
    documents: tuple[Decision, ...]


class EdgeReport(Message):
    """One edge by its newest ack."""

    id: Id
    region: Id
    mode: EdgeMode
    """As the edge last said."""
    silent: bool
    """Nothing heard of it for 10 s: the rest is history."""
    decision: VersionText
    behind: int | None
    """Commits between what it serves and the head; null in another generation."""
    config_version: int
    beat_age_s: float | None
    """Since its last new Beat, carried on to now."""
    last_ack_age_s: float
    applied_at: AwareDatetime
    refused: int
    via: Literal["bus", "http"]
    url: str | None
    admin_url: str | None


class Edges(Message):
    """`GET /v1/edges`."""

    head: VersionText
    edges: tuple[EdgeReport, ...]


class Leader(LeaderStatus):
    """Who leads, and where to ask it."""

    url: str | None


class LeaderReport(Message):
    """`GET /v1/leader`, as one replica knows it."""

    leader: Leader | None
    replica: Id
    replica_region: Id
    role: Literal["leader", "follower"]
    beat_age_s: float | None
    config_version: int = 0
    """Of the configuration this replica works by; 0 without one."""


def summary(entry: LogEntry, head: Version) -> DecisionSummary:
    """A log entry for people."""
    return DecisionSummary(
        version=str(entry.version),
        generation=entry.generation,
        seq=entry.seq,
        config_version=entry.config_version,
        at=entry.at,
        term=entry.term,
        in_force=entry.version == head,
        routes=entry.changed,
        routes_changed=entry.changed_count,
        removed=entry.removed,
        reasons=entry.reasons,
        said=tuple(sentence(reason) for reason in entry.reasons),
        brief=tuple(dict.fromkeys(brief(reason) for reason in entry.reasons)),
        traceparent=entry.traceparent,
    )


def edge_report(record: EdgeRecord, head: Version) -> EdgeReport:
    """An edge's ack, measured against the head and this replica's clock."""
    ack = record.ack
    return EdgeReport(
        id=ack.edge,
        region=ack.region,
        mode=ack.mode,
        silent=record.age_s > SILENT_S,
        decision=str(ack.version),
        behind=max(0, head.seq - ack.seq) if ack.generation == head.generation else None,
        config_version=ack.config_version,
        beat_age_s=None if ack.beat_age_s is None else round(ack.beat_age_s + record.age_s, 3),
        last_ack_age_s=round(record.age_s, 3),
        applied_at=ack.applied_at,
        refused=ack.refused,
        via=record.via,
        url=ack.url,
        admin_url=ack.admin_url,
    )
