"""Memory: what `decide` must know of the past, carried across terms in etcd (`decisions/memory`).

It is the only state of deciding. Times are UTC, because the next leader runs on another machine; a
time that lies in the future (clocks step, leaders differ) is read as now. Empty is a valid memory:
the worst it costs is a hold-down or a ramp that was under way.
"""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AwareDatetime, Field

from shared.vocabulary.base import Id, Message, Permille

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


class RouteMemory(Message):
    """What one route is in the middle of."""

    soft_moved_at: AwareDatetime | None = None
    """When soft evidence last moved weight here."""
    kept: Mapping[Id, Permille] = Field(default_factory=dict)
    """Target that is OUT on soft evidence -> the part of its natural weight it still has."""
    frozen: bool = False
    """Automatic removals are suspended: they would have left nothing."""


class Memory(Message):
    """All of it. Entries for what the configuration no longer names are dropped."""

    schema_version: Literal[1] = 1
    targets: Mapping[Id, Standing] = Field(default_factory=dict)
    """By the global verdict."""
    regional: Mapping[Id, Mapping[Id, Standing]] = Field(default_factory=dict)
    """Client region -> target, by what that region alone sees. OUT on hard evidence (its live traffic
    fails) excludes there; OUT on soft evidence (its own vote) only moves last there."""
    routes: Mapping[Id, RouteMemory] = Field(default_factory=dict)
