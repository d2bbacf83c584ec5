"""What decisions plan: who gets which part of whose traffic, and how that changes. Pure."""

from collections.abc import Iterable, Mapping

from shared.vocabulary.base import Version
from shared.vocabulary.config import Fleet
from shared.vocabulary.decision import Decision, Reason
from shared.vocabulary.view import RouteTraffic

Plan = Mapping[tuple[str, str, str], int]
"""(route, client region, target) -> its part of that region's requests, in permille."""
Out = frozenset[tuple[str, str, str | None]]
"""(route, target, the one client region it is out for; None for all)."""


def plan_of(documents: Mapping[str, Decision]) -> Plan:
    """What these documents, one per route, plan. Stand-bys are planned nothing, and are left out."""
    plan: dict[tuple[str, str, str], int] = {}
    for route, document in documents.items():
        for region, decided in document.regions.items():
            for tier in decided.tiers:
                for target in tier.targets:
                    part = round(tier.share_permille * target.weight_permille / 1000)
                    if part:
                        plan[route, region, target.id] = part
    return plan


def given_to(plan: Plan, targets: Iterable[str]) -> int:
    """What `targets` are planned, summed over all routes and client regions."""
    wanted = set(targets)
    return sum(part for (_, _, target), part in plan.items() if target in wanted)


def moved(before: Plan, after: Plan) -> list[str]:
    """Targets whose part of somebody's traffic differs."""
    keys = before.keys() | after.keys()
    return sorted({key[2] for key in keys if before.get(key, 0) != after.get(key, 0)})


def version_without(
    documents: Mapping[str, Decision], targets: frozenset[str], *, after: Version
) -> Version | None:
    """The version from which on no route sends anything to `targets`; None while one still does.

    Only documents later than `after` tell: what was in force before the fault is no answer to it.
    """
    if not documents or any(_used(document) & targets for document in documents.values()):
        return None
    return _later(documents, after)


def version_with_less(
    documents: Mapping[str, Decision], targets: frozenset[str], *, before: Plan, after: Version
) -> Version | None:
    """The version from which on `targets` are planned less than `before`; None while they are not."""
    if not documents or given_to(plan_of(documents), targets) >= given_to(before, targets):
        return None
    return _later(documents, after)


def excluded_in(documents: Mapping[str, Decision]) -> Out:
    """Who is out by health or an operator. What policy bars is no answer to a fault."""
    return frozenset(
        (route, out.target, out.region)
        for route, document in documents.items()
        for out in document.excluded
        if out.by != "policy"
    )


def leaving_in(documents: Mapping[str, Decision], *, after: Version) -> tuple[Reason, ...]:
    """The reasons of documents later than `after` by which a target goes, or gets less for its own sake."""
    return tuple(
        reason
        for document in documents.values()
        if document.version > after
        for reason in document.reasons
        if _takes(reason)
    )


def names(reason: Reason, targets: frozenset[str], regions: frozenset[str]) -> bool:
    """Whether `reason` is about one of `targets`, or about all of one of `regions`."""
    if reason.target is not None:
        return reason.target in targets
    return reason.values.get("targets_in") in regions


def planned_of_capacity(
    documents: Mapping[str, Decision], loads: Iterable[RouteTraffic], fleet: Fleet
) -> Mapping[str, int]:
    """Permille of each target's capacity that the plan asks for, at the demand that edges report."""
    demand = {(load.route, load.region): load.inflight for load in loads}
    planned: dict[str, float] = {}
    for (route, region, target), part in plan_of(documents).items():
        asked = demand.get((route, region), 0.0) * part / 1000
        planned[target] = planned.get(target, 0.0) + asked
    known = fleet.targets_by_id
    return {
        target: round(1000 * asked / known[target].capacity_inflight)
        for target, asked in planned.items()
        if target in known
    }


def _later(documents: Mapping[str, Decision], after: Version) -> Version | None:
    latest = max(document.version for document in documents.values())
    return latest if latest > after else None


def _takes(reason: Reason) -> bool:
    """Whether its target has less by it: put out, or moved down by caution or on the ramp."""
    if reason.code in ("TARGET_DEGRADED", "RAMP_STEP"):
        had = reason.values.get("from_permille", 0)
        return bool(reason.values.get("kept_permille", reason.values.get("permille", had)) < had)
    if reason.code == "TARGET_DOWN" and "kept_permille" in reason.values:
        return bool(reason.values["kept_permille"] < reason.values.get("from_permille", 1000))
    return reason.code in ("TARGET_DOWN", "REGIONAL_DOWN", "DRAINED")


def _used(document: Decision) -> frozenset[str]:
    return frozenset(
        target.id for region in document.regions.values() for tier in region.tiers for target in tier.targets
    )
