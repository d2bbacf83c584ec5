"""Onward: deciding step upon step, with every commit taken for done.

The leader decides, commits, and decides again on what it committed. `onward` is the same step without
etcd: for asking what would come of a change (`foresee`), and of another policy (`rehearse`). It calls
what the leader calls, `decide` and `salvage`, and nothing else decides.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from control_plane.core.decide import Proposal, decide
from control_plane.core.memory import Memory
from control_plane.core.orders import NO_ORDERS, Orders
from control_plane.core.salvage import examined, keeping
from shared.vocabulary.base import sha256_hex
from shared.vocabulary.config import FleetConfig
from shared.vocabulary.decision import Decision, Head, Term
from shared.vocabulary.view import HealthView

NOBODY = Term(holder="rehearsal", epoch=0)
"""Whose term the documents of a course that nobody commits are from."""


@dataclass(frozen=True, slots=True)
class Course:
    """Where a course stands: what a leader's ledger would hold."""

    head: Head | None = None
    documents: Mapping[str, Decision] = field(default_factory=dict)
    """By route, exactly those of `head.routes`."""
    memory: Memory = field(default_factory=Memory)
    generation: int = 1


@dataclass(frozen=True, slots=True)
class Step:
    """What one pass came to."""

    course: Course
    """After it; as before when nothing changed, and when the whole proposal was refused."""
    changed: Mapping[str, Decision] = field(default_factory=dict)
    """Routes whose documents this pass would write; of one refused as a whole, would have written."""
    refusals: tuple[str, ...] = ()
    """Why `inspect` would not let all of it be committed."""
    kept: frozenset[str] | None = frozenset()
    """Routes refused, that stay as they are so that the rest may be committed; None: nothing may be."""


def onward(
    course: Course, config: FleetConfig, view: HealthView, *, orders: Orders = NO_ORDERS, now: datetime
) -> Step:
    """One pass of the leader at `now`, its commit taken for done."""
    proposal = decide(
        config,
        view,
        course.head,
        course.documents,
        course.memory,
        orders=orders,
        generation=course.generation,
        term=NOBODY,
        now=now,
        traceparent=None,
    )
    if proposal is None:
        return Step(course)
    return taken(course, proposal, config, view, orders=orders)


def taken(
    course: Course, proposal: Proposal, config: FleetConfig, view: HealthView, *, orders: Orders = NO_ORDERS
) -> Step:
    """What of `proposal` the leader would commit."""
    found = examined(
        proposal,
        config,
        view,
        head=course.head,
        documents=course.documents,
        memory=course.memory,
        orders=orders,
    )
    if found.kept is None:
        return Step(course, proposal.documents, found.faults, None)
    if found.kept:
        assert course.head is not None, "nothing is kept of nothing"
        proposal = keeping(proposal, found.kept, course.head, course.memory)
    return Step(_committed(course, proposal), proposal.documents, found.faults, found.kept)


def resumed(documents: Mapping[str, Decision], config: FleetConfig) -> Course:
    """A course that begins with `documents` in force, as if they had been decided under `config`: so
    its first step says what `config` changes in substance, and not that its number is another one.

    What the leader remembered beside them is not known: a hold-down or ramp under way begins anew.
    """
    taken = {
        route: document.model_copy(update={"config_version": config.config_version})
        for route, document in documents.items()
        if not document.removed
    }
    if not taken:
        return Course()
    version = max(document.version for document in taken.values())
    head = Head(
        generation=version.generation,
        seq=version.seq,
        config_version=config.config_version,
        routes={route: (document.seq, sha256_hex(document.canonical())) for route, document in taken.items()},
    )
    return Course(head=head, documents=taken, generation=version.generation)


def _committed(course: Course, proposal: Proposal) -> Course:
    documents = {**course.documents, **proposal.documents}
    return replace(
        course,
        head=proposal.head,
        documents={route: documents[route] for route in proposal.head.routes},
        memory=proposal.memory,
    )
