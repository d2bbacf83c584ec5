"""What a `Follower` is told and what it answers: its events and its effects, as frozen values."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar

from edge_router.core.holdings import HeldConfig, HeldDocument, HeldHead
from edge_router.core.lapse import Lapsed
from shared.vocabulary.base import Version
from shared.vocabulary.decision import Decision
from shared.vocabulary.terms import EdgeMode

TableT = TypeVar("TableT")

# ---------------------------------------------------------------- events


@dataclass(frozen=True, slots=True)
class ConfigSeen:
    """A FleetConfig's bytes, from any path or file."""

    raw: bytes


@dataclass(frozen=True, slots=True)
class DocumentSeen:
    """A Decision's bytes."""

    raw: bytes


@dataclass(frozen=True, slots=True)
class HeadSeen:
    """A Head's bytes. Says what is in force; only a Beat says that somebody still says so."""

    raw: bytes


@dataclass(frozen=True, slots=True)
class BeatSeen:
    """A Beat's bytes. `live` is false for one that may have lain in a store for any time."""

    raw: bytes
    live: bool = True


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed; to be sent a few times a second."""

    at: datetime | None = None
    """This edge's wall clock, for ends that people have set."""


Event = ConfigSeen | DocumentSeen | HeadSeen | BeatSeen | Tick


# ---------------------------------------------------------------- effects, to be carried out in order


@dataclass(frozen=True, slots=True)
class Apply(Generic[TableT]):
    """Swap to `table` at once, then write the last-known-good file, then acknowledge."""

    table: TableT
    config: HeldConfig
    documents: Mapping[str, HeldDocument]
    """Every live route's, by route; empty before the first head."""
    head: HeldHead | None
    version: Version
    previous: Version
    changed: tuple[Decision, ...]
    """Newly in force, newest first."""


@dataclass(frozen=True, slots=True)
class Ease(Generic[TableT]):
    """Swap to `table`: the same decisions, but nobody leads, and the drains in `over` are past their end."""

    table: TableT
    over: Lapsed


@dataclass(frozen=True, slots=True)
class Confirmed:
    """A new Beat states what is served: what was wrong with following is over."""


@dataclass(frozen=True, slots=True)
class ModeIs:
    """The mode changed."""

    mode: EdgeMode


@dataclass(frozen=True, slots=True)
class Acknowledge:
    """Say what is served, and how."""


@dataclass(frozen=True, slots=True)
class Refused:
    """Something was not taken: `what` is config, document, head or beat."""

    what: str
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Alarm:
    """Somebody should look."""

    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class Resync:
    """A stated head stays incomplete: read both paths again from their beginning."""

    missing: int
    """Documents."""


Effect = Apply[TableT] | Ease[TableT] | Confirmed | ModeIs | Acknowledge | Refused | Alarm | Resync
