"""The traces a keeper remembers: the latest, within bounds, and the telling ones longest.

Whole traces give way, the oldest first, for half a trace misleads. Ordinary requests and probes come all the time
and give way before decisions, drills and whatever failed; those in turn have at most three quarters of the room, so
that an outage does not push out the present.
"""

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Final, Literal, get_args

from shared.adapters.otlp import ReceivedSpan

Kind = Literal["decision", "drill", "request", "probe", "other"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)

MAX_SPANS: Final = 20_000
MAX_BYTES: Final = 64 * 1024 * 1024
MAX_SPANS_OF_ONE: Final = 5_000
"""Of one trace; what comes after them is counted and left out."""
TELLING_PART: Final = 0.75


class Ambiguous(LookupError):
    """Several traces begin with what was asked for."""


@dataclass(slots=True)
class KeptTrace:
    """One trace as far as it has come."""

    trace_id: str
    most: int = MAX_SPANS_OF_ONE
    """Spans of it that are kept."""
    spans: list[ReceivedSpan] = field(default_factory=list)
    size: int = 0
    left_out: int = 0
    start_ns: int = 0
    end_ns: int = 0
    failed: int = 0
    """Spans that say so."""
    moved: bool = False
    """A request that took more than one attempt."""
    marks: dict[str, str] = field(default_factory=dict)
    kind: Kind = "other"

    def take(self, span: ReceivedSpan) -> None:
        """One more of its spans."""
        self.start_ns = min(self.start_ns or span.start_ns, span.start_ns)
        self.end_ns = max(self.end_ns, span.end_ns)
        self.failed += span.failed
        self.moved = self.moved or span.marks.get("leeward.attempts", "1") not in ("0", "1")
        if self.kind != "decision" or span.name == "decide":
            self.marks.update(span.marks)
        self.kind = min(self.kind, _kind(span), key=KINDS.index)
        if len(self.spans) >= self.most:
            self.left_out += 1
            return
        self.spans.append(span)
        self.size += span.size

    @property
    def telling(self) -> bool:
        """Whether it is kept longer than ordinary ones."""
        return self.kind in ("decision", "drill") or self.moved or bool(self.failed)

    @property
    def root(self) -> ReceivedSpan:
        """The span that nothing here is above of; the earliest of several."""
        known = {span.span_id for span in self.spans}
        roots = [span for span in self.spans if span.parent_id not in known]
        return min(roots or self.spans, key=lambda span: span.start_ns)

    @property
    def linked(self) -> set[str]:
        """Trace ids that its spans are linked to."""
        return {other for span in self.spans for other in span.links}


def _kind(span: ReceivedSpan) -> Kind:
    if span.name == "decide":
        return "decision"
    if "leeward.drill" in span.marks:
        return "drill"
    if span.is_server:
        return "request"
    return "probe" if span.name == "probe" else "other"


class Ring:
    """Mutable; bounded by spans and by bytes."""

    def __init__(
        self,
        *,
        max_spans: int = MAX_SPANS,
        max_bytes: int = MAX_BYTES,
        max_spans_of_one: int = MAX_SPANS_OF_ONE,
    ) -> None:
        self._max_spans = max_spans
        self._max_bytes = max_bytes
        self._max_spans_of_one = max_spans_of_one
        # A plain dict looks for its first entry among all those that have gone before it.
        self._ordinary: OrderedDict[str, KeptTrace] = OrderedDict()
        self._telling: OrderedDict[str, KeptTrace] = OrderedDict()
        self._linked_from: dict[str, set[str]] = {}
        self._requests: dict[str, str] = {}
        self.spans = 0
        self.bytes = 0
        self._telling_spans = 0
        self.received = 0
        """Ever."""

    def add(self, spans: Iterable[ReceivedSpan]) -> None:
        """Keep `spans`; the oldest traces give way. Of one export at most as many are read as there is room
        for."""
        for span in islice(spans, self._max_spans):
            self._add(span)
            while self.spans > self._max_spans or self.bytes > self._max_bytes:
                self._evict()

    def latest(self, *, kind: Kind | None = None, limit: int) -> list[KeptTrace]:
        """The traces that began last, newest first."""
        found = [trace for trace in self._all() if kind is None or trace.kind == kind]
        return sorted(found, key=lambda trace: trace.start_ns, reverse=True)[:limit]

    def find(self, asked: str) -> KeptTrace | None:
        """The trace with the id `asked`, the only one that begins so (6 characters and more), or the one of the
        request with that id. Raises Ambiguous."""
        asked = self._requests.get(asked, asked.lower())
        known = self._ordinary.get(asked) or self._telling.get(asked)
        if known is not None or len(asked) < 6:
            return known
        found = [trace for trace in self._all() if trace.trace_id.startswith(asked)]
        if len(found) > 1:
            raise Ambiguous(f"{len(found)} traces begin with {asked}: give more of the id")
        return found[0] if found else None

    def joined(self, trace: KeptTrace) -> list[KeptTrace]:
        """The kept traces that a link joins to `trace`, either way, oldest first."""
        others = (trace.linked | self._linked_from.get(trace.trace_id, set())) - {trace.trace_id}
        found = [self._ordinary.get(other) or self._telling.get(other) for other in others]
        return sorted((one for one in found if one is not None), key=lambda one: one.start_ns)

    def _all(self) -> Iterator[KeptTrace]:
        yield from self._ordinary.values()
        yield from self._telling.values()

    def _add(self, span: ReceivedSpan) -> None:
        trace = self._ordinary.get(span.trace_id) or self._telling.get(span.trace_id)
        if trace is None:
            trace = self._ordinary[span.trace_id] = KeptTrace(span.trace_id, self._max_spans_of_one)
        was_telling = span.trace_id in self._telling
        spans, size = len(trace.spans), trace.size
        trace.take(span)
        self.received += 1
        self.spans += len(trace.spans) - spans
        self.bytes += trace.size - size
        if was_telling:
            self._telling_spans += len(trace.spans) - spans
        elif trace.telling:
            del self._ordinary[span.trace_id]
            self._telling[span.trace_id] = trace
            self._telling_spans += len(trace.spans)
        if len(trace.spans) == spans:
            return
        for other in span.links:
            self._linked_from.setdefault(other, set()).add(span.trace_id)
        if span.is_server and "leeward.request_id" in span.marks:
            self._requests[span.marks["leeward.request_id"]] = span.trace_id

    def _evict(self) -> None:
        crowded = self._telling_spans > self._max_spans * TELLING_PART or not self._ordinary
        group = self._telling if crowded and self._telling else self._ordinary
        _, trace = group.popitem(last=False)
        self.spans -= len(trace.spans)
        self.bytes -= trace.size
        if group is self._telling:
            self._telling_spans -= len(trace.spans)
        for other in trace.linked:
            sources = self._linked_from.get(other, set())
            sources.discard(trace.trace_id)
            if not sources:
                self._linked_from.pop(other, None)
        for span in trace.spans:
            self._requests.pop(span.marks.get("leeward.request_id", ""), None)
