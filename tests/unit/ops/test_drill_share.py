"""Whether targets are given more than they were planned."""

from ops.drill.share import Shares

PLAN = {("chat", "us", "alpha-us"): 100, ("chat", "us", "beta-us"): 900, ("embed", "us", "beta-us"): 1000}


def test_what_is_given_is_compared_with_what_was_planned() -> None:
    """Summed until it says something; other routes' plans do not count."""
    shares = Shares("chat")
    shares.add({("us", "alpha-us"): 20, ("us", "beta-us"): 80}, [PLAN])
    assert shares.worst == {"beta-us": 889}
    shares.add({("us", "alpha-us"): 20, ("us", "beta-us"): 80}, [PLAN])
    assert shares.worst == {"beta-us": 889, "alpha-us": 2000}


def test_the_most_generous_plan_about_a_second_counts() -> None:
    """Edges change over at different moments."""
    shares = Shares("chat")
    shares.add({("us", "alpha-us"): 100}, [PLAN, {("chat", "us", "alpha-us"): 1000}])
    assert shares.worst["alpha-us"] == 1000


def test_who_was_planned_nothing_exceeds_nothing() -> None:
    """A stand-by that serves while others fail; and whoever is left out."""
    shares = Shares("chat")
    shares.add({("us", "gamma-us"): 100}, [PLAN], leave_out=frozenset({"beta-us"}))
    assert "gamma-us" not in shares.worst
    assert "beta-us" not in shares.worst
