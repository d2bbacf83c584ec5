"""Quality: how many of the last answers were right, and what follows.

Two kinds of evidence, never mixed: probers know the right answer to their own prompts; edges only see
whether an answer was whole and well-formed, so a thousand whole answers do not outweigh wrong ones. Each
source keeps count over its own last 100 answers and tells the state of the count: nobody counts events,
and lost, doubled or late ones change no score.

    DEGRADED  the score of all sources together is below `quality_degraded_permille`
    DRAINED   it is below `quality_drain_permille`, and so are those of two vantages, each for itself
              with enough answers (of one, where only one looks): DOWN on soft evidence
    UNDECIDED fewer than `quality_min_results` answers

What has been held against a target is lifted `MARGIN_PERMILLE` above the threshold, or when nothing is
known any more. A target with too few answers of its own shares its model's standing, but only while no
target of that model is known to be good: one broken host is not a broken model.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from control_plane.core.fold import PassiveWord, ProbeWord
from shared.vocabulary.config import HealthPolicy

MARGIN_PERMILLE: Final = 30
OWN_PART: Final = 4
"""A vantage agrees to a drain with a fourth of the answers that a score needs."""

Standing = Literal["GOOD", "DEGRADED", "DRAINED", "UNDECIDED"]
Kind = Literal["probes", "traffic"]
KINDS: Final[tuple[Kind, ...]] = ("probes", "traffic")


@dataclass(frozen=True, slots=True)
class Answers:
    """What one vantage has seen of one target lately."""

    by: Kind
    vantage: str
    judged: int
    garbled: int


@dataclass(frozen=True, slots=True)
class Score:
    """One kind of evidence on one target or model, all vantages together."""

    by: Kind
    judged: int
    garbled: int
    standing: Standing

    @property
    def permille(self) -> int:
        """Right answers."""
        return (self.judged - self.garbled) * 1000 // self.judged if self.judged else 1000


def answers_of(probes: Iterable[ProbeWord], windows: Iterable[PassiveWord]) -> tuple[Answers, ...]:
    """What fresh words say, summed by vantage; nothing where nobody judges."""
    heard = [
        Answers("probes", word.source.vantage, word.state.judged, min(word.state.garbled, word.state.judged))
        for word in probes
        if word.state.judged
    ]
    heard += [
        Answers(
            "traffic", word.source.vantage, word.window.judged, min(word.window.garbled, word.window.judged)
        )
        for word in windows
        if word.window.judged
    ]
    return together(heard) if heard else ()


def scores(
    answers: Sequence[Answers],
    policy: HealthPolicy,
    *,
    aside: frozenset[str],
    agreeing: Mapping[Kind, int],
    before: Mapping[Kind, Standing],
) -> tuple[Score, ...]:
    """One score per kind of evidence, without that of probers set `aside`; `agreeing` is how many
    vantages it takes to drain, `before` what was held so far."""
    found = []
    for by in KINDS:
        heard = [each for each in answers if each.by == by and not (by == "probes" and each.vantage in aside)]
        if heard:
            standing = _standing(heard, policy, agreeing[by], before.get(by, "GOOD"))
            judged = sum(each.judged for each in heard)
            found.append(Score(by, judged, sum(each.garbled for each in heard), standing))
    return tuple(found)


def worst(found: Iterable[Score]) -> Score | None:
    """The score that something follows from; None when nothing does."""
    ranked = [score for score in found if score.standing in ("DEGRADED", "DRAINED")]
    return min(ranked, key=lambda score: (score.standing != "DRAINED", score.permille), default=None)


def together(answers: Iterable[Answers]) -> tuple[Answers, ...]:
    """Those of several targets, summed by kind and vantage."""
    sums: dict[tuple[Kind, str], tuple[int, int]] = {}
    for each in answers:
        judged, garbled = sums.get((each.by, each.vantage), (0, 0))
        sums[each.by, each.vantage] = (judged + each.judged, garbled + each.garbled)
    return tuple(Answers(by, vantage, *sums[by, vantage]) for by, vantage in sorted(sums))


def _standing(heard: Sequence[Answers], policy: HealthPolicy, agreeing: int, before: Standing) -> Standing:
    judged = sum(each.judged for each in heard)
    garbled = sum(each.garbled for each in heard)
    if judged < policy.quality_min_results:
        return "UNDECIDED"
    drain = _threshold(policy.quality_drain_permille, before == "DRAINED")
    below = [each for each in heard if each.judged * OWN_PART >= policy.quality_min_results]
    below = [each for each in below if _right(each.judged, each.garbled) < drain * each.judged]
    if _right(judged, garbled) < drain * judged and len(below) >= agreeing:
        return "DRAINED"
    degraded = _threshold(policy.quality_degraded_permille, before in ("DEGRADED", "DRAINED"))
    return "DEGRADED" if _right(judged, garbled) < degraded * judged else "GOOD"


def _threshold(permille: int, held: bool) -> int:
    return min(1000, permille + MARGIN_PERMILLE) if permille and held else permille


def _right(judged: int, garbled: int) -> int:
    """In thousandths of an answer."""
    return (judged - garbled) * 1000
