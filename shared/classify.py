"""What an attempt at a target came to: a table from plain facts to `Outcome`, the same for probes and live traffic.

    rules      1. A fact is a number or a type: an errno, a status, a deadline that passed. The text of an
                  exception is never searched.
               2. What is our own fault (out of file descriptors, no memory) is no evidence about a target:
                  the answer is None, and the caller counts nothing.
               3. Hard evidence says that nobody is there at all: nothing accepts connections, or what accepts
                  them throws them away unanswered. A busy, slow or wrong target never looks like that.
                  Only on hard evidence may a target leave at once (DESIGN: Deciding).

The edge's hot path reads `STATUS_OUTCOMES` directly; everything else calls `of_fault` and `of_answer`.
"""

import errno
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from shared.vocabulary.terms import Outcome

MAX_DETAIL: Final = 256
"""Characters of a detail, as `ProbeState.detail` allows."""


class Phase(StrEnum):
    """How far an attempt had come."""

    RESOLVE = "resolve"
    """Looking up the name."""
    CONNECT = "connect"
    """TCP and, where it is spoken, TLS."""
    ANSWER = "answer"
    """Sending, and waiting for the head of the answer."""
    BODY = "body"
    """After the head, before the end."""


class Fault(StrEnum):
    """What stopped an attempt that brought no complete answer."""

    REFUSED = "refused"
    RESET = "reset"
    CLOSED = "closed"
    """The other side ended the connection in an orderly way, too early."""
    UNREACHABLE = "unreachable"
    NAME_UNKNOWN = "name unknown"
    """The name does not exist, as DNS says."""
    RESOLVER = "resolver failed"
    """DNS itself did not answer."""
    TIMEOUT = "timeout"
    TLS = "tls"
    """Handshake or certificate."""
    MALFORMED = "malformed"
    """Bytes that are not the protocol."""
    OTHER = "error"
    OWN = "own"
    """This process's or this machine's fault."""


@dataclass(frozen=True, slots=True)
class Classified:
    """An outcome, whether it is hard evidence, and why in a few words."""

    outcome: Outcome
    hard: bool = False
    detail: str = ""


# ---------------------------------------------------------------- answers

THROTTLED_STATUSES: Final = frozenset({429, 529})
"""RFC 6585, section 4; 529 is how several model providers say `overloaded`."""
THROTTLED_WITH_RETRY_AFTER: Final = frozenset({503})
"""RFC 9110, section 15.6.4: overloaded or under maintenance, and the target itself says until when."""
FAILED_STATUSES: Final = frozenset({408, *range(500, 600)}) - THROTTLED_STATUSES
"""408 is the target's (or its proxy's) word that it got no further, not a fault of the request."""


def _outcome_of_status(status: int) -> Outcome | None:
    if status in THROTTLED_STATUSES:
        return Outcome.THROTTLED
    if status in FAILED_STATUSES:
        return Outcome.FAILED
    if 200 <= status < 400:
        return Outcome.OK
    return None


STATUS_OUTCOMES: Final[tuple[Outcome | None, ...]] = tuple(
    _outcome_of_status(status) for status in range(600)
)
"""By status. None where it says nothing about the target's health: a client's own fault (4xx), an
interim answer (1xx), or no status at all. 503 stands here as FAILED; see `THROTTLED_WITH_RETRY_AFTER`."""


def outcome_of_status(status: int, *, retry_after: bool = False) -> Outcome | None:
    """The outcome that a status alone tells, None when it tells nothing (see `STATUS_OUTCOMES`)."""
    if retry_after and status in THROTTLED_WITH_RETRY_AFTER:
        return Outcome.THROTTLED
    return STATUS_OUTCOMES[status] if 0 <= status < len(STATUS_OUTCOMES) else None


def of_answer(
    status: int,
    *,
    expected: bool,
    retry_after: bool = False,
    problem: str | None = None,
    latency_ms: float = 0.0,
    slow_ms: float | None = None,
) -> Classified:
    """A complete answer: `expected` when its status is one that the caller asked for, `problem` when
    its body is not (in words that hold nothing of the body).

    An expected status counts before its usual meaning: who expects a 401 is content with it.
    """
    if not expected:
        told = outcome_of_status(status, retry_after=retry_after)
        unwelcome = told if told in (Outcome.THROTTLED, Outcome.FAILED) else Outcome.GARBLED
        return Classified(unwelcome, detail=f"status {status}")
    if problem is not None:
        return Classified(Outcome.GARBLED, detail=problem[:MAX_DETAIL])
    if slow_ms is not None and latency_ms > slow_ms:
        return Classified(Outcome.SLOW, detail=f"{latency_ms:.0f} ms, slow from {slow_ms:g} ms")
    return Classified(Outcome.OK)


# ---------------------------------------------------------------- no complete answer

_NOBODY_THERE: Final[Mapping[Fault, tuple[Outcome, bool]]] = {
    Fault.REFUSED: (Outcome.REFUSED, True),
    Fault.RESET: (Outcome.REFUSED, True),
    Fault.CLOSED: (Outcome.REFUSED, True),
    Fault.UNREACHABLE: (Outcome.REFUSED, True),
    Fault.NAME_UNKNOWN: (Outcome.REFUSED, True),
    # Our resolver may be what is broken, for all names at once.
    Fault.RESOLVER: (Outcome.REFUSED, False),
    Fault.TIMEOUT: (Outcome.TIMED_OUT, True),
    # Somebody answers there, wrongly: an expired certificate is not an absent target.
    Fault.TLS: (Outcome.FAILED, False),
    Fault.MALFORMED: (Outcome.FAILED, False),
    Fault.OTHER: (Outcome.REFUSED, False),
}

_TABLE: Final[Mapping[Phase, Mapping[Fault, tuple[Outcome, bool]]]] = {
    Phase.RESOLVE: {**_NOBODY_THERE, Fault.TIMEOUT: (Outcome.TIMED_OUT, False)},
    Phase.CONNECT: _NOBODY_THERE,
    Phase.ANSWER: {
        # DESIGN, Deciding: a reset is hard. What accepts and resets is a port without a server.
        Fault.RESET: (Outcome.FAILED, True),
        Fault.CLOSED: (Outcome.FAILED, False),
        Fault.TIMEOUT: (Outcome.TIMED_OUT, False),
        Fault.MALFORMED: (Outcome.GARBLED, False),
    },
    # From here on somebody answered; what breaks off now is a truncated answer.
    Phase.BODY: {
        Fault.RESET: (Outcome.GARBLED, False),
        Fault.CLOSED: (Outcome.GARBLED, False),
        Fault.TIMEOUT: (Outcome.TIMED_OUT, False),
        Fault.MALFORMED: (Outcome.GARBLED, False),
    },
}
_ANYTHING_ELSE: Final = (Outcome.FAILED, False)


def of_fault(phase: Phase, fault: Fault, *, code: int | None = None) -> Classified | None:
    """An attempt that `fault` stopped in `phase`; None when the fault is our own.

    `code` is the errno behind it, where there is one, named in the detail: `connect ECONNREFUSED`.
    """
    if fault is Fault.OWN:
        return None
    outcome, hard = _TABLE[phase].get(fault, _ANYTHING_ELSE)
    name = errno.errorcode.get(code) if code is not None else None
    return Classified(outcome, hard, f"{phase.value} {name or fault.value}")


# ---------------------------------------------------------------- faults by number

_BY_ERRNO: Final[Mapping[int, Fault]] = {
    errno.ECONNREFUSED: Fault.REFUSED,
    errno.ECONNRESET: Fault.RESET,
    errno.ECONNABORTED: Fault.RESET,
    errno.EPIPE: Fault.RESET,
    errno.ENETUNREACH: Fault.UNREACHABLE,
    errno.EHOSTUNREACH: Fault.UNREACHABLE,
    errno.ENETDOWN: Fault.UNREACHABLE,
    errno.EHOSTDOWN: Fault.UNREACHABLE,
    errno.ETIMEDOUT: Fault.TIMEOUT,
    **dict.fromkeys(
        (
            errno.EMFILE,
            errno.ENFILE,
            errno.ENOMEM,
            errno.ENOBUFS,
            errno.EADDRNOTAVAIL,
            errno.EACCES,
            errno.EPERM,
        ),
        Fault.OWN,
    ),
}

_BY_GAI_CODE: Final[Mapping[int, Fault]] = {
    socket.EAI_NONAME: Fault.NAME_UNKNOWN,
    **({socket.EAI_NODATA: Fault.NAME_UNKNOWN} if hasattr(socket, "EAI_NODATA") else {}),
    socket.EAI_MEMORY: Fault.OWN,
}


def fault_of_error(error: OSError) -> Fault:
    """What kind of fault an operating system error is, by its number and never by its text."""
    if isinstance(error, socket.gaierror):
        return _BY_GAI_CODE.get(error.errno or 0, Fault.RESOLVER)
    if isinstance(error, TimeoutError):
        return Fault.TIMEOUT
    return _BY_ERRNO.get(error.errno or 0, Fault.OTHER)
