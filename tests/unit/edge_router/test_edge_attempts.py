"""What an answer is worth, whether a request may move, and how long a busy target is spared."""

from datetime import UTC, datetime

import pytest

from edge_router.core.attempts import Course, cooling_s, error_token, judge, may_move, within_budget
from edge_router.core.endpoints import ENDPOINTS, PLAIN
from edge_router.core.wire import parse_request_head, parse_response_head
from shared.classify import Fault, Phase
from shared.vocabulary.terms import Outcome

CHAT = ENDPOINTS[b"/v1/chat/completions"]
NOW = datetime(2026, 11, 1, 12, 0, 0, tzinfo=UTC)


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


@pytest.mark.parametrize(
    ("field", "body", "seconds"),
    [
        ("x-a: b", b"", 1.0),
        ("retry-after: 7", b"", 7.0),
        ("retry-after: 1.5", b"", 1.5),
        ("retry-after: 0", b"", 0.5),
        ("retry-after: -5", b"", 1.0),
        ("retry-after: 99999999", b"", 600.0),
        ("retry-after: soon", b"", 1.0),
        ("retry-after: Sun, 01 Nov 2026 12:00:30 GMT", b"", 30.0),
        ("retry-after: Sun, 01 Nov 2026 11:00:00 GMT", b"", 0.5),
        ("retry-after: Sun, 01 Nov 2099 11:00:00 GMT", b"", 600.0),
        ("retry-after-ms: 1200", b"", 1.2),
        ("retry-after: 1", b'{"error":{"code":"insufficient_quota"}}', 600.0),
    ],
)
def test_how_long_a_throttling_target_is_spared(field: str, body: bytes, seconds: float) -> None:
    """Seconds or a date, clamped to 0.5 to 600 s; a used-up quota is ten minutes."""
    assert cooling_s(response(429, "application/json", field), body, NOW) == pytest.approx(seconds)


def test_every_fault_has_a_token() -> None:
    """Proxy-Status names each, in RFC 9209's words where it has some."""
    for phase in Phase:
        for fault in Fault:
            assert error_token(phase, fault)
    assert error_token(Phase.CONNECT, Fault.TIMEOUT) == "connection_timeout"
    assert error_token(Phase.ANSWER, Fault.TIMEOUT) == "http_response_timeout"
    assert error_token(Phase.BODY, Fault.CLOSED) == "http_response_incomplete"
