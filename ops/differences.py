"""The differences between two fleets as lines for a terminal: `+` added, `-` removed, `~` changed."""

import json
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

from rich.text import Text

from control_plane.core.config_diff import Change

_SIGNS = {"added": ("+", "green"), "removed": ("-", "red"), "changed": ("~", "yellow")}
MAX_VALUE = 160


def lines(changes: Sequence[Change]) -> list[Text]:
    """An item a paragraph: what is stated of a new one, each changed field as `old -> new`."""
    found: list[Text] = []
    for (kind, name, what), group in groupby(
        changes, key=lambda change: (change.kind, change.id, change.what)
    ):
        sign, colour = _SIGNS[what]
        found.append(Text(f"{sign} {kind} {name}".rstrip(), style=colour))
        for change in group:
            found += (Text(f"    {line}") for line in _inside(change))
    return found


def _inside(change: Change) -> Iterator[str]:
    if change.what == "changed":
        yield f"{change.field}: {_short(change.old)} -> {_short(change.new)}"
        return
    if change.what == "added":
        yield from (f"{field}: {_short(value)}" for field, value in change.new.items() if field != "id")


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= MAX_VALUE else f"{text[: MAX_VALUE - 3]}..."
