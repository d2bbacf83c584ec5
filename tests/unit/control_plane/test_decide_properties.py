"""The invariants of deciding, under arbitrary histories, held by checks written apart from `decide`."""

from collections.abc import Callable, Mapping
from itertools import pairwise

from brain_worlds import World, fleet_config
from hypothesis import given, settings
from hypothesis import strategies as st

from control_plane.core.decide import Proposal
from shared.vocabulary.config import FleetConfig
from shared.vocabulary.decision import Decision
from shared.vocabulary.terms import Outcome, Verdict
from shared.vocabulary.view import HealthView

REGIONS = ("r1", "r2", "r3", "r4")
TARGETS = {f"{kind}-{region}": region for kind in "abc" for region in REGIONS[:3]} | {"a2-r1": "r1"}
NAMES = tuple(TARGETS)
QUICK = {"ramp_s": 4, "hold_down_cap_s": 60, "soft_interval_s": 3}

Step = Callable[[World], None]


def fleet(
    *, tiers: tuple[tuple[str, ...], ...], residency: tuple[str, ...] | None, version: int = 1
) -> FleetConfig:
    solo = [{"id": "solo", "match": {"models": ["s"]}, "tiers": [{"targets": ["b-r2"]}]}]
    return fleet_config(
        regions=REGIONS,
        targets=TARGETS,
        tiers=tiers,
        residency=residency,
        version=version,
        policy=QUICK,
        more_routes=solo,
    )


@st.composite
def fleets(draw: st.DrawFn, version: int = 1) -> FleetConfig:
    """A route of one to three tiers over some targets, with or without residency, and one of a lone target."""
    names = draw(st.permutations(NAMES))[: draw(st.integers(1, len(NAMES)))]
    cuts = sorted(draw(st.sets(st.integers(1, max(1, len(names) - 1)), max_size=2)))
    bounds = [0, *[cut for cut in cuts if cut < len(names)], len(names)]
    tiers = tuple(tuple(names[a:b]) for a, b in pairwise(bounds))
    homes = sorted({TARGETS[name] for name in names})
    residency = draw(st.none() | st.lists(st.sampled_from(homes), min_size=1, unique=True).map(tuple))
    return fleet(tiers=tiers, residency=residency, version=version)


@st.composite
def steps(draw: st.DrawFn) -> Step:
    """One thing that happens: somebody sees something, falls silent, traffic turns, time passes."""
    kind = draw(st.sampled_from(["down", "down", "up", "up", "all", "silent", "traffic", "cool", "wait"]))
    some = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=6))
    vantages = draw(st.lists(st.sampled_from(REGIONS), min_size=1, max_size=4))
    hard = draw(st.booleans())
    seconds = draw(st.sampled_from([0.2, 2.0, 5.0, 20.0, 100.0]))
    outcome = draw(st.sampled_from(list(Outcome)))
    cooling_s = draw(st.sampled_from([0.0, 5.0, 300.0]))

    def happen(world: World) -> None:
        for vantage in vantages:
            if kind == "down":
                world.down.setdefault(vantage, {}).update(dict.fromkeys(some, hard))
            elif kind == "up":
                for target in some:
                    world.down.get(vantage, {}).pop(target, None)
            elif kind == "silent":
                world.silent ^= {vantage}
            elif kind == "traffic":
                world.traffic[vantage] = {target: {outcome: 50} for target in some}
            elif kind == "cool":
                world.cooling[vantage] = dict.fromkeys(some, cooling_s)
        if kind == "all":
            world.everywhere_down(*world.targets, hard=hard)
        if kind == "wait":
            world.clock_s += seconds

    return happen


def bearing(document: Decision, client: str) -> dict[str, int]:
    """Targets that get traffic from `client`."""
    decided = document.regions[client]
    assert sum(tier.share_permille for tier in decided.tiers) + decided.shed_permille == 1000
    for tier in decided.tiers:
        assert not tier.targets or sum(target.weight_permille for target in tier.targets) == 1000
    return {
        target.id: tier.share_permille * target.weight_permille
        for tier in decided.tiers
        for target in tier.targets
        if tier.share_permille and target.weight_permille
    }


def check(world: World, view: HealthView) -> None:
    """What must hold of every table in force, whatever happened before."""
    healths = {health.id: health for health in view.targets}
    for route in world.config.fleet.routes:
        document = world.documents[route.id]
        permitted = [
            target
            for tier in route.tiers
            for target in tier.targets
            if route.residency is None or TARGETS[target] in route.residency
        ]
        for client in REGIONS:
            used = bearing(document, client)
            members = {target.id for tier in document.regions[client].tiers for target in tier.targets}
            assert used, "traffic goes to nobody"
            assert members <= set(permitted), "residency is broken"
            assert document.regions[client].shed_permille == 0

            def dead(target: str, client: str = client) -> bool:
                health = healths[target]
                fails = any(each.failing and each.region == client for each in health.passive)
                return fails or (health.verdict is Verdict.DOWN and health.hard)

            answers = [
                target
                for target in permitted
                if not dead(target) and healths[target].verdict in (Verdict.HEALTHY, Verdict.DEGRADED)
            ]
            if answers:
                assert not all(dead(target) for target in used), "everything goes to the dead"
                assert not any(dead(target) for target in members), "the dead are kept beside the living"


@settings(max_examples=80, deadline=None)
@given(fleets(), st.lists(steps(), max_size=25), fleets(version=2))
def test_whatever_happens_traffic_reaches_who_can_serve(
    config: FleetConfig, history: list[Step], other: FleetConfig
) -> None:
    """Sums hold, residency holds, nobody empty, the dead are left while anybody answers, versions rise
    by one, every proposal passes `inspect` (in `tick`), and the same input gives nothing twice."""
    world = World(config=config)
    for number, step in enumerate([*history, lambda world: None]):
        step(world)
        if number == len(history) // 2:
            world.config = other
        before = world.head.seq if world.head else 0
        proposal = world.tick(after_s=0.25)
        assert world.head is not None
        assert world.head.seq == before + (proposal is not None)
        assert world.view is not None
        check(world, world.view)
        assert world.propose() is None, "constant input gave another decision"


@settings(max_examples=15, deadline=None)
@given(fleets(), st.lists(steps(), max_size=15))
def test_constant_input_settles(config: FleetConfig, history: list[Step]) -> None:
    """When nothing changes any more, decisions end: ramps and soft moves run out, nothing oscillates."""
    world = World(config=config)
    for step in history:
        step(world)
        world.tick(after_s=0.5)
    for _ in range(200):
        world.tick(after_s=2.0)
    assert [world.tick(after_s=2.0) for _ in range(30)] == [None] * 30


@settings(max_examples=40, deadline=None)
@given(
    fleets(),
    st.lists(st.sets(st.sampled_from(REGIONS), max_size=4), min_size=1, max_size=15),
)
def test_silence_never_removes(config: FleetConfig, silences: list[set[str]]) -> None:
    """Whoever falls silent, in whatever combination and for however long: no target is excluded for it."""
    world = World(config=config)
    for silent in silences:
        world.silent = silent
        world.tick(after_s=3.0)
        excluded = [each for document in world.documents.values() for each in document.excluded]
        assert [each for each in excluded if each.by == "auto"] == []


@settings(max_examples=40, deadline=None)
@given(
    fleets(),
    st.sampled_from(REGIONS),
    st.lists(st.dictionaries(st.sampled_from(NAMES), st.booleans()), min_size=1, max_size=15),
)
def test_one_vantage_cannot_flip_what_three_agree_on(
    config: FleetConfig, liar: str, lies: list[Mapping[str, bool]]
) -> None:
    """Three fresh vantages say HEALTHY: whatever the fourth says, nobody is excluded and the other
    regions' traffic stays where it was."""
    world = World(config=config)
    world.tick()
    before = {
        route: {client: bearing(document, client) for client in REGIONS}
        for route, document in world.documents.items()
    }
    for lie in lies:
        world.down = {liar: dict(lie)}
        world.tick()
        for route, document in world.documents.items():
            assert [each for each in document.excluded if each.by == "auto"] == []
            for client in set(REGIONS) - {liar}:
                assert bearing(document, client) == before[route][client]


@settings(max_examples=30, deadline=None)
@given(fleets(), st.lists(st.sampled_from(NAMES), min_size=1, max_size=10), st.integers(1, 20))
def test_soft_evidence_stays_within_its_rate(config: FleetConfig, falling: list[str], ticks: int) -> None:
    """Within any soft_interval_s no client region moves more than soft_move_permille on soft evidence."""
    world = World(config=config)
    world.tick()
    seen: list[tuple[float, dict[tuple[str, str], dict[str, int]]]] = []
    for number in range(ticks):
        if number < len(falling):
            world.everywhere_down(falling[number], hard=False)
        proposal: Proposal | None = world.tick(after_s=0.5)
        table = {
            (route, client): bearing(document, client)
            for route, document in world.documents.items()
            for client in REGIONS
        }
        seen.append((world.clock_s, table))
        if proposal is None:
            continue
        recent = next(tables for at, tables in seen if world.clock_s - at < QUICK["soft_interval_s"])
        for key, weights in table.items():
            moved = sum(max(0, was - weights.get(target, 0)) for target, was in recent[key].items())
            limit = world.config.fleet.policy.soft_move_permille * 1000
            assert moved <= limit + 20_000, "more than the rate, beyond rounding"
