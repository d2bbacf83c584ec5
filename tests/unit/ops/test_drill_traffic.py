"""Real traffic as edges report it, taken for samples."""

import httpx2
from drill_worlds import ManualClock
from test_drill_runner import view

from ops.client import ControlPlanes
from ops.drill.sight import Sight
from ops.drill.tally import Tally
from ops.drill.traffic import Traffic
from shared.vocabulary.view import RouteTraffic


def test_a_window_is_counted_once() -> None:
    """Sums over a sliding window are read once in each; the first reading only begins."""
    client = httpx2.AsyncClient()
    sight = Sight(edges={}, planes=ControlPlanes(client, []), client=client, clock=ManualClock())
    traffic = Traffic(sight, clock=ManualClock())
    load = RouteTraffic(route="chat", region="us", inflight=1.0, requests=10, failed=1, window_s=10)
    seen = view(dead=False).model_copy(update={"loads": (load,)})
    for now in (100.0, 104.0, 109.9):
        traffic.read(seen, now)
    assert traffic.tallies.tally == Tally()
    traffic.read(seen, 110.0)
    traffic.read(seen, 115.0)
    assert traffic.tallies.tally == Tally(requests=10, failed=1)
    traffic.read(seen, 120.0)
    assert traffic.tallies.tally == Tally(requests=20, failed=2)
    assert traffic.tallies.failures[0].detail == "1 of 10 requests of route chat"
