"""A target's error reaches the client in its own envelope: the message always, type and code as far as it can say."""

import json
from typing import Any

import pytest
from anthropic.types import ErrorResponse
from openai.types.responses import ResponseErrorEvent

from edge_router.core.dialects.failures import MAX_MESSAGE, Envelope, status_of, write_event
from edge_router.core.dialects.neutral import Failure
from edge_router.core.endpoints import Kind
from shared.vocabulary.terms import Dialect
from tests.support.dialect_samples import PAIRS, least, translated

UNTYPED = frozenset({"request_too_large", "conflict_error"})
"""In the documentation ("Errors"), and not among the SDK's classes."""
STATUSES = [400, 401, 403, 404, 409, 413, 418, 422, 429, 500, 502, 503, 504, 529]


def envelope(dialect: Dialect, message: str) -> bytes:
    if dialect is Dialect.OPENAI:
        error = {"message": message, "type": "their_type", "param": "x", "code": "their_code"}
        return json.dumps({"error": error}).encode()
    if dialect is Dialect.ANTHROPIC:
        error = {"type": "their_type", "message": message}
        return json.dumps({"type": "error", "error": error, "request_id": "r"}).encode()
    return json.dumps({"error": {"code": 400, "message": message, "status": "THEIR_TYPE"}}).encode()


def told(kind: Kind, body: bytes) -> tuple[str, str, str | None]:
    """Message, type and code, as the client's SDK finds them."""
    said = json.loads(body)
    error: dict[str, Any] = said["error"]
    if kind is Kind.MESSAGES:
        if error["type"] not in UNTYPED:
            ErrorResponse.model_validate({**said, "request_id": None})
        return error["message"], error["type"], None
    if kind is Kind.GEMINI:
        assert isinstance(error["code"], int)
        return error["message"], error["status"], None
    assert set(error) == {"message", "type", "param", "code"}
    return error["message"], error["type"], error["code"]


@pytest.mark.parametrize(("kind", "dialect"), PAIRS)
@pytest.mark.parametrize("status", STATUSES)
def test_an_error_in_every_pair(kind: Kind, dialect: Dialect, status: int) -> None:
    given = translated(kind, least(kind), dialect).error(status, envelope(dialect, "no such thing: ü"))
    message, name, code = told(kind, given)
    assert message == "no such thing: ü"
    assert name
    if kind in (Kind.CHAT, Kind.RESPONSES):
        assert code == {Dialect.ANTHROPIC: "their_type", Dialect.GEMINI: "THEIR_TYPE"}[dialect]
    if kind is Kind.GEMINI:
        assert json.loads(given)["error"]["code"] == status


TYPES = {
    Kind.CHAT: {
        400: "invalid_request_error",
        401: "authentication_error",
        429: "rate_limit_error",
        529: "server_error",
    },
    Kind.MESSAGES: {
        400: "invalid_request_error",
        404: "not_found_error",
        413: "request_too_large",
        418: "invalid_request_error",
        429: "rate_limit_error",
        500: "api_error",
        502: "api_error",
        503: "overloaded_error",
        504: "timeout_error",
    },
    Kind.GEMINI: {
        400: "INVALID_ARGUMENT",
        403: "PERMISSION_DENIED",
        422: "INVALID_ARGUMENT",
        429: "RESOURCE_EXHAUSTED",
        500: "INTERNAL",
        502: "INTERNAL",
        529: "UNAVAILABLE",
    },
}


@pytest.mark.parametrize(
    ("kind", "status"), [(kind, status) for kind, types in TYPES.items() for status in types]
)
def test_the_type_goes_by_the_status(kind: Kind, status: int) -> None:
    """Which is what the dialects share."""
    dialect = next(other for one, other in PAIRS if one is kind)
    given = translated(kind, least(kind), dialect).error(status, envelope(dialect, "x"))
    assert told(kind, given)[1] == TYPES[kind][status]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"<html>Bad gateway</html>", "the target answered with status 502"),
        (b"", "the target answered with status 502"),
        (b"\xff", "the target answered with status 502"),
        (b"[]", "the target answered with status 502"),
        (b'{"error": {"code": 1}}', "the target answered with status 502"),
        (b'{"error": "plain words"}', "plain words"),
        (b'{"message": "bare"}', "bare"),
        (b'[{"error": {"message": "in a list", "status": "INTERNAL"}}]', "in a list"),
    ],
)
def test_an_error_in_no_envelope_is_told_by_its_status(body: bytes, message: str) -> None:
    """What cannot be read is not passed on: it may be anything."""
    given = translated(Kind.CHAT, least(Kind.CHAT), Dialect.GEMINI).error(502, body)
    assert told(Kind.CHAT, given)[0] == message


def test_a_message_has_a_bound() -> None:
    given = translated(Kind.CHAT, least(Kind.CHAT), Dialect.GEMINI).error(
        500, envelope(Dialect.GEMINI, "x" * 9999)
    )
    assert len(told(Kind.CHAT, given)[0]) == MAX_MESSAGE


@pytest.mark.parametrize(
    ("failure", "status"),
    [
        (Failure("overloaded_error", "x"), 503),
        (Failure("rate_limit_error", "x"), 429),
        (Failure("invalid_request_error", "x"), 400),
        (Failure("api_error", "x"), 500),
        (Failure("UNAVAILABLE", "x", "503"), 503),
        (Failure("RESOURCE_EXHAUSTED", "x", "429"), 429),
        (Failure("server_error", "x"), 500),
        (Failure("", "x", "insufficient_quota"), 429),
        (Failure("", "x", "99999999999999"), 500),
        (Failure("never_heard_of", "x"), 500),
    ],
)
def test_an_error_in_band_has_the_status_of_its_type(failure: Failure, status: int) -> None:
    assert status_of(failure) == status


def test_events_of_errors_are_as_the_sdks_take_them() -> None:
    failure = Failure("overloaded_error", "busy")
    name, data = write_event(Envelope.RESPONSES, failure, 7).decode().strip().split("\n")
    assert name == "event: error"
    event = ResponseErrorEvent.model_validate_json(data.removeprefix("data: "))
    assert (event.code, event.message, event.sequence_number) == ("overloaded_error", "busy", 7)
    said = json.loads(write_event(Envelope.ANTHROPIC, failure).decode().split("data: ")[1])
    assert said == {"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}
    said = json.loads(write_event(Envelope.GEMINI, failure).decode().removeprefix("data: "))
    assert said == {"error": {"code": 503, "message": "busy", "status": "UNAVAILABLE"}}
