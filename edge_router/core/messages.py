"""The heads that the edge writes: requests to targets, answers to clients. Nothing goes on as it came."""

import re
from collections.abc import Sequence
from typing import Final

from edge_router.core.answers import Refusal
from edge_router.core.body import Asked
from edge_router.core.wire import RequestHead, ResponseHead

JOIN_BYTES: Final = 64 * 1024
"""Up to this, copying a request into one piece costs less than writing several."""
_OFTEN_BODYLESS: Final = frozenset({b"GET", b"HEAD", b"DELETE", b"OPTIONS", b"TRACE"})
_NOBODY_ASKED: Final = {
    Refusal.FULL: "connection_limit_reached",
    Refusal.SHED: "http_request_denied",
    Refusal.NOT_STORED: "proxy_internal_response",
    Refusal.UNTRANSLATABLE: "http_request_error",
}

_RATE_LIMITS: Final = re.compile(rb"^x-ratelimit-[^\r\n]*\r\n", re.MULTILINE)

Failures = Sequence[tuple[str, str]]
"""Of each attempt that came to nothing: target and error."""


def call_request(
    prefix: bytes, head: RequestHead, trace: bytes, request_id: bytes, body: bytes, asked: Asked, model: bytes
) -> list[bytes | memoryview]:
    """A model call for a target: the body as it came, but for the model's name. `prefix` and `trace` are lines."""
    start, end = asked.start, asked.end
    framing = b"content-length: %d\r\nx-leeward-request-id: %b\r\naccept-encoding: identity\r\n\r\n" % (
        len(body) + len(model) - (end - start),
        request_id,
    )
    if len(body) < JOIN_BYTES:
        return [b"".join((prefix, head.forward, trace, framing, body[:start], model, body[end:]))]
    view = memoryview(body)
    return [b"".join((prefix, head.forward, trace, framing)), view[:start], model, view[end:]]


def worded_request(
    prefix: bytes, fields: bytes, trace: bytes, request_id: bytes, body: bytes
) -> list[bytes | memoryview]:
    """A model call for a target in words of its own."""
    framing = b"content-length: %d\r\nx-leeward-request-id: %b\r\naccept-encoding: identity\r\n\r\n" % (
        len(body),
        request_id,
    )
    lines = b"".join((prefix, fields, trace, framing))
    return [lines + body] if len(body) < JOIN_BYTES else [lines, body]


def plain_request(
    prefix: bytes, head: RequestHead, trace: bytes, request_id: bytes, body: bytes, forwarded: bytes
) -> list[bytes | memoryview]:
    """A plain request for a target; `forwarded` are the lines that say who asks."""
    length = b"" if not body and head.method in _OFTEN_BODYLESS else b"content-length: %d\r\n" % len(body)
    identity = b"x-leeward-request-id: %b\r\n\r\n" % request_id
    lines = b"".join((prefix, head.forward, forwarded, trace, length, identity))
    return [lines + body] if len(body) < JOIN_BYTES else [lines, body]


def answer_head(
    response: ResponseHead,
    stamp: bytes,
    *,
    mode: bytes,
    attempts: int,
    request_id: bytes,
    length: int | None,
    chunked: bool,
    failures: Failures,
    call: bool,
    connection: bytes,
) -> bytes:
    """The head of a target's answer for the client: the target's own fields, who answered, our framing. `call`:
    it answers a model call. `connection` are the lines of the client's connection, and what its key has left."""
    if length is not None:
        framing = b"content-length: %d\r\n" % length
    else:
        framing = b"transfer-encoding: chunked\r\n" if chunked else b""
    who = b"x-leeward-mode: %b\r\nx-leeward-attempts: %d\r\nx-leeward-request-id: %b\r\n" % (
        mode,
        attempts,
        request_id,
    )
    status = proxy_status(failures) if failures else b""
    forward = response.forward_call if call else response.forward
    if b"x-ratelimit-" in connection:
        forward = _RATE_LIMITS.sub(b"", forward)  # the target's are those of the edge's account
    return b"".join((response.status_line, forward, stamp, who, framing, status, connection, b"\r\n"))


def translated_head(head: ResponseHead, content_type: bytes) -> ResponseHead:
    """The head of an answer whose content is written anew: what the target said of its own content is left out,
    and the length is not known yet."""
    own = b"content-type: %b\r\n" % content_type
    return head._replace(
        content_length=None,
        forward=own + _OF_CONTENT.sub(b"", head.forward),
        forward_call=own + _OF_CONTENT.sub(b"", head.forward_call),
        lines=b"",
    )


_OF_CONTENT: Final = re.compile(
    rb"^(?:content-[^:\r\n]*|etag|last-modified|accept-ranges|digest|repr-digest|age):[^\r\n]*\r\n",
    re.MULTILINE,
)


def refusal_fields(
    refusal: Refusal, failures: Failures, *, decision: str, mode: bytes, attempts: int, request_id: bytes
) -> bytes:
    """The header lines of the edge's own answer to a request that was let in."""
    return (
        b"%bx-leeward-decision: %b\r\nx-leeward-mode: %b\r\nx-leeward-attempts: %d\r\nx-leeward-request-id: %b\r\n"
        % (
            proxy_status(failures, _NOBODY_ASKED.get(refusal, "destination_unavailable")),
            decision.encode(),
            mode,
            attempts,
            request_id,
        )
    )


def proxy_status(failures: Failures, error: str = "") -> bytes:
    """RFC 9209: who failed last and how, all in the details; `error` when nobody was asked."""
    if not failures:
        return b"proxy-status: leeward; error=%b\r\n" % error.encode()
    target, error = failures[-1]
    return b'proxy-status: leeward; error=%b; next-hop="%b"; details="%b"\r\n' % (
        error.encode(),
        target.encode(),
        told(failures).encode(),
    )


def told(failures: Failures) -> str:
    """The failures in words."""
    return ", ".join(f"{target}: {error}" for target, error in failures)
