"""Faults that a drill has this edge pretend: between choosing a target and what comes of the attempt, on a
share of the attempts, and never for longer than was last asked for.

To everything behind it (classification, moving on, ejection, the passive window, traces) the target did it.
Order, where several strike one attempt: it is refused; or answered in the target's place; or sent, its answer
late and, in a stream, stopped. Waits add up.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Annotated, Any, Final, Literal, NamedTuple

import msgspec
from pydantic import ConfigDict, Field, StringConstraints, model_validator

from edge_router.core.answers import gemini_error
from edge_router.core.endpoints import Kind
from edge_router.core.sse import EVENT_END, LINE_END, MAX_EVENT_BYTES, EventReader
from edge_router.core.wire import ResponseHead, parse_response_head, status_line_of
from shared.vocabulary.base import Message, Permille
from shared.vocabulary.drill import Ms
from shared.vocabulary.terms import Dialect

MAX_FOR_S: Final = 300.0
MAX_FAULTS: Final = 32
EVENTS_BEFORE: Final = 2
"""Of a stalled or cut stream, when the order does not say."""
_MAX_KNOWN: Final = 10_000
"""Target ids whose match is remembered."""

FilterFault = Literal["latency", "slow_ttft", "errors", "throttle", "refuse", "stall", "cut"]
_TAKES: Final[dict[str, frozenset[str]]] = {
    "latency": frozenset({"ms"}),
    "slow_ttft": frozenset({"ms"}),
    "errors": frozenset({"status"}),
    "throttle": frozenset({"retry_after_s"}),
    "refuse": frozenset(),
    "stall": frozenset({"after_events"}),
    "cut": frozenset({"after_events"}),
}


class FilterOrder(Message):
    """The body of `PUT /faults/{id}` on the admin listener."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    fault: FilterFault
    targets: Annotated[
        tuple[Annotated[str, StringConstraints(min_length=1, max_length=128)], ...],
        Field(min_length=1, max_length=1_000),
    ]
    """Shell patterns of target ids."""
    share_permille: Permille = 1000
    """Of the attempts at them."""
    ms: Ms | None = None
    """`latency`: before anything of the answer; `slow_ttft`: between a stream's head and its first event."""
    status: Annotated[int, Field(ge=400, le=599)] | None = None
    """`errors`; 503 when absent."""
    retry_after_s: Annotated[float, Field(ge=0, le=86_400)] | None = None
    """`throttle`; not said when absent."""
    after_events: Annotated[int, Field(ge=0, le=100_000)] | None = None
    """`stall` and `cut`: events with something of the answer in them that still get through; an answer
    that is no stream stops in its middle."""
    for_s: Annotated[float, Field(gt=0, le=MAX_FOR_S, allow_inf_nan=False)]
    """Time to live."""

    @model_validator(mode="after")
    def _whole(self) -> "FilterOrder":
        given = {
            name
            for name in ("ms", "status", "retry_after_s", "after_events")
            if getattr(self, name) is not None
        }
        if foreign := sorted(given - _TAKES[self.fault]):
            raise ValueError(f"{self.fault} does not take {', '.join(foreign)}")
        if "ms" in _TAKES[self.fault] and self.ms is None:
            raise ValueError(f"{self.fault} needs ms")
        return self


class Effect(NamedTuple):
    """What one attempt suffers."""

    refuse: bool = False
    status: int | None = None
    """Answered with it, in the target's place."""
    retry_after_s: float | None = None
    latency_s: float = 0.0
    ttft_s: float = 0.0
    stop: Literal["stall", "cut"] | None = None
    after: int = 0


@dataclass(slots=True)
class InForce:
    """One fault. `until` is monotonic."""

    order: FilterOrder
    until: float
    struck: int = 0
    """Attempts so far."""
    known: dict[str, bool] = field(default_factory=dict)

    def meets(self, target: str) -> bool:
        """Whether it is for that target."""
        found = self.known.get(target)
        if found is None:
            found = any(fnmatchcase(target, pattern) for pattern in self.order.targets)
            if len(self.known) < _MAX_KNOWN:
                self.known[target] = found
        return found


class FaultFilter:
    """The faults of one edge. `draw` gives numbers in [0, 1)."""

    __slots__ = ("_draw", "in_force", "struck")

    def __init__(self, draw: Callable[[], float]) -> None:
        self._draw = draw
        self.in_force: dict[str, InForce] = {}
        self.struck: dict[str, int] = {}
        """Attempts that suffered, by fault, since the start."""

    def put(self, name: str, order: FilterOrder, now: float) -> bool:
        """Put it in force, in place of one of the same id; whether it is new. Raises TooMany."""
        self.expire(now)
        known = self.in_force.get(name)
        if known is None and len(self.in_force) >= MAX_FAULTS:
            raise TooMany(f"{MAX_FAULTS} faults are in force already")
        if known is not None and known.order.model_copy(update={"for_s": order.for_s}) == order:
            known.until = now + order.for_s
        else:
            self.in_force[name] = InForce(order, now + order.for_s)
        return known is None

    def drop(self, name: str, now: float) -> bool:
        """End it; whether it was in force."""
        self.expire(now)
        return self.in_force.pop(name, None) is not None

    def expire(self, now: float) -> tuple[str, ...]:
        """Forget those whose time is over, and give their ids. They have had no effect since then."""
        over = tuple(name for name, fault in self.in_force.items() if now >= fault.until)
        for name in over:
            del self.in_force[name]
        return over

    def strike(self, target: str, now: float) -> Effect | None:
        """What an attempt at `target` suffers now; None for nothing. Draws once per fault that is for it."""
        effect: Effect | None = None
        for fault in self.in_force.values():
            order = fault.order
            if now >= fault.until or not fault.meets(target):
                continue
            if order.share_permille < 1000 and self._draw() * 1000.0 >= order.share_permille:
                continue
            fault.struck += 1
            self.struck[order.fault] = self.struck.get(order.fault, 0) + 1
            effect = _with(effect or Effect(), order)
        return effect

    def shown(self, now: float) -> list[dict[str, Any]]:
        """Those in force, for `GET /faults` and `/status`."""
        return [
            {
                "id": name,
                **fault.order.model_dump(mode="json", exclude_none=True),
                "remaining_s": round(fault.until - now, 3),
                "struck": fault.struck,
            }
            for name, fault in self.in_force.items()
            if now < fault.until
        ]


class TooMany(Exception):
    """No more faults are taken."""


def _with(effect: Effect, order: FilterOrder) -> Effect:
    match order.fault:
        case "refuse":
            return effect._replace(refuse=True)
        case "errors":
            return effect._replace(status=order.status or 503, retry_after_s=None)
        case "throttle":
            return effect._replace(status=429, retry_after_s=order.retry_after_s)
        case "latency":
            return effect._replace(latency_s=effect.latency_s + (order.ms or 0.0) / 1000.0)
        case "slow_ttft":
            return effect._replace(ttft_s=effect.ttft_s + (order.ms or 0.0) / 1000.0)
        case "stall" | "cut" as stop:
            after = EVENTS_BEFORE if order.after_events is None else order.after_events
            return effect._replace(stop=stop, after=after)


def answer_of(effect: Effect, dialect: Dialect) -> tuple[ResponseHead, bytes]:
    """The answer in a target's place. It says who gave it: where nobody else can answer, clients see it."""
    assert effect.status is not None
    throttled = effect.status == 429
    body = _error_body(dialect, effect.status, "rate_limit_error" if throttled else "server_error")
    again = b"" if effect.retry_after_s is None else b"retry-after: %d\r\n" % round(effect.retry_after_s)
    raw = b"%bcontent-type: application/json\r\ncontent-length: %d\r\n%b\r\n" % (
        status_line_of(effect.status),
        len(body),
        again,
    )
    return parse_response_head(raw), body


def _error_body(dialect: Dialect, status: int, kind: str) -> bytes:
    message = f"a drill's fault filter answers {status} in this target's place"
    if dialect is Dialect.ANTHROPIC:
        return msgspec.json.encode({"type": "error", "error": {"type": kind, "message": message}})
    if dialect is Dialect.HTTP:
        return msgspec.json.encode({"title": kind, "status": status, "detail": message})
    if dialect is Dialect.GEMINI:
        return gemini_error(status, "fault_filter", message)
    return msgspec.json.encode(
        {"error": {"message": message, "type": kind, "param": None, "code": "fault_filter"}}
    )


class Cutter:
    """Lets so many events of a stream through, counting those with something of the answer in them.

    From an event of more than `MAX_EVENT_BYTES` on everything gets through: a relay takes no such event, so it
    is its business. Each byte is looked at once.
    """

    __slots__ = ("_beyond", "_left", "_reader", "_rest")

    def __init__(self, kind: Kind, *, choices: int, after: int) -> None:
        self._reader = EventReader(kind, choices=choices)
        self._left = after
        self._rest = bytearray()
        self._beyond = False

    def feed(self, content: bytes) -> tuple[bytes, bool]:
        """What of it gets through, and whether that was the last."""
        if self._beyond:
            return content, False
        data = self._rest
        # The end of an event is at most four bytes, of which three may have come before.
        start = max(len(data) - 3, 0)
        data += content
        # A CR at the very end may be half of a line end.
        until = len(data) - data.endswith(b"\r")
        passed = 0
        while (end := EVENT_END.search(data, start, until)) is not None:
            self._reader.feed(LINE_END.sub(b"\n", bytes(data[passed : end.start()])) + b"\n\n")
            if self._reader.substance:
                if self._left == 0:
                    del data[passed:]
                    return self.rest(), True
                self._left -= 1
            passed = start = end.end()
        if len(data) - passed > MAX_EVENT_BYTES:
            self._beyond = True
            return self.rest(), False
        part = bytes(data[:passed])
        del data[:passed]
        return part, False

    def rest(self) -> bytes:
        """What was kept back of an event that never ended."""
        rest = bytes(self._rest)
        self._rest.clear()
        return rest
