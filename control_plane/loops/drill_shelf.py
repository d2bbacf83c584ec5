"""What a replica mirrors of `drills/`: the records, the schedules, and which one is under way.

No decision rests on any of it, so its changes fire a pulse of their own, and not the one that wakes
the leader.
"""

from control_plane.loops.pulse import Pulse, together
from control_plane.loops.shelf import Shelf
from shared import keys
from shared.ports import Change, Coordination
from shared.vocabulary.drill import Drill, DrillSchedule

MAX_DRILLS = 200
"""On record at once: the leader tidies away what is over, but for the last fifty, every minute."""
MAX_SCHEDULES = 100


class DrillShelf:
    """As `Shelf`, of three kinds of keys."""

    def __init__(self) -> None:
        self._drills = Shelf(
            keys.DRILLS, Drill, kept=2 * MAX_DRILLS, but=(keys.DRILL_ACTIVE, keys.DRILL_SCHEDULES)
        )
        self._schedules = Shelf(keys.DRILL_SCHEDULES, DrillSchedule, kept=2 * MAX_SCHEDULES)
        self._active_revision = 0
        self.active: str | None = None
        """The id of the drill whose claim is held."""
        self.news = Pulse()
        """Fires with every change."""

    @property
    def drills(self) -> tuple[Drill, ...]:
        """In the order of their making."""
        return tuple(sorted(self._drills.items, key=lambda drill: drill.n))

    @property
    def schedules(self) -> tuple[DrillSchedule, ...]:
        """By name."""
        return self._schedules.items

    def find(self, name: str) -> Drill | None:
        """One record."""
        return next((drill for drill in self._drills.items if drill.id == name), None)

    async def list(self, store: Coordination) -> int:
        """Read it all; returns a revision from which watching misses nothing. Raises PortError."""
        active, revision = await store.get(keys.DRILL_ACTIVE)
        revisions = await together(shelf.list(store) for shelf in (self._drills, self._schedules))
        self._active_revision = revision
        self.active = active.value.decode(errors="replace") if active is not None else None
        self.news.fire()
        return min(revision, *revisions)

    def take(self, change: Change) -> bool:
        """As `Shelf.take`."""
        if change.key == keys.DRILL_ACTIVE:
            if change.mod_revision <= self._active_revision:
                return False
            self._active_revision = change.mod_revision
            self.active = change.value.decode(errors="replace") if change.value is not None else None
        elif not (self._drills.take(change) or self._schedules.take(change)):
            return False
        self.news.fire()
        return True
