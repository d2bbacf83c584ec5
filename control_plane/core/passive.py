"""What live traffic says: the windows of a region's edges, summed.

The rule. A region's edges together made at least `passive_min_attempts` attempts within their
windows, and at least `passive_down_permille` of these ended REFUSED, FAILED or TIMED_OUT: for the
clients of that region the target is DOWN, whatever probers say. Two such regions make it DOWN for
all. The floor on attempts keeps a handful of unlucky requests from being a verdict.
"""

from collections.abc import Iterable, Mapping

from control_plane.core.fold import BROKEN, PassiveWord, Source, broken
from shared.vocabulary.config import Policy
from shared.vocabulary.decision import EvidenceRef
from shared.vocabulary.terms import Outcome
from shared.vocabulary.view import PassiveSummary

FAILING_REGIONS_FOR_DOWN = 2


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
    failing = (
        attempts >= policy.passive_min_attempts and bad * 1000 >= policy.passive_down_permille * attempts
    )
    return PassiveSummary(
        region=region,
        attempts=attempts,
        counts=counts,
        inflight=sum(word.window.inflight for word in words),
        failing=failing,
        evidence=tuple(
            _evidence(word) for word in sorted(words, key=lambda word: word.source.id) if broken(word.window)
        )
        if failing
        else (),
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
