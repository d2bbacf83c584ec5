"""A client's call reaches the target in the target's dialect: as its SDK's types have it, nothing lost."""

import json
from typing import Any

import pytest

from edge_router.core.body import Asked
from edge_router.core.dialects.gemini_request import FOREIGN_SIGNATURE
from edge_router.core.endpoints import Kind
from edge_router.core.translation import translate
from shared.vocabulary.terms import Dialect
from tests.support.dialect_calls import asked, checked, schema_tool
from tests.support.dialect_samples import (
    CALLS,
    KIND_OF,
    OTHERS,
    PAIRS,
    PNG,
    SCHEMA,
    least,
    target,
    translated,
)

COLD = {"type": "function", "id": "c1", "function": {"name": "f", "arguments": '{"city":"Oslo"}'}}
LATE = {"type": "function", "id": "c2", "function": {"name": "g", "arguments": "{}"}}
EXPECTED: dict[Dialect, dict[str, Any]] = {
    Dialect.OPENAI: {
        "model": "their-model",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What is this?"},
                    {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}},
                ],
            },
            {"role": "assistant", "content": "Let me look.", "tool_calls": [COLD, LATE]},
            {"role": "tool", "tool_call_id": "c1", "content": "cold"},
            {"role": "tool", "tool_call_id": "c2", "content": "late"},
            {"role": "user", "content": "And now?"},
        ],
        "tools": [
            {"type": "function", "function": {"name": "f", "description": "Weather", "parameters": SCHEMA}}
        ],
        "tool_choice": "required",
        "max_completion_tokens": 50,
        "temperature": 0.5,
        "top_p": 0.9,
    },
    Dialect.ANTHROPIC: {
        "model": "their-model",
        "max_tokens": 50,
        "system": [{"type": "text", "text": "Be brief."}],
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What is this?"},
                    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}},
                ],
            },
            {
                "role": "assistant",
                "content": [
                    {"type": "text", "text": "Let me look."},
                    {"type": "tool_use", "id": "c1", "name": "f", "input": {"city": "Oslo"}},
                    {"type": "tool_use", "id": "c2", "name": "g", "input": {}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {
                        "type": "tool_result",
                        "tool_use_id": "c1",
                        "content": [{"type": "text", "text": "cold"}],
                    },
                    {
                        "type": "tool_result",
                        "tool_use_id": "c2",
                        "content": [{"type": "text", "text": "late"}],
                    },
                    {"type": "text", "text": "And now?"},
                ],
            },
        ],
        "tools": [{"name": "f", "description": "Weather", "input_schema": SCHEMA}],
        "tool_choice": {"type": "any"},
        "temperature": 0.5,
        "top_p": 0.9,
    },
    Dialect.GEMINI: {
        **CALLS[Kind.GEMINI],
        "contents": [
            CALLS[Kind.GEMINI]["contents"][0],
            {
                "role": "model",
                "parts": [
                    {"text": "Let me look."},
                    {
                        "functionCall": {"id": "c1", "name": "f", "args": {"city": "Oslo"}},
                        "thoughtSignature": FOREIGN_SIGNATURE,
                    },
                    {"functionCall": {"id": "c2", "name": "g", "args": {}}},
                ],
            },
            CALLS[Kind.GEMINI]["contents"][2],
        ],
    },
}


@pytest.mark.parametrize(("kind", "dialect"), PAIRS)
def test_a_whole_conversation_in_every_pair(kind: Kind, dialect: Dialect) -> None:
    """System, text, image, calls at once, their results, tools, choice, limits and sampling."""
    assert asked(kind, dialect, said=True) == EXPECTED[dialect]


@pytest.mark.parametrize(("kind", "dialect"), PAIRS)
def test_there_and_back_it_is_the_same(kind: Kind, dialect: Dialect) -> None:
    """What the target gets, sent on as a client of its dialect, is what a client of the first would have sent."""
    there = json.loads(translated(kind, CALLS[kind], dialect).body)
    other = next(one for one in OTHERS[KIND_OF[dialect]] if one is not dialect)
    again = checked(other, translated(KIND_OF[dialect], there, other).body)
    assert again == EXPECTED[other]


@pytest.mark.parametrize(
    ("kind", "dialect", "stream", "suffix"),
    [
        (Kind.MESSAGES, Dialect.OPENAI, False, b"/chat/completions"),
        (Kind.MESSAGES, Dialect.OPENAI, True, b"/chat/completions"),
        (Kind.CHAT, Dialect.ANTHROPIC, False, b"/messages"),
        (Kind.CHAT, Dialect.GEMINI, False, b"/models/a%2Fb%20c:generateContent"),
        (Kind.CHAT, Dialect.GEMINI, True, b"/models/a%2Fb%20c:streamGenerateContent?alt=sse"),
    ],
)
def test_where_it_goes(kind: Kind, dialect: Dialect, stream: bool, suffix: bytes) -> None:
    """And what it is judged by; a model's name cannot lead out of its place in the path."""
    call = least(kind)
    sample = translated(kind, call, dialect, stream=stream)
    body = json.dumps({**call, "stream": stream}).encode()
    given = translate(kind, body, _asked(stream), target(dialect, "a/b c"))
    assert given.suffix == suffix
    assert given.endpoint.kind is KIND_OF[dialect]
    assert given.endpoint.dialect is dialect
    assert given.lines == (b"anthropic-version: 2023-06-01\r\n" if dialect is Dialect.ANTHROPIC else b"")
    assert sample.content_type == (b"text/event-stream" if stream else b"application/json")


def _asked(stream: bool) -> Asked:
    return Asked(b'"m"', 0, 0, stream, 1, False)


def messages(*turns: dict[str, Any]) -> dict[str, Any]:
    return {"messages": list(turns)}


USER = {"role": "user", "content": "hi"}


def test_a_failed_call_is_told_as_one() -> None:
    """By its own flag in Anthropic's, by `error` in Gemini's; OpenAI's has nothing but words."""
    failed = messages(
        USER,
        {"role": "assistant", "content": [{"type": "tool_use", "id": "c1", "name": "f", "input": {}}]},
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "c1", "content": "no such city", "is_error": True}
            ],
        },
    )
    given = asked(Kind.MESSAGES, Dialect.GEMINI, **failed)["contents"][2]["parts"][0]["functionResponse"]
    assert given == {"id": "c1", "name": "f", "response": {"error": "no such city"}}
    told = asked(Kind.MESSAGES, Dialect.OPENAI, **failed)["messages"][2]
    assert told == {"role": "tool", "tool_call_id": "c1", "content": "Error: no such city"}
    contents = json.loads(translated(Kind.MESSAGES, {**least(Kind.MESSAGES), **failed}, Dialect.GEMINI).body)
    back = asked(Kind.GEMINI, Dialect.ANTHROPIC, **contents | {"generationConfig": {}})
    assert back["messages"][2]["content"][0]["is_error"] is True


def test_gemini_calls_without_ids_are_matched_by_name_and_order() -> None:
    """The older form of its API."""
    turns = [
        {"role": "user", "parts": [{"text": "hi"}]},
        {"role": "model", "parts": [{"functionCall": {"name": "f"}}, {"functionCall": {"name": "f"}}]},
        {
            "role": "user",
            "parts": [{"functionResponse": {"name": "f", "response": {"n": n}}} for n in range(2)],
        },
    ]
    said = asked(Kind.GEMINI, Dialect.OPENAI, contents=turns)["messages"]
    names = [call["id"] for call in said[1]["tool_calls"]]
    assert len(set(names)) == 2
    assert [(one["tool_call_id"], one["content"]) for one in said[2:]] == [
        (names[0], '{"n":0}'),
        (names[1], '{"n":1}'),
    ]


def test_call_ids_that_anthropic_would_not_take_are_told_by_another() -> None:
    """The same for the call and its result."""
    turns = messages(
        USER,
        {
            "role": "assistant",
            "tool_calls": [
                {"id": "functions.f:0", "type": "function", "function": {"name": "f", "arguments": ""}}
            ],
        },
        {"role": "tool", "tool_call_id": "functions.f:0", "content": "x"},
    )
    said = asked(Kind.CHAT, Dialect.ANTHROPIC, **turns)["messages"]
    assert said[1]["content"][0]["id"] == said[2]["content"][0]["tool_use_id"]
    assert said[1]["content"][0]["id"].replace("_", "").isalnum()
    assert said[1]["content"][0]["input"] == {}


def test_arguments_keep_their_numbers() -> None:
    """JSON numbers are carried over as they were written: 1.0 is not 1, and a long one is not rounded."""
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a": 1.0, "b": 1e400}'}}
    body = translated(
        Kind.CHAT,
        {**least(Kind.CHAT), **messages(USER, {"role": "assistant", "tool_calls": [call]}, USER)},
        Dialect.ANTHROPIC,
    ).body
    assert b'{"a": 1.0, "b": 1e400}' in body


@pytest.mark.parametrize("dialect", [Dialect.ANTHROPIC, Dialect.GEMINI])
def test_empty_texts_are_not_sent(dialect: Dialect) -> None:
    """They say nothing, and these two refuse them."""
    parts = [{"type": "text", "text": ""}, {"type": "text", "text": "hi"}]
    assert asked(Kind.CHAT, dialect, **messages({"role": "user", "content": parts})) == asked(
        Kind.CHAT, dialect
    )


def test_a_tool_without_a_schema_takes_an_object() -> None:
    """Anthropic wants it said."""
    tools = [{"type": "function", "function": {"name": "f"}}, *schema_tool()]
    said = asked(Kind.CHAT, Dialect.ANTHROPIC, tools=tools)["tools"]
    assert [tool["input_schema"] for tool in said] == [{"type": "object"}, SCHEMA]


def test_thinking_of_earlier_turns_is_left_out() -> None:
    """Only the provider that signed it takes it back."""
    turn = [{"type": "thinking", "thinking": "hm", "signature": "x"}, {"type": "text", "text": "yes"}]
    said = asked(
        Kind.MESSAGES, Dialect.OPENAI, **messages(USER, {"role": "assistant", "content": turn}, USER)
    )
    assert said["messages"][1] == {"role": "assistant", "content": "yes"}


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        (
            Kind.CHAT,
            {
                "user": "u",
                "metadata": {"a": "b"},
                "store": False,
                "service_tier": "auto",
                "n": 1,
                "logprobs": False,
            }
            | {"prompt_cache_key": "k", "parallel_tool_calls": True, "safety_identifier": "s", "seed": None},
        ),
        (
            Kind.RESPONSES,
            {"store": True, "truncation": "disabled", "include": ["reasoning.encrypted_content"]},
        ),
        (
            Kind.MESSAGES,
            {
                "metadata": {"user_id": "u"},
                "service_tier": "auto",
                "cache_control": {"type": "ephemeral"},
                "thinking": {"type": "adaptive"},
                "messages": [
                    {
                        "role": "user",
                        "content": [{"type": "text", "text": "hi", "cache_control": {"type": "ephemeral"}}],
                    }
                ],
            },
        ),
        (Kind.GEMINI, {"labels": {"a": "b"}, "generationConfig": {"candidateCount": 1}}),
    ],
)
def test_what_has_no_meaning_for_the_answer_is_left_out(kind: Kind, more: dict[str, Any]) -> None:
    """The tables TOLERATED; the target gets what it would have got without."""
    for dialect in OTHERS[kind]:
        assert asked(kind, dialect, **more) == asked(kind, dialect)
