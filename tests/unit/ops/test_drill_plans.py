"""What a drill takes for an answer to its fault."""

from drill_worlds import document, fleet

from ops.drill.plans import (
    given_to,
    moved,
    plan_of,
    planned_of_capacity,
    version_with,
    version_with_less,
    version_without,
)
from shared.vocabulary.base import NO_VERSION, Version
from shared.vocabulary.decision import Decision
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


def test_return_is_the_end_of_every_exclusion() -> None:
    """Back when nobody excludes any of them, in a decision made since."""
    out = by_route(document("chat", 7, "alpha-us", excluded=("beta-eu",)))
    assert version_with(out, DEAD, after=Version(1, 6)) is None
    back = by_route(document("chat", 8, "alpha-us", "alpha-eu", excluded=("somebody-else",)))
    assert version_with(back, DEAD, after=Version(1, 6)) == Version(1, 8)
    assert version_with(back, DEAD, after=Version(1, 8)) is None


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
    assert version_with(less, DEAD, after=NO_VERSION) == Version(1, 5)


def test_what_a_plan_asks_of_capacity() -> None:
    """The demand that edges report, times the part, over what the target can carry (256)."""
    documents = by_route(document("chat", 4, "alpha-us", "beta-us", a=750, b=250))
    load = RouteTraffic(route="chat", region="us", inflight=128.0, requests=9, failed=0, window_s=10)
    assert planned_of_capacity(documents, [load], fleet()) == {"alpha-us": 375, "beta-us": 125}
