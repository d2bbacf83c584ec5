"""What the loops need of Kafka and etcd, and the errors they may meet. Adapters and fakes implement
these; the same contract suites (`tests/integration/`) run on both.

    PortError
    ├── Unavailable          nobody answered in time, or the connection broke: the outcome is unknown
    ├── Refused              an answer, and it was no: authentication, permission, too large
    └── WatchCompacted       history before `revision` is gone: list again

Every call has a deadline of its own and is safe to cancel.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol


class PortError(Exception):
    """Base of what a port raises."""


class Unavailable(PortError):
    """No answer in time. A write may or may not have happened."""


class Refused(PortError):
    """The other side answered, and will not do it however often it is asked."""


class WatchCompacted(PortError):
    """A watch asked for revisions that were compacted away."""

    def __init__(self, revision: int) -> None:
        super().__init__(f"compacted up to revision {revision}")
        self.revision = revision


# ---------------------------------------------------------------- bus


@dataclass(frozen=True, slots=True)
class Record:
    """One message as consumed."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    timestamp_ms: int
    """As the broker gives it."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What a consumer yields: never empty of meaning, for `caught_up` may change without records."""

    records: tuple[Record, ...]
    caught_up: bool
    """Whether every partition has reached the end that it had when consuming began."""
    gap: bool = False
    """Whether offsets were lost before these records (retention, broker emptied, watchdog restart):
    state topics have been read again from their beginning, others go on."""


class Bus(Protocol):
    """One region's Kafka cluster, as one process sees it."""

    region: str

    async def publish(
        self,
        topic: str,
        *,
        key: bytes | None,
        value: bytes | None,
        headers: Mapping[str, bytes] | None = None,
        timeout_s: float = 2.0,
    ) -> None:
        """Write one message, acknowledged by all in-sync replicas.

        Raises Unavailable after `timeout_s`, Refused for a message the broker will never take.
        """
        ...

    def consume(
        self,
        topics: Sequence[str],
        *,
        start: Literal["beginning", "end"] | float,
        idle_s: float = 1.0,
    ) -> AsyncIterator[Batch]:
        """All partitions of `topics`, without a group, for ever: reconnects by itself, with backoff.

        `start` is where the first reading begins: `beginning`, `end`, or seconds before now. Yields
        at least every `idle_s`, if need be an empty Batch, while the broker answers; raises
        Unavailable when it has not for 10 s, after which `consume` may be called again.
        Order holds within a partition only.
        """
        ...

    @property
    def reachable(self) -> bool:
        """Whether the last exchange with it succeeded."""
        ...

    async def close(self) -> None:
        """Release everything, within 5 s, reachable or not."""
        ...


# ---------------------------------------------------------------- coordination


@dataclass(frozen=True, slots=True)
class KeyValue:
    """One key of etcd. Keys are given without the configured prefix."""

    key: str
    value: bytes
    create_revision: int
    mod_revision: int
    version: int
    lease: int = 0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A linearizable reading of everything under a prefix."""

    items: tuple[KeyValue, ...]
    revision: int


@dataclass(frozen=True, slots=True)
class Compare:
    """One condition of a transaction. `revision` 0 for `create` or `mod` means: the key is absent.
    With `lease` it is the id of the lease the key must be bound to."""

    key: str
    what: Literal["create", "mod", "lease"]
    revision: int


@dataclass(frozen=True, slots=True)
class Put:
    """Write a key, bound to a lease when `lease` is not 0."""

    key: str
    value: bytes
    lease: int = 0


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove a key, or everything under it as a prefix."""

    key: str
    prefix: bool = False


@dataclass(frozen=True, slots=True)
class TxnResult:
    """Whether the conditions held, and at which revision."""

    succeeded: bool
    revision: int


@dataclass(frozen=True, slots=True)
class Change:
    """One key changed; `value` None when it was deleted."""

    key: str
    value: bytes | None
    create_revision: int
    mod_revision: int


@dataclass(frozen=True, slots=True)
class WatchBatch:
    """Changes of one or more whole revisions, in order. Empty batches are progress notes."""

    changes: tuple[Change, ...]
    revision: int


@dataclass(frozen=True, slots=True)
class StoreHealth:
    """What etcd says of itself."""

    reachable: bool
    leader_member: str = ""
    alarms: tuple[str, ...] = field(default=())


class Coordination(Protocol):
    """etcd, as the control plane uses it. All keys are relative to the configured prefix."""

    async def get(self, key: str) -> tuple[KeyValue | None, int]:
        """The key, linearizable, and the store's revision. Raises Unavailable."""
        ...

    async def list(self, prefix: str) -> Snapshot:
        """Everything under `prefix`, linearizable, read in pages. Raises Unavailable."""
        ...

    async def commit(self, compares: Sequence[Compare], then: Sequence[Put | Delete]) -> TxnResult:
        """IF all compares THEN do all. Raises Unavailable with the outcome unknown: read back, never
        retry blindly. Raises Refused when too large or not permitted, with nothing done."""
        ...

    def watch(self, prefix: str, *, from_revision: int) -> AsyncIterator[WatchBatch]:
        """Changes under `prefix` from `from_revision` on. Raises WatchCompacted, or Unavailable when
        the server is silent too long, cancels or goes: list again and watch from there."""
        ...

    async def grant(self, ttl_s: int) -> int:
        """A lease; returns its id. Raises Unavailable."""
        ...

    async def keep_alive(self, lease: int) -> float:
        """Renew once; returns the TTL granted, 0 when the lease is gone. Raises Unavailable."""
        ...

    async def revoke(self, lease: int) -> None:
        """End a lease at once; its keys go. Raises Unavailable."""
        ...

    async def compact(self, revision: int) -> None:
        """Forget history before `revision`; already compacted is no error. Raises Unavailable."""
        ...

    async def health(self) -> StoreHealth:
        """Whether it answers, and its alarms (NOSPACE). Never raises."""
        ...

    async def close(self) -> None:
        """Release everything, within 5 s, reachable or not."""
        ...
