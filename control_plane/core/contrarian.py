"""Vantages set aside: those that contradict the majority about most targets.

Such a vantage is itself what is broken: cut from the targets, behind a proxy gone bad, misconfigured.
Its votes stay visible and go on to inform its own region's clients, who may well share its fate, but
they count neither for nor against a global verdict.

The floors. Fewer than three vantages have no majority to contradict; fewer than four comparisons are
anecdotes. A comparison is a target on which the vantage takes sides and on which at least two others
do and most of those agree. With exactly three vantages a single liar cannot pass the quorum of two
out of three anyway; setting it aside then matters because one more honest DOWN would otherwise join
it, and because the operator is told its name.
"""

from collections.abc import Iterable, Sequence

from shared.vocabulary.terms import Verdict
from shared.vocabulary.view import Vote

MIN_VANTAGES = 3
MIN_COMPARISONS = 4
MIN_OTHERS = 2


def set_aside(ballots: Iterable[Sequence[Vote]]) -> frozenset[str]:
    """The contrarians among the voters of `ballots`, one ballot per target."""
    compared: dict[str, int] = {}
    against: dict[str, int] = {}
    for ballot in ballots:
        sides = [
            (vote.vantage, vote.verdict is Verdict.DOWN)
            for vote in ballot
            if vote.verdict is not Verdict.UNKNOWN
        ]
        down = sum(side for _, side in sides)
        for vantage, side in sides:
            others = len(sides) - 1
            others_down = down - side
            if others < MIN_OTHERS or others_down * 2 == others:
                compared.setdefault(vantage, 0)
                continue
            compared[vantage] = compared.get(vantage, 0) + 1
            against[vantage] = against.get(vantage, 0) + (side != (others_down * 2 > others))
    if len(compared) < MIN_VANTAGES:
        return frozenset()
    return frozenset(
        vantage
        for vantage, wrong in against.items()
        if compared[vantage] >= MIN_COMPARISONS and wrong * 2 > compared[vantage]
    )
