"""Drills judged: what may begin, when a schedule is due, who lost their runner, what may go."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from control_plane.core.drills import (
    START_WITHIN_S,
    Unknown,
    blocked,
    due,
    lapsed,
    left,
    misfits,
    orphaned,
    refusals,
    resolved,
    surplus,
    taken_out,
)
from shared.vocabulary.config import Fleet, problems
from shared.vocabulary.drill import DrillFault, DrillRequest, DrillSchedule, DrillSpec
from shared.vocabulary.drill_policy import DrillPolicy
from shared.vocabulary.override import Override
from shared.vocabulary.terms import Verdict
from shared.vocabulary.view import HealthView, TargetHealth
from tests.support.replicas import fleet
from tests.support.still_drills import SPEC, drill, running, spec

NOW = datetime(2030, 1, 4, 12, 0, tzinfo=UTC)
"""A Friday."""


def of(*faults: dict[str, Any], region: str | None = "east", **more: Any) -> DrillSpec:
    """A drill of these faults."""
    made = tuple(DrillFault.model_validate({"by": "stack", "fault": "kill", **fault}) for fault in faults)
    return SPEC.model_copy(update={"faults": made, "region": region, **more})


def view(**verdicts: str) -> HealthView:
    """All are HEALTHY but those named, `alpha_east="DOWN"`."""
    return HealthView(
        as_of=NOW,
        replica="cp",
        status="healthy",
        config_version=1,
        regions=(),
        targets=tuple(
            TargetHealth(
                id=each.id,
                region=each.region,
                provider=each.provider,
                verdict=Verdict(verdicts.get(each.id.replace("-", "_"), "HEALTHY")),
            )
            for each in fleet().targets
        ),
        sources=(),
        buses=(),
    )


def under(**policy: Any) -> Fleet:
    """The fleet under this drill policy."""
    return fleet().model_copy(update={"drills": DrillPolicy.model_validate(policy)})


def window(start: str, end: str, *days: str) -> DrillPolicy:
    return DrillPolicy.model_validate(
        {"blocked": [{"start": start, "end": end, "days": days, "reason": "the close"}]}
    )


# ---------------------------------------------------------------- what is asked for


def test_a_request_fills_in_where_and_how_long() -> None:
    """What it does not say is the spec's own."""
    asked = DrillRequest(name="region-outage", region="west", hold_s=5.0, author="ann", reason="x")
    made = resolved(asked, {"region-outage": spec()})
    assert (made.region, made.hold_s, made.warm_s) == ("west", 5.0, SPEC.warm_s)
    plain = DrillRequest(spec=spec(), author="ann", reason="x")
    assert resolved(plain, {}) == spec()


def test_an_unknown_drill_is_named_with_those_there_are() -> None:
    with pytest.raises(Unknown, match="no built-in drill 'flood'; there is region-outage"):
        resolved(DrillRequest(name="flood", author="ann", reason="x"), {"region-outage": spec()})


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (of({}, region="mars"), "no region 'mars': there is east, south, west"),
        (of({"regions": ["mars"]}), "fault 1, kill: no region 'mars'"),
        (of({}, {"providers": ["gamma"]}), "fault 2, kill: no provider 'gamma'"),
        (of({"targets": ["gamma-*"]}), "fault 1, kill: no target matches 'gamma-*'"),
        (of({}, region=None), "fault 1, kill: strikes the drill's own region, and none is given: say which"),
    ],
)
def test_what_does_not_fit_the_fleet_is_named(wrong: DrillSpec, said: str) -> None:
    """A drill that would do nothing, or the wrong thing, does not begin."""
    assert misfits(wrong, fleet()) == [said]
    assert refusals(wrong, fleet(), view(), NOW, overrides=()) == [said]


def test_every_region_needs_no_region_of_its_own() -> None:
    assert misfits(of({"regions": ["*"], "providers": ["alpha"]}, region=None), fleet()) == []


# ---------------------------------------------------------------- who is left


@pytest.mark.parametrize(
    ("fault", "out"),
    [
        ({}, {"alpha-east", "beta-east"}),
        ({"processes": ["targets"]}, {"alpha-east", "beta-east"}),
        ({"processes": ["edge", "prober"]}, set()),
        ({"providers": ["alpha"], "regions": ["*"]}, {"alpha-east", "alpha-west", "alpha-south"}),
        ({"targets": ["*-west"], "regions": ["*"]}, {"alpha-west", "beta-west"}),
        ({"by": "panel", "fault": "errors", "share_permille": 499}, set()),
        ({"by": "panel", "fault": "errors", "share_permille": 500}, {"alpha-east", "beta-east"}),
        ({"by": "panel", "fault": "latency", "ms": 9000}, set()),
        ({"by": "panel", "fault": "partition", "processes": ["prober"]}, set()),
        ({"by": "stack", "fault": "clock_skew", "skew_s": 60}, set()),
        ({"by": "override", "fault": "drain"}, {"alpha-east", "beta-east"}),
    ],
)
def test_what_a_fault_takes_out(fault: dict[str, Any], out: set[str]) -> None:
    """Targets of which most requests fail; what is slow, or an observer's trouble, still answers."""
    assert taken_out(of(fault), fleet()) == out


def test_enough_regions_must_be_left() -> None:
    """By what is known to answer: DEGRADED does, UNKNOWN is nobody to rely on."""
    outage = of({})
    assert left(outage, fleet(), view(), NOW, overrides=()) == ["west", "south"]
    assert left(outage, fleet(), view(alpha_west="DOWN", beta_west="UNKNOWN"), NOW, overrides=()) == ["south"]
    assert left(outage, fleet(), view(alpha_west="DOWN", beta_west="DEGRADED"), NOW, overrides=()) == [
        "west",
        "south",
    ]
    assert refusals(outage, under(min_regions=2), view(), NOW, overrides=()) == []
    assert refusals(outage, under(min_regions=3), view(), NOW, overrides=()) == [
        "2 regions with a target that answers would be left (west, south), and 3 must be"
    ]
    strict = of({}, guard=SPEC.guard.model_copy(update={"min_regions": 3}))
    assert refusals(strict, under(min_regions=1), view(), NOW, overrides=()) != []
    everybody = of({"regions": ["*"]})
    assert refusals(everybody, fleet(), view(), NOW, overrides=()) == [
        "no region with a target that answers would be left, and 1 must be"
    ]
    assert refusals(everybody, under(min_regions=0), view(), NOW, overrides=()) != []


def test_what_is_drained_is_not_left() -> None:
    """By any drain in force that leaves it no route; one that is over takes nobody out."""
    outage, strict = of({}), under(min_regions=2)

    def drain(**whom: Any) -> Override:
        spec = {"kind": "drain", **whom}
        until = NOW + timedelta(minutes=1)
        fields = {"id": "drain-1", "author": "ann", "reason": "x", "created_at": NOW, "expires_at": until}
        return Override.model_validate({**fields, "spec": spec})

    west, one = drain(region="west"), drain(target="alpha-west")
    other = drain(target="beta-west", route="chat")
    over = west.model_copy(update={"expires_at": NOW})
    assert left(outage, fleet(), view(), NOW, overrides=[west]) == ["south"]
    assert left(outage, fleet(), view(), NOW, overrides=[one]) == ["west", "south"]
    assert left(outage, fleet(), view(), NOW, overrides=[one, other]) == ["south"]
    assert left(outage, fleet(), view(), NOW, overrides=[over]) == ["west", "south"]
    assert refusals(outage, strict, view(), NOW, overrides=[over]) == []
    assert refusals(outage, strict, view(), NOW, overrides=[west]) == [
        "1 regions with a target that answers would be left (south), and 2 must be; drained ones do not count"
    ]
    two_routes = fleet(routes=("chat", "code"))
    assert left(outage, two_routes, view(), NOW, overrides=[one, other]) == ["west", "south"]


def test_without_a_view_nothing_begins() -> None:
    assert "knows nothing of health yet" in refusals(of({}), fleet(), None, NOW, overrides=())[0]


# ---------------------------------------------------------------- when


@pytest.mark.parametrize(
    ("policy", "at", "until"),
    [
        (window("09:00", "17:00"), "2030-01-04T12:00", "2030-01-04 17:00"),
        (window("09:00", "17:00"), "2030-01-04T17:00", None),
        (window("09:00", "17:00"), "2030-01-04T08:59", None),
        (window("09:00", "17:00", "fri"), "2030-01-04T12:00", "2030-01-04 17:00"),
        (window("09:00", "17:00", "sat", "sun"), "2030-01-04T12:00", None),
        (window("22:00", "06:00"), "2030-01-04T23:00", "2030-01-05 06:00"),
        (window("22:00", "06:00", "fri"), "2030-01-05T05:59", "2030-01-05 06:00"),
        (window("22:00", "06:00", "sat"), "2030-01-05T05:59", None),
        (window("00:00", "00:00", "fri"), "2030-01-04T00:00", "2030-01-05 00:00"),
        (window("00:00", "00:00", "fri"), "2030-01-05T00:00", None),
    ],
)
def test_blocked_windows(policy: DrillPolicy, at: str, until: str | None) -> None:
    """In UTC, from start to end, over midnight too, where it belongs to the day it begins on."""
    said = None if until is None else f"drills are blocked until {until} UTC: the close"
    assert blocked(policy, datetime.fromisoformat(f"{at}+00:00")) == said


def test_a_window_holds_for_clocks_of_other_zones() -> None:
    """The moment counts, however it is written."""
    assert blocked(window("09:00", "17:00"), datetime.fromisoformat("2030-01-04T20:00+09:00")) is not None


def test_the_master_switch_says_so() -> None:
    assert blocked(DrillPolicy(enabled=False), NOW) == (
        "drills are switched off in this fleet (fleet.drills.enabled)"
    )
    assert blocked(DrillPolicy(), NOW) is None


def weekly(cron: str = "0 3 * * 1", **more: Any) -> DrillSchedule:
    request = DrillRequest(name="region-outage", region="east", author="ann", reason="x")
    fields = {"id": "weekly", "cron": cron, "request": request, "created_at": NOW, **more}
    return DrillSchedule.model_validate(fields)


def test_a_schedule_is_due_once() -> None:
    """From its minute on, until it was acted upon; times before it was made are none of its."""
    monday = datetime(2030, 1, 7, 3, 0, tzinfo=UTC)
    assert due(weekly(), NOW) is None
    assert due(weekly(), monday - timedelta(seconds=1)) is None
    found = due(weekly(), monday + timedelta(seconds=1.5))
    assert found is not None
    assert (found.at, found.missed) == (monday, False)
    assert due(weekly(last_at=monday), monday + timedelta(seconds=2)) is None


def test_a_time_that_is_long_past_was_missed() -> None:
    """Of many the last; the ones before it go with it."""
    late = due(weekly("* * * * *"), NOW + timedelta(hours=1, seconds=30))
    assert late is not None
    assert (late.at, late.missed) == (NOW + timedelta(hours=1), False)
    monday = datetime(2030, 1, 7, 3, 0, tzinfo=UTC)
    missed = due(weekly(), monday + timedelta(seconds=START_WITHIN_S + 1))
    assert missed is not None
    assert missed.missed


def test_a_clock_that_was_set_back_begins_nothing_twice() -> None:
    monday = datetime(2030, 1, 7, 3, 0, tzinfo=UTC)
    assert due(weekly(last_at=monday), monday - timedelta(days=3)) is None


# ---------------------------------------------------------------- the record


def test_who_lost_their_runner() -> None:
    """Whoever waits or runs without the claim; and how their records end."""
    held, lost, waiting, over = running(3), running(2), drill(1), running(0, state="PASSED")
    assert lapsed([held, lost, waiting, over], "drill-3") == [lost, waiting]
    assert (orphaned(lost, NOW).state, orphaned(lost, NOW).note) == ("ABORTED", "its runner is gone")
    assert orphaned(waiting, NOW).note == "nobody took it up in time"
    assert orphaned(waiting, NOW).ended_at == NOW


def test_the_newest_stay() -> None:
    """By their numbers, not by their names; one that runs always stays."""
    ended = [drill(n, state="FAILED") for n in (9, 10, 100)]
    assert [each.id for each in surplus([*ended, running(1)], kept=1)] == ["drill-9", "drill-10"]
    assert surplus(ended) == []


def test_a_policy_under_which_none_could_begin_is_a_fault() -> None:
    """It is found with the configuration's other faults."""
    assert list(problems(under(min_regions=4))) == [
        (("drills", "min_regions"), "no drill could ever begin: the fleet has 3 regions")
    ]
    assert list(problems(under(min_regions=3))) == []
