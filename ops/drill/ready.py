"""Whether a drill may begin: a fleet that is not at rest, or may not react, would measure itself. Pure, but
for what is asked of a Sight."""

from collections.abc import Iterator
from datetime import timedelta

from ops.drill.course import Course
from ops.drill.scope import Scope
from ops.drill.sight import Sight
from ops.errors import Bad
from shared.vocabulary.config import Fleet, Policy
from shared.vocabulary.drill import DrillSpec

TIMEOUT_S = 30.0
LEAST_STILL_S = 3.0
FULL = 1000
LONG_AGO = timedelta(seconds=60)
"""More than clocks differ: what was decided so long ago, and longer than a plan must stand, stands."""


async def unhindered(spec: DrillSpec, scope: Scope, fleet: Fleet, sight: Sight, course: Course) -> None:
    """Raises Bad where decisions may not leave the struck targets and are expected to; says which other
    overrides are in force. Raises Unreachable, Refused."""
    overrides = await sight.overrides()
    if _must_leave(spec):
        if not fleet.policy.automatic:
            raise Bad("nothing was broken: policy.automatic is off, so no decision would leave anything")
        routes = _routes(scope, fleet)
        for each in overrides:
            if each.spec.kind == "freeze" and (each.spec.route is None or each.spec.route in routes):
                raise Bad(
                    f"nothing was broken: {each.id} by {each.author} ({each.reason}) freezes automatic "
                    f"removals, so no decision would leave anything: `leeward overrides end {each.id}` first"
                )
    if overrides:
        told = [f"{each.id} by {each.author}: {each.reason}" for each in overrides[:10]]
        course.note("warning: overrides are in force", overrides=told)


def still_s(policy: Policy) -> float:
    """For how long a plan must stand before it counts as still: as long as a step of the ramp."""
    return max(LEAST_STILL_S, policy.ramp_s / max(1, len(policy.ramp_permille) - 1))


def restless(spec: DrillSpec, scope: Scope, fleet: Fleet, sight: Sight) -> list[str]:
    """What is still to settle, in words."""
    if not sight.heads:
        return ["no control plane said what is in force"]
    found = list(_returning(scope, sight))
    if _must_leave(spec) and sight.view is not None:
        found += [
            f"automatic removals are frozen ({freeze.cause}: {freeze.detail})"
            for freeze in sight.view.freezes
            if not freeze.targets or scope.targets & set(freeze.targets)
        ]
    last, stood_s = _last_move(sight)
    least_s = still_s(fleet.policy)
    newest = max((one.decided_at for one in sight.documents.values()), default=None)
    settled = newest is not None and sight.clock.now() - newest > LONG_AGO + timedelta(seconds=least_s)
    if stood_s < least_s and not settled:
        found.append(f"{last} was seen {stood_s:.1f} s ago, and the plan must stand for {least_s:g} s")
    return found


def _must_leave(spec: DrillSpec) -> bool:
    """Whether health alone has to move something: an operator's drain works in a freeze, too."""
    return spec.expect.moves and any(fault.by != "override" for fault in spec.faults)


def _routes(scope: Scope, fleet: Fleet) -> set[str]:
    return {
        route.id for route in fleet.routes if any(scope.targets & set(tier.targets) for tier in route.tiers)
    }


def _returning(scope: Scope, sight: Sight) -> Iterator[str]:
    """Struck targets that are out, or not yet all the way back."""
    out = {
        each.target: each.reason
        for document in sight.documents.values()
        for each in document.excluded
        if each.by == "auto" and each.target in scope.targets
    }
    yield from (f"{target} is {reason}" for target, reason in sorted(out.items()))
    climbing = {
        reason.target: reason.values.get("permille", FULL)
        for document in sight.documents.values()
        for reason in document.reasons
        if reason.code == "RAMP_STEP" and reason.target in scope.targets
    }
    for target, permille in sorted(climbing.items(), key=str):
        if permille < FULL:
            yield f"{target} returns, and has {permille / 10:g} % of its weight"


def _last_move(sight: Sight) -> tuple[str, float]:
    """The decision that made the plan what it is, and for how long that has been seen to stand."""
    heads = list(sight.heads)
    first = heads[-1]
    for head in reversed(heads):
        if head.plan != first.plan:
            break
        first = head
    return f"decision {first.version}", sight.clock.monotonic() - first.at
