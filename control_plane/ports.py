"""What loops and API share: the values that etcd holds as a replica mirrors them, and the questions
the API may ask a replica (`Answers`). Kafka and etcd themselves are `shared.ports`."""

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Protocol

from pydantic import AwareDatetime, Field

from control_plane.core.config_check import Judgement
from control_plane.core.config_diff import Change
from control_plane.core.onward import Course
from control_plane.ports_drills import DrillDesk
from shared.vocabulary.audit import AuditEntry
from shared.vocabulary.base import NO_VERSION, Id, Message, Sha256, Traceparent, Version
from shared.vocabulary.config import Fleet, FleetConfig
from shared.vocabulary.decision import Ack, Count, Head, Reason, Term
from shared.vocabulary.node import Node
from shared.vocabulary.override import Override, OverrideRequest
from shared.vocabulary.rollout import Rollout, RolloutSpec
from shared.vocabulary.terms import Verdict
from shared.vocabulary.view import HealthView

MAX_LOGGED_CHANGES = 500
"""Changed routes that one log entry names; keeps the committing transaction small."""


class LeaderRecord(Message):
    """The value of the `leader` key, and its `create_revision` as the epoch."""

    id: Id
    region: Id
    url: str | None = None
    epoch: Count = 0


NO_CONFIG = '"0-"'
"""The entity tag of no configuration at all."""


class ConfigHead(Message):
    """The value of `config/head`: which configuration is in force, and who put it there."""

    config_version: Count
    sha: Sha256
    author: str
    at: AwareDatetime
    reason: str

    @property
    def etag(self) -> str:
        """The entity tag of this configuration (RFC 9110, section 8.8.3)."""
        return f'"{self.config_version}-{self.sha[:16]}"'


class Tenure(Term):
    """A term as its holder knows it: with the lease it rests on, which never leaves this process."""

    lease: int = Field(exclude=True)


class LogEntry(Message):
    """The value of `decisions/log/<version>`: one commit in small."""

    schema_version: Literal[1] = 1
    generation: Count
    seq: Count
    config_version: Count
    head_sha: Sha256
    at: AwareDatetime
    term: Term
    changed: tuple[tuple[Id, Sha256], ...] = ()
    """Routes rewritten by this commit and their documents, at most MAX_LOGGED_CHANGES of them."""
    changed_count: Count = 0
    removed: tuple[Id, ...] = ()
    """Those of `changed` that were removed."""
    reasons: tuple[Reason, ...] = ()
    """The distinct reasons of the changed documents, at most 50."""
    traceparent: Traceparent | None = None

    @property
    def version(self) -> Version:
        """`(generation, seq)` of the commit."""
        return Version(self.generation, self.seq)


@dataclass(frozen=True, slots=True)
class InForce:
    """A head with everything it names, complete by construction, as the bytes that were committed."""

    head: Head | None = None
    head_raw: bytes = b""
    head_sha: str = ""
    documents: Mapping[str, bytes] = field(default_factory=dict)
    """By route, exactly those of `head.routes`."""
    config: FleetConfig | None = None
    config_raw: bytes = b""
    config_sha: str = ""
    overrides: tuple[Override, ...] = ()
    """On record, expired ones included until the leader removes them."""
    rollouts: tuple[Rollout, ...] = ()

    @property
    def version(self) -> Version:
        """Of the head; `0.0` before the first."""
        return self.head.version if self.head is not None else NO_VERSION


class Transition(Message):
    """A change of a target's global verdict as this replica saw it."""

    at: AwareDatetime
    verdict: Verdict
    was: Verdict
    reason: str = ""


@dataclass(frozen=True, slots=True)
class EdgeRecord:
    """The newest word of one edge, and its age in seconds on this replica's own clock."""

    ack: Ack
    age_s: float
    via: Literal["bus", "http"]


@dataclass(frozen=True, slots=True)
class LeaderView:
    """Who leads, as this replica knows it."""

    leader: LeaderRecord | None
    leading: bool
    """This replica itself, within its own deadline."""
    beat_age_s: float | None
    """Since this replica last saw a Beat of a standing leader; None when it never did."""


@dataclass(frozen=True, slots=True)
class EtcdView:
    """How well this replica knows what etcd holds."""

    followed: bool
    """Whether changes arrive, as far as this side can tell."""
    age_s: float | None
    """Since etcd last said anything that was news; None before it was first read."""


class NotKept(LookupError):
    """Nothing on record has this name or number: it never was, or its record has been dropped."""


class Unfit(Exception):
    """It must not be done as things stand; `reasons` says why, a sentence each."""

    def __init__(self, *reasons: str) -> None:
        super().__init__("; ".join(reasons))
        self.reasons = reasons


class Implausible(ValueError):
    """A version that no history of this fleet can have reached."""


class TooManyReaders(Exception):
    """The bound on concurrent stream readers is reached."""


@dataclass(frozen=True, slots=True)
class ConfigOrder:
    """How a configuration is to be changed, and by whom."""

    author: str
    reason: str
    forced: bool = False
    """In spite of objections."""
    based_on: str | None = None
    """Entity tag of the configuration it was prepared from, `NO_CONFIG` for none; None replaces
    whatever is in force."""
    dry_run: bool = False
    """Say what would come of it, and write nothing."""


@dataclass(frozen=True, slots=True)
class ConfigOutcome:
    """What became, or would become, of a change."""

    config_version: int
    """In force now; of a dry run, the version it would get."""
    was: int
    """In force before; 0 without one."""
    sha: str
    changes: tuple[Change, ...]
    judgement: Judgement
    applied: bool
    """False for a dry run, and where nothing differs."""
    audit: int | None = None
    """Number of the audit entry."""


class Stale(Exception):
    """The configuration in force is another than the change was prepared from."""


class Objected(Exception):
    """It would do harm, and was not forced."""

    def __init__(self, judgement: Judgement) -> None:
        super().__init__("; ".join(finding.what for finding in judgement.objections))
        self.judgement = judgement


class TooLarge(ValueError):
    """More than can be carried to everybody."""


class Busy(Exception):
    """Others wrote each time; nothing was done."""


class ConfigCentre(Protocol):
    """The configuration as operators see and change it. Everything may raise PortError."""

    async def versions(self) -> Sequence[ConfigHead]:
        """The kept versions, newest first; the first one is in force."""
        ...

    async def version(self, n: int) -> tuple[ConfigHead, bytes]:
        """One version and the bytes of its FleetConfig. Raises NotKept."""
        ...

    async def apply(self, fleet: Fleet, order: ConfigOrder) -> ConfigOutcome:
        """Put `fleet` in force under a new version. Raises Stale, Objected, TooLarge, Busy."""
        ...

    async def roll_back(self, to: int, order: ConfigOrder) -> ConfigOutcome:
        """Put the fleet of version `to` in force again, under a new version. Raises as `apply`, and
        NotKept."""
        ...


class RolloutDesk(Protocol):
    """Rollouts as operators see and steer them. What is a coroutine is one audited write, and may raise
    Busy and PortError beside what it names."""

    def all(self) -> Sequence[tuple[Rollout, str]]:
        """Those on record, and of a running one what the last look found, where this replica leads."""
        ...

    async def start(self, spec: RolloutSpec, *, author: str, reason: str) -> Rollout:
        """Begin with the first step. Raises Unfit."""
        ...

    async def abort(self, name: str, *, author: str, reason: str, forced: bool = False) -> Rollout:
        """Take the new out at once: theirs goes back to the old. Raises NotKept; Unfit unless RUNNING, and
        where nobody who answers would be left to the route, unless `forced`."""
        ...

    async def end(self, name: str, *, author: str, reason: str, forced: bool = False) -> None:
        """Drop the record: from now on the configuration alone says what the targets get. Raises NotKept;
        Unfit while it is RUNNING, and where nobody who answers would be left, unless `forced`."""
        ...


@dataclass(frozen=True, slots=True)
class Grounds:
    """What the next decision rests on besides health, read linearizably."""

    config: FleetConfig | None
    course: Course
    overrides: tuple[Override, ...]
    rollouts: tuple[Rollout, ...]


@dataclass(frozen=True, slots=True)
class Given:
    """An override that was given, and what its giver should know."""

    override: Override
    warnings: tuple[str, ...] = ()


class OverrideDesk(Protocol):
    """Where operators give and lift overrides. What waits for etcd may raise PortError."""

    def on_record(self) -> tuple[datetime, Sequence[Override]]:
        """This replica's time, and all that it knows of, those that hold no more included."""
        ...

    async def give(self, request: OverrideRequest) -> Given:
        """Put it in force. Raises Unfit, Busy."""
        ...

    async def lift(self, name: str, *, author: str, reason: str) -> Override:
        """End it now; what is over already stays as it is. Raises NotKept, Busy."""
        ...


@dataclass(frozen=True, slots=True)
class RestoreOrder:
    """Who restores, and why."""

    author: str
    reason: str
    forced: bool = False
    """Over what operators have written here."""


@dataclass(frozen=True, slots=True)
class Restored:
    """What stands after a restore."""

    generation: int
    """Above every one that was seen."""
    config_version: int
    """Under which the fleet of the backup is in force: a new one."""
    version: str
    """Of the backup's head."""
    records: int
    """In the backup."""
    overrides: int
    rollouts: int
    audit: int
    """Number of the audit entry."""


class InUse(Unfit):
    """Operators have written here: restoring would put that aside."""


class Archive(Protocol):
    """Everything worth keeping, taken out and put back. Everything may raise PortError."""

    async def backup(self, since: Version | None) -> AsyncGenerator[bytes, None]:
        """The lines of a backup, whole or of what came after the commit `since`. Raises NotKept. A
        blob that is missing breaks the lines off before their last."""
        ...

    async def restore(self, raw: bytes, order: RestoreOrder) -> Restored:
        """Put back a full backup and those since it, one after another. Raises
        `core.backup.Damaged`, InUse, TooLarge, Busy."""
        ...


class Answers(Protocol):
    """A replica as the API sees it. Reads are of memory unless they are coroutines."""

    node: Node

    @property
    def archive(self) -> Archive:
        """Backup and restore."""
        ...

    @property
    def configs(self) -> ConfigCentre:
        """The configuration's versions, and how to change it."""
        ...

    @property
    def rollouts(self) -> RolloutDesk:
        """The rollouts, and how to steer them."""
        ...

    @property
    def overrides(self) -> OverrideDesk:
        """Operators' orders."""
        ...

    @property
    def drills(self) -> DrillDesk:
        """Rehearsed failures."""
        ...

    def audit(self) -> Sequence[AuditEntry]:
        """The last changes that people made, newest first, bounded."""
        ...

    def unready(self) -> Sequence[str]:
        """Why this replica should not be asked yet; empty when it is ready."""
        ...

    def view(self) -> HealthView | None:
        """The present conclusions; None while no configuration is known."""
        ...

    def history(self, target: str) -> Sequence[Transition]:
        """Changes of the target's verdict since this replica started, oldest first, bounded."""
        ...

    def leader(self) -> LeaderView:
        """Who leads."""
        ...

    def in_force(self) -> InForce:
        """The newest complete head."""
        ...

    def log(self) -> Sequence[LogEntry]:
        """The last commits, newest first, bounded."""
        ...

    async def documents_of(self, version: Version) -> tuple[LogEntry | None, Sequence[bytes]]:
        """The documents a commit wrote. Raises NotKept, or `shared.ports.Unavailable`."""
        ...

    async def grounds(self) -> Grounds:
        """What the leader would decide on now. Raises `shared.ports.PortError`."""
        ...

    def edges(self) -> Sequence[EdgeRecord]:
        """Every edge heard of within the hour, by id."""
        ...

    def acknowledge(self, ack: Ack) -> None:
        """Take an edge's word that came by HTTP. Raises Implausible."""
        ...

    def follow(self) -> AsyncGenerator[bytes, None]:
        """The event stream of one reader, encoded. Raises TooManyReaders at once."""
        ...

    def etcd(self) -> EtcdView:
        """How well this replica knows etcd."""
        ...

    def live(
        self, take: Callable[[], Mapping[str, Mapping[str, Any]]], *, after: str
    ) -> AsyncGenerator[bytes, None]:
        """What `take` pictures, as it changes: the encoded events of one reader, who has seen `after`. The
        same `take` for all. Raises TooManyReaders at once."""
        ...

    def metrics(self) -> bytes:
        """Prometheus text."""
        ...


class Readiness(Message):
    """`GET /readyz`."""

    ready: bool
    reasons: tuple[str, ...] = Field(default=())
