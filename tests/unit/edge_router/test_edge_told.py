"""What is told of a target's answer in another dialect's words: its errors, and its head."""

import json

import pytest

from edge_router.core.body import read_call
from edge_router.core.endpoints import Kind
from edge_router.core.messages import translated_head
from edge_router.core.relay import HOLD_BYTES, Problem, Step, Verdict
from edge_router.core.table import Origin, TargetEntry
from edge_router.core.told import ToldError
from edge_router.core.translation import Translation, translate
from edge_router.core.wire import parse_response_head
from shared.vocabulary.terms import Dialect, Outcome

BODY = b'{"model":"chat","messages":[{"role":"user","content":"hi"}]}'
TARGET = TargetEntry(
    "a", "r", Origin("http", "h", 1), b"h", b"/v1", b'"m"', Dialect.ANTHROPIC, None, 9, False
)
ERROR = b'{"type":"error","error":{"type":"invalid_request_error","message":"too long"}}'


@pytest.fixture
def translation() -> Translation:
    """An OpenAI client's call at an Anthropic target."""
    return translate(Kind.CHAT, BODY, read_call(BODY), TARGET)


def test_an_error_is_held_until_it_is_whole(translation: Translation) -> None:
    """Then it is told in the client's envelope, in the target's words."""
    relay = ToldError(translation, 400)
    assert relay.feed(ERROR[:20], False) == Step(b"", Verdict.HOLD)
    content, verdict = relay.feed(ERROR[20:], True)
    error = json.loads(content)["error"]
    assert verdict is Verdict.COMPLETE
    assert (error["message"], error["type"]) == ("too long", "invalid_request_error")


@pytest.mark.parametrize("body", [b"", b"<html>", b"\x1f\x8b\x08", b"[]", ERROR[:30]])
def test_an_error_that_cannot_be_read_is_told_by_its_status(translation: Translation, body: bytes) -> None:
    """Nothing of it goes on as it came."""
    content, verdict = ToldError(translation, 429).feed(body, True)
    assert verdict is Verdict.COMPLETE
    assert "429" in json.loads(content)["error"]["message"]


def test_an_endless_error_is_not_waited_for(translation: Translation) -> None:
    """Past what is held anywhere, its status has to do."""
    content, verdict = ToldError(translation, 400).feed(b"x" * (HOLD_BYTES + 1), False)
    assert verdict is Verdict.COMPLETE
    assert "400" in json.loads(content)["error"]["message"]


def test_an_error_that_is_cut_is_a_problem(translation: Translation) -> None:
    """Nothing has gone out, so the request may still move."""
    relay = ToldError(translation, 400)
    relay.feed(ERROR[:20], False)
    problem = Problem(Outcome.FAILED, "http_response_incomplete", "cut")
    assert relay.cut(problem) == Step(b"", Verdict.BROKEN)
    assert relay.problem is problem


def test_what_a_target_says_of_its_content_is_not_said_of_anothers() -> None:
    """Type, length, coding and validators go; whatever else it says stays, also where names look alike."""
    head = parse_response_head(
        b"HTTP/1.1 429 X\r\nContent-Type: text/plain\r\ncontent-length: 7\r\ncontent-encoding: gzip\r\n"
        b'etag: "x"\r\nretry-after: 3\r\nx-content-page: 1\r\nlast-page: age: 2\r\n\r\n'
    )
    other = translated_head(head, b"application/json")
    assert other.forward == (
        b"content-type: application/json\r\nretry-after: 3\r\nx-content-page: 1\r\nlast-page: age: 2\r\n"
    )
    assert (other.content_length, other.lines, other.status) == (None, b"", 429)
