"""Every error of the API as RFC 9457 problem details: `application/problem+json`."""

import re
from collections.abc import Awaitable, Mapping
from http import HTTPStatus
from typing import Any, TypeVar

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from control_plane.core.backup import Damaged
from control_plane.ports import Busy, NotKept, Objected, Stale, TooLarge, Unfit
from shared.log import get_logger
from shared.ports import PortError, Refused

log = get_logger(__name__)

Answer = TypeVar("Answer")
MEDIA_TYPE = "application/problem+json"
MAX_FAULTS = 20
SOON = {"retry-after": "1"}


class Fault(BaseModel):
    """One thing wrong with a request."""

    where: str
    """`path.version`, `body.edge` …"""
    what: str


class Problem(BaseModel):
    """RFC 9457, section 3.1. `type` is always `about:blank`, so `title` is the status in words."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str | None = None
    instance: str | None = None
    faults: list[Fault] | None = None


class ApiError(Exception):
    """An answer that is a problem."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        faults: list[Fault] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = headers
        self.faults = faults


def problem(
    status: int,
    detail: str | None,
    *,
    instance: str | None = None,
    headers: Mapping[str, str] | None = None,
    faults: list[Fault] | None = None,
) -> Response:
    """The response."""
    body = Problem(
        title=HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        instance=instance,
        faults=faults,
    )
    return Response(
        body.model_dump_json(exclude_none=True), status_code=status, headers=headers, media_type=MEDIA_TYPE
    )


def install(app: FastAPI) -> None:
    """Give every way to fail its problem."""

    async def api_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, ApiError)
        return problem(
            error.status,
            error.detail,
            instance=request.url.path,
            headers=error.headers,
            faults=error.faults,
        )

    async def http_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        detail = None if error.detail == HTTPStatus(error.status_code).phrase else str(error.detail)
        headers = error.headers
        if error.status_code == 405 and (methods := _methods(app, request.url.path)):
            headers = {"allow": ", ".join(methods)}
        return problem(error.status_code, detail, instance=request.url.path, headers=headers)

    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        faults = [
            Fault(where=".".join(str(part) for part in fault["loc"]), what=fault["msg"])
            for fault in error.errors()[:MAX_FAULTS]
        ]
        return problem(422, "the request is not valid", instance=request.url.path, faults=faults)

    async def unexpected(request: Request, error: Exception) -> Response:
        return problem(500, "an error on our side; it is in the log", instance=request.url.path)

    app.add_exception_handler(ApiError, api_error)
    app.add_exception_handler(HTTPException, http_error)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(Exception, unexpected)


def _methods(app: FastAPI, path: str) -> list[str]:
    """Every method of the resource (RFC 9110, section 10.2.1): the router itself names those of one
    operation alone."""
    described: Mapping[str, Mapping[str, Any]] = app.openapi()["paths"]
    return sorted(
        method.upper()
        for template, operations in described.items()
        if re.fullmatch(re.sub(r"\{[^}]+\}", "[^/]+", template), path)
        for method in operations
    )


def describe(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """`responses` of an operation: these statuses are problems."""
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"description": HTTPStatus(status).phrase, "content": content} for status in statuses}


async def written(write: Awaitable[Answer], *, look: str = "GET /v1/audit", undone: str = "") -> Answer:
    """The outcome of an operator's write, its failures as ApiError.

    404 NotKept, 409 Unfit and Objected, 412 Stale, 413 TooLarge, 422 Damaged, 503 Busy and PortError;
    of 503 for PortError alone the outcome is unknown, and `look` says where it will be seen. `undone`
    opens the words of every other: `nothing was restored`.
    """
    try:
        return await write
    except Objected as objected:
        findings = objected.judgement.objections
        raise ApiError(
            409,
            _after(undone, "refused unless forced: " + "; ".join(finding.what for finding in findings)),
            faults=[Fault(where=finding.where, what=finding.what) for finding in findings],
        ) from None
    except (NotKept, Unfit, Stale, TooLarge, Damaged) as error:
        raise ApiError(_status(error), _after(undone, str(error))) from None
    except Busy as busy:
        raise ApiError(503, _after(undone, str(busy)), headers=SOON) from None
    except PortError as error:
        log.warning("an operator's write did not reach etcd", error=repr(error))
        raise ApiError(
            503, f"{etcd_silent(error)}; {look} will tell whether it was done", headers=SOON
        ) from None


def etcd_silent(error: PortError) -> str:
    """In the operator's words: what a client library said of it stands in the log."""
    return f"etcd refuses this replica ({error})" if isinstance(error, Refused) else "etcd does not answer"


def _status(error: Exception) -> int:
    for kind, status in ((NotKept, 404), (Unfit, 409), (Stale, 412), (TooLarge, 413)):
        if isinstance(error, kind):
            return status
    return 422


def _after(undone: str, said: str) -> str:
    return f"{undone}: {said}" if undone else said
