"""The ruling on a rollout: when it goes on, when back, and when it waits."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.core.rollout import Tally, against, baseline, rule, tally_of
from control_plane.core.rollout_check import refusals
from shared.vocabulary.config import Fleet
from shared.vocabulary.rollout import Rollout, RolloutSpec
from shared.vocabulary.terms import Outcome, Verdict
from shared.vocabulary.view import PassiveSummary, TargetHealth
from tests.unit.control_plane.brain_worlds import fleet_config

BEGAN = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)
OLD = Tally(attempts=1000, failed=10, garbled=5, latency_ms=100.0)
GOOD = Tally(attempts=200, failed=2, garbled=1, latency_ms=110.0)


def rollout(**spec: Any) -> Rollout:
    """Steps of 10 and 100 %, 60 s each."""
    steps = [{"permille": 100, "bake_s": 60.0}, {"permille": 1000, "bake_s": 60.0}]
    return Rollout.model_validate(
        {
            "id": "ro-1",
            "spec": {"route": "chat", "targets": ["new"], "steps": steps, **spec},
            "step_since": BEGAN,
            "created_at": BEGAN,
            "author": "ann",
            "reason": "try it",
        }
    )


def health(target: str, verdict: Verdict = Verdict.HEALTHY, **passive: Any) -> TargetHealth:
    summaries = (PassiveSummary(region="us-east", failing=False, **passive),) if passive else ()
    return TargetHealth(
        id=target,
        region="us-east",
        provider="p",
        verdict=verdict,
        passive=summaries,
        reason="2 of 3 vantages",
    )


def what(tested: Rollout, new: Tally, old: Tally = OLD, *, after_s: float = 0.0) -> str:
    return rule(tested, new, old, {"new": health("new")}, baked_s=after_s).what


@pytest.mark.parametrize(
    ("new", "after_s", "expected"),
    [
        (GOOD, 59.0, "WAIT"),
        (GOOD, 60.0, "NEXT"),
        (replace(GOOD, attempts=49), 60.0, "WAIT"),
        (replace(GOOD, attempts=49), 60.0 + 86_400.0, "ROLL_BACK"),
        (replace(GOOD, failed=8), 60.0, "ROLL_BACK"),
        (replace(GOOD, failed=8), 30.0, "WAIT"),
        (replace(GOOD, failed=40), 1.0, "ROLL_BACK"),
        (replace(GOOD, failed=4, attempts=49), 30.0, "WAIT"),
        (replace(GOOD, failed=9, attempts=9), 30.0, "WAIT"),
        (replace(GOOD, failed=10, attempts=10), 30.0, "ROLL_BACK"),
        (replace(GOOD, garbled=49, attempts=49), 3600.0, "ROLL_BACK"),
        (replace(GOOD, garbled=40), 1.0, "ROLL_BACK"),
        (replace(GOOD, latency_ms=151.0), 60.0, "ROLL_BACK"),
        (replace(GOOD, latency_ms=149.0), 60.0, "NEXT"),
        (replace(GOOD, latency_ms=151.0), 30.0, "WAIT"),
        (replace(GOOD, attempts=500, latency_ms=300.0), 30.0, "ROLL_BACK"),
    ],
    ids=[
        "still baking",
        "baked and as good",
        "baked, hardly tried",
        "hardly tried for a day",
        "baked, 3 % over the old",
        "3 % over the old may be chance while it bakes",
        "19 % over the old is no chance",
        "below the least attempts nothing is said of what may be chance",
        "nor of nine attempts",
        "ten of ten are no chance",
        "nor 49 of 49, long after",
        "garbled counts as failed does",
        "baked and half as slow again",
        "baked and a little slower",
        "slower, and few of them",
        "slower, and many of them",
    ],
)
def test_the_ruling(new: Tally, after_s: float, expected: str) -> None:
    """As the table in the module says."""
    assert what(rollout(), new, after_s=after_s) == expected


def test_the_last_step_promotes() -> None:
    """What was baked at the last step is promoted, and the figures are the reason."""
    last = rollout().model_copy(update={"step": 1})
    ruling = rule(last, GOOD, OLD, {"new": health("new")}, baked_s=60.0)
    assert ruling.what == "PROMOTE"
    assert "2 failed and 1 garbled of 200, 110 ms" in ruling.why


def test_a_new_target_that_is_down_ends_it_at_once() -> None:
    """Without waiting for attempts; the verdict's words are the reason."""
    ruling = rule(rollout(), Tally(), OLD, {"new": health("new", Verdict.DOWN)}, baked_s=0.0)
    assert (ruling.what, ruling.why) == ("ROLL_BACK", "new DOWN: 2 of 3 vantages")


def test_without_old_traffic_only_the_new_counts() -> None:
    """Blue/green from the first moment on: failures are held against the limit itself, latency against nothing."""
    assert what(rollout(), replace(GOOD, failed=40), Tally(), after_s=60) == "ROLL_BACK"
    ruling = rule(rollout(), GOOD, Tally(), {"new": health("new")}, baked_s=60.0)
    assert ruling.what == "NEXT"
    assert "the old had no traffic: errors held against none, latency not compared" in ruling.why


def test_what_the_old_did_before_stands_in_for_what_they_no_longer_do() -> None:
    """From the record, as read by whoever leads; where the step itself has enough, that alone counts."""
    bare = rollout()
    assert against(bare, Tally()) == Tally()
    kept = bare.model_copy(update={"old_before": baseline(OLD)})
    kept = Rollout.model_validate_json(kept.canonical())
    assert against(kept, Tally()) == OLD
    assert against(kept, Tally(attempts=8, latency_ms=9.0)).attempts == 1008
    assert against(kept, GOOD) == GOOD
    assert what(kept, replace(GOOD, latency_ms=900.0), against(kept, Tally()), after_s=60) == "ROLL_BACK"


@given(
    attempts=st.integers(0, 5000),
    failed=st.integers(0, 5000),
    garbled=st.integers(0, 5000),
    more=st.integers(1, 100),
    after_s=st.floats(0, 200_000),
)
def test_worse_figures_never_help(
    attempts: int, failed: int, garbled: int, more: int, after_s: float
) -> None:
    """With more failures among as many attempts, no rollout goes on that would have gone back."""
    failed, garbled = min(failed, attempts), min(garbled, attempts)
    new = Tally(attempts, failed, garbled, 100.0)
    worse = replace(new, failed=min(attempts, failed + more))
    ruling, harder = what(rollout(), new, after_s=after_s), what(rollout(), worse, after_s=after_s)
    assert harder in ("ROLL_BACK", ruling)


def test_windows_are_summed_over_regions_and_targets() -> None:
    """Attempts add up, latencies by their weight."""
    healths = {
        "a": health(
            "a", attempts=30, counts={Outcome.OK: 27, Outcome.FAILED: 3}, inflight=0, latency_ms_mean=100.0
        ),
        "b": health("b", attempts=10, counts={Outcome.GARBLED: 10}, inflight=0, latency_ms_mean=200.0),
    }
    assert tally_of(healths, ("a", "b", "unknown")) == Tally(40, 3, 10, 125.0)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"route": "none"}, "no route 'none'"),
        ({"targets": ["stranger"]}, "does not stand in route 'chat'"),
        ({"targets": ["alpha-us-east", "beta-us-east"]}, "different tiers (1, 2)"),
        (
            {"targets": ["alpha-us-east", "alpha-eu-west", "alpha-ap-south"]},
            "no other target to compare with",
        ),
        ({"targets": ["alpha-eu-west"]}, "serves already"),
        ({}, ""),
    ],
)
def test_what_cannot_be_started(spec: dict[str, Any], words: str) -> None:
    """Each refusal says what is wrong; a good rollout has none, but only one per route."""
    plain = fleet_config().fleet.model_dump()
    plain["routes"][0]["tiers"][0]["candidates"] = ["alpha-us-east"]
    fleet = Fleet.model_validate(plain)
    asked = RolloutSpec.model_validate({"route": "chat", "targets": ["alpha-us-east"], **spec})
    found = refusals(asked, fleet, ())
    assert words in " ".join(found)
    assert bool(found) == bool(words)
    beside = rollout(targets=["alpha-us-east"])
    assert bool(refusals(asked, fleet, (beside,))) or asked.route != "chat"
