"""The last check refuses whatever would harm, and passes what `decide` makes."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from brain_worlds import World, fleet_config

from control_plane.core.decide import Proposal
from control_plane.core.inspect import refusals
from shared.vocabulary.base import sha256_hex
from shared.vocabulary.decision import DecidedTier, Decision, Exclusion, RegionDecision, WeightedTarget

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
