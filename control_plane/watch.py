"""How a replica and the fleet are seen from outside: gauges, alarms, the process itself. A part of `replica`."""

import random
from collections.abc import Callable, Mapping, Sequence

from control_plane.loops.alarms import Alarms
from control_plane.loops.etcd_health import EtcdHealth
from control_plane.loops.gauges import Gauges
from control_plane.loops.lead import Lead
from control_plane.loops.mirror import Mirror
from control_plane.loops.notify import Notifier
from control_plane.loops.observe import Observer
from control_plane.metrics import Metrics
from control_plane.ports import EdgeRecord
from control_plane.ports_alerts import Outgoing
from shared.clock import Clock
from shared.metrics import watch_process
from shared.ports import Coordination
from shared.supervise import Supervisor
from shared.vocabulary.config import FleetConfig
from shared.vocabulary.node import Node
from shared.vocabulary.view import HealthView


class Watch:
    """`start` runs its loops; `measure` is called before each scrape. Without `outgoing` nobody is told."""

    def __init__(
        self,
        store: Coordination,
        *,
        node: Node,
        lead: Lead,
        mirror: Mirror,
        view: Callable[[], HealthView | None],
        edges: Callable[[], Sequence[EdgeRecord]],
        config: Callable[[], FleetConfig | None],
        observers: Sequence[Observer],
        outgoing: Outgoing | None,
        clock: Clock,
        rng: random.Random,
        metrics: Metrics,
    ) -> None:
        self._node = node
        self._clock = clock
        self._metrics = metrics
        self._observers = observers
        self.etcd = EtcdHealth(store, metrics=metrics)
        self._alarms = Alarms(
            store,
            lead=lead,
            mirror=mirror,
            node=node,
            view=view,
            edges=edges,
            config=config,
            etcd_alarms=lambda: self.etcd.alarms,
            warm=lambda: all(observer.caught_up for observer in observers),
            clock=clock,
            metrics=metrics,
        )
        self._notifier: Notifier | None = None
        if outgoing is not None:
            self._notifier = self._alarms.notifier = Notifier(
                outgoing, clock=clock, rng=rng, metrics=metrics, on_done=self._alarms.done
            )
        self._gauges = Gauges(
            metrics,
            mirror,
            view=view,
            edges=edges,
            config=config,
            shed=self._alarms.shed,
            queues=self._queues,
            clock=clock,
        )

    def start(self, supervisor: Supervisor) -> None:
        """Run every loop."""
        supervisor.start("etcd health", self.etcd.run)
        supervisor.start("alarms", self._alarms.run)
        if self._notifier is not None:
            supervisor.start("notify", self._notifier.run)
        lag = watch_process(
            self._metrics.registry,
            role=self._node.role.value,
            node=self._node.id,
            region=self._node.region,
            restarts=supervisor.failures,
            clock=self._clock,
        )
        supervisor.start("lag", lag.run)

    def measure(self) -> None:
        """Bring the gauges up to date."""
        self._gauges.measure()

    def _queues(self) -> Mapping[str, int]:
        """What waits to be sent."""
        return {
            "dead_letters": sum(observer.letters for observer in self._observers),
            "notices": self._notifier.waiting if self._notifier is not None else 0,
        }
