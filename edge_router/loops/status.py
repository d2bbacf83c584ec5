"""What `/status` of an edge's admin listener shows, and the gauges that are read off at each scrape."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from edge_router.core.fault_filter import FaultFilter
from edge_router.loops.alarms import Alarms
from edge_router.loops.carry import Carrier
from edge_router.loops.follow import FollowStream
from edge_router.metrics import Metrics
from edge_router.ports import Crew, Serving
from shared.clock import Clock
from shared.ports import Bus
from shared.supervise import Supervisor
from shared.vocabulary.config import Policy


@dataclass(slots=True)
class Status:
    """One edge as it stands, read when asked."""

    edge: str
    region: str
    boot: int
    carrier: Carrier[Any]
    stream: FollowStream
    bus: Bus | None
    alarms: Alarms
    supervisor: Supervisor
    clock: Clock
    started_at: float
    """Monotonic."""
    serving: Callable[[], Serving[Any] | None]
    url: Callable[[], str | None]
    admin_url: Callable[[], str | None]
    faults: FaultFilter | None = None
    """Where the node file allows drills to put any."""
    draining: bool = False
    crew: Crew | None = None
    """Where the data path is several processes."""

    def why_not_ready(self) -> str | None:
        """None when it serves by a valid table."""
        if self.draining:
            return "draining"
        if self.serving() is None:
            return "no configuration yet, from no file and no path"
        return None if self.crew is None else self.crew.why_not_ready()

    def as_json(self) -> dict[str, Any]:
        """The edge's part of `leeward status`, and what an operator asks next."""
        follower, now = self.carrier.follower, self.clock.monotonic()
        serving, config = self.serving(), follower.config
        window_s = (Policy() if config is None else config.fleet.policy).passive_window_s
        age = follower.beat_age_s(now)
        return {
            "id": self.edge,
            "region": self.region,
            "url": self.url(),
            "admin_url": self.admin_url(),
            "mode": self.carrier.mode.value,
            "decision": str((self.crew and self.crew.served()) or follower.version),
            "head_sha": None if follower.head is None else follower.head.sha,
            "config_version": None if config is None else config.config_version,
            "beat_age_s": None if age is None else round(age, 3),
            "applied_at": self.carrier.applied_at.isoformat(),
            "applied_age_s": round(now - self.carrier.applied_monotonic, 3),
            "seen": str(follower.seen),
            "routes": {route: str(version) for route, version in sorted(follower.routes.items())},
            "waiting": follower.waiting,
            "targets": []
            if serving is None
            else [window.model_dump(mode="json") for window in serving.passive(window_s)],
            "alarms": self.alarms.shown(),
            "refused": {f"{what}.{reason}": n for (what, reason), n in sorted(follower.refused.items())},
            "stream": self.stream.followed,
            "bus_reachable": None if self.bus is None else self.bus.reachable,
            "fault_filter": None if self.faults is None else self.faults.shown(now),
            "workers": None if self.crew is None else self.crew.shown(),
            "loop_failures": dict(self.supervisor.failures),
            "boot": self.boot,
            "uptime_s": round(now - self.started_at, 3),
            "draining": self.draining,
        }

    def measure(self, metrics: Metrics) -> None:
        """Set the gauges."""
        follower, now = self.carrier.follower, self.clock.monotonic()
        age = follower.beat_age_s(now)
        metrics.generation.set(follower.version.generation)
        metrics.seq.set(follower.version.seq)
        metrics.config_version.set(0 if follower.config is None else follower.config.config_version)
        metrics.head_age.set(now - self.carrier.applied_monotonic)
        metrics.beat_age.set(math.nan if age is None else age)
        metrics.waiting.set(len(follower.waiting))
        metrics.stream_connected.set(self.stream.followed is not None)
        metrics.bus_reachable.set(self.bus is not None and self.bus.reachable)
