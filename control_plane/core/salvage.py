"""Salvage: what of a proposal may be committed when `inspect` refuses some of its routes.

A mistake about one route must not keep the others from failing over. The refused routes stay as they
are in force, with what was remembered of them; the rest is held against `inspect` anew.
"""

from collections.abc import Mapping, Set
from dataclasses import dataclass

from control_plane.core.decide import Proposal
from control_plane.core.inspect import refusals, refused_routes
from control_plane.core.memory import Memory
from control_plane.core.orders import NO_ORDERS, Orders
from shared.vocabulary.config import FleetConfig
from shared.vocabulary.decision import Decision, Head
from shared.vocabulary.view import HealthView


@dataclass(frozen=True, slots=True)
class Examined:
    """What `inspect` came to."""

    faults: tuple[str, ...] = ()
    """Of the whole proposal; empty when all of it may be committed."""
    kept: frozenset[str] | None = frozenset()
    """Routes that must stay as they are so that the rest may be committed; None: none of it may be."""


def examined(
    proposal: Proposal,
    config: FleetConfig,
    view: HealthView,
    *,
    head: Head | None,
    documents: Mapping[str, Decision],
    memory: Memory,
    orders: Orders = NO_ORDERS,
) -> Examined:
    """`head`, `documents` and `memory` are in force. Of another configuration or generation nothing can
    be kept: then a fault refuses the whole proposal, as one of the head itself always does."""
    faults = tuple(refusals(proposal, config, view, documents=documents, orders=orders))
    if not faults:
        return Examined()
    found = refused_routes(proposal, config, view, orders=orders)
    kept = found & proposal.documents.keys()
    if (
        head is None
        or (head.generation, head.config_version) != (proposal.head.generation, proposal.head.config_version)
        or not kept <= head.routes.keys()
        or not proposal.documents.keys() - kept
    ):
        return Examined(faults, None)
    rest = keeping(proposal, kept, head, memory)
    if refusals(rest, config, view, documents=documents, orders=orders):
        return Examined(faults, None)
    return Examined(faults, frozenset(kept))


def keeping(proposal: Proposal, routes: Set[str], head: Head, memory: Memory) -> Proposal:
    """`proposal` without its documents of `routes`, which stay as `head` and `memory` have them."""
    if not routes:
        return proposal
    remembered = {route: each for route, each in proposal.memory.routes.items() if route not in routes}
    remembered |= {route: memory.routes[route] for route in routes if route in memory.routes}
    refs = {**proposal.head.routes, **{route: head.routes[route] for route in routes}}
    return Proposal(
        head=proposal.head.model_copy(update={"routes": refs}),
        documents={route: each for route, each in proposal.documents.items() if route not in routes},
        memory=proposal.memory.model_copy(update={"routes": remembered}),
    )
