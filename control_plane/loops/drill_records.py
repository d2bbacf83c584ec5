"""Records of drills on the stand that a write is prepared from, and what is said of them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from control_plane.loops.drill_shelf import DrillShelf
from control_plane.loops.operations import Stand
from control_plane.loops.reading import read
from control_plane.ports import NotKept, TooLarge, Unfit
from shared import keys
from shared.ports import Compare, KeyValue
from shared.vocabulary.drill import Drill, DrillRequest, DrillSchedule, DrillSpec

MAX_RECORD_BYTES = 512 * 1024
"""etcd takes requests of 1.5 MiB by default."""


class Settled(Exception):
    """It stands as asked already: nothing is to be written."""


class Superseded(Exception):
    """Somebody else has acted upon the schedule, or removed it."""


@dataclass(frozen=True, slots=True)
class ScheduledFor:
    """The time of a schedule that a drill begins for: written with the drill, in one transaction."""

    schedule: DrillSchedule
    at: datetime
    author: str
    """The replica that leads."""
    fence: tuple[Compare, ...]

    @property
    def reading(self) -> tuple[str, ...]:
        """The key that `acted` looks at."""
        return (keys.drill_schedule(self.schedule.id),)

    def acted(self, stand: Stand, drill: str) -> Mapping[str, bytes]:
        """The schedule's own record, acted upon. Raises Superseded."""
        if schedule_in(stand, self.schedule.id) != self.schedule:
            raise Superseded
        return {self.reading[0]: acted_upon(self.schedule, self.at, drill).canonical()}


def acted_upon(schedule: DrillSchedule, at: datetime, word: str) -> DrillSchedule:
    """With its time `at` behind it."""
    return schedule.model_copy(update={"last_at": at, "last_word": word[:512]})


def drill_of(item: KeyValue | None) -> Drill | None:
    """What a record says; None where it is none, or absent."""
    return read(Drill, item.value, what=item.key) if item is not None else None


def holder_of(item: KeyValue | None) -> str | None:
    """The drill that `drills/active` names."""
    return item.value.decode(errors="replace") if item is not None else None


def report_pages(items: Iterable[KeyValue]) -> set[str]:
    """The blobs that drills name, of all that is under `drills/`."""
    drills = (drill_of(item) for item in items if is_drill(item.key))
    return {drill.report_sha for drill in drills if drill is not None and drill.report_sha is not None}


def is_drill(key: str) -> bool:
    """Whether it is the key of a drill's own record."""
    others = (keys.DRILL_ACTIVE, keys.DRILL_SCHEDULES)
    return key.startswith(keys.DRILLS) and not key.startswith(others)


def found_in(stand: Stand, name: str) -> tuple[Drill, int]:
    """The drill and the mod revision of its record. Raises NotKept."""
    item = stand.records.get(keys.drill(name))
    drill = drill_of(item)
    if item is None or drill is None:
        raise no_drill(name)
    return drill, item.mod_revision


def schedule_in(stand: Stand, name: str) -> DrillSchedule | None:
    """A schedule, where it is on record."""
    item = stand.records.get(keys.drill_schedule(name))
    return read(DrillSchedule, item.value, what=item.key) if item is not None else None


def let_go(stand: Stand, name: str) -> tuple[str, ...]:
    """What to delete so that another may begin: the claim, if it is this drill's."""
    return (keys.DRILL_ACTIVE,) if holder_of(stand.records.get(keys.DRILL_ACTIVE)) == name else ()


def no_drill(name: str) -> NotKept:
    """To be raised."""
    return NotKept(f"no drill {name!r} is on record")


def check_runner(drill: Drill, runner: str) -> None:
    """Raises Unfit when it is another's to run."""
    if drill.runner is None:
        raise Unfit(f"drill {drill.id!r} is {drill.state} and nobody has claimed it: claim it first")
    if drill.runner != runner:
        raise Unfit(f"drill {drill.id!r} is run by {drill.runner}, and not by {runner}")


def check_same(underway: Drill, spec: DrillSpec, request: DrillRequest) -> Drill:
    """The drill under way, if it is what its own runner asks for again. Raises Unfit."""
    asked = (spec, request.author, request.reason, request.runner)
    if request.runner is None or asked != (underway.spec, underway.author, underway.reason, underway.runner):
        raise Unfit(in_the_way(underway))
    return underway


def in_the_way(drill: Drill) -> str:
    """Why no other may begin."""
    return (
        f"drill {drill.id!r} ({drill.spec.drill}, of {drill.author}: {drill.reason}) is {drill.state}, "
        "and there is never more than one: wait for its end, or abort it"
    )


def named(name: str, shelf: DrillShelf) -> str:
    """As `in_the_way`, of a drill that this replica may not have heard of yet."""
    drill = shelf.find(name)
    if drill is not None and not drill.over:
        return in_the_way(drill)
    return f"drill {name!r} is under way, and there is never more than one: wait for its end, or abort it"


def values_of(drill: Drill) -> Mapping[str, Any]:
    """For its audit entries."""
    return {"drill": drill.spec.drill, "region": drill.spec.region, "state": drill.state}


def record_of(drill: Drill) -> bytes:
    """The value of its key. Raises TooLarge."""
    raw = drill.canonical()
    if len(raw) > MAX_RECORD_BYTES:
        raise TooLarge(
            f"the record of drill {drill.id!r} would have {len(raw)} bytes, and {MAX_RECORD_BYTES} are kept: "
            "shorten its timeline"
        )
    return raw
