"""Errors: each dialect's envelope, read into a Failure and written from one, in place of an answer or in-band.

Sources: OpenAI "Error codes", Anthropic "Errors", Gemini "Troubleshooting guide" and google.rpc.Code. A status is
what the dialects share, so a type is translated by the status that goes with it; the target's own type is kept as
the code where the client's envelope has one.
"""

from collections.abc import Mapping
from enum import Enum
from typing import Any, Final

import msgspec

from edge_router.core.decoding import UNREADABLE
from edge_router.core.dialects.neutral import Failure


class Envelope(Enum):
    """Whose."""

    OPENAI = "openai"
    RESPONSES = "responses"
    ANTHROPIC = "anthropic"
    GEMINI = "gemini"


OPENAI_TYPES: Final[Mapping[int, str]] = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    408: "invalid_request_error",
    409: "conflict_error",
    413: "invalid_request_error",
    422: "invalid_request_error",
    429: "rate_limit_error",
    500: "server_error",
    503: "server_error",
    504: "server_error",
    529: "server_error",
}
ANTHROPIC_TYPES: Final[Mapping[int, str]] = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}
GEMINI_STATUSES: Final[Mapping[int, str]] = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ABORTED",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
    529: "UNAVAILABLE",
}
STATUSES: Final[Mapping[str, int]] = {
    # Read backwards where several statuses share a type: the one that says most.
    **{name: status for status, name in reversed(list(GEMINI_STATUSES.items()))},
    **{name: status for status, name in reversed(list(OPENAI_TYPES.items()))},
    **{name: status for status, name in reversed(list(ANTHROPIC_TYPES.items()))},
    "FAILED_PRECONDITION": 400,
    "OUT_OF_RANGE": 400,
    "insufficient_quota": 429,
    "rate_limit_exceeded": 429,
    "overloaded_error": 503,
    "UNAVAILABLE": 503,
}
"""Of an in-band error, which has none of its own: by its type."""

MAX_MESSAGE: Final = 4096


def read_failure(body: bytes) -> Failure | None:
    """The error that `body` tells, in any of the envelopes; None where it tells none."""
    try:
        told = msgspec.json.decode(body)
    except UNREADABLE:
        return None
    if isinstance(told, list) and told:
        told = told[0]  # Gemini, streamed without server-sent events
    return failure_of(told.get("error", told)) if isinstance(told, dict) else None


def failure_of(error: Any) -> Failure | None:
    """The object under `error`, whoever wrote it."""
    if isinstance(error, str):
        return Failure("", error[:MAX_MESSAGE])
    if not isinstance(error, dict):
        return None
    message = error.get("message")
    if not isinstance(message, str):
        return None
    name = error.get("status") or error.get("type")
    code = error.get("code")
    return Failure(
        name if isinstance(name, str) and name != "error" else "",
        message[:MAX_MESSAGE],
        str(code) if isinstance(code, str | int) and not isinstance(code, bool) else None,
    )


def write_failure(envelope: Envelope, status: int, failure: Failure) -> bytes:
    """An error in place of an answer."""
    return msgspec.json.encode(_document(envelope, status, failure))


def write_event(envelope: Envelope, failure: Failure, sequence: int = 0) -> bytes:
    """An error within a stream: its last event. `sequence` is its number, where events are numbered."""
    status = status_of(failure)
    if envelope is Envelope.ANTHROPIC:
        return b"event: error\ndata: %b\n\n" % write_failure(envelope, status, failure)
    if envelope is Envelope.RESPONSES:
        told = {"type": "error", "code": _code(failure), "message": failure.message, "param": None}
        return b"event: error\ndata: %b\n\n" % msgspec.json.encode({**told, "sequence_number": sequence})
    return b"data: %b\n\n" % write_failure(envelope, status, failure)


def status_of(failure: Failure) -> int:
    """The status that an error would have had in place of an answer."""
    code = failure.code
    if code is not None and code.isdigit() and 400 <= int(code[:4]) < 600:
        return int(code)
    return STATUSES.get(failure.type) or STATUSES.get(code or "") or 500


def _code(failure: Failure) -> str | None:
    """What is left to say besides the type: the target's own code, or type."""
    if failure.code is not None and not failure.code.isdigit():
        return failure.code
    return failure.type or None


def _document(envelope: Envelope, status: int, failure: Failure) -> dict[str, Any]:
    nearest = status if status in OPENAI_TYPES else 500 if status >= 500 else 400
    if envelope is Envelope.ANTHROPIC:
        name = ANTHROPIC_TYPES.get(status) or ANTHROPIC_TYPES.get(nearest, "invalid_request_error")
        return {"type": "error", "error": {"type": name, "message": failure.message}}
    if envelope is Envelope.GEMINI:
        name = GEMINI_STATUSES.get(status) or GEMINI_STATUSES.get(nearest, "INVALID_ARGUMENT")
        return {"error": {"code": status, "message": failure.message, "status": name}}
    name = OPENAI_TYPES[nearest]
    return {"error": {"message": failure.message, "type": name, "param": None, "code": _code(failure)}}
