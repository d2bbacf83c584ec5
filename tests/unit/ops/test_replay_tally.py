"""The figures of a course, computed by hand: three client regions, one route, each on its own alpha."""

import pytest

from ops.replay.tally import Account, Figures
from ops.replay.truth import Interval, Key, Outages
from shared.vocabulary.decision import Decision
from tests.unit.ops.replay_worlds import at, document

EU = "alpha-eu-west"


def closed(
    commits: list[tuple[float, Decision]],
    outages: dict[Key, list[Interval]],
    *,
    began_s: float = 0.0,
    ended_s: float = 100.0,
) -> Figures:
    """The account of `commits` after a calm beginning."""
    account = Account(at(began_s))
    account.take(at(-1), {"chat": document()})
    for second, decision in commits:
        account.take(at(second), {"chat": decision})
    return account.figures(at(ended_s), Outages(outages), tolerance_s=10.0)


def test_traffic_on_a_down_target_is_weight_times_time() -> None:
    """Down for 30 s, relieved after 12: one of three regions loses 12 s of its requests, so 4 s of all."""
    found = closed([(32, document([EU]))], {(EU, None): [(at(20), at(50))]})
    assert found.traffic_on_down_s == pytest.approx(4.0)
    assert (found.removals, found.false_alarms) == (1, 0)
    assert (found.removed_after_mean_s, found.removed_after_max_s) == (12.0, 12.0)
    assert (found.outages_in_use, found.outages_unanswered) == (1, 0)


def test_an_outage_nobody_answers() -> None:
    """All 30 s of a third are lost, and it says so."""
    found = closed([], {(EU, None): [(at(20), at(50))]})
    assert found.traffic_on_down_s == pytest.approx(10.0)
    assert (found.outages_in_use, found.outages_unanswered, found.removed_after_mean_s) == (1, 1, None)


def test_an_outage_of_a_stand_by_costs_nothing() -> None:
    """Nobody's requests go there, so there is nothing to relieve."""
    found = closed([], {("beta-eu-west", None): [(at(20), at(50))]})
    assert (found.traffic_on_down_s, found.outages_in_use) == (0.0, 0)


def test_a_removal_far_from_any_outage_is_a_false_alarm() -> None:
    """Ten seconds are tolerated on either side, and not eleven."""
    near = closed([(29.5, document([EU]))], {(EU, None): [(at(10), at(20))]})
    far = closed([(31, document([EU]))], {(EU, None): [(at(10), at(20))]})
    assert (near.false_alarms, far.false_alarms) == (0, 1)


def test_another_region_s_outage_is_no_excuse() -> None:
    """An outage for ap-south's clients does not justify taking the target from everybody? It does for
    some of those who lost it; but one of another target never."""
    assert closed([(20, document([EU]))], {(EU, "ap-south"): [(at(15), at(30))]}).false_alarms == 0
    assert closed([(20, document([EU]))], {("alpha-us-east", None): [(at(15), at(30))]}).false_alarms == 1


def test_a_flap_is_a_removal_soon_after_a_return() -> None:
    """Within ten minutes; later it is a new story."""
    down = {(EU, None): [(at(0), at(2000))]}
    soon = closed([(10, document([EU])), (50, document()), (90, document([EU]))], down, ended_s=1000)
    late = closed([(10, document([EU])), (50, document()), (651, document([EU]))], down, ended_s=1000)
    assert (soon.removals, soon.returns, soon.flaps) == (2, 1, 1)
    assert (late.removals, late.returns, late.flaps) == (2, 1, 0)


def test_a_drain_is_no_removal() -> None:
    """What a person ordered is neither failover nor false alarm, nor out of service while good."""
    found = closed([(20, document([EU], by="operator"))], {})
    assert (found.commits, found.removals, found.false_alarms, found.out_while_good_s) == (1, 0, 0, 0.0)


def test_time_out_of_service_while_good() -> None:
    """Out from 20 to 80, down from 20 to 50: thirty seconds too long."""
    found = closed([(20, document([EU])), (80, document())], {(EU, None): [(at(20), at(50))]})
    assert found.out_while_good_s == pytest.approx(30.0)


def test_the_lead_in_counts_for_nothing() -> None:
    """A removal before the beginning only says how things stood then."""
    found = closed([(-0.5, document([EU]))], {(EU, None): [(at(-5), at(10))]}, began_s=0.0)
    assert (found.commits, found.removals, found.traffic_on_down_s) == (0, 0, 0.0)


def test_how_long_two_courses_differ() -> None:
    """From 20 to 30 one of three client regions is served otherwise: a third of ten seconds."""
    one, other = Account(at(0)), Account(at(0))
    for account in (one, other):
        account.take(at(-1), {"chat": document()})
    one.take(at(20), {"chat": document([EU])})
    other.take(at(30), {"chat": document([EU])})
    assert one.differs_s(other, at(100)) == pytest.approx(10 / 3, abs=0.001)
