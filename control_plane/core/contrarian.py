"""Vantages set aside: those that contradict the majority about most targets.

Such a vantage is itself what is broken: cut from the targets, behind a proxy gone bad, misconfigured.
Its votes stay visible and go on to inform its own region's clients, who may well share its fate, but
they count neither for nor against a global verdict.

The floors. Fewer than three vantages have no majority to contradict; fewer than four comparisons are
anecdotes. A comparison is a target on which the vantage takes sides and on which at least two others
do and most of those agree; an even split of all is none, for then either half contradicts the other.
Nor are half of the voters or more ever set aside: they would be no minority. With exactly three vantages a single liar cannot pass the quorum of two
out of three anyway; setting it aside then matters because one more honest DOWN would otherwise join
it, and because the operator is told its name.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from shared.vocabulary.terms import Verdict
from shared.vocabulary.view import Vote

MIN_VANTAGES = 3
MIN_COMPARISONS = 4
MIN_OTHERS = 2
UP = (Verdict.HEALTHY, Verdict.DEGRADED)


class Ballot(NamedTuple):
    """Who takes which side on one target. Most targets' ballots are equal, and are counted as one."""

    up: frozenset[str]
    down: frozenset[str]


NO_SIDES = Ballot(frozenset(), frozenset())


def ballot_of(votes: Sequence[Vote]) -> Ballot:
    """The sides that `votes` take; UNKNOWN takes none."""
    return Ballot(
        frozenset([vote.vantage for vote in votes if vote.verdict in UP]),
        frozenset([vote.vantage for vote in votes if vote.verdict is Verdict.DOWN]),
    )


def set_aside(ballots: Iterable[Ballot]) -> frozenset[str]:
    """The contrarians among the voters of `ballots`, one ballot per target."""
    compared: dict[str, int] = {}
    against: dict[str, int] = {}
    for ballot, times in Counter(ballots).items():
        even = len(ballot.up) == len(ballot.down)
        others = len(ballot.up) + len(ballot.down) - 1
        for side in ballot:
            for vantage in side:
                others_down = len(ballot.down) - (side is ballot.down)
                compared.setdefault(vantage, 0)
                if even or others < MIN_OTHERS or others_down * 2 == others:
                    continue
                compared[vantage] += times
                wrong = (side is ballot.down) != (others_down * 2 > others)
                against[vantage] = against.get(vantage, 0) + times * wrong
    if len(compared) < MIN_VANTAGES:
        return frozenset()
    contrary = frozenset(
        vantage
        for vantage, wrong in against.items()
        if compared[vantage] >= MIN_COMPARISONS and wrong * 2 > compared[vantage]
    )
    return contrary if len(contrary) * 2 < len(compared) else frozenset()
