"""What the tests of the fault table look for in a stack, all of it over public HTTP."""

import time
from typing import Any

from local_stack import LocalStack, wait_for

from shared.vocabulary.node import Timings

TTL_S = float(Timings().lease_ttl_s)


def next_leader(stack: LocalStack, former: dict[str, Any], *, timeout_s: float = 20.0) -> dict[str, Any]:
    """Who leads in a later term, as soon as a replica says so."""

    def found() -> dict[str, Any] | None:
        now = stack.leader()
        return now if now is not None and now["epoch"] > former["epoch"] else None

    return wait_for("a new leader", found, timeout_s=timeout_s, poll_s=0.01)


def leader_of(stack: LocalStack) -> dict[str, Any]:
    return wait_for("a leader", stack.leader, timeout_s=20)


def without(stack: LocalStack, target: str) -> bool:
    """Whether decisions are in force that send nothing to `target`."""
    used = stack.used()
    return bool(used) and target not in used


def entries_of(stack: LocalStack) -> list[dict[str, Any]]:
    """The timeline, oldest first."""
    answer = wait_for("the timeline", lambda: stack.ask_plane("/v1/decisions?limit=200"), timeout_s=10)
    return sorted(answer["decisions"], key=lambda entry: (entry["generation"], entry["seq"]))


def victim_of(stack: LocalStack, leader: dict[str, Any]) -> str:
    """A target of another region than the leader's, of which least died before."""
    region = stack.least_struck(among=set(stack.regions) - {leader["region"]})
    stack.strike(region)
    return f"alpha-{region}"


def silent(stack: LocalStack, source: str) -> bool:
    """Whether the leader's view no longer counts this source."""
    view = stack.ask_plane("/v1/health")
    fresh = {each["id"]: each["fresh"] for each in view["sources"]} if view else {}
    return not fresh.get(source, True)


def removals(stack: LocalStack) -> list[str]:
    """What gets less than in the beginning, as `route/region/target`: taken out, or on its way there."""
    now = {route: document["regions"] for route, document in stack.documents().items()}
    if not now:
        return ["no decision"]
    parts = parts_of(now)
    return sorted(
        part for part, permille in parts_of(stack.baseline or {}).items() if parts.get(part, -1) < permille
    )


def parts_of(plan: dict[str, Any]) -> dict[str, float]:
    """Of all of a region's requests on a route, the permille that each target gets; stand-bys get 0."""
    return {
        f"{route}/{region}/{target['id']}": tier["share_permille"] * target["weight_permille"] / 1000
        for route, regions in plan.items()
        for region, share in regions.items()
        for tier in share["tiers"]
        for target in tier["targets"]
    }


def watch_removals(stack: LocalStack, *, for_s: float) -> set[str]:
    """Everything that was removed at any moment."""
    seen: set[str] = set()
    until = time.monotonic() + for_s
    while time.monotonic() < until:
        seen |= set(removals(stack))
        time.sleep(0.1)
    return seen
