"""Coming back from a drain: by the ramp, as after a failure.

Whoever was out of every route for as long as an operator said so has cold caches, and nobody has asked it
anything since; so its traffic comes back step by step, judged on the way as that of a recovered target.

Not eased, for it would only hurt: who goes on serving some other route; who is out, or on the ramp,
anyway; whom nobody watches, for nothing would take it up the steps; and whoever is needed at once, for
requests would be turned away meanwhile: in one of its routes nobody else is in, or those who are have no
room for the load. Nor with `policy.automatic` off, when no standing moves.
"""

from collections.abc import Mapping, Set
from dataclasses import replace
from datetime import datetime

from control_plane.core.advance import Standings
from control_plane.core.memory import RouteMemory, Standing
from control_plane.core.roster import Placing
from control_plane.core.standing import FULL
from shared.vocabulary.config import Policy

Placings = Mapping[str, Placing]


def returning(before: Placings, after: Placings) -> frozenset[str]:
    """Targets that drains kept out of every route of `before`, and that some route of `after` may use."""
    drained = {
        barred.target for placing in before.values() for barred in placing.barred if barred.by == "operator"
    }
    served = {target for target in drained if any(target in placing.members for placing in before.values())}
    back = drained - served
    return frozenset(target for target in back if any(_used(placing, target) for placing in after.values()))


def eased(
    standings: Standings,
    targets: Set[str],
    placed: Placings,
    routes: Mapping[str, RouteMemory],
    *,
    watched: Set[str],
    policy: Policy,
    now: datetime,
) -> Standings:
    """`standings` with the `targets` that return at the foot of the ramp. `routes` are as the last decision
    left them, `watched` are the targets in view."""
    if not policy.automatic:
        return standings
    begun = {
        target: Standing(phase="BACK", since=now, permille=policy.ramp_permille[0], stepped_at=now)
        for target in targets & watched
        if _in(standings, target) and _relieved(target, targets, placed, routes, standings)
    }
    if not begun:
        return standings
    return replace(standings, targets={**standings.targets, **begun}, turned=standings.turned | begun.keys())


def _relieved(
    target: str,
    returning: Set[str],
    placed: Placings,
    routes: Mapping[str, RouteMemory],
    standings: Standings,
) -> bool:
    """Whether in each of its routes somebody else is in, with room for the load, who serves while it climbs."""

    def serves(placing: Placing, other: str) -> bool:
        return other not in returning and _used(placing, other) and _in(standings, other)

    return all(
        not _limited(routes.get(route)) and any(serves(placing, other) for other in placing.permitted)
        for route, placing in placed.items()
        if _used(placing, target)
    )


def _limited(route: RouteMemory | None) -> bool:
    """Whether capacity limited the plan of the last decision."""
    return route is not None and bool(route.demand)


def _in(standings: Standings, target: str) -> bool:
    standing = standings.targets.get(target)
    return standing is None or (standing.phase == "BACK" and standing.permille >= FULL)


def _used(placing: Placing, target: str) -> bool:
    return target in placing.members and placing.staged.get(target, FULL) > 0
