"""The invariants of deciding under load and orders, in arbitrary histories, held by checks of their own.

`World.decide` lets every proposal pass `inspect` as well, which counts planned load by itself.
"""

from collections.abc import Callable, Mapping
from datetime import timedelta
from itertools import pairwise

from brain_worlds import START, World, fleet_config
from hypothesis import given, settings
from hypothesis import strategies as st

from control_plane.core.orders import Orders, orders_of
from shared.vocabulary.config import FleetConfig
from shared.vocabulary.override import Override, OverrideSpec
from shared.vocabulary.rollout import Rollout
from shared.vocabulary.terms import Outcome, Verdict
from shared.vocabulary.view import Freeze, HealthView

REGIONS = ("r1", "r2", "r3")
TARGETS = {f"{kind}-{region}": region for kind in "abc" for region in REGIONS} | {"a2-r1": "r1"}
NAMES = tuple(TARGETS)
QUICK = {
    "ramp_s": 4,
    "hold_down_cap_s": 60,
    "soft_interval_s": 3,
    "demand_settle_s": 5,
    "passive_window_s": 5,
}

Step = Callable[[World], None]


@st.composite
def fleets(draw: st.DrawFn, version: int = 1) -> FleetConfig:
    """Two routes that share targets of small capacity, in one to three tiers."""
    capacity = {name: draw(st.sampled_from([1, 7, 30, 100])) for name in NAMES}

    def tiers() -> list[list[str]]:
        names = draw(st.permutations(NAMES))[: draw(st.integers(1, len(NAMES)))]
        cuts = draw(st.sets(st.integers(1, max(1, len(names) - 1)), max_size=2))
        bounds = [0, *sorted(cut for cut in cuts if cut < len(names)), len(names)]
        return [list(names[a:b]) for a, b in pairwise(bounds)]

    second = [{"targets": tier} for tier in tiers()]
    return fleet_config(
        regions=REGIONS,
        targets=TARGETS,
        tiers=tiers(),
        version=version,
        policy={**QUICK, "panic_permille": draw(st.sampled_from([0, 500, 1000]))},
        more_routes=[{"id": "other", "match": {"models": ["o"]}, "tiers": second}],
        capacity=capacity,
    )


@st.composite
def specs(draw: st.DrawFn) -> OverrideSpec:
    kind = draw(st.sampled_from(["drain", "pin", "weights", "freeze"]))
    route = draw(st.sampled_from(["chat", "other"]))
    if kind == "freeze":
        return OverrideSpec(kind="freeze", route=draw(st.sampled_from([None, route])))
    if kind == "weights":
        weights = draw(st.dictionaries(st.sampled_from(NAMES), st.integers(1, 1000), min_size=1, max_size=4))
        clients = draw(st.sampled_from([None, *REGIONS]))
        return OverrideSpec(kind="weights", route=route, weights=weights, clients=clients)
    whom = draw(
        st.sampled_from([{"region": REGIONS[0]}, {"region": REGIONS[1]}, *({"target": n} for n in NAMES)])
    )
    return OverrideSpec.model_validate({"kind": kind, "route": route, **whom})


def under(given: list[OverrideSpec], rollouts: tuple[Rollout, ...] = ()) -> Orders:
    """All of them given by ann for hours."""
    overrides = [
        Override(
            id=f"{spec.kind}-{n}",
            n=n,
            spec=spec,
            reason="because",
            author="ann",
            created_at=START,
            expires_at=START + timedelta(hours=99),
        )
        for n, spec in enumerate(given)
    ]
    return orders_of(overrides, rollouts, START)


@st.composite
def rollouts(draw: st.DrawFn, config: FleetConfig) -> tuple[Rollout, ...]:
    """None, or one of some target of `chat`."""
    if draw(st.booleans()):
        return ()
    names = [target for tier in config.fleet.routes[0].tiers for target in tier.targets]
    return (
        Rollout.model_validate(
            {
                "id": "ro-1",
                "spec": {"route": "chat", "targets": [draw(st.sampled_from(names))]},
                "state": draw(st.sampled_from(["RUNNING", "ABORTED", "PROMOTED"])),
                "step": draw(st.integers(0, 3)),
                "step_since": START,
                "created_at": START,
                "author": "ann",
                "reason": "newer",
            }
        ),
    )


@st.composite
def steps(draw: st.DrawFn) -> Step:
    """One thing that happens: to targets, to traffic, to what operators and the view say, to time."""
    kind = draw(
        st.sampled_from(["down", "up", "demand", "demand", "traffic", "orders", "freeze", "caution", "wait"])
    )
    some = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=6))
    hard = draw(st.booleans())
    places = st.sampled_from([0.0, 0.5, 3.0, 20.0, 90.0, 400.0])
    demand = draw(st.dictionaries(st.sampled_from(REGIONS), st.tuples(places, places), max_size=3))
    given = draw(st.lists(specs(), max_size=3))
    advice = draw(st.sampled_from([0, 300, 800]))
    seconds = draw(st.sampled_from([0.2, 4.0, 30.0]))

    def happen(world: World) -> None:
        if kind == "down":
            world.everywhere_down(*some, hard=hard)
        elif kind == "up":
            world.everywhere_up(*some)
        elif kind == "demand":
            world.demand |= {region: {"chat": a, "other": b} for region, (a, b) in demand.items()}
        elif kind == "traffic":
            world.traffic = {"r1": {target: {Outcome.REFUSED: 50} for target in some}} if hard else {}
        elif kind == "orders":
            world.orders = under(given, world.orders.rollouts)
        elif kind == "freeze":
            world.amend = saying(freeze=tuple(some) if hard else ())
        elif kind == "caution":
            world.amend = saying(advice=dict.fromkeys(some, advice))
        else:
            world.clock_s += seconds

    return happen


def saying(
    *, freeze: tuple[str, ...] | None = None, advice: Mapping[str, int] | None = None
) -> Callable[[HealthView], HealthView]:
    """Views with a freeze or with advice."""

    def amend(view: HealthView) -> HealthView:
        if freeze is not None:
            frozen = Freeze(cause="MOST_SILENT", since=START, targets=freeze)
            return view.model_copy(update={"freezes": (frozen,)})
        targets = [
            health.model_copy(update={"caution_permille": (advice or {}).get(health.id, 1000)})
            for health in view.targets
        ]
        return view.model_copy(update={"targets": tuple(targets)})

    return amend


def check(world: World) -> None:
    """What must hold of every table in force, whatever happened before."""
    load: dict[str, float] = {}
    shed: list[tuple[str, str, set[str]]] = []
    for route in world.config.fleet.routes:
        held = world.memory.routes[route.id].demand if route.id in world.memory.routes else {}
        for region in REGIONS:
            decided = world.documents[route.id].regions[region]
            usual = world.demand.get(region, {}).get(route.id, 0.0)
            demand = held[region].inflight if region in held else 0.0 if held else usual
            assert sum(tier.share_permille for tier in decided.tiers) + decided.shed_permille == 1000
            members = {target.id for tier in decided.tiers for target in tier.targets}
            out = kept_out(world, route.id)
            assert not members & out, "somebody is used against an order"
            may = {name for tier in route.tiers for name in tier.targets} - out
            used = world.weights(region, route.id)
            if may:
                assert used or decided.shed_permille == 999, "traffic goes to nobody"
            for target, permille in used.items():
                load[target] = load.get(target, 0.0) + demand * permille / 1000
            if decided.shed_permille > 5 and demand:
                shed.append((route.id, region, members))
    capacity = {target.id: target.capacity_inflight for target in world.config.fleet.targets}
    for route_id, region, members in shed:
        for target in members:
            assert load.get(target, 0.0) >= 0.98 * capacity[target] - 3, (
                f"{route_id} is turned away in {region} while {target} has room"
            )


def kept_out(world: World, route: str) -> set[str]:
    out: set[str] = set()
    for override in world.orders.overrides:
        spec = override.spec
        if spec.kind == "drain" and spec.route in (None, route):
            out |= {name for name, region in TARGETS.items() if name == spec.target or region == spec.region}
    for rollout in world.orders.rollouts:
        if rollout.spec.route == route and not rollout.permille:
            out |= set(rollout.spec.targets)
    return out


@settings(max_examples=80, deadline=None)
@given(st.data(), fleets(), st.lists(steps(), max_size=20), fleets(version=2))
def test_under_load_and_orders_every_table_is_sound(
    data: st.DataObject, config: FleetConfig, history: list[Step], other: FleetConfig
) -> None:
    """Sums hold; orders bind, in a panic too; nobody empty; nothing planned beyond capacity (`inspect`);
    nobody turned away while somebody has room; versions rise by one; the same input gives the same, and
    nothing twice."""
    world = World(config=config)
    world.orders = under([], data.draw(rollouts(config)))
    for number, step in enumerate([*history, lambda world: None]):
        step(world)
        if number == len(history) // 2 + 1:
            world.config, world.orders = other, under([])
        before = world.head.seq if world.head else 0
        world.clock_s += 0.25
        world.report()
        world.look()
        proposal = world.propose()
        assert world.propose() == proposal, "the same input gave another decision"
        world.decide()
        assert world.head is not None
        assert world.head.seq == before + (proposal is not None)
        check(world)
        assert world.propose() is None, "constant input gave another decision"


@settings(max_examples=15, deadline=None)
@given(fleets(), st.lists(steps(), max_size=12))
def test_constant_input_settles_under_load(config: FleetConfig, history: list[Step]) -> None:
    """When nothing changes any more, decisions end: ramps, soft moves and demand run out."""
    world = World(config=config)
    for step in history:
        step(world)
        world.tick(after_s=0.5)
    for _ in range(120):
        world.tick(after_s=2.0)
    assert [world.tick(after_s=2.0) for _ in range(10)] == [None] * 10


@settings(max_examples=25, deadline=None)
@given(
    fleets(), st.lists(st.sampled_from(NAMES), min_size=1, max_size=8), st.sampled_from([20.0, 90.0, 400.0])
)
def test_a_panic_never_uses_the_dead(config: FleetConfig, dead: list[str], inflight: float) -> None:
    """Whoever a quorum saw refuse connections carries nothing in a panic, while anybody else is there."""
    world = World(config=config)
    world.demand = {region: {"chat": inflight, "other": inflight} for region in REGIONS}
    world.tick()
    soft = [name for name in NAMES if name not in dead][::2]
    world.everywhere_down(*soft, hard=False)
    world.everywhere_down(*dead, hard=True)
    for _ in range(8):
        world.tick(after_s=3.0)
        for route in world.config.fleet.routes:
            members = {name for tier in route.tiers for name in tier.targets}
            if not members <= {*soft, *dead}:
                for region in REGIONS:
                    assert not world.weights(region, route.id).keys() & set(dead)
    assert world.view is not None
    assert any(health.verdict is Verdict.DOWN for health in world.view.targets)
