"""Events are framed whatever way they come, and known for what they mean; relays say what may go on."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_router.core.endpoints import Kind
from edge_router.core.promise import keeps
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
        (Kind.MESSAGES, b'event: message_stop\ndata: {"type":"message_stop"}\n\n', False, False),
        (
            Kind.MESSAGES,
            b'data: {"type":"message_delta","delta":{"stop_reason":"end_turn"}}\n\ndata: {"type":"message_stop"}\n\n',
            True,
            True,
        ),
        (
            Kind.MESSAGES,
            b'data: {"type":"message_delta","delta":{"stop_reason":""}}\n\ndata: {"type":"message_stop"}\n\n',
            False,
            False,
        ),
        (Kind.CHAT, chat({"content": "a"}, ""), False, False),
        (Kind.COMPLETIONS, b'data: {"choices":[{"text":"a","finish_reason":""}]}\n\n', False, False),
        (Kind.GEMINI, b'data: {"candidates":[{"finishReason":""}]}\n\n', False, False),
        (Kind.GEMINI, b'data: {"candidates":[{"index":1,"finishReason":"STOP"}]}\n\n', False, False),
        (Kind.CHAT, b'data: {"choices":[{"index":5,"finish_reason":"stop"}]}\n\n', False, False),
        (Kind.CHAT, b'data: {"choices":[{"index":-1,"finish_reason":"stop"}]}\n\n', False, False),
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


def generated(*parts: object, **candidate: object) -> bytes:
    event = {"candidates": [{"content": {"role": "model", "parts": list(parts)}, **candidate}]}
    return b"data: " + json.dumps(event).encode() + b"\r\n\r\n"


@pytest.mark.parametrize(
    ("event", "substance", "finished", "error"),
    [
        (generated(), False, False, ""),
        (generated({"text": "a"}), True, False, ""),
        (generated({"text": "a"}, finishReason="STOP"), True, True, ""),
        (b'data: {"usageMetadata":{"promptTokenCount":3}}\n\n', False, False, ""),
        (b'data: {"promptFeedback":{"blockReason":"SAFETY"}}\n\n', True, True, ""),
        (b'data: {"error":{"code":503,"status":"UNAVAILABLE"}}\n\n', False, False, "UNAVAILABLE"),
    ],
)
def test_what_gemini_streams_mean(event: bytes, substance: bool, finished: bool, error: str) -> None:
    """Gemini has no last event: the finish reason is the last that is said."""
    reader = EventReader(Kind.GEMINI)
    assert reader.feed(event) == event
    assert (reader.substance, reader.finished, reader.error, reader.ended) == (
        substance,
        finished,
        error,
        False,
    )


@pytest.mark.parametrize(
    ("kind", "content", "kept"),
    [
        (Kind.GEMINI, b'{"candidates":[{"finishReason":"STOP"}]}', True),
        (Kind.GEMINI, b'{"promptFeedback":{"blockReason":"SAFETY"}}', True),
        (Kind.GEMINI, b'{"candidates":[{"finishReason":null}]}', False),
        (Kind.GEMINI, b'{"candidates":[]}', False),
        (Kind.GEMINI, b'{"error":{"code":500},"candidates":[{"finishReason":"STOP"}]}', False),
        (Kind.GEMINI_EMBEDDINGS, b'{"embedding":{"values":[1]}}', True),
        (Kind.GEMINI_EMBEDDINGS, b'{"embeddings":[{"values":[1]}]}', True),
        (Kind.GEMINI_EMBEDDINGS, b'{"embeddings":[]}', False),
    ],
)
def test_what_gemini_promises_in_one_piece(kind: Kind, content: bytes, kept: bool) -> None:
    """An answer that is finished, or a prompt that is said to be blocked."""
    step = Whole(kind).feed(content, True)
    assert (step.verdict is Verdict.COMPLETE) is kept


def test_an_answer_nested_beyond_reason_is_garbled() -> None:
    """Whole or as an event: the decoder gives up, and so does the edge, in order."""
    deep = b"[" * 5_000 + b"]" * 5_000
    assert keeps(Kind.CHAT, b'{"choices":%b}' % deep) is None
    reader = EventReader(Kind.CHAT)
    assert reader.feed(b'data: {"choices":%b}\n\n' % deep) == b""
    assert reader.fault


def test_a_message_that_stops_without_a_reason_is_a_fault() -> None:
    """The stop itself is not passed on: it would make half an answer look like a whole one."""
    reader = EventReader(Kind.MESSAGES)
    begun = b'data: {"type":"content_block_delta","delta":{"text":"a"}}\n\n'
    assert reader.feed(begun + b'data: {"type":"message_stop"}\n\n') == begun
    assert "message_stop" in reader.fault


@pytest.mark.parametrize("cut", [0, 3])
def test_what_comes_behind_the_last_event_is_dropped(cut: int) -> None:
    """In the same piece or in a later one, however long; it is no fault of a whole answer."""
    whole = chat({"content": "a"}) + chat({}, "stop") + b"data: [DONE]\n\n"
    more = chat({"content": "more"})
    reader = EventReader(Kind.CHAT)
    assert reader.feed(whole + more[:cut]) == whole
    assert reader.feed(more[cut:] + b"x" * (MAX_EVENT_BYTES + 1)) == b""
    assert (reader.ended, reader.fault, reader.partial) == (True, "", False)
    crlf = EventReader(Kind.CHAT)
    assert crlf.feed((whole + more).replace(b"\n", b"\r\n")) == whole.replace(b"\n", b"\r\n")
    assert not crlf.fault


@pytest.mark.parametrize(
    "event",
    [
        b'data: {"choices":[{"index":0,"delta":{"content":"caf\xe9"}}]}\n\n',
        b'event: x\ndata: {"choices":[],\ndata: "system_fingerprint":"\xff"}\n\n',
        b'data: {"\xff":1,"choices":[]}\n\n',
    ],
)
def test_an_event_that_is_not_utf8_is_a_fault(event: bytes) -> None:
    """Wherever it is so, also where no reader looks."""
    reader = EventReader(Kind.CHAT)
    good = chat({"content": "é"})
    assert reader.feed(good + event) == good
    assert "UTF-8" in reader.fault


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        (Kind.CHAT, b'{"choices":[{"message":{"content":"%b"},"finish_reason":"stop"}]}'),
        (Kind.EMBEDDINGS, b'{"data":[[1]],"x":"%b"}'),
        (Kind.RESPONSES, b'{"output":["%b"]}'),
        (Kind.MESSAGES, b'{"content":["%b"],"stop_reason":"end_turn"}'),
        (Kind.GEMINI, b'{"candidates":[{"content":"%b","finishReason":"STOP"}]}'),
        (Kind.PLAIN, b'{"x":"%b"}'),
    ],
)
def test_an_answer_that_is_not_utf8_keeps_no_promise(kind: Kind, content: bytes) -> None:
    """Wherever it is so, also where no reader looks."""
    assert keeps(kind, content % "é".encode()) is not None
    assert keeps(kind, content % b"\xe9") is None


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        (Kind.CHAT, b'{"choices":[{"finish_reason":%b}]}'),
        (Kind.COMPLETIONS, b'{"choices":[{"finish_reason":%b}]}'),
        (Kind.MESSAGES, b'{"content":[],"stop_reason":%b}'),
        (Kind.GEMINI, b'{"candidates":[{"finishReason":%b}]}'),
    ],
)
def test_an_empty_finish_reason_is_none(kind: Kind, content: bytes) -> None:
    """Servers that have not finished say null, or nothing between the quotes."""
    assert keeps(kind, content % b'"x"') is not None
    assert keeps(kind, content % b'""') is None
    assert keeps(kind, content % b"null") is None
