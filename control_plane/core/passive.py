"""What live traffic says: the windows of a region's edges, summed.

The rule. A region's edges together made at least `passive_min_attempts` attempts within their
windows, and either at least `passive_down_permille` of these ended REFUSED, FAILED or TIMED_OUT, or
every edge that made any has ejected the target and had nothing else of it since its last good answer,
`LEAST_RUN` times or more, together `LEAST_BROKEN` times: for the clients of that region the target is
DOWN, whatever probers say. Two such regions make it DOWN for all.

Why ejection counts: an edge stops asking a target after a few failures in a row, so that the share
alone would say DOWN only when all that was good before has left the window, and by then nobody asks.
Why the run counts and not the window: three failures in ten seconds among thousands of answers are
accidents. Time since the last good answer would tell nothing, for a benched target is not
asked. An ejection for wrong answers has no run. The floor on attempts keeps a handful of unlucky
requests from being a verdict. An edge too old to tell its runs speaks by the share alone.
"""

from collections.abc import Iterable, Mapping

from control_plane.core.fold import BROKEN, PassiveWord, Source, broken
from control_plane.core.sparing import cooling_in
from shared.vocabulary.config import Policy
from shared.vocabulary.decision import EvidenceRef
from shared.vocabulary.terms import Outcome
from shared.vocabulary.view import PassiveSummary

FAILING_REGIONS_FOR_DOWN = 2
LEAST_BROKEN = 3
"""Failures in a row, of a region's edges together: as many as make one edge eject."""
LEAST_RUN = 2
"""Of each edge that asked: after silence, on which it ejects at the second time, there are no more."""


def fresh_windows(
    words: Iterable[PassiveWord], fresh: Mapping[str, Source], *, timeout_s: float, monotonic: float
) -> list[PassiveWord]:
    """Those of `words` that count: from a fresh source, not stale."""
    return [word for word in words if word.source.id in fresh and monotonic <= word.stale_at(timeout_s)]


def summaries(words: Iterable[PassiveWord], policy: Policy) -> tuple[PassiveSummary, ...]:
    """One summary per region whose edges speak in `words`, in the order of their names."""
    by_region: dict[str, list[PassiveWord]] = {}
    for word in words:
        by_region.setdefault(word.source.vantage, []).append(word)
    return tuple(_summary(region, by_region[region], policy) for region in sorted(by_region))


def _summary(region: str, words: list[PassiveWord], policy: Policy) -> PassiveSummary:
    counts: dict[Outcome, int] = {}
    for word in words:
        for outcome, attempts in word.window.counts.items():
            counts[outcome] = counts.get(outcome, 0) + attempts
    attempts = sum(counts.values())
    bad = sum(counts.get(outcome, 0) for outcome in BROKEN)
    mostly_bad = bad * 1000 >= policy.passive_down_permille * attempts
    failing = attempts >= policy.passive_min_attempts and (mostly_bad or _given_up(words))
    return PassiveSummary(
        region=region,
        attempts=attempts,
        counts=counts,
        inflight=sum(word.window.inflight for word in words),
        latency_ms_mean=_mean_ms(words),
        failing=failing,
        evidence=tuple(
            _evidence(word) for word in sorted(words, key=lambda word: word.source.id) if broken(word.window)
        )
        if failing
        else (),
        cooling=cooling_in(word.window for word in words),
        quota_exhausted=any(word.window.quota_exhausted for word in words),
    )


def _mean_ms(words: list[PassiveWord]) -> float:
    """Over the answers of all edges; 0 without any."""
    answers = total_ms = 0.0
    for word in words:
        good = word.window.counts.get(Outcome.OK, 0) + word.window.counts.get(Outcome.SLOW, 0)
        answers += good
        total_ms += good * word.window.latency_ms_mean
    return round(total_ms / answers, 3) if answers else 0.0


def _given_up(words: list[PassiveWord]) -> bool:
    """Whether no edge that asked it would go on asking, each after failures in a row."""
    asked = [word.window for word in words if word.window.counts]
    return sum(window.broken_run for window in asked) >= LEAST_BROKEN and all(
        window.admission != "ADMITTING" and window.broken_run >= LEAST_RUN for window in asked
    )


def _evidence(word: PassiveWord) -> EvidenceRef:
    window = word.window
    worst = max(BROKEN, key=lambda outcome: window.counts.get(outcome, 0))
    return EvidenceRef(
        vantage=word.source.vantage,
        source=word.source.id,
        boot=word.source.boot,
        seq=word.seq,
        target=window.target,
        outcome=worst,
        detail=f"{broken(window)} of {sum(window.counts.values())} attempts in {window.window_s:g} s",
        observed_at=word.observed_at,
        traceparent=word.traceparent,
    )
