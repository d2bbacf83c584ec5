"""Every answer of the edge's own is what the official SDKs parse, whole and as a stream, and one is the other."""

import json
from typing import Any

import msgspec
import pytest
from anthropic.types import Message, RawMessageStreamEvent
from google.genai.types import GenerateContentResponse
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.completion import Completion
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from edge_router.core.endpoints import Kind
from edge_router.core.ladder.assemble import assemble, events_of
from edge_router.core.ladder.call import GEMINI
from edge_router.core.ladder.shapes import Own, whole
from edge_router.core.ladder.streams import stream
from edge_router.core.sse import EventReader

KINDS = [Kind.CHAT, Kind.RESPONSES, Kind.MESSAGES, GEMINI]
WHOLE: dict[str, Any] = {
    Kind.CHAT: ChatCompletion,
    Kind.COMPLETIONS: Completion,
    Kind.RESPONSES: Response,
    Kind.MESSAGES: Message,
    GEMINI: GenerateContentResponse,
}
EVENT: dict[str, Any] = {
    Kind.CHAT: ChatCompletionChunk,
    Kind.RESPONSES: ResponseStreamEvent,
    Kind.MESSAGES: RawMessageStreamEvent,
    GEMINI: GenerateContentResponse,
}
TEXT: dict[str, Any] = {
    Kind.CHAT: lambda a: a.choices[0].message.content,
    Kind.COMPLETIONS: lambda a: a.choices[0].text,
    Kind.RESPONSES: lambda a: a.output_text,
    Kind.MESSAGES: lambda a: a.content[0].text,
    GEMINI: lambda a: a.text,
}
COMPLETION = {
    "id": "c",
    "object": "text_completion",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "text": "hello", "logprobs": None, "finish_reason": "stop"}],
}


def own(kind: str, text: str = "We are down.") -> dict[str, Any]:
    answer = whole(kind, Own(text, "leeward/static", "r-1", 1_700_000_000))
    assert answer is not None
    return answer


@pytest.mark.parametrize("kind", KINDS)
def test_a_whole_answer_is_the_sdks(kind: str) -> None:
    """Strictly by its types; the text is there, and the model says whose words they are."""
    parsed = WHOLE[kind].model_validate_json(json.dumps(own(kind)), strict=True)
    assert TEXT[kind](parsed) == "We are down."
    assert "leeward/static" in json.dumps(own(kind))


@pytest.mark.parametrize("kind", [*KINDS, Kind.COMPLETIONS])
def test_every_event_of_a_stream_is_the_sdks(kind: str) -> None:
    """And the stream says what the whole does, to this edge's own reader of streams too."""
    answer = COMPLETION if kind == Kind.COMPLETIONS else own(kind)
    content = stream(kind, answer, usage=False)
    assert content is not None
    for event in events_of(content):
        if kind != Kind.COMPLETIONS:  # its SDK type knows no null finish reason, which OpenAI's streams have
            TypeAdapter(EVENT[kind]).validate_json(json.dumps(event), strict=True)
    if kind != GEMINI:
        reader = EventReader(Kind(kind))
        assert reader.feed(content) == content
        assert reader.substance
        assert reader.finished
        assert reader.ended
        assert (reader.fault, reader.error, reader.partial) == ("", "", False)
    again = assemble(kind, content)
    assert again is not None
    assert TEXT[kind](WHOLE[kind].model_validate(again)) == TEXT[kind](WHOLE[kind].model_validate(answer))


@settings(deadline=None)  # the SDKs build their validators when first used
@given(text=st.text(min_size=1), kind=st.sampled_from(KINDS))
def test_a_stream_and_its_whole_say_the_same(text: str, kind: str) -> None:
    """Any text survives the way to a stream and back, byte for byte."""
    text = text.encode("utf-8", "replace").decode()
    answer = msgspec.json.decode(msgspec.json.encode(own(kind, text)))
    content = stream(kind, answer, usage=True)
    assert content is not None
    again = assemble(kind, content)
    assert again is not None
    assert TEXT[kind](WHOLE[kind].model_validate(again)) == text
    if kind != GEMINI:
        assert again["usage"] == answer["usage"]


def test_usage_is_in_a_stream_only_when_asked_for() -> None:
    """As the last chunk before the end, without choices; and a stored answer that has none cannot say it."""
    answer = own(Kind.CHAT)
    with_usage, without = stream(Kind.CHAT, answer, usage=True), stream(Kind.CHAT, answer, usage=False)
    assert with_usage is not None
    assert without is not None
    last = list(events_of(with_usage))[-1]
    assert last["choices"] == []
    assert last["usage"]["total_tokens"] == 0
    assert all(event["usage"] is None for event in list(events_of(with_usage))[:-1])
    assert b"usage" not in without
    del answer["usage"]
    assert stream(Kind.CHAT, answer, usage=True) is None


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        (Kind.CHAT, lambda a: a["choices"][0]["message"].update(tool_calls=[{"id": "1"}])),
        (Kind.CHAT, lambda a: a["choices"][0]["message"].update(refusal="no")),
        (Kind.CHAT, lambda a: a["choices"][0]["message"].update(reasoning_content="hm")),
        (Kind.CHAT, lambda a: a["choices"][0].update(logprobs={"content": []})),
        (Kind.CHAT, lambda a: a.pop("choices")),
        (Kind.MESSAGES, lambda a: a["content"].append({"type": "tool_use", "id": "1"})),
        (Kind.MESSAGES, lambda a: a["content"][0].update(citations=[{"type": "x"}])),
        (Kind.RESPONSES, lambda a: a["output"].append({"type": "reasoning", "id": "1"})),
        (Kind.RESPONSES, lambda a: a["output"][0]["content"][0].update(annotations=[{"type": "x"}])),
        (Kind.RESPONSES, lambda a: a.update(status="incomplete")),
    ],
)
def test_what_events_cannot_say_has_no_stream(kind: str, change: Any) -> None:
    """Rather none than one that leaves something out."""
    answer = own(kind)
    assert stream(kind, answer, usage=False) is not None
    change(answer)
    assert stream(kind, answer, usage=False) is None


def chunk(delta: dict[str, Any], finish: str | None = None, **more: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish, **more}
    return b"data: %b\n\n" % json.dumps({"id": "c", "model": "m", "choices": [choice]}).encode()


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        (Kind.CHAT, chunk({"content": "a"})),
        (Kind.CHAT, chunk({"tool_calls": [{}]}) + chunk({}, "tool_calls")),
        (Kind.CHAT, chunk({"reasoning_content": "hm"}) + chunk({}, "stop")),
        (Kind.CHAT, chunk({"content": "a"}, logprobs={"content": [1]}) + chunk({}, "stop")),
        (Kind.CHAT, b"data: not json\n\n" + chunk({}, "stop")),
        (Kind.CHAT, b""),
        (Kind.MESSAGES, b'data: {"type":"message_stop"}\n\n'),
        (Kind.MESSAGES, b'data: {"type":"something_new"}\n\n'),
        (Kind.RESPONSES, b'data: {"type":"response.incomplete","response":{}}\n\n'),
        (GEMINI, b'data: {"candidates":[{"content":{"parts":[{"text":"a"}]}}]}\n\n'),
        (
            GEMINI,
            b'data: {"candidates":[{"content":{"parts":[{"functionCall":{"name":"f"}}]},"finishReason":"STOP"}]}\n\n',
        ),
        (Kind.EMBEDDINGS, chunk({"content": "a"}, "stop")),
    ],
)
def test_a_stream_that_is_not_exactly_known_is_no_answer(kind: str, content: bytes) -> None:
    """Unfinished, or with anything in it that a whole would have to guess at."""
    assert assemble(kind, content) is None


def test_a_provider_s_stream_becomes_the_answer_it_would_have_given() -> None:
    """Text joined per choice, the head of the answer kept, usage where it came, whatever the line ends."""
    content = (
        chunk({"role": "assistant", "content": ""})
        + b": ping\n\n"
        + chunk({"content": "hel"})
        + chunk({"content": "lo", "refusal": None})
        + chunk({}, "stop")
        + b'data: {"id":"c","model":"m","choices":[],"usage":{"total_tokens":3}}\n\ndata: [DONE]\n\n'
    )
    for written in (content, content.replace(b"\n", b"\r\n")):
        assert assemble(Kind.CHAT, written) == {
            "id": "c",
            "model": "m",
            "object": "chat.completion",
            "choices": [
                {"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}
            ],
            "usage": {"total_tokens": 3},
        }


def test_completions_get_no_answer_of_the_edges_own() -> None:
    """Their text may be put into a program."""
    assert whole(Kind.COMPLETIONS, Own("x", "m", "r", 1)) is None
    assert whole(Kind.EMBEDDINGS, Own("x", "m", "r", 1)) is None
