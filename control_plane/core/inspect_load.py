"""The last check's arithmetic of load: is any target planned more than it can carry?

As `inspect`, written apart from the planner. For every route and client region: the demand that the
proposal says it was made for, or what edges report where it says none, times share times weight. Summed
over all routes that will be in force, no target's sum may exceed its `capacity_inflight`, but for the grain
of whole permille. What does not fit must have been declared as shed. What an operator ordered by hand is
carried out as it is: it counts, and the others may add nothing to a target that it alone has filled.
"""

from collections.abc import Iterator, Mapping, Set

from control_plane.core.decide import Proposal
from shared.vocabulary.config import FleetConfig
from shared.vocabulary.decision import Decision
from shared.vocabulary.view import HealthView

GRAIN = 0.0021
"""Of a demand: a share and a weight are each right to one permille."""


def load_faults(
    proposal: Proposal,
    config: FleetConfig,
    view: HealthView,
    documents: Mapping[str, Decision],
    by_hand: Set[tuple[str, str]],
) -> Iterator[str]:
    """What is planned beyond capacity. `documents` are in force; `by_hand` are `(route, client region)`."""
    demand = _demand(proposal, view)
    planned: dict[str, float] = {}
    ordered: dict[str, float] = {}
    slack: dict[str, float] = {}
    for route, document in {**documents, **proposal.documents}.items():
        for region, decided in document.regions.items():
            inflight = demand.get((route, region), 0.0)
            if not inflight:
                continue
            for tier in decided.tiers:
                for weighted in tier.targets:
                    name, part = weighted.id, tier.share_permille * weighted.weight_permille / 1_000_000
                    into = ordered if (route, region) in by_hand else planned
                    into[name] = into.get(name, 0.0) + inflight * part
                    if part:
                        slack[name] = slack.get(name, 0.0) + inflight * GRAIN
    for target in config.fleet.targets:
        room = max(0.0, target.capacity_inflight - ordered.get(target.id, 0.0))
        load = planned.get(target.id, 0.0)
        if load > room + slack.get(target.id, 0.0):
            yield (
                f"target {target.id}: {load:.1f} requests planned at once, it has room for {room:.1f}"
                f" of {target.capacity_inflight}"
            )


def _demand(proposal: Proposal, view: HealthView) -> dict[tuple[str, str], float]:
    demand = {(load.route, load.region): load.inflight for load in view.loads}
    for route, memory in proposal.memory.routes.items():
        if memory.demand:
            for route_region in [key for key in demand if key[0] == route]:
                del demand[route_region]
            demand |= {(route, region): each.inflight for region, each in memory.demand.items()}
    return demand
