"""Heads are read by one strict grammar; what goes on is written anew."""

import hashlib

import httptools
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_router.core.chunked import Chunked
from edge_router.core.wire import (
    Malformed,
    Memo,
    RequestHead,
    parse_request_head,
    parse_response_head,
    prefix_fault,
)


def head(*fields: str, line: str = "POST /v1/chat/completions HTTP/1.1") -> bytes:
    return "\r\n".join([line, "Host: edge", *fields, "", ""]).encode("latin-1")


def test_a_head_is_read_into_what_a_request_needs() -> None:
    """Method, path, query, length, key, deadline."""
    got = parse_request_head(
        head(
            "Content-Length: 7",
            "Authorization: Bearer dev",
            "X-Leeward-Timeout-Ms: 1500",
            line="POST /v1/messages?beta=true HTTP/1.1",
        )
    )
    assert (got.method, got.path, got.query, got.content_length) == (
        b"POST",
        b"/v1/messages",
        b"?beta=true",
        7,
    )
    assert got.key_sha256 == hashlib.sha256(b"dev").hexdigest()
    assert got.timeout_ms == 1500
    assert got.keep_alive
    assert got.forward == b""


@pytest.mark.parametrize(
    "name",
    ["Authorization", "X-Api-Key", "Api-Key", "X-Goog-Api-Key", "Ocp-Apim-Subscription-Key", "APIKEY"],
)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/plain"])
def test_no_credential_of_a_client_goes_to_a_target(name: str, path: str) -> None:
    """Under any name by which providers and their gateways take one, on any path."""
    got = parse_request_head(head(f"{name}: Bearer secret", "X-Other: 1", line=f"POST {path} HTTP/1.1"))
    assert got.forward == b"x-other: 1\r\n"


@pytest.mark.parametrize(
    ("fields", "keep"),
    [
        ((), True),
        (("Connection: close",), False),
        (("Connection: keep-alive, Close",), False),
        (("Connection: x", "Connection: close"), False),
        (("Connection: closed",), True),
    ],
)
def test_connection_close_is_heard_wherever_it_stands(fields: tuple[str, ...], keep: bool) -> None:
    """RFC 9112, section 9.3."""
    assert parse_request_head(head(*fields)).keep_alive is keep


def test_a_malformed_trace_context_is_not_handed_on() -> None:
    """W3C Trace Context: a malformed traceparent starts a new trace, and its tracestate goes with it."""
    good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    assert parse_request_head(head(f"traceparent: {good}", "tracestate: a=1")).traceparent == good
    bad = parse_request_head(head("traceparent: nonsense", "tracestate: a=1"))
    assert (bad.traceparent, bad.trace, bad.forward) == (None, b"", b"")


@pytest.mark.parametrize(
    ("data", "faulty"),
    [
        (b"GET / HTTP/1.1\r\nhost: a\r\n", False),
        (b"GET / HTTP/1.1\r", False),
        (b"GET / HTTP/1.1\n", True),
        (b"GET / HTTP/1.1\rx", True),
        (b"\x16\x03\x01", True),
        (b"x-a: \xe4\t b", False),
    ],
)
def test_garbage_is_known_before_its_end(data: bytes, faulty: bool) -> None:
    """No deadline is needed to see that a beginning cannot become a head."""
    assert prefix_fault(data, 0) is faulty


TOKEN = st.text("abcXYZ019!#$%&'*+-.^_`|~", min_size=1, max_size=12)
VALUE = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=30).map(str.strip)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(TOKEN, VALUE), max_size=8), st.integers(0, 10_000))
def test_whatever_is_accepted_llhttp_reads_in_the_same_way(
    fields: list[tuple[str, str]], length: int
) -> None:
    """Two parsers, one reading: what this grammar accepts, llhttp accepts with the same fields."""
    raw = head(f"content-length: {length}", *(f"x-{name}: {value}" for name, value in fields))
    mine = parse_request_head(raw)
    seen: list[tuple[bytes, bytes]] = []

    class Listener:
        def on_header(self, name: bytes, value: bytes) -> None:
            seen.append((name.lower(), value))

    httptools.HttpRequestParser(Listener()).feed_data(raw)
    theirs = [b"%b: %b\r\n" % field for field in seen if field[0] not in (b"host", b"content-length")]
    assert mine.forward == b"".join(
        line
        for line in theirs
        if not line.startswith((b"x-leeward-", b"x-forwarded-", b"x-api-key:", b"x-real-ip:"))
    )
    assert mine.content_length == length


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60), st.integers(0, 200), st.integers(0, 200))
def test_no_bytes_make_the_parser_do_anything_but_read_or_refuse(junk: bytes, at: int, to: int) -> None:
    """A head with anything spliced into it is read, or Malformed; and what is handed on has no line breaks inside."""
    good = head("content-length: 3", "x-a: b", "connection: x-a", "authorization: Bearer dev")
    raw = good[:at] + junk + good[to:]
    end = raw.find(b"\r\n\r\n")
    try:
        got = parse_request_head(raw[: end + 4] if end >= 0 else raw)
    except Malformed:
        return
    for line in got.forward.split(b"\r\n")[:-1]:
        assert b":" in line
        assert not set(line) & {0, 10, 13}


def test_an_answer_is_read_into_what_a_client_may_get() -> None:
    """Framing and hop-by-hop fields stay behind, and nobody but the edge says x-leeward."""
    got = parse_response_head(
        b"HTTP/1.1 200 Fine\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: 5\r\nConnection: close, x-hop\r\n"
        b"X-Hop: 1\r\nX-Leeward-Target: evil\r\nAlt-Svc: h3\r\nRetry-After: 3\r\nX-Request-Id: r\r\n\r\n"
    )
    assert (got.status, got.status_line, got.content_length) == (200, b"HTTP/1.1 200 OK\r\n", 5)
    assert got.json
    assert not got.keep_alive
    assert got.retry_after == b"3"
    assert (
        got.forward
        == b"content-type: application/json; charset=utf-8\r\nretry-after: 3\r\nx-request-id: r\r\n"
    )


@pytest.mark.parametrize("size", [1, 2, 3, 5, 1000])
def test_a_chunked_body_is_the_same_in_any_pieces(size: int) -> None:
    """Decoded alike, however it comes."""
    raw = b"5\r\nhello\r\n6;ext=1\r\n world\r\n0\r\nx-t: 1\r\n\r\n"
    body = Chunked()
    got = b"".join(body.feed(raw[at : at + size]) for at in range(0, len(raw), size))
    assert (got, body.done, body.spilled) == (b"hello world", True, False)


@pytest.mark.parametrize("behind", [b"x", b"GET / HTTP/1.1\r\n", b"HTTP/1.1 200 OK\r\n\r\n", b"\x00"])
def test_bytes_behind_the_last_chunk_are_noticed(behind: bytes) -> None:
    """They might be anything, so the connection cannot be used again."""
    body = Chunked()
    assert body.feed(b"2\r\nhi\r\n0\r\n\r\n" + behind) == b"hi"
    assert (body.done, body.spilled) == (True, True)


def test_framing_without_content_is_bounded() -> None:
    """One-byte chunks with long extensions cost the sender the connection, not the edge its time."""
    body = Chunked()
    with pytest.raises(Malformed):
        body.feed((b"1;" + b"x" * 200 + b"\r\na\r\n") * 1000)


def test_the_memo_is_bounded_and_tells_the_same() -> None:
    """Known heads are not read again; a flood of different ones does not grow it."""
    reads = 0

    def parse(raw: bytes) -> RequestHead:
        nonlocal reads
        reads += 1
        return parse_request_head(raw)

    memo = Memo(parse)
    assert memo.read(head()) is memo.read(head())
    assert reads == 1
    for number in range(5000):
        memo.read(head(f"x-n: {number}"))
    assert len(memo) <= 1024
    with pytest.raises(Malformed):
        memo.read(b"nonsense\r\n\r\n")


@pytest.mark.parametrize(
    ("fields", "timeout_ms", "patience_s"),
    [
        ("", None, None),
        ("x-leeward-timeout-ms: 1500\r\n", 1500, None),
        ("x-envoy-expected-rq-timeout-ms: 900\r\n", 900, None),
        ("x-leeward-timeout-ms: 1500\r\nx-envoy-expected-rq-timeout-ms: 900\r\n", 900, None),
        ("x-envoy-expected-rq-timeout-ms: 0\r\n", None, None),
        ("x-envoy-expected-rq-timeout-ms: soon\r\n", None, None),
        ("x-stainless-read-timeout: 600\r\n", None, 600.0),
        ("x-stainless-read-timeout: 0.5\r\n", None, 0.5),
        ("x-stainless-timeout: 20\r\nx-stainless-read-timeout: 30.0\r\n", None, 20.0),
        ("x-stainless-read-timeout: 0\r\n", None, None),
        ("x-stainless-read-timeout: NotGiven\r\n", None, None),
        ("x-envoy-upstream-rq-timeout-ms: 5\r\ngrpc-timeout: 5m\r\n", None, None),
    ],
)
def test_the_clients_deadlines(fields: str, timeout_ms: int | None, patience_s: float | None) -> None:
    """Ours, Envoy's word of what it expects, and the SDKs' of how long they wait; what is none is passed over."""
    head = parse_request_head(f"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\n{fields}\r\n".encode())
    assert (head.timeout_ms, head.patience_s) == (timeout_ms, patience_s)
