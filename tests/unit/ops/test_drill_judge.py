"""From measurements to the verdict."""

from drill_worlds import ManualClock, spec

from ops.drill.course import Course
from ops.drill.judge import report
from ops.drill.tally import Sample, Tally
from shared.vocabulary.drill import DrillSpec
from shared.vocabulary.status import DrillReport, GuardRail

GOOD = Tally(requests=1000, streams=300)
EXPECT = {"detect_ms": 2000, "decide_ms": 3000, "recover_ms": 9000}


def course(**more: object) -> Course:
    """Of a drill that went well."""
    made = Course(ManualClock())
    made.inject()
    made.detect_ms, made.decide_ms, made.apply_ms, made.recovered_ms = 900.0, 1000.0, 1100.0, 5000.0
    for name, value in more.items():
        setattr(made, name, value)
    return made


def judged(
    of: Course,
    tally: Tally = GOOD,
    *,
    drill: DrillSpec | None = None,
    load: int | None = None,
    during: int = 500,
) -> DrillReport:
    return report(
        drill or spec(expect=EXPECT),
        of,
        tally,
        drill="drill-7",
        rails=(GuardRail(name="success_rate", limit=0.99, worst=1.0, ok=True),),
        worst_load=load,
        during=during,
        failed=[Sample(1.0, "edge-us", "us", 1.0, ok=False, detail="status 503")],
    )


def test_what_came_as_expected_passes() -> None:
    """Each expectation beside what happened; failed requests are no failure of the drill."""
    found = judged(course())
    assert (found.outcome, found.failures) == ("PASSED", ())
    assert {each.name: each.ok for each in found.expectations} == dict.fromkeys(
        ("detect_ms", "decide_ms", "recover_ms", "requests", "success_rate", "lost_streams", "moves"), True
    )
    assert (found.id, found.region, found.hypothesis) == ("drill-7", "eu", "Nobody notices.")


def test_each_expectation_that_is_missed_is_said() -> None:
    """Too late, never, too many failed, a stream lost."""
    found = judged(
        course(detect_ms=2001.0, recovered_ms=None), Tally(requests=1000, failed=6, degraded=5, lost=1)
    )
    assert found.outcome == "FAILED"
    told = "\n".join(found.failures)
    assert "detected after: expected 2 000 ms, was 2 001 ms" in told
    assert "after: expected 9 000 ms, was never" in told
    assert "success rate: expected 99 %, was 98.9 %" in told
    assert "lost streams: expected 0, was 1" in told
    assert "request through edge-us: status 503" in told


def test_a_move_that_was_not_expected_fails() -> None:
    """And one that was expected and did not come."""
    still = spec(expect={"moves": False})
    assert judged(course(decide_ms=None), drill=still).outcome == "PASSED"
    moved = judged(course(moves=["alpha-eu by 1.7"]), drill=still)
    assert moved.outcome == "FAILED"
    assert "alpha-eu by 1.7" in moved.failures[0]
    assert judged(course(decide_ms=None)).outcome == "FAILED"


def test_loads_are_judged_where_the_spec_says_so() -> None:
    """What could not be compared is no proof."""
    drill = spec(expect={**EXPECT, "max_load_permille": 1500})
    assert judged(course(), drill=drill, load=1400).outcome == "PASSED"
    assert judged(course(), drill=drill, load=1600).outcome == "FAILED"
    assert judged(course(), drill=drill, load=None).outcome == "FAILED"


def test_what_ended_early_is_aborted_for_its_own_reason() -> None:
    """Not for what could then no longer happen."""
    ended = course(recovered_ms=None)
    ended.abort("interrupted")
    found = judged(ended)
    assert found.outcome == "ABORTED"
    assert found.failures[0] == "interrupted"
    assert not any("recovered" in failure for failure in found.failures)


def test_without_requests_there_is_no_evidence() -> None:
    """As many as the guard needs; a success rate of none is none."""
    found = judged(course(), Tally(), during=0)
    assert found.outcome == "FAILED"
    assert "0 requests while the fault was there are no evidence: 50 are needed" in found.failures[0]
    assert judged(course(), during=49).outcome == "FAILED"
    assert judged(course(), during=50).outcome == "PASSED"


def test_streams_of_real_traffic_are_not_measured() -> None:
    """And the report says so."""
    found = judged(course(), drill=spec(load={"source": "traffic"}))
    (streams,) = [each for each in found.expectations if each.name == "lost_streams"]
    assert str(streams.measured).startswith("not measured")
    assert found.outcome == "PASSED"


def test_what_was_aborted_shows_nothing_that_nobody_waited_for() -> None:
    """What was measured until then stands."""
    ended = course(recovered_ms=None, decide_ms=None, detect_ms=2001.0)
    ended.abort("interrupted")
    shown = {each.name: each.ok for each in judged(ended, during=3).expectations}
    assert shown == {"detect_ms": False, "success_rate": True, "lost_streams": True}


def test_a_long_hold_down_explains_a_late_recovery() -> None:
    """Where targets had gone out before."""
    late = course(recovered_ms=9001.0, held_down={"alpha-eu": "8 s at least, after 2 flaps"})
    assert "alpha-eu was held down 8 s at least, after 2 flaps" in judged(late).failures[0]


def test_a_drill_that_broke_nothing_proves_nothing() -> None:
    """It never passes."""
    found = judged(Course(ManualClock()))
    assert (found.outcome, found.expectations) == ("FAILED", ())
