"""Whether a rollout may be started, in words for whoever asks."""

from collections.abc import Iterator, Sequence

from shared.vocabulary.config import Fleet
from shared.vocabulary.rollout import Rollout, RolloutSpec


def refusals(spec: RolloutSpec, fleet: Fleet, rollouts: Sequence[Rollout]) -> list[str]:
    """Why `spec` cannot be started under `fleet` beside `rollouts`; empty when it can."""
    return list(_refusals(spec, fleet, rollouts))


def _refusals(spec: RolloutSpec, fleet: Fleet, rollouts: Sequence[Rollout]) -> Iterator[str]:
    route = fleet.routes_by_id.get(spec.route)
    if route is None:
        yield f"no route {spec.route!r}"
        return
    new = set(spec.targets)
    homes = [number for number, tier in enumerate(route.tiers, start=1) if new & set(tier.targets)]
    known = {target for tier in route.tiers for target in tier.targets}
    for target in sorted(new - known):
        yield (
            f"{target!r} does not stand in route {route.id!r}: apply a configuration that lists it in a tier's "
            "targets and candidates first"
        )
    waiting = {target for tier in route.tiers for target in tier.candidates}
    for target in sorted((new & known) - waiting):
        yield (
            f"{target!r} serves already, so a first step would take traffic from it: list it in its tier's "
            "candidates first (`leeward config apply`)"
        )
    if len(homes) > 1:
        yield f"the targets stand in different tiers ({', '.join(map(str, homes))}): roll out one tier at a time"
    if len(homes) == 1 and not set(route.tiers[homes[0] - 1].established) - new:
        yield f"tier {homes[0]} has no other target to compare with and to fall back to"
    for rollout in rollouts:
        if rollout.spec.route == spec.route:
            yield (
                f"rollout {rollout.id!r} of this route is {rollout.state}: "
                + ("abort it first" if rollout.state == "RUNNING" else "end it first")
            )
