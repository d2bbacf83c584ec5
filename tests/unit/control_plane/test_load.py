"""Demand: what edges report is heard at once when it rises, late when it falls, and never chased in a circle."""

from datetime import UTC, datetime, timedelta

import pytest

from control_plane.core.load import Seen, held, revised, unheard
from control_plane.core.memory import HeldDemand
from shared.vocabulary.config import Policy

POLICY = Policy()
NOW = datetime(2026, 11, 1, tzinfo=UTC)


def after(
    seen: Seen | None, *, shed: int = 0, settled: bool = True, rate: float = 100.0, low_s: float | None = 30.0
) -> float:
    """What is held after `seen`, of 100 requests under way at `rate` a second, found low so long before."""
    since = None if low_s is None else NOW - timedelta(seconds=low_s)
    before = HeldDemand(inflight=100, requests_per_s=rate, most_per_request_s=2.0, low_since=since)
    held_now = revised(before, seen, shed_permille=shed, settled=settled, policy=POLICY, now=NOW)
    return held_now.inflight


@pytest.mark.parametrize(
    ("inflight", "settled", "holds"),
    [
        (111.0, True, 100),
        (112.0, True, 112),
        (200.0, True, 200),
        (250.0, True, 200),
        (71.0, True, 100),
        (69.0, False, 100),
        (69.0, True, 69),
        (0.0, True, 50),
    ],
)
def test_bands(inflight: float, settled: bool, holds: float) -> None:
    """A tenth and one request up, at once, to twice the time of a request at most; three tenths down, later,
    by half at most."""
    assert after(Seen(inflight, 100.0, 1000), settled=settled) == holds


@pytest.mark.parametrize(
    ("low_s", "holds"), [(None, 100), (29, 100), (30, 50), (60, 50), (61, 100), (-5, 100)]
)
def test_demand_falls_when_it_was_low_before(low_s: float | None, holds: float) -> None:
    """Once low is noted; low again half a minute to a minute later is a fall. A note of long ago, or of the
    future, is no note."""
    assert after(Seen(50.0, 50.0, 500), low_s=low_s) == holds


def test_the_unknown_changes_nothing() -> None:
    """A region whose edges are silent keeps what was held."""
    assert after(None) == 100


def test_a_silence_is_noted_forgotten_and_at_last_believed() -> None:
    """Edges that are heard again within the time keep what was held, and the next silence counts anew."""
    noted = unheard(HeldDemand(inflight=100, requests_per_s=100), POLICY, NOW)
    assert noted is not None
    assert unheard(noted, POLICY, NOW + timedelta(seconds=119)) is noted
    assert unheard(noted, POLICY, NOW + timedelta(seconds=120)) is None
    seen = Seen(100.0, 100.0, 1000)
    heard = revised(noted, seen, shed_permille=0, settled=True, policy=POLICY, now=NOW)
    assert heard.unheard_since is None


def test_while_shedding_demand_follows_requests_and_not_what_is_under_way() -> None:
    """Half is turned away: 50 under way are the demand of 100. Twice the requests are twice the demand;
    half of both is less."""
    assert after(Seen(50.0, 100.0, 1000), shed=500) == 100
    assert after(Seen(50.0, 200.0, 2000), shed=500) == 200
    assert after(Seen(25.0, 50.0, 500), shed=500) == 50
    assert after(Seen(0.0, 100.0, 1000), shed=1000) == 100


def test_few_requests_prove_little() -> None:
    """By chance alone 20 requests may have been 30: while shedding that is no news."""
    assert after(Seen(50.0, 3.0, 30), shed=500, rate=2.0) == 100
    assert after(Seen(50.0, 300.0, 3000), shed=500, rate=200.0) == 150


def test_until_a_plan_has_settled_both_figures_must_rise() -> None:
    """What is under way may still be the former plan's, and so may be what was turned away."""
    assert after(Seen(200.0, 100.0, 1000), settled=False) == 100
    assert after(Seen(50.0, 200.0, 2000), shed=500, settled=False) == 100
    assert after(Seen(200.0, 200.0, 2000), settled=False) == 200
    assert after(Seen(20.0, 20.0, 200), settled=False) == 100


def test_where_nothing_ends_in_flight_alone_counts() -> None:
    """Streams that run for minutes: no rate, and no bound by one."""
    before = held(Seen(100.0))
    assert before.most_per_request_s is None
    after_all = revised(before, Seen(300.0), shed_permille=0, settled=False, policy=POLICY, now=NOW)
    assert after_all.inflight == 300
