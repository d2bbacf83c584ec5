"""What changes between two fleets, item by item and field by field, for people to read before it holds."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel

from shared.vocabulary.base import Message
from shared.vocabulary.config import Fleet

Kind = Literal["region", "target", "monitor", "route", "policy", "drills", "alerts", "client key"]

_LISTS: Mapping[str, Kind] = {
    "regions": "region",
    "targets": "target",
    "monitors": "monitor",
    "routes": "route",
    "client_keys": "client key",
}
"""Field of the fleet -> what its items are called."""
_PARTS: Mapping[str, Kind] = {"policy": "policy", "drills": "drills", "alerts": "alerts"}
"""The fields that are one thing each. A field of the fleet that is in neither could not be changed."""


class Change(Message):
    """One difference. Values are as the file writes them; null where there is none."""

    kind: Kind
    id: str
    """Of the item; empty for the policy, drills, alerts, and for the order of a list."""
    what: Literal["added", "removed", "changed"]
    field: str = ""
    """Path of a changed value below the item: `timeouts.total_s`, `tiers[0].targets`, `order`."""
    old: Any = None
    new: Any = None


def changes(old: Fleet | None, new: Fleet) -> tuple[Change, ...]:
    """All differences, in the order of the file: the removed and the changed of each list as the old
    one has them, then the added. Nothing is left out, so equal fleets alone give none.

    Without an `old` everything is added."""
    found: list[Change] = []
    for field, kind in _LISTS.items():
        found += _items(kind, getattr(old, field) if old is not None else (), getattr(new, field))
    for field, kind in _PARTS.items():
        before = getattr(old, field).model_dump(mode="json") if old is not None else {}
        found += _fields(kind, "", before, getattr(new, field).model_dump(mode="json"))
    return tuple(found)


def _items(kind: Kind, old: Sequence[Any], new: Sequence[Any]) -> Iterator[Change]:
    before: dict[str, BaseModel] = {item.id: item for item in old}
    after: dict[str, BaseModel] = {item.id: item for item in new}
    for name, item in before.items():
        if name not in after:
            yield Change(kind=kind, id=name, what="removed", old=_said(item))
        elif after[name] != item:
            yield from _fields(kind, name, item.model_dump(mode="json"), after[name].model_dump(mode="json"))
    for name, item in after.items():
        if name not in before:
            yield Change(kind=kind, id=name, what="added", new=_said(item))
    stayed = [name for name in before if name in after]
    order = [name for name in after if name in before]
    if stayed != order:
        yield Change(kind=kind, id="", what="changed", field="order", old=stayed, new=order)


def _said(item: BaseModel) -> Any:
    """What is stated of an item: the defaults need no mention."""
    return item.model_dump(mode="json", exclude_defaults=True)


def _fields(kind: Kind, name: str, old: Any, new: Any, at: str = "") -> Iterator[Change]:
    if old == new:
        return
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in dict.fromkeys((*old, *new)):
            step = f"{at}.{key}" if at else str(key)
            yield from _fields(kind, name, old.get(key), new.get(key), step)
    elif _mappings(old) and _mappings(new):
        for i in range(max(len(old), len(new))):
            pair = (old[i] if i < len(old) else None, new[i] if i < len(new) else None)
            yield from _fields(kind, name, *pair, f"{at}[{i}]")
    else:
        yield Change(kind=kind, id=name, what="changed", field=at, old=old, new=new)


def _mappings(value: Any) -> bool:
    """Whether it is a list of structures, as tiers are, and worth looking into."""
    return isinstance(value, Sequence) and bool(value) and all(isinstance(item, Mapping) for item in value)
