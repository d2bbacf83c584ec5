"""Tracing as the loops see it: spans with W3C contexts that travel in messages, whether or not anybody records them.

`shared.adapters.otel` exports real spans; `NoTelemetry` only makes ids, so that every event and
decision carries a `traceparent` even where no backend is configured.

what is recorded    The chain from a failed probe to the edges that follow is rare and always recorded. Ordinary
                    requests and rounds are recorded by `Sampling`; whoever begins a span says so with
                    `record`, and what is not recorded still hands a context on, marked as unsampled.
after the fact      `at_ns` lets a span be made when its operation is over and turned out to be worth one. Times
                    are nanoseconds since the epoch, as OTLP writes them.
"""

import random
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol

SpanKind = Literal["internal", "server", "client", "producer", "consumer"]
Attributes = Mapping[str, str | bool | int | float | Sequence[str]]

ENDPOINT_VARIABLES: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
"""Of the environment: where traces go. Without either they go nowhere."""
DEFAULT_SHARE: Final = 0.01
"""Of ordinary requests that are recorded where nobody has said otherwise,"""
DEFAULT_PER_S: Final = 20.0
"""and how many a second in one process: making and sending a request's spans takes some 0.3 ms of CPU."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """Which ordinary requests are recorded. `share` is 0 to 1."""

    share: float = DEFAULT_SHARE
    honours_parent: bool = True
    """A request that comes with a W3C context is recorded as its sender says, whatever the share."""
    per_s: float | None = None
    """At most so many by the share in one process; None where somebody has asked for the share."""


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

    def event(self, name: str, attributes: Attributes | None = None, *, at_ns: int | None = None) -> None:
        """A moment within the span; now, unless `at_ns` says when."""
        ...

    def fail(self, reason: str) -> None:
        """Mark it as an error, with the reason as its status."""
        ...

    def end(self, *, at_ns: int | None = None) -> None:
        """Finish it; safe to call twice. For spans from `begin`."""
        ...


class Telemetry(Protocol):
    """Makes spans."""

    sampling: Sampling

    def begin(
        self,
        name: str,
        *,
        kind: SpanKind = "internal",
        parent: str | None = None,
        links: Sequence[str] = (),
        attributes: Attributes | None = None,
        record: bool | None = None,
        at_ns: int | None = None,
    ) -> Span:
        """A span that its caller must `end`. `parent` and `links` are traceparents; a malformed one
        counts as absent. Without a parent it starts a trace. Unless `record` says whether it is
        recorded, a child is when its parent was, and a root always."""
        ...

    def span(
        self,
        name: str,
        *,
        kind: SpanKind = "internal",
        parent: str | None = None,
        links: Sequence[str] = (),
        attributes: Attributes | None = None,
        record: bool | None = None,
    ) -> Any:
        """`begin` as a context manager; an exception marks the span as failed and goes on."""
        ...

    async def close(self) -> None:
        """Flush what is pending, within 3 s."""
        ...


def trace_id_of(traceparent: str | None) -> str | None:
    """The trace id within a traceparent, for a log line or an answer; None when there is none."""
    return traceparent[3:35] if traceparent is not None and len(traceparent) >= 35 else None


def sampled_context(rng: random.Random) -> str:
    """The context of a new trace whose requests are all to be recorded."""
    return f"00-{rng.getrandbits(128) or 1:032x}-{rng.getrandbits(64) or 1:016x}-01"


def is_recorded(traceparent: str | None) -> bool:
    """Whether the span of this context is recorded (W3C Trace Context, section 3.2.2.5.1)."""
    return traceparent is not None and traceparent[-1:] in _SAMPLED_DIGITS


_SAMPLED_DIGITS: Final = frozenset("13579bdf")


@dataclass(slots=True)
class BareSpan:
    """A context and nothing else."""

    traceparent: str
    recording: bool = False

    def set(self, **attributes: str | bool | int | float) -> None: ...

    def event(self, name: str, attributes: Attributes | None = None, *, at_ns: int | None = None) -> None: ...

    def fail(self, reason: str) -> None: ...

    def end(self, *, at_ns: int | None = None) -> None: ...


def bare_span(parent: str | None, rng: random.Random) -> BareSpan:
    """An unsampled context: in its parent's trace where there is one."""
    trace_id = trace_id_of(parent) or f"{rng.getrandbits(128) or 1:032x}"
    return BareSpan(f"00-{trace_id}-{rng.getrandbits(64) or 1:016x}-00")


@dataclass(slots=True)
class NoTelemetry:
    """Records nothing, hands contexts on: a child keeps its parent's trace id, unsampled."""

    rng: random.Random = field(default_factory=random.Random)
    sampling: Sampling = Sampling(share=0.0)

    def begin(
        self,
        name: str,
        *,
        kind: SpanKind = "internal",
        parent: str | None = None,
        links: Sequence[str] = (),
        attributes: Attributes | None = None,
        record: bool | None = None,
        at_ns: int | None = None,
    ) -> Span:
        return bare_span(parent, self.rng)

    @contextmanager
    def span(
        self,
        name: str,
        *,
        kind: SpanKind = "internal",
        parent: str | None = None,
        links: Sequence[str] = (),
        attributes: Attributes | None = None,
        record: bool | None = None,
    ) -> Iterator[Span]:
        yield self.begin(name, kind=kind, parent=parent)

    async def close(self) -> None: ...


class Contexts:
    """Traceparents remembered by a key, the latest `most` of them: what a later span of another loop continues."""

    __slots__ = ("_kept", "_most")

    def __init__(self, most: int = 256) -> None:
        self._most = most
        self._kept: dict[Hashable, tuple[str, float]] = {}

    def put(self, key: Hashable, traceparent: str, *, at: float = 0.0) -> None:
        """Remember it, since `at` (monotonic); the oldest gives way."""
        self._kept.pop(key, None)
        self._kept[key] = (traceparent, at)
        if len(self._kept) > self._most:
            del self._kept[next(iter(self._kept))]

    def get(self, key: Hashable) -> str | None:
        """What is remembered under `key`."""
        kept = self._kept.get(key)
        return None if kept is None else kept[0]

    def since(self, key: Hashable) -> float | None:
        """Since when."""
        kept = self._kept.get(key)
        return None if kept is None else kept[1]
