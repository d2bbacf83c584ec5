"""The express way takes nothing that the full reader would not pass on unchanged and without consequence."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_router.core.chunked import Chunked
from edge_router.core.endpoints import Kind
from edge_router.core.express import Form, form_of
from edge_router.core.relay import Events, Verdict
from edge_router.core.sse import EventReader


def _event(text: str, *, ascii_only: bool = False, **more: object) -> bytes:
    chunk = {
        "id": "c-1",
        "choices": [{"index": 0, "delta": {"content": text}, "logprobs": None, "finish_reason": None}],
        **more,
    }
    return b"data: " + json.dumps(chunk, separators=(",", ":"), ensure_ascii=ascii_only).encode() + b"\n\n"


CHAT = _event(" sheltered")
PADDED = _event(" sheltered", obfuscation="aZ3")
COMPLETION = b'data: {"choices":[{"text":"ab","index":0,"finish_reason":null}]}\n\n'
MESSAGE = (
    b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,'
    b'"delta":{"type":"text_delta","text":"Hello"}}\n\n'
)
RESPONSE = b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","delta":"Hi"}\n\n'
SEEDS = [
    (Kind.CHAT, CHAT),
    (Kind.CHAT, PADDED),
    (Kind.COMPLETIONS, COMPLETION),
    (Kind.MESSAGES, MESSAGE),
    (Kind.RESPONSES, RESPONSE),
]


def _framed(content: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(content), content)


def _form(event: bytes) -> Form:
    form = form_of(event)
    assert form is not None
    return form


def _state(reader: EventReader) -> tuple[object, ...]:
    return (reader.substance, reader.finished, reader.ended, reader.error, reader.fault, reader.partial)


def _passes_unchanged(kind: Kind, seed: bytes, data: bytes) -> bool:
    """What the full path makes of `data` behind the ordinary event `seed`."""
    body, reader = Chunked(), EventReader(kind)
    reader.feed(seed)
    before = _state(reader)
    content = body.feed(data)
    passed = reader.feed(content)
    return body.between and passed == content and _framed(passed) == data and _state(reader) == before


@pytest.mark.parametrize(("kind", "event"), SEEDS)
def test_each_dialect_has_ordinary_events(kind: Kind, event: bytes) -> None:
    """The one that taught the form fits it, framed as the edge frames it."""
    assert _form(event).fits(_framed(event))
    assert _passes_unchanged(kind, event, _framed(event))


@given(st.sampled_from(SEEDS), st.text(max_size=60), st.booleans(), st.text(alphabet="aZ\u00e9", max_size=9))
def test_any_text_that_takes_it_passes_the_full_reader(
    seed: tuple[Kind, bytes], text: str, ascii_only: bool, padding: str
) -> None:
    """Whatever is written in the place of the text: well-formed or not taken."""
    kind, event = seed
    said = json.dumps(text, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")[1:-1]
    for old in (b" sheltered", b'text":"ab', b"Hello", b"Hi"):
        event = event.replace(old, old[: old.rfind(b'"') + 1] + said)
    data = _framed(event.replace(b"aZ3", padding.encode()))
    if _form(seed[1]).fits(data):
        assert _passes_unchanged(kind, seed[1], data)


@given(st.sampled_from(SEEDS), st.binary(max_size=12), st.integers(0, 400), st.integers(0, 12))
def test_no_bytes_that_the_full_reader_would_stop_take_it(
    seed: tuple[Kind, bytes], stray: bytes, place: int, over: int
) -> None:
    """Bytes put anywhere into a chunk, in the place of as many or between: a malformed event never passes."""
    kind, event = seed
    form = _form(event)
    for whole in (event, _framed(event)):
        at = place % len(whole)
        changed = whole[:at] + stray + whole[at + over :]
        data = _framed(changed) if whole is event else changed
        if form.fits(data):
            assert _passes_unchanged(kind, event, data)


def test_most_of_what_models_write_takes_it() -> None:
    """Else the test above would be true of a way that nothing takes."""
    form = _form(CHAT)
    for text in (
        "",
        " the",
        "x" * 900,
        "caf\u00e9",
        "\u6f22\u5b57",
        "\U0001f600",
        "a\nb",
        'say "hi"',
        "back\\slash",
    ):
        assert form.fits(_framed(_event(text))), text
    assert form.fits(_framed(_event("\u00e9", ascii_only=True)))
    assert _form(PADDED).fits(_framed(_event("other", obfuscation="")))


@pytest.mark.parametrize(
    "data",
    [
        _framed(_event("a") + _event("b")),
        _framed(_event("a"))[:-1],
        _framed(_event("a"))[:40],
        _framed(_event("a")) + _framed(_event("b")),
        b"0" + _framed(_event("a")),
        b"%X\r\n%b\r\n" % (len(_event("a" * 60)), _event("a" * 60)),
        _framed(_event("a")).replace(b"\r\n", b";x\r\n", 1),
        _framed(_event("a").replace(b"null}]", b'"stop"}]')),
        _framed(_event("a", usage={"prompt_tokens": 1})),
        _framed(_event("a", error={"code": "x"})),
        _framed(CHAT.replace(b" sheltered", b'a"')),
        _framed(CHAT.replace(b" sheltered", b"a\\")),
        _framed(CHAT.replace(b" sheltered", b'a","content":"b')),
        _framed(CHAT.replace(b" sheltered", b"a\nb")),
        _framed(CHAT.replace(b" sheltered", b"a\xff")),
        _framed(CHAT.replace(b" sheltered", b"\xed\xa0\x80")),
        _framed(CHAT.replace(b" sheltered", b"\\ud83d\\ude00")),
        _framed(CHAT.replace(b" sheltered", b"a" * 5000)),
        _framed(b"data: [DONE]\n\n"),
        b"",
        b"0\r\n\r\n",
    ],
)
def test_what_is_out_of_the_ordinary_is_read_whole(data: bytes) -> None:
    """Framing that is not the edge's own, an end, an error, usage, an escape that needs more than a look."""
    assert not _form(CHAT).fits(data)


@pytest.mark.parametrize(
    "event",
    [
        b": ping\n\n",
        b"data: [DONE]\n\n",
        CHAT.replace(b"\n", b"\r\n"),
        CHAT + CHAT,
        b'data: {"choices":[]}\n\n',
        b'data: {"content":"a"\n\n',
        b'data: {"a":1}\n: "content":"x"\n\n',
    ],
)
def test_what_has_no_text_in_a_line_of_its_own_has_no_form(event: bytes) -> None:
    """There is nothing by which another could be told."""
    assert form_of(event) is None


def test_a_form_is_learnt_only_while_the_answer_is_under_way() -> None:
    """Not before substance, and not after a finish reason or an error: every event counts then."""
    relay = Events(Kind.CHAT, choices=1)
    role = b'data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}\n\n'
    assert relay.feed(role, False).verdict is Verdict.HOLD
    assert relay.form(role) is None
    assert relay.feed(CHAT, False).verdict is Verdict.PASS
    assert relay.form(CHAT) is not None
    end = CHAT.replace(b"null}]", b'"stop"}]')
    assert relay.feed(end, False).verdict is Verdict.FINISHING
    assert relay.form(end) is None
