"""What an attempt came to, and whether its request may move on (DESIGN: Serving).

sent or not      what was not sent may always move. What was sent may move when it is a stateless model
                 call (possibly billed, so it is counted), carries an Idempotency-Key, or uses an
                 idempotent method; what is bound to one provider's state stays
the first move   is free: it is what an edge is for. Further ones come out of a budget of 20 % of the
                 requests under way, at least 3, so that an outage is not multiplied by its clients
three attempts   at most; a body too large to be kept has one
whose fault      400, 404, 409, 413, 422 and their kind are the client's: handed back untouched. 401 and 403
                 are the edge's: the client's key was good here, the target's credential was not. To the
                 client they would be a riddle (and may quote the credential), so the target counts as
                 FAILED, and when nobody else answers the client gets a 502 that names the target
429              cools the target; so do 529, and 503 that says until when
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import Enum
from typing import Final, NamedTuple

from edge_router.core.endpoints import IDEMPOTENT, Endpoint, Kind
from edge_router.core.wire import RequestHead, ResponseHead
from shared.classify import Fault, Phase, outcome_of_status
from shared.vocabulary.terms import Outcome

MAX_ATTEMPTS: Final = 3
BUDGET_SHARE: Final = 0.2
BUDGET_MIN: Final = 3
REPLAY_BYTES: Final = 4 * 1024 * 1024
COOL_LEAST_S: Final = 0.5
COOL_MOST_S: Final = 600.0
COOL_UNSAID_S: Final = 1.0
"""When a 429 does not say for how long."""
QUOTA_COOL_S: Final = 600.0
"""A quota that is used up does not come back within a minute, whatever Retry-After says."""


class Course(Enum):
    """What to do with an answer's head."""

    PASS = "pass"  # noqa: S105  (not a password)
    """It is the answer: hand it on."""
    MOVE = "move"
    """Ask another target; hand it on when there is none."""
    REPLACE = "replace"
    """Ask another target; when there is none, the edge answers in its place."""


class Judgement(NamedTuple):
    """`outcome` is None where the answer says nothing about the target's health."""

    course: Course
    outcome: Outcome | None
    error: str = ""
    """A token of RFC 9209, section 2.3, or one of ours, for Proxy-Status and metrics."""


_GOOD: Final = Judgement(Course.PASS, Outcome.OK)
_CLIENTS_FAULT: Final = Judgement(Course.PASS, None)
_THROTTLED: Final = Judgement(Course.MOVE, Outcome.THROTTLED, "http_request_throttled")
_FAILED: Final = Judgement(Course.MOVE, Outcome.FAILED, "http_response_status")
_CREDENTIAL: Final = Judgement(Course.REPLACE, Outcome.FAILED, "upstream_credential_refused")
_GARBLED: Final = Judgement(Course.REPLACE, Outcome.GARBLED, "http_protocol_error")


def judge(
    head: ResponseHead, endpoint: Endpoint, *, streamed: bool, credential: bool, body: bytes = b""
) -> Judgement:
    """What the head of an answer is worth. `credential`: the edge put one into the request; `body` is what came with
    the head, where that may say more."""
    status = head.status
    if status == 200:
        if endpoint.kind is Kind.PLAIN:
            return _GOOD
        promised = head.event_stream if streamed else head.json
        return _GOOD if promised and not head.encoded else _GARBLED
    if status in (401, 403) and (credential or endpoint.kind is not Kind.PLAIN):
        return _CREDENTIAL
    outcome = outcome_of_status(status, retry_after=head.retry_after is not None)
    if outcome is Outcome.THROTTLED:
        return _THROTTLED
    if outcome is Outcome.FAILED:
        return _FAILED
    if outcome is None:
        return _CREDENTIAL if status == 400 and _KEY_INVALID in body else _CLIENTS_FAULT
    # 2xx and 3xx: a plain route may answer as it likes; a model call is promised JSON or events.
    return _GOOD if endpoint.kind is Kind.PLAIN else _GARBLED


_KEY_INVALID: Final = b'"API_KEY_INVALID"'
"""How Google says 401: with 400, and this reason in the details."""


def may_move(head: RequestHead, endpoint: Endpoint, *, sent: bool, bound: bool) -> bool:
    """Whether a request may be sent to another target."""
    if not sent:
        return True
    if bound:
        return False
    if endpoint.kind is not Kind.PLAIN:
        return True
    return head.method in IDEMPOTENT or head.idempotency_key


def within_budget(*, moves: int, extra_active: int, active: int) -> bool:
    """Whether a request that has moved `moves` times may do so again, `extra_active` of `active`
    requests being beyond their free move."""
    return moves == 0 or extra_active < max(BUDGET_MIN, int(BUDGET_SHARE * active))


def cooling_s(head: ResponseHead, body: bytes, now: datetime) -> float:
    """How long to spare a target after a throttling answer, clamped: an absurd Retry-After must
    neither hammer it nor bury it. RFC 9110, section 10.2.3, and `retry-after-ms` as OpenAI and Azure send it."""
    if b"insufficient_quota" in body:
        return QUOTA_COOL_S
    said = _milliseconds(head.retry_after_ms)
    if said is None:
        said = _retry_after(head.retry_after, now)
    if said is None:
        delay = _RETRY_DELAY.search(body)
        said = None if delay is None else float(delay[1])
    return COOL_UNSAID_S if said is None else min(max(said, COOL_LEAST_S), COOL_MOST_S)


_RETRY_DELAY: Final = re.compile(rb'"retryDelay"\s*:\s*"([0-9]{1,9}(?:\.[0-9]{1,9})?)s"')
"""google.rpc.RetryInfo, in the details of an error: Gemini says it there, and nowhere else."""


def _milliseconds(value: bytes | None) -> float | None:
    return int(value) / 1000 if value is not None and value.isdigit() and len(value) < 16 else None


def _retry_after(value: bytes | None, now: datetime) -> float | None:
    if value is None:
        return None
    text = value.decode("latin-1")
    if text.replace(".", "", 1).isdigit() and text.isascii() and len(text) < 16:
        return float(text)
    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return None
    return ((date if date.tzinfo else date.replace(tzinfo=UTC)) - now).total_seconds()


OVERLOAD_ERRORS: Final[Mapping[str, Outcome]] = {
    "overloaded_error": Outcome.THROTTLED,
    "rate_limit_error": Outcome.THROTTLED,
    "RESOURCE_EXHAUSTED": Outcome.THROTTLED,
    "UNAVAILABLE": Outcome.THROTTLED,
}
"""In-band errors before the first byte of an answer that say busy; any other is FAILED."""

_ERROR_TOKENS: Final[Mapping[Fault, str]] = {
    Fault.REFUSED: "connection_refused",
    Fault.RESET: "connection_terminated",
    Fault.CLOSED: "connection_terminated",
    Fault.UNREACHABLE: "destination_ip_unroutable",
    Fault.NAME_UNKNOWN: "dns_error",
    Fault.RESOLVER: "dns_error",
    Fault.TLS: "tls_protocol_error",
    Fault.MALFORMED: "http_protocol_error",
    Fault.OTHER: "destination_unavailable",
    Fault.OWN: "proxy_internal_error",
}


def error_token(phase: Phase, fault: Fault) -> str:
    """The error type of RFC 9209, section 2.3, for an attempt that `fault` stopped in `phase`."""
    if fault is Fault.TIMEOUT:
        return "http_response_timeout" if phase in (Phase.ANSWER, Phase.BODY) else "connection_timeout"
    if phase is Phase.BODY and fault in (Fault.RESET, Fault.CLOSED):
        return "http_response_incomplete"
    return _ERROR_TOKENS[fault]
