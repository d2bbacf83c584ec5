"""What live traffic makes of a target, from the windows of a region's edges."""

import random
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple, cast

import pytest

from control_plane.core.fold import EventFold
from control_plane.core.passive import summaries
from edge_router.adapters.lane import Lane
from edge_router.core.choose import Readiness
from edge_router.core.table import Origin, TargetEntry
from shared.vocabulary.config import Policy
from shared.vocabulary.health import HealthEvent, PassiveWindow
from shared.vocabulary.terms import Dialect, Outcome, Role

NOW = datetime(2030, 1, 1, tzinfo=UTC)
REPORT_S = 0.25
Admission = Literal["ADMITTING", "EJECTED", "PROBATION"]


class Seen(NamedTuple):
    """What one edge says of the target."""

    admission: Admission
    counts: dict[Outcome, int]
    run: int = 0


def failing(*edges: Seen) -> bool:
    """Whether these windows of one region's edges make the target DOWN there."""
    return _failing(
        [
            PassiveWindow(
                target="alpha", window_s=10, counts=seen.counts, admission=seen.admission, broken_run=seen.run
            )
            for seen in edges
        ]
    )


def _failing(windows: list[PassiveWindow]) -> bool:
    fold = EventFold()
    for number, window in enumerate(windows):
        event = HealthEvent(
            kind="passive",
            source=f"edge-{number}",
            role=Role.EDGE,
            vantage="east",
            boot=1,
            seq=1,
            observed_at=NOW,
            passive=(window,),
        )
        fold.apply(event, received_at=0.0)
    (summary,) = summaries(fold.targets["alpha"].passive.values(), Policy())
    return summary.failing


GOOD = {Outcome.OK: 500}
FELL = {Outcome.OK: 500, Outcome.FAILED: 4}


def test_ejected_by_every_edge_is_down_long_before_the_good_answers_are_forgotten() -> None:
    """An edge that has ejected it asks no more: the share of failures would not rise any further."""
    assert failing(Seen("EJECTED", FELL, 4))
    assert failing(Seen("EJECTED", FELL, 3), Seen("PROBATION", FELL, 4))
    assert failing(Seen("EJECTED", FELL, 2), Seen("EJECTED", FELL, 2)), "they count together"


@pytest.mark.parametrize("other", [Seen("ADMITTING", FELL, 2), Seen("ADMITTING", GOOD)])
def test_while_one_edge_still_asks_it_is_not_down(other: Seen) -> None:
    """What one edge alone cannot reach may be that edge's own trouble."""
    assert not failing(Seen("EJECTED", FELL, 4), other)


def test_an_edge_without_attempts_has_no_say() -> None:
    """It never asked, so it cannot have ejected."""
    assert failing(Seen("EJECTED", FELL, 3), Seen("ADMITTING", {}))


@pytest.mark.parametrize(
    "seen",
    [
        Seen("EJECTED", {Outcome.OK: 10, Outcome.FAILED: 4}, 4),  # too few attempts to be a verdict
        Seen("EJECTED", {Outcome.OK: 500, Outcome.FAILED: 2}, 2),  # too few failures
        Seen("EJECTED", {Outcome.OK: 1997, Outcome.REFUSED: 3}, 1),  # accidents, with answers between
        Seen("EJECTED", FELL),  # an edge that does not tell, or ejected for something else
    ],
)
def test_an_ejection_needs_traffic_and_failures_in_a_row_behind_it(seen: Seen) -> None:
    """A handful of unlucky requests is no verdict, whatever the edge did upon them."""
    assert not failing(seen)


def test_edges_that_met_one_failure_each_are_not_down() -> None:
    """However many they are: each would have to have tried again."""
    assert not failing(*[Seen("EJECTED", {Outcome.OK: 500, Outcome.REFUSED: 1}, 1)] * 5)


# ------------------------------------------------------------ with the edges' own ejection


def down_from(outcome_at: Callable[[float], Outcome], *, rate: int, until_s: float, edges: int = 1) -> float:
    """The first time a region is DOWN whose edges each would ask `rate` times a second; infinity if never."""
    entry = TargetEntry(
        id="alpha",
        region="east",
        origin=cast(Origin, None),
        host=b"",
        base_path=b"",
        model_json=b'"m"',
        dialect=Dialect.OPENAI,
        credential=None,
        capacity_inflight=64,
        reasoning=False,
    )
    lanes = [Lane(entry, cast(Any, None), {}) for _ in range(edges)]
    report_at = REPORT_S
    for n in range(round(until_s * rate)):
        now = n / rate
        for lane in lanes:
            if lane.readiness(now) is not Readiness.READY:
                continue
            trial = lane.begin(now)
            outcome = outcome_at(now)
            if outcome is Outcome.OK:
                lane.won(now, 0.01, 0.01)
            else:
                lane.ended(outcome, now, trial=trial)
        if now >= report_at:
            report_at += REPORT_S
            windows = [window for lane in lanes if (window := lane.passive(now, 10.0)) is not None]
            if windows and _failing(windows):
                return now
    return float("inf")


@pytest.mark.parametrize("outcome", [Outcome.REFUSED, Outcome.FAILED, Outcome.TIMED_OUT])
@pytest.mark.parametrize("edges", [1, 2])
def test_a_target_that_fails_now_and_then_is_never_down(outcome: Outcome, edges: int) -> None:
    """0.2 % of 300 a second, for ten minutes: each refusal ejects, and every trial is won."""
    chance = random.Random(7)
    never = down_from(
        lambda _: outcome if chance.random() < 0.002 else Outcome.OK, rate=300, until_s=600, edges=edges
    )
    assert never == float("inf")


def test_wrong_answers_are_never_down_by_ejection() -> None:
    """They eject, and are a matter of quality."""
    assert down_from(lambda _: Outcome.GARBLED, rate=300, until_s=30) == float("inf")


@pytest.mark.parametrize("outcome", [Outcome.REFUSED, Outcome.FAILED])
@pytest.mark.parametrize(("rate", "edges"), [(30, 1), (30, 2), (300, 1), (300, 2)])
def test_a_target_that_fails_every_attempt_is_down_within_half_a_second(
    outcome: Outcome, rate: int, edges: int
) -> None:
    """Three failures in a row at every edge, and a report."""
    at = down_from(lambda now: outcome if now >= 10 else Outcome.OK, rate=rate, until_s=20, edges=edges)
    assert 10 < at <= 10.5


@pytest.mark.parametrize(("edges", "within_s"), [(1, 1.5), (2, 0.5)])
def test_a_silent_target_is_down_by_live_traffic(edges: int, within_s: float) -> None:
    """Two time-outs eject: one edge is certain after a lost trial, several at once."""
    at = down_from(
        lambda now: Outcome.TIMED_OUT if now >= 10 else Outcome.OK, rate=300, until_s=20, edges=edges
    )
    assert 10 < at <= 10 + within_s
