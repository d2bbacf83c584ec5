"""The gauges of a replica, read off at each scrape from what its loops hold: nobody keeps them up to date, so they
cost nothing between scrapes and cannot be stale."""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Literal

from control_plane.loops.mirror import Mirror
from control_plane.metrics import Metrics
from control_plane.ports import EdgeRecord
from shared.clock import Clock
from shared.vocabulary.alerts import AlertPolicy
from shared.vocabulary.config import FleetConfig
from shared.vocabulary.terms import EdgeMode, Role, Verdict
from shared.vocabulary.view import HealthView

DRILL_STATES = ("DUE", "RUNNING", "PASSED", "FAILED", "ABORTED")
FREEZE_CAUSES: tuple[Literal["MOST_SILENT", "CONTRADICTED"], ...] = ("MOST_SILENT", "CONTRADICTED")


class Gauges:
    """`measure` sets them."""

    def __init__(
        self,
        metrics: Metrics,
        mirror: Mirror,
        *,
        view: Callable[[], HealthView | None],
        edges: Callable[[], Sequence[EdgeRecord]],
        config: Callable[[], FleetConfig | None],
        shed: Callable[[], Mapping[tuple[str, str], int]],
        queues: Callable[[], Mapping[str, int]],
        clock: Clock,
    ) -> None:
        self._metrics = metrics
        self._mirror = mirror
        self._view = view
        self._edges = edges
        self._config = config
        self._shed = shed
        self._queues = queues
        self._clock = clock

    def measure(self) -> None:
        """Set every gauge that is read off."""
        now = self._clock.now()
        self._decisions(now)
        self._operators(now)
        self._edge_modes()
        view = self._view()
        if view is not None:
            self._health(view)
        for name, length in self._queues().items():
            self._metrics.queue.labels(name).set(length)

    def _decisions(self, now: datetime) -> None:
        metrics, mirror = self._metrics, self._mirror
        metrics.leader_known.set(mirror.leader is not None)
        age = mirror.beat_age_s
        metrics.beat_age.set(math.nan if age is None else age)
        log = mirror.log()
        metrics.head_age.set(max(0.0, (now - log[0].at).total_seconds()) if log else math.nan)
        metrics.shed.clear()
        for (route, region), share in self._shed().items():
            metrics.shed.labels(route, region).set(share)

    def _operators(self, now: datetime) -> None:
        metrics, mirror = self._metrics, self._mirror
        held = Counter(one.spec.kind for one in mirror.in_force.overrides if one.holds(now))
        for kind in ("drain", "pin", "weights", "freeze"):
            metrics.overrides.labels(kind).set(held[kind])
        metrics.rollouts_running.set(sum(one.state == "RUNNING" for one in mirror.in_force.rollouts))
        drills = Counter[str](one.state for one in mirror.drills.drills)
        for state in DRILL_STATES:
            metrics.drills.labels(state).set(drills[state])

    def _edge_modes(self) -> None:
        metrics, config = self._metrics, self._config()
        policy = config.fleet.alerts if config is not None else AlertPolicy()
        head = self._mirror.in_force.version
        modes: Counter[str] = Counter()
        behind = 0
        for record in self._edges():
            silent = record.age_s > policy.edge_silent_s
            modes["SILENT" if silent else record.ack.mode.value] += 1
            behind += not silent and record.ack.version < head
        for mode in (*(mode.value for mode in EdgeMode), "SILENT"):
            metrics.edges.labels(mode).set(modes[mode])
        metrics.edges_behind.set(behind)

    def _health(self, view: HealthView) -> None:
        metrics = self._metrics
        heard = Counter((source.role.value, "fresh" if source.fresh else "silent") for source in view.sources)
        metrics.sources.clear()
        for (role, state), count in heard.items():
            metrics.sources.labels(role, state).set(count)
        for role in ("prober", "edge", "control-plane"):
            metrics.sources.labels(role, "silent").set(heard[role, "silent"])
        metrics.region_probers.clear()
        metrics.region_verdict.clear()
        probers = Counter(one.vantage for one in view.sources if one.role is Role.PROBER and one.fresh)
        for region in view.regions:
            metrics.region_probers.labels(region.id).set(probers[region.id])
            for verdict in Verdict:
                metrics.region_verdict.labels(region.id, verdict.value).set(region.verdict is verdict)
        frozen = Counter(freeze.cause for freeze in view.freezes)
        for cause in FREEZE_CAUSES:
            metrics.freezes.labels(cause).set(frozen[cause])
        for bus in view.buses:
            metrics.bus_caught_up.labels(bus.region).set(bus.caught_up)
