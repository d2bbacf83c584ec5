"""All that a route has opted into, as its entry in the table has it; and a lighter route's entry for stepping down."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from edge_router.core.ladder.rules import compiled
from shared.vocabulary.degradation import DegradedRule, StaticAnswer, StoredAnswers
from shared.vocabulary.route import Route

if TYPE_CHECKING:
    from edge_router.core.table import Candidate, RouteEntry, TierEntry


@dataclass(frozen=True, slots=True)
class Ladder:
    """A route's rungs, and whether promised JSON is checked. A route that opted into nothing has none."""

    stored: StoredAnswers | None = None
    rules: tuple[DegradedRule, ...] = ()
    static: StaticAnswer | None = None
    check_json: bool = False

    @property
    def answers(self) -> bool:
        """Whether any rung is an answer that the edge itself gives."""
        return self.stored is not None or bool(self.rules) or self.static is not None


def ladder_of(route: Route) -> Ladder | None:
    """What `route` has opted into; its patterns are compiled on the way, so that no request waits for that."""
    rungs = route.degradation
    if rungs is None or not rungs.answers:
        return Ladder(check_json=True) if route.check_json else None
    for rule in rungs.rules:
        for pattern in rule.patterns:
            compiled(pattern)
    return Ladder(rungs.stored, rungs.rules, rungs.static, route.check_json)


def cache_line(route: Route) -> bytes:
    """Cache-Status (RFC 9211) of a target's own answers: why a target was asked."""
    stored = route.degradation.stored if route.degradation is not None else None
    if stored is None:
        return b""
    why = b"bypass" if stored.serve == "on_failure" else b"miss"
    return b"cache-status: leeward; fwd=%b\r\n" % why


def lighter(route: "RouteEntry", than: "RouteEntry") -> "RouteEntry":
    """`route` as requests of `than` step down to it: counted as theirs, and its answers say where they come from."""
    line = b"x-leeward-stepped-down: %b\r\n" % route.id.encode()

    def marked(candidates: "Iterable[Candidate]") -> "tuple[Candidate, ...]":
        return tuple(replace(candidate, stamp=candidate.stamp + line) for candidate in candidates)

    def tier(one: "TierEntry") -> "TierEntry":
        return replace(one, weighted=marked(one.weighted), standby=marked(one.standby))

    tiers = tuple(tier(one) for one in route.tiers)
    only = next((tiers[place] for place, one in enumerate(route.tiers) if one is route.only), None)
    return replace(
        route,
        id=than.id,
        gate=route.id,
        tiers=tiers,
        only=only,
        last_resort=marked(route.last_resort),
        ladder=than.ladder,
        lighter=None,
    )
