"""Events are framed whatever way they come, and known for what they mean; relays say what may go on."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_router.core.endpoints import Kind
from edge_router.core.relay import WHOLE_BYTES, Events, Opaque, Problem, Verdict, Whole
from edge_router.core.sse import MAX_EVENT_BYTES, EventReader
from shared.vocabulary.terms import Outcome


def chat(delta: object = None, finish: str | None = None, **more: object) -> bytes:
    event = {"choices": [{"index": 0, "delta": delta or {}, "finish_reason": finish}], **more}
    return b"data: " + json.dumps(event).encode() + b"\n\n"


CUT = Problem(Outcome.FAILED, "connection_terminated", "cut")


@pytest.mark.parametrize(
    ("kind", "event", "substance"),
    [
        (Kind.CHAT, chat({"role": "assistant"}), False),
        (Kind.CHAT, chat({"role": "assistant", "content": ""}), False),
        (Kind.CHAT, chat({"role": "assistant", "content": None, "refusal": None}), False),
        (Kind.CHAT, chat({"content": "a"}), True),
        (Kind.CHAT, chat({"reasoning_content": "hm"}), True),
        (Kind.CHAT, chat({"tool_calls": [{"index": 0}]}), True),
        (Kind.CHAT, chat({}, "stop"), True),
        (Kind.CHAT, b": ping\n\n", False),
        (Kind.CHAT, b"event: ping\ndata: {}\n\n", False),
        (Kind.CHAT, b'data: {"choices":[],"usage":null}\n\n', False),
        (Kind.COMPLETIONS, b'data: {"choices":[{"text":""}]}\n\n', False),
        (Kind.COMPLETIONS, b'data: {"choices":[{"text":"a"}]}\n\n', True),
        (Kind.MESSAGES, b'event: message_start\ndata: {"type":"message_start"}\n\n', False),
        (Kind.MESSAGES, b'event: ping\ndata: {"type":"ping"}\n\n', False),
        (
            Kind.MESSAGES,
            b'event: content_block_delta\ndata: {"type":"content_block_delta","delta":{}}\n\n',
            True,
        ),
        (Kind.RESPONSES, b'event: response.created\ndata: {"type":"response.created"}\n\n', False),
        (Kind.RESPONSES, b'event: x\ndata: {"type":"response.output_text.delta","delta":"a"}\n\n', True),
    ],
)
def test_what_counts_as_the_first_byte_of_an_answer(kind: Kind, event: bytes, substance: bool) -> None:
    """Roles, beginnings and pings do not (DESIGN: Serving)."""
    reader = EventReader(kind)
    assert reader.feed(event) == event
    assert (reader.substance, reader.fault, reader.error) == (substance, "", "")


@pytest.mark.parametrize(
    ("kind", "event", "finished", "ended"),
    [
        (Kind.CHAT, chat({}, "length"), True, False),
        (Kind.CHAT, chat({}, "stop") + b"data: [DONE]\n\n", True, True),
        (Kind.CHAT, b"data: [DONE]\n\n", False, False),
        (
            Kind.MESSAGES,
            b'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"end_turn"}}\n\n',
            True,
            False,
        ),
        (Kind.MESSAGES, b'event: message_delta\ndata: {"type":"message_delta","delta":{}}\n\n', False, False),
        (Kind.MESSAGES, b'event: message_stop\ndata: {"type":"message_stop"}\n\n', True, True),
        (Kind.RESPONSES, b'data: {"type":"response.completed"}\n\n', True, True),
        (Kind.RESPONSES, b'data: {"type":"response.incomplete"}\n\n', True, True),
    ],
)
def test_how_the_dialects_say_that_they_are_done(
    kind: Kind, event: bytes, finished: bool, ended: bool
) -> None:
    """A finish reason, and the last event."""
    reader = EventReader(kind)
    reader.feed(event)
    assert (reader.finished, reader.ended) == (finished, ended)


STREAM = [
    chat({"role": "assistant"}),
    b": c\n\n",
    chat({"content": "héllo \\n\\n"}),
    b"id: 1\ndata: {\ndata: }\n\n",
    chat({}, "stop"),
    b"data: [DONE]\n\n",
]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 300), max_size=8), st.sampled_from([b"\n", b"\r\n", b"\r"]))
def test_framing_does_not_depend_on_the_pieces(cuts: list[int], ends: bytes) -> None:
    """Any cuts, any line ends: the same bytes come out, only whole events at a time."""
    whole = b"".join(STREAM).replace(b"\n", ends)
    reader = EventReader(Kind.CHAT)
    passed, at = b"", 0
    for cut in [*cuts, len(whole)]:
        passed += reader.feed(whole[at : at + cut])
        at += cut
        assert whole.startswith(passed)
        assert passed == b"" or passed.endswith(ends)
    if ends == b"\r":
        passed += reader.feed(b"\n")  # until then it might be half of CR LF
    assert passed.rstrip(b"\r\n") == whole.rstrip(b"\r\n")
    assert reader.ended
    assert not reader.fault


def test_after_a_malformed_event_nothing_is_passed_on() -> None:
    """What came before it is."""
    reader = EventReader(Kind.CHAT)
    good = chat({"content": "a"})
    assert reader.feed(good + b"data: {oops\n\n" + good) == good
    assert reader.fault


def test_an_event_without_end_is_bounded() -> None:
    """A target cannot make the edge hold more than one megabyte of it."""
    reader = EventReader(Kind.CHAT)
    for _ in range(MAX_EVENT_BYTES // 65536 + 2):
        assert reader.feed(b"x" * 65536) == b""
    assert reader.fault


def test_nothing_is_passed_before_substance_and_then_everything() -> None:
    """Held events come out together with the first that says something."""
    relay = Events(Kind.CHAT, choices=1)
    assert relay.feed(chat({"role": "assistant"}), False).verdict is Verdict.HOLD
    step = relay.feed(chat({"content": "a"}), False)
    assert step == (chat({"role": "assistant"}) + chat({"content": "a"}), Verdict.PASS)
    assert relay.feed(chat({}, "stop"), False).verdict is Verdict.FINISHING
    assert relay.feed(b"", True) == (b"data: [DONE]\n\n", Verdict.COMPLETE)


def test_what_is_held_is_bounded() -> None:
    """Pings for ever do not fill the memory: at 64 KiB the answer begins."""
    relay = Events(Kind.CHAT, choices=1)
    verdicts = {relay.feed(b": ping\n\n" * 1000, False).verdict for _ in range(20)}
    assert Verdict.PASS in verdicts


@pytest.mark.parametrize(
    ("fed", "verdict"),
    [
        ([], Verdict.BROKEN),
        ([chat({"content": "a"})], Verdict.BROKEN),
        ([chat({"content": "a"}), chat({}, "stop")], Verdict.COMPLETE),
        ([chat({"content": "a"}), chat({}, "stop"), b"data: [DONE]\n\n"], Verdict.COMPLETE),
        ([chat({"content": "a"}), b"data: [DONE]\n\n"], Verdict.BROKEN),
        ([chat({"content": "a"}), b'data: {"error":{"type":"x"}}\n\n'], Verdict.BROKEN),
    ],
)
def test_a_cut_is_an_end_only_after_the_model_said_so(fed: list[bytes], verdict: Verdict) -> None:
    """Never a clean end of a truncated answer."""
    relay = Events(Kind.CHAT, choices=1)
    for event in fed:
        relay.feed(event, False)
    assert relay.cut(CUT).verdict is verdict


def test_an_empty_stream_is_no_answer() -> None:
    """[DONE] alone says nothing that a client could use."""
    relay = Events(Kind.CHAT, choices=1)
    assert relay.feed(b"data: [DONE]\n\n", True) == (b"", Verdict.BROKEN)


@pytest.mark.parametrize(
    ("content", "good"),
    [
        (b"{}", True),
        (b" [1] ", True),
        (b"", False),
        (b"{", False),
        (b'"a"', False),
        (b"{}x", False),
        (b"1", False),
        (b'{"a":nul}', False),
    ],
)
def test_json_that_was_promised_is_checked(content: bytes, good: bool) -> None:
    """An object or an array, well-formed, and nothing else."""
    step = Whole(Kind.PLAIN).feed(content, True)
    assert step == ((content, Verdict.COMPLETE) if good else (b"", Verdict.BROKEN))


GOOD = {
    Kind.CHAT: b'{"choices":[{"message":{"content":"a"},"finish_reason":"stop"}],"error":null}',
    Kind.COMPLETIONS: b'{"choices":[{"text":"a","finish_reason":"length"}]}',
    Kind.EMBEDDINGS: b'{"data":[{"embedding":[0.1]}]}',
    Kind.RESPONSES: b'{"output":[],"error":null,"status":"completed"}',
    Kind.MESSAGES: b'{"type":"message","content":[{"type":"text","text":"a"}],"stop_reason":"end_turn"}',
}


@pytest.mark.parametrize("kind", GOOD)
def test_an_answer_is_what_was_asked_for_or_none(kind: Kind) -> None:
    """Error envelopes, other objects, empty lists and answers without an end are no success, whatever the status."""
    assert Whole(kind).feed(GOOD[kind], True) == (GOOD[kind], Verdict.COMPLETE)
    others = [b'{"ok":true}', b"[]", b'{"error":{"message":"overloaded"}}', GOOD[kind][:-1]]
    others += [GOOD[kind][:-1] + b',"error":{"type":"overloaded"}}'] if b"error" not in GOOD[kind] else []
    for field in (b'"stop"', b'"length"', b'"end_turn"'):
        others += [GOOD[kind].replace(field, b"null")] if field in GOOD[kind] else []
    others += [b'{"choices":[]}', b'{"data":[]}', b'{"content":"half"}']
    for other in others:
        assert Whole(kind).feed(other, True) == (b"", Verdict.BROKEN), other


def test_a_stream_that_says_done_before_it_is_finished_is_cut_off_there() -> None:
    """[DONE] without a finish reason is not passed on: with it, any stop would look like the end."""
    relay = Events(Kind.CHAT, choices=1)
    said = b'data: {"choices":[{"index":0,"delta":{"content":"half"},"finish_reason":null}]}\n\n'
    assert relay.feed(said, False) == (said, Verdict.PASS)
    assert relay.feed(b"data: [DONE]\n\n", True) == (b"", Verdict.BROKEN)
    assert relay.problem is not None


def test_a_large_answer_is_passed_on_as_it_comes() -> None:
    """Only 8 MiB are held; from then on the answer has begun, and ends well only if all its brackets do."""

    def begun() -> Whole:
        relay = Whole(Kind.CHAT)
        assert relay.feed(b'{"a":"', False).verdict is Verdict.HOLD
        step = relay.feed(b"x" * WHOLE_BYTES, False)
        assert (len(step.content), step.verdict) == (WHOLE_BYTES + 6, Verdict.PASS)
        return relay

    assert begun().cut(CUT).verdict is Verdict.BROKEN
    assert begun().feed(b'","b":[1]}', True) == (b'","b":[1]}', Verdict.COMPLETE)
    assert begun().feed(b'","b":[1]', True) == (b"", Verdict.BROKEN)
    assert begun().feed(b"y", True) == (b"", Verdict.BROKEN)
    assert Whole(Kind.CHAT).feed(b"<" * (WHOLE_BYTES + 1), False).verdict is Verdict.BROKEN


def test_what_nobody_promised_anything_about_passes() -> None:
    """As it comes; only its framing is kept."""
    relay = Opaque()
    assert relay.feed(b"\x00", False) == (b"\x00", Verdict.PASS)
    assert relay.feed(b"", True) == (b"", Verdict.COMPLETE)
