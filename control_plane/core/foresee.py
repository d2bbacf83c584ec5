"""Foresight: what would be decided now, and where that would lead, if nothing else happened.

The first pass is what the leader would commit at once. Soft moves, hold-downs and ramps take time, so
passes go on, on virtual time with the same view, until nothing has changed for longer than any of them
lasts (`settled`), or `MAX_PASSES` were made. Orders stay as they are: overrides do not expire on the way.

Verdicts are taken as given; what is `assumed` DOWN is so for everybody, on hard evidence.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from control_plane.core.memory import Memory
from control_plane.core.onward import Course, Step, onward
from control_plane.core.orders import Orders
from control_plane.core.standing import hold_down_s
from control_plane.core.weights import shares
from shared.vocabulary.config import FleetConfig, Policy, Target
from shared.vocabulary.decision import Decision
from shared.vocabulary.terms import Verdict
from shared.vocabulary.view import HealthView, TargetHealth

MAX_PASSES = 240
LEAST_STEP_S = 0.25
ASSUMED = "assumed DOWN"

Clients = tuple[str, str]
"""Route and client region."""
Traffic = Mapping[Clients, Mapping[str, int]]
"""Target -> millionths of the route's requests in that region; stand-bys are left out."""


class Outlook:
    """One look ahead: `passes` makes them one by one, so that the caller may do other things in between."""

    def __init__(
        self, course: Course, config: FleetConfig, view: HealthView, *, orders: Orders, now: datetime
    ) -> None:
        self._config = config
        self._view = view
        self._orders = orders
        self._began = self._now = self._changed_at = now
        self._passes = 0
        self.before = course
        self.course = course
        """Where it has come to."""
        self.at_once: Step | None = None
        """The first pass; None before it was made."""
        self.refusals: tuple[str, ...] = ()
        """Why some of what would be proposed on the way would not be committed. A pass of which nothing
        may be ends the course, unless only routes are left that were refused before."""
        self._kept: frozenset[str] = frozenset()
        self.settled = False

    @property
    def after_s(self) -> float:
        """From now to the last change, by virtual time: up to one step late."""
        return (self._changed_at - self._began).total_seconds()

    def passes(self) -> Iterator[None]:
        """Go on to the end."""
        more = True
        while more:
            more = self._pass()
            yield

    def _pass(self) -> bool:
        """One pass; False when it was the last."""
        made = onward(self.course, self._config, self._view, orders=self._orders, now=self._now)
        self._passes += 1
        if self.at_once is None:
            self.at_once = made
        self.refusals = tuple(dict.fromkeys((*self.refusals, *made.refusals)))
        if made.kept is None and not made.changed.keys() <= self._kept:
            return False
        if made.kept is not None and made.changed:
            self.course, self._changed_at = made.course, self._now
            self._kept = made.kept
        policy = self._config.fleet.policy
        quiet_s = (self._now - self._changed_at).total_seconds()
        self.settled = quiet_s > _longest_s(self.course.memory, policy)
        self._now += timedelta(seconds=_step_s(policy))
        return not self.settled and self._passes < MAX_PASSES


def assuming(view: HealthView, down: Sequence[Target]) -> HealthView:
    """`view`, with the targets in `down` DOWN for everybody, on hard evidence; known to it or not."""
    assumed = {
        target.id: TargetHealth(
            id=target.id,
            region=target.region,
            provider=target.provider,
            verdict=Verdict.DOWN,
            hard=True,
            reason=ASSUMED,
        )
        for target in down
    }
    others = [health for health in view.targets if health.id not in assumed]
    return view.model_copy(update={"targets": (*others, *assumed.values())})


def traffic(documents: Mapping[str, Decision]) -> Traffic:
    """Who gets what by `documents`."""
    return {
        (route, region): shares(decided)
        for route, document in documents.items()
        if not document.removed
        for region, decided in document.regions.items()
    }


@dataclass(frozen=True, slots=True)
class Warned:
    """What an operator should know before going on."""

    route: str
    region: str
    what: str
    grave: bool
    """Requests would fail that could be served now, or that ought to be."""


def warnings(documents: Mapping[str, Decision], view: HealthView) -> Iterator[Warned]:
    """What is bad about `documents`, though they pass for safe."""
    down = {health.id for health in view.targets if health.verdict is Verdict.DOWN}
    for route, document in documents.items():
        for region, decided in document.regions.items():
            used = shares(decided)
            usable = [target.id for tier in decided.tiers for target in tier.targets]
            if shed := decided.shed_permille:
                yield Warned(route, region, f"{shed / 10:g} % of the requests find room nowhere", True)
            if lost := sum(part for target, part in used.items() if target in down):
                dead = ", ".join(sorted(down & used.keys()))
                yield Warned(
                    route, region, f"{lost / 10_000:.3g} % of the requests go to {dead}, which is DOWN", True
                )
            if len(usable) == 1:
                yield Warned(route, region, f"nobody stands by for {usable[0]}", False)


def _longest_s(memory: Memory, policy: Policy) -> float:
    """How long nothing may happen although something is under way."""
    held = [standing for standing in memory.targets.values() if standing.phase == "OUT"]
    held += [
        standing
        for standings in memory.regional.values()
        for standing in standings.values()
        if standing.phase == "OUT"
    ]
    holds_s = [hold_down_s(standing.flaps, policy) for standing in held]
    return max(policy.soft_interval_s, policy.ramp_s, *holds_s)


def _step_s(policy: Policy) -> float:
    ramp_step_s = policy.ramp_s / max(1, len(policy.ramp_permille) - 1)
    return max(LEAST_STEP_S, min(ramp_step_s, policy.soft_interval_s))
