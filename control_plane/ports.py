"""What loops and API share: the values that etcd holds as a replica mirrors them, and the questions
the API may ask a replica (`Answers`). Kafka and etcd themselves are `shared.ports`."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from pydantic import AwareDatetime, Field

from shared.vocabulary.base import NO_VERSION, Id, Message, Sha256, Traceparent, Version
from shared.vocabulary.config import FleetConfig
from shared.vocabulary.decision import Ack, Count, Head, Reason, Term
from shared.vocabulary.node import Node
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


class ConfigHead(Message):
    """The value of `config/head`: which configuration is in force, and who put it there."""

    config_version: Count
    sha: Sha256
    author: str
    at: AwareDatetime
    reason: str


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


class NotKept(LookupError):
    """A version that was never committed, or whose history has been collected."""


class Implausible(ValueError):
    """A version that no history of this fleet can have reached."""


class TooManyReaders(Exception):
    """The bound on concurrent stream readers is reached."""


class Answers(Protocol):
    """A replica as the API sees it. Reads are of memory unless they are coroutines."""

    node: Node

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

    def edges(self) -> Sequence[EdgeRecord]:
        """Every edge heard of within the hour, by id."""
        ...

    def acknowledge(self, ack: Ack) -> None:
        """Take an edge's word that came by HTTP. Raises Implausible."""
        ...

    def follow(self) -> AsyncGenerator[bytes, None]:
        """The event stream of one reader, encoded. Raises TooManyReaders at once."""
        ...

    def metrics(self) -> bytes:
        """Prometheus text."""
        ...


class Readiness(Message):
    """`GET /readyz`."""

    ready: bool
    reasons: tuple[str, ...] = Field(default=())
