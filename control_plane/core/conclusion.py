"""Conclusion: what is made of one target's words, kept beside them until they change.

Economy: a tick with 2,000 targets must cost next to nothing. A conclusion is used again until one of its
words changes or goes stale, the configuration is another one, or another set of sources is fresh. While
everybody repeats the same, the event quoted as evidence may therefore be up to two `REDRAW_S` older than
the newest that says so, and the number of answers judged as old where none of them was wrong; nothing else
of the view depends on whether a conclusion was remembered.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from statistics import median

from control_plane.core.contrarian import NO_SIDES, Ballot, ballot_of, set_aside
from control_plane.core.fold import EventFold, PassiveWord, ProbeWord, Source, TargetWords
from control_plane.core.passive import fresh_windows, summaries
from control_plane.core.quality import Answers, answers_of
from control_plane.core.roster import Roster, Watch
from control_plane.core.votes import fresh_words, votes_of
from shared.vocabulary.config import FleetConfig, Policy
from shared.vocabulary.view import PassiveSummary, TargetHealth, Vote

REDRAW_S = 30.0
"""Conclusions are drawn anew at least every one to two of these, each target at its own moment."""


@dataclass(slots=True, eq=False)
class Conclusion:
    """What was made of one target's words, kept in the fold until they change."""

    votes: tuple[Vote, ...] = ()
    ballot: Ballot = NO_SIDES
    passive: tuple[PassiveSummary, ...] = ()
    latency_ms_p50: float | None = None
    good_until: float = inf
    """Monotonic time at which the earliest word behind it goes stale."""
    probes: Sequence[ProbeWord] = ()
    windows: Sequence[PassiveWord] = ()
    """The words behind it."""
    answers: tuple[Answers, ...] = ()
    accused_since: float = inf
    """Monotonic time from which the probes of a majority have been failing, DOWN already or not yet."""
    redraw_at: float = inf
    """Monotonic time from which it is drawn anew, to quote newer events."""
    health: TargetHealth | None = None
    """As last put into a view."""


@dataclass(frozen=True, slots=True, eq=False)
class Circumstances:
    """What all conclusions rest on besides their own words."""

    config: FleetConfig
    fresh: frozenset[str]
    aside: frozenset[str]


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """The conclusions of this moment; those not named here are the ones of the moment before."""

    aside: frozenset[str]
    """Vantages set aside."""
    renewed: Sequence[str]
    """Targets whose conclusion is another one, or all when another vantage is set aside."""
    accused: Sequence[str]
    """Targets that most probes fail on."""


def draw(
    fold: EventFold, config: FleetConfig, roster: Roster, fresh: Mapping[str, Source], *, monotonic: float
) -> Drawn:
    """Renew the conclusions in `fold` that no longer hold; `fresh` are the observers that count."""
    policy = config.fleet.policy
    last = fold.circumstances
    same = last is not None and last.config is config and last.fresh == fresh.keys()
    renewed: list[str] = []
    accused: list[str] = []
    conclusions: list[Conclusion] = []
    for place, target in enumerate(config.fleet.targets):
        words = fold.targets.get(target.id)
        if words is None:
            continue
        conclusion = words.conclusion
        if conclusion is None or not same or not _still_good(conclusion, policy, monotonic=monotonic):
            conclusion = words.conclusion = _conclusion(
                words, roster.watches[target.id], fresh, policy, monotonic=monotonic
            )
            conclusion.redraw_at = monotonic + REDRAW_S * (1 + place % 64 / 64)
            renewed.append(target.id)
        if conclusion.accused_since < inf:
            accused.append(target.id)
        conclusions.append(conclusion)
    if last is not None and same and not renewed:
        return Drawn(last.aside, renewed, accused)
    aside = set_aside(conclusion.ballot for conclusion in conclusions)
    if last is None or aside != last.aside:
        renewed = [target.id for target in config.fleet.targets if target.id in fold.targets]
        for conclusion in conclusions:
            conclusion.health = None
    fold.circumstances = Circumstances(config, frozenset(fresh), aside)
    return Drawn(aside, renewed, accused)


def _conclusion(
    words: TargetWords, watch: Watch, fresh: Mapping[str, Source], policy: Policy, *, monotonic: float
) -> Conclusion:
    timeout_s = policy.source_timeout_s
    probes = fresh_words(words.probes.values(), watch, fresh, timeout_s=timeout_s, monotonic=monotonic)
    windows = fresh_windows(words.passive.values(), fresh, timeout_s=timeout_s, monotonic=monotonic)
    latencies: list[float] = []
    for word in probes:
        word.shown_ms = word.state.latency_ms_p50
        if word.state.state == "UP" and word.shown_ms > 0:
            latencies.append(word.shown_ms)
    votes = votes_of(probes)
    return Conclusion(
        votes=votes,
        ballot=ballot_of(votes),
        passive=summaries(windows, policy) if windows else (),
        latency_ms_p50=median(latencies) if latencies else None,
        good_until=min((word.stale_at(timeout_s) for word in _words(probes, windows)), default=inf),
        probes=probes,
        windows=windows,
        answers=answers_of(probes, windows),
        accused_since=_accused_since(probes, watch),
    )


def _accused_since(probes: Sequence[ProbeWord], watch: Watch) -> float:
    """When the vantages that see it fail became more than half of those that speak, and the quorum."""
    since: dict[str, float] = {}
    for word in probes:
        vantage = word.source.vantage
        since[vantage] = min(since.get(vantage, inf), word.broken_since)
    needed = max(1, watch.quorum, len(since) // 2 + 1)
    return sorted(since.values())[needed - 1] if len(since) >= needed else inf


def _still_good(conclusion: Conclusion, policy: Policy, *, monotonic: float) -> bool:
    """Whether every word behind it still counts. Whoever was stale and spoke again dropped it."""
    if monotonic <= conclusion.good_until:
        return True
    if monotonic > conclusion.redraw_at:
        return False
    timeout_s = policy.source_timeout_s
    words = _words(conclusion.probes, conclusion.windows)
    conclusion.good_until = min(word.stale_at(timeout_s) for word in words)
    return monotonic <= conclusion.good_until


def _words(
    probes: Sequence[ProbeWord], windows: Sequence[PassiveWord]
) -> tuple[ProbeWord | PassiveWord, ...]:
    return (*probes, *windows)
