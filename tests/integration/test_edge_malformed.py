"""What must never be forwarded: each malformed or ambiguous request gets an error and a closed connection (RFC 9110, 9112)."""

import asyncio

import pytest

from tests.support.data_path import CALL, STREAM_HEAD, Target, World, answer, chunk, request, serving

LENGTH = str(len(CALL))
LINE = "POST /v1/chat/completions HTTP/1.1"
AUTH = "authorization: Bearer dev"


def raw(*lines: str, body: bytes = CALL, line: str = LINE, host: str = "host: edge") -> bytes:
    """A request as it is written, with whatever is wrong in it."""
    fields = [*([host] if host else []), AUTH, *lines]
    return "\r\n".join([line, *fields]).encode("latin-1") + b"\r\n\r\n" + body


CL = f"content-length: {LENGTH}"
TE = "transfer-encoding: chunked"
GET = "GET /v1/models"

CASES: dict[str, tuple[bytes, int]] = {
    # framing
    "CL and TE": (raw(CL, TE), 400),
    "TE and CL": (raw(TE, CL), 400),
    "CL twice, equal": (raw(CL, CL), 400),
    "CL twice, different": (raw(CL, "content-length: 0"), 400),
    "CL list": (raw(f"content-length: {LENGTH}, {LENGTH}"), 400),
    "CL negative": (raw("content-length: -1"), 400),
    "CL with plus": (raw(f"content-length: +{LENGTH}"), 400),
    "CL hex": (raw("content-length: 0x20"), 400),
    "CL empty": (raw("content-length:"), 400),
    "CL with inner space": (raw("content-length: 1 2"), 400),
    "CL with underscore": (raw("content-length: 1_0"), 400),
    "CL of 400 digits": (raw("content-length: " + "9" * 400), 400),
    "CL not ASCII digits": (raw("content-length: \xb2"), 400),
    "TE gzip": (raw("transfer-encoding: gzip"), 400),
    "TE chunked twice in one": (raw("transfer-encoding: chunked, chunked"), 400),
    "TE gzip, chunked": (raw("transfer-encoding: gzip, chunked"), 400),
    "TE identity": (raw("transfer-encoding: identity"), 400),
    "TE twice": (raw(TE, TE), 400),
    "TE xchunked": (raw("transfer-encoding: xchunked"), 400),
    "TE with vertical tab": (raw("transfer-encoding: \x0bchunked"), 400),
    "TE quoted": (raw('transfer-encoding: "chunked"'), 400),
    "TE in HTTP/1.0": (raw(TE, line=LINE.replace("1.1", "1.0")), 400),
    "TE with space before the colon": (raw("transfer-encoding : chunked"), 400),
    "CL with space before the colon": (raw(f"content-length : {LENGTH}"), 400),
    # chunked bodies
    "chunk size not hex": (raw(TE, body=b"zz\r\nhello\r\n0\r\n\r\n"), 400),
    "chunk size negative": (raw(TE, body=b"-5\r\nhello\r\n0\r\n\r\n"), 400),
    "chunk size with 0x": (raw(TE, body=b"0x5\r\nhello\r\n0\r\n\r\n"), 400),
    "chunk size with a space before": (raw(TE, body=b" 5\r\nhello\r\n0\r\n\r\n"), 400),
    "chunk size with a space behind": (raw(TE, body=b"5 \r\nhello\r\n0\r\n\r\n"), 400),
    "chunk size overflows": (raw(TE, body=b"fffffffffffffffff\r\nhello"), 400),
    "chunk size ends in LF": (raw(TE, body=b"5\nhello\r\n0\r\n\r\n"), 400),
    "chunk longer than its size": (raw(TE, body=b"5\r\nhello!\r\n0\r\n\r\n"), 400),
    "chunk ends in LF": (raw(TE, body=b"5\r\nhello\n0\r\n\r\n"), 400),
    "chunk size missing": (raw(TE, body=b"\r\nhello\r\n0\r\n\r\n"), 400),
    "chunk extension with LF": (raw(TE, body=b"5;a\nb\r\nhello\r\n0\r\n\r\n"), 400),
    "chunk extensions without end": (raw(TE, body=b"5;" + b"x" * 200_000), 400),
    "trailers without end": (raw(TE, body=b"0\r\n" + b"a: b\r\n" * 30_000), 400),
    "trailer malformed": (raw(TE, body=b"0\r\na b: c\r\n\r\n"), 400),
    "trailer folded": (raw(TE, body=b"0\r\na: b\r\n c\r\n\r\n"), 400),
    # Host
    "no Host": (raw(CL, host=""), 400),
    "Host twice": (raw("host: other", CL), 400),
    "Host empty": (raw(CL, host="host:"), 400),
    "Host with user": (raw(CL, host="host: a@b"), 400),
    "Host with path": (raw(CL, host="host: a/b"), 400),
    "Host with comma": (raw(CL, host="host: a, b"), 400),
    "Host with space": (raw(CL, host="host: a b"), 400),
    "Host with port not a number": (raw(CL, host="host: a:b"), 400),
    # lines and characters
    "obs-fold": (raw("x-folded: a\r\n b", CL), 400),
    "obs-fold with tab": (raw("x-folded: a\r\n\tb", CL), 400),
    "first field folded": (raw(CL, host=" host: edge"), 400),
    "bare LF between fields": (raw("x-a: b\nx-c: d", CL), 400),
    "bare CR in a value": (raw("x-a: b\rc", CL), 400),
    "all lines end in LF": (raw(CL).replace(b"\r\n", b"\n"), 400),
    "NUL in a value": (raw("x-a: b\x00c", CL), 400),
    "NUL in a name": (raw("x-\x00a: b", CL), 400),
    "control character in a value": (raw("x-a: b\x08", CL), 400),
    "DEL in a value": (raw("x-a: b\x7f", CL), 400),
    "field without colon": (raw("nonsense", CL), 400),
    "field without name": (raw(": value", CL), 400),
    "name with space": (raw("x a: b", CL), 400),
    "name with non-ASCII": (raw("x-\xe4: b", CL), 400),
    "name with quote": (raw('x"a: b', CL), 400),
    "two bytes too many before the request": (b"\r\n\r\n\r\n" + raw(CL), 400),
    # request line
    "absolute form": (raw(line=f"{GET.replace('/v1', 'http://other/v1')} HTTP/1.1"), 400),
    "authority form": (raw(line="CONNECT other:443 HTTP/1.1"), 400),
    "asterisk form": (raw(line="OPTIONS * HTTP/1.1"), 400),
    "no target": (raw(line="GET HTTP/1.1"), 400),
    "two spaces": (raw(line="GET  /v1/models HTTP/1.1"), 400),
    "tab for a space": (raw(line="GET\t/v1/models HTTP/1.1"), 400),
    "space behind the version": (raw(line=f"{GET} HTTP/1.1 "), 400),
    "method in lower case": (raw(line="get /v1/models HTTP/1.1"), 400),
    "method with a bracket": (raw(line="G(T /v1/models HTTP/1.1"), 400),
    "fragment": (raw(line="GET /v1/models#x HTTP/1.1"), 400),
    "backslash": (raw(line="GET /v1\\models HTTP/1.1"), 400),
    "path not ASCII": (raw(line="GET /v1/m\xf6dels HTTP/1.1"), 400),
    "path without slash": (raw(line="GET v1/models HTTP/1.1"), 400),
    "no version": (raw(line=GET), 400),
    "version in lower case": (raw(line=f"{GET} http/1.1"), 400),
    "HTTP/2.0": (raw(line=f"{GET} HTTP/2.0"), 505),
    "HTTP/1.2": (raw(line=f"{GET} HTTP/1.2"), 505),
    "HTTP/2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    "TLS hello": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64), 400),
    # limits and expectations
    "a head of 70 KiB": (raw("x-big: " + "x" * 70_000, CL), 431),
    "a head without end": (raw("x-big: " + "x" * 70_000)[: -len(CALL) - 4], 431),
    "129 fields": (raw(*[f"x-{n}: a" for n in range(129)], CL), 431),
    "an unknown expectation": (raw("expect: 200-ok", CL), 417),
    "key given twice": (raw("authorization: Bearer other", CL), 400),
    "deadline not a number": (raw("x-leeward-timeout-ms: soon", CL), 400),
    "deadline of zero": (raw("x-leeward-timeout-ms: 0", CL), 400),
}


@pytest.mark.parametrize("name", CASES)
async def test_a_malformed_request_is_answered_once_closed_and_never_forwarded(name: str) -> None:
    """Whatever a second reader might make of it, it reaches no target; nor does what was smuggled behind it."""
    malformed, status = CASES[name]
    target = Target()
    smuggled = request(b'{"model":"chat","smuggled":true}')
    async with serving({"alpha": target}) as edge, edge.client() as client:
        client.write(malformed)
        client.write(smuggled)
        got = await client.read()
        assert got.status == status
        assert got.fields["connection"] == "close"
        assert got.clean
        assert await client.closed()
        assert target.seen == []


@pytest.mark.parametrize("name", sorted(CASES))
async def test_a_malformed_request_behind_a_good_one_is_met_the_same_way(name: str) -> None:
    """The first of two gets its answer, the second its error: pipelining is no way around. What is longer than may be
    sent ahead comes after the answer."""
    malformed, status = CASES[name]
    target = Target()
    async with serving({"alpha": target}) as edge, edge.client() as client:
        ahead = edge.gateway.limits.ahead_bytes
        client.write(request() + malformed[:ahead])
        assert (await client.read()).status == 200
        client.write(malformed[ahead:])
        assert (await client.read()).status == status
        assert await client.closed()
        assert len(target.seen) == 1


ANSWERS: dict[str, bytes] = {
    "not HTTP": b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    "nothing like it": b"\x00\x01\x02\x03\x04\x05\r\n\r\n",
    "CL and TE": b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n{}",
    "CL twice": answer(b"{}", fields="content-length: 2\r\n"),
    "CL not a number": b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: two\r\n\r\n{}",
    "TE gzip": b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: gzip\r\n\r\n{}",
    "obs-fold": answer(b"{}", fields="x-a: b\r\n c\r\n"),
    "bare LF": answer(b"{}").replace(b"\r\n", b"\n"),
    "bad chunk size": STREAM_HEAD.replace(b"text/event-stream", b"application/json")
    + b"zz\r\n{}\r\n0\r\n\r\n",
    "a head without end": b"HTTP/1.1 200 OK\r\n" + b"x-a: b\r\n" * 20_000,
    "switching protocols": b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n",
    "status of two digits": b"HTTP/1.1 20 OK\r\n\r\n",
    "HTTP/2": b"HTTP/2.0 200 OK\r\ncontent-length: 2\r\n\r\n{}",
    "empty 200": answer(b""),
    "204 for a call": b"HTTP/1.1 204 No Content\r\n\r\n",
    "HTML": answer(b"<html>", kind="text/html"),
    "HTML called JSON": answer(b"<html>"),
    "JSON cut off": answer(b'{"id":"c"'),
    "a bare string": answer(b'"hello"'),
    "JSON and more": answer(b"{} {}"),
    "a redirect": answer(b"{}", status="302 Found", fields="location: http://127.0.0.1:1/\r\n"),
    "compressed": answer(b"\x1f\x8b\x08", fields="content-encoding: gzip\r\n"),
    "a stream nobody asked for": STREAM_HEAD + chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n",
}


@pytest.mark.parametrize("name", ANSWERS)
async def test_a_malformed_answer_is_garbled_and_another_target_answers(name: str) -> None:
    """A target's malformed answer never reaches the client; its connection is not used again."""
    bad, good = Target(ANSWERS[name]), Target()
    async with serving({"bad": bad, "good": good}, World(tiers=[["bad"], ["good"]])) as edge:
        got = await edge.ask()
        assert (got.status, got.fields["x-leeward-target"], got.fields["x-leeward-attempts"]) == (
            200,
            "good",
            "2",
        )
        assert got.fields["proxy-status"].startswith("leeward; error=")
        assert edge.metric("leeward_edge_attempts_total", target="bad", outcome="GARBLED") == 1


async def test_bytes_behind_an_answer_poison_the_connection_not_the_next_request() -> None:
    """What a target sends unasked is taken for no answer: the connection is given up."""
    first, second = (b'{"n":%d,"choices":[{"finish_reason":"stop"}]}' % n for n in (1, 2))
    target = Target(answer(first) + answer(second))
    async with serving({"alpha": target}) as edge, edge.client() as client:
        assert (await client.ask()).body == first
        assert (await client.ask()).body == first
        await asyncio.sleep(0.05)
        assert (await client.ask()).body == first
    assert target.connections == 3
