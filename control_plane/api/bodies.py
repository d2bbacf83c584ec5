"""Request bodies, read by the letter: JSON types are not bent into each other (`true` is no number).

FastAPI validates what `json.loads` made of a body, where strictness would refuse dates and enums too;
so bodies are validated from their bytes here, and described by hand.
"""

import json
from typing import Any, TypeVar

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError

from control_plane.api.problems import ApiError
from shared.vocabulary.base import Message
from shared.vocabulary.override import Author, Words

MAX_BODY_BYTES = 64 * 1024
Model = TypeVar("Model", bound=BaseModel)


class Word(Message):
    """Who begins something or ends it before its time, and why."""

    author: Author
    reason: Words


class ForcibleWord(Word):
    """As `Word`, where it may be refused."""

    forced: bool = False
    """Though nobody who answers were left to the route."""


def json_body(model: type[BaseModel]) -> dict[str, Any]:
    """`openapi_extra` of an operation that takes `model`."""
    schema = {"$ref": f"#/components/schemas/{model.__name__}"}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


async def json_only(request: Request) -> None:
    """A dependency of every change: a form on a hostile page cannot send this media type."""
    if request.headers.get("content-type", "").split(";")[0].strip().lower() != "application/json":
        raise ApiError(415, "changes are application/json")


async def strictly(model: type[Model], request: Request, *, limit: int = MAX_BODY_BYTES) -> Model:
    """The body as `model`, of at most `limit` bytes. Raises RequestValidationError, or ApiError 413."""
    return validated(model, await json_value(request, limit=limit))


async def json_value(request: Request, *, limit: int) -> Any:
    """What the body says, in at most `limit` bytes. Raises RequestValidationError, or ApiError 413."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise ApiError(413, f"bodies are at most {limit} bytes")
    try:
        return json.loads(body, parse_float=_number, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise RequestValidationError(
            [{"type": "json_invalid", "loc": ("body",), "msg": f"not JSON: {error}"}]
        ) from None


def validated(model: type[Model], value: Any) -> Model:
    """`value` as `model`, to the letter. Raises RequestValidationError."""
    try:
        return model.model_validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_context=False, include_input=False)
        raise RequestValidationError(
            [{**fault, "loc": ("body", *fault["loc"])} for fault in faults]
        ) from None


def _number(text: str) -> int | float:
    """JSON knows one kind of number, and JSON Schema calls `3.0` an integer (2020-12, section 6.1.1)."""
    value = float(text)
    return int(value) if value.is_integer() else value


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no JSON")
