"""`leeward.yaml`, from file to frozen models, or to one line for every fault in it.

    leeward.yaml:12: fleet.targets[3].url: must be an http:// or https:// URL with a host

All faults are found in one run: where the shape of an item is wrong, its cross-references are still
checked as far as they can be, so that nobody mends a file one error at a time.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ValidationError

from shared.config_faults import explain
from shared.vocabulary.config import (
    ClientKey,
    Fleet,
    Monitor,
    Policy,
    Region,
    Route,
    RouteMatch,
    RouteTier,
    Target,
    problems,
)
from shared.vocabulary.drill_policy import DrillPolicy
from shared.vocabulary.node import NodeFile
from shared.yaml_tree import Fault, Lines, NoLines, Tree, Unreadable, Where, read

MAX_SHOWN = 200
"""Problems reported in full; the rest are counted."""

Model = TypeVar("Model", bound=BaseModel)


class ConfigError(Exception):
    """The file cannot be used. `problems` has one line per fault, in the order of the file:
    `file:line: field.path: what is wrong; what to do`."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems: tuple[str, ...] = tuple(problems)


def load(path: Path) -> NodeFile:
    """A whole file: `node:`, and `fleet:` where it has one. Raises ConfigError."""
    tree = _read(path)
    file = _validated(NodeFile, tree, path, fleet_at=("fleet",))
    if file.fleet is not None and file.node.region not in {region.id for region in file.fleet.regions}:
        where = ("node", "region")
        raise ConfigError(
            _lines(path, [Fault(tree.line(where), where, f"no region {file.node.region!r} in fleet.regions")])
        )
    return file


def load_fleet(path: Path) -> Fleet:
    """The fleet of a file: of a whole one, of one with `fleet:` alone, of one that is a fleet from the
    top, or of what `leeward config show` printed. A `node:` beside it must be right too.

    Raises ConfigError.
    """
    tree = _read(path)
    value = tree.value
    if isinstance(value, dict) and "node" in value:
        fleet = _validated(NodeFile, tree, path, fleet_at=("fleet",)).fleet
    elif isinstance(value, dict) and "fleet" in value:
        fleet = _validated(_FleetFile, tree, path, fleet_at=("fleet",)).fleet
    else:
        fleet = _validated(Fleet, tree, path, fleet_at=())
    if fleet is None:
        raise ConfigError([f"{path}: fleet: is missing; this command needs it"])
    return fleet


def load_model(path: Path, kind: type[Model]) -> Model:
    """A file that is one `kind` from the top. Raises ConfigError."""
    return _validated(kind, _read(path), path, fleet_at=None)


def fleet_faults(raw: Any) -> tuple[Fleet | None, tuple[str, ...]]:
    """A fleet that came as JSON, and what is wrong with it, in the words that a file's faults have:
    `targets[3].url: must be …`. Without a fault there is a fleet."""
    found: list[Fault] = []
    fleet: Fleet | None = None
    try:
        fleet = Fleet.model_validate(raw)
    except ValidationError as error:
        found += explain(error, NoLines(), Fleet)
    if isinstance(raw, dict):
        found += _beside(found, _cross_references(raw, NoLines(), ()))
    said = tuple(f"{dotted(fault.where)}: {fault.what}".removeprefix(": ") for fault in dict.fromkeys(found))
    return (None if said else fleet), said[:MAX_SHOWN]


class _FleetFile(BaseModel):
    """`fleet:` alone, or under the version that it had when it was shown; which says nothing here."""

    model_config = NodeFile.model_config
    fleet: Fleet
    config_version: int = 0
    schema_version: Literal[1] = 1


def _read(path: Path) -> Tree:
    try:
        return read(path)
    except Unreadable as unreadable:
        raise ConfigError(_lines(path, [unreadable.fault])) from None


def _validated(kind: type[Model], tree: Tree, path: Path, *, fleet_at: Where | None) -> Model:
    found = list(tree.faults)
    model: Model | None = None
    if tree.value is None and not found:
        found.append(Fault(1, (), "is empty; see `leeward config schema` for what goes in"))
    elif tree.value is not None:
        try:
            model = kind.model_validate(tree.value)
        except ValidationError as error:
            told = {fault.where for fault in found}
            found += (fault for fault in explain(error, tree, kind) if fault.where not in told)
    raw = tree.value
    for step in fleet_at or ():
        raw = raw.get(step) if isinstance(raw, dict) else None
    if fleet_at is not None and isinstance(raw, dict):
        found += _beside(found, _cross_references(raw, tree, fleet_at))
    if found or model is None:
        raise ConfigError(_lines(path, found))
    return model


def _beside(told: Sequence[Fault], more: Iterator[Fault]) -> list[Fault]:
    """Of `more`, what concerns a place of which nothing was told yet."""
    places = {fault.where for fault in told}
    return [fault for fault in more if fault.where not in places]


def _lines(path: Path, faults: Sequence[Fault]) -> list[str]:
    ordered = sorted(dict.fromkeys(faults), key=lambda fault: fault.line)
    lines = []
    for line, where, what in ordered[:MAX_SHOWN]:
        place = f"{path}:{line}" if line else f"{path}"
        lines.append(f"{place}: {dotted(where)}: {what}" if where else f"{place}: {what}")
    if len(ordered) > MAX_SHOWN:
        lines.append(f"{path}: and {len(ordered) - MAX_SHOWN} more")
    return lines


def dotted(where: Where) -> str:
    """`fleet.targets[3].url`."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in where)
    return text.removeprefix(".")


# ---------------------------------------------------------------- cross-references of what can be read


def _cross_references(raw: dict[str, Any], tree: Lines, at: Where) -> Iterator[Fault]:
    for where, what in problems(_as_far_as_it_goes(raw)):
        full = (*at, *where)
        yield Fault(tree.line(full), full, what)


def _as_far_as_it_goes(raw: dict[str, Any]) -> Fleet:
    """The fleet, with a stand-in for every item that cannot be read.

    A stand-in keeps the item's id, so that what refers to it is not called a fault as well.
    """
    regions = _items(raw, "regions", Region, lambda _, __: {})
    somewhere = regions[0].id if regions else ""
    policy = _repaired(raw.get("policy", {}), Policy) or Policy()
    return Fleet.model_construct(
        regions=regions,
        targets=_items(raw, "targets", Target, lambda _, __: {"region": somewhere}),
        monitors=_items(raw, "monitors", Monitor, lambda _, __: {"kind": "http", "targets": ()}),
        routes=_items(raw, "routes", Route, _route_stand_in),
        policy=policy,
        drills=_repaired(raw.get("drills", {}), DrillPolicy) or DrillPolicy(),
        client_keys=_items(raw, "client_keys", ClientKey, lambda _, __: {}),
    )


def _items(
    raw: dict[str, Any],
    field: str,
    kind: type[Model],
    stand_in: Callable[[dict[str, Any], int], dict[str, Any]],
) -> tuple[Model, ...]:
    items = []
    for index, item in enumerate(_listed(raw.get(field))):
        model = _repaired(item, kind)
        if model is None:
            fields = item if isinstance(item, dict) else {}
            name = fields.get("id") if fields else item
            name = name if isinstance(name, str) else f"?{index}"
            model = kind.model_construct(**{"id": name, **stand_in(fields, index)})
        items.append(model)
    return tuple(items)


def _route_stand_in(raw: dict[str, Any], index: int) -> dict[str, Any]:
    tiers = [tier.get("targets") if isinstance(tier, dict) else None for tier in _listed(raw.get("tiers"))]
    return {
        "match": _repaired(raw.get("match"), RouteMatch) or RouteMatch(models=(f"?{index}",)),
        "tiers": tuple(
            RouteTier.model_construct(targets=tuple(map(str, _listed(targets)))) for targets in tiers
        ),
    }


def _repaired(raw: Any, kind: type[Model]) -> Model | None:
    """`raw` without its faulty entries, where it can do without them."""
    try:
        return kind.model_validate(raw)
    except ValidationError as error:
        faulty = {fault["loc"][:1] for fault in error.errors(include_url=False)}
    if not isinstance(raw, dict) or () in faulty:
        return None
    try:
        return kind.model_validate({key: value for key, value in raw.items() if (key,) not in faulty})
    except ValidationError:
        return None


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
