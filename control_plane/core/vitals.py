"""Vitals: how one target does over time, and what that makes of a verdict by votes.

Once per window its figures are read from the fresh words and each takes a step (`trend`); so does the
strain that votes show (most monitors SLOW or THROTTLED), which has no baseline and the same hysteresis.
Quality (`quality`) is looked at whenever words change. What follows, gravest first:

    drained   DOWN on soft evidence
    degraded  DEGRADED, and `degraded_permille` of its weight
    strained  no other verdict than the votes', and `degraded_permille` of its weight
    warned    no other verdict, and `warning_permille` of its weight

Only a target that votes call HEALTHY or DEGRADED is touched: nothing here revives the DOWN, and nothing
is known of the UNKNOWN.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, median
from typing import Final, NamedTuple

from control_plane.core.fold import PassiveWord, ProbeWord
from control_plane.core.quality import Kind, Score, Standing, worst
from control_plane.core.trend import Case, Rule, Trend, step
from shared.vocabulary.config import HealthPolicy, Policy
from shared.vocabulary.terms import Outcome

FULL: Final = 1000
BAD: Final = (Outcome.REFUSED, Outcome.FAILED, Outcome.TIMED_OUT, Outcome.GARBLED)

ERRORS: Final = "live error rate"
FIGURES: Final = ("probe latency p50", "live latency p50", "live first byte p50", ERRORS)
"""In the order of `Vitals.trends`."""


class Figure(NamedTuple):
    """What was observed in a window, and by whom (a number that is the same for the same observers)."""

    value: float
    panel: int


@dataclass(frozen=True, slots=True, eq=False)
class Vitals:
    """All that is remembered of one target."""

    trends: tuple[Trend | None, ...] = (None,) * len(FIGURES)
    strained: int = 0
    """Windows in a row with strain,"""
    eased: int = 0
    """and without."""
    strain: bool = False
    quality: Mapping[Kind, Standing] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Finding:
    """What follows from vitals. All texts empty and the caution full: nothing."""

    drained: str = ""
    degraded: str = ""
    warning: str = ""
    caution_permille: int = FULL


NOTHING: Final = Finding()
UNTOUCHED: Final = Vitals()


def figures_of(
    probes: Sequence[ProbeWord], windows: Sequence[PassiveWord], policy: Policy
) -> tuple[Figure | None, ...]:
    """One figure each of FIGURES from a target's fresh words; None where nobody can say."""
    up = [word for word in probes if word.state.state == "UP" and word.state.latency_ms_p50 > 0]
    probed = None
    if up:
        observers = frozenset((word.source.vantage, word.state.monitor) for word in up)
        probed = Figure(median(word.state.latency_ms_p50 for word in up), hash(observers))
    by_region: dict[str, list[PassiveWord]] = {}
    for word in windows:
        by_region.setdefault(word.source.vantage, []).append(word)
    busy = {
        region: words
        for region, words in by_region.items()
        if sum(_attempts(word) for word in words) >= policy.passive_min_attempts
    }
    if not busy:
        return (probed, None, None, None)
    panel = hash(frozenset(busy))
    attempts = sum(_attempts(word) for words in busy.values() for word in words)
    bad = sum(
        word.window.counts.get(outcome, 0) for words in busy.values() for word in words for outcome in BAD
    )
    return (
        probed,
        _live(
            [[(_good(word), word.window.latency_ms_p50) for word in words] for words in busy.values()], panel
        ),
        _live([[(_good(word), word.window.ttft_ms_p50) for word in words] for words in busy.values()], panel),
        Figure(1000.0 * bad / attempts, panel),
    )


def advance(
    vitals: Vitals, figures: Sequence[Figure | None], *, strained: bool, hour: int, policy: HealthPolicy
) -> Vitals:
    """The vitals after a window; `hour` is UTC."""
    trends = vitals.trends
    if policy.baseline:
        trends = tuple(
            _step(trend, figure, hour, _rule(name, policy))
            for name, trend, figure in zip(FIGURES, vitals.trends, figures, strict=True)
        )
    elif any(trends):
        trends = UNTOUCHED.trends
    run = vitals.strained + 1 if strained else 0
    eased = vitals.eased + 1 if not strained else 0
    strain = run >= policy.windows_in or (vitals.strain and eased < policy.windows_out)
    return Vitals(trends, run, eased, strain, vitals.quality)


def finding_of(vitals: Vitals, scores: Sequence[Score], policy: HealthPolicy) -> Finding:
    """What follows from `vitals` and its quality `scores`; NOTHING itself when nothing does."""
    drained = degraded = warning = ""
    score = worst(scores)
    if score is not None:
        said = f"quality {score.permille / 10:g} % of {score.judged} answers by {score.by}"
        drained, degraded = (said, "") if score.standing == "DRAINED" else ("", said)
    for name, trend in zip(FIGURES, vitals.trends, strict=True):
        if trend is None or trend.case is None:
            continue
        if trend.out:
            degraded = degraded or _in_words(name, trend.case)
        elif trend.warned:
            warning = warning or _in_words(name, trend.case) + ", and on the way up"
    if drained or degraded or vitals.strain:
        return Finding(drained, degraded, warning, policy.degraded_permille)
    return Finding(warning=warning, caution_permille=policy.warning_permille) if warning else NOTHING


def _rule(name: str, policy: HealthPolicy) -> Rule:
    errors = name == ERRORS
    return Rule(
        deviations=policy.deviations,
        floor=policy.floor_error_permille if errors else policy.floor_ms,
        ratio=1.0 if errors else policy.ratio,
        windows_in=policy.windows_in,
        windows_out=policy.windows_out,
        warn=policy.early_warning,
    )


def _step(trend: Trend | None, figure: Figure | None, hour: int, rule: Rule) -> Trend | None:
    if figure is None:
        return None if trend is None else step(trend, None, panel=0, hour=hour, rule=rule)
    return step(trend or Trend(), figure.value, panel=figure.panel, hour=hour, rule=rule)


def _in_words(name: str, case: Case) -> str:
    above = f"{case.line.above(case.value):.1f} deviations above"
    if name == ERRORS:
        return f"{name} {case.value / 10:.1f} %, {above} {case.line.usual / 10:.1f} % at this hour"
    return f"{name} {case.value:.0f} ms, {above} {case.line.usual:.0f} ms at this hour"


def _attempts(word: PassiveWord) -> int:
    return sum(word.window.counts.values())


def _good(word: PassiveWord) -> int:
    return word.window.counts.get(Outcome.OK, 0) + word.window.counts.get(Outcome.SLOW, 0)


def _live(regions: Sequence[Sequence[tuple[int, float]]], panel: int) -> Figure | None:
    """The mean of the regions, each the mean of its edges weighted by answers; regions are not weighted,
    so that traffic moving from a near region to a far one does not look like a slower target."""
    means = []
    for edges in regions:
        answers = sum(weight for weight, ms in edges if ms > 0)
        if not answers:
            return None
        means.append(sum(weight * ms for weight, ms in edges if ms > 0) / answers)
    return Figure(fmean(means), panel)
