"""The health view: what the control plane concludes from all that was said.

Per target: the votes of its vantages (`votes`), without those set aside (`contrarian`), give the
global verdict by quorum; live traffic failing in two regions makes it DOWN on its own (`passive`).
What one region alone sees stays in `votes` and `passive`, for `decide` to refine by.

Silence is UNKNOWN, never DOWN, by construction: DOWN is only ever counted from fresh words.

Economy: a tick with 2,000 targets must cost next to nothing. A target's conclusion stands in the
fold beside its words and is used again until one of them changes or goes stale, the configuration is
another one, or another set of sources is fresh. While everybody repeats the same, the event quoted as
evidence may therefore be up to two `REDRAW_S` older than the newest that says so; nothing else of the
view depends on whether a conclusion was remembered. `since` depends on `previous` alone.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import median
from typing import Literal

from control_plane.core.contrarian import set_aside
from control_plane.core.fold import EventFold, PassiveWord, ProbeWord, Source, TargetWords
from control_plane.core.passive import FAILING_REGIONS_FOR_DOWN, fresh_windows, summaries
from control_plane.core.roster import Roster, Watch, roster_of
from control_plane.core.votes import count, fresh_words, votes_of
from shared.vocabulary.config import Fleet, FleetConfig, Policy, Target
from shared.vocabulary.terms import Verdict
from shared.vocabulary.view import (
    BusHealth,
    HealthView,
    PassiveSummary,
    RegionHealth,
    SourceHealth,
    TargetHealth,
    Vote,
)

HEALTHY_SHARE = 0.95
DEGRADED_SHARE = 0.80
"""Of all targets being HEALTHY, for the overall status."""
REDRAW_S = 30.0
"""Conclusions are drawn anew at least every one to two of these, each target at its own moment."""


@dataclass(slots=True, eq=False)
class Conclusion:
    """What was made of one target's words, kept in the fold until they change."""

    votes: tuple[Vote, ...]
    passive: tuple[PassiveSummary, ...]
    latency_ms_p50: float | None
    good_until: float
    """Monotonic time at which the earliest word behind it goes stale."""
    counted: tuple[ProbeWord | PassiveWord, ...] = ()
    """The words behind it."""
    redraw_at: float = float("inf")
    """Monotonic time from which it is drawn anew, to quote newer events."""
    health: TargetHealth | None = None
    """As last put into a view."""


@dataclass(frozen=True, slots=True, eq=False)
class Circumstances:
    """What all conclusions rest on besides their own words."""

    config: FleetConfig
    fresh: frozenset[str]
    aside: frozenset[str]


def conclude(
    fold: EventFold,
    config: FleetConfig,
    *,
    replica: str,
    now: datetime,
    monotonic: float,
    previous: HealthView | None,
    buses: tuple[BusHealth, ...] = (),
) -> HealthView:
    """The view at `monotonic` (the clock of `fold`'s receipts); `now` is UTC, for people.

    `since` of a verdict that did not change is carried over from `previous`.
    """
    fleet = config.fleet
    roster = roster_of(config)
    fresh = {
        source.id: source
        for source in fold.fresh_sources(monotonic=monotonic, timeout_s=fleet.policy.source_timeout_s)
    }
    aside = _bring_up_to_date(fold, config, roster, fresh, monotonic=monotonic)
    before = {health.id: health for health in previous.targets} if previous else {}
    targets = tuple(
        _health(
            target, fold.targets.get(target.id), roster.watches[target.id], aside, before.get(target.id), now
        )
        for target in fleet.targets
    )
    return HealthView(
        as_of=now,
        replica=replica,
        status=_status(targets),
        config_version=config.config_version,
        regions=_regions(fleet, targets, fold, fresh),
        targets=targets,
        sources=_sources(fold, fresh, monotonic=monotonic),
        buses=buses,
        set_aside=tuple(sorted(aside)),
    )


def _bring_up_to_date(
    fold: EventFold, config: FleetConfig, roster: Roster, fresh: Mapping[str, Source], *, monotonic: float
) -> frozenset[str]:
    """Renew the conclusions that no longer hold; returns the vantages set aside."""
    policy = config.fleet.policy
    last = fold.circumstances
    same = last is not None and last.config is config and last.fresh == fresh.keys()
    renewed = not same
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
            renewed = True
        conclusions.append(conclusion)
    if last is not None and not renewed:
        return last.aside
    aside = set_aside(conclusion.votes for conclusion in conclusions)
    if last is None or aside != last.aside:
        for conclusion in conclusions:
            conclusion.health = None
    fold.circumstances = Circumstances(config, frozenset(fresh), aside)
    return aside


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
    counted: tuple[ProbeWord | PassiveWord, ...] = (*probes, *windows)
    return Conclusion(
        votes=votes_of(probes),
        passive=summaries(windows, policy),
        latency_ms_p50=median(latencies) if latencies else None,
        good_until=min((word.stale_at(timeout_s) for word in counted), default=float("inf")),
        counted=counted,
    )


def _still_good(conclusion: Conclusion, policy: Policy, *, monotonic: float) -> bool:
    """Whether every word behind it still counts. Whoever was stale and spoke again dropped it."""
    if monotonic <= conclusion.good_until:
        return True
    if monotonic > conclusion.redraw_at:
        return False
    conclusion.good_until = min(word.stale_at(policy.source_timeout_s) for word in conclusion.counted)
    return monotonic <= conclusion.good_until


def _health(
    target: Target,
    words: TargetWords | None,
    watch: Watch,
    aside: frozenset[str],
    before: TargetHealth | None,
    now: datetime,
) -> TargetHealth:
    conclusion = words.conclusion if words else None
    if conclusion is None:
        conclusion = Conclusion((), (), None, float("inf"))
        conclusion.health = before if _says_nothing(before, target) else None
    if conclusion.health is not None and conclusion.health is before:
        return before
    verdict, hard, reason = _verdict(conclusion.votes, conclusion.passive, watch, aside)
    health = TargetHealth(
        id=target.id,
        region=target.region,
        provider=target.provider,
        verdict=verdict,
        hard=hard,
        since=before.since if before is not None and before.verdict is verdict else now,
        votes=conclusion.votes,
        passive=conclusion.passive,
        latency_ms_p50=conclusion.latency_ms_p50,
        reason=reason,
    )
    conclusion.health = health
    return health


def _says_nothing(health: TargetHealth | None, target: Target) -> bool:
    return health is not None and (
        (health.votes, health.passive, health.verdict, health.region, health.provider)
        == ((), (), Verdict.UNKNOWN, target.region, target.provider)
    )


def _verdict(
    votes: Sequence[Vote], passive: Sequence[PassiveSummary], watch: Watch, aside: frozenset[str]
) -> tuple[Verdict, bool, str]:
    failing = [summary.region for summary in passive if summary.failing]
    if len(failing) >= FAILING_REGIONS_FOR_DOWN:
        return Verdict.DOWN, True, f"live traffic fails in {len(failing)} regions: {', '.join(failing)}"
    heard = [vote for vote in votes if vote.vantage not in aside]
    counted = count([(vote.verdict, vote.hard) for vote in heard], quorum=max(1, watch.quorum))
    ignored = [vote.vantage for vote in votes if vote.vantage in aside]
    reason = _in_words(counted.verdict, heard, counted.down, counted.fresh, watch.quorum)
    if ignored:
        reason += f"; set aside: {', '.join(ignored)}"
    if failing:
        reason += f"; live traffic fails in {failing[0]}"
    return counted.verdict, counted.hard, reason


def _in_words(verdict: Verdict, votes: Sequence[Vote], down: int, fresh: int, quorum: int) -> str:
    details = Counter(
        ref.detail or ref.outcome.value
        for vote in votes
        if vote.verdict is Verdict.DOWN
        for ref in vote.evidence
    )
    cause = f": {details.most_common(1)[0][0]}" if details else ""
    if not fresh:
        return "no fresh vantage speaks"
    if verdict is Verdict.DOWN:
        return f"{down} of {fresh} vantages DOWN{cause}"
    if verdict is Verdict.UNKNOWN:
        short = f", {quorum} are needed" if down == fresh else ", which is no majority"
        return f"{down} of {fresh} vantages DOWN{short}{cause}"
    healthy = sum(vote.verdict is Verdict.HEALTHY for vote in votes)
    dissent = f", {down} DOWN{cause}" if down else ""
    return f"{healthy} of {fresh} vantages HEALTHY{dissent}"


def _status(targets: Sequence[TargetHealth]) -> Literal["healthy", "degraded", "unhealthy"]:
    healthy = sum(target.verdict is Verdict.HEALTHY for target in targets)
    if healthy >= HEALTHY_SHARE * len(targets):
        return "healthy"
    return "degraded" if healthy >= DEGRADED_SHARE * len(targets) else "unhealthy"


def _regions(
    fleet: Fleet, targets: Sequence[TargetHealth], fold: EventFold, fresh: Mapping[str, Source]
) -> tuple[RegionHealth, ...]:
    standing: dict[str, list[Verdict]] = {region.id: [] for region in fleet.regions}
    for target in targets:
        standing.setdefault(target.region, []).append(target.verdict)
    observers = Counter(source.vantage for source in fold.sources.values())
    speaking = Counter(source.vantage for source in fresh.values())
    return tuple(
        RegionHealth(
            id=region.id,
            verdict=_region_verdict(standing[region.id]),
            targets_healthy=standing[region.id].count(Verdict.HEALTHY),
            targets=len(standing[region.id]),
            sources_fresh=speaking[region.id],
            sources=observers[region.id],
        )
        for region in fleet.regions
    )


def _region_verdict(verdicts: Sequence[Verdict]) -> Verdict:
    kinds = set(verdicts)
    if not kinds:
        return Verdict.UNKNOWN
    return kinds.pop() if len(kinds) == 1 else Verdict.DEGRADED


def _sources(fold: EventFold, fresh: Mapping[str, Source], *, monotonic: float) -> tuple[SourceHealth, ...]:
    return tuple(
        SourceHealth(
            id=source.id,
            role=source.role,
            vantage=source.vantage,
            fresh=source.id in fresh,
            last_event_age_s=round(max(0.0, monotonic - source.heard_at), 3),
            boot=source.boot,
            seq=source.seq,
            config_version=source.config_version,
        )
        for source in sorted(fold.sources.values(), key=lambda source: source.id)
    )
