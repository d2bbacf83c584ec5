"""The edge's own answers: errors in each dialect's envelope, whole or as the last event of a broken stream.

Shapes as the official SDKs parse them: OpenAI "Error codes", Anthropic "Errors", RFC 9457 for plain HTTP.
"""

from collections.abc import Mapping
from enum import Enum
from typing import Final, NamedTuple

import msgspec

from edge_router.core.endpoints import Kind
from edge_router.core.wire import status_line_of
from shared.vocabulary.terms import Dialect


class _Shape(NamedTuple):
    status: int
    code: str
    openai_type: str
    anthropic_type: str


class Refusal(Enum):
    """Why the edge answers in a target's place."""

    MALFORMED = _Shape(400, "malformed_request", "invalid_request_error", "invalid_request_error")
    BAD_BODY = _Shape(400, "invalid_body", "invalid_request_error", "invalid_request_error")
    NO_KEY = _Shape(401, "invalid_api_key", "invalid_request_error", "authentication_error")
    KEY_WITHOUT_ROUTE = _Shape(403, "model_not_allowed", "permission_error", "permission_error")
    NO_MODEL = _Shape(404, "model_not_found", "invalid_request_error", "not_found_error")
    NO_PATH = _Shape(404, "unknown_url", "invalid_request_error", "not_found_error")
    WRONG_METHOD = _Shape(405, "method_not_allowed", "invalid_request_error", "invalid_request_error")
    TOO_SLOW = _Shape(408, "request_timeout", "invalid_request_error", "invalid_request_error")
    TOO_LARGE = _Shape(413, "request_too_large", "invalid_request_error", "request_too_large")
    EXPECTATION = _Shape(417, "expectation_failed", "invalid_request_error", "invalid_request_error")
    FIELDS_TOO_LARGE = _Shape(431, "headers_too_large", "invalid_request_error", "invalid_request_error")
    UPSTREAM = _Shape(502, "upstream_failed", "server_error", "api_error")
    FULL = _Shape(503, "at_capacity", "server_error", "overloaded_error")
    SHED = _Shape(503, "shed", "server_error", "overloaded_error")
    NO_TARGET = _Shape(503, "no_target", "server_error", "overloaded_error")
    OVERLOADED = _Shape(503, "edge_overloaded", "server_error", "overloaded_error")
    TIMEOUT = _Shape(504, "upstream_timeout", "server_error", "timeout_error")
    NOT_STORED = _Shape(504, "not_stored", "server_error", "timeout_error")
    VERSION = _Shape(505, "http_version", "invalid_request_error", "invalid_request_error")

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self.value.status

    @property
    def code(self) -> str:
        """The machine-readable reason."""
        return self.value.code


_BY_STATUS: Final[Mapping[int, Refusal]] = {
    408: Refusal.TOO_SLOW,
    413: Refusal.TOO_LARGE,
    417: Refusal.EXPECTATION,
    431: Refusal.FIELDS_TOO_LARGE,
    505: Refusal.VERSION,
}
RETRY_AFTER_S: Final = 1
"""Of 503: capacity frees up, and a decision changes, within about a second."""


def refusal_of(status: int) -> Refusal:
    """The refusal of a malformed message, by the status it was found to deserve."""
    return _BY_STATUS.get(status, Refusal.MALFORMED)


def refuse(
    refusal: Refusal,
    message: str,
    dialect: Dialect,
    *,
    fields: bytes = b"",
    close: bool = False,
    head_only: bool = False,
) -> bytes:
    """A whole answer. `fields` are further header lines."""
    body = _error_body(refusal, message, dialect)
    kind = b"application/problem+json" if dialect is Dialect.HTTP else b"application/json"
    if refusal.status == 503 and b"retry-after:" not in fields:
        fields += b"retry-after: %d\r\n" % RETRY_AFTER_S
    return b"%bcontent-type: %b\r\ncontent-length: %d\r\n%b%b\r\n%b" % (
        status_line_of(refusal.status),
        kind,
        len(body),
        fields,
        b"connection: close\r\n" if close else b"",
        b"" if head_only else body,
    )


def last_event(kind: Kind, code: str, message: str) -> bytes:
    """The in-band error with which a broken stream ends; the blank line before it closes whatever
    event was under way."""
    if kind is Kind.MESSAGES:
        error = {"type": "error", "error": {"type": "api_error", "message": message}}
        return b"event: error\ndata: %b\n\n" % msgspec.json.encode(error)
    if kind is Kind.RESPONSES:
        # Typed as the API documents it; and with `error`, for that is what the official SDKs raise on.
        failure = {"type": "server_error", "code": code, "message": message, "param": None}
        failed = {"type": "error", "code": code, "message": message, "param": None, "error": failure}
        return b"event: error\ndata: %b\n\n" % msgspec.json.encode(failed)
    wrapped = {"error": {"message": message, "type": "server_error", "param": None, "code": code}}
    return b"data: %b\n\n" % msgspec.json.encode(wrapped)


def _error_body(refusal: Refusal, message: str, dialect: Dialect) -> bytes:
    shape: _Shape = refusal.value
    if dialect is Dialect.ANTHROPIC:
        return msgspec.json.encode(
            {"type": "error", "error": {"type": shape.anthropic_type, "message": message}}
        )
    if dialect is Dialect.HTTP:
        return msgspec.json.encode({"title": shape.code, "status": shape.status, "detail": message})
    error = {"message": message, "type": shape.openai_type, "param": None, "code": shape.code}
    return msgspec.json.encode({"error": error})
