"""What a provider's error is about, where its status alone does not say.

Read are the errors of model calls with a status in `TOLD_STATUSES`, up to `MAX_ERROR_BYTES`, as JSON. A
documented code or type decides; where a provider has none for a case, the documented beginning of its message does.

    too long    the prompt does not fit this model's context window: a longer one may take it
    no model    the model's name is unknown there. The client's name was good here, so it is the fleet's mistake
    key         the credential is refused: Google says so with 400, and the reason in the details
    quota       the account has no money or no quota left: nothing changes within a minute

Sources: OpenAI "Error codes"; Anthropic "Errors"; Google "Gemini API troubleshooting" and google.rpc.Code, with
QuotaFailure and RetryInfo of google/rpc/error_details.proto; vLLM answers in OpenAI's envelope.
"""

import re
from enum import Enum
from typing import Any, Final, NamedTuple

import msgspec

from edge_router.core.decoding import UNREADABLE

MAX_ERROR_BYTES: Final = 64 * 1024
TOLD_STATUSES: Final = frozenset({400, 402, 404, 413, 429})
"""Of which the body is read before anything of it goes on."""


class About(Enum):
    """What an error is about."""

    OTHER = "other"
    TOO_LONG = "too long"
    NO_MODEL = "no model"
    QUOTA = "quota"
    KEY = "key"


class Told(NamedTuple):
    """What an error says. `retry_s` is the wait that its body asks for, in seconds."""

    about: About
    retry_s: float | None = None


_NOTHING: Final = Told(About.OTHER)

_TOO_LONG_CODES: Final = frozenset({"context_length_exceeded"})
_TOO_LONG_BEGINNINGS: Final = (
    "prompt is too long",  # Anthropic
    "input length and `max_tokens` exceed context limit",  # Anthropic
    "The input token count",  # Google
    "This model's maximum context length is",  # vLLM, and OpenAI in earlier years
)
_NO_MODEL_CODES: Final = frozenset({"model_not_found", "DeploymentNotFound"})
_NO_MODEL_BEGINNINGS: Final = (
    "model:",  # Anthropic, type not_found_error
    "models/",  # Google, status NOT_FOUND
    "The model `",  # OpenAI and vLLM
)
_QUOTA_CODES: Final = frozenset(
    {"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"}  # OpenAI
    | {"billing_error"}  # Anthropic
)
_QUOTA_BEGINNINGS: Final = ("Your credit balance is too low",)  # Anthropic, as invalid_request_error
_SECONDS: Final = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)s")


def read_error(status: int, body: bytes) -> Told:
    """What an error with `status` and `body` says; About.OTHER for whatever is not understood."""
    error = _error(body)
    if error is None:
        return Told(About.QUOTA) if status == 402 else _NOTHING
    codes = {text for name in ("code", "type", "status") if isinstance(text := error.get(name), str)}
    said = error.get("message")
    message = said if isinstance(said, str) else ""
    details = _details(error)
    if status == 402 or codes & _QUOTA_CODES or message.startswith(_QUOTA_BEGINNINGS) or _for_a_day(details):
        return Told(About.QUOTA)
    if status == 404:
        unknown = codes & _NO_MODEL_CODES or message.startswith(_NO_MODEL_BEGINNINGS)
        return Told(About.NO_MODEL) if unknown else _NOTHING
    if status == 400 and any(detail.get("reason") == "API_KEY_INVALID" for detail in details):
        return Told(About.KEY)
    if status in (400, 413) and (codes & _TOO_LONG_CODES or message.startswith(_TOO_LONG_BEGINNINGS)):
        return Told(About.TOO_LONG)
    return Told(About.OTHER, _retry_s(details))


def _error(body: bytes) -> dict[str, Any] | None:
    """The `error` of an envelope, which Google may put into a list."""
    if not body or len(body) > MAX_ERROR_BYTES:
        return None
    try:
        whole = msgspec.json.decode(body)
    except UNREADABLE:
        return None
    if isinstance(whole, list) and whole:
        whole = whole[0]
    error = whole.get("error") if isinstance(whole, dict) else None
    return error if isinstance(error, dict) else None


def _details(error: dict[str, Any]) -> list[dict[str, Any]]:
    details = error.get("details")
    return [each for each in details if isinstance(each, dict)] if isinstance(details, list) else []


def _for_a_day(details: list[dict[str, Any]]) -> bool:
    """Whether a quota that is counted by the day is used up."""
    for detail in details:
        if str(detail.get("@type")).endswith("google.rpc.QuotaFailure"):
            violations = detail.get("violations")
            for violation in violations if isinstance(violations, list) else ():
                if isinstance(violation, dict) and "PerDay" in str(violation.get("quotaId")):
                    return True
    return False


def _retry_s(details: list[dict[str, Any]]) -> float | None:
    for detail in details:
        if str(detail.get("@type")).endswith("google.rpc.RetryInfo"):
            found = _SECONDS.fullmatch(str(detail.get("retryDelay")))
            if found is not None:
                return float(found[1])
    return None
