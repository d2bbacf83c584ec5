"""Drains past their end, while nobody leads: an edge in STATIC treats them as automatic exclusions.

An override expires when a leader decides so. Without one a drain would hold for ever, and might keep
out the last target that answers. So `LAPSE_S` after its end it counts as automatic: the target is asked
again, after all others. What policy excludes, or a person without an end, stays excluded.

Whose clock   The end was set by the leader's clock. It is over when this edge's wall clock says so *and*
              the leader's own, carried on by monotonic time from its last Beat, where one was heard:
              a clock that steps ahead opens nothing too soon.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta

from shared.vocabulary.decision import Decision, Exclusion

LAPSE_S = 300.0

Lapsed = frozenset[tuple[str, str]]
"""Route and target."""


def lapsed(documents: Mapping[str, Decision], at: datetime) -> Lapsed:
    """The drains by people in `documents` whose end is `LAPSE_S` past at `at`."""
    before = at - timedelta(seconds=LAPSE_S)
    return frozenset(
        (route, exclusion.target)
        for route, document in documents.items()
        for exclusion in document.excluded
        if exclusion.by == "operator" and exclusion.expires_at is not None and exclusion.expires_at < before
    )


def eased(documents: Mapping[str, Decision], over: Lapsed) -> Mapping[str, Decision]:
    """`documents`, with the exclusions named by `over` as automatic ones."""
    routes = {route for route, _ in over}

    def ease(route: str, exclusion: Exclusion) -> Exclusion:
        by_person = exclusion.by == "operator" and (route, exclusion.target) in over
        return exclusion.model_copy(update={"by": "auto"}) if by_person else exclusion

    return {
        route: document
        if route not in routes
        else document.model_copy(update={"excluded": tuple(ease(route, each) for each in document.excluded)})
        for route, document in documents.items()
    }
