"""A client's call reaches the target in the target's dialect: as its SDK's types have it, nothing lost."""

import json
from typing import Any

import pytest
from anthropic.types.message_create_params import MessageCreateParamsNonStreaming
from google.genai import types as gemini
from openai.types.chat.completion_create_params import CompletionCreateParamsNonStreaming
from pydantic import TypeAdapter

from edge_router.core.dialects.anthropic_request import DEFAULT_MAX_TOKENS
from edge_router.core.dialects.gemini_request import FOREIGN_SIGNATURE
from edge_router.core.endpoints import Kind
from edge_router.core.translation import translate
from shared.vocabulary.terms import Dialect
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


def checked(dialect: Dialect, body: bytes) -> dict[str, Any]:
    """The request, if it is what the SDK of its dialect would send."""
    said: dict[str, Any] = json.loads(body)
    if dialect is Dialect.OPENAI:
        TypeAdapter(CompletionCreateParamsNonStreaming).validate_python(said)
    elif dialect is Dialect.ANTHROPIC:
        TypeAdapter(MessageCreateParamsNonStreaming).validate_python(said)
    else:
        assert set(said) <= {"contents", "systemInstruction", "tools", "toolConfig", "generationConfig"}
        TypeAdapter(list[gemini.Content]).validate_json(json.dumps(said["contents"]))
        TypeAdapter(list[gemini.Tool]).validate_python(said.get("tools", []))
        gemini.ToolConfig.model_validate(said.get("toolConfig", {}))
        gemini.GenerationConfig.model_validate(said.get("generationConfig", {}))
    return said


def asked(kind: Kind, dialect: Dialect, *, said: bool = False, **more: Any) -> dict[str, Any]:
    """The smallest call with `more`, or the one with everything, as the target gets it."""
    call = CALLS[kind] if said else least(kind)
    return checked(dialect, translated(kind, {**call, **more}, dialect).body)


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


def _asked(stream: bool) -> Any:
    from edge_router.core.body import Asked

    return Asked(b'"m"', 0, 0, stream, 1, False)


def schema_tool(**more: Any) -> list[dict[str, Any]]:
    return [{"type": "function", "function": {"name": "f", "parameters": SCHEMA, **more}}]


ONE = {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA, "strict": True}}
FIELDS: list[tuple[Kind, Dialect, dict[str, Any], dict[str, Any]]] = [
    # limits
    (Kind.CHAT, Dialect.ANTHROPIC, {}, {"max_tokens": DEFAULT_MAX_TOKENS}),
    (Kind.CHAT, Dialect.ANTHROPIC, {"max_completion_tokens": 7, "max_tokens": 9}, {"max_tokens": 7}),
    (Kind.CHAT, Dialect.GEMINI, {"max_tokens": 9}, {"generationConfig": {"maxOutputTokens": 9}}),
    (Kind.RESPONSES, Dialect.GEMINI, {"max_output_tokens": 9}, {"generationConfig": {"maxOutputTokens": 9}}),
    # sampling and stop
    (Kind.CHAT, Dialect.ANTHROPIC, {"stop": "x"}, {"stop_sequences": ["x"]}),
    (Kind.CHAT, Dialect.GEMINI, {"stop": ["x", "y"]}, {"generationConfig": {"stopSequences": ["x", "y"]}}),
    (Kind.MESSAGES, Dialect.OPENAI, {"stop_sequences": ["x"]}, {"stop": ["x"]}),
    (Kind.MESSAGES, Dialect.GEMINI, {"top_k": 5}, {"generationConfig": {"maxOutputTokens": 100, "topK": 5}}),
    (Kind.GEMINI, Dialect.ANTHROPIC, {"generationConfig": {"topK": 5}}, {"top_k": 5}),
    (Kind.GEMINI, Dialect.OPENAI, {"generationConfig": {"seed": 5}}, {"seed": 5}),
    (
        Kind.GEMINI,
        Dialect.OPENAI,
        {"generation_config": {"max_output_tokens": 5}},
        {"max_completion_tokens": 5},
    ),
    (
        Kind.CHAT,
        Dialect.GEMINI,
        {"seed": 1, "presence_penalty": 0.5, "frequency_penalty": 0},
        {"generationConfig": {"seed": 1, "presencePenalty": 0.5}},
    ),
    # tool choice
    (Kind.CHAT, Dialect.ANTHROPIC, {"tool_choice": "none"}, {"tool_choice": {"type": "none"}}),
    (Kind.CHAT, Dialect.ANTHROPIC, {"tool_choice": "auto"}, {"tool_choice": {"type": "auto"}}),
    (
        Kind.CHAT,
        Dialect.ANTHROPIC,
        {"tool_choice": {"type": "function", "function": {"name": "f"}}, "parallel_tool_calls": False},
        {"tool_choice": {"type": "tool", "name": "f", "disable_parallel_tool_use": True}},
    ),
    (
        Kind.CHAT,
        Dialect.ANTHROPIC,
        {"tools": schema_tool(), "parallel_tool_calls": False},
        {"tool_choice": {"type": "auto", "disable_parallel_tool_use": True}},
    ),
    (
        Kind.RESPONSES,
        Dialect.GEMINI,
        {"tool_choice": {"type": "function", "name": "f"}},
        {"toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["f"]}}},
    ),
    (
        Kind.MESSAGES,
        Dialect.OPENAI,
        {"tool_choice": {"type": "auto", "disable_parallel_tool_use": True}},
        {"tool_choice": "auto", "parallel_tool_calls": False},
    ),
    (
        Kind.GEMINI,
        Dialect.OPENAI,
        {"toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["f"]}}},
        {"tool_choice": {"type": "function", "function": {"name": "f"}}},
    ),
    (
        Kind.CHAT,
        Dialect.GEMINI,
        {"tools": schema_tool(strict=True)},
        {"toolConfig": {"functionCallingConfig": {"mode": "VALIDATED"}}},
    ),
    # JSON
    (
        Kind.CHAT,
        Dialect.ANTHROPIC,
        {"response_format": ONE},
        {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}},
    ),
    (
        Kind.CHAT,
        Dialect.GEMINI,
        {"response_format": ONE},
        {"generationConfig": {"responseMimeType": "application/json", "responseJsonSchema": SCHEMA}},
    ),
    (
        Kind.CHAT,
        Dialect.GEMINI,
        {"response_format": {"type": "json_object"}},
        {"generationConfig": {"responseMimeType": "application/json"}},
    ),
    (
        Kind.RESPONSES,
        Dialect.GEMINI,
        {"text": {"format": {"type": "json_schema", "name": "n", "schema": SCHEMA}}},
        {"generationConfig": {"responseMimeType": "application/json", "responseJsonSchema": SCHEMA}},
    ),
    (
        Kind.MESSAGES,
        Dialect.OPENAI,
        {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA}}},
    ),
    (
        Kind.GEMINI,
        Dialect.OPENAI,
        {
            "generationConfig": {
                "responseMimeType": "application/json",
                "responseSchema": {
                    "type": "OBJECT",
                    "properties": {
                        "a": {"type": "ARRAY", "items": {"type": "STRING"}, "maxItems": "3"},
                        "b": {"type": "INTEGER", "nullable": True},
                    },
                    "propertyOrdering": ["a", "b"],
                },
            }
        },
        {
            "response_format": {
                "type": "json_schema",
                "json_schema": {
                    "name": "answer",
                    "schema": {
                        "type": "object",
                        "properties": {
                            "a": {"type": "array", "items": {"type": "string"}, "maxItems": 3},
                            "b": {"type": ["integer", "null"]},
                        },
                    },
                },
            }
        },
    ),
    (
        Kind.CHAT,
        Dialect.ANTHROPIC,
        {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "n", "schema": SCHEMA, "description": "A town"},
            }
        },
        {"output_config": {"format": {"type": "json_schema", "schema": {**SCHEMA, "description": "A town"}}}},
    ),
    # thinking
    (Kind.CHAT, Dialect.ANTHROPIC, {"reasoning_effort": "minimal"}, {"output_config": {"effort": "low"}}),
    (Kind.CHAT, Dialect.ANTHROPIC, {"reasoning_effort": "none"}, {"thinking": {"type": "disabled"}}),
    (
        Kind.RESPONSES,
        Dialect.GEMINI,
        {"reasoning": {"effort": "max"}},
        {"generationConfig": {"thinkingConfig": {"thinkingLevel": "XHIGH"}}},
    ),
    (Kind.MESSAGES, Dialect.OPENAI, {"output_config": {"effort": "high"}}, {"reasoning_effort": "high"}),
    (Kind.MESSAGES, Dialect.OPENAI, {"thinking": {"type": "disabled"}}, {"reasoning_effort": "none"}),
    (
        Kind.MESSAGES,
        Dialect.GEMINI,
        {"thinking": {"type": "enabled", "budget_tokens": 2000}},
        {"generationConfig": {"maxOutputTokens": 100, "thinkingConfig": {"thinkingBudget": 2000}}},
    ),
    (
        Kind.GEMINI,
        Dialect.ANTHROPIC,
        {"generationConfig": {"thinkingConfig": {"thinkingBudget": 2000}}},
        {"thinking": {"type": "enabled", "budget_tokens": 2000}},
    ),
    (
        Kind.GEMINI,
        Dialect.OPENAI,
        {"generationConfig": {"thinkingConfig": {"thinkingBudget": 0}}},
        {"reasoning_effort": "none"},
    ),
    (
        Kind.GEMINI,
        Dialect.OPENAI,
        {"generationConfig": {"thinkingConfig": {"thinkingLevel": "low"}}},
        {"reasoning_effort": "low"},
    ),
]


@pytest.mark.parametrize(("kind", "dialect", "more", "expected"), FIELDS)
def test_every_field(kind: Kind, dialect: Dialect, more: dict[str, Any], expected: dict[str, Any]) -> None:
    """As the tables of the request modules and docs/DIALECTS.md have it."""
    said = asked(kind, dialect, **more)
    assert {name: said.get(name) for name in expected} == expected


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
