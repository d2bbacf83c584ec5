"""Rehearsal: recorded events, another policy. What would have been decided?

Virtual time, in which only events and the leader's own pace exist. Like the leader, it makes a pass
every `tick_s`, and `MIN_GAP_S` after a word that changed something; like the leader, a pass concludes
and decides. Commits take no time and always succeed. The same events in the same order give the same
course, to the microsecond.

What cannot be rehearsed: probers' counters (an event says UP or DOWN as the prober's own thresholds
had it), and traffic (edges' windows show what came of the decisions that were in force).
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta

from control_plane.core.conclude import conclude
from control_plane.core.fold import EventFold
from control_plane.core.onward import Step, onward, resumed
from control_plane.core.orders import Orders, orders_of
from shared.vocabulary.config import FleetConfig
from shared.vocabulary.decision import Decision
from shared.vocabulary.health import HealthEvent
from shared.vocabulary.override import Override
from shared.vocabulary.rollout import Rollout
from shared.vocabulary.view import HealthView

MIN_GAP_S = 0.01
FORGET_EVERY_S = 60.0


class Rehearsal:
    """One configuration's course. `on_step` is told of every pass that changes something, or whose
    proposal is refused; feed it by `hear` in order of time, and `finish` it.

    Decides from `decides_from` on, with `documents` in force; what it hears before only fills the fold.
    Sources silent for `forget_s` are dropped, as the replica drops them.
    """

    def __init__(
        self,
        config: FleetConfig,
        documents: Mapping[str, Decision],
        *,
        decides_from: datetime,
        tick_s: float,
        forget_s: float,
        on_step: Callable[[datetime, Step], None],
        overrides: Sequence[Override] = (),
        rollouts: Sequence[Rollout] = (),
    ) -> None:
        self._config = config
        self._course = resumed(documents, config)
        self._due = decides_from
        self._tick = timedelta(seconds=tick_s)
        self._forget_s = forget_s
        self._forget_at = decides_from
        self._on_step = on_step
        self._overrides = overrides
        self._rollouts = tuple(rollouts)
        self._fold = EventFold()
        self._view: HealthView | None = None
        self._refused: tuple[str, ...] = ()
        self._deciding = False

    def hear(self, event: HealthEvent, at: datetime) -> None:
        """Take in `event`, which arrived at `at`, after the passes that were due before."""
        while self._due < at:
            self._pass(self._due)
        if self._fold.apply(event, received_at=at.timestamp()) and self._deciding:
            self._due = min(self._due, at + timedelta(seconds=MIN_GAP_S))

    def adopt(self, config: FleetConfig, at: datetime) -> None:
        """Decide by `config` from `at` on."""
        while self._due < at:
            self._pass(self._due)
        self._config, self._due = config, min(self._due, at + timedelta(seconds=MIN_GAP_S))

    def finish(self, at: datetime) -> None:
        """Make the passes that are due until `at`, inclusive."""
        while self._due <= at:
            self._pass(self._due)

    def _pass(self, now: datetime) -> None:
        self._deciding = True
        self._due = now + self._tick
        monotonic = now.timestamp()
        self._view = conclude(
            self._fold,
            self._config,
            replica="rehearsal",
            now=now,
            monotonic=monotonic,
            previous=self._view,
        )
        step = onward(self._course, self._config, self._view, orders=self._orders(now), now=now)
        self._course = step.course
        if step.changed and (step.kept is not None or step.refusals != self._refused):
            self._on_step(now, step)
        self._refused = step.refusals
        if now >= self._forget_at:
            self._forget_at = now + timedelta(seconds=FORGET_EVERY_S)
            self._fold.forget(before=monotonic - self._forget_s)

    def _orders(self, now: datetime) -> Orders:
        """Those that held at `now`, whatever became of them later."""
        known = [each for each in self._overrides if each.created_at <= now]
        as_it_was = [
            each.model_copy(update={"ended": None}) if each.ended and each.ended.at > now else each
            for each in known
        ]
        return orders_of(as_it_was, self._rollouts, now)
