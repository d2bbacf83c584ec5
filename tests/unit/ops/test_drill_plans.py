"""What a drill takes for an answer to its fault."""

from drill_worlds import document, fleet

from ops.drill.plans import (
    excluded_in,
    given_to,
    leaving_in,
    moved,
    names,
    plan_of,
    planned_of_capacity,
    version_with_less,
    version_without,
)
from shared.vocabulary.base import Version
from shared.vocabulary.decision import Decision, Exclusion, Reason
from shared.vocabulary.view import RouteTraffic

DEAD = frozenset({"alpha-eu", "beta-eu"})


def by_route(*documents: Decision) -> dict[str, Decision]:
    return {each.route: each for each in documents}


def test_leaving_takes_every_route_and_every_target() -> None:
    """The version that left them is the newest document's, once no route uses any of them."""
    before = Version(1, 4)
    partly = by_route(document("chat", 5, "alpha-us", "beta-eu"), document("embed", 5, "alpha-us"))
    assert version_without(partly, DEAD, after=before) is None
    wholly = by_route(document("chat", 6, "alpha-us"), document("embed", 5, "alpha-us"))
    assert version_without(wholly, DEAD, after=before) == Version(1, 6)


def test_what_was_in_force_before_is_no_answer() -> None:
    """A route that never used the targets does not count as having left them."""
    documents = by_route(document("chat", 4, "alpha-us"))
    assert version_without(documents, DEAD, after=Version(1, 4)) is None
    assert version_without({}, DEAD, after=Version(1, 4)) is None


def test_what_policy_bars_is_no_answer() -> None:
    """Out is who left by health or by an operator, for some clients or all."""
    barred = Exclusion(target="alpha-eu", by="policy", reason="residency", region="us")
    made = document("chat", 7, "alpha-us", excluded=("beta-eu",))
    made = made.model_copy(update={"excluded": (*made.excluded, barred)})
    assert excluded_in(by_route(made)) == {("chat", "beta-eu", None)}


def test_who_leaves_is_told_from_who_returns() -> None:
    """Down, less by caution, back on the ramp, drained with its region; not up the ramp, and nothing old."""
    said = (
        Reason(code="TARGET_DOWN", target="a"),
        Reason(code="TARGET_DEGRADED", target="b", values={"kept_permille": 300, "from_permille": 1000}),
        Reason(code="TARGET_DEGRADED", target="c", values={"kept_permille": 1000, "from_permille": 300}),
        Reason(code="RAMP_STEP", target="d", values={"permille": 100, "from_permille": 300}),
        Reason(code="RAMP_STEP", target="e", values={"permille": 300, "from_permille": 100}),
        Reason(code="TARGET_UP", target="f", values={"permille": 1000, "from_permille": 300}),
        Reason(code="DRAINED", values={"targets_in": "eu"}),
    )
    made = by_route(document("chat", 7, "alpha-us").model_copy(update={"reasons": said}))
    found = leaving_in(made, after=Version(1, 6))
    assert [each.target for each in found] == ["a", "b", "d", None]
    assert [names(each, frozenset("b"), frozenset({"eu"})) for each in found] == [False, True, False, True]
    assert leaving_in(made, after=Version(1, 7)) == ()


def test_less_is_an_answer_to_what_is_not_lost() -> None:
    """A smaller part of anybody's traffic, in a decision made since; a stand-by has no part."""
    whole = by_route(document("chat", 4, "alpha-eu", "alpha-us", a=1000, b=0))
    before = plan_of(whole)
    assert before == {("chat", "us", "alpha-eu"): 1000}
    less = by_route(document("chat", 5, "alpha-eu", "alpha-us", a=800, b=200))
    assert version_with_less(whole, DEAD, before=before, after=Version(1, 4)) is None
    assert version_with_less(less, DEAD, before=before, after=Version(1, 4)) == Version(1, 5)
    assert given_to(plan_of(less), DEAD) == 800
    assert moved(before, plan_of(less)) == ["alpha-eu", "alpha-us"]
    assert moved(before, before) == []


def test_what_a_plan_asks_of_capacity() -> None:
    """The demand that edges report, times the part, over what the target can carry (256)."""
    documents = by_route(document("chat", 4, "alpha-us", "beta-us", a=750, b=250))
    load = RouteTraffic(route="chat", region="us", inflight=128.0, requests=9, failed=0, window_s=10)
    assert planned_of_capacity(documents, [load], fleet()) == {"alpha-us": 375, "beta-us": 125}
