"""Drills on any replica: asked for, claimed, told of, ended; and their schedules.

invariant   At most one drill waits or runs: `drills/active` names it, is created by the transaction that
            puts its record down, and lives by a lease. Whoever renews the lease holds the claim; when
            nobody does for a minute the key is gone, and the leader ends the record (`drill_watch`).
order       lease, blobs, transaction. A crash in between leaves a lease that runs out by itself.
lost reply  to etcd: as in `operations`. To the caller: the same call again finds what it did. A runner's
            word is absolute state, so that a later one makes up for one that was lost.

What a runner says of its progress is no operator's write: it compares the record alone, is not on
audit, and moves no number that a decision rests on.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from control_plane.core.drills import Unknown, refusals, resolved
from control_plane.loops.blobs import Blobs, Missing
from control_plane.loops.drill_records import (
    ScheduledFor,
    Settled,
    check_runner,
    check_same,
    drill_of,
    found_in,
    holder_of,
    let_go,
    named,
    no_drill,
    record_of,
    values_of,
)
from control_plane.loops.drill_schedules import adding, removing
from control_plane.loops.drill_shelf import MAX_DRILLS, DrillShelf
from control_plane.loops.operations import Operations, Stand, Write
from control_plane.ports import Busy, InForce, NotKept, Unfit
from control_plane.ports_drills import DrillsKnown
from shared import keys
from shared.clock import Clock
from shared.log import get_logger
from shared.ports import Compare, Coordination, PortError, Put
from shared.vocabulary.base import sha256_hex
from shared.vocabulary.drill import Drill, DrillEnd, DrillRequest, DrillSchedule, DrillSpec, RunnerWord, Stop
from shared.vocabulary.drill_list import ScheduleOrder
from shared.vocabulary.drill_policy import DrillPolicy
from shared.vocabulary.view import HealthView

log = get_logger(__name__)

CLAIM_TTL_S = 60
"""So long a drill waits for a runner, and a claim outlasts its last renewal."""
ATTEMPTS = 5


class Drills:
    """Implements `control_plane.ports_drills.DrillDesk`. `view` is what this replica knows of health."""

    def __init__(
        self,
        operations: Operations,
        store: Coordination,
        blobs: Blobs,
        *,
        shelf: DrillShelf,
        catalogue: Mapping[str, DrillSpec],
        in_force: Callable[[], InForce],
        view: Callable[[], HealthView | None],
        clock: Clock,
    ) -> None:
        self._operations = operations
        self._store = store
        self._blobs = blobs
        self._shelf = shelf
        self.catalogue = catalogue
        self._in_force = in_force
        self._view = view
        self._clock = clock

    def known(self) -> DrillsKnown:
        """As `DrillDesk.known`."""
        config = self._in_force().config
        return DrillsKnown(
            at=self._clock.now(),
            policy=config.fleet.drills if config is not None else DrillPolicy(),
            active=self._shelf.active,
            drills=self._shelf.drills[::-1],
            schedules=self._shelf.schedules,
        )

    async def one(self, name: str) -> Drill:
        """As `DrillDesk.one`: from memory, or from etcd where this replica has not heard of it."""
        drill = self._shelf.find(name)
        return drill if drill is not None else (await self._record(name))[0]

    async def page(self, name: str) -> bytes:
        """As `DrillDesk.page`."""
        drill = await self.one(name)
        if drill.report_sha is None:
            raise NotKept(f"drill {name!r} ({drill.state}) has no report page")
        try:
            return await self._blobs.read(drill.report_sha)
        except Missing:
            raise NotKept(f"the report page of drill {name!r} is not kept") from None

    async def request(self, request: DrillRequest) -> Drill:
        """As `DrillDesk.request`."""
        spec = self._spec(request)
        if (underway := await self._underway()) is not None:
            return check_same(underway, spec, request)
        return await self.begin(request, spec)

    async def begin(
        self, request: DrillRequest, spec: DrillSpec, *, schedule: ScheduledFor | None = None
    ) -> Drill:
        """Put a drill on record; with `schedule` in its name, and in one write with its being acted upon.
        Raises as `request`, and Superseded."""
        now = self._clock.now()
        lease = await self._store.grant(CLAIM_TTL_S)
        stale = [drill.id for drill in self._shelf.drills if not drill.over]
        reading = [keys.DRILL_ACTIVE, *map(keys.drill, stale), *(schedule.reading if schedule else ())]
        begun: list[Drill] = []

        def prepare(stand: Stand) -> Write:
            self._check_free(stand, stale)
            if stand.config is None:
                raise Unfit("no configuration is in force yet")
            fleet, overrides = stand.config.fleet, stand.overrides
            if reasons := refusals(spec, fleet, self._view(), now, overrides=overrides):
                raise Unfit(*reasons)
            n = stand.audited + 1
            claimed = {"state": "RUNNING", "runner": request.runner, "started_at": now}
            drill = Drill(
                id=f"drill-{n}",
                n=n,
                spec=spec,
                author=request.author,
                reason=request.reason,
                schedule=schedule.schedule.id if schedule else None,
                requested_at=now,
            ).model_copy(update=claimed if request.runner is not None else {})
            begun[:] = [drill]
            return Write(
                action="drill.request",
                subject=drill.id,
                values={
                    **values_of(drill),
                    **({"runner": request.runner} if request.runner is not None else {}),
                    **({"schedule": drill.schedule, "asked_by": request.author} if schedule else {}),
                },
                puts={
                    keys.drill(drill.id): record_of(drill),
                    keys.DRILL_ACTIVE: drill.id.encode(),
                    **(schedule.acted(stand, drill.id) if schedule else {}),
                },
                leases={keys.DRILL_ACTIVE: lease},
                compares=(Compare(keys.DRILL_ACTIVE, "create", 0), *(schedule.fence if schedule else ())),
            )

        author = schedule.author if schedule else request.author
        try:
            await self._operations.write(
                author=author, reason=request.reason, prepare=prepare, reading=reading
            )
        except BaseException:
            await self._release(lease)
            raise
        return begun[0]

    async def claim(self, name: str, runner: str) -> Drill:
        """As `DrillDesk.claim`."""
        drill, _ = await self._record(name)
        lease = None if drill.over else await self._renewed(name)
        now = self._clock.now()
        taken: list[Drill] = []

        def prepare(stand: Stand) -> Write:
            drill, revision = found_in(stand, name)
            if drill.state == "RUNNING" and drill.runner == runner:
                taken[:] = [drill]
                raise Settled
            if drill.state != "DUE":
                by = f" by {drill.runner}" if drill.state == "RUNNING" else ""
                raise Unfit(f"drill {name!r} is {drill.state}{by}: only one that is DUE can be claimed")
            if lease is None:
                raise Unfit(f"drill {name!r} has waited for more than {CLAIM_TTL_S} s: ask for another")
            after = drill.model_copy(update={"state": "RUNNING", "runner": runner, "started_at": now})
            taken[:] = [after]
            return Write(
                action="drill.claim",
                subject=name,
                values=values_of(after),
                puts={keys.drill(name): record_of(after)},
                compares=(
                    Compare(keys.drill(name), "mod", revision),
                    Compare(keys.DRILL_ACTIVE, "lease", lease),
                ),
            )

        await self._write(runner, drill.reason, prepare, name)
        return taken[0]

    async def progress(self, name: str, word: RunnerWord) -> Drill:
        """As `DrillDesk.progress`."""
        for _ in range(ATTEMPTS):
            drill, revision = await self._record(name)
            check_runner(drill, word.runner)
            if drill.over:
                return drill
            if await self._renewed(name) is None and not await self._claimed_anew(name, revision):
                continue
            after = drill.model_copy(update={"progress": word.progress})
            if after == drill:
                return drill
            compares = [Compare(keys.drill(name), "mod", revision)]
            result = await self._store.commit(compares, [Put(keys.drill(name), record_of(after))])
            if result.succeeded:
                return after
        raise Busy(f"drill {name!r} was changed each time this was tried: say it again")

    async def finish(self, name: str, end: DrillEnd) -> Drill:
        """As `DrillDesk.finish`. Of a runner that was given up for gone, it is taken too."""
        drill, _ = await self._record(name)
        now = self._clock.now()
        report = end.report.model_copy(update={"id": name})
        html = end.html.encode() if end.html is not None else None
        sha = sha256_hex(html) if html is not None else None
        ended: list[Drill] = []

        def prepare(stand: Stand) -> Write:
            drill, revision = found_in(stand, name)
            check_runner(drill, end.runner)
            if drill.report is not None:
                ended[:] = [drill]
                if drill.report == report:
                    raise Settled
                raise Unfit(f"drill {name!r} is {drill.state}, and has its report")
            after = drill.model_copy(
                update={
                    "state": report.outcome,
                    "ended_at": now,
                    "progress": end.progress,
                    "report": report,
                    "report_sha": sha,
                    "note": f"its claim had lapsed: {drill.note}" if drill.over else "",
                }
            )
            ended[:] = [after]
            return Write(
                action="drill.finish",
                subject=name,
                values={**values_of(after), "outcome": report.outcome, "success_rate": report.success_rate},
                puts={keys.drill(name): record_of(after)},
                blobs={sha: html} if sha is not None and html is not None else {},
                deletes=let_go(stand, name),
                compares=(Compare(keys.drill(name), "mod", revision),),
            )

        await self._write(end.runner, drill.reason, prepare, name)
        return ended[0]

    async def abort(self, name: str, *, author: str, reason: str, fence: Sequence[Compare] = ()) -> Drill:
        """As `DrillDesk.abort`; `fence` is a leader's."""
        now = self._clock.now()
        stopped: list[Drill] = []

        def prepare(stand: Stand) -> Write:
            drill, revision = found_in(stand, name)
            if drill.stop is not None:
                stopped[:] = [drill]
                raise Settled
            if drill.over:
                raise Unfit(f"drill {name!r} is {drill.state}: there is nothing to abort")
            change: dict[str, Any] = {"stop": Stop(at=now, by=author, reason=reason)}
            if drill.state == "DUE":
                change |= {"state": "ABORTED", "ended_at": now, "note": "aborted before anybody ran it"}
            after = drill.model_copy(update=change)
            stopped[:] = [after]
            return Write(
                action="drill.abort",
                subject=name,
                values=values_of(after),
                puts={keys.drill(name): record_of(after)},
                deletes=let_go(stand, name) if after.over else (),
                compares=(Compare(keys.drill(name), "mod", revision), *fence),
            )

        await self._write(author, reason, prepare, name)
        return stopped[0]

    async def schedule(self, order: ScheduleOrder) -> DrillSchedule:
        """As `DrillDesk.schedule`."""
        spec = self._spec(order.request)
        made: list[DrillSchedule] = []
        prepare = adding(order, spec, self._shelf, self._clock.now(), made)
        reading = [keys.drill_schedule(order.id)]
        await self._write(order.request.author, order.request.reason, prepare, reading=reading)
        return made[0]

    async def unschedule(self, name: str, *, author: str, reason: str) -> None:
        """As `DrillDesk.unschedule`."""
        await self._write(author, reason, removing(name), reading=[keys.drill_schedule(name)])

    # ------------------------------------------------------------ details

    def _spec(self, request: DrillRequest) -> DrillSpec:
        try:
            return resolved(request, self.catalogue)
        except Unknown as unknown:
            raise Unfit(str(unknown.args[0])) from None

    async def _write(
        self,
        author: str,
        reason: str,
        prepare: Callable[[Stand], Write],
        name: str | None = None,
        *,
        reading: Sequence[str] = (),
    ) -> None:
        """One operator's write that rests on the drill `name`; Settled is none."""
        wanted = [*reading, *((keys.DRILL_ACTIVE, keys.drill(name)) if name is not None else ())]
        with suppress(Settled):
            await self._operations.write(author=author, reason=reason, prepare=prepare, reading=wanted)

    async def _record(self, name: str) -> tuple[Drill, int]:
        """As it stands in etcd, and its mod revision. Raises NotKept."""
        item, _ = await self._store.get(keys.drill(name))
        drill = drill_of(item)
        if item is None or drill is None:
            raise no_drill(name)
        return drill, item.mod_revision

    async def _underway(self) -> Drill | None:
        """The one that waits or runs."""
        active = holder_of((await self._store.get(keys.DRILL_ACTIVE))[0])
        return drill_of((await self._store.get(keys.drill(active)))[0]) if active is not None else None

    def _check_free(self, stand: Stand, stale: Sequence[str]) -> None:
        """Raises Unfit while another waits or runs, by its claim or by its record alone."""
        active = holder_of(stand.records.get(keys.DRILL_ACTIVE))
        if active is not None:
            raise Unfit(named(active, self._shelf))
        for name in stale:
            drill = drill_of(stand.records.get(keys.drill(name)))
            if drill is not None and not drill.over:
                raise Unfit(
                    f"drill {name!r} ({drill.spec.drill}) has lost its runner and is being ended: try again in a moment"
                )
        if len(self._shelf.drills) >= MAX_DRILLS:
            raise Unfit(f"{MAX_DRILLS} drills are on record: the leader tidies them away within a minute")

    async def _renewed(self, name: str) -> int | None:
        """The lease that holds the claim, renewed; None when nobody holds one any more. Raises Unfit when
        another drill has begun since."""
        active, _ = await self._store.get(keys.DRILL_ACTIVE)
        holder = holder_of(active)
        if active is None or holder is None:
            return None
        if holder != name:
            raise Unfit(f"drill {name!r} lost its claim, and {named(holder, self._shelf)}")
        return active.lease if await self._store.keep_alive(active.lease) > 0 else None

    async def _claimed_anew(self, name: str, revision: int) -> bool:
        """Hold the claim again, after an outage in which nobody could renew it; False when it, or the
        record of `revision`, has changed meanwhile."""
        lease = await self._store.grant(CLAIM_TTL_S)
        held = False
        try:
            compares = [Compare(keys.DRILL_ACTIVE, "create", 0), Compare(keys.drill(name), "mod", revision)]
            puts = [Put(keys.DRILL_ACTIVE, name.encode(), lease)]
            held = (await self._store.commit(compares, puts)).succeeded
        finally:
            if not held:
                await self._release(lease)
        log.info("a runner came back after its claim had lapsed", drill=name, held=held)
        return held

    async def _release(self, lease: int) -> None:
        """A lease that nobody needs; it runs out by itself where etcd does not answer."""
        with suppress(PortError):
            await self._store.revoke(lease)
