"""The health view: what the control plane concludes from all that was said.

Per target: the votes of its vantages (`votes`), without those set aside (`contrarian`), give the
global verdict by quorum; live traffic failing in two regions makes it DOWN on its own (`passive`).
What one region alone sees stays in `votes` and `passive`, for `decide` to refine by. What was found over
time (`vitals`: figures out of the usual, quality) makes a target that works DEGRADED or, softly, DOWN.

Silence is UNKNOWN, never DOWN, by construction: DOWN is only ever counted from fresh words.

`conclude` looks at the moment alone; `look` knows what came before as well, and says when removals are not
to be believed (`freezes`). `since` depends on `previous` alone.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Literal

from control_plane.core.conclusion import Conclusion, draw
from control_plane.core.fold import EventFold, Source
from control_plane.core.freezes import freezes
from control_plane.core.hindsight import UNAWARE, Hindsight, Moment, learn, tallied
from control_plane.core.passive import FAILING_REGIONS_FOR_DOWN
from control_plane.core.roster import Watch, roster_of
from control_plane.core.tally import loads_of
from control_plane.core.vitals import FULL, NOTHING, Finding
from control_plane.core.votes import count
from shared.vocabulary.config import FleetConfig, Region, Target
from shared.vocabulary.terms import Outcome, Role, Verdict
from shared.vocabulary.view import (
    BusHealth,
    HealthView,
    PassiveSummary,
    RegionHealth,
    RouteTraffic,
    SourceHealth,
    TargetHealth,
    Vote,
)

HEALTHY_SHARE = 0.95
DEGRADED_SHARE = 0.80
"""Of all targets being HEALTHY, for the overall status."""
UP = (Verdict.HEALTHY, Verdict.DEGRADED)


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

    `since` of a verdict that did not change is carried over from `previous`. A fold is looked at either by
    this or by `look`, not by both in turn.
    """
    moment = _moment(fold, config, now, monotonic)
    return _view(moment, UNAWARE, _loads(moment), replica=replica, previous=previous, buses=buses)


def look(
    fold: EventFold,
    config: FleetConfig,
    hindsight: Hindsight,
    *,
    replica: str,
    now: datetime,
    monotonic: float,
    previous: HealthView | None,
    buses: tuple[BusHealth, ...] = (),
    failovers_last_hour: int = 0,
) -> tuple[HealthView, Hindsight]:
    """The view as by `conclude`, with what `hindsight` adds to it; and the hindsight for the next."""
    moment = _moment(fold, config, now, monotonic)
    hindsight, changed = learn(hindsight, moment)
    for target in changed:
        conclusion = moment.conclusion(target)
        if conclusion is not None:
            conclusion.health = None
    loads = _loads(moment)
    silent = sorted(fold.sources.keys() - moment.fresh.keys())
    hindsight = tallied(hindsight, moment, silent=silent, loads=loads, failovers=failovers_last_hour)
    return _view(moment, hindsight, loads, replica=replica, previous=previous, buses=buses), hindsight


def _moment(fold: EventFold, config: FleetConfig, now: datetime, monotonic: float) -> Moment:
    roster = roster_of(config)
    timeout_s = config.fleet.policy.source_timeout_s
    fresh = {source.id: source for source in fold.fresh_sources(monotonic=monotonic, timeout_s=timeout_s)}
    drawn = draw(fold, config, roster, _observers(fresh), monotonic=monotonic)
    return Moment(fold, config, roster, fresh, drawn, now, monotonic)


def _observers(fresh: Mapping[str, Source]) -> dict[str, Source]:
    """Without replicas, which observe nothing: they are listed, and count for nothing."""
    return {name: source for name, source in fresh.items() if source.role is not Role.CONTROL_PLANE}


def _loads(moment: Moment) -> tuple[RouteTraffic, ...]:
    timeout_s = moment.config.fleet.policy.source_timeout_s
    return loads_of(moment.fresh.values(), timeout_s=timeout_s, monotonic=moment.monotonic)


def _view(
    moment: Moment,
    hindsight: Hindsight,
    loads: tuple[RouteTraffic, ...],
    *,
    replica: str,
    previous: HealthView | None,
    buses: tuple[BusHealth, ...],
) -> HealthView:
    before = {health.id: health for health in previous.targets} if previous else {}
    findings = hindsight.findings
    targets = tuple(
        _health(target, moment, findings.get(target.id, NOTHING), before.get(target.id))
        for target in moment.config.fleet.targets
    )
    return HealthView(
        as_of=moment.now,
        replica=replica,
        status=_status(targets),
        config_version=moment.config.config_version,
        regions=_regions(moment, targets),
        targets=targets,
        sources=_sources(moment),
        buses=buses,
        set_aside=tuple(sorted(moment.drawn.aside)),
        freezes=freezes(hindsight.held) if hindsight.held else (),
        quality=hindsight.quality,
        loads=loads,
        summary=hindsight.summary,
    )


def _health(target: Target, moment: Moment, finding: Finding, before: TargetHealth | None) -> TargetHealth:
    conclusion = moment.conclusion(target.id)
    if conclusion is None:
        conclusion = Conclusion(health=before if _says_nothing(before, target) else None)
    if conclusion.health is not None and conclusion.health is before:
        return before
    watch, aside = moment.roster.watches[target.id], moment.drawn.aside
    verdict, hard, reason = _verdict(
        conclusion.votes, conclusion.passive, watch, aside, moment.config.fleet.regions
    )
    works = verdict in UP
    if works and finding.drained:
        verdict, reason = Verdict.DOWN, f"{finding.drained}; {reason}"
    elif works and finding.degraded:
        verdict, reason = Verdict.DEGRADED, f"{finding.degraded}; {reason}"
    health = TargetHealth(
        id=target.id,
        region=target.region,
        provider=target.provider,
        verdict=verdict,
        hard=hard,
        since=before.since if before is not None and before.verdict is verdict else moment.now,
        votes=conclusion.votes,
        passive=conclusion.passive,
        latency_ms_p50=conclusion.latency_ms_p50,
        reason=reason,
        caution_permille=finding.caution_permille if works else FULL,
        warning=finding.warning if works else "",
    )
    conclusion.health = health
    return health


def _says_nothing(health: TargetHealth | None, target: Target) -> bool:
    return health is not None and (
        (health.votes, health.passive, health.verdict, health.region, health.provider)
        == ((), (), Verdict.UNKNOWN, target.region, target.provider)
    )


def _verdict(
    votes: Sequence[Vote],
    passive: Sequence[PassiveSummary],
    watch: Watch,
    aside: frozenset[str],
    regions: Sequence[Region],
) -> tuple[Verdict, bool, str]:
    """Edges of a region that the fleet does not have are shown, and count for nothing."""
    failing = [
        summary.region
        for summary in passive
        if summary.failing and any(summary.region == region.id for region in regions)
    ]
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
        if ref.outcome is not Outcome.OK  # one of its monitors may still be content
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


def _regions(moment: Moment, targets: Sequence[TargetHealth]) -> tuple[RegionHealth, ...]:
    regions = moment.config.fleet.regions
    standing: dict[str, list[Verdict]] = {region.id: [] for region in regions}
    for target in targets:
        standing.setdefault(target.region, []).append(target.verdict)
    observers = Counter(source.vantage for source in _observers(moment.fold.sources).values())
    speaking = Counter(source.vantage for source in _observers(moment.fresh).values())
    return tuple(
        RegionHealth(
            id=region.id,
            verdict=_region_verdict(standing[region.id]),
            targets_healthy=standing[region.id].count(Verdict.HEALTHY),
            targets=len(standing[region.id]),
            sources_fresh=speaking[region.id],
            sources=observers[region.id],
        )
        for region in regions
    )


def _region_verdict(verdicts: Sequence[Verdict]) -> Verdict:
    kinds = set(verdicts)
    if not kinds:
        return Verdict.UNKNOWN
    return kinds.pop() if len(kinds) == 1 else Verdict.DEGRADED


def _sources(moment: Moment) -> tuple[SourceHealth, ...]:
    return tuple(_source(source, moment) for _, source in sorted(moment.fold.sources.items()))


def _source(source: Source, moment: Moment) -> SourceHealth:
    fresh = source.id in moment.fresh
    age_s = max(0.0, moment.monotonic - source.heard_at)
    return SourceHealth(
        id=source.id,
        role=source.role,
        vantage=source.vantage,
        fresh=fresh,
        last_event_age_s=round(age_s, 3),
        silent_since=None if fresh else moment.now - timedelta(seconds=round(age_s, 3)),
        boot=source.boot,
        seq=source.seq,
        config_version=source.config_version,
    )
