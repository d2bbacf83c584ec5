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
                 FAILED, and when nobody else answers the client gets a 502 that names the target. So it is with
                 a 404 for the model: its name was good here, the one in the fleet was not
429              cools the target (see `cooling`); so do 529, and 503 that says until when. A quota that is used
                 up is the edge's account, not the client's: replaced, too
too long         a prompt that does not fit goes only to a target with a longer context, else back untouched
again            where there is no other target, a lone 5xx or reset is asked once more of the same, after a
                 jittered pause; a silent target is not
"""

from collections.abc import Mapping
from enum import Enum
from typing import Final, NamedTuple

from edge_router.core.endpoints import IDEMPOTENT, Endpoint, Kind
from edge_router.core.error_body import About, Told
from edge_router.core.wire import RequestHead, ResponseHead
from shared.classify import Fault, Phase, outcome_of_status
from shared.vocabulary.terms import Outcome

MAX_ATTEMPTS: Final = 3
BUDGET_SHARE: Final = 0.2
BUDGET_MIN: Final = 3
REPLAY_BYTES: Final = 4 * 1024 * 1024
AGAIN_MOST_S: Final = 0.2
AGAIN_LEAST_S: Final = 0.02
"""Before the same target is asked again: it may be restarting, and all its clients with it."""


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
    longer: bool = False
    """Only a target with a longer context may be asked instead."""


_GOOD: Final = Judgement(Course.PASS, Outcome.OK)
_CLIENTS_FAULT: Final = Judgement(Course.PASS, None)
_THROTTLED: Final = Judgement(Course.MOVE, Outcome.THROTTLED, "http_request_throttled")
_FAILED: Final = Judgement(Course.MOVE, Outcome.FAILED, "http_response_status")
_CREDENTIAL: Final = Judgement(Course.REPLACE, Outcome.FAILED, "upstream_credential_refused")
_GARBLED: Final = Judgement(Course.REPLACE, Outcome.GARBLED, "http_protocol_error")
_TOLD: Final[Mapping[About, Judgement]] = {
    About.TOO_LONG: Judgement(Course.MOVE, None, "context_length_exceeded", longer=True),
    About.NO_MODEL: Judgement(Course.REPLACE, Outcome.FAILED, "upstream_model_unknown"),
    About.QUOTA: Judgement(Course.REPLACE, Outcome.THROTTLED, "upstream_quota_exhausted"),
}


def judge(head: ResponseHead, endpoint: Endpoint, *, streamed: bool, credential: bool) -> Judgement:
    """What the head of an answer is worth. `credential`: the edge put one into the request."""
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
        return _CLIENTS_FAULT
    # 2xx and 3xx: a plain route may answer as it likes; a model call is promised JSON or events.
    return _GOOD if endpoint.kind is Kind.PLAIN else _GARBLED


def judge_error(judgement: Judgement, told: Told) -> Judgement:
    """`judgement` of an error's head, now that its body has been read."""
    return _TOLD.get(told.about, judgement)


def pause_s(draw: float) -> float:
    """Before the same target is asked again: full jitter, as in `shared.backoff`; `draw` is from [0, 1)."""
    return max(AGAIN_LEAST_S, draw * AGAIN_MOST_S)


def may_move(head: RequestHead, endpoint: Endpoint, *, sent: bool, bound: bool) -> bool:
    """Whether a request may be sent to another target."""
    if not sent:
        return True
    if bound:
        return False
    if endpoint.kind is not Kind.PLAIN:
        return True
    return head.method in IDEMPOTENT or head.idempotency_key


def within_budget(*, moves: int, extra_active: int, active: int, least: int = BUDGET_MIN) -> bool:
    """Whether a request that has moved `moves` times may do so again, `extra_active` of `active`
    requests being beyond their free move; `least` of them always may."""
    return moves == 0 or extra_active < max(least, int(BUDGET_SHARE * active))


OVERLOAD_ERRORS: Final[Mapping[str, Outcome]] = {
    "overloaded_error": Outcome.THROTTLED,
    "rate_limit_error": Outcome.THROTTLED,
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
