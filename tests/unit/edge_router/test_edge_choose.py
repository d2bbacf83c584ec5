"""Where requests go: the order of fallbacks, and the distribution of each strategy."""

import random
from collections import Counter
from dataclasses import dataclass, field, replace

import pytest

from edge_router.core.choose import Chooser, Nobody, PeakEwma, Readiness, not_longer
from edge_router.core.table import Candidate, Origin, RouteEntry, TargetEntry, TierEntry, Timeouts
from shared.vocabulary.base import NO_VERSION
from shared.vocabulary.terms import Dialect, Strategy


@dataclass
class Stand:
    inflight: int = 0
    state: Readiness = Readiness.READY
    back: float = 0.0
    cost: float = 1.0
    success: float = 1.0
    latency_ms: float = 0.0
    partial: bool = False

    def readiness(self, now: float) -> Readiness:
        return self.state

    def due(self, now: float) -> float:
        return self.back


@dataclass
class Scene:
    stands: dict[str, Stand] = field(default_factory=dict)

    def chooser(self, seed: int = 1) -> Chooser:
        rng = random.Random(seed)
        return Chooser(
            lambda target: self.stands.setdefault(target.id, Stand()), rng.random, offset=rng.random()
        )


def candidate(name: str, weight: int, tier: int = 1) -> Candidate:
    target = TargetEntry(name, "r", Origin("http", "h", 1), b"h", b"", b'"m"', Dialect.OPENAI, None, 9, False)
    return Candidate(target, weight, b"", tier)


def tier(number: int, share: int, *standby: str, **weights: int) -> TierEntry:
    weighted = tuple(candidate(name, weight, number) for name, weight in weights.items())
    total, sums = sum(weights.values()), []
    for one in weighted:
        sums.append((sums[-1] if sums else 0.0) + one.weight / total)
    return TierEntry(
        number, share, weighted, tuple(sums), tuple(candidate(name, 0, number) for name in standby)
    )


def route(
    *tiers: TierEntry, strategy: Strategy = Strategy.WEIGHTED, resort: tuple[str, ...] = ()
) -> RouteEntry:
    shares, total = [], 0
    for one in tiers:
        total += one.share
        shares.append(total / 1000)
    return RouteEntry(
        id="chat",
        version=NO_VERSION,
        dialect=Dialect.OPENAI,
        strategy=strategy,
        timeouts=Timeouts(2.0, 20.0, 300.0, 600.0, 60.0, 300.0, 600.0),
        tiers=tiers,
        only=next((one for one in tiers if one.share == 1000), None),
        shares=tuple(shares),
        last_resort=tuple(candidate(name, 0) for name in resort),
    )


def walk(chooser: Chooser, entry: RouteEntry) -> list[str]:
    """All that a request would be sent to, each one having failed."""
    tried = [chooser.first(entry, 0.0).target.id]
    while True:
        try:
            tried.append(chooser.another(entry, tried, 0.0).target.id)
        except Nobody:
            return tried


def test_the_order_of_fallbacks() -> None:
    """Weights, stand-bys, next tiers, then the ejected, the cooling, and what was excluded automatically."""
    scene = Scene(
        {
            "ejected-late": Stand(state=Readiness.DOUBTFUL, back=9.0),
            "ejected-soon": Stand(state=Readiness.DOUBTFUL, back=2.0),
            "cooling": Stand(state=Readiness.COOLING, back=1.0),
            "full": Stand(state=Readiness.FULL),
        }
    )
    entry = route(
        tier(1, 1000, "standby", "ejected-late", "full", best=1000),
        tier(2, 0, cooling=500, second=500),
        tier(3, 0, **{"ejected-soon": 500, "third": 500}),
        resort=("excluded",),
    )
    assert walk(scene.chooser(), entry) == [
        "best", "standby", "second", "third", "ejected-soon", "ejected-late", "cooling", "excluded",
    ]  # fmt: skip


@pytest.mark.parametrize("strategy", [Strategy.WEIGHTED, Strategy.RANDOM])
def test_weights_are_kept(strategy: Strategy) -> None:
    """Over many requests each target gets its part."""
    chooser = Scene().chooser()
    entry = route(tier(1, 1000, a=700, b=200, c=100), strategy=strategy)
    counts = Counter(chooser.first(entry, 0.0).target.id for _ in range(20_000))
    for name, weight in (("a", 700), ("b", 200), ("c", 100)):
        assert counts[name] / 20_000 == pytest.approx(weight / 1000, abs=0.015)


def test_weighted_is_smooth() -> None:
    """In any stretch of 20 requests nobody is more than two off his part: no bursts on one target."""
    chooser = Scene().chooser()
    entry = route(tier(1, 1000, a=500, b=300, c=200))
    picks = [chooser.first(entry, 0.0).target.id for _ in range(2000)]
    for at in range(1980):
        counts = Counter(picks[at : at + 20])
        assert all(abs(counts[name] - part) <= 2 for name, part in (("a", 10), ("b", 6), ("c", 4)))


def test_round_robin_takes_turns() -> None:
    """Whatever the weights: one after the other."""
    chooser = Scene().chooser()
    entry = route(tier(1, 1000, a=900, b=50, c=50), strategy=Strategy.ROUND_ROBIN)
    picks = [chooser.first(entry, 0.0).target.id for _ in range(9)]
    assert [picks[:3]] * 3 == [picks[:3], picks[3:6], picks[6:]]
    assert set(picks[:3]) == {"a", "b", "c"}


def test_least_connections_evens_out_by_weight() -> None:
    """Requests that stay are spread so that each target carries its part."""
    scene = Scene()
    chooser = scene.chooser()
    entry = route(tier(1, 1000, a=600, b=300, c=100), strategy=Strategy.LEAST_CONNECTIONS)
    for _ in range(100):
        scene.stands[chooser.first(entry, 0.0).target.id].inflight += 1
    assert [scene.stands[name].inflight for name in "abc"] == [60, 30, 10]


def test_latency_prefers_the_faster_of_two() -> None:
    """Power of two choices on peak-EWMA: the slow one is avoided unless drawn twice."""
    scene = Scene({"fast": Stand(cost=10.0), "slow": Stand(cost=200.0)})
    chooser = scene.chooser()
    entry = route(tier(1, 1000, fast=500, slow=500), strategy=Strategy.LATENCY)
    counts = Counter(chooser.first(entry, 0.0).target.id for _ in range(4000))
    assert counts["slow"] / 4000 == pytest.approx(0.25, abs=0.03)


def test_the_part_of_an_absent_target_is_shared_out_by_weight() -> None:
    """It does not fall on one neighbour."""
    scene = Scene({"a": Stand(state=Readiness.DOUBTFUL)})
    chooser = scene.chooser()
    entry = route(tier(1, 1000, a=500, b=300, c=200))
    counts = Counter(chooser.first(entry, 0.0).target.id for _ in range(10_000))
    assert counts["a"] == 0
    assert counts["b"] / 10_000 == pytest.approx(0.6, abs=0.02)


def test_tiers_share_and_the_rest_is_shed() -> None:
    """600 to the first tier, 300 to the second, 100 turned away."""
    chooser = Scene().chooser()
    entry = route(tier(1, 600, a=1000), tier(2, 300, b=1000))

    def where() -> str:
        try:
            return chooser.first(entry, 0.0).target.id
        except Nobody as nobody:
            return str(nobody)

    counts = Counter(where() for _ in range(10_000))
    for name, part in (("a", 0.6), ("b", 0.3), ("shed", 0.1)):
        assert counts[name] / 10_000 == pytest.approx(part, abs=0.01)


def test_nobody_says_why() -> None:
    """Full is another thing than none."""
    scene = Scene({"a": Stand(state=Readiness.FULL)})
    with pytest.raises(Nobody) as full:
        scene.chooser().first(route(tier(1, 1000, a=1000)), 0.0)
    assert full.value.full
    with pytest.raises(Nobody) as none:
        scene.chooser().another(route(tier(1, 1000, a=1000)), ["a"], 0.0)
    assert not none.value.full
    with pytest.raises(Nobody) as shed:
        scene.chooser().first(route(), 0.0)
    assert shed.value.shed


def test_edges_that_start_together_do_not_step_in_time() -> None:
    """Each begins at a place of its own."""
    entry = route(tier(1, 1000, a=250, b=250, c=250, d=250))
    firsts = {
        tuple(Scene().chooser(seed).first(entry, 0.0).target.id for _ in range(1)) for seed in range(20)
    }
    assert len(firsts) > 1


def test_counters_of_gone_routes_are_forgotten() -> None:
    """State is bounded by the routes there are."""
    chooser = Scene().chooser()
    for number in range(50):
        chooser.first(replace(route(tier(1, 1000, a=500, b=500)), id=f"r{number}"), 0.0)
    chooser.keep({"r7"})
    assert len(chooser) == 1


def test_a_slow_answer_is_news_and_a_fast_one_is_one_of_many() -> None:
    """Peak-EWMA jumps up at once and comes down with time."""
    ewma = PeakEwma()
    ewma.add(10.0, 0.0)
    ewma.add(500.0, 1.0)
    assert ewma.value == 500.0
    ewma.add(10.0, 1.1)
    assert ewma.value > 490.0
    ewma.add(10.0, 60.0)
    assert ewma.value < 15.0


def test_the_last_attempt_goes_to_a_tier_that_has_not_failed() -> None:
    """Two targets of a kind having failed, the third attempt asks another kind, though the tier has more."""
    chooser = Scene({}).chooser()
    entry = route(tier(1, 1000, a=1000, b=0, c=0), tier(2, 0, d=1000))
    assert chooser.another(entry, ["a"], 0.0).target.id in {"b", "c"}
    assert chooser.another(entry, ["a", "b"], 0.0).target.id == "c"
    assert chooser.another(entry, ["a", "b"], 0.0, last=True).target.id == "d"
    only = route(tier(1, 1000, a=1000, b=0, c=0))
    assert chooser.another(only, ["a", "b"], 0.0, last=True).target.id == "c"


def draws(chooser: Chooser, entry: RouteEntry, times: int = 20_000, *, keyed: bool = False) -> Counter[str]:
    return Counter(
        chooser.first(entry, 0.0, str(n).encode() if keyed else b"").target.id for n in range(times)
    )


CHI2_999 = {1: 10.83, 2: 13.82, 3: 16.27, 4: 18.47}
"""Quantiles of the chi-square distribution: a right draw is above once in a thousand seeds."""


def chi2(counts: Counter[str], **weights: int) -> float:
    """How far `counts` are from draws by `weights`."""
    times, total = sum(counts.values()), sum(weights.values())
    expected = {name: times * weight / total for name, weight in weights.items()}
    assert counts.keys() <= expected.keys()
    return sum((counts[name] - each) ** 2 / each for name, each in expected.items())


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    "strategy", [Strategy.RANDOM, Strategy.HASH, Strategy.COST, Strategy.SCORE, Strategy.WEIGHTED]
)
def test_each_strategy_that_shares_does_so_by_weight(strategy: Strategy, seed: int) -> None:
    """Among targets that are alike to it: a chi-square test of its draws against the decision's weights.

    `cost` and `score` take fewer draws for whoever has less than the greatest weight, so equals that differ
    in weight are asked in proportion all the same."""
    weights = {"a": 500, "b": 300, "c": 150, "d": 50}
    counts = draws(
        Scene().chooser(seed), route(tier(1, 1000, **weights), strategy=strategy), keyed=strategy is Strategy.HASH
    )  # fmt: skip
    assert chi2(counts, **weights) < CHI2_999[3]


def test_least_connections_among_idle_equals_is_even() -> None:
    """With nothing under way the first of the list is not everybody's target."""
    entry = route(tier(1, 1000, a=250, b=250, c=250, d=250), strategy=Strategy.LEAST_CONNECTIONS)
    assert chi2(draws(Scene().chooser(3), entry), a=1, b=1, c=1, d=1) < CHI2_999[3]


def test_latency_is_two_choices() -> None:
    """Power of two choices over three: the best is taken unless it is in neither draw (5/9), the worst only when
    it is both (1/9)."""
    scene = Scene({"fast": Stand(cost=1.0), "middle": Stand(cost=5.0), "slow": Stand(cost=50.0)})
    entry = route(tier(1, 1000, fast=1, middle=1, slow=1), strategy=Strategy.LATENCY)
    assert chi2(draws(scene.chooser(4), entry), fast=5, middle=3, slow=1) < CHI2_999[2]


def test_with_everybody_ejected_requests_are_spread() -> None:
    """Nobody knows which of them is back: by weight over all, not all to the one due first."""
    weights = {"a": 500, "b": 300, "c": 200}
    scene = Scene({name: Stand(state=Readiness.DOUBTFUL, back=n) for n, name in enumerate(weights)})
    counts = draws(scene.chooser(5), route(tier(1, 1000, **weights)))
    assert chi2(counts, **weights) < CHI2_999[2]


def test_the_cooling_are_not_spread_over() -> None:
    """They have said until when: the one due first is asked."""
    scene = Scene({name: Stand(state=Readiness.COOLING, back=n) for n, name in enumerate("cab")})
    assert draws(scene.chooser(), route(tier(1, 1000, a=500, b=300, c=200)), 50) == {"c": 50}


@pytest.mark.parametrize(
    ("out", "kept"),
    [
        ({"a": 0.4}, set()),
        ({"a": 0.4, "b": 0.3}, set()),
        ({"a": 0.4, "b": 0.3, "c": 0.45}, {"c"}),
        ({"a": 0.4, "b": 0.3, "c": 0.45, "d": 0.1}, {"a", "c"}),
    ],
)
def test_no_more_than_half_are_out_for_their_share_of_failures(out: dict[str, float], kept: set[str]) -> None:
    """Of those beyond, the ones that answer most stay in."""
    scene = Scene(
        {n: Stand(state=Readiness.DOUBTFUL, partial=True, success=success) for n, success in out.items()}
    )
    counts = draws(scene.chooser(), route(tier(1, 1000, a=250, b=250, c=250, d=250)), 2000)
    assert counts.keys() == ({*"abcd"} - out.keys()) | kept


def test_who_answers_nothing_is_out_however_many_they_are() -> None:
    """An ejection for failures in a row has no answers to keep: the rest is asked, as long as it has room."""
    dead = Stand(state=Readiness.DOUBTFUL)
    scene = Scene({"a": dead, "b": dead, "c": dead})
    entry = route(tier(1, 1000, a=250, b=250, c=250, d=250))
    assert draws(scene.chooser(), entry, 200) == {"d": 200}
    scene.stands["d"] = Stand(state=Readiness.FULL)
    assert draws(scene.chooser(), entry, 200).keys() == {"a", "b", "c"}


def test_half_is_counted_over_all_tiers() -> None:
    """A tier that fails as a whole is left for the next one."""
    failing = Stand(state=Readiness.DOUBTFUL, partial=True, success=0.4)
    scene = Scene({"a": failing, "b": failing})
    entry = route(tier(1, 1000, a=500, b=500), tier(2, 0, c=500, d=500))
    assert draws(scene.chooser(), entry, 200).keys() == {"c", "d"}


def test_who_is_tried_or_barred_is_not_kept_in() -> None:
    """Keeping in is no way around anything: what a request has tried it does not get again."""
    scene = Scene(
        {n: Stand(state=Readiness.DOUBTFUL, partial=True, success=0.4, back=1.0) for n in ("a", "b", "c")}
    )
    entry = route(tier(1, 1000, a=500, b=300, c=200))
    assert sorted(walk(scene.chooser(), entry)) == ["a", "b", "c"]


def test_only_a_longer_context_is_longer() -> None:
    """Unknown counts as not longer, on either side; equals are not longer."""

    def long(name: str, tokens: int) -> Candidate:
        one = candidate(name, 100)
        return replace(one, target=replace(one.target, context_length=tokens))

    places = (long("small", 8_000), long("same", 8_000), long("large", 32_000), long("unknown", 0))
    entry = route(TierEntry(1, 1000, places, (0.25, 0.5, 0.75, 1.0), ()))
    assert not_longer(entry, places[0].target) == ["small", "same", "unknown"]
    assert not_longer(entry, places[2].target) == ["small", "same", "large", "unknown"]
    assert not_longer(entry, places[3].target) == ["small", "same", "large", "unknown"]


@pytest.mark.parametrize(("max_ejected", "asked"), [(0.0, "abcd"), (0.25, "acd"), (0.5, "cd"), (1.0, "d")])
def test_how_many_may_be_out_is_the_routes_to_say(max_ejected: float, asked: str) -> None:
    """From nobody to all."""
    out = {"a": 0.4, "b": 0.3, "c": 0.45}
    scene = Scene(
        {n: Stand(state=Readiness.DOUBTFUL, partial=True, success=success) for n, success in out.items()}
    )
    entry = replace(route(tier(1, 1000, a=250, b=250, c=250, d=250)), max_ejected=max_ejected)
    assert draws(scene.chooser(), entry, 500).keys() == set(asked)
