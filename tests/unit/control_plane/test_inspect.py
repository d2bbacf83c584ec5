"""The last check refuses whatever would harm, and passes what `decide` makes."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from brain_worlds import REGIONS, START, World, fleet_config

from control_plane.core.decide import Proposal
from control_plane.core.inspect import refusals
from control_plane.core.memory import RouteMemory
from control_plane.core.orders import orders_of
from shared.vocabulary.base import sha256_hex
from shared.vocabulary.decision import DecidedTier, Decision, Exclusion, RegionDecision, WeightedTarget
from shared.vocabulary.override import Override, OverrideSpec

CONFIG = fleet_config(residency=("us-east", "eu-west"))
A, B = "alpha-us-east", "alpha-eu-west"


def tier(share: object, **weights: object) -> DecidedTier:
    """A tier without any check of its own; underscores in names stand for dashes."""
    targets = tuple(
        WeightedTarget.model_construct(id=name.replace("_", "-"), weight_permille=weight)
        for name, weight in weights.items()
    )
    return DecidedTier.model_construct(share_permille=share, targets=targets)


def entry(*tiers: DecidedTier, shed: int = 0) -> RegionDecision:
    return RegionDecision.model_construct(tiers=tiers, shed_permille=shed)


GOOD = (tier(1000, alpha_us_east=1000), tier(0, beta_us_east=1000))


def proposal_with(change: Callable[[Decision], Decision], *, dead: str = "") -> list[str]:
    """The refusals of a sound proposal after `change` to its one document."""
    world = World(config=CONFIG)
    if dead:
        world.everywhere_down(dead)
    world.report()
    view = world.look()
    proposal = world.propose()
    assert proposal is not None
    assert refusals(proposal, CONFIG, view) == []
    document = change(proposal.documents["chat"])
    routes = {"chat": (document.seq, sha256_hex(document.canonical()))}
    head = proposal.head.model_copy(update={"routes": routes})
    return refusals(replace(proposal, head=head, documents={"chat": document}), CONFIG, view)


def with_entry(decided: RegionDecision) -> Callable[[Decision], Decision]:
    return lambda document: document.model_copy(update={"regions": {**document.regions, "us-east": decided}})


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
@pytest.mark.parametrize(
    ("decided", "says"),
    [
        (entry(GOOD[0]), "1 tiers, configured are 2"),
        (entry(tier(900, alpha_us_east=1000), GOOD[1]), "shares and shed_permille sum to 900"),
        (entry(tier(1000, alpha_us_east=999), GOOD[1]), "weights sum to 999"),
        (entry(tier(1000, alpha_us_east=-1, alpha_eu_west=1001), GOOD[1]), "not a whole permille"),
        (entry(tier(1000, alpha_us_east=1000.0), GOOD[1]), "not a whole permille"),
        (entry(tier(1000, alpha_us_east=True), GOOD[1]), "not a whole permille"),
        (entry(tier(1000, alpha_us_east=float("nan")), GOOD[1]), "not a whole permille"),
        (entry(tier(True, alpha_us_east=1000), GOOD[1]), "a share is not a whole permille"),
        (entry(tier(1000), GOOD[1]), "has a share and no target"),
        (entry(tier(1000, stranger=1000), GOOD[1]), "names ['stranger']"),
        (entry(tier(1000, beta_us_east=1000), GOOD[1]), "which do not stand in it"),
        (entry(tier(1000, alpha_ap_south=1000), GOOD[1]), "which policy or an operator excludes"),
        (entry(tier(0), tier(0), shed=1000), "sends traffic nowhere"),
        (entry(tier(0, alpha_us_east=1000), GOOD[1], shed=1000), "sends traffic nowhere"),
    ],
)
def test_what_is_malformed_is_refused(decided: RegionDecision, says: str) -> None:
    """Each absolute rule, broken once."""
    found = proposal_with(with_entry(decided))
    assert any(says in each for each in found), found


def test_all_traffic_to_the_dead_is_refused_while_one_answers() -> None:
    """Everything on a target that a quorum saw refuse connections, with healthy ones beside it."""
    found = proposal_with(with_entry(entry(*GOOD)), dead=A)
    assert found == [f"route chat: us-east: uses only dead targets, although {B} answers"]


def test_an_operators_exclusion_binds() -> None:
    """A target that a person excluded may not appear in any tier."""
    ban = Exclusion(target=A, by="operator", reason="drain")
    found = proposal_with(
        lambda document: document.model_copy(update={"excluded": (*document.excluded, ban)})
    )
    assert any("an operator excludes" in each for each in found)


@pytest.mark.parametrize(
    ("update", "says"),
    [
        ({"regions": {}}, "is for regions []"),
        ({"route": "other"}, "is a document of other"),
        ({"seq": 9}, "has version 1.9"),
        ({"config_version": 9}, "is for configuration 9"),
        ({"reasons": ()}, "gives no reason"),
        ({"removed": True}, "removed, but configured"),
    ],
)
def test_a_document_must_belong_to_its_head(update: dict[str, object], says: str) -> None:
    """Version, route, configuration and reason are held against the head and the fleet."""
    found = proposal_with(lambda document: document.model_copy(update=update))
    assert any(says in each for each in found), found


def test_the_head_must_name_what_is_proposed() -> None:
    """Missing and unknown routes, a foreign hash, a new seq without a document, another configuration."""
    world = World(config=CONFIG)
    world.report()
    view = world.look()
    sound = world.propose()
    assert sound is not None

    def found(documents: dict[str, Decision], **update: object) -> str:
        bad = Proposal(sound.head.model_copy(update=update), documents, sound.memory)
        return " ".join(refusals(bad, CONFIG, view))

    documents = dict(sound.documents)
    assert "lacks routes ['chat']" in found(documents, routes={})
    assert "unknown routes ['ghost']" in found(
        documents, routes={**sound.head.routes, "ghost": (1, "0" * 64)}
    )
    assert "another document" in found(documents, routes={"chat": (1, "0" * 64)})
    assert "without a document" in found({})
    assert "names configuration 9" in found(documents, config_version=9)


# ------------------------------------------------------------ orders, load, panic


def loaded(inflight: float, **orders: object) -> tuple[World, Proposal]:
    """A sound proposal for so much demand in us-east, with 100 places at every target."""
    config = fleet_config(
        capacity={f"{kind}-{region}": 100 for kind in ("alpha", "beta") for region in REGIONS}
    )
    world = World(config=config, demand={"us-east": {"chat": inflight}})
    if orders:
        override = Override(
            id="o-1",
            spec=OverrideSpec.model_validate(orders),
            reason="because",
            author="ann",
            created_at=START,
            expires_at=START + timedelta(hours=1),
        )
        world.orders = orders_of([override], (), START)
    world.report()
    world.look()
    proposal = world.propose()
    assert proposal is not None
    return world, proposal


def found_in(world: World, proposal: Proposal) -> list[str]:
    assert world.view is not None
    return refusals(proposal, world.config, world.view, documents=world.documents, orders=world.orders)


def with_us_east(proposal: Proposal, decided: RegionDecision) -> Proposal:
    """The proposal with another entry for us-east, and a head that names it."""
    document = with_entry(decided)(proposal.documents["chat"])
    head = proposal.head.model_copy(update={"routes": {"chat": (1, sha256_hex(document.canonical()))}})
    return replace(proposal, head=head, documents={"chat": document})


def test_more_than_a_target_can_carry_is_refused() -> None:
    """150 requests at once for 100 places, whatever made the plan; what is declared as shed does not count."""
    world, sound = loaded(150)
    assert found_in(world, sound) == []
    crowded = with_us_east(sound, entry(*GOOD))
    assert found_in(world, crowded) == [
        "target alpha-us-east: 150.0 requests planned at once, it has room for 100.0 of 100"
    ]
    declared = entry(tier(667, alpha_us_east=1000), GOOD[1], shed=333)
    assert found_in(world, with_us_east(sound, declared)) == []


def test_what_other_routes_plan_counts_too() -> None:
    """A document in force that is not proposed anew still sends its traffic."""
    world, sound = loaded(90)
    other = sound.documents["chat"].model_copy(update={"route": "other"})
    world.documents = {"other": other}
    assert world.view is not None
    load = world.view.loads[0]
    world.view = world.view.model_copy(
        update={"loads": (load, load.model_copy(update={"route": "other", "inflight": 30.0}))}
    )
    assert found_in(world, sound) == []
    head = sound.head.model_copy(update={"routes": {**sound.head.routes, "other": (1, "0" * 64)}})
    assert any("120.0 requests planned" in each for each in found_in(world, replace(sound, head=head)))


def test_weights_by_hand_are_declared() -> None:
    """A person may order more than fits; nobody else may add to it."""
    world, sound = loaded(150, kind="weights", route="chat", weights={A: 1}, clients="us-east")
    assert found_in(world, sound) == []
    assert found_in(without_orders(world), sound) != []


def without_orders(world: World) -> World:
    world.orders = orders_of((), (), START)
    return world


def test_a_drain_binds_even_when_the_document_forgets_it() -> None:
    """The order itself is read, not what the document says of it."""
    world, sound = loaded(10)
    assert found_in(world, sound) == []
    drained, _ = loaded(10, kind="drain", target=A)
    found = found_in(drained, sound)
    assert any("uses ['alpha-us-east'], which policy or an operator excludes" in each for each in found)


def test_a_panic_is_no_reason_to_use_the_dead() -> None:
    """Beside others, a target that a quorum saw refuse connections is refused in a panic."""
    world, sound = loaded(10)
    world.everywhere_down(B)
    world.report()
    world.look()
    mixed = with_us_east(sound, entry(tier(1000, alpha_us_east=500, alpha_eu_west=500), GOOD[1]))
    panic = mixed.memory.model_copy(update={"routes": {"chat": RouteMemory(panic=True)}})
    found = found_in(world, replace(mixed, memory=panic))
    assert any("in a panic, which are known to be dead" in each for each in found)


def test_a_freeze_may_keep_the_dead() -> None:
    """Where a person suspended removals, everything may stay on a dead target beside living ones."""
    world, sound = loaded(10, kind="freeze", route="chat")
    world.everywhere_down(A)
    world.report()
    world.look()
    assert found_in(world, sound) == []
    assert any("uses only dead targets" in each for each in found_in(without_orders(world), sound))
