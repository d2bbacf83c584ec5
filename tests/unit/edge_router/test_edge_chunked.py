"""Chunked coding as the edge reads it is what llhttp reads, whatever way it comes."""

from itertools import pairwise

import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_router.core.chunked import Chunked
from edge_router.core.wire import Malformed


class _Llhttp:
    """llhttp alone: what `Chunked` was before it read whole chunks itself, without its limit on framing."""

    def __init__(self) -> None:
        self.done = self.spilled = False
        self._begun = 0
        self._pieces: list[bytes] = []
        self._parser = httptools.HttpResponseParser(self)
        self._parser.feed_data(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")

    def feed(self, data: bytes) -> bytes:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            if not self.done:
                raise Malformed("llhttp") from None
            self.spilled = True
        content = b"".join(self._pieces)
        self._pieces.clear()
        return content

    def on_message_begin(self) -> None:
        self._begun += 1
        self.spilled = self.spilled or self._begun > 1

    def on_body(self, piece: bytes) -> None:
        if not self.done:
            self._pieces.append(piece)

    def on_message_complete(self) -> None:
        self.done = True


def _read(body: Chunked | _Llhttp, pieces: list[bytes]) -> list[object]:
    """What came of each piece, until it was malformed."""
    seen: list[object] = []
    for piece in pieces:
        try:
            content = body.feed(piece)
        except Malformed:
            return [*seen, "malformed"]
        seen.append((content, body.done, body.spilled))
    return seen


def _split(data: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[a:b] for a, b in pairwise(places) if a < b]


_content = st.binary(min_size=1, max_size=40)
_chunk = st.one_of(
    _content.map(lambda content: b"%x\r\n%b\r\n" % (len(content), content)),
    _content.map(lambda content: b"%X\r\n%b\r\n" % (len(content), content)),
    _content.map(lambda content: b"000%x\r\n%b\r\n" % (len(content), content)),
    _content.map(lambda content: b"%x;name=value\r\n%b\r\n" % (len(content), content)),
    st.sampled_from(
        [
            b"5\r\nab\r\n",
            b"3\nabc\r\n",
            b"3\r\nabc\n",
            b"3 \r\nabc\r\n",
            b"-3\r\nabc\r\n",
            b"0x3\r\nabc\r\n",
            b"\r\n",
            b"3\r\nabcde\r\n",
            b"ffffffffffffffffff\r\n",
            b'3;a="\r\n"\r\nabc\r\n',
        ]
    ),
)
_end = st.sampled_from(
    [
        b"",
        b"0\r\n\r\n",
        b"0\r\ntrailer: a\r\n\r\n",
        b"0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
        b"0\r\n\r\nx",
        b"00\r\n\r\n",
        b"0\r\n",
    ]
)
_cuts = st.lists(st.integers(min_value=0, max_value=400), max_size=6)


@given(st.lists(_chunk, max_size=6), _end, _cuts)
def test_what_it_reads_is_what_llhttp_reads(chunks: list[bytes], end: bytes, cuts: list[int]) -> None:
    """The same content, end, spill and refusal, piece by piece."""
    pieces = _split(b"".join(chunks) + end, cuts)
    assert _read(Chunked(), pieces) == _read(_Llhttp(), pieces)


@given(st.lists(_content, min_size=1, max_size=6), st.binary(max_size=3), st.integers(0, 300), _cuts)
def test_a_stray_byte_is_seen_as_llhttp_sees_it(
    contents: list[bytes], stray: bytes, place: int, cuts: list[int]
) -> None:
    """Anywhere, in framing or content."""
    whole = b"".join(b"%x\r\n%b\r\n" % (len(content), content) for content in contents) + b"0\r\n\r\n"
    at = place % len(whole)
    pieces = _split(whole[:at] + stray + whole[at + len(stray) :], cuts)
    assert _read(Chunked(), pieces) == _read(_Llhttp(), pieces)


@pytest.mark.parametrize(
    ("pieces", "between"),
    [
        ([b"3\r\nabc\r\n"], True),
        ([b"3\r\nabc\r\n4\r\nabcd\r\n"], True),
        ([b"3\r\nabc"], False),
        ([b"3\r\nabc", b"\r\n"], True),
        ([b"3\r\nab", b"c\r\n4\r\nabcd\r\n"], True),
        ([b"3\r\nab", b"c\r\n4"], False),
        ([b"3\r\nab", b"c\r\n4\r\n"], False),
        ([b"3\r\nab", b"c\r\n0\r\n"], False),
        ([b"3;x=y\r\nabc\r\n"], True),
        ([b"3\r\nabc\r\n0\r\n\r\n"], False),
        ([b"3\r\nabc\r\n0\r\na: b\r\n"], False),
    ],
)
def test_between_two_chunks_is_where_whole_ones_have_ended(pieces: list[bytes], between: bool) -> None:
    """Only there may somebody else read the next one."""
    body = Chunked()
    for piece in pieces:
        body.feed(piece)
    assert body.between is between


def test_framing_without_content_is_bounded() -> None:
    """One-byte chunks with long extensions cost without bringing anything."""
    body, wasteful = Chunked(), b"1;" + b"x" * 200 + b"\r\na\r\n"
    for _ in range(64 * 1024 // len(wasteful)):
        body.feed(wasteful)
    with pytest.raises(Malformed):
        body.feed(wasteful * 40)
