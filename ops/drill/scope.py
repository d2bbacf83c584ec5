"""Whom a drill concerns: from what its file says to the processes, targets and edges that it means.

Pure. `resolve` says who is struck and who must notice nothing; `places` where each fault goes.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from ops.drill.ports import Place
from ops.errors import Usage
from shared.vocabulary.config import Fleet, Route, Target
from shared.vocabulary.drill import MAX_INJECTIONS, DrillFault, DrillSpec
from shared.vocabulary.terms import Dialect

TARGETS = "targets"
LOSES_ALL = frozenset({"kill", "refuse", "drain"})
"""Faults after which a target serves nobody: decisions leave it altogether. After others they may leave
it less."""


@dataclass(frozen=True, slots=True)
class Edge:
    """An edge and where it is reached."""

    id: str
    region: str
    url: str
    admin_url: str | None


@dataclass(frozen=True, slots=True)
class Part:
    """A process of a local stack."""

    id: str
    kind: str
    region: str


@dataclass(frozen=True, slots=True)
class Terrain:
    """What there is."""

    fleet: Fleet
    edges: tuple[Edge, ...]
    parts: tuple[Part, ...] = ()
    """Of a local stack; empty elsewhere."""
    panels: Mapping[str, str] = field(default_factory=dict)
    """Target id -> URL of its simulator's panel."""
    keeper: str | None = None

    @property
    def regions(self) -> tuple[str, ...]:
        """In the fleet's order."""
        return tuple(region.id for region in self.fleet.regions)


@dataclass(frozen=True, slots=True)
class Scope:
    """Whom it concerns."""

    regions: frozenset[str]
    """That some fault is in."""
    targets: frozenset[str]
    """That some fault is at."""
    leaves_all: bool
    """Whether decisions are to leave these altogether, or may leave them in part."""
    dead: frozenset[str]
    """Processes that a fault takes away."""
    observers: frozenset[str]
    """Regions whose probers see wrongly."""
    edges: tuple[str, ...]
    """All of them,"""
    living: tuple[str, ...]
    """those that no fault takes away,"""
    asked: tuple[str, ...]
    """and those that the load goes through."""


def resolve(spec: DrillSpec, terrain: Terrain) -> Scope:
    """Who is struck. Raises Usage for a drill that makes no sense on this terrain."""
    _require_sense(spec, terrain)
    dead: set[str] = set()
    targets: set[str] = set()
    regions: set[str] = set()
    observers: set[str] = set()
    for fault in spec.faults:
        if fault.by == "stack":
            parts = _parts(fault, spec, terrain)
            dead |= {part.id for part in parts}
            targets |= {part.id for part in parts if part.kind == TARGETS}
            regions |= {part.region for part in parts}
        elif fault.fault == "partition":
            observers |= set(_regions(fault, spec, terrain))
        else:
            struck = _targets(fault, spec, terrain)
            targets |= {target.id for target in struck}
            regions |= {target.region for target in struck}
    living = [edge for edge in terrain.edges if edge.id not in dead]
    whole = [edge for edge in living if edge.region not in regions]
    asked = whole if spec.load.through == "survivors" else living
    if not asked and spec.load.source == "drill":
        raise Usage(
            "the load has no edge to go through: no region is left that no fault is in; "
            "choose fewer regions, or `load.through: all`"
        )
    return Scope(
        regions=frozenset(regions),
        targets=frozenset(targets),
        leaves_all=all(fault.fault in LOSES_ALL for fault in spec.faults if _at_targets(fault)),
        dead=frozenset(dead),
        observers=frozenset(observers),
        edges=tuple(edge.id for edge in terrain.edges),
        living=tuple(edge.id for edge in living),
        asked=tuple(edge.id for edge in asked),
    )


def places(spec: DrillSpec, terrain: Terrain, *, drill: str) -> list[tuple[DrillFault, Place]]:
    """Where each fault goes, for the drill of this id. Raises Usage where it has nowhere to go."""
    found: list[tuple[DrillFault, Place]] = []
    for fault in spec.faults:
        for place in _places(fault, spec, terrain):
            name = _name(drill, len(found))
            found.append((fault, _named(place, name)))
    if len(found) >= MAX_INJECTIONS:
        raise Usage(f"this drill would put {len(found)} faults in place; {MAX_INJECTIONS - 1} are the most")
    return found


def route_of(spec: DrillSpec, fleet: Fleet) -> Route:
    """The route that the load takes. Raises Usage."""
    for route in fleet.routes:
        if spec.load.model in route.match.models:
            return route
    models = ", ".join(model for route in fleet.routes for model in route.match.models)
    raise Usage(f"load.model: no route takes {spec.load.model!r}; there is {models or 'no model'}")


def where_it_strikes(spec: DrillSpec, terrain: Terrain) -> DrillSpec:
    """With the region filled in: the second of the fleet's where nothing says another."""
    if spec.region is not None:
        return spec
    return spec.model_copy(update={"region": terrain.regions[min(1, len(terrain.regions) - 1)]})


def _require_sense(spec: DrillSpec, terrain: Terrain) -> None:
    known = set(terrain.regions)
    named = {region for fault in spec.faults for region in fault.regions if region != "*"}
    if spec.region is not None:
        named.add(spec.region)
    if unknown := sorted(named - known):
        raise Usage(f"no region {', '.join(unknown)}; the fleet has {', '.join(terrain.regions)}")
    if any(fault.by == "stack" for fault in spec.faults) and not terrain.parts:
        raise Usage("`by: stack` kills processes of a local stack, and there is none: leave --url out")
    if any(fault.by == "panel" for fault in spec.faults) and not terrain.panels:
        raise Usage("`by: panel` needs simulated targets, and these are real: `by: edge` does it there")
    if spec.load.source == "drill":
        route = route_of(spec, terrain.fleet)
        members = {target for tier in route.tiers for target in tier.targets}
        dialects = {terrain.fleet.targets_by_id[target].dialect for target in members}
        if Dialect.HTTP in dialects:
            raise Usage("a drill's own load asks for models: use `load.source: traffic` here")


def _at_targets(fault: DrillFault) -> bool:
    """Whether it is targets that suffer."""
    if fault.by == "stack":
        return not fault.processes or TARGETS in fault.processes
    return fault.fault != "partition"


def _regions(fault: DrillFault, spec: DrillSpec, terrain: Terrain) -> tuple[str, ...]:
    if "*" in fault.regions:
        return terrain.regions
    return fault.regions or ((spec.region,) if spec.region is not None else terrain.regions)


def _matches(fault: DrillFault, target: Target) -> bool:
    return (not fault.providers or target.provider in fault.providers) and (
        not fault.targets or any(fnmatchcase(target.id, pattern) for pattern in fault.targets)
    )


def _targets(fault: DrillFault, spec: DrillSpec, terrain: Terrain) -> list[Target]:
    regions = _regions(fault, spec, terrain)
    found = [t for t in terrain.fleet.targets if t.region in regions and _matches(fault, t)]
    if not found:
        raise Usage(f"{fault.fault} by {fault.by}: no target is there to suffer it")
    return found


def _parts(fault: DrillFault, spec: DrillSpec, terrain: Terrain) -> list[Part]:
    regions = _regions(fault, spec, terrain)
    narrowed = bool(fault.providers or fault.targets)
    known = terrain.fleet.targets_by_id

    def suffers(part: Part) -> bool:
        if part.region not in regions or (fault.processes and part.kind not in fault.processes):
            return False
        if part.kind == TARGETS and part.id in known:
            return _matches(fault, known[part.id])
        return not narrowed

    found = [part for part in terrain.parts if suffers(part)]
    if not found:
        raise Usage(f"{fault.fault} by stack: no process is there to suffer it")
    return found


def _places(fault: DrillFault, spec: DrillSpec, terrain: Terrain) -> list[Place]:
    match fault.by:
        case "stack":
            parts = _parts(fault, spec, terrain)
            ids = tuple(part.id for part in parts)
            return [Place("", _words(ids), url=terrain.keeper or "", processes=ids)]
        case "panel" if fault.fault == "partition":
            struck = [target for target in terrain.fleet.targets if _matches(fault, target)]
            return [
                Place(
                    "",
                    f"{target.id}, for probers of {region}",
                    url=_panel(target.id, terrain),
                    targets=(target.id,),
                    observer=region,
                )
                for region in _regions(fault, spec, terrain)
                for target in struck
            ]
        case "panel":
            return [
                Place("", target.id, url=_panel(target.id, terrain), targets=(target.id,))
                for target in _targets(fault, spec, terrain)
            ]
        case "edge":
            ids = tuple(target.id for target in _targets(fault, spec, terrain))
            return [
                Place("", f"{edge.id}: {_words(ids)}", url=_admin(edge), targets=ids)
                for edge in terrain.edges
            ]
        case "override":
            if fault.providers or fault.targets:
                drained = _targets(fault, spec, terrain)
                return [Place("", target.id, targets=(target.id,)) for target in drained]
            return [Place("", region, region=region) for region in _regions(fault, spec, terrain)]


def _panel(target: str, terrain: Terrain) -> str:
    if target not in terrain.panels:
        raise Usage(f"target {target} has no panel: it is not simulated here")
    return terrain.panels[target]


def _admin(edge: Edge) -> str:
    if not edge.admin_url:
        raise Usage(f"{edge.id} does not say where its admin listener is: `by: edge` cannot reach it")
    return edge.admin_url


def _words(ids: tuple[str, ...]) -> str:
    """At most what a record takes."""
    shown, more = ", ".join(ids[:12]), len(ids) - 12
    return f"{shown} and {more} more" if more > 0 else shown


def _name(drill: str, number: int) -> str:
    """`drill-23.4`, within what a name may be."""
    return f"{re.sub(r'[^a-z0-9._-]', '-', drill.lower())[:56].strip('.-_') or 'drill'}.{number}"


def _named(place: Place, name: str) -> Place:
    return Place(
        name, place.where[:512], place.url, place.processes, place.targets, place.region, place.observer
    )
