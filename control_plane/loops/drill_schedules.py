"""Writes that put a drill's schedule on record, or off it."""

from datetime import datetime

from control_plane.core.drills import misfits
from control_plane.loops.drill_records import Settled, schedule_in
from control_plane.loops.drill_shelf import MAX_SCHEDULES, DrillShelf
from control_plane.loops.operations import Prepare, Stand, Write
from control_plane.ports import NotKept, Unfit
from shared import keys
from shared.vocabulary.drill import DrillSchedule, DrillSpec
from shared.vocabulary.drill_list import ScheduleOrder


def adding(
    order: ScheduleOrder, spec: DrillSpec, shelf: DrillShelf, now: datetime, made: list[DrillSchedule]
) -> Prepare:
    """The write of a schedule, which `made` then holds; `spec` is what it asks for. It raises Unfit, and
    Settled when the same stands already."""

    def prepare(stand: Stand) -> Write:
        if order.request.runner is not None:
            raise Unfit("a schedule's drill is taken by whichever runner is there: leave out request.runner")
        standing = schedule_in(stand, order.id)
        if standing is not None:
            made[:] = [standing]
            if (standing.cron, standing.request) == (order.cron, order.request):
                raise Settled
            raise Unfit(f"schedule {order.id!r} exists and says something else: remove it first")
        if len(shelf.schedules) >= MAX_SCHEDULES:
            raise Unfit(f"{MAX_SCHEDULES} schedules are on record: remove some")
        if stand.config is not None and (reasons := misfits(spec, stand.config.fleet)):
            raise Unfit(*reasons)
        made[:] = [DrillSchedule(id=order.id, cron=order.cron, request=order.request, created_at=now)]
        return Write(
            action="drill.schedule",
            subject=order.id,
            values={"cron": order.cron, "drill": spec.drill, "region": spec.region},
            puts={keys.drill_schedule(order.id): made[0].canonical()},
        )

    return prepare


def removing(name: str) -> Prepare:
    """The write that drops a schedule. It raises NotKept."""

    def prepare(stand: Stand) -> Write:
        standing = schedule_in(stand, name)
        if standing is None:
            raise NotKept(f"no schedule {name!r} is on record")
        return Write(
            action="drill.unschedule",
            subject=name,
            values={"cron": standing.cron, "ordered_by": standing.request.author},
            deletes=(keys.drill_schedule(name),),
        )

    return prepare
