"""How a table gets from the parent of an edge to its workers: as what it is built from, and only what is new of it.

why not the    Building is pure, so parent and worker come to the same table, and nothing that a table may hold
table itself   has to be made fit for travelling. The parent builds it too, for the rules that a table must keep are
               checked there; what is refused never gets here.
in pieces      A worker builds in a thread. Reading one long JSON text holds the interpreter's lock for as long as it
               takes (70 ms for 10,000 targets), so the lists of a fleet travel in pieces of `PIECE` entries, and
               between two of them the loop gets its turn.
what is new    is told by identity: a follower keeps configurations and documents as they were read, and what is the
               same object is the same content.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic import TypeAdapter

from edge_router.core.frames import Hand
from edge_router.core.table import RouteTable, build_table
from shared.vocabulary.base import Version
from shared.vocabulary.config import Fleet, FleetConfig
from shared.vocabulary.decision import Decision
from shared.vocabulary.terms import EdgeMode

PIECE: Final = 200
"""Entries of a list that are read at once: some 2 ms."""

Build = Callable[[FleetConfig, Mapping[str, Decision], Version], RouteTable]


@dataclass(frozen=True, slots=True)
class Plan:
    """What a table is built from, proven to make a safe one."""

    config: FleetConfig
    documents: Mapping[str, Decision]
    head: Version
    routes: frozenset[str]
    """Served by that table."""
    targets: frozenset[str]


def plan_of(config: FleetConfig, documents: Mapping[str, Decision], head: Version, *, region: str) -> Plan:
    """As `build_table`, for an edge with workers. Raises Unsafe."""
    table = build_table(config, documents, head, region=region)
    return Plan(config, dict(documents), head, frozenset(table.routes), frozenset(table.targets))


class Handover:
    """The parent's side of one worker. Mutable: it knows what that worker has."""

    __slots__ = ("_config", "_documents", "number")

    def __init__(self) -> None:
        self._config: FleetConfig | None = None
        self._documents: Mapping[str, Decision] = {}
        self.number = 0
        """Of the last hand."""

    def hand(self, plan: Plan, applied_in: str | None) -> Hand:
        """What that worker needs to serve by `plan`."""
        self.number += 1
        config: bytes | None = None
        lists: dict[str, list[bytes]] = {}
        if plan.config is not self._config:
            config, lists = _in_pieces(plan.config)
        before = self._documents
        hand = Hand(
            number=self.number,
            head=(plan.head.generation, plan.head.seq),
            config=config,
            lists=lists,
            documents={
                route: document.model_dump_json().encode()
                for route, document in plan.documents.items()
                if before.get(route) is not document
            },
            gone=[route for route in before if route not in plan.documents],
            applied_in=applied_in,
        )
        self._config, self._documents = plan.config, plan.documents
        return hand


class Holding:
    """A worker's side. Mutable; `take` may run in a thread, one at a time."""

    __slots__ = ("_build", "_documents", "config")

    def __init__(self, build: Build) -> None:
        self._build = build
        self._documents: dict[str, Decision] = {}
        self.config: FleetConfig | None = None

    def take(self, hand: Hand) -> RouteTable:
        """The table to serve by from now on. Raises Unsafe, ValueError: never for what a parent has built."""
        if hand.config is not None:
            self.config = _whole(hand)
        if self.config is None:
            raise ValueError("the first hand has no configuration")
        for route in hand.gone:
            del self._documents[route]
        for route, raw in hand.documents.items():
            self._documents[route] = Decision.model_validate_json(raw)
        return self._build(self.config, self._documents, Version(*hand.head))


def mode_after(told: EdgeMode, silent_s: float, *, fresh_s: float, static_s: float) -> EdgeMode:
    """The mode of a worker whose parent said `told`, and has said nothing since `silent_s`: no news reaches it, so
    it ages as the edge would."""
    if silent_s > static_s:
        return EdgeMode.STATIC
    return EdgeMode.STALE if told is EdgeMode.FRESH and silent_s > fresh_s else told


_LISTS: Final = tuple(
    name for name, field in Fleet.model_fields.items() if str(field.annotation).startswith("tuple[")
)
"""Fields of a fleet that grow with it."""
_ADAPTERS: Final[Mapping[str, TypeAdapter[Any]]] = {
    name: TypeAdapter(field.annotation) for name, field in Fleet.model_fields.items() if field.annotation
}
"""Of each field, without the bounds on its length, which hold for the whole."""


def _in_pieces(config: FleetConfig) -> tuple[bytes, dict[str, list[bytes]]]:
    fleet = config.fleet
    rest = fleet.model_dump(mode="json", exclude=set(_LISTS))
    lists = {
        name: [_ADAPTERS[name].dump_json(entries[at : at + PIECE]) for at in range(0, len(entries), PIECE)]
        for name in _LISTS
        if (entries := getattr(fleet, name))
    }
    return json.dumps({"config_version": config.config_version, "fleet": rest}).encode(), lists


def _whole(hand: Hand) -> FleetConfig:
    """The configuration that the parent has checked, put together again without checking it as a whole."""
    assert hand.config is not None
    shell = json.loads(hand.config)
    fields: dict[str, Any] = {
        name: _ADAPTERS[name].validate_python(value) for name, value in shell["fleet"].items()
    }
    for name, pieces in hand.lists.items():
        adapter = _ADAPTERS[name]
        fields[name] = tuple(entry for piece in pieces for entry in adapter.validate_json(piece))
    fleet = Fleet.model_construct(**fields)
    return FleetConfig.model_construct(config_version=shell["config_version"], fleet=fleet)
