"""Everything a drill measured, for its report: what a page or a plot needs beyond `DrillReport`.

Times `*_s` are seconds from the injection (the moment the fault began), negative before it.
"""

from collections.abc import Mapping
from typing import Literal

from pydantic import AwareDatetime, Field

from shared.vocabulary.base import Message
from shared.vocabulary.drill import DrillSpec, FaultKind, Injector

MAX_SECONDS = 7_200
"""Samples that are kept: two hours, the longest drill there is."""
MAX_DECISIONS = 200
MAX_SAID = 20
MAX_FAILED = 20

Period = Literal["before", "during", "after"]


class Second(Message):
    """The requests that left in one second. `ok + failed + degraded` is all of them."""

    at_s: float
    """Its beginning, a whole number."""
    ok: int = 0
    failed: int = 0
    degraded: int = 0
    lost_streams: int = 0
    """Of `failed`."""
    latency_ms_p50: float | None = None
    """Of those that were answered well, to their end; null without any."""
    latency_ms_p99: float | None = None
    by_client: Mapping[str, int] = Field(default_factory=dict)
    """Requests by the region of the edge that was asked,"""
    by_serving: Mapping[str, int] = Field(default_factory=dict)
    """and, where answered, by the region of the target that did."""
    served: Mapping[str, Mapping[str, int]] = Field(default_factory=dict)
    """Both: by the region that was asked, then by the one that answered."""


class Figures(Message):
    """The load over one period of the drill."""

    period: Period
    from_s: float
    to_s: float
    requests: int
    failed: int
    degraded: int
    success_rate: float
    """1.0 without requests; a degraded answer counts as failed."""
    streams: int
    lost_streams: int
    latency_ms_p50: float | None
    latency_ms_p99: float | None


class DecisionSeen(Message):
    """One commit made while the drill ran."""

    version: str
    """`1.7`: `leeward explain 1.7` tells all of it."""
    at_s: float
    by: str
    """Who led."""
    routes: tuple[str, ...]
    said: tuple[str, ...]
    """Its reasons in sentences, at most MAX_SAID."""
    trace_id: str | None = None
    traceparent: str | None = None


class Injected(Message):
    """One fault at one place; a null time is a thing that did not happen."""

    n: int
    by: Injector
    fault: FaultKind
    where: str
    state: Literal["PLANNED", "DONE", "UNDONE", "LAPSED"]
    planned_s: float
    done_s: float | None = None
    undone_s: float | None = None


class FailedRequest(Message):
    """One request that failed, as an example of its like."""

    at_s: float
    client: str
    """The region of the edge that was asked."""
    target: str = ""
    """Where it was answered from; empty where none is known."""
    latency_ms: float
    detail: str
    """What was wrong, in a few words."""


class TargetLoad(Message):
    """What one target was planned and what it was really given, at its worst moment."""

    target: str
    region: str
    planned_permille_of_capacity: int | None = None
    """The most that a plan asked of its capacity; null where it has none."""
    given_permille_of_plan: int | None = None
    """The most it was given of what was planned; null where that was never worth comparing."""


class DrillRecordData(Message):
    """The whole measurement of one drill; kept as JSON beside its report."""

    schema_version: Literal[1] = 1
    id: str
    """As in `DrillReport.id`; empty where no control plane took it on record."""
    spec: DrillSpec
    author: str = ""
    reason: str = ""
    runner: str = ""
    injected_at: AwareDatetime | None = None
    """Second 0; null when nothing was injected, and then second 0 is the end."""
    held_s: float | None = None
    """When the fault was undone."""
    ended_s: float = 0.0
    regions: tuple[str, ...] = ()
    """Of the fleet, in its order."""
    struck_regions: tuple[str, ...] = ()
    struck_targets: tuple[str, ...] = ()
    seconds: tuple[Second, ...] = Field(default=(), max_length=MAX_SECONDS)
    figures: tuple[Figures, ...] = ()
    decisions: tuple[DecisionSeen, ...] = Field(default=(), max_length=MAX_DECISIONS)
    """Oldest first."""
    injections: tuple[Injected, ...] = ()
    loads: tuple[TargetLoad, ...] = ()
    failed: tuple[FailedRequest, ...] = Field(default=(), max_length=MAX_FAILED)
    """The first of them."""
