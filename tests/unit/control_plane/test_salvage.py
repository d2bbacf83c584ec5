"""A proposal refused for one route is committed for the others."""

from dataclasses import replace

from brain_worlds import World, fleet_config

from control_plane.core.decide import Proposal
from control_plane.core.salvage import Examined, examined, keeping
from shared.vocabulary.base import sha256_hex

A, B = "alpha-us-east", "beta-us-east"
OTHER = {"id": "other", "match": {"models": ["o"]}, "tiers": [{"targets": [A]}, {"targets": [B]}]}


def mistaken(*names: str) -> tuple[World, Proposal]:
    """Both routes leave a dead target; the documents of `names` forget a tier."""
    world = World(config=fleet_config(more_routes=[OTHER]))
    world.tick()
    world.everywhere_down(A)
    world.clock_s += 1
    world.report()
    world.look()
    proposal = world.propose()
    assert proposal is not None
    documents, refs = dict(proposal.documents), dict(proposal.head.routes)
    for name in names:
        regions = {
            region: each.model_copy(update={"tiers": each.tiers[1:]})
            for region, each in documents[name].regions.items()
        }
        documents[name] = documents[name].model_copy(update={"regions": regions})
        refs[name] = (documents[name].seq, sha256_hex(documents[name].canonical()))
    head = proposal.head.model_copy(update={"routes": refs})
    return world, replace(proposal, head=head, documents=documents)


def found_in(world: World, proposal: Proposal) -> Examined:
    assert world.view is not None
    return examined(
        proposal, world.config, world.view, head=world.head, documents=world.documents, memory=world.memory
    )


def test_the_other_routes_fail_over() -> None:
    """The refused one stays as it is in force, in head and memory, and is named."""
    world, proposal = mistaken("chat")
    found = found_in(world, proposal)
    assert found.kept == {"chat"}
    assert all(fault.startswith("route chat: ") for fault in found.faults)
    assert world.head is not None
    rest = keeping(proposal, found.kept, world.head, world.memory)
    assert rest.head.routes["chat"] == world.head.routes["chat"]
    assert rest.documents.keys() == {"other"}
    assert found_in(world, rest) == Examined()
    world.commit(rest)
    assert world.weights("us-east", "other") == {B: 1000}
    world.tick()
    assert A not in world.weights("us-east")


def test_nothing_is_committed_when_nothing_is_sound_or_the_head_is_wrong() -> None:
    """All routes refused; or a head that names a document nobody proposed."""
    assert found_in(*mistaken("chat", "other")).kept is None
    world, proposal = mistaken()
    assert found_in(world, proposal) == Examined()
    refs = {**proposal.head.routes, "chat": (proposal.head.seq, "0" * 64)}
    assert (
        found_in(world, replace(proposal, head=proposal.head.model_copy(update={"routes": refs}))).kept
        is None
    )


def test_of_another_generation_nothing_is_kept() -> None:
    """Its head would name documents that belong to a history that was lost."""
    world, _ = mistaken()
    world.generation = 2
    proposal = world.propose()
    assert proposal is not None
    broken = proposal.documents["chat"].model_copy(update={"reasons": ()})
    refs = {**proposal.head.routes, "chat": (broken.seq, sha256_hex(broken.canonical()))}
    bad = replace(
        proposal,
        head=proposal.head.model_copy(update={"routes": refs}),
        documents={**proposal.documents, "chat": broken},
    )
    assert found_in(world, bad).kept is None
