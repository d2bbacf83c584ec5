"""Which tenants are counted by name: the busiest, and everybody else as `other`.

A fleet may know 100,000 client keys, and a monitoring system holds a series for each label it ever saw. So at
most `NAMED` are told apart on one edge. The first to come are taken as long as there is room; once a turn the
quietest named ones give way to others that asked more than twice as often, so that two of about the same size
do not change places all the time.
"""

from collections.abc import Mapping
from typing import Final

NAMED: Final = 20
OTHER: Final = "other"
"""A client key of this very name is counted here too."""
WAITING: Final = 4096
"""Tenants without a name that are counted between two turns, to see who is busier."""
CLEARLY: Final = 2
"""So many times busier, to take another's place."""
TURN_S: Final = 60.0


class Busiest:
    """Mutable; one per edge."""

    __slots__ = ("_before", "_waiting", "named")

    def __init__(self) -> None:
        self.named: set[str] = set()
        self._waiting: dict[str, int] = {}
        self._before: Mapping[str, int] = {}

    def takes(self, tenant: str) -> bool:
        """A request of `tenant`, that is not counted by name yet in its route: whether it should be."""
        if tenant == OTHER:
            return False
        if tenant in self.named:
            return True
        if len(self.named) < NAMED:
            self.named.add(tenant)
            return True
        waiting = self._waiting
        if tenant in waiting:
            waiting[tenant] += 1
        elif len(waiting) < WAITING:
            waiting[tenant] = 1
        return False

    def turn(self, totals: Mapping[str, int]) -> frozenset[str]:
        """The end of a turn; `totals` are the requests of the named ones so far. Returns those that
        give way."""
        lately = {tenant: totals.get(tenant, 0) - self._before.get(tenant, 0) for tenant in self.named}
        quietest = sorted(lately, key=lambda tenant: (lately[tenant], tenant))
        eager = sorted(self._waiting.items(), key=lambda item: (-item[1], item[0]))
        gone = set()
        for (tenant, asked), quiet in zip(eager, quietest, strict=False):
            if asked <= CLEARLY * lately[quiet]:
                break
            self.named.remove(quiet)
            self.named.add(tenant)
            gone.add(quiet)
        self._before = {tenant: count for tenant, count in totals.items() if tenant in self.named}
        self._waiting = {}
        return frozenset(gone)
