"""What the edge's loops need of the outside: its own data path, its disk, and the control plane's stream."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar, runtime_checkable

from shared.vocabulary.base import Version
from shared.vocabulary.health import PassiveWindow, RouteLoad
from shared.vocabulary.terms import EdgeMode

TableT = TypeVar("TableT", contravariant=True)


class Serving(Protocol[TableT]):
    """The data path, as following sees it."""

    mode: EdgeMode
    """Shown to clients in `x-leeward-mode`."""
    turned: asyncio.Event
    """Set whenever it ejects a target or begins to spare one; whoever acts on it clears it."""

    async def start(self, host: str, port: int) -> tuple[str, int]:
        """Listen; returns the address as bound. Raises OSError."""
        ...

    async def drain(self, timeout_s: float) -> None:
        """Accept no more, let requests under way finish, then close everything."""
        ...

    def swap(self, table: TableT, *, applied_in: str | None = None) -> None:
        """Serve new requests by `table`; those under way keep theirs. `applied_in` is the span by which
        a decision came into force."""
        ...

    def passive(self, window_s: float) -> tuple[PassiveWindow, ...]:
        """What it saw of each target that had attempts or state in the window."""
        ...

    def loads(self, window_s: float) -> tuple[RouteLoad, ...]:
        """What it carried of each route that had traffic in the window."""
        ...


@runtime_checkable
class Crew(Protocol):
    """A data path in several processes: what there is to know of these."""

    on_alarm: Callable[[str, str], None]
    """Called with a code and a detail,"""
    on_over: Callable[[str], None]
    """and when that is over."""

    async def settled(self) -> None:
        """Until every process that accepts requests serves by the table last swapped to."""
        ...

    async def measured(self) -> None:
        """Until the metrics of all are up to date, as far as they answer within a second."""
        ...

    def why_not_ready(self) -> str | None:
        """None while any process serves."""
        ...

    def served(self) -> Version | None:
        """The oldest head that any process serves; None while none serves."""
        ...

    def shown(self) -> list[dict[str, Any]]:
        """Each process, for `/status`."""
        ...


@dataclass(frozen=True, slots=True)
class Kept:
    """What an edge needs to serve again, in the bytes in which it was received."""

    config: bytes
    head: bytes | None
    """None before the first head."""
    documents: tuple[bytes, ...]
    """All that the head names."""
    version: Version
    """Of the head; 0.0 without one."""
    seen: Version
    """Greatest version ever served."""


@dataclass(frozen=True, slots=True)
class Recalled:
    """What a store holds."""

    kept: tuple[Kept, ...]
    """Readable and undamaged, newest first."""
    seen: Version
    """Greatest version ever kept, as far as even damaged files tell."""
    damaged: tuple[str, ...] = ()
    """Files that were passed over, each with the reason."""


class LastKnownGood(Protocol):
    """Where `Kept` survives a restart."""

    async def recall(self) -> Recalled:
        """Everything that can still be read. Never raises: an unreadable disk holds nothing."""
        ...

    async def keep(self, kept: Kept) -> None:
        """Write it, whole or not at all. Raises StoreError when it could not be written."""
        ...


class StoreError(Exception):
    """The last-known-good file could not be written; what was there before still is."""


@dataclass(frozen=True, slots=True)
class StreamEvent:
    """One event of `GET /v1/stream`."""

    kind: Literal["hello", "config", "decision", "head", "beat"]
    data: bytes
    live: bool
    """False for a Beat of the opening snapshot: it may have lain in the store for any time."""


class ControlPlane(Protocol):
    """One replica's HTTP side, as an edge uses it. `url` is its base URL."""

    def stream(self, url: str) -> AbstractAsyncContextManager[AsyncIterator[StreamEvent]]:
        """Follow it; begins with a snapshot. Raises shared.ports.Unavailable when it cannot be
        reached, answers anything but a stream, ends, or is silent for 15 s."""
        ...

    async def acknowledge(self, url: str, ack: bytes, headers: Mapping[str, str]) -> None:
        """`POST /v1/acks`. Raises shared.ports.Unavailable or shared.ports.Refused, within 2 s."""
        ...

    async def close(self) -> None:
        """Release connections."""
        ...
