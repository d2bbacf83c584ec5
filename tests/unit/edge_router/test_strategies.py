"""The distribution of each strategy that is more than a draw by weight, and that all of them keep to the ramp."""

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_router.core.strategies import affinity, best_score, cheapest, rendezvous
from edge_router.core.table import Candidate, Origin, ScoreWeights, TargetEntry
from shared.vocabulary.terms import Dialect

DRAWS = 20_000


@dataclass
class Fit:
    inflight: int = 0
    success: float = 1.0
    latency_ms: float = 0.0


def candidate(name: str, weight: int, *, price: float = 0.0, capacity: int = 100) -> Candidate:
    entry = TargetEntry(
        name,
        "r",
        Origin("http", "h", 1),
        b"h",
        b"",
        b'"m"',
        Dialect.OPENAI,
        None,
        capacity,
        False,
        price=price,
    )
    return Candidate(entry, weight, b"", 1)


def parts(choose: Callable[[int], Candidate]) -> Mapping[str, float]:
    counts = Counter(choose(n).target.id for n in range(DRAWS))
    return {name: count / DRAWS for name, count in counts.items()}


def scored(ready: Sequence[Candidate], fits: Mapping[str, Fit], weights: ScoreWeights) -> Mapping[str, float]:
    rng = random.Random(4)
    return parts(lambda _: best_score(ready, lambda target: fits[target.id], weights, rng.random))


def test_cost_takes_the_cheapest() -> None:
    """At equal weights everything goes there."""
    rng = random.Random(1)
    ready = [candidate("dear", 500, price=10.0), candidate("cheap", 500, price=1.0)]
    assert parts(lambda _: cheapest(ready, rng.random)) == {"cheap": 1.0}


def test_cost_shares_among_equals_by_weight() -> None:
    """Two of one price are told apart by the decision alone."""
    rng = random.Random(2)
    ready = [candidate("a", 400), candidate("b", 200), candidate("dear", 400, price=9.0)]
    found = parts(lambda _: cheapest(ready, rng.random))
    assert set(found) == {"a", "b"}
    assert found["b"] == pytest.approx(1 / 3, abs=0.02)


def test_a_cheap_target_that_returns_gets_its_part_of_the_ramp() -> None:
    """A tenth of the weight is a tenth of the draws, and no more."""
    rng = random.Random(3)
    ready = [candidate("dear", 900, price=10.0), candidate("cheap", 90, price=1.0)]
    assert parts(lambda _: cheapest(ready, rng.random))["cheap"] == pytest.approx(0.1, abs=0.01)


@pytest.mark.parametrize(
    ("fits", "weights", "winner"),
    [
        ({"a": Fit(latency_ms=10), "b": Fit(latency_ms=100)}, ScoreWeights(), "a"),
        ({"a": Fit(success=0.5), "b": Fit(success=1.0)}, ScoreWeights(), "b"),
        ({"a": Fit(inflight=90), "b": Fit(inflight=10)}, ScoreWeights(), "b"),
        # 0.5 of latency outweighs 0.2 of room; asked for room alone, it does not.
        ({"a": Fit(latency_ms=10, inflight=90), "b": Fit(latency_ms=40, inflight=0)}, ScoreWeights(), "a"),
        (
            {"a": Fit(latency_ms=10, inflight=90), "b": Fit(latency_ms=40, inflight=0)},
            ScoreWeights(0.0, 0.0, 1.0),
            "b",
        ),
        # Nothing known yet of b: it is tried.
        ({"a": Fit(latency_ms=10, success=0.9), "b": Fit()}, ScoreWeights(), "b"),
    ],
)
def test_score_takes_the_best_sum(fits: Mapping[str, Fit], weights: ScoreWeights, winner: str) -> None:
    """By its coefficients."""
    ready = [candidate("a", 500), candidate("b", 500)]
    assert scored(ready, fits, weights) == {winner: 1.0}


def test_score_shares_among_equals() -> None:
    """Nobody is preferred for standing first."""
    ready = [candidate("a", 500), candidate("b", 500)]
    assert scored(ready, {"a": Fit(), "b": Fit()}, ScoreWeights())["a"] == pytest.approx(0.5, abs=0.02)


def test_hash_keeps_the_weights() -> None:
    """Over many keys each target gets its part."""
    ready = [candidate("a", 600), candidate("b", 300), candidate("c", 100)]
    found = parts(lambda n: rendezvous(ready, str(n).encode()))
    for one in ready:
        assert found[one.target.id] == pytest.approx(one.weight / 1000, abs=0.015)


@given(st.sets(st.sampled_from("abcdefgh"), min_size=2), st.binary(max_size=20), st.data())
def test_only_the_keys_of_who_goes_move(names: set[str], key: bytes, data: st.DataObject) -> None:
    """Whoever else was chosen stays."""
    ready = [candidate(name, 100 + 50 * ord(name)) for name in sorted(names)]
    chosen = rendezvous(ready, key)
    gone = data.draw(st.sampled_from(ready))
    left = [one for one in ready if one is not gone]
    assert gone is chosen or rendezvous(left, key) is chosen


def test_turns_of_one_conversation_have_one_key() -> None:
    """By its first message; by tenant, too."""
    first = b'{"messages":[{"role":"user","content":"hello"}],"model":"m"}'
    second = (
        b'{"model":"m","messages":[{"role":"user","content":"hello"},{"role":"assistant","content":"hi"},'
        b'{"role":"user","content":"more"}]}'
    )
    other = first.replace(b"hello", b"howdy")
    assert affinity(first, "t") == affinity(second, "t")
    assert affinity(first, "t") != affinity(other, "t")
    assert affinity(first, "t") != affinity(first, "u")
