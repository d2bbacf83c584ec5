"""What was built before and is still good: so that a new table of ten thousand targets costs what has changed in it.

A table is built on the loop that serves, between two requests, so what it takes is a pause for all of them. A target's
entry depends on nothing but the configuration, a route's on that and on its document, and neither changes once read:
so both are known by identity. Those of the last two configurations are kept, for one may be prepared, in a thread,
while the other is still in force.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from shared.vocabulary.config import FleetConfig, Route
from shared.vocabulary.decision import Decision

if TYPE_CHECKING:
    from edge_router.core.table import RouteEntry, TargetEntry

CONFIGS_KEPT: Final = 2


class KnownEntries:
    """The entries of one configuration."""

    __slots__ = ("_routes", "config", "nearness", "targets")

    def __init__(
        self, config: FleetConfig, targets: Mapping[str, "TargetEntry"], nearness: Mapping[str, int]
    ) -> None:
        self.config = config
        self.targets = targets
        self.nearness = nearness
        self._routes: dict[str, tuple[Decision | None, RouteEntry]] = {}

    def route(
        self,
        route: Route,
        document: Decision | None,
        build: Callable[["KnownEntries", Route, Decision | None], "RouteEntry"],
    ) -> "RouteEntry":
        """The entry of `route` under `document`, built if that is not the one it was last built from. Raises what
        `build` raises."""
        known = self._routes.get(route.id)
        if known is not None and known[0] is document:
            return known[1]
        entry = build(self, route, document)
        self._routes[route.id] = (document, entry)
        return entry


class Known:
    """Mutable; one per edge, whose region never changes."""

    __slots__ = ("_configs",)

    def __init__(self) -> None:
        self._configs: list[KnownEntries] = []

    def of(self, config: FleetConfig, build: Callable[[FleetConfig], KnownEntries]) -> KnownEntries:
        """What is known of `config`, that very object."""
        for known in self._configs:
            if known.config is config:
                return known
        known = build(config)
        self._configs = [*self._configs, known][-CONFIGS_KEPT:]
        return known

    def at(self, config_version: int) -> KnownEntries | None:
        """What is known of the configuration last met under this version."""
        return next(
            (known for known in reversed(self._configs) if known.config.config_version == config_version),
            None,
        )
