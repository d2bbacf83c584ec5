"""What one edge keeps for its ladders: the stored answers, and how often which rung was used."""

from collections.abc import Iterator, Mapping
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from edge_router.core.ladder.store import AnswerStore
from edge_router.core.table import RouteEntry, RouteTable

HIT: Final = "hit"
"""A fresh stored answer given without asking a target: no failure, and not counted as degraded."""
STEP_DOWN: Final = "step_down"


class Rungs:
    """Mutable; one per edge."""

    __slots__ = ("_broken_promises", "_hand_offs", "_used", "store")

    def __init__(self) -> None:
        self.store = AnswerStore()
        self._used: dict[tuple[str, str], int] = {}
        self._hand_offs: dict[str, int] = {}
        self._broken_promises: dict[str, int] = {}

    def used(self, route: str, rung: str, *, hand_off: bool = False) -> None:
        """A request of `route` took this step."""
        key = (route, rung)
        self._used[key] = self._used.get(key, 0) + 1
        if hand_off:
            self._hand_offs[route] = self._hand_offs.get(route, 0) + 1

    def broke_promise(self, target: str) -> None:
        """An answer of `target` was not the JSON that its response format promises."""
        self._broken_promises[target] = self._broken_promises.get(target, 0) + 1

    def turn(self, routes: Mapping[str, RouteEntry], now: float) -> None:
        """Forget answers that are too old, and routes that are gone or store no longer."""
        limits_s: dict[str, float] = {}
        for name, route in routes.items():
            if route.ladder is not None and (stored := route.ladder.stored) is not None:
                limits_s[name] = stored.ttl_s + stored.stale_s
        self.store.sweep(limits_s, now)

    def keep(self, table: RouteTable) -> None:
        """Forget the counts of routes and targets that are gone."""
        for key in [key for key in self._used if key[0] not in table.routes]:
            del self._used[key]
        for route in [route for route in self._hand_offs if route not in table.routes]:
            del self._hand_offs[route]
        for target in [target for target in self._broken_promises if target not in table.targets]:
            del self._broken_promises[target]

    def metrics(self) -> Iterator[Metric]:
        """For Prometheus."""
        used = CounterMetricFamily(
            "leeward_edge_ladder_steps",
            "Requests that took a step of their route's ladder, by rung: hit (fresh, no target asked), step_down, "
            "stored, rules, static.",
            labels=("route", "rung"),
        )
        for (route, rung), count in self._used.items():
            used.add_metric((route, rung), count)
        yield used
        hand_offs = CounterMetricFamily(
            "leeward_edge_hand_offs", "Static answers that pointed to people.", labels=("route",)
        )
        for route, count in self._hand_offs.items():
            hand_offs.add_metric((route,), count)
        yield hand_offs
        broken = CounterMetricFamily(
            "leeward_edge_broken_formats",
            "Answers that were not the JSON that their response format promises.",
            labels=("target",),
        )
        for target, count in self._broken_promises.items():
            broken.add_metric((target,), count)
        yield broken
        store = self.store
        yield GaugeMetricFamily("leeward_edge_stored_answers", "Stored answers.", value=len(store))
        yield GaugeMetricFamily("leeward_edge_stored_bytes", "Bytes they take.", value=store.bytes)
        yield CounterMetricFamily(
            "leeward_edge_stored_evictions", "Stored answers that had to go for others.", value=store.evicted
        )
