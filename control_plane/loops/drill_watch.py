"""What the leader does about drills by itself: schedules that come due, records that lost their runner,
the master switch, and the record's length.

It looks at this replica's memory once a second, and acts by what etcd says at that very moment, under
its fence: a drill that has ended meanwhile, or begun elsewhere, is found so, and nothing is done. A
schedule's time that could not become a drill is passed over with the reason on its record; one that
another leader has acted upon is known by that record too.
"""

import asyncio
from datetime import datetime

from control_plane.core.drills import Due, Unknown, blocked, due, lapsed, orphaned, resolved, surplus
from control_plane.loops.blobs import TXN_OPS, Missing, deletions
from control_plane.loops.drill_records import (
    ScheduledFor,
    Settled,
    Superseded,
    acted_upon,
    found_in,
    holder_of,
    record_of,
    values_of,
)
from control_plane.loops.drill_shelf import DrillShelf
from control_plane.loops.drills import CLAIM_TTL_S, Drills
from control_plane.loops.lead import Lead
from control_plane.loops.ledger import fence
from control_plane.loops.operations import Operations, Stand, Write
from control_plane.loops.reading import read
from control_plane.ports import Busy, NotKept, Tenure, TooLarge, Unfit
from control_plane.ports_drills import DrillsKnown
from shared import keys
from shared.clock import Clock
from shared.log import get_logger
from shared.ports import Compare, Coordination, Delete, PortError, Put
from shared.vocabulary.drill import Drill, DrillSchedule

log = get_logger(__name__)

LOOK_S = 1.0
TIDY_S = 60.0
GRACE_S = 10.0
"""A runner that was cut off has so long to come back and hold its claim anew: after an outage of the whole
control plane it is as alive as before."""


PATIENCE_S = 20.0
"""A schedule's drill that may not begin is tried again for so long: a new leader's view is not whole yet, or
the drill before it is ending."""


class DrillWatch:
    """`run` is its loop; it acts only while this replica leads."""

    def __init__(
        self,
        drills: Drills,
        operations: Operations,
        store: Coordination,
        *,
        shelf: DrillShelf,
        lead: Lead,
        replica: str,
        clock: Clock,
    ) -> None:
        self._drills = drills
        self._operations = operations
        self._store = store
        self._shelf = shelf
        self._lead = lead
        self._replica = replica
        self._clock = clock
        self._gone_since: dict[str, float] = {}
        """When this replica, leading, first saw that nobody holds a drill's claim; monotonic."""
        self._tidied_at = clock.monotonic()

    async def run(self) -> None:
        """Look once a second."""
        while True:
            await asyncio.sleep(LOOK_S)
            term = self._lead.term
            if term is None:
                self._gone_since.clear()
                continue
            try:
                await self.look(term)
            except (Busy, Missing, PortError) as error:
                log.info("drills were not looked after, it is tried again", error=repr(error))

    async def look(self, term: Tenure) -> None:
        """One look. Raises Busy, blobs.Missing, PortError."""
        known = self._drills.known()
        if not known.policy.enabled:
            for drill in known.drills:
                if not drill.over and drill.stop is None:
                    await self._switch_off(drill, term)
        await self._end_lapsed(term)
        for schedule in known.schedules:
            if (now_due := due(schedule, known.at)) is not None:
                await self._act_upon(schedule, now_due, known, term)
        if self._clock.monotonic() - self._tidied_at >= TIDY_S:
            self._tidied_at = self._clock.monotonic()
            await self._tidy(term)

    async def _switch_off(self, drill: Drill, term: Tenure) -> None:
        reason = "drills were switched off (fleet.drills.enabled)"
        try:
            await self._drills.abort(drill.id, author=self._replica, reason=reason, fence=tuple(fence(term)))
        except (Unfit, NotKept) as error:
            log.info("a drill had ended before it was aborted", drill=drill.id, error=str(error))

    # ------------------------------------------------------------ claims that lapsed

    async def _end_lapsed(self, term: Tenure) -> None:
        now_s = self._clock.monotonic()
        found = lapsed(self._shelf.drills, self._shelf.active)
        self._gone_since = {drill.id: self._gone_since.get(drill.id, now_s) for drill in found}
        for drill in found:
            grace_s = GRACE_S if drill.state == "RUNNING" else 0.0
            if now_s - self._gone_since[drill.id] >= grace_s:
                await self._end(drill.id, term)

    async def _end(self, name: str, term: Tenure) -> None:
        now = self._clock.now()

        def prepare(stand: Stand) -> Write:
            drill, revision = found_in(stand, name)
            if drill.over or holder_of(stand.records.get(keys.DRILL_ACTIVE)) == name:
                raise Settled
            after = orphaned(drill, now)
            return Write(
                action="drill.abort",
                subject=name,
                values={**values_of(after), "note": after.note},
                puts={keys.drill(name): record_of(after)},
                compares=(Compare(keys.drill(name), "mod", revision), *fence(term)),
            )

        try:
            await self._operations.write(
                author=self._replica,
                reason=f"nobody has held its claim for {CLAIM_TTL_S} s",
                prepare=prepare,
                reading=(keys.DRILL_ACTIVE, keys.drill(name)),
            )
        except (Settled, NotKept, TooLarge) as error:
            log.info("a drill was not given up for lost", drill=name, error=repr(error))

    # ------------------------------------------------------------ schedules

    async def _act_upon(self, schedule: DrillSchedule, due: Due, known: DrillsKnown, term: Tenure) -> None:
        """Begin its drill, or pass this time over and say why."""
        why_not = blocked(known.policy, known.at)
        moment = f"{due.at:%Y-%m-%d %H:%M} UTC"
        if due.missed:
            await self._pass_over(schedule, due.at, f"{moment} was missed: nobody led then", term)
            return
        if why_not is not None:
            await self._pass_over(schedule, due.at, f"{moment}: {why_not}", term)
            return
        try:
            spec = resolved(schedule.request, self._drills.catalogue)
            asked = ScheduledFor(schedule, due.at, self._replica, tuple(fence(term)))
            drill = await self._drills.begin(schedule.request, spec, schedule=asked)
            log.info("a schedule's drill is due", schedule=schedule.id, drill=drill.id)
        except Superseded:
            log.info("the schedule was acted upon, or removed", schedule=schedule.id)
        except (Unfit, Unknown) as error:
            if (known.at - due.at).total_seconds() < PATIENCE_S:
                return
            await self._pass_over(schedule, due.at, f"{moment}: {error.args[0]}", term)

    async def _pass_over(self, schedule: DrillSchedule, at: datetime, word: str, term: Tenure) -> None:
        key = keys.drill_schedule(schedule.id)
        item, _ = await self._store.get(key)
        if item is None or read(DrillSchedule, item.value, what=key) != schedule:
            return
        compares = [Compare(key, "mod", item.mod_revision), *fence(term)]
        passed = acted_upon(schedule, at, word)
        if (await self._store.commit(compares, [Put(key, passed.canonical())])).succeeded:
            log.warning("a scheduled drill did not begin", schedule=schedule.id, why=passed.last_word)

    # ------------------------------------------------------------ the record's length

    async def _tidy(self, term: Tenure) -> None:
        """Drop what is over and too old, with its report page: each drill's is its own."""
        deletes: list[Delete] = []
        for drill in surplus(self._shelf.drills):
            deletes.append(Delete(keys.drill(drill.id)))
            if drill.report_sha is not None:
                deletes += deletions(drill.report_sha)
        for start in range(0, len(deletes), TXN_OPS):
            if not self._lead.holds(term):
                return
            await self._store.commit(fence(term), deletes[start : start + TXN_OPS])
