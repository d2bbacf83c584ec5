"""From what was measured to the verdict: each expectation beside what happened, and the report."""

from collections.abc import Sequence

from ops.drill.course import Course
from ops.drill.tally import Sample, Tally
from ops.drill.words import amount, named
from shared.vocabulary.drill import DrillSpec
from shared.vocabulary.status import DrillReport, Expected, GuardRail

MAX_FAILURES = 50
MAX_REQUESTS_TOLD = 10
NOT_MEASURED = "not measured: what edges report of real traffic does not tell streams apart"


def expectations(
    spec: DrillSpec, course: Course, tally: Tally, worst_load: int | None, during: int
) -> tuple[Expected, ...]:
    """What the hypothesis comes to. Nothing is expected of a drill that never began, and of one that was
    aborted nothing that nobody waited for. `during` are the requests while the fault was there."""
    if course.injected_at is None:
        return ()
    expect = spec.expect
    found = [
        _within(name, limit, measured)
        for name, limit, measured in (
            ("detect_ms", expect.detect_ms, course.detect_ms),
            ("decide_ms", expect.decide_ms, course.decide_ms),
            ("apply_ms", expect.apply_ms, course.apply_ms),
            ("recover_ms", expect.recover_ms, course.recovered_ms),
        )
        if limit is not None
    ]
    rate, least = round(tally.success_rate, 6), expect.min_success_permille / 1000
    enough = spec.guard.after_requests
    found.append(Expected(name="requests", expected=enough, measured=during, ok=during >= enough))
    found.append(Expected(name="success_rate", expected=least, measured=rate, ok=rate >= least))
    if spec.load.source == "drill":
        found.append(_within("lost_streams", expect.max_lost_streams, tally.lost))
    else:
        found.append(
            Expected(name="lost_streams", expected=expect.max_lost_streams, measured=NOT_MEASURED, ok=True)
        )
    found.append(_moves(spec, course))
    if expect.max_load_permille is not None:
        found.append(_within("load_permille", expect.max_load_permille, worst_load))
    return tuple(each for each in found if not (course.aborted and _unawaited(each)))


def report(
    spec: DrillSpec,
    course: Course,
    tally: Tally,
    *,
    drill: str,
    rails: Sequence[GuardRail],
    worst_load: int | None,
    during: int,
    failed: Sequence[Sample],
) -> DrillReport:
    """The whole report; where its HTML is kept is filled in by whoever keeps it."""
    expected = expectations(spec, course, tally, worst_load, during)
    failures = list(course.failures)
    crossed = [rail for rail in rails if not rail.ok]
    if not course.aborted:
        # What ended early could not come to what was expected of it.
        failures += [_missed(each, course) for each in expected if not each.ok]
        failures += [f"guard rail crossed: {rail.name.replace('_', ' ')} {rail.worst:g}" for rail in crossed]
    if course.aborted:
        outcome = "ABORTED"
    else:
        outcome = "FAILED" if failures or course.injected_at is None else "PASSED"
    if outcome != "PASSED":
        failures += [f"request through {one.edge}: {one.detail}" for one in failed[:MAX_REQUESTS_TOLD]]
    return DrillReport.model_validate(
        {
            "drill": spec.drill,
            "outcome": outcome,
            "detect_ms": course.detect_ms,
            "decide_ms": course.decide_ms,
            "apply_ms": course.apply_ms,
            "recovered_ms": course.recovered_ms,
            "requests": tally.requests,
            "failed": tally.failed,
            "degraded": tally.degraded,
            "success_rate": round(tally.success_rate, 6),
            "streams": tally.streams,
            "lost_streams": tally.lost,
            "guard_rails": tuple(rails),
            "timeline": course.ordered,
            "trace_id": course.trace_id,
            "report_html": None,
            "id": drill,
            "region": spec.region,
            "hypothesis": spec.hypothesis,
            "expectations": expected,
            "started_at": course.begun_utc.isoformat(timespec="milliseconds") if course.begun_utc else "",
            "failures": tuple(failures[:MAX_FAILURES]),
        }
    )


def _within(name: str, limit: float, measured: float | None) -> Expected:
    return Expected(
        name=name, expected=limit, measured=measured, ok=measured is not None and measured <= limit
    )


def _moves(spec: DrillSpec, course: Course) -> Expected:
    if spec.expect.moves:
        left = course.decide_ms is not None
        return Expected(name="moves", expected="yes", measured="yes" if left else "no", ok=left)
    told = f"yes: {', '.join(course.moves[:5])}" if course.moves else "no"
    return Expected(name="moves", expected="no", measured=told, ok=not course.moves)


def _unawaited(each: Expected) -> bool:
    """Whether it was still to come when the drill ended."""
    return not each.ok and (
        each.measured is None or each.name == "requests" or (each.name, each.expected) == ("moves", "yes")
    )


def _missed(each: Expected, course: Course) -> str:
    if each.name == "requests":
        return (
            f"{each.measured} requests while the fault was there are no evidence: {each.expected:g} are needed "
            "(guard.after_requests), so have more traffic, or hold the fault for longer"
        )
    if each.name == "moves":
        return (
            "decisions were expected to leave the struck targets, and did not"
            if each.expected == "yes"
            else f"no decision was expected to move traffic, and one did ({each.measured})"
        )
    expected, measured = amount(each.name, each.expected), amount(each.name, each.measured)
    why = "; ".join(f"{target} was held down {held}" for target, held in sorted(course.held_down.items())[:5])
    because = f" ({why})" if why and each.name == "recover_ms" else ""
    return f"{named(each.name)}: expected {expected}, was {measured}{because}"
