"""What an answer is worth, and whether a request may move."""

import pytest

from edge_router.core.attempts import (
    AGAIN_LEAST_S,
    AGAIN_MOST_S,
    Course,
    error_token,
    judge,
    judge_error,
    may_move,
    pause_s,
    within_budget,
)
from edge_router.core.endpoints import ENDPOINTS, PLAIN
from edge_router.core.error_body import About, Told
from edge_router.core.wire import parse_request_head, parse_response_head
from shared.classify import Fault, Phase
from shared.vocabulary.terms import Outcome

CHAT = ENDPOINTS[b"/v1/chat/completions"]


def response(status: int, kind: str = "application/json", *fields: str):  # type: ignore[no-untyped-def]
    lines = [f"HTTP/1.1 {status} X", f"content-type: {kind}", *fields, "", ""]
    return parse_response_head("\r\n".join(lines).encode())


@pytest.mark.parametrize(
    ("status", "fields", "course", "outcome"),
    [
        (200, (), Course.PASS, Outcome.OK),
        (200, ("content-encoding: gzip",), Course.REPLACE, Outcome.GARBLED),
        (201, (), Course.REPLACE, Outcome.GARBLED),
        (204, (), Course.REPLACE, Outcome.GARBLED),
        (302, (), Course.REPLACE, Outcome.GARBLED),
        (400, (), Course.PASS, None),
        (401, (), Course.REPLACE, Outcome.FAILED),
        (403, (), Course.REPLACE, Outcome.FAILED),
        (404, (), Course.PASS, None),
        (408, (), Course.MOVE, Outcome.FAILED),
        (409, (), Course.PASS, None),
        (413, (), Course.PASS, None),
        (422, (), Course.PASS, None),
        (429, (), Course.MOVE, Outcome.THROTTLED),
        (500, (), Course.MOVE, Outcome.FAILED),
        (503, (), Course.MOVE, Outcome.FAILED),
        (503, ("retry-after: 2",), Course.MOVE, Outcome.THROTTLED),
        (529, (), Course.MOVE, Outcome.THROTTLED),
        (599, (), Course.MOVE, Outcome.FAILED),
    ],
)
def test_what_an_answer_to_a_model_call_is_worth(
    status: int, fields: tuple[str, ...], course: Course, outcome: Outcome | None
) -> None:
    """A client's fault goes back untouched, everything else that is no answer is replaced if it can be."""
    got = judge(response(status, "application/json", *fields), CHAT, streamed=False, credential=True)
    assert (got.course, got.outcome) == (course, outcome)


@pytest.mark.parametrize(
    ("kind", "streamed", "good"),
    [
        ("application/json", False, True),
        ("application/json; charset=utf-8", False, True),
        ("text/event-stream", False, False),
        ("text/html", False, False),
        ("text/event-stream; charset=utf-8", True, True),
        ("application/json", True, False),
    ],
)
def test_a_200_must_be_what_was_promised(kind: str, streamed: bool, good: bool) -> None:
    """JSON to who asked for JSON, events to who asked for a stream."""
    got = judge(response(200, kind), CHAT, streamed=streamed, credential=True)
    assert (got.outcome is Outcome.OK) is good


@pytest.mark.parametrize("status", [200, 204, 301, 404, 401])
def test_a_plain_route_may_answer_as_it_likes(status: int) -> None:
    """Nothing but overload and failure is judged there; without a credential of ours 401 is its own affair."""
    assert judge(response(status, "text/html"), PLAIN, streamed=False, credential=False).course is Course.PASS


@pytest.mark.parametrize(
    ("method", "endpoint", "sent", "bound", "fields", "moves"),
    [
        ("POST", CHAT, False, True, "", True),
        ("POST", CHAT, True, False, "", True),
        ("POST", CHAT, True, True, "", False),
        ("GET", PLAIN, True, False, "", True),
        ("POST", PLAIN, False, False, "", True),
        ("POST", PLAIN, True, False, "", False),
        ("POST", PLAIN, True, False, "idempotency-key: 1\r\n", True),
    ],
)
def test_what_may_move(method: str, endpoint, sent: bool, bound: bool, fields: str, moves: bool) -> None:  # type: ignore[no-untyped-def]
    """DESIGN, Serving: unsent always; sent when stateless, keyed or idempotent; never what is bound."""
    head = parse_request_head(f"{method} /x HTTP/1.1\r\nhost: a\r\n{fields}\r\n".encode())
    assert may_move(head, endpoint, sent=sent, bound=bound) is moves


@pytest.mark.parametrize(
    ("moves", "extra", "active", "allowed"),
    [
        (0, 999, 1, True),
        (1, 0, 1, True),
        (1, 2, 1, True),
        (1, 3, 1, False),
        (1, 19, 100, True),
        (1, 20, 100, False),
    ],
)
def test_the_budget(moves: int, extra: int, active: int, allowed: bool) -> None:
    """The first move is free; others are 20 % of the requests under way, at least 3."""
    assert within_budget(moves=moves, extra_active=extra, active=active) is allowed


def test_every_fault_has_a_token() -> None:
    """Proxy-Status names each, in RFC 9209's words where it has some."""
    for phase in Phase:
        for fault in Fault:
            assert error_token(phase, fault)
    assert error_token(Phase.CONNECT, Fault.TIMEOUT) == "connection_timeout"
    assert error_token(Phase.ANSWER, Fault.TIMEOUT) == "http_response_timeout"
    assert error_token(Phase.BODY, Fault.CLOSED) == "http_response_incomplete"


@pytest.mark.parametrize(
    ("about", "status", "course", "outcome", "longer"),
    [
        (About.TOO_LONG, 400, Course.MOVE, None, True),
        (About.NO_MODEL, 404, Course.REPLACE, Outcome.FAILED, False),
        (About.QUOTA, 429, Course.REPLACE, Outcome.THROTTLED, False),
        (About.QUOTA, 400, Course.REPLACE, Outcome.THROTTLED, False),
        (About.OTHER, 429, Course.MOVE, Outcome.THROTTLED, False),
        (About.OTHER, 400, Course.PASS, None, False),
    ],
)
def test_what_an_error_is_about_decides(
    about: About, status: int, course: Course, outcome: Outcome | None, longer: bool
) -> None:
    """A prompt too long asks for a longer context, an unknown model and a used-up quota are the edge's affair."""
    by_head = judge(response(status), CHAT, streamed=False, credential=True)
    got = judge_error(by_head, Told(about))
    assert (got.course, got.outcome, got.longer) == (course, outcome, longer)


def test_the_pause_before_the_same_target_is_jittered_and_bounded() -> None:
    """Over all draws from its least to its most."""
    pauses = [pause_s(draw / 1000) for draw in range(1000)]
    assert pauses[0] == AGAIN_LEAST_S
    assert AGAIN_MOST_S * 0.99 < max(pauses) < AGAIN_MOST_S
    assert sum(pauses) / 1000 == pytest.approx(AGAIN_MOST_S / 2, rel=0.05)
