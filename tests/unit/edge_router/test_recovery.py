"""A stream that another target goes on with reads like one stream: no character lost, none twice (FAULTS row 20)."""

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_router.core.body import Asked, read_call
from edge_router.core.endpoints import Kind
from edge_router.core.held import HELD_BYTES, Held
from edge_router.core.recovery import DIVERGED, Attended, How, Recovery
from edge_router.core.relay import Problem, Relay, Step, Verdict
from edge_router.core.table import StreamRules
from edge_router.core.transcript import KEPT_CHARACTERS, Transcript
from shared.vocabulary.terms import Outcome, StreamRecovery

CUT = Problem(Outcome.FAILED, "http_response_incomplete", "the connection broke")
RESUME = StreamRules(StreamRecovery.RESUME, usage=False)
KINDS = (Kind.CHAT, Kind.COMPLETIONS, Kind.MESSAGES, Kind.RESPONSES)
TEXT = "Lee is the side away from the wind; windward is the other one — and so on, and so on."


def event(body: dict[str, Any], name: str = "") -> bytes:
    line = f"event: {name}\n" if name else ""
    return f"{line}data: {json.dumps(body)}\n\n".encode()


def stream(kind: Kind, pieces: list[str], who: str) -> list[bytes]:
    """A whole stream of `kind`, as the target `who` says it: its text in these pieces."""
    common = {"id": f"id-{who}", "created": ord(who[0]), "model": f"m-{who}"}
    if kind in (Kind.CHAT, Kind.COMPLETIONS):

        def chunk(text: str | None, finish: str | None = None) -> bytes:
            said = (
                {"delta": {} if text is None else {"content": text}}
                if kind is Kind.CHAT
                else {"text": text or ""}
            )
            return event({**common, "choices": [{"index": 0, **said, "finish_reason": finish}]})

        opening = event({**common, "choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]})
        usage = event({**common, "choices": [], "usage": {"completion_tokens": len(pieces)}})
        first = [opening] if kind is Kind.CHAT else []
        return [*first, *(chunk(piece) for piece in pieces), chunk(None, "stop"), usage, b"data: [DONE]\n\n"]
    if kind is Kind.MESSAGES:

        def say(what: str, **fields: Any) -> bytes:
            return event({"type": what, **fields}, what)

        return [
            say("message_start", message={**common, "role": "assistant", "content": []}),
            say("content_block_start", index=0, content_block={"type": "text", "text": ""}),
            say("ping"),
            *(
                say("content_block_delta", index=0, delta={"type": "text_delta", "text": piece})
                for piece in pieces
            ),
            say("content_block_stop", index=0),
            say("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": len(pieces)}),
            say("message_stop"),
        ]
    number = iter(range(10_000))
    part = {"output_index": 0, "item_id": f"msg-{who}", "content_index": 0}
    text = "".join(pieces)

    def tell(what: str, **fields: Any) -> bytes:
        return event(
            {"type": f"response.{what}", "sequence_number": next(number), **fields}, f"response.{what}"
        )

    item = {"id": f"msg-{who}", "type": "message"}
    return [
        tell("created", response={**common, "output": []}),
        tell("output_item.added", output_index=0, item=item),
        tell("content_part.added", **part, part={"type": "output_text", "text": ""}),
        *(tell("output_text.delta", **part, delta=piece, logprobs=[]) for piece in pieces),
        tell("output_text.done", **part, text=text),
        tell("content_part.done", **part, part={"type": "output_text", "text": text}),
        tell("output_item.done", output_index=0, item=item),
        tell("completed", response={**common, "output": [item]}),
    ]


def told(raw: bytes) -> list[dict[str, Any]]:
    """The events of a stream, decoded."""
    found = []
    for block in raw.split(b"\n\n"):
        for line in block.split(b"\n"):
            if line.startswith(b"data: ") and line != b"data: [DONE]":
                found.append(json.loads(line[6:]))
    return found


def text_of(kind: Kind, raw: bytes) -> str:
    """What a client reads out of it."""
    said = []
    for one in told(raw):
        if kind is Kind.CHAT:
            said += [choice["delta"].get("content") or "" for choice in one["choices"]]
        elif kind is Kind.COMPLETIONS:
            said += [choice["text"] for choice in one["choices"]]
        elif kind is Kind.MESSAGES:
            said += [one["delta"]["text"]] if one["type"] == "content_block_delta" else []
        else:
            said += [one["delta"]] if one["type"] == "response.output_text.delta" else []
    return "".join(said)


def call(kind: Kind, **more: Any) -> tuple[bytes, Asked]:
    content = (
        {"prompt": "Say it."}
        if kind is Kind.COMPLETIONS
        else {"messages": [{"role": "user", "content": "Say it."}]}
    )
    content = {"input": "Say it."} if kind is Kind.RESPONSES else content
    body = json.dumps({"model": "chat", "stream": True, **content, **more}).encode()
    return body, read_call(body)


def recovery_of(kind: Kind, rules: StreamRules = RESUME, **more: Any) -> Recovery:
    return Recovery(kind, rules, *call(kind, **more))


def fed(relay: Relay, raw: bytes, size: int = 0) -> tuple[bytes, Verdict]:
    """All that goes on of `raw`, fed in pieces of `size`; the stream is not ended."""
    out = b""
    step = Step(b"", Verdict.HOLD)
    for at in range(0, len(raw), size or len(raw) or 1):
        step = relay.feed(raw[at : at + (size or len(raw))], False)
        out += step.content
        if step.verdict is Verdict.BROKEN:
            break
    return out, step.verdict


def cut_at(text: str, points: list[int]) -> list[str]:
    places = sorted({0, len(text), *(point % (len(text) + 1) for point in points)})
    return [text[start:end] for start, end in pairwise(places)] or [""]


POINTS = st.lists(st.integers(0, 1000), max_size=12)


@given(
    kind=st.sampled_from(KINDS),
    text=st.text(st.sampled_from('aab é\n"\\✓😀'), min_size=1, max_size=60),
    first=POINTS,
    second=POINTS,
    third=POINTS,
    stop=st.integers(0, 400),
    stop_again=st.integers(0, 400),
    size=st.integers(1, 300),
)
def test_wherever_it_is_cut_and_however_it_is_cut_up_again(
    kind: Kind,
    text: str,
    first: list[int],
    second: list[int],
    third: list[int],
    stop: int,
    stop_again: int,
    size: int,
) -> None:
    """Replayed twice, cut at any event both times, in other deltas each time: the whole text, once."""
    recovery = recovery_of(kind)
    opening = stream(kind, cut_at(text, first), "alpha")
    relay: Relay = recovery.first()
    raw, verdict = fed(relay, b"".join(opening[: stop % (len(opening) + 1)]), size)
    for place, (who, points) in enumerate((("beta", second), ("gamma", third)), start=2):
        step = relay.cut(CUT)
        if step.verdict is Verdict.COMPLETE:
            raw += step.content
            break
        if not raw:
            relay = recovery.first()
        else:
            assert not recovery.impossible
            recovery.again(prefill=False)
            relay = recovery.next(who, place)
        events = stream(kind, cut_at(text, points), who)
        # The last one comes whole.
        upto = stop_again % (len(events) + 1) if place == 2 else len(events)
        more, verdict = fed(relay, b"".join(events[:upto]), size)
        raw += more
        assert verdict is not Verdict.BROKEN, relay.problem
        if upto == len(events):
            step = relay.feed(b"", True)
            assert step.verdict is Verdict.COMPLETE
            raw += step.content
            break
    assert text_of(kind, raw) == text
    _like_one(kind, raw)


def _like_one(kind: Kind, raw: bytes) -> None:
    """One beginning, one end, one identity."""
    events = told(raw)
    if kind in (Kind.CHAT, Kind.COMPLETIONS):
        assert raw.count(b"[DONE]") == 1
        assert raw.endswith(b"data: [DONE]\n\n")
        assert len({(one["id"], one["created"]) for one in events}) == 1
        finishes = [c["finish_reason"] for one in events for c in one["choices"] if c.get("finish_reason")]
        assert finishes == ["stop"]
        roles = [c for one in events for c in one["choices"] if "role" in c.get("delta", {})]
        assert len(roles) == (kind is Kind.CHAT)
    elif kind is Kind.MESSAGES:
        kinds = [one["type"] for one in events if one["type"] not in ("ping", "content_block_delta")]
        assert kinds == [
            *("message_start", "content_block_start", "content_block_stop", "message_delta", "message_stop")
        ]
    else:
        kinds = [one["type"] for one in events]
        assert len(kinds) - kinds.count("response.output_text.delta") == len(set(kinds)) - (
            "response.output_text.delta" in kinds
        )
        assert [one["sequence_number"] for one in events] == list(range(len(events)))
        assert len({one["item_id"] for one in events if "item_id" in one}) == 1
        assert len({one["response"]["id"] for one in events if "response" in one}) == 1
        assert {one["item"]["id"] for one in events if "item" in one} == {
            one["item_id"] for one in events if "item_id" in one
        }


@pytest.mark.parametrize("kind", KINDS)
def test_the_rest_says_who_brought_it(kind: Kind) -> None:
    """A comment names the target, the way and the attempt; model and usage are the last target's."""
    recovery = recovery_of(kind)
    opening = stream(kind, [TEXT[:20], TEXT[20:]], "alpha")
    at = next(place for place, one in enumerate(opening) if TEXT[10:20].encode() in one) + 1
    fed(recovery.first(), b"".join(opening[:at]))
    recovery.again(prefill=False)
    relay = recovery.next("beta", 2)
    events = stream(kind, ["Lee is the", TEXT[10:]], "beta")
    out, _ = fed(relay, b"".join(events))
    assert out.startswith(b": leeward: resumed by beta, replay, attempt 2\n\n")
    assert out.count(b": leeward") == 1
    if kind in (Kind.CHAT, Kind.COMPLETIONS):
        assert {one["model"] for one in told(out)} == {"m-beta"}
        assert told(out)[-1]["usage"] == {"completion_tokens": 2}
        assert {one["id"] for one in told(out)} == {"id-alpha"}
    if kind is Kind.RESPONSES:
        assert told(out)[-1]["response"]["model"] == "m-beta"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "other", ["Lee is another matter altogether.", "Lee is", "X"], ids=["differs", "shorter", "at once"]
)
def test_an_answer_that_differs_is_not_mixed_in(kind: Kind, other: str) -> None:
    """Not one byte of it goes out, and the target is not blamed."""
    recovery = recovery_of(kind)
    opening = stream(kind, [TEXT[:20], TEXT[20:]], "alpha")
    at = next(place for place, one in enumerate(opening) if TEXT[10:20].encode() in one) + 1
    fed(recovery.first(), b"".join(opening[:at]))
    recovery.again(prefill=False)
    relay = recovery.next("beta", 2)
    out, verdict = fed(relay, b"".join(stream(kind, cut_at(other, [4]), "beta")))
    assert (out, verdict) == (b"", Verdict.BROKEN)
    assert relay.problem is not None
    assert (relay.problem.outcome, relay.problem.error) == (None, DIVERGED)


def _chat_delta(**delta: Any) -> bytes:
    return event({"id": "x", "choices": [{"index": 0, "delta": delta, "finish_reason": None}]})


def _block(what: str, **fields: Any) -> bytes:
    return event({"type": what, **fields}, what)


@pytest.mark.parametrize(
    ("kind", "raw", "why"),
    [
        (Kind.CHAT, _chat_delta(tool_calls=[{"index": 0, "id": "c"}]), "a tool call"),
        (Kind.CHAT, _chat_delta(refusal="No"), "a refusal"),
        (Kind.CHAT, _chat_delta(reasoning_content="Hm"), "reasoning"),
        (Kind.CHAT, _chat_delta(something_new="Hm"), "`something_new`"),
        (Kind.CHAT, event({"choices": [{"index": 1, "delta": {"content": "b"}}]}), "a second choice"),
        (
            Kind.CHAT,
            event({"choices": [{"index": 0, "delta": {"content": "b"}, "logprobs": {"content": [{}]}}]}),
            "log probabilities",
        ),
        (Kind.COMPLETIONS, event({"choices": [{"index": 0, "text": "b", "logprobs": {"x": 1}}]}), "log prob"),
        (
            Kind.MESSAGES,
            _block("content_block_start", index=0, content_block={"type": "tool_use", "id": "t"})
            + _block("content_block_delta", index=0, delta={"type": "input_json_delta", "partial_json": "{"}),
            "a tool call",
        ),
        (
            Kind.MESSAGES,
            _block("content_block_start", index=0, content_block={"type": "thinking"})
            + _block("content_block_delta", index=0, delta={"type": "thinking_delta", "thinking": "Hm"}),
            "reasoning",
        ),
        (
            Kind.RESPONSES,
            _block("response.output_item.added", output_index=0, item={"type": "function_call", "id": "f"})
            + _block("response.function_call_arguments.delta", output_index=0, delta="{"),
            "a tool call",
        ),
        (
            Kind.RESPONSES,
            _block("response.refusal.delta", output_index=0, content_index=0, delta="No"),
            "refusal",
        ),
    ],
)
def test_what_cannot_be_repeated_exactly_cannot_be_resumed(kind: Kind, raw: bytes, why: str) -> None:
    """Once a part of it is out: tool calls, reasoning, refusals, second choices, log probabilities."""
    recovery = recovery_of(kind)
    out, _ = fed(recovery.first(), raw)
    assert out == raw
    assert why in recovery.impossible


def test_several_choices_and_very_long_answers_cannot_be_resumed_either() -> None:
    """`n` above 1; more text than is kept, which is then let go."""
    recovery = recovery_of(Kind.CHAT, n=2)
    recovery.first()
    assert "choices" in recovery.impossible
    transcript = Transcript(Kind.CHAT)
    recovery = recovery_of(Kind.CHAT)
    relay = recovery.first()
    piece = _chat_delta(content="x" * 2**16)
    for _ in range(KEPT_CHARACTERS // 2**16):
        fed(relay, piece)
        assert not recovery.impossible
    fed(relay, piece)
    fed(relay, piece)
    assert "longer than" in recovery.impossible
    assert recovery.transcript is not None
    assert recovery.transcript.text == transcript.text == ""


# ---------------------------------------------------------------- continuation


def _begun(kind: Kind, said: str, **more: Any) -> Recovery:
    """A stream of which the client has `said`."""
    recovery = recovery_of(kind, **more)
    events = stream(kind, [said, "never sent"], "alpha")
    at = next(place for place, one in enumerate(events) if b"never sent" in one)
    fed(recovery.first(), b"".join(events[:at]))
    return recovery


@pytest.mark.parametrize("kind", [Kind.CHAT, Kind.COMPLETIONS, Kind.MESSAGES])
@pytest.mark.parametrize("repeats_space", [True, False])
def test_a_continuation_goes_on_where_the_first_target_stopped(kind: Kind, repeats_space: bool) -> None:
    """Whether or not it says the white space again that it was not given."""
    cut = TEXT.index("windward")
    recovery = _begun(kind, TEXT[:cut])
    body, asked = recovery.again(prefill=True)
    assert recovery.how is How.CONTINUATION
    sent = json.loads(body)
    assert body[asked.start : asked.end] == b'"chat"'
    if kind is Kind.COMPLETIONS:
        assert sent["prompt"] == "Say it." + TEXT[:cut].rstrip()
    else:
        assert sent["messages"][-1] == {"role": "assistant", "content": TEXT[:cut].rstrip()}
    assert (sent.get("continue_final_message"), sent.get("add_generation_prompt")) == (
        (True, False) if kind is Kind.CHAT else (None, None)
    )
    rest = (" " if repeats_space else "") + TEXT[cut:]
    out, verdict = fed(recovery.next("beta", 2), b"".join(stream(kind, cut_at(rest, [1, 3, 9]), "beta")), 7)
    assert verdict is Verdict.FINISHING
    assert text_of(kind, out) == TEXT[cut:]


@given(st.sampled_from([Kind.CHAT, Kind.MESSAGES]), POINTS, st.integers(32, len(TEXT)))
def test_a_target_that_starts_over_is_noticed(kind: Kind, points: list[int], cut: int) -> None:
    """It was asked to go on and repeats the answer: what repeats is skipped, as in a replay."""
    recovery = _begun(kind, TEXT[:cut])
    recovery.again(prefill=True)
    out, verdict = fed(recovery.next("beta", 2), b"".join(stream(kind, cut_at(TEXT, points), "beta")))
    assert verdict is Verdict.FINISHING
    assert text_of(kind, out) == TEXT[cut:]
    assert recovery.how is How.REPLAY


def test_a_continuation_that_only_looks_like_a_new_beginning_is_passed_on_whole() -> None:
    """Text held in doubt is neither lost when it turns out differently nor when the answer ends there."""
    for rest in (TEXT[:10] + "!", TEXT[:10]):
        for kind in (Kind.CHAT, Kind.MESSAGES, Kind.COMPLETIONS):
            recovery = _begun(kind, TEXT[:40])
            recovery.again(prefill=True)
            relay = recovery.next("beta", 2)
            out, verdict = fed(relay, b"".join(stream(kind, list(rest), "beta")))
            assert verdict is Verdict.FINISHING
            assert text_of(kind, out) == rest


@pytest.mark.parametrize(
    "more",
    [
        {"response_format": {"type": "json_schema"}},
        {"thinking": {"type": "enabled", "budget_tokens": 1024}},
        {"guided_json": {}},
        {"messages": "no list"},
    ],
)
def test_calls_that_a_beginning_would_break_are_replayed(more: dict[str, Any]) -> None:
    """A grammar would begin anew in the middle; Anthropic takes no beginning when it is to think."""
    recovery = _begun(Kind.CHAT, "Lee is", **more)
    body, _ = recovery.again(prefill=True)
    assert recovery.how is How.REPLAY
    assert body == call(Kind.CHAT, **more)[0]


def test_the_clients_own_beginning_is_kept() -> None:
    """A conversation that ends with the assistant's words goes on from these and what came after."""
    messages = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "Well, "}]
    recovery = _begun(Kind.MESSAGES, "Lee is", messages=messages)
    body, _ = recovery.again(prefill=True)
    assert json.loads(body)["messages"] == [messages[0], {"role": "assistant", "content": "Well, Lee is"}]
    messages[1]["content"] = [{"type": "text", "text": "Well, "}]  # type: ignore[assignment]
    recovery = _begun(Kind.MESSAGES, "Lee is", messages=messages)
    body, _ = recovery.again(prefill=True)
    assert json.loads(body)["messages"][1]["content"] == [
        {"type": "text", "text": "Well, "},
        {"type": "text", "text": "Lee is"},
    ]


@pytest.mark.parametrize("said", ["Lee is", TEXT[:40]])
def test_a_role_in_every_delta_is_said_once(said: str) -> None:
    """As some servers write it: the client has had it from the first target."""
    recovery = _begun(Kind.CHAT, said)
    recovery.again(prefill=True)
    role = _chat_delta(role="assistant", content="")
    rest = (_chat_delta(role="assistant", content=piece) for piece in (" one", " two"))
    relay = recovery.next("beta", 2)
    assert fed(relay, role)[0] == b""
    out, _ = fed(relay, b"".join(rest))
    assert text_of(Kind.CHAT, out) == " one two"
    assert b"role" not in out


@pytest.mark.parametrize("kind", [Kind.MESSAGES, Kind.RESPONSES])
def test_nothing_is_added_to_a_text_that_has_been_closed(kind: Kind) -> None:
    """The client knows that the text is whole: a longer one is another answer, and a prefill is not asked for."""
    recovery = recovery_of(kind)
    opening = stream(kind, [TEXT[:20]], "alpha")
    closing = b"content_block_stop" if kind is Kind.MESSAGES else b"output_text.done"
    at = next(place for place, one in enumerate(opening) if closing in one) + 1
    fed(recovery.first(), b"".join(opening[:at]))
    recovery.again(prefill=True)
    assert recovery.how is How.REPLAY
    for pieces in ([TEXT], [TEXT[:20], TEXT[20:]]):
        relay = recovery.next("beta", 2)
        assert fed(relay, b"".join(stream(kind, pieces, "beta"))) == (b"", Verdict.BROKEN)
        assert relay.problem is not None
        assert relay.problem.error == DIVERGED
    out, verdict = fed(recovery.next("beta", 2), b"".join(stream(kind, [TEXT[:10], TEXT[10:20]], "beta")))
    assert verdict is Verdict.FINISHING
    assert told(out)[-1]["type"] in ("message_stop", "response.completed")
    assert closing not in out


# ---------------------------------------------------------------- hold, usage


@given(POINTS, st.integers(0, 100), st.integers(1, 200))
def test_a_held_stream_goes_out_whole_or_not_at_all(points: list[int], stop: int, size: int) -> None:
    """Until its end nothing goes out; broken before it, nothing has."""
    events = stream(Kind.CHAT, cut_at(TEXT, points), "alpha")
    upto = stop % (len(events) + 1)
    recovery = recovery_of(Kind.CHAT, StreamRules(StreamRecovery.HOLD, usage=False))
    relay = recovery.first()
    out, verdict = fed(relay, b"".join(events[:upto]), size)
    assert (out, verdict) == (b"", Verdict.HOLD)
    step = relay.feed(b"", True) if upto == len(events) else relay.cut(CUT)
    if any(b'"stop"' in one for one in events[:upto]):
        assert step.verdict is Verdict.COMPLETE
        assert text_of(Kind.CHAT, step.content) == TEXT
        assert step.content.endswith(b"data: [DONE]\n\n")
    else:
        assert step == (b"", Verdict.BROKEN)


def test_a_held_stream_that_is_too_long_is_passed_on() -> None:
    """From 1 MiB on it is like any other."""
    relay = recovery_of(Kind.CHAT, StreamRules(StreamRecovery.HOLD, usage=False)).first()
    assert isinstance(relay, Held)
    piece = _chat_delta(content="x" * 2**16)
    sent = b""
    while len(sent) + len(piece) <= HELD_BYTES:
        assert relay.feed(piece, False) == (b"", Verdict.HOLD)
        sent += piece
    assert relay.held == len(sent)
    assert relay.feed(piece, False) == (sent + piece, Verdict.PASS)
    assert relay.feed(piece, False) == (piece, Verdict.PASS)
    assert relay.cut(CUT) == (b"", Verdict.BROKEN)


USAGE = StreamRules(StreamRecovery.TERMINATE, usage=True)


@pytest.mark.parametrize("kind", [Kind.CHAT, Kind.COMPLETIONS])
@pytest.mark.parametrize(
    "options", [{}, {"stream_options": None}, {"stream_options": {"include_usage": False, "x": 1}}]
)
def test_usage_is_asked_for_and_kept_back(kind: Kind, options: dict[str, Any]) -> None:
    """The target is asked, the edge knows, and the client sees what it asked for."""
    body, asked = call(kind, **options)
    recovery = Recovery(kind, USAGE, body, asked)
    sent, placed = recovery.request
    wanted = {**(options.get("stream_options") or {}), "include_usage": True}
    assert json.loads(sent) == {**json.loads(body), "stream_options": wanted}
    assert sent[placed.start : placed.end] == b'"chat"'
    events = stream(kind, ["Lee", " is"], "alpha")
    usage = event({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 2}})
    relay = recovery.first()
    out, _ = fed(relay, b"".join((*events[:-2], usage, events[-1])), 11)
    assert out == b"".join((*events[:-2], events[-1]))
    assert (recovery.tokens.read, recovery.tokens.written) == (7, 2)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (Kind.CHAT, {"stream_options": {"include_usage": True}}),
        (Kind.CHAT, {"stream_options": "odd"}),
        (Kind.MESSAGES, {}),
        (Kind.RESPONSES, {}),
    ],
)
def test_where_usage_comes_anyway_nothing_is_changed(kind: Kind, options: dict[str, Any]) -> None:
    """Asked for by the client, or told by the dialect: the body goes on as it came, and so does the usage."""
    body, asked = call(kind, **options)
    recovery = Recovery(kind, USAGE, body, asked)
    assert recovery.request == (body, asked)
    events = b"".join(stream(kind, ["Lee"], "alpha"))
    relay = recovery.first()
    assert isinstance(relay, Attended)
    assert fed(relay, events)[0] == events


# ---------------------------------------------------------------- what targets write that nobody promised


ODD = [
    b'{"choices":[{"index":0,"delta":7}]}',
    b'{"choices":[{"index":0,"delta":{"content":["x"]}}]}',
    b'{"choices":[{"index":0,"delta":{"content":"\xff"}}]}',
    b'{"choices":[{"index":0,"delta":{"content":null,"role":"assistant"}}]}',
    b'{"type":"content_block_start","index":0,"content_block":{"type":["text"]}}',
    b'{"type":"content_block_start","index":0,"content_block":3}',
    b'{"type":"content_block_delta","index":0,"delta":"x"}',
    b'{"type":"response.output_item.added","output_index":0,"item":[]}',
    b'{"type":"response.output_text.delta","output_index":0,"delta":null}',
    b'{"type":"response.created","response":null}',
    b"{}",
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("odd", ODD)
def test_odd_events_break_nothing(kind: Kind, odd: bytes) -> None:
    """Passed on, called garbled, or called different: never an exception, never a wrong character."""
    raw = b"data: " + odd + b"\n\n"
    recovery = recovery_of(kind)
    opening = stream(kind, [TEXT[:20], TEXT[20:]], "alpha")
    at = next(place for place, one in enumerate(opening) if TEXT[10:20].encode() in one) + 1
    fed(recovery.first(), b"".join((*opening[:at], raw)))
    events = stream(kind, [TEXT[:30], TEXT[30:]], "beta")
    for place in (1, at, len(events) - 1):
        recovery = recovery_of(kind)
        fed(recovery.first(), b"".join(opening[:at]))
        recovery.again(prefill=False)
        out, verdict = fed(recovery.next("beta", 2), b"".join((*events[:place], raw)))
        before, _ = fed(_resumed_after(kind, opening[:at]), b"".join(events[:place]))
        assert out.startswith(before), "what came before it is what it was"
        assert TEXT[20:].startswith(text_of(kind, before))
        assert verdict is not Verdict.COMPLETE


def _resumed_after(kind: Kind, opening: list[bytes]) -> Relay:
    recovery = recovery_of(kind)
    fed(recovery.first(), b"".join(opening))
    recovery.again(prefill=False)
    return recovery.next("beta", 2)


def test_a_chunk_without_choices_before_the_first_does_not_name_the_stream() -> None:
    """Azure opens with one whose id is empty: the stream's is that of the next."""
    recovery = recovery_of(Kind.CHAT)
    opening = event({"id": "", "created": 0, "choices": [], "prompt_filter_results": []})
    fed(recovery.first(), opening + b"".join(stream(Kind.CHAT, [TEXT[:20]], "alpha")[:2]))
    recovery.again(prefill=False)
    out, _ = fed(recovery.next("beta", 2), opening + b"".join(stream(Kind.CHAT, [TEXT], "beta")))
    assert {one["id"] for one in told(out)} == {"id-alpha"}
    assert text_of(Kind.CHAT, out) == TEXT[20:]
