"""`/v1/drills`: failures rehearsed, one at a time; asked for by anybody, run by a runner elsewhere.

A report page is HTML that a runner has sent, so it is shown as a stranger's: sandboxed into an origin of
its own, from which it can neither read this API nor ask it for a change.
"""

from collections.abc import Awaitable
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel

from control_plane.api.bodies import Model, Word, json_body, json_only, strictly
from control_plane.api.problems import SOON, Answer, ApiError, describe, etcd_silent, written
from control_plane.core import cron
from control_plane.core.drills import blocked
from control_plane.ports import Answers, NotKept
from control_plane.ports_drills import DrillsKnown
from shared.ports import PortError
from shared.vocabulary.base import Id, canonical_json
from shared.vocabulary.drill import Drill, DrillEnd, DrillRequest, DrillSchedule, RunnerWord
from shared.vocabulary.drill_list import (
    DrillBrief,
    DrillCatalogue,
    DrillClaim,
    DrillList,
    ScheduleList,
    ScheduleOrder,
    ScheduleReport,
)

MAX_LISTED = 200
MAX_WORD_BYTES = 1024 * 1024
MAX_END_BYTES = 6 * 1024 * 1024
"""A report page of a million characters, escaped, and the report."""
BODIES: tuple[type[BaseModel], ...] = (DrillRequest, DrillClaim, RunnerWord, DrillEnd, ScheduleOrder)
PAGE_POLICY = (
    "sandbox; default-src 'none'; style-src 'unsafe-inline'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)
"""Without `allow-same-origin` its origin is opaque: `Guard` refuses its writes, and no answer is read by it.
Nothing is fetched from anywhere; what it shows is in it."""
NameInPath = Annotated[Id, Path(examples=["drill-23"])]


def drills(answers: Answers) -> APIRouter:
    """On record, and how they go."""
    router = APIRouter(prefix="/v1/drills", tags=["drills"])

    @router.get("", summary="The drills on record")
    async def listed(limit: Annotated[int, Query(ge=1, le=MAX_LISTED)] = MAX_LISTED) -> DrillList:
        """In brief, the newest first; whether one may begin now; and the schedules. The last 50 that are
        over are kept."""
        known = answers.drills.known()
        return DrillList(
            enabled=known.policy.enabled,
            blocked=blocked(known.policy, known.at),
            active=known.active,
            drills=tuple(DrillBrief.of(drill) for drill in known.drills[:limit]),
            schedules=_schedules(known),
        )

    @router.get("/catalogue", summary="The built-in drills")
    async def catalogue() -> DrillCatalogue:
        """Each as its YAML file says it. Others are given whole, as `spec`."""
        return DrillCatalogue(drills=tuple(answers.drills.catalogue.values()))

    @router.post(
        "",
        status_code=201,
        summary="Ask for a drill",
        dependencies=[Depends(json_only)],
        openapi_extra=json_body(DrillRequest),
        responses=describe(409, 413, 503),
    )
    async def request_one(request: Request, response: Response) -> Drill:
        """A built-in by its name, or a whole spec. Without `runner` it waits, DUE, for one, 60 s at most.
        409 while another waits or runs, in a blocked window, with the master switch off, where it names
        what is not there, or would leave too few regions with a target that answers. The same request
        of the same runner gives the same drill again."""
        order = await _taken(DrillRequest, request)
        drill = await written(answers.drills.request(order))
        response.headers["location"] = f"/v1/drills/{drill.id}"
        return drill

    return router


def schedules(answers: Answers) -> APIRouter:
    """Drills that come due by themselves."""
    router = APIRouter(prefix="/v1/drills/schedules", tags=["drills"])

    @router.get("", summary="The schedules of drills")
    async def listed() -> ScheduleList:
        """By name, each with its next time, and what became of its last."""
        return ScheduleList(schedules=_schedules(answers.drills.known()))

    @router.post(
        "",
        status_code=201,
        summary="Schedule a drill",
        dependencies=[Depends(json_only)],
        openapi_extra=json_body(ScheduleOrder),
        responses=describe(409, 413, 503),
    )
    async def add(request: Request) -> DrillSchedule:
        """By a cron expression of five fields, in UTC. At each of its times the leader asks for the drill
        as anybody may; where it may not begin, that time is passed over, and the schedule says why."""
        order = await _taken(ScheduleOrder, request)
        if (wrong := cron.fault(order.cron)) is not None:
            raise _invalid(("body", "cron"), wrong)
        return await written(answers.drills.schedule(order))

    @router.delete(
        "/{name}",
        status_code=204,
        summary="Remove a schedule",
        dependencies=[Depends(json_only)],
        openapi_extra=json_body(Word),
        responses=describe(404, 503),
    )
    async def remove(name: Annotated[Id, Path(examples=["weekly"])], request: Request) -> Response:
        """A drill that it has asked for already goes on."""
        word = await strictly(Word, request)
        await written(answers.drills.unschedule(name, author=word.author, reason=word.reason))
        return Response(status_code=204)

    return router


def one_drill(answers: Answers) -> APIRouter:
    """One drill: its record, its runner's words, its end."""
    router = APIRouter(prefix="/v1/drills", tags=["drills"])

    @router.get("/{name}", summary="One drill", responses=describe(404, 503))
    async def one(name: NameInPath) -> Drill:
        """Its spec, every injection, the timeline so far, and in the end the report."""
        return await _read(answers.drills.one(name))

    @router.get(
        "/{name}/report",
        summary="The report of a drill, as a page",
        response_class=Response,
        responses={
            200: {"description": "One self-contained page", "content": {"text/html": {}}},
            **describe(404, 503),
        },
    )
    async def report(name: NameInPath) -> Response:
        """Of a drill that is over and whose runner has sent one. Its figures as JSON are in the drill."""
        return Response(
            await _read(answers.drills.page(name)),
            media_type="text/html; charset=utf-8",
            headers={
                "content-security-policy": PAGE_POLICY,
                "x-content-type-options": "nosniff",
                "referrer-policy": "no-referrer",
                "cross-origin-resource-policy": "same-origin",
                "cache-control": "private, max-age=60",
            },
        )

    return router


def running(answers: Answers) -> APIRouter:
    """What a drill's runner says, and what stops it."""
    router = APIRouter(prefix="/v1/drills", tags=["drills"])

    @router.post(
        "/{name}/claim",
        summary="Take a drill to run it",
        dependencies=[Depends(json_only)],
        openapi_extra=json_body(DrillClaim),
        responses=describe(404, 409, 503),
    )
    async def claim(name: NameInPath, request: Request) -> Drill:
        """One that is DUE, and none that waits for more than 60 s. From then on its runner must tell of it
        at least once a minute, or it is given up. Again by the same runner is no error."""
        taken = await strictly(DrillClaim, request)
        return await written(answers.drills.claim(name, taken.runner))

    @router.put(
        "/{name}/progress",
        summary="Its runner tells how it goes",
        dependencies=[Depends(json_only)],
        openapi_extra=json_body(RunnerWord),
        responses=describe(404, 409, 503),
    )
    async def progress(name: NameInPath, request: Request) -> Drill:
        """Renews the claim for 60 s. What is told replaces what was told before. A runner ends the drill
        and undoes everything when the answer has `stop`, is over, or is 404 or 409."""
        word = await _taken(RunnerWord, request, limit=MAX_WORD_BYTES)
        return await written(answers.drills.progress(name, word), look=f"GET /v1/drills/{name}")

    @router.post(
        "/{name}/finish",
        summary="Its runner puts its end and report on record",
        dependencies=[Depends(json_only)],
        openapi_extra=json_body(DrillEnd),
        responses=describe(404, 409, 503),
    )
    async def finish(name: NameInPath, request: Request) -> Drill:
        """The drill then is what the report says: PASSED, FAILED, ABORTED. The same again is no error."""
        end = await _taken(DrillEnd, request, limit=MAX_END_BYTES)
        return await written(answers.drills.finish(name, end))

    @router.post(
        "/{name}/abort",
        summary="End a drill before its time",
        dependencies=[Depends(json_only)],
        openapi_extra=json_body(Word),
        responses=describe(404, 409, 503),
    )
    async def abort(name: NameInPath, request: Request) -> Drill:
        """One that is DUE ends at once. To one that is RUNNING `stop` is added: its runner undoes everything
        and ends it a moment later; were the runner dead, the faults end by themselves, and the drill
        within 70 s. Again is no error."""
        word = await strictly(Word, request)
        return await written(answers.drills.abort(name, author=word.author, reason=word.reason))

    return router


def _schedules(known: DrillsKnown) -> tuple[ScheduleReport, ...]:
    return tuple(
        ScheduleReport(schedule=each, next_at=cron.next_after(each.cron, known.at))
        for each in known.schedules
        if cron.fault(each.cron) is None
    )


async def _taken(model: type[Model], request: Request, **limits: int) -> Model:
    """As `strictly`; and every number in it is one that JSON has."""
    taken = await strictly(model, request, **limits)
    try:
        canonical_json(taken.model_dump(mode="json"))
    except ValueError:
        raise _invalid(("body",), "a number is infinite, or not a number") from None
    return taken


def _invalid(where: tuple[str, ...], what: str) -> RequestValidationError:
    return RequestValidationError([{"type": "value_error", "loc": where, "msg": what}])


async def _read(found: Awaitable[Answer]) -> Answer:
    """What is read from memory, or else from etcd."""
    try:
        return await found
    except NotKept as gone:
        raise ApiError(404, str(gone)) from None
    except PortError as error:
        raise ApiError(503, etcd_silent(error), headers=SOON) from None
