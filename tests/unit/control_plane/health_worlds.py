"""A scene for the tests of health over time: probers and edges speak, one replica looks."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from brain_worlds import START, fleet_config, probe_event, probe_state

from control_plane.core.conclude import look
from control_plane.core.fold import EventFold
from control_plane.core.hindsight import UNAWARE, Hindsight
from shared.vocabulary.config import FleetConfig
from shared.vocabulary.health import HealthEvent, PassiveWindow, ProbeState, RouteLoad
from shared.vocabulary.terms import Outcome, Role
from shared.vocabulary.view import HealthView, TargetHealth


@dataclass
class Traffic:
    """What the edge of one region sees of one target."""

    good: int = 100
    bad: int = 0
    ms: float = 100.0
    good_age_s: float | None = 0.1
    judged: int = 0
    garbled: int = 0
    admission: str = "ADMITTING"

    def window(self, target: str) -> PassiveWindow:
        """As it is told."""
        return PassiveWindow(
            target=target,
            window_s=10,
            counts={Outcome.OK: self.good, Outcome.FAILED: self.bad},
            latency_ms_p50=self.ms,
            latency_ms_mean=self.ms,
            ttft_ms_p50=self.ms,
            good_age_s=self.good_age_s,
            judged=self.judged,
            garbled=self.garbled,
            admission=self.admission,  # type: ignore[arg-type]
        )


@dataclass
class Scene:
    """`broken[vantage]` names the targets its probes fail on, and since how many rounds; `silent` vantages
    say nothing; `traffic[region]` is what its edge sees."""

    config: FleetConfig = field(default_factory=fleet_config)
    clock_s: float = 1000.0
    broken: dict[str, dict[str, int]] = field(default_factory=dict)
    p50_ms: dict[str, float] = field(default_factory=dict)
    answers: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Target -> answers judged and garbled, as each prober counts them."""
    traffic: dict[str, dict[str, Traffic]] = field(default_factory=dict)
    loads: dict[str, tuple[RouteLoad, ...]] = field(default_factory=dict)
    silent: set[str] = field(default_factory=set)
    fold: EventFold = field(default_factory=EventFold)
    hindsight: Hindsight = UNAWARE
    view: HealthView | None = None
    seq: int = 0

    @property
    def now(self) -> datetime:
        """UTC of this scene."""
        return START + timedelta(seconds=self.clock_s - 1000.0)

    def fails(self, target: str, *vantages: str) -> None:
        """From now on the probes of `vantages`, or of all, fail on `target`."""
        for region in self.config.fleet.regions:
            if not vantages or region.id in vantages:
                self.broken.setdefault(region.id, {})[target] = 0

    def pass_s(self, seconds: float, *, pace_s: float = 1.0) -> HealthView:
        """Time passes; everybody speaks and the replica looks, every `pace_s`."""
        for _ in range(round(seconds / pace_s)):
            self.clock_s += pace_s
            self.report()
            self.look()
        assert self.view is not None
        return self.view

    def report(self) -> None:
        """One round of all who speak."""
        for event in self.round():
            self.fold.apply(event, received_at=self.clock_s)

    def round(self) -> list[HealthEvent]:
        """What everybody says now."""
        self.seq += 1
        events = []
        for region in (each.id for each in self.config.fleet.regions):
            if region in self.silent:
                continue
            states = [self._state(region, target.id) for target in self.config.fleet.targets]
            events.append(probe_event(region, states, seq=self.seq, at=self.now))
            if region in self.traffic or region in self.loads:
                events.append(self._passive(region))
        return events

    def look(self) -> HealthView:
        """Look now."""
        self.view, self.hindsight = look(
            self.fold,
            self.config,
            self.hindsight,
            replica="cp-us-east",
            now=self.now,
            monotonic=self.clock_s,
            previous=self.view,
        )
        return self.view

    def health(self, target: str) -> TargetHealth:
        """As last seen."""
        assert self.view is not None
        return next(each for each in self.view.targets if each.id == target)

    def _state(self, vantage: str, target: str) -> ProbeState:
        failing: Mapping[str, int] = self.broken.get(vantage, {})
        outcome = Outcome.OK
        state = "UP"
        if target in failing:
            self.broken[vantage][target] += 1
            outcome = Outcome.REFUSED
            state = "DOWN" if failing[target] >= 2 else "UP"
        judged, garbled = self.answers.get(target, (0, 0))
        return probe_state(target, state, outcome=outcome, hard=state == "DOWN", at=self.now).model_copy(
            update={"latency_ms_p50": self.p50_ms.get(target, 20.0), "judged": judged, "garbled": garbled}
        )

    def _passive(self, region: str) -> HealthEvent:
        windows = self.traffic.get(region, {})
        return HealthEvent(
            kind="passive",
            source=f"edge-{region}",
            role=Role.EDGE,
            vantage=region,
            boot=1,
            seq=self.seq,
            observed_at=self.now,
            passive=tuple(seen.window(target) for target, seen in windows.items()),
            routes=self.loads.get(region, ()),
        )
