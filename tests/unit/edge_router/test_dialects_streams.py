"""Streams are translated event by event: the same however they are cut, and never ended better than they were."""

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_router.core.endpoints import Kind
from edge_router.core.relay import HOLD_BYTES, Events, Problem, Relay, Verdict
from edge_router.core.tokens import Tokens
from shared.vocabulary.terms import Dialect, Outcome
from tests.support.dialect_samples import (
    ANSWERS,
    CREATED,
    PAIRS,
    SEEN,
    STREAMS,
    block,
    called,
    chunk,
    least,
    piece,
    sse,
    translated,
)
from tests.support.dialect_views import documents, seen_stream

CUT = Problem(Outcome.FAILED, "connection_terminated", "cut")


def opened(kind: Kind, dialect: Dialect) -> Relay:
    call = least(kind)
    if kind is Kind.CHAT:
        call["stream_options"] = {"include_usage": True}
    return translated(kind, call, dialect, stream=True).relay(CREATED)


def fed(relay: Relay, pieces: list[bytes]) -> tuple[bytes, list[Verdict]]:
    """All that may go to the client, and the verdicts; the last piece is the end of the answer."""
    steps = [relay.feed(one, False) for one in pieces]
    steps.append(relay.feed(b"", True))
    return b"".join(step.content for step in steps), [step.verdict for step in steps]


@pytest.mark.parametrize(("kind", "dialect"), PAIRS)
def test_a_stream_in_every_pair(kind: Kind, dialect: Dialect) -> None:
    """Text, calls with their arguments, stop reason, usage and the target's own model; every event of the client's
    dialect and in its order."""
    relay = opened(kind, dialect)
    content, verdicts = fed(relay, [STREAMS[dialect]])
    assert verdicts == [Verdict.FINISHING, Verdict.COMPLETE]
    assert seen_stream(kind, content) == SEEN
    assert isinstance(relay, Events)
    assert relay.tokens == Tokens(30, 12)


@pytest.mark.parametrize(("kind", "dialect"), PAIRS)
def test_cut_anywhere_it_is_the_same(kind: Kind, dialect: Dialect) -> None:
    """At every byte boundary, and byte by byte."""
    stream = STREAMS[dialect]
    whole, _ = fed(opened(kind, dialect), [stream])
    for at in range(1, len(stream)):
        content, _ = fed(opened(kind, dialect), [stream[:at], stream[at:]])
        assert content == whole, at
    single, _ = fed(opened(kind, dialect), [stream[at : at + 1] for at in range(len(stream))])
    assert single == whole


@settings(max_examples=60, deadline=None)
@given(
    pair=st.sampled_from(PAIRS),
    cuts=st.lists(st.integers(0, 4000), max_size=12),
    ends=st.sampled_from([b"\n", b"\r\n"]),
)
def test_cut_into_many_with_any_line_ends(pair: tuple[Kind, Dialect], cuts: list[int], ends: bytes) -> None:
    """WHATWG HTML, section 9.2.5."""
    kind, dialect = pair
    whole, _ = fed(opened(kind, dialect), [STREAMS[dialect]])
    stream = STREAMS[dialect].replace(b"\n", ends)
    places = sorted({0, len(stream), *(min(cut, len(stream)) for cut in cuts)})
    pieces = [stream[start:end] for start, end in pairwise(places)]
    content, verdicts = fed(opened(kind, dialect), pieces)
    assert verdicts[-1] is Verdict.COMPLETE
    assert content == whole


def _finish(dialect: Dialect) -> int:
    """Where the event with the finish reason ends."""
    mark = {Dialect.OPENAI: b'"tool_calls"}', Dialect.ANTHROPIC: b'"stop_reason": "tool_use"'}
    found = STREAMS[dialect].rindex(mark.get(dialect, b'"finishReason"'))
    return STREAMS[dialect].index(b"\n\n", found) + 2


@pytest.mark.parametrize(("kind", "dialect"), PAIRS)
def test_a_stream_that_stops_anywhere_never_ends_like_a_whole_one(kind: Kind, dialect: Dialect) -> None:
    """Cut before the finish reason has come whole it is broken, whether the connection broke or was closed."""
    stream = STREAMS[dialect]
    endings = [
        b"[DONE]",
        b"message_stop",
        b"response.completed",
        b'"finishReason"',
        b'"finish_reason":"tool_calls"',
    ]
    for at in range(_finish(dialect)):
        for how in ("cut", "closed"):
            relay = opened(kind, dialect)
            step = relay.feed(stream[:at], False)
            last = relay.cut(CUT) if how == "cut" else relay.feed(b"", True)
            assert last.verdict is Verdict.BROKEN, at
            assert relay.problem is not None
            assert not any(ending in step.content + last.content for ending in endings)


@pytest.mark.parametrize(("kind", "dialect"), PAIRS)
def test_after_the_finish_reason_the_end_may_be_missing(kind: Kind, dialect: Dialect) -> None:
    """As without translation: what was said is finished properly, with the usage that came."""
    relay = opened(kind, dialect)
    step = relay.feed(STREAMS[dialect][: _finish(dialect)], False)
    assert step.verdict is Verdict.FINISHING
    last = relay.cut(CUT)
    assert (last.verdict, relay.problem) == (Verdict.COMPLETE, None)
    told = seen_stream(kind, step.content + last.content)
    without_usage = ("id", "model", "text", "calls", "stop")
    assert {name: told[name] for name in without_usage} == {name: SEEN[name] for name in without_usage}


@pytest.mark.parametrize(("kind", "dialect"), PAIRS)
def test_nothing_goes_out_before_anything_of_the_answer_has_come(kind: Kind, dialect: Dialect) -> None:
    """Until then the request may still move."""
    first = {
        Dialect.OPENAI: sse(chunk({"role": "assistant", "content": ""})),
        Dialect.ANTHROPIC: STREAMS[Dialect.ANTHROPIC].split(b"event: content_block_delta")[0],
        Dialect.GEMINI: sse({"candidates": [], "responseId": "a1"}),
    }[dialect]
    relay = opened(kind, dialect)
    assert relay.feed(first, False) == (b"", Verdict.HOLD)
    assert relay.cut(CUT) == (b"", Verdict.BROKEN)


ERRORS: dict[Dialect, Any] = {
    Dialect.OPENAI: sse({"error": {"message": "too busy", "type": "server_error", "code": "overloaded"}}),
    Dialect.ANTHROPIC: sse({"type": "error", "error": {"type": "overloaded_error", "message": "too busy"}}),
    Dialect.GEMINI: sse({"error": {"code": 503, "message": "too busy", "status": "UNAVAILABLE"}}),
}
SAID = {
    Dialect.OPENAI: sse(chunk({"role": "assistant"}), chunk({"content": "half"})),
    Dialect.ANTHROPIC: sse(
        {"type": "message_start", "message": {**ANSWERS[Dialect.ANTHROPIC], "content": []}},
        *block(0, {"type": "text", "text": ""}, {"type": "text_delta", "text": "half"})[:2],
    ),
    Dialect.GEMINI: sse(piece({"text": "half"})),
}


@pytest.mark.parametrize(("kind", "dialect"), PAIRS)
def test_an_error_in_band_is_told_in_band(kind: Kind, dialect: Dialect) -> None:
    """In the client's envelope, as the last thing; what stands behind it is not passed on."""
    relay = opened(kind, dialect)
    relay.feed(SAID[dialect], False)
    step = relay.feed(ERRORS[dialect] + STREAMS[dialect], False)
    assert step.verdict is Verdict.BROKEN
    assert relay.problem is not None
    assert relay.problem.told
    told = documents(step.content)[-1]
    expected = {
        Kind.CHAT: lambda: told["error"]["message"] == "too busy" and told["error"]["type"] == "server_error",
        Kind.RESPONSES: lambda: (told["type"], told["message"]) == ("error", "too busy"),
        Kind.MESSAGES: lambda: (told["type"], told["error"]["message"]) == ("error", "too busy"),
        Kind.GEMINI: lambda: told["error"]["message"] == "too busy" and told["error"]["code"] >= 500,
    }
    assert expected[kind](), told


@pytest.mark.parametrize(("kind", "dialect"), PAIRS)
def test_an_error_before_the_answer_lets_the_request_move(kind: Kind, dialect: Dialect) -> None:
    relay = opened(kind, dialect)
    assert relay.feed(ERRORS[dialect], False) == (b"", Verdict.BROKEN)


GARBLED = {
    "no JSON": (Dialect.OPENAI, b"data: {\n\n"),
    "done before any finish reason": (Dialect.OPENAI, sse("[DONE]")),
    "a second choice": (Dialect.OPENAI, sse({"choices": [{"index": 1, "delta": {"content": "x"}}]})),
    "a call without a name": (Dialect.OPENAI, sse(called(0, "{}"))),
    "a finish reason without a word": (Dialect.OPENAI, sse(chunk({}, "exploded"))),
    "a delta of a new kind": (
        Dialect.ANTHROPIC,
        sse({"type": "content_block_delta", "index": 0, "delta": {"type": "sound_delta"}}),
    ),
    "a delta of nothing": (Dialect.ANTHROPIC, sse({"type": "content_block_delta", "index": 0})),
    "a call without an id": (
        Dialect.ANTHROPIC,
        sse(*block(1, {"type": "tool_use", "id": "", "name": "f", "input": {}})),
    ),
    "a server tool": (
        Dialect.ANTHROPIC,
        sse(*block(1, {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}})),
    ),
    "arguments of no call": (
        Dialect.ANTHROPIC,
        sse(
            {
                "type": "content_block_delta",
                "index": 9,
                "delta": {"type": "input_json_delta", "partial_json": "{"},
            }
        ),
    ),
    "a stop reason without a word": (
        Dialect.ANTHROPIC,
        sse({"type": "message_delta", "delta": {"stop_reason": "pause_turn"}, "usage": {"output_tokens": 1}}),
    ),
    "an image": (Dialect.GEMINI, sse(piece({"inlineData": {"mimeType": "image/png", "data": "x"}}))),
    "a malformed call": (Dialect.GEMINI, sse(piece(finish="MALFORMED_FUNCTION_CALL"))),
}


@pytest.mark.parametrize("what", GARBLED)
def test_an_event_that_cannot_be_told_breaks_the_stream(what: str) -> None:
    """What came before it stands, what cannot be said is not dropped, and the end is not a clean one."""
    dialect, event = GARBLED[what]
    for kind, other in PAIRS:
        if other is not dialect:
            continue
        relay = opened(kind, dialect)
        relay.feed(SAID[dialect], False)
        step = relay.feed(event + STREAMS[dialect], False)
        assert step.verdict is Verdict.BROKEN, (what, kind)
        assert relay.problem is not None
        assert (relay.problem.outcome, relay.problem.told) == (Outcome.GARBLED, False)
        assert b"exploded" not in step.content


def test_calls_by_turns_are_told_only_where_they_can_be() -> None:
    """OpenAI numbers calls, so their arguments could come by turns; blocks and items follow each other."""
    turns = sse(
        chunk({"role": "assistant"}),
        called(0, '{"a":', id="k1", name="f"),
        called(1, '{"b":', id="k2", name="g"),
        called(0, "1}"),
        called(1, "2}"),
        chunk({}, "tool_calls"),
        "[DONE]",
    )
    relay = opened(Kind.GEMINI, Dialect.OPENAI)
    content, _ = fed(relay, [turns])
    assert seen_stream(Kind.GEMINI, content)["calls"] == [("k1", "f", {"a": 1}), ("k2", "g", {"b": 2})]
    relay = opened(Kind.MESSAGES, Dialect.OPENAI)
    assert relay.feed(turns, False).verdict is Verdict.BROKEN
    one, two = (
        block(
            index,
            {"type": "tool_use", "id": f"k{index}", "name": "f", "input": {}},
            {"type": "input_json_delta", "partial_json": "{}"},
        )
        for index in range(2)
    )
    begun = {"type": "message_start", "message": _BEGUN}
    relay = opened(Kind.RESPONSES, Dialect.ANTHROPIC)
    assert relay.feed(sse(begun, one[0], two[0], one[1], two[1]), False).verdict is Verdict.BROKEN


def test_usage_of_a_stream_is_told_to_an_openai_client_that_asked_for_it_alone() -> None:
    """`stream_options.include_usage`; the target was asked for it all the same."""
    relay = translated(Kind.CHAT, least(Kind.CHAT), Dialect.ANTHROPIC, stream=True).relay()
    content, _ = fed(relay, [STREAMS[Dialect.ANTHROPIC]])
    assert all(event == "[DONE]" or event["choices"] for event in documents(content))
    request = json.loads(translated(Kind.MESSAGES, least(Kind.MESSAGES), Dialect.OPENAI, stream=True).body)
    assert request["stream_options"] == {"include_usage": True}


@pytest.mark.parametrize("dialect", [Dialect.OPENAI, Dialect.ANTHROPIC])
def test_thinking_is_streamed_to_a_gemini_client_that_asked_for_it(dialect: Dialect) -> None:
    call = {**least(Kind.GEMINI), "generationConfig": {"thinkingConfig": {"includeThoughts": True}}}
    content, _ = fed(translated(Kind.GEMINI, call, dialect, stream=True).relay(), [STREAMS[dialect]])
    thoughts = [
        part["text"]
        for event in documents(content)
        for part in event["candidates"][0]["content"]["parts"]
        if part.get("thought")
    ]
    assert thoughts == ["hm"]


def test_an_anthropic_client_sees_that_a_target_is_thinking() -> None:
    """`ping`, in place of a block that it could not send back."""
    content, _ = fed(opened(Kind.MESSAGES, Dialect.GEMINI), [STREAMS[Dialect.GEMINI]])
    assert content.count(b"event: ping") == 1
    assert b"thinking" not in content.replace(b"thinking_tokens", b"")


@pytest.mark.parametrize("kind", [Kind.CHAT, Kind.RESPONSES, Kind.GEMINI])
def test_a_call_may_begin_with_its_arguments(kind: Kind) -> None:
    """As some servers of Anthropic's dialect have it."""
    stream = sse(
        {"type": "message_start", "message": _BEGUN},
        *block(0, {"type": "tool_use", "id": "k", "name": "f", "input": {"a": 1}}),
        {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 12}},
        {"type": "message_stop"},
    )
    content, _ = fed(opened(kind, Dialect.ANTHROPIC), [stream])
    assert seen_stream(kind, content)["calls"] == [("k", "f", {"a": 1})]


@pytest.mark.parametrize("kind", [Kind.MESSAGES, Kind.GEMINI])
def test_a_refusal_of_openai_is_streamed_as_text_that_was_filtered(kind: Kind) -> None:
    stream = sse(
        chunk({"role": "assistant", "refusal": "I will "}),
        chunk({"refusal": "not."}),
        chunk({}, "stop"),
        "[DONE]",
    )
    content, _ = fed(opened(kind, Dialect.OPENAI), [stream])
    told = seen_stream(kind, content)
    assert (told["text"], told["stop"]) == ("I will not.", "filtered")


@pytest.mark.parametrize(("kind", "dialect"), PAIRS)
def test_an_endless_preamble_is_not_held(kind: Kind, dialect: Dialect) -> None:
    """2 MiB of it leave no more behind than may be held."""
    preamble = {
        Dialect.OPENAI: sse(chunk({"role": "assistant"})),
        Dialect.ANTHROPIC: sse({"type": "message_start", "message": _BEGUN}),
        Dialect.GEMINI: sse({"candidates": [], "usageMetadata": {"promptTokenCount": 1}}),
    }[dialect]
    relay = opened(kind, dialect)
    assert isinstance(relay, Events)
    for _ in range(2 * 1024 * 1024 // len(preamble * 50) + 1):
        relay.feed(preamble * 50, False)
        assert sum(map(len, relay._held)) <= HOLD_BYTES


# ---------------------------------------------------------------- any answer at all

_TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
_ARGUMENTS = st.dictionaries(_TEXT, st.one_of(_TEXT, st.integers(), st.none(), st.booleans()), max_size=3)
_STEPS = st.lists(st.one_of(_TEXT, _ARGUMENTS), min_size=1, max_size=6)
_BEGUN = {**ANSWERS[Dialect.ANTHROPIC], "content": [], "stop_reason": None}


def spoken(dialect: Dialect, steps: list[Any], cut: int) -> bytes:
    """A stream that says texts and calls in turn, each text and each call's arguments in two pieces."""
    calls = any(isinstance(step, dict) for step in steps)
    events: list[Any] = []
    for place, step in enumerate(steps):
        said = step if isinstance(step, str) else json.dumps(step, ensure_ascii=False)
        halves = [half for half in (said[:cut], said[cut:]) if half]
        if isinstance(step, str):
            if dialect is Dialect.OPENAI:
                events += [chunk({"content": half}) for half in halves]
            elif dialect is Dialect.GEMINI:
                events += [piece({"text": half}) for half in halves]
            else:
                deltas = [{"type": "text_delta", "text": half} for half in halves]
                events += block(place, {"type": "text", "text": ""}, *deltas)
        elif dialect is Dialect.OPENAI:
            index = sum(isinstance(one, dict) for one in steps[:place])
            events.append(called(index, "", id=f"k{place}", name="f"))
            events += [called(index, half) for half in halves]
        elif dialect is Dialect.GEMINI:
            events.append(piece({"functionCall": {"id": f"k{place}", "name": "f", "args": step}}))
        else:
            deltas = [{"type": "input_json_delta", "partial_json": half} for half in halves]
            events += block(place, {"type": "tool_use", "id": f"k{place}", "name": "f", "input": {}}, *deltas)
    if dialect is Dialect.OPENAI:
        usage = {**chunk({}), "choices": [], "usage": ANSWERS[Dialect.OPENAI]["usage"]}
        return sse(*events, chunk({}, "tool_calls" if calls else "stop"), usage, "[DONE]")
    if dialect is Dialect.GEMINI:
        usage = ANSWERS[Dialect.GEMINI]["usageMetadata"]
        return sse(*events, piece(finish="STOP", usageMetadata=usage))
    reason = {"stop_reason": "tool_use" if calls else "end_turn"}
    end = {"type": "message_delta", "delta": reason, "usage": ANSWERS[Dialect.ANTHROPIC]["usage"]}
    return sse({"type": "message_start", "message": _BEGUN}, *events, end, {"type": "message_stop"})


@settings(max_examples=150, deadline=None)
@given(pair=st.sampled_from(PAIRS), steps=_STEPS, cut=st.integers(0, 8))
def test_any_answer_is_carried_over(pair: tuple[Kind, Dialect], steps: list[Any], cut: int) -> None:
    """Whatever texts and calls in whatever order: the client puts the same together."""
    kind, dialect = pair
    content, _ = fed(opened(kind, dialect), [spoken(dialect, steps, cut)])
    expected = {
        **SEEN,
        "text": "".join(step for step in steps if isinstance(step, str)),
        "calls": [(f"k{place}", "f", step) for place, step in enumerate(steps) if isinstance(step, dict)],
        "stop": "calls" if any(isinstance(step, dict) for step in steps) else "end",
    }
    assert seen_stream(kind, content) == expected
