"""EventFold: everything that sources have said, reduced to their latest word.

The rule. An event is absolute state, stamped `(boot, seq)` by its source. Of each source the fold
keeps the greatest boot, and within that boot, for each probe entry `(target, monitor)` and each
passive window `(target)`, the word with the greatest seq. So the result depends on the *set* of
events received and not on their order or number: duplicates, delay and reordering change nothing,
and a lost event is made good by the next round.

A new boot voids all that older boots said, at once: a restarted process knows nothing yet, and
saying so (UNKNOWN) is safe, because nothing that comes later treats silence as DOWN. A late message
of an older boot is ignored.

Freshness is by monotonic time of receipt. A source is renewed by an event newer than all before it,
an entry when the probe behind it is another one (`probed_at` differs, compared for equality alone:
clocks of other machines are never measured against ours). A prober that repeats its state while its
probes hang therefore goes stale, and a replayed topic keeps nobody alive.

Bounds: `MAX_SOURCES` sources, `MAX_TARGETS` targets, `MAX_WORDS` entries; what is over is refused and
counted in `refused`. `forget` drops what has been silent. A source whose boot number was lost (state
directory emptied) is heard again when its former self has been forgotten.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from shared.vocabulary.config import MAX_TARGETS
from shared.vocabulary.health import HealthEvent, PassiveWindow, ProbeState, RouteLoad
from shared.vocabulary.terms import Outcome, Role

if TYPE_CHECKING:
    from control_plane.core.conclusion import Circumstances, Conclusion

MAX_SOURCES = 5_000
MAX_WORDS = 4_000_000
MAX_LOADS = 10_000
"""Routes of one edge."""
STALE_AFTER_INTERVALS = 3
"""An entry is stale when three of its probes in a row are missing; one lost probe is an accident."""

BROKEN = (Outcome.REFUSED, Outcome.FAILED, Outcome.TIMED_OUT)
"""Outcomes of live traffic that speak against a target."""


@dataclass(slots=True, eq=False)
class Source:
    """One prober, edge or control-plane replica, by its newest event."""

    id: str
    role: Role
    vantage: str
    boot: int
    seq: int
    config_version: int
    heard_at: float
    """Monotonic receipt of its newest event."""
    probes: "dict[tuple[str, str], ProbeWord]" = field(default_factory=dict)
    passive: "dict[str, PassiveWord]" = field(default_factory=dict)
    loads: "dict[str, LoadWord]" = field(default_factory=dict)
    """By route; an edge's."""


@dataclass(slots=True, eq=False)
class ProbeWord:
    """The latest word of one prober's monitor on one target. Its boot is its source's."""

    source: Source
    about: "TargetWords"
    seq: int
    state: ProbeState
    named_at: float
    """Monotonic receipt of the latest event that names it."""
    renewed_at: float
    """Monotonic receipt of the latest probe."""
    shown_ms: float = 0.0
    """The `latency_ms_p50` last concluded from, so that only real drift asks for a new conclusion."""
    broken_since: float = float("inf")
    """Monotonic receipt of the first of the outcomes that speak against the target without a break."""

    def stale_at(self, source_timeout_s: float) -> float:
        """Monotonic time after which it counts for nothing."""
        return self.renewed_at + max(STALE_AFTER_INTERVALS * self.state.interval_s, source_timeout_s)


@dataclass(slots=True, eq=False)
class PassiveWord:
    """The latest window of one edge on one target. Its boot is its source's."""

    source: Source
    about: "TargetWords"
    seq: int
    window: PassiveWindow
    named_at: float
    observed_at: datetime
    traceparent: str | None

    def stale_at(self, source_timeout_s: float) -> float:
        """Monotonic time after which all its attempts are outside the window."""
        return self.named_at + max(self.window.window_s, source_timeout_s)


@dataclass(slots=True, eq=False)
class LoadWord:
    """The latest word of one edge on what it carries of one route."""

    seq: int
    load: RouteLoad
    named_at: float


@dataclass(slots=True, eq=False)
class TargetWords:
    """All that is said about one target."""

    id: str
    probes: dict[tuple[str, str], ProbeWord] = field(default_factory=dict)
    """Under `(source, monitor)`."""
    passive: dict[str, PassiveWord] = field(default_factory=dict)
    """Under the source."""
    conclusion: "Conclusion | None" = None
    """What `conclude` last made of it; dropped here whenever something said changes."""


class EventFold:
    """The one mutable value of the core; deterministic, without a clock."""

    def __init__(self) -> None:
        self.sources: dict[str, Source] = {}
        self.targets: dict[str, TargetWords] = {}
        self.refused = 0
        """Words turned away at a bound, since the start."""
        self.circumstances: Circumstances | None = None
        """Under which the conclusions beside the words were drawn; `conclude` keeps it."""
        self._words = 0

    def apply(self, event: HealthEvent, *, received_at: float) -> bool:
        """Take in one event; `received_at` is monotonic seconds.

        True when something other than freshness changed that a conclusion may rest on: a source, its
        place, a probe's state, outcome or detail, or live traffic going wrong. Latency and traffic
        that goes well wait for the next tick.
        """
        source = self.sources.get(event.source)
        if source is None:
            if len(self.sources) >= MAX_SOURCES:
                self.refused += 1
                return False
            source = self.sources[event.source] = Source(
                id=event.source,
                role=event.role,
                vantage=event.vantage,
                boot=event.boot,
                seq=event.seq,
                config_version=event.config_version,
                heard_at=received_at,
            )
            changed = True
        elif event.boot < source.boot:
            return False
        else:
            changed = self._renew(source, event, received_at)
        for state in event.probes:
            changed |= self._take_probe(source, event, state, received_at)
        for window in event.passive:
            changed |= self._take_window(source, event, window, received_at)
        for load in event.routes:
            self._take_load(source, event.seq, load, received_at)
        return changed

    def forget(self, *, before: float) -> None:
        """Drop sources not heard since `before` (monotonic), and entries no event has named since."""
        for source in [each for each in self.sources.values() if each.heard_at < before]:
            self._void(source)
            del self.sources[source.id]
        for source in self.sources.values():
            for key in [key for key, word in source.probes.items() if word.named_at < before]:
                self._drop_probe(source, key)
            for target in [target for target, word in source.passive.items() if word.named_at < before]:
                self._drop_window(source, target)
            for route in [route for route, word in source.loads.items() if word.named_at < before]:
                del source.loads[route]

    def fresh_sources(self, *, monotonic: float, timeout_s: float) -> Iterator[Source]:
        """Sources heard within `timeout_s`."""
        return (each for each in self.sources.values() if monotonic - each.heard_at <= timeout_s)

    def _renew(self, source: Source, event: HealthEvent, received_at: float) -> bool:
        if (event.boot, event.seq) <= (source.boot, source.seq):
            return False
        changed = False
        if event.boot > source.boot:
            changed = bool(source.probes or source.passive)
            self._void(source)
        if (event.role, event.vantage) != (source.role, source.vantage):
            source.role, source.vantage = event.role, event.vantage
            abouts = [word.about for word in source.probes.values()]
            abouts += [word.about for word in source.passive.values()]
            for about in abouts:
                about.conclusion = None
            changed = True
        source.boot, source.seq = event.boot, event.seq
        source.config_version = event.config_version
        source.heard_at = received_at
        return changed

    def _take_probe(self, source: Source, event: HealthEvent, state: ProbeState, received_at: float) -> bool:
        word = source.probes.get((state.target, state.monitor))
        if word is None:
            about = self._about(state.target)
            if about is None:
                return False
            word = ProbeWord(source, about, event.seq, state, received_at, received_at)
            if state.outcome in BROKEN:
                word.broken_since = received_at
            source.probes[state.target, state.monitor] = word
            about.probes[source.id, state.monitor] = word
            about.conclusion = None
            return True
        if event.seq <= word.seq:
            return False
        before = word.state
        word.seq = event.seq
        word.state = state
        word.named_at = received_at
        if state.probed_at != before.probed_at:
            # After so long a pause it may have been concluded to be stale, which this now undoes.
            if received_at - word.renewed_at > STALE_AFTER_INTERVALS * before.interval_s:
                word.about.conclusion = None
            word.renewed_at = received_at
        if (
            state.outcome is not before.outcome
            or state.state != before.state
            or state.hard is not before.hard
            or state.detail != before.detail
        ):
            word.about.conclusion = None
            if state.outcome not in BROKEN:
                word.broken_since = float("inf")
            elif before.outcome not in BROKEN:
                word.broken_since = received_at
            return True
        if state.garbled != before.garbled or (state.garbled and state.judged != before.judged):
            word.about.conclusion = None
        if abs(state.latency_ms_p50 - word.shown_ms) > 1.0 + 0.1 * word.shown_ms:
            word.about.conclusion = None
        return False

    def _take_window(
        self, source: Source, event: HealthEvent, window: PassiveWindow, received_at: float
    ) -> bool:
        word = source.passive.get(window.target)
        if word is None:
            about = self._about(window.target)
            if about is None:
                return False
            source.passive[window.target] = about.passive[source.id] = PassiveWord(
                source, about, event.seq, window, received_at, event.observed_at, event.traceparent
            )
            about.conclusion = None
            return broken(window) > 0
        if event.seq <= word.seq:
            return False
        before = word.window
        word.seq = event.seq
        word.window = window
        word.named_at = received_at
        word.observed_at = event.observed_at
        word.traceparent = event.traceparent
        word.about.conclusion = None
        return broken(window) > broken(before)

    def _take_load(self, source: Source, seq: int, load: RouteLoad, received_at: float) -> None:
        word = source.loads.get(load.route)
        if word is None:
            if len(source.loads) >= MAX_LOADS:
                self.refused += 1
                return
        elif seq <= word.seq:
            return
        source.loads[load.route] = LoadWord(seq, load, received_at)

    def _about(self, target: str) -> TargetWords | None:
        words = self.targets.get(target)
        if (words is None and len(self.targets) >= MAX_TARGETS) or self._words >= MAX_WORDS:
            self.refused += 1
            return None
        if words is None:
            words = self.targets[target] = TargetWords(target)
        self._words += 1
        return words

    def _void(self, source: Source) -> None:
        for key in list(source.probes):
            self._drop_probe(source, key)
        for target in list(source.passive):
            self._drop_window(source, target)
        source.loads.clear()

    def _drop_probe(self, source: Source, key: tuple[str, str]) -> None:
        word = source.probes.pop(key)
        del word.about.probes[source.id, key[1]]
        self._dropped(word.about)

    def _drop_window(self, source: Source, target: str) -> None:
        word = source.passive.pop(target)
        del word.about.passive[source.id]
        self._dropped(word.about)

    def _dropped(self, about: TargetWords) -> None:
        self._words -= 1
        about.conclusion = None
        if not about.probes and not about.passive:
            del self.targets[about.id]


def broken(window: PassiveWindow) -> int:
    """Attempts of `window` that speak against the target."""
    return sum(window.counts.get(outcome, 0) for outcome in BROKEN)
