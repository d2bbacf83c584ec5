"""`/v1/overrides`: drain, pin, weights, freeze; each with an author, a reason and an end."""

from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Path, Query, Request, Response

from control_plane.api.bodies import Word, json_body, json_only, strictly
from control_plane.api.problems import ApiError, describe, written
from control_plane.ports import Answers
from shared.vocabulary.base import Id, Message
from shared.vocabulary.override import Override, OverrideRequest


class OverrideReport(Override):
    """An override, and how it stands by this replica's clock."""

    state: Literal["IN_FORCE", "EXPIRED", "LIFTED"]
    remaining_s: float
    """0 when it is over."""
    warnings: tuple[str, ...] = ()
    """What its giver should know; with the answer to POST only."""


class OverrideList(Message):
    """`GET /v1/overrides`."""

    overrides: tuple[OverrideReport, ...]


def overrides(answers: Answers) -> APIRouter:
    """What operators order against the automatic course."""
    router = APIRouter(prefix="/v1/overrides", tags=["overrides"])

    @router.get("", summary="The overrides in force")
    async def listed(
        every: Annotated[bool, Query(alias="all", description="Those that are over, too.")] = False,
    ) -> OverrideList:
        """The newest first. What is over stays on record for an hour."""
        now, known = answers.overrides.on_record()
        newest_first = sorted(known, key=lambda each: each.n, reverse=True)
        return OverrideList(
            overrides=tuple(_report(each, now) for each in newest_first if every or each.holds(now))
        )

    @router.get("/{name}", summary="One override", responses=describe(404))
    async def one(name: Annotated[Id, Path(examples=["drain-17"])]) -> OverrideReport:
        """Who gave it, why, until when; and who lifted it."""
        now, known = answers.overrides.on_record()
        for override in known:
            if override.id == name:
                return _report(override, now)
        raise ApiError(404, f"no override {name!r} is on record")

    @router.post(
        "",
        status_code=201,
        summary="Give an override",
        dependencies=[Depends(json_only)],
        openapi_extra=json_body(OverrideRequest),
        responses=describe(409, 503),
    )
    async def give(request: Request, response: Response) -> OverrideReport:
        """409 when it names what is not there, says what another says already, or drains the last
        target that answers for some route and client region; the last of these may be forced. It is
        in force once a decision carries it, a moment later."""
        order = await strictly(OverrideRequest, request)
        given = await written(answers.overrides.give(order))
        response.headers["location"] = f"/v1/overrides/{given.override.id}"
        now, _ = answers.overrides.on_record()
        return _report(given.override, now, given.warnings)

    @router.delete(
        "/{name}",
        summary="Lift an override before its time",
        dependencies=[Depends(json_only)],
        openapi_extra=json_body(Word),
        responses=describe(404, 503),
    )
    async def lift(name: Annotated[Id, Path(examples=["drain-17"])], request: Request) -> OverrideReport:
        """Who and why go into the audit and into the decision that follows. What is over already stays
        as it is, so it may be asked twice."""
        word = await strictly(Word, request)
        lifted = await written(answers.overrides.lift(name, author=word.author, reason=word.reason))
        now, _ = answers.overrides.on_record()
        return _report(lifted, now)

    return router


def _report(override: Override, now: datetime, warnings: tuple[str, ...] = ()) -> OverrideReport:
    holds = override.holds(now)
    return OverrideReport(
        **dict(override),
        state="IN_FORCE" if holds else "EXPIRED" if override.ended is None else "LIFTED",
        remaining_s=round((override.expires_at - now).total_seconds(), 3) if holds else 0.0,
        warnings=warnings,
    )
