"""Bytes that are not UTF-8, and nesting near the limit, are answered wherever they are read: nothing else is raised."""

import sys
from collections.abc import Callable
from typing import Any

import pytest

from edge_router.core.body import Asked, Unreadable, members_of, read_call
from edge_router.core.endpoints import Kind
from edge_router.core.error_body import About, read_error
from edge_router.core.estimate import estimated_tokens
from edge_router.core.gemini_calls import read_gemini_call
from edge_router.core.ladder.assemble import assemble
from edge_router.core.ladder.promised import Promise, promise_of, stream_keeps, whole_keeps
from edge_router.core.paths import Asking
from edge_router.core.promise import keeps
from edge_router.core.rewrite import asking_usage, continued

_ASKED = Asked(b'"m"', 9, 12, True, 1, False)


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"chat","\xff":1}',
        b'{"model":"ch\xff"}',
        b'{"model":"chat","messages":[{"content":"caf\xe9"}]}',
        b'{"model":"chat","max_tokens":"\xff"}',
        b'{"model":"chat","x":"\xed\xa0\x80"}',
    ],
)
def test_a_request_that_is_not_utf8_is_refused_in_words(body: bytes) -> None:
    """Wherever it is so, and before anyone is asked."""
    for read in (read_call, members_of):
        with pytest.raises(Unreadable, match="UTF-8"):
            read(body)


def test_a_model_with_half_a_surrogate_is_refused_in_words() -> None:
    """An escape can say what UTF-8 cannot."""
    with pytest.raises(Unreadable):
        read_call(b'{"model":"\\ud800"}')


def test_what_is_not_utf8_is_no_error_to_whoever_reads_it() -> None:
    """Each by its own way to say that nothing was understood."""
    assert estimated_tokens(b'{"max_tokens":"\xff"}') > 256
    assert read_error(400, b'{"error":{"message":"caf\xe9"}}').about is About.OTHER
    answer = b'{"choices":[{"message":{"content":"{}","x":"\xff"},"finish_reason":"stop"}]}'
    assert not whole_keeps(Kind.CHAT, Promise(), answer)
    assert not stream_keeps(Kind.CHAT, Promise(), b"data: " + answer + b"\n\n")
    assert assemble(Kind.CHAT, b"data: " + answer + b"\n\n") is None
    assert asking_usage(Kind.CHAT, b'{"model":"m","\xff":1}', _ASKED) is None
    assert continued(Kind.CHAT, b'{"model":"m","\xff":1}', _ASKED, "a") is None
    with pytest.raises(Unreadable):
        read_gemini_call(Asking(b'"m"', False), b'{"generationConfig":{"\xff":1}}')


def _quiet(read: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    def reading(text: bytes) -> Any:
        try:
            return read(text)
        except Unreadable:
            return None

    return reading


_READERS: list[Callable[[bytes], Any]] = [
    _quiet(read_call),
    _quiet(members_of),
    _quiet(lambda body: read_gemini_call(Asking(b'"m"', False), body)),
    estimated_tokens,
    lambda body: asking_usage(Kind.CHAT, body, _ASKED),
    lambda body: continued(Kind.CHAT, body, _ASKED, "a"),
    lambda body: promise_of(Kind.CHAT, body),
    lambda body: whole_keeps(Kind.CHAT, Promise(), body),
    lambda body: stream_keeps(Kind.CHAT, Promise(), b"data: " + body + b"\n\n"),
    lambda body: assemble(Kind.CHAT, b"data: " + body + b"\n\n"),
    lambda body: keeps(Kind.CHAT, body),
    lambda body: read_error(400, body),
]


@pytest.mark.parametrize("reader", _READERS)
@pytest.mark.parametrize("name", [b"x", b"max_tokens", b"messages", b"stream_options", b"choices", b"error"])
def test_no_depth_is_too_much_for_a_reader(reader: Callable[[bytes], Any], name: bytes) -> None:
    """Every depth up to well over what the stack has room for, in bodies with white space and without."""
    for depth in range(sys.getrecursionlimit() - 120, sys.getrecursionlimit() + 20):
        nest = b"[" * depth + b"]" * depth
        reader(b'{"model":"m","%b":%b}' % (name, nest))
        reader(b'{"model": "m", "%b":%b}' % (name, nest))


def test_a_gemini_call_leaves_room_for_those_who_read_it_later() -> None:
    """One that can be read here can be read with a fuller stack, too."""

    def later(frames: int, body: bytes) -> None:
        if frames:
            later(frames - 1, body)
        else:
            members_of(body)

    taken = 0
    for depth in range(1, sys.getrecursionlimit(), 7):
        body = b'{"model":"m","x":' + b"[" * depth + b"]" * depth + b"}"
        try:
            read_gemini_call(Asking(b'"m"', False), body)
        except Unreadable:
            break
        later(40, body)
        taken = depth
    assert taken > 200
