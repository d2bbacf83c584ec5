"""Every error of the API as RFC 9457 problem details: `application/problem+json`."""

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic import BaseModel
from starlette.exceptions import HTTPException

MEDIA_TYPE = "application/problem+json"
MAX_FAULTS = 20


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

    def __init__(self, status: int, detail: str, *, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = headers


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
        return problem(error.status, error.detail, instance=request.url.path, headers=error.headers)

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
