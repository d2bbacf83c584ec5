"""The lines a drill must not cross."""

import httpx2
from drill_worlds import ManualClock, document, spec, terrain
from test_drill_runner import view

from ops.client import ControlPlanes
from ops.drill.guard import Guard
from ops.drill.scope import resolve
from ops.drill.sight import Sight
from ops.drill.tally import Sample, Tallies
from shared.vocabulary.drill import DrillGuard
from shared.vocabulary.view import RouteTraffic


def guard(**lines: object) -> Guard:
    client = httpx2.AsyncClient()
    sight = Sight(edges={}, planes=ControlPlanes(client, []), client=client, clock=ManualClock())
    sight.view, sight.reached = view(dead=False), True
    return Guard(
        DrillGuard.model_validate({"after_requests": 10, **lines}),
        resolve(spec(), terrain()),
        terrain().fleet,
        sight,
        Tallies(),
        active=lambda: True,
    )


def requests(of: Guard, number: int, *, ok: bool = True, ms: float = 5.0) -> None:
    of.tallies.begin(0.0)
    for _ in range(number):
        of.tallies.add(Sample(1.0, "edge-us", "us", ms, ok=ok))


def crossed(of: Guard) -> list[str]:
    of.look()
    return [rail.name for rail in of.rails() if not rail.ok]


def test_a_few_requests_cross_nothing() -> None:
    """One failure of nine is not yet a rate; of ten it is."""
    watch = guard()
    requests(watch, 9, ok=False)
    assert crossed(watch) == []
    requests(watch, 1)
    assert crossed(watch) == ["success_rate"]


def test_the_worst_is_kept() -> None:
    """A rate that recovers has crossed its line all the same."""
    watch = guard(min_success_permille=900)
    requests(watch, 8)
    requests(watch, 2, ok=False)
    assert crossed(watch) == ["success_rate"]
    requests(watch, 1000)
    assert crossed(watch) == ["success_rate"]


def test_latency_is_guarded_where_a_line_is_drawn() -> None:
    """By the p99 of the last seconds."""
    watch = guard(max_latency_ms_p99=100)
    requests(watch, 20, ms=99.0)
    assert crossed(watch) == []
    requests(watch, 20, ms=250.0)
    assert crossed(watch) == ["latency_ms_p99"]


def test_regions_outside_the_drill_are_counted() -> None:
    """Two of three are left when one is struck; what nobody has looked at yet is not dead."""
    assert crossed(guard(min_regions=2)) == []
    assert crossed(guard(min_regions=3)) == ["min_regions"]
    silent = guard(min_regions=3)
    silent.sight.reached = False
    assert crossed(silent) == []


def test_a_plan_for_the_survivors_is_guarded() -> None:
    """Permille of their capacity, by the demand that edges report; the struck have no capacity to guard."""
    watch = guard(max_planned_permille=900)
    load = RouteTraffic(route="chat", region="us", inflight=250.0, requests=9, failed=0, window_s=10)
    assert watch.sight.view is not None
    watch.sight.view = watch.sight.view.model_copy(update={"loads": (load,)})
    watch.sight.documents = {"chat": document("chat", 4, "alpha-eu")}
    assert crossed(watch) == []
    watch.sight.documents = {"chat": document("chat", 5, "alpha-us")}
    assert crossed(watch) == ["planned_permille"]
