"""Limits that targets share: who calls one model of one address with one credential has one limit there.

Several targets of a fleet may be the same account's (two tiers with other weights, two regions' entries of one
global endpoint). A 429 to one of them is a 429 to all, and asking the next would be asking again.
"""

from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakValueDictionary

from edge_router.core.table import Origin, TargetEntry

if TYPE_CHECKING:
    from edge_router.adapters.lane import Lane


class Account(NamedTuple):
    """Whom a provider counts together. The path belongs to it: some providers name the deployment there."""

    origin: Origin
    base_path: bytes
    credential: str | None
    model_json: bytes


class Spared:
    """How long one account's targets are spared. Mutable; `until` is monotonic seconds."""

    __slots__ = ("__weakref__", "exhausted_until", "lanes", "until")

    def __init__(self) -> None:
        self.until = 0.0
        self.exhausted_until = 0.0
        """Because the quota is used up."""
        self.lanes: set[Lane] = set()


class Accounts:
    """What is spared, by account; one per edge. Forgets accounts that no lane has any more."""

    def __init__(self) -> None:
        self._known: WeakValueDictionary[Account, Spared] = WeakValueDictionary()

    def __len__(self) -> int:
        return len(self._known)

    def of(self, entry: TargetEntry) -> Spared:
        """That of `entry`."""
        account = Account(entry.origin, entry.base_path, entry.credential, entry.model_json)
        spared = self._known.get(account)
        if spared is None:
            spared = self._known[account] = Spared()
        return spared
