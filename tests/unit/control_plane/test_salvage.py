"""A proposal refused for one route is committed for the others."""

from dataclasses import replace
from datetime import timedelta

from brain_worlds import World, fleet_config

from control_plane.core.decide import Proposal
from control_plane.core.onward import Course, onward, taken
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


def test_a_pass_that_is_foreseen_is_salvaged_as_the_leaders_is() -> None:
    """What nobody commits takes the same course: the sound routes fail over, the refused one stays, and is
    said; refused as a whole, nothing moves."""
    world, proposal = mistaken("chat")
    assert world.head is not None
    assert world.view is not None
    course = Course(head=world.head, documents=world.documents, memory=world.memory)
    step = taken(course, proposal, world.config, world.view)
    assert step.kept == frozenset({"chat"})
    assert step.changed.keys() == {"other"}
    assert all(said.startswith("route chat: ") for said in step.refusals)
    assert step.course.head is not None
    assert step.course.head.routes["chat"] == world.head.routes["chat"]
    assert step.course.documents["chat"] is world.documents["chat"]
    assert step.course.documents["other"] is proposal.documents["other"]
    _, whole = mistaken("chat", "other")
    refused = taken(course, whole, world.config, world.view)
    assert (refused.kept, refused.course, refused.changed) == (None, course, whole.documents)


def test_the_look_ahead_goes_on_from_what_was_salvaged() -> None:
    """The pass after a partly refused one is made on what was committed of it."""
    world, proposal = mistaken("chat")
    assert world.view is not None
    course = Course(head=world.head, documents=world.documents, memory=world.memory)
    step = taken(course, proposal, world.config, world.view)
    # The mistake was this proposal's own: the next one is sound, and only `chat` is still to move.
    after = onward(step.course, world.config, world.view, now=world.now + timedelta(seconds=1))
    assert not after.refusals
    assert after.changed.keys() == {"chat"}
