"""Tracing as the loops see it: spans with W3C contexts that travel in messages, whether or not anybody records them.

`shared.adapters.otel` exports real spans; `NoTelemetry` only makes ids, so that every event and
decision carries a `traceparent` even where no backend is configured.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

SpanKind = Literal["internal", "server", "client", "producer", "consumer"]
Attributes = Mapping[str, str | bool | int | float | Sequence[str]]


class Span(Protocol):
    """One operation under way."""

    @property
    def traceparent(self) -> str:
        """Its W3C context, to put into what it causes."""
        ...

    @property
    def recording(self) -> bool:
        """Whether attributes are kept; skip the work of computing them when not."""
        ...

    def set(self, **attributes: str | bool | int | float) -> None:
        """Add attributes. `__` in a name stands for a dot: `http__route` is `http.route`."""
        ...

    def event(self, name: str, attributes: Attributes | None = None) -> None:
        """A moment within the span."""
        ...

    def fail(self, reason: str) -> None:
        """Mark it as an error, with the reason as its status."""
        ...

    def end(self) -> None:
        """Finish it; safe to call twice. For spans from `begin`."""
        ...


class Telemetry(Protocol):
    """Makes spans."""

    def begin(
        self,
        name: str,
        *,
        kind: SpanKind = "internal",
        parent: str | None = None,
        links: Sequence[str] = (),
        attributes: Attributes | None = None,
    ) -> Span:
        """A span that its caller must `end`. `parent` and `links` are traceparents; a malformed one
        counts as absent. Without a parent it starts a trace, subject to sampling."""
        ...

    def span(
        self,
        name: str,
        *,
        kind: SpanKind = "internal",
        parent: str | None = None,
        links: Sequence[str] = (),
        attributes: Attributes | None = None,
    ) -> Any:
        """`begin` as a context manager; an exception marks the span as failed and goes on."""
        ...

    async def close(self) -> None:
        """Flush what is pending, within 3 s."""
        ...


@dataclass(slots=True)
class _BareSpan:
    traceparent: str
    recording: bool = False

    def set(self, **attributes: str | bool | int | float) -> None: ...

    def event(self, name: str, attributes: Attributes | None = None) -> None: ...

    def fail(self, reason: str) -> None: ...

    def end(self) -> None: ...


@dataclass(slots=True)
class NoTelemetry:
    """Records nothing, hands contexts on: a child keeps its parent's trace id, unsampled."""

    rng: random.Random = field(default_factory=random.Random)

    def begin(
        self,
        name: str,
        *,
        kind: SpanKind = "internal",
        parent: str | None = None,
        links: Sequence[str] = (),
        attributes: Attributes | None = None,
    ) -> Span:
        trace_id = parent[3:35] if parent else f"{self.rng.getrandbits(128) or 1:032x}"
        return _BareSpan(f"00-{trace_id}-{self.rng.getrandbits(64) or 1:016x}-00")

    @contextmanager
    def span(
        self,
        name: str,
        *,
        kind: SpanKind = "internal",
        parent: str | None = None,
        links: Sequence[str] = (),
        attributes: Attributes | None = None,
    ) -> Iterator[Span]:
        yield self.begin(name, kind=kind, parent=parent)

    async def close(self) -> None: ...
