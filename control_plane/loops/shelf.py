"""One prefix of etcd as a replica mirrors it: listed whole, then kept up to date by the watch."""

from typing import Generic, TypeVar

from pydantic import BaseModel

from control_plane.loops.reading import read
from shared.ports import Change, Coordination

Kind = TypeVar("Kind", bound=BaseModel)


class Shelf(Generic[Kind]):
    """The records under `prefix`, by the rest of their keys; the unreadable are said and left out.

    At most the `kept` last ones in the order of their keys. What begins with one of `but` is no record
    of theirs.
    """

    def __init__(self, prefix: str, kind: type[Kind], *, kept: int, but: tuple[str, ...] = ()) -> None:
        self._prefix = prefix
        self._but = but
        self._kind = kind
        self._kept = kept
        self._revision = 0
        self._found: dict[str, Kind] = {}
        self.items: tuple[Kind, ...] = ()
        """In the order of the keys; the same object while nothing changes."""

    async def list(self, store: Coordination) -> int:
        """Read it all; returns the revision of the reading. Raises PortError."""
        snapshot = await store.list(self._prefix)
        self._revision = snapshot.revision
        self._found = {}
        for item in snapshot.items:
            if not item.key.startswith(self._but):
                self._put(item.key, item.value)
        self._settle()
        return snapshot.revision

    def take(self, change: Change) -> bool:
        """Take a change that the watch brought; False when it is another's, or known from the listing."""
        if not change.key.startswith(self._prefix) or change.key.startswith(self._but):
            return False
        if change.mod_revision <= self._revision:
            return False
        self._put(change.key, change.value)
        self._settle()
        return True

    def _put(self, key: str, value: bytes | None) -> None:
        name = key.removeprefix(self._prefix)
        record = read(self._kind, value, what=key)
        if record is None:
            self._found.pop(name, None)
        else:
            self._found[name] = record

    def _settle(self) -> None:
        names = sorted(self._found)
        for name in names[: max(0, len(names) - self._kept)]:
            del self._found[name]
        items = tuple(self._found[name] for name in names if name in self._found)
        if items != self.items:
            self.items = items
