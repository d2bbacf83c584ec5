"""Decision, head, Beat and Ack: what edges follow, how they know they hold it all, and what they say back."""

from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import AwareDatetime, Field, model_validator

from shared.vocabulary.base import Id, Message, Permille, Sha256, Traceparent, Version
from shared.vocabulary.terms import EdgeMode, Outcome

Count = Annotated[int, Field(ge=0, le=2**53)]

REASON_CODES = (
    "INITIAL",
    "CONFIG_CHANGED",
    "ROUTE_REMOVED",
    "TARGET_DOWN",
    "TARGET_DEGRADED",
    "TARGET_UP",
    "RAMP_STEP",
    "HOLD_DOWN",
    "REGIONAL_DOWN",
    "TARGET_COOLING",
    "FROZEN",
    "UNFROZEN",
    "CAPACITY",
    "GENERATION_RAISED",
    "REVISED",
    "DRAINED",
    "UNDRAINED",
    "PINNED",
    "WEIGHTS_SET",
    "OPERATOR_FROZEN",
    "OVERRIDE_ENDED",
    "ROLLOUT_STEP",
    "ROLLOUT_ENDED",
    "SPILL",
    "SHED",
    "PANIC",
)
"""Why a decision changed. `values` gives the figures of each (see docs/DECISIONS.md)."""


class WeightedTarget(Message):
    """A target's part in a tier. Weight 0 is a stand-by: used within a request when those with
    weight fail, in the order written."""

    id: Id
    weight_permille: Permille


class DecidedTier(Message):
    """One tier of the route for one client region: same order and number as in the configuration,
    so that a tier's place is its name. Empty when none of its targets may be used."""

    share_permille: Permille
    """Of the route's traffic in this region. A spill is a share, not an order."""
    targets: tuple[WeightedTarget, ...]


class RegionDecision(Message):
    """What the edges of one client region do. Shares and `shed_permille` sum to 1000."""

    tiers: tuple[DecidedTier, ...]
    shed_permille: Permille = 0

    @cached_property
    def substance(self) -> tuple[object, ...]:
        """All of it as plain tuples: quick to compare, again and again."""
        return (
            self.shed_permille,
            *(
                (tier.share_permille, *((target.id, target.weight_permille) for target in tier.targets))
                for tier in self.tiers
            ),
        )

    @model_validator(mode="after")
    def _sums(self) -> "RegionDecision":
        total = sum(tier.share_permille for tier in self.tiers) + self.shed_permille
        if total != 1000:
            raise ValueError(f"shares and shed_permille sum to {total}, not 1000")
        for number, tier in enumerate(self.tiers, start=1):
            weights = sum(target.weight_permille for target in tier.targets)
            if tier.targets and weights != 1000:
                raise ValueError(f"weights of tier {number} sum to {weights}, not 1000")
            if tier.share_permille and not tier.targets:
                raise ValueError(f"tier {number} has a share but no target")
            ids = [target.id for target in tier.targets]
            if len(set(ids)) != len(ids):
                raise ValueError(f"tier {number} names a target twice")
        return self


class Exclusion(Message):
    """A target that takes no part, and at whose word."""

    target: Id
    by: Literal["auto", "operator", "policy"]
    reason: Annotated[str, Field(max_length=512)]
    expires_at: AwareDatetime | None = None
    region: Id | None = None
    """The one client region it is excluded for; all when absent."""


class Reason(Message):
    """One cause of the change, as an enum and its figures."""

    code: Annotated[str, Field(pattern=r"^[A-Z][A-Z_]*$", max_length=64)]
    target: Id | None = None
    region: Id | None = None
    values: Mapping[str, Any] = Field(default_factory=dict)


class EvidenceRef(Message):
    """One vote behind the decision, traceable to the event that carried it."""

    vantage: Id
    source: Id
    boot: Count
    seq: Count
    target: Id
    monitor: Id | None = None
    """Absent for passive evidence."""
    outcome: Outcome
    detail: str = ""
    observed_at: AwareDatetime
    traceparent: Traceparent | None = None


class Term(Message):
    """One leadership."""

    holder: Id
    epoch: Count
    """`create_revision` of the leader key."""


class Decision(Message):
    """What every client region should do for one route."""

    schema_version: Literal[1] = 1
    route: Id
    generation: Count
    seq: Count
    """The commit that wrote this document."""
    config_version: Count
    removed: bool = False
    """The route is gone. A document, never a bare tombstone, so that it has a version."""
    regions: Mapping[Id, RegionDecision] = Field(default_factory=dict)
    excluded: tuple[Exclusion, ...] = ()
    reasons: tuple[Reason, ...] = ()
    evidence: tuple[EvidenceRef, ...] = ()
    forced_by: str | None = None
    decided_at: AwareDatetime
    term: Term
    traceparent: Traceparent | None = None

    @cached_property
    def version(self) -> Version:
        """`(generation, seq)` of the commit that wrote it. Kept, for edges compare it again and again."""
        return Version(self.generation, self.seq)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy, whose version is its own."""
        copied = super().model_copy(update=update, deep=deep)
        copied.__dict__.pop("version", None)
        return copied


RouteRef = tuple[Count, Sha256]
"""`[seq, sha256 of the document's bytes]`."""


class Head(Message):
    """What is in force: the value of `decisions/head`. Its own hash goes into every Beat."""

    schema_version: Literal[1] = 1
    generation: Count
    seq: Count
    config_version: Count
    routes: Mapping[Id, RouteRef]

    @property
    def version(self) -> Version:
        """`(generation, seq)`."""
        return Version(self.generation, self.seq)


class Beat(Message):
    """The leader's regular statement of the head; `beat` rises within a generation and epoch."""

    schema_version: Literal[1] = 1
    generation: Count
    epoch: Count
    beat: Count
    head_seq: Count
    head_sha: Sha256
    config_version: Count
    routes: Mapping[Id, RouteRef]
    holder: Id
    sent_at: AwareDatetime

    @property
    def order(self) -> tuple[int, int, int]:
        """By which a Beat is newer than another."""
        return (self.generation, self.epoch, self.beat)

    @property
    def head(self) -> Head:
        """The head it states."""
        return Head(
            generation=self.generation,
            seq=self.head_seq,
            config_version=self.config_version,
            routes=self.routes,
        )


class Ack(Message):
    """An edge's word on what it serves. Sent at every change and once a round."""

    schema_version: Literal[1] = 1
    edge: Id
    region: Id
    boot: Count
    ack: Count
    """Rises within a boot."""
    mode: EdgeMode
    generation: Count
    seq: Count
    """Of the head it serves."""
    head_sha: Sha256 | None = None
    """Absent for 0.0."""
    config_version: Count
    beat_age_s: Annotated[float, Field(ge=0)] | None = None
    """Since the last new Beat; absent before the first."""
    applied_at: AwareDatetime
    url: str | None = None
    admin_url: str | None = None
    refused: Count = 0
    """Documents, heads and configurations it refused since its start."""
    seen_generation: Count = 0
    seen_seq: Count = 0
    """Greatest version it ever held, across restarts: what a restored control plane must exceed."""
    beat_generation: Count = 0
    beat_epoch: Count = 0
    """Greatest generation, and epoch within it, of a Beat that confirmed this edge. etcd's revisions,
    and so epochs, go back when it is restored: a leader of an older epoch could never confirm it."""
    traceparent: Traceparent | None = None
    """The apply span, a child of the decision's."""

    @property
    def version(self) -> Version:
        """Of the head it serves."""
        return Version(self.generation, self.seq)
