"""`/v1/rollouts`: a new target or model takes over by steps."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request, Response

from control_plane.api.bodies import ForcibleWord, Word, json_body, json_only, strictly
from control_plane.api.problems import ApiError, describe, written
from control_plane.ports import Answers
from shared.vocabulary.base import Id, Message, Permille
from shared.vocabulary.rollout import Rollout, RolloutSpec


class RolloutOrder(Word):
    """What `POST /v1/rollouts` takes."""

    spec: RolloutSpec


class RolloutReport(Message):
    """A rollout, what its targets get, and how it fares."""

    rollout: Rollout
    permille: Permille
    """Of their tier's traffic, now."""
    found: str = ""
    """Of a running one, what the leader's last look found; empty on other replicas."""


class RolloutList(Message):
    """`GET /v1/rollouts`."""

    rollouts: tuple[RolloutReport, ...]


def rollouts(answers: Answers) -> APIRouter:
    """Watched, and rolled back by itself when the new is worse."""
    router = APIRouter(prefix="/v1/rollouts", tags=["rollouts"])

    @router.get("", summary="The rollouts on record")
    async def listed() -> RolloutList:
        """Running ones, and ended ones until somebody drops their record."""
        return RolloutList(
            rollouts=tuple(_report(rollout, found) for rollout, found in answers.rollouts.all())
        )

    @router.get("/{name}", summary="One rollout", responses=describe(404))
    async def one(name: Annotated[Id, Path()]) -> RolloutReport:
        """Its steps, where it stands, and what came of it."""
        for rollout, found in answers.rollouts.all():
            if rollout.id == name:
                return _report(rollout, found)
        raise ApiError(404, f"no rollout {name!r}")

    @router.post(
        "",
        status_code=201,
        summary="Start a rollout",
        dependencies=[Depends(json_only)],
        openapi_extra=json_body(RolloutOrder),
        responses=describe(409, 503),
    )
    async def start(request: Request, response: Response) -> RolloutReport:
        """The targets must stand in one tier of the route, beside others."""
        order = await strictly(RolloutOrder, request)
        rollout = await written(answers.rollouts.start(order.spec, author=order.author, reason=order.reason))
        response.headers["location"] = f"/v1/rollouts/{rollout.id}"
        return _report(rollout, "")

    @router.post(
        "/{name}/abort",
        summary="Give the traffic back to the old",
        dependencies=[Depends(json_only)],
        openapi_extra=json_body(ForcibleWord),
        responses=describe(404, 409, 503),
    )
    async def abort(name: Annotated[Id, Path()], request: Request) -> RolloutReport:
        """At once; only while it runs, and only while the old answer, unless `forced`."""
        word = await strictly(ForcibleWord, request)
        aborted = answers.rollouts.abort(name, author=word.author, reason=word.reason, forced=word.forced)
        return _report(await written(aborted), "")

    @router.post(
        "/{name}/end",
        status_code=204,
        summary="Drop the record of an ended rollout",
        dependencies=[Depends(json_only)],
        openapi_extra=json_body(ForcibleWord),
        responses=describe(404, 409, 503),
    )
    async def end(name: Annotated[Id, Path()], request: Request) -> Response:
        """From then on the configuration alone says what the targets get. Refused, unless `forced`, where
        that leaves the route without anybody who answers: a candidate gets nothing by itself."""
        word = await strictly(ForcibleWord, request)
        await written(answers.rollouts.end(name, author=word.author, reason=word.reason, forced=word.forced))
        return Response(status_code=204)

    return router


def _report(rollout: Rollout, found: str) -> RolloutReport:
    return RolloutReport(rollout=rollout, permille=rollout.permille, found=found)
