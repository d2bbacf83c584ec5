"""Drills as the API sees them on any replica (`DrillDesk`). A part of `control_plane.ports`, which has
the errors named here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from shared.vocabulary.drill import Drill, DrillEnd, DrillRequest, DrillSchedule, DrillSpec, RunnerWord
from shared.vocabulary.drill_list import ScheduleOrder
from shared.vocabulary.drill_policy import DrillPolicy


@dataclass(frozen=True, slots=True)
class DrillsKnown:
    """What a replica knows of drills, from memory."""

    at: datetime
    """This replica's time."""
    policy: DrillPolicy
    active: str | None
    drills: Sequence[Drill]
    """The newest first."""
    schedules: Sequence[DrillSchedule]


class DrillDesk(Protocol):
    """Where drills are asked for, run, ended and scheduled. What is a coroutine may raise PortError; what
    writes may raise Busy as well, and TooLarge where it takes a runner's words."""

    @property
    def catalogue(self) -> Mapping[str, DrillSpec]:
        """The built-in drills by name."""
        ...

    def known(self) -> DrillsKnown:
        """What is on record."""
        ...

    async def one(self, name: str) -> Drill:
        """A drill's whole record. Raises NotKept."""
        ...

    async def page(self, name: str) -> bytes:
        """The HTML report of a drill. Raises NotKept."""
        ...

    async def request(self, request: DrillRequest) -> Drill:
        """Put it on record, DUE; or RUNNING when the request names its runner. The same request of the same
        runner gives the same drill. Raises Unfit: another is under way, blocked, switched off, too few
        regions would be left, or it names what is not there."""
        ...

    async def claim(self, name: str, runner: str) -> Drill:
        """Take a DUE one to run it; again is no error. Raises NotKept, Unfit."""
        ...

    async def progress(self, name: str, word: RunnerWord) -> Drill:
        """Put its runner's word on record and renew its claim. Of one that is over nothing changes. Raises
        NotKept; Unfit for another's drill, and when the claim was lost to another drill."""
        ...

    async def finish(self, name: str, end: DrillEnd) -> Drill:
        """Its end and report; the same again is no error. Raises NotKept, Unfit."""
        ...

    async def abort(self, name: str, *, author: str, reason: str) -> Drill:
        """End a DUE one, ask the runner of a RUNNING one to; again is no error. Raises NotKept; Unfit for
        one that has ended by itself."""
        ...

    async def schedule(self, order: ScheduleOrder) -> DrillSchedule:
        """Have a drill come due by a cron expression; the same again is no error. Raises Unfit."""
        ...

    async def unschedule(self, name: str, *, author: str, reason: str) -> None:
        """Drop a schedule; the drill it last asked for goes on. Raises NotKept."""
        ...
