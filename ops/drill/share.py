"""Whether targets are given more than they were planned: what a stampede is. Pure.

A target's plan is its part of each client region's requests; what it was given are the requests that it
answered. Both are summed over whole seconds until MIN_PLANNED requests were planned, for one request
more or less says nothing of a few; a sum that is complete is compared, and the next begins.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ops.drill.plans import Plan

MIN_PLANNED = 20.0


@dataclass(slots=True)
class Shares:
    """`worst` is the most that each target was given of its plan, in permille."""

    route: str
    worst: dict[str, int] = field(default_factory=dict)
    _planned: dict[str, float] = field(default_factory=dict)
    _given: dict[str, int] = field(default_factory=dict)

    def add(
        self,
        given: Mapping[tuple[str, str], int],
        plans: Iterable[Plan],
        *,
        leave_out: frozenset[str] = frozenset(),
    ) -> None:
        """One second: requests by (client region, target), and the plans in force about it, of which
        the most generous counts, for edges change over at different moments."""
        asked: dict[str, int] = {}
        for (client, _), requests in given.items():
            asked[client] = asked.get(client, 0) + requests
        parts: dict[tuple[str, str], int] = {}
        for plan in plans:
            for (route, client, target), part in plan.items():
                if route == self.route and client in asked:
                    parts[client, target] = max(part, parts.get((client, target), 0))
        for (client, target), part in parts.items():
            if target not in leave_out:
                self._planned[target] = self._planned.get(target, 0.0) + asked[client] * part / 1000
        for (client, target), requests in given.items():
            # Who is planned nothing serves when others fail within a request: that is no plan to exceed.
            if target not in leave_out and (client, target) in parts:
                self._given[target] = self._given.get(target, 0) + requests
        self._compare()

    def _compare(self) -> None:
        for target, planned in list(self._planned.items()):
            if planned >= MIN_PLANNED:
                permille = round(1000 * self._given.pop(target, 0) / planned)
                self.worst[target] = max(permille, self.worst.get(target, 0))
                del self._planned[target]
