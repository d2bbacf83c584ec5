"""Roster: what follows from the configuration alone, worked out once per configuration.

Who may vote on a target, which of its probe entries count, which targets a route may use for each
client region and in what order. Pass the same `FleetConfig` object from tick to tick: the roster is
remembered by the object's identity, for the last few configurations.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Generic, Literal, TypeVar

from shared.vocabulary.config import Fleet, FleetConfig, Route, Target
from shared.vocabulary.override import Override

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True, eq=False)
class Watch:
    """Who watches a target, and with what."""

    monitors: Mapping[str, frozenset[str]]
    """Vantage -> ids of the monitors its probers run. Entries of others do not count."""

    @property
    def quorum(self) -> int:
        """Votes that DOWN needs at least: two, or all where fewer regions are configured to watch."""
        return min(2, len(self.monitors))


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """The targets of one tier that stand in one region: equally near, so equally used."""

    region: str
    targets: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Barred:
    """A target that policy or an operator keeps out of a route."""

    target: str
    reason: str
    by: Literal["policy", "operator"] = "policy"
    until: datetime | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Placing:
    """One route as configured and ordered, without what policy or an operator bars."""

    route: Route
    permitted: tuple[str, ...]
    """In the order of the configuration, over all tiers."""
    members: frozenset[str]
    """The permitted, to look them up."""
    barred: tuple[Barred, ...]
    tiers: Mapping[str, tuple[tuple[Group, ...], ...]]
    """Client region -> per configured tier its groups, nearest first."""
    preferred: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Client region -> pinned targets: used before all others while any of them is usable."""
    fixed: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Client region -> target -> permille of the route's traffic, by hand; among those that are usable."""
    staged: Mapping[str, int] = field(default_factory=dict)
    """Target -> permille of its tier's traffic, by a rollout. In the roster's own placings every
    candidate stands here with 0; under orders those with 0 are barred and gone from here."""
    frozen: bool = False
    """An operator has suspended automatic removals."""
    overrides: tuple[Override, ...] = ()
    """Those in force that concern the route, the newest last."""


@dataclass(frozen=True, slots=True, eq=False)
class Roster:
    """Everything derived from one configuration."""

    watches: Mapping[str, Watch]
    """Target -> who watches it."""
    placings: Mapping[str, Placing]
    """Route -> its targets in order."""
    routed: frozenset[str]
    """Targets that some route may use."""


def roster_of(config: FleetConfig) -> Roster:
    """The roster of `config`, remembered for as long as the same object keeps coming."""
    return _roster(ByIdentity(config))


@dataclass(frozen=True, slots=True, eq=False)
class ByIdentity(Generic[Value]):
    """A key for `lru_cache` that is equal only for the very same object, which it keeps alive."""

    value: Value

    def __hash__(self) -> int:
        return id(self.value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ByIdentity) and other.value is self.value


@lru_cache(maxsize=4)
def _roster(config: ByIdentity[FleetConfig]) -> Roster:
    fleet = config.value.fleet
    ranks = {
        region.id: {near: rank for rank, near in enumerate(fleet.by_distance(region.id))}
        for region in fleet.regions
    }
    placings = {route.id: _placing(fleet, route, ranks) for route in fleet.routes}
    return Roster(
        watches=_watches(fleet),
        placings=placings,
        routed=frozenset(target for placing in placings.values() for target in placing.permitted),
    )


def _watches(fleet: Fleet) -> dict[str, Watch]:
    shared: dict[tuple[int, ...], Watch] = {}
    watches: dict[str, Watch] = {}
    for target in fleet.targets:
        matching = tuple(
            index
            for index, monitor in enumerate(fleet.monitors)
            if any(fnmatchcase(target.id, pattern) for pattern in monitor.targets)
        )
        if matching not in shared:
            shared[matching] = _watch(fleet, matching)
        watches[target.id] = shared[matching]
    return watches


def _watch(fleet: Fleet, matching: tuple[int, ...]) -> Watch:
    monitors = [fleet.monitors[index] for index in matching]
    by_vantage = {
        region.id: frozenset(
            monitor.id
            for monitor in monitors
            if monitor.check_regions is None or region.id in monitor.check_regions
        )
        for region in fleet.regions
    }
    return Watch({vantage: ids for vantage, ids in by_vantage.items() if ids})


def _placing(fleet: Fleet, route: Route, ranks: Mapping[str, Mapping[str, int]]) -> Placing:
    tiers: list[list[Target]] = []
    barred: list[Barred] = []
    for tier in route.tiers:
        tiers.append([])
        for target in (fleet.targets_by_id[name] for name in tier.targets):
            if route.residency is None or target.region in route.residency:
                tiers[-1].append(target)
            else:
                allowed = ", ".join(route.residency)
                reason = f"residency: stands in {target.region}, the route allows {allowed}"
                barred.append(Barred(target.id, reason[:512]))
    permitted = tuple(target.id for tier in tiers for target in tier)
    return Placing(
        route=route,
        permitted=permitted,
        members=frozenset(permitted),
        barred=tuple(barred),
        tiers={
            region.id: tuple(_groups(tier, ranks[region.id]) for tier in tiers) for region in fleet.regions
        },
        staged={target: 0 for tier in route.tiers for target in tier.candidates if target in permitted},
    )


def _groups(targets: list[Target], rank: Mapping[str, int]) -> tuple[Group, ...]:
    members: dict[str, list[str]] = {}
    for target in targets:
        members.setdefault(target.region, []).append(target.id)
    return tuple(
        Group(region, tuple(members[region])) for region in sorted(members, key=lambda near: rank[near])
    )
