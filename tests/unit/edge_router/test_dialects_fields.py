"""Every field of a call that has a word in the target's dialect gets there."""

from typing import Any

import pytest

from edge_router.core.dialects.anthropic_request import DEFAULT_MAX_TOKENS
from edge_router.core.endpoints import Kind
from shared.vocabulary.terms import Dialect
from tests.support.dialect_calls import asked, schema_tool
from tests.support.dialect_samples import SCHEMA

ONE = {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA, "strict": True}}
FIELDS: list[tuple[Kind, Dialect, dict[str, Any], dict[str, Any]]] = [
    # limits
    (Kind.CHAT, Dialect.ANTHROPIC, {}, {"max_tokens": DEFAULT_MAX_TOKENS}),
    (Kind.CHAT, Dialect.ANTHROPIC, {"max_completion_tokens": 7, "max_tokens": 9}, {"max_tokens": 7}),
    (Kind.CHAT, Dialect.GEMINI, {"max_tokens": 9}, {"generationConfig": {"maxOutputTokens": 9}}),
    (Kind.RESPONSES, Dialect.GEMINI, {"max_output_tokens": 9}, {"generationConfig": {"maxOutputTokens": 9}}),
    (
        Kind.GEMINI,
        Dialect.ANTHROPIC,
        {"generationConfig": {"thinkingConfig": {"thinkingBudget": 5000}}},
        {"max_tokens": DEFAULT_MAX_TOKENS + 5000},
    ),
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
