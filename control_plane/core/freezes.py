"""Freezes: when what speaks for automatic removals is not to be believed.

    MOST_SILENT   more than half of the vantages that spoke, and at least two, fell silent within 10 s of
                  each other and still are. That is a broken bus or a broken control plane, not that
                  many broken regions.
    CONTRADICTED  most vantages' probes of a target fail (REFUSED, FAILED, TIMED_OUT), and live traffic to
                  it goes well: in every region with enough of it nine answers in ten are good, and one
                  was complete more than `AFTER_S` after the probes began to fail. A dead target gives no
                  answer after its probes fail, however full of good answers the window of its last ten
                  seconds still is. Where most of at least three accused targets are contradicted, the
                  probes have lost their word altogether, and the freeze is for all.
                  Until so much time has passed, the benefit of the doubt: where traffic went well right
                  up to the accusation and edges have met no failure at all since, removal waits, for
                  `DOUBT_S` at most. One attempt that an edge sees fail ends that at once. Edges that
                  have not spoken since the accusation, as those of a region that died have not, say
                  nothing.

A provider or region that holds most targets and dies is neither: its prober is one vantage, and no
traffic to it goes well. A freeze ends when its ground has been untrue for `LINGER_S`, each target's for
itself; a mere doubt ends with itself. Silence is judged among vantages in the fleet's regions; one that has been silent for so long that
the fold forgot it (ten minutes) counts no longer, so that taking regions down for good freezes nothing.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from math import inf
from typing import Final, Literal

from control_plane.core.conclusion import Conclusion
from control_plane.core.fold import PassiveWord, Source, broken
from shared.vocabulary.config import Policy
from shared.vocabulary.terms import Outcome, Role
from shared.vocabulary.view import Freeze

TOGETHER_S: Final = 10.0
LEAST_SILENT: Final = 2
LINGER_S: Final = 30.0
AFTER_S: Final = 1.0
"""Longer than the buses take: the moments compared are receipts of two different sources' events."""
DOUBT_S: Final = 1.5
"""After the accusation: `AFTER_S`, and what it takes an edge to report."""
GOOD_PERMILLE: Final = 900
LEAST_ACCUSED: Final = 3
MAX_NAMED: Final = 10

Cause = Literal["MOST_SILENT", "CONTRADICTED"]


@dataclass(frozen=True, slots=True)
class Ground:
    """A reason to freeze that is true now."""

    cause: Cause
    targets: tuple[str, ...]
    """Empty for all."""
    detail: str
    proven: bool = True
    """Else a doubt, which does not outlast itself."""


@dataclass(frozen=True, slots=True)
class Held:
    """A reason that was true at `true_at` (monotonic), about one target or, with None, all."""

    cause: Cause
    target: str | None
    since: datetime
    true_at: float
    detail: str
    proven: bool


def most_silent(
    sources: Iterable[Source], regions: Iterable[str], *, timeout_s: float, monotonic: float
) -> Ground | None:
    """Whether most vantages fell silent together. A vantage is heard when any of its probers is."""
    heard_at: dict[str, float] = {}
    known = frozenset(regions)
    for source in sources:
        if source.role is Role.PROBER and source.vantage in known:
            heard_at[source.vantage] = max(heard_at.get(source.vantage, source.heard_at), source.heard_at)
    silent = {vantage: at for vantage, at in heard_at.items() if monotonic - at > timeout_s}
    for began in sorted(silent.values()):
        fell = sorted(vantage for vantage, at in silent.items() if began <= at <= began + TOGETHER_S)
        spoke = sum(at >= began for at in heard_at.values())
        if len(fell) >= LEAST_SILENT and 2 * len(fell) > spoke:
            return Ground("MOST_SILENT", (), f"{len(fell)} of {spoke} vantages silent: {_named(fell)}")
    return None


def contradicted(accused: Mapping[str, Conclusion], policy: Policy, *, monotonic: float) -> list[Ground]:
    """Where live traffic contradicts the probes that fail on the `accused` targets."""
    words = {target: _word_of_traffic(each, policy, monotonic) for target, each in accused.items()}
    proven = sorted(target for target, word in words.items() if word == "proof")
    doubted = sorted(target for target, word in words.items() if word == "doubt")
    grounds = []
    for found, is_proof in ((proven, True), (sorted([*proven, *doubted]) if doubted else [], False)):
        if found:
            most = len(accused) >= LEAST_ACCUSED and 2 * len(found) > len(accused)
            detail = f"live traffic goes well where probes fail: {_named(found)}"
            grounds.append(Ground("CONTRADICTED", () if most else tuple(found), detail, is_proof))
    return grounds


def step(
    held: Sequence[Held], grounds: Iterable[Ground], *, now: datetime, monotonic: float
) -> tuple[Held, ...]:
    """What holds at `monotonic`, given what held before and what is true now."""
    before = {(each.cause, each.target): each for each in held}
    kept = {key: each for key, each in before.items() if each.proven and monotonic - each.true_at <= LINGER_S}
    for ground in sorted(grounds, key=lambda ground: ground.proven):
        for target in ground.targets or (None,):
            key = (ground.cause, target)
            since = before[key].since if key in before else now
            if ground.proven or key not in kept:
                kept[key] = Held(*key, since, monotonic, ground.detail, ground.proven)
    return tuple(kept.values())


def freezes(held: Sequence[Held]) -> tuple[Freeze, ...]:
    """As the view shows it: one per cause."""
    found = []
    for cause in dict.fromkeys(each.cause for each in held):
        of_cause = [each for each in held if each.cause == cause]
        named = [each.target for each in of_cause if each.target is not None]
        found.append(
            Freeze(
                cause=cause,
                since=min(each.since for each in of_cause),
                targets=tuple(sorted(named)) if len(named) == len(of_cause) else (),
                detail=max(of_cause, key=lambda each: each.true_at).detail,
            )
        )
    return tuple(found)


def _word_of_traffic(
    conclusion: Conclusion, policy: Policy, monotonic: float
) -> Literal["proof", "doubt", "nothing"]:
    since = conclusion.accused_since
    by_region: dict[str, list[PassiveWord]] = {}
    for word in conclusion.windows:
        if word.named_at > since:
            by_region.setdefault(word.source.vantage, []).append(word)
    busy = [words for words in by_region.values() if _attempts(words) >= policy.passive_min_attempts]
    if not busy or any(_good(words) * 1000 < GOOD_PERMILLE * _attempts(words) for words in busy):
        return "nothing"
    answered_at = min(map(_answered_at, busy))
    if answered_at > since + AFTER_S:
        return "proof"
    unharmed = all(
        word.window.admission == "ADMITTING" and not broken(word.window) for words in busy for word in words
    )
    doubtful = unharmed and answered_at > since - AFTER_S and monotonic <= since + DOUBT_S
    return "doubt" if doubtful else "nothing"


def _answered_at(words: Sequence[PassiveWord]) -> float:
    """Monotonic time of the last good answer, by when the word of it came."""
    ages = [(word, word.window.good_age_s) for word in words]
    return max((word.named_at - age_s for word, age_s in ages if age_s is not None), default=-inf)


def _good(words: Sequence[PassiveWord]) -> int:
    return sum(word.window.counts.get(outcome, 0) for word in words for outcome in (Outcome.OK, Outcome.SLOW))


def _attempts(words: Sequence[PassiveWord]) -> int:
    return sum(sum(word.window.counts.values()) for word in words)


def _named(names: Sequence[str]) -> str:
    more = len(names) - MAX_NAMED
    return ", ".join(names[:MAX_NAMED]) + (f" and {more} more" if more > 0 else "")
