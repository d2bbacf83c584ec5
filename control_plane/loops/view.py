"""The health view of this replica: concluded by the leader at every reconciliation, by others once a
second, and whenever somebody asks and it is older than a quarter of one."""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from control_plane.core.conclude import look
from control_plane.core.fold import EventFold
from control_plane.core.hindsight import UNAWARE, Hindsight
from control_plane.core.tally import removals
from control_plane.metrics import Metrics
from control_plane.ports import LogEntry, Transition
from shared.clock import Clock
from shared.vocabulary.config import FleetConfig
from shared.vocabulary.terms import Verdict
from shared.vocabulary.view import BusHealth, HealthView, TargetHealth

MAX_AGE_S = 0.25
PACE_S = 1.0
FORGET_S = 600.0
"""Sources silent for longer are dropped from the fold; they have been UNKNOWN for minutes."""
HISTORY_LENGTH = 50


class Viewer:
    """Concludes; keeps the last view and the hindsight, so that `since` and what is known over time carry
    on, and each target's last transitions. `log` is the timeline of decisions, newest first."""

    def __init__(
        self,
        fold: EventFold,
        *,
        replica: str,
        clock: Clock,
        metrics: Metrics,
        config: Callable[[], FleetConfig | None],
        buses: Callable[[], tuple[BusHealth, ...]],
        log: Callable[[], Sequence[LogEntry]] = tuple,
    ) -> None:
        self._fold = fold
        self._replica = replica
        self._clock = clock
        self._metrics = metrics
        self._config = config
        self._buses = buses
        self._log = log
        self._hindsight: Hindsight = UNAWARE
        self._failovers = 0
        self._counted_at = float("-inf")
        self._view: HealthView | None = None
        self._made_at = 0.0
        self._targets: Mapping[str, TargetHealth] = {}
        self._history: dict[str, deque[Transition]] = {}

    def refresh(self, config: FleetConfig) -> HealthView:
        """Conclude now."""
        now = self._clock.monotonic()
        view, self._hindsight = look(
            self._fold,
            config,
            self._hindsight,
            replica=self._replica,
            now=self._clock.now(),
            monotonic=now,
            previous=self._view,
            buses=self._buses(),
            failovers_last_hour=self._failovers_last_hour(now),
        )
        self._remember(view)
        self._view, self._made_at = view, now
        return view

    def current(self) -> HealthView | None:
        """At most `MAX_AGE_S` old; None while no configuration is known."""
        config = self._config()
        if config is None:
            return None
        old = self._view is None or self._view.config_version != config.config_version
        if self._view is None or old or self._clock.monotonic() - self._made_at > MAX_AGE_S:
            return self.refresh(config)
        return self._view

    def history(self, target: str) -> Sequence[Transition]:
        """The target's last transitions, oldest first."""
        return tuple(self._history.get(target, ()))

    async def run(self) -> None:
        """Keep `since` and the history true on replicas that nobody asks, and the fold bounded."""
        while True:
            if self._clock.monotonic() - self._made_at >= PACE_S:
                self.current()
            if self._view is not None:
                counts = dict.fromkeys(Verdict, 0)
                for target in self._view.targets:
                    counts[target.verdict] += 1
                for verdict, count in counts.items():
                    self._metrics.targets.labels(verdict.value).set(count)
            self._fold.forget(before=self._clock.monotonic() - FORGET_S)
            await asyncio.sleep(PACE_S)

    def _failovers_last_hour(self, monotonic: float) -> int:
        """Counted anew once in `PACE_S`: the log may be long."""
        if monotonic - self._counted_at >= PACE_S:
            self._counted_at = monotonic
            timeline = ((entry.at, entry.reasons) for entry in reversed(self._log()))
            self._failovers = removals(timeline, self._clock.now())
        return self._failovers

    def _remember(self, view: HealthView) -> None:
        targets = {target.id: target for target in view.targets}
        for target in view.targets:
            before = self._targets.get(target.id)
            if before is target or before is None or before.verdict is target.verdict:
                continue
            history = self._history.setdefault(target.id, deque(maxlen=HISTORY_LENGTH))
            history.append(
                Transition(
                    at=view.as_of, verdict=target.verdict, was=before.verdict, reason=target.reason[:512]
                )
            )
        for gone in self._history.keys() - targets.keys():
            del self._history[gone]
        self._targets = targets
