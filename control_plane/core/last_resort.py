"""The last resort: whom a route still uses when everybody it may use is out.

Traffic never goes to an empty set, so removals are suspended where they would leave nothing:

1. Those that answer again and only wait for their hold-down: it ends early for this route.
2. Else those whose state nobody knows, those out on soft evidence only, and whoever fell last:
   everybody who went out within 10 s of the last one, so that "all DOWN at once" removes nobody,
   in whatever order the news came in. (Frozen.)

What policy bars is never a candidate.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from control_plane.core.advance import UP
from control_plane.core.memory import Standing
from shared.vocabulary.terms import Verdict

FELL_TOGETHER_S = 10.0


@dataclass(frozen=True, slots=True)
class Candidate:
    """A permitted target that is out, globally or for the client region."""

    verdict: Verdict
    """Global; DOWN when the client region's own live traffic fails."""
    standing: Standing
    """The one that keeps it out; of two the later."""


@dataclass(frozen=True, slots=True)
class Resort:
    """Who is used after all."""

    targets: frozenset[str]
    frozen: bool
    """Removals are suspended; else only a hold-down is cut short."""


def last_resort(candidates: Mapping[str, Candidate]) -> Resort:
    """Whom to use of `candidates`, all of them out; empty only when there are none."""
    answering = frozenset(target for target, each in candidates.items() if each.verdict in UP)
    if answering:
        return Resort(answering, frozen=False)
    latest = max((each.standing.since for each in candidates.values()), default=None)
    return Resort(
        frozenset(
            target
            for target, each in candidates.items()
            if each.verdict is Verdict.UNKNOWN
            or not each.standing.hard
            or (latest is not None and (latest - each.standing.since).total_seconds() <= FELL_TOGETHER_S)
        ),
        frozen=True,
    )
