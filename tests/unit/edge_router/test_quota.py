"""The alarm about a used-up quota: it rings on change, and is over by itself."""

from dataclasses import dataclass, field
from typing import Any, cast

from edge_router.loops.alarms import Alarms
from edge_router.loops.quota import QuotaWatch
from edge_router.metrics import Metrics
from shared.clock import SystemClock
from shared.metrics import new_registry
from shared.vocabulary.health import PassiveWindow


@dataclass
class Path:
    exhausted: set[str] = field(default_factory=set)

    def passive(self, window_s: float) -> tuple[PassiveWindow, ...]:
        return tuple(
            PassiveWindow(target=name, window_s=window_s, counts={}, quota_exhausted=name in self.exhausted)
            for name in ("alpha", "beta", "gamma")
        )


def test_it_rings_on_change_and_clears_itself() -> None:
    """One line for each change, however often it is looked at; nothing before there is a data path."""
    alarms = Alarms(clock=SystemClock(), metrics=Metrics(new_registry()))
    path: list[Path | None] = [None]
    watch = QuotaWatch(serving=lambda: cast(Any, path[0]), alarms=alarms)
    watch.look()
    assert alarms.shown() == []
    path[0] = there = Path({"beta"})
    for _ in range(5):
        watch.look()
    (shown,) = alarms.shown()
    assert (shown["code"], shown["times"]) == ("QUOTA_EXHAUSTED", 1)
    assert shown["detail"].endswith("beta")
    there.exhausted.add("alpha")
    watch.look()
    assert alarms.shown()[0]["detail"].endswith("alpha, beta")
    there.exhausted.clear()
    watch.look()
    assert alarms.shown() == []
