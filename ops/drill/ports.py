"""What a drill needs of the outside to break things and to put it on record.

Injectors   makes an Injection of a fault and a place: `ops.drill.injectors`
Injector    one fault at one place: put, renewed, undone
Register    the control plane's record of drills
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from shared.vocabulary.drill import Drill, DrillEnd, DrillFault, DrillRequest, RunnerWord


@dataclass(frozen=True, slots=True)
class Place:
    """One place that a fault goes to. Which fields are filled follows from `DrillFault.by`:

    stack     `url` is the keeper's, `processes` all that suffer, at once, in one place
    panel     one place per target (`url` is its panel's, `targets` the one); for a partition one per
              target and observing region (`observer`), whose probers alone do not reach it
    edge      one place per edge: `url` is its admin listener's, `targets` those it must do it to
    override  one place per region (`region`), or per target (`targets` has one)
    """

    id: str
    """Unique in the fleet and for all time, a `vocabulary.base.Id`: the name under which the injector
    keeps it (`PUT /faults/{id}`)."""
    where: str
    """In words, for the record: `eu-west: alpha-eu-west, edge-eu-west`."""
    url: str = ""
    processes: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    region: str | None = None
    observer: str | None = None


class Injector(Protocol):
    """One fault at one place. It ends by itself `for_s` after the last `put` or `renew`, whatever
    becomes of whoever put it."""

    async def put(self, *, for_s: float) -> None:
        """Do it; returns once it is done. Raises OpsError when it is not, or may not be."""
        ...

    async def renew(self, *, for_s: float) -> None:
        """Keep it for `for_s` from now. Raises OpsError when that could not be said; the caller says
        it again, until the time to live has passed."""
        ...

    async def undo(self) -> None:
        """End it; returns once it has ended. Safe to call at any time, again, and when `put` failed.
        Raises OpsError when it may still be there."""
        ...


class Injectors(Protocol):
    """Makes injectors. Holds what they share: an HTTP client, the control planes, tokens."""

    def at(self, fault: DrillFault, place: Place, *, author: str, reason: str) -> Injector:
        """The injector of `fault` at `place`. `author` and `reason` are for what is on record itself,
        as an override is."""
        ...


class Register(Protocol):
    """The control plane's record of drills. Every call raises Unreachable when no replica can be
    asked, and Refused (with its status) when one says no."""

    async def request(self, request: DrillRequest) -> Drill:
        """Ask for a drill; with `runner` it is claimed at once."""
        ...

    async def claim(self, drill: str, runner: str) -> Drill:
        """Take one that is DUE."""
        ...

    async def progress(self, drill: str, word: RunnerWord) -> Drill:
        """Tell how it goes, and renew the claim; `stop` of the answer tells an abort."""
        ...

    async def finish(self, drill: str, end: DrillEnd) -> Drill:
        """Put its report on record."""
        ...

    async def due(self) -> Sequence[Drill]:
        """Those that wait for a runner, oldest first."""
        ...
