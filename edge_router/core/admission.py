"""Local ejection: whether a target is sent requests at all, by what this edge itself just saw of it.

    states       ADMITTING   requests go there
                 EJECTED     none do, until the bench is over
                 PROBATION   one trial request at a time; its result decides
    demerits     Consecutive, by outcome: silence ejects after two (each costs a client a whole timeout),
                 other failures after three: a refusal costs one round trip, and a lone one is an accident
                 (see docs/decisions/0014). A good answer clears them. THROTTLED brings none: a busy target
                 is alive, and cooling is kept apart from ejection.
    share        Failures that good answers interrupt add up as well: at least half of twenty attempts in
                 the window, since it was last admitted again, eject. A moving average would remember
                 failures from before a quiet night; the window forgets them. Who is ejected so still answers
                 some: `by_share`, which lets whoever chooses keep it in when too many are out (`choose`)
    bench        1 s, doubled with each ejection up to 60 s: a target that comes back is tried soon, one
                 that does not costs one trial a minute. A minute of good conduct forgets the past.
    not here     That something is always left to try: whoever chooses falls back on EJECTED targets when
                 there is nothing else (see `choose`).

This reacts within a few requests, long before the global loop, and knows only this edge's view.
When a state is added, `_TABLE` must name it under every event; `step` raises KeyError otherwise.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from shared.vocabulary.terms import Outcome

EJECT_AT: Final = 3
EJECT_SHARE: Final = 0.5
EJECT_SHARE_OF: Final = 20
"""Attempts: of fewer, half may be bad luck."""
BENCH_S: Final = 1.0
BENCH_CAP_S: Final = 60.0
FORGIVE_S: Final = 60.0

DEMERITS: Final[Mapping[Outcome, int]] = {
    Outcome.REFUSED: 1,
    Outcome.TIMED_OUT: 2,
    Outcome.FAILED: 1,
    Outcome.GARBLED: 1,
    Outcome.THROTTLED: 0,
    Outcome.OK: 0,
    Outcome.SLOW: 0,
}


class State(StrEnum):
    """Where a target stands with this edge."""

    ADMITTING = "ADMITTING"
    EJECTED = "EJECTED"
    PROBATION = "PROBATION"


class Event(StrEnum):
    """What happens to it."""

    GOOD = "GOOD"
    """An attempt brought an answer, even a client's fault."""
    BAD = "BAD"
    """An attempt brought demerits, not enough to eject."""
    TOO_BAD = "TOO_BAD"
    """Demerits have reached `EJECT_AT`."""
    TRIAL = "TRIAL"
    """The bench is over and a request is about to be sent."""
    DROPPED = "DROPPED"
    """An attempt ended without telling anything: the client went away, or it was throttled."""


@dataclass(frozen=True, slots=True)
class Admission:
    """One target's standing. Times are monotonic seconds."""

    state: State = State.ADMITTING
    demerits: int = 0
    ejections: int = 0
    """In a row, without `FORGIVE_S` of good conduct between."""
    until: float = 0.0
    """End of the bench."""
    since: float = 0.0
    """When it was last admitted again."""
    trial: bool = False
    """A trial is under way."""
    by_share: bool = False
    """Ejected for its share of failures, not for a run of them."""


CLEAN: Final = Admission()

_TABLE: Final[Mapping[tuple[State, Event], State]] = {
    (State.ADMITTING, Event.GOOD): State.ADMITTING,
    (State.ADMITTING, Event.BAD): State.ADMITTING,
    (State.ADMITTING, Event.TOO_BAD): State.EJECTED,
    (State.ADMITTING, Event.TRIAL): State.ADMITTING,
    (State.ADMITTING, Event.DROPPED): State.ADMITTING,
    # What was sent before the ejection, or as a last resort. A good answer on the bench is a trial won.
    (State.EJECTED, Event.GOOD): State.ADMITTING,
    (State.EJECTED, Event.BAD): State.EJECTED,
    (State.EJECTED, Event.TOO_BAD): State.EJECTED,
    (State.EJECTED, Event.TRIAL): State.PROBATION,
    (State.EJECTED, Event.DROPPED): State.EJECTED,
    (State.PROBATION, Event.GOOD): State.ADMITTING,
    (State.PROBATION, Event.BAD): State.EJECTED,
    (State.PROBATION, Event.TOO_BAD): State.EJECTED,
    (State.PROBATION, Event.TRIAL): State.PROBATION,
    (State.PROBATION, Event.DROPPED): State.PROBATION,
}


def admits(admission: Admission, now: float) -> bool:
    """Whether a request may be sent; on PROBATION, or with the bench over, it would be the trial."""
    if admission.state is State.ADMITTING:
        return True
    if admission.state is State.EJECTED:
        return now >= admission.until
    return not admission.trial


def after_outcome(admission: Admission, outcome: Outcome, now: float) -> Admission:
    """An attempt ended with `outcome`."""
    demerits = DEMERITS[outcome]
    if demerits == 0:
        return step(admission, Event.GOOD if outcome.good else Event.DROPPED, now)
    worse = replace(admission, demerits=min(admission.demerits + demerits, EJECT_AT))
    return step(worse, Event.TOO_BAD if worse.demerits >= EJECT_AT else Event.BAD, now)


def after_window(admission: Admission, counts: Mapping[Outcome, int], now: float) -> Admission:
    """What the last seconds came to is looked at as a whole. `counts` are of attempts since `since`."""
    judged = sum(count for outcome, count in counts.items() if outcome is not Outcome.THROTTLED)
    bad = sum(count for outcome, count in counts.items() if DEMERITS[outcome])
    if admission.state is State.ADMITTING and judged >= EJECT_SHARE_OF and bad >= EJECT_SHARE * judged:
        return replace(step(admission, Event.TOO_BAD, now), by_share=True)
    return admission


def step(admission: Admission, event: Event, now: float) -> Admission:
    """The standing after `event` at `now`."""
    state = _TABLE[admission.state, event]
    if state is State.EJECTED:
        return admission if admission.state is State.EJECTED else _ejected(admission, now)
    if state is State.PROBATION:
        return replace(admission, state=state, trial=event is Event.TRIAL)
    if admission.state is not State.ADMITTING:
        return Admission(ejections=admission.ejections, since=now)
    if event is Event.GOOD:
        forgiven = admission.ejections and now - admission.since >= FORGIVE_S
        return CLEAN if forgiven or not admission.ejections else replace(admission, demerits=0)
    return admission


def _ejected(admission: Admission, now: float) -> Admission:
    good_conduct = admission.state is State.ADMITTING and now - admission.since >= FORGIVE_S
    before = 0 if good_conduct else admission.ejections
    bench_s = min(BENCH_CAP_S, BENCH_S * 2.0 ** min(before, 16))
    return Admission(state=State.EJECTED, ejections=before + 1, until=now + bench_s)
