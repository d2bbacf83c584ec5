"""Memory: what `decide` must know of the past, carried across terms in etcd (`decisions/memory`).

It is the only state of deciding. Times are UTC, because the next leader runs on another machine; a
time that lies in the future (clocks step, leaders differ) is read as now. Empty is a valid memory:
the worst it costs is a hold-down or a ramp that was under way.
"""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AwareDatetime, Field

from shared.vocabulary.base import Id, Message, Permille
from shared.vocabulary.override import Override
from shared.vocabulary.rollout import Rollout

Flaps = Annotated[int, Field(ge=0, le=1_000)]


class Standing(Message):
    """How far a target is in leaving or coming back. Absent: in, and long enough for its flaps to be
    forgotten. The transitions stand in `standing`."""

    phase: Literal["OUT", "BACK"]
    """OUT: concluded DOWN, and not yet let back. BACK: on the ramp, or in and watched for flaps."""
    since: AwareDatetime
    """When the phase began."""
    flaps: Flaps = 0
    """Times it went out again within `hold_down_cap_s` of coming back."""
    hard: bool = False
    """OUT on hard evidence; stays so until it comes back."""
    permille: Permille = 0
    """BACK: the part of its natural weight that the ramp gives it."""
    stepped_at: AwareDatetime | None = None
    """BACK: when the ramp last took a step; with `since` when absent."""
    failing: bool = False
    """BACK: when live traffic last tried it on the ramp, no attempt got a good answer."""


class HeldDemand(Message):
    """The demand of one client region that a limited plan was made for."""

    inflight: Annotated[float, Field(ge=0, le=1e12, allow_inf_nan=False)]
    """Requests under way, as planned for."""
    requests_per_s: Annotated[float, Field(ge=0, le=1e12, allow_inf_nan=False)] = 0.0
    """What its clients asked then."""
    most_per_request_s: Annotated[float, Field(ge=0, le=1e12, allow_inf_nan=False)] | None = None
    """Seconds that one request may be thought to hold a place; None when nothing ended."""
    low_since: AwareDatetime | None = None
    """When what is seen was first found to fall far short; it may have recovered since."""
    unheard_since: AwareDatetime | None = None
    """When its edges were first found silent while others were heard; None once they are heard again."""


class RouteMemory(Message):
    """What one route is in the middle of."""

    soft_moved_at: AwareDatetime | None = None
    """When soft evidence last moved weight here."""
    kept: Mapping[Id, Permille] = Field(default_factory=dict)
    """Target that is OUT on soft evidence -> the part of its natural weight it still has."""
    cautious: Mapping[Id, Permille] = Field(default_factory=dict)
    """Target that health advises caution about -> the part of its natural weight it still has."""
    held: Mapping[Id, Permille] = Field(default_factory=dict)
    """Target that is OUT, and kept by a freeze -> the part of its natural weight that it had."""
    held_in: Mapping[Id, Mapping[Id, Permille]] = Field(default_factory=dict)
    """Client region -> the same of targets that are OUT for its clients alone."""
    frozen: bool = False
    """Automatic removals are suspended: they would have left nothing, or are not to be believed."""
    demand: Mapping[Id, HeldDemand] = Field(default_factory=dict)
    """Client region -> what the plan was made for; only while capacity limits the plan."""
    planned_at: AwareDatetime | None = None
    """When the plan last changed while capacity limits it: figures of before belong to another plan."""
    panic: bool = False
    """What can carry the demand is so little that doubtful targets are used."""


class Memory(Message):
    """All of it. Entries for what the configuration no longer names are dropped."""

    schema_version: Literal[1] = 1
    targets: Mapping[Id, Standing] = Field(default_factory=dict)
    """By the global verdict."""
    regional: Mapping[Id, Mapping[Id, Standing]] = Field(default_factory=dict)
    """Client region -> target, by what that region alone sees. OUT on hard evidence (its live traffic
    fails) excludes there; OUT on soft evidence (its own vote) only moves last there."""
    spared: Mapping[Id, AwareDatetime] = Field(default_factory=dict)
    """Target at its account's limit -> since when it is moved last for all clients."""
    routes: Mapping[Id, RouteMemory] = Field(default_factory=dict)
    overrides: tuple[Override, ...] = ()
    """Those that the last decision was made under: the next one tells which are new, and which ended."""
    rollouts: tuple[Rollout, ...] = ()
    """The same of rollouts."""
