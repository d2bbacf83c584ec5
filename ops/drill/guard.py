"""The lines a drill must not cross: looked at five times a second, and the drill ends when one is."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from ops.drill.plans import planned_of_capacity
from ops.drill.scope import Scope
from ops.drill.sight import Sight
from ops.drill.signs import living_regions
from ops.drill.tally import Tallies
from shared.vocabulary.config import Fleet
from shared.vocabulary.drill import DrillGuard
from shared.vocabulary.status import GuardRail

GUARD_S = 0.2
LATENCY_OVER_S = 10
"""The p99 is that of the last ten seconds: of a whole long drill it would tell too late."""


@dataclass(slots=True)
class Guard:
    """Watches, remembers the worst, and stops the sight at the first line that is crossed."""

    lines: DrillGuard
    scope: Scope
    fleet: Fleet
    sight: Sight
    tallies: Tallies
    active: Callable[[], bool]
    """Whether a crossed line is to end the drill: not before it has begun."""
    worst_success: float = 1.0
    worst_p99_ms: float = 0.0
    fewest_regions: int | None = None
    planned: dict[str, int] = field(default_factory=dict)
    """The most that a plan asked of each survivor's capacity, in permille."""

    async def run(self) -> None:
        """For ever."""
        while True:
            await asyncio.sleep(GUARD_S)
            self.look()
            crossed = next((rail for rail in self.rails() if not rail.ok), None)
            if crossed is not None and self.active():
                self.sight.stop(
                    f"guard rail: {crossed.name.replace('_', ' ')} is {crossed.worst:g}, the line is {crossed.limit:g}"
                )

    def look(self) -> None:
        """Take in how things stand."""
        tally = self.tallies.tally
        if tally.requests >= self.lines.after_requests:
            self.worst_success = min(self.worst_success, tally.success_rate)
        slow = self.tallies.latency_ms_p99(of_seconds=LATENCY_OVER_S)
        if slow is not None and slow[0] >= self.lines.after_requests:
            self.worst_p99_ms = max(self.worst_p99_ms, slow[1])
        living = living_regions(self.sight, self.scope)
        if living is not None:
            self.fewest_regions = min(
                living, self.fewest_regions if self.fewest_regions is not None else living
            )
        if self.sight.reached and self.sight.view is not None:
            asked = planned_of_capacity(self.sight.documents, self.sight.view.loads, self.fleet)
            for target, permille in asked.items():
                if target not in self.scope.targets:
                    self.planned[target] = max(permille, self.planned.get(target, 0))

    def rails(self) -> tuple[GuardRail, ...]:
        """Every line that is drawn, with how close it came."""
        limit = self.lines.min_success_permille / 1000
        worst = round(self.worst_success, 6)
        found = [GuardRail(name="success_rate", limit=limit, worst=worst, ok=worst >= limit)]
        if self.lines.max_latency_ms_p99 is not None:
            found.append(
                _at_most("latency_ms_p99", self.lines.max_latency_ms_p99, round(self.worst_p99_ms, 1))
            )
        if self.lines.max_planned_permille is not None:
            most = max(self.planned.values(), default=0)
            found.append(_at_most("planned_permille", self.lines.max_planned_permille, most))
        if self.fewest_regions is not None:
            least, fewest = self.lines.min_regions, self.fewest_regions
            found.append(GuardRail(name="min_regions", limit=least, worst=fewest, ok=fewest >= least))
        return tuple(found)


def _at_most(name: str, limit: float, worst: float) -> GuardRail:
    return GuardRail(name=name, limit=limit, worst=worst, ok=worst <= limit)
