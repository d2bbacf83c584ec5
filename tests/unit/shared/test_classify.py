import errno
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.classify import (
    MAX_DETAIL,
    STATUS_OUTCOMES,
    Classified,
    Fault,
    Phase,
    fault_of_error,
    of_answer,
    of_fault,
    outcome_of_status,
)
from shared.vocabulary.terms import Outcome


@pytest.mark.parametrize(
    ("status", "retry_after", "outcome"),
    [
        (200, False, Outcome.OK),
        (204, False, Outcome.OK),
        (304, False, Outcome.OK),
        (400, False, None),
        (401, False, None),
        (404, False, None),
        (408, False, Outcome.FAILED),
        (413, False, None),
        (422, False, None),
        (429, False, Outcome.THROTTLED),
        (500, False, Outcome.FAILED),
        (502, True, Outcome.FAILED),
        (503, False, Outcome.FAILED),
        (503, True, Outcome.THROTTLED),
        (504, False, Outcome.FAILED),
        (529, False, Outcome.THROTTLED),
        (100, False, None),
        (0, False, None),
        (600, False, None),
        (-1, False, None),
        (10**9, False, None),
    ],
)
def test_statuses(status: int, retry_after: bool, outcome: Outcome | None) -> None:
    """A client's own fault is no outcome; a busy target is THROTTLED, a broken one FAILED."""
    assert outcome_of_status(status, retry_after=retry_after) is outcome


def test_the_hot_paths_table_is_the_same_table() -> None:
    """What the edge reads by index is what everybody else asks for by name."""
    assert all(STATUS_OUTCOMES[status] is outcome_of_status(status) for status in range(600))


@pytest.mark.parametrize(
    ("phase", "fault", "outcome", "hard"),
    [
        (Phase.CONNECT, Fault.REFUSED, Outcome.REFUSED, True),
        (Phase.CONNECT, Fault.RESET, Outcome.REFUSED, True),
        (Phase.CONNECT, Fault.UNREACHABLE, Outcome.REFUSED, True),
        (Phase.CONNECT, Fault.TIMEOUT, Outcome.TIMED_OUT, True),
        (Phase.CONNECT, Fault.TLS, Outcome.FAILED, False),
        (Phase.RESOLVE, Fault.NAME_UNKNOWN, Outcome.REFUSED, True),
        (Phase.RESOLVE, Fault.RESOLVER, Outcome.REFUSED, False),
        (Phase.RESOLVE, Fault.TIMEOUT, Outcome.TIMED_OUT, False),
        (Phase.ANSWER, Fault.RESET, Outcome.FAILED, True),
        (Phase.ANSWER, Fault.CLOSED, Outcome.FAILED, False),
        (Phase.ANSWER, Fault.TIMEOUT, Outcome.TIMED_OUT, False),
        (Phase.ANSWER, Fault.MALFORMED, Outcome.GARBLED, False),
        (Phase.ANSWER, Fault.OTHER, Outcome.FAILED, False),
        (Phase.BODY, Fault.RESET, Outcome.GARBLED, False),
        (Phase.BODY, Fault.CLOSED, Outcome.GARBLED, False),
        (Phase.BODY, Fault.TIMEOUT, Outcome.TIMED_OUT, False),
    ],
)
def test_faults(phase: Phase, fault: Fault, outcome: Outcome, hard: bool) -> None:
    """Hard is only what says that nobody is there; what breaks off in the body is a truncated answer."""
    result = of_fault(phase, fault)
    assert result is not None
    assert (result.outcome, result.hard) == (outcome, hard)


@given(phase=st.sampled_from(Phase), fault=st.sampled_from(Fault), code=st.none() | st.integers())
def test_every_fault_in_every_phase_has_an_answer(phase: Phase, fault: Fault, code: int | None) -> None:
    """No combination is left out, none is good, and only our own fault says nothing."""
    result = of_fault(phase, fault, code=code)
    if fault is Fault.OWN:
        assert result is None
    else:
        assert result is not None
        assert result.outcome.counts_down
        assert result.detail.startswith(phase.value)
        assert len(result.detail) <= MAX_DETAIL


def test_details_name_the_number() -> None:
    """Operators read what the system call said."""
    result = of_fault(Phase.CONNECT, Fault.REFUSED, code=errno.ECONNREFUSED)
    assert result is not None
    assert result.detail == "connect ECONNREFUSED"
    assert of_fault(Phase.ANSWER, Fault.TIMEOUT) == Classified(Outcome.TIMED_OUT, False, "answer timeout")


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "x"), Fault.REFUSED),
        (ConnectionResetError(errno.ECONNRESET, "x"), Fault.RESET),
        (BrokenPipeError(errno.EPIPE, "x"), Fault.RESET),
        (OSError(errno.EHOSTUNREACH, "x"), Fault.UNREACHABLE),
        (OSError(errno.ENETUNREACH, "x"), Fault.UNREACHABLE),
        (TimeoutError(), Fault.TIMEOUT),
        (OSError(errno.ETIMEDOUT, "x"), Fault.TIMEOUT),
        (OSError(errno.EMFILE, "x"), Fault.OWN),
        (OSError(errno.EADDRNOTAVAIL, "x"), Fault.OWN),
        (socket.gaierror(socket.EAI_NONAME, "x"), Fault.NAME_UNKNOWN),
        (socket.gaierror(socket.EAI_AGAIN, "x"), Fault.RESOLVER),
        (OSError("connection refused"), Fault.OTHER),
        (OSError(), Fault.OTHER),
    ],
)
def test_errors_are_told_apart_by_number(error: OSError, fault: Fault) -> None:
    """The text of an error decides nothing."""
    assert fault_of_error(error) is fault


def test_an_expected_status_comes_before_its_meaning() -> None:
    """Who expects a 401 or even a 503 is content with it."""
    assert of_answer(401, expected=True).outcome is Outcome.OK
    assert of_answer(503, expected=True).outcome is Outcome.OK


def test_answers() -> None:
    """Status first, then the body, then the time it took."""
    assert of_answer(429, expected=False, problem="x") == Classified(Outcome.THROTTLED, detail="status 429")
    assert of_answer(204, expected=False) == Classified(Outcome.GARBLED, detail="status 204")
    assert of_answer(404, expected=False).outcome is Outcome.GARBLED
    assert of_answer(200, expected=True, problem="empty", latency_ms=9, slow_ms=1).outcome is Outcome.GARBLED
    assert of_answer(200, expected=True, latency_ms=9.0, slow_ms=9.0).outcome is Outcome.OK
    assert of_answer(200, expected=True, latency_ms=9.1, slow_ms=9.0).outcome is Outcome.SLOW
    assert len(of_answer(200, expected=True, problem="x" * 9999).detail) == MAX_DETAIL
