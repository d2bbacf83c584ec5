"""What cannot be said in the target's dialect is refused by name, never left out silently."""

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edge_router.core.body import Asked
from edge_router.core.dialects import (
    anthropic_request,
    gemini_request,
    gemini_schema,
    openai_chat_request,
    openai_responses_request,
)
from edge_router.core.endpoints import Kind
from edge_router.core.translation import Untranslatable, translate
from shared.vocabulary.terms import Dialect
from tests.support.dialect_samples import OTHERS, least, target, translated

BOTH = None
USER = {"role": "user", "content": "hi"}


def turn(*parts: dict[str, Any], role: str = "user") -> dict[str, Any]:
    return {"messages": [{"role": role, "content": list(parts)}]}


def gemini(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"contents": [{"role": "user", "parts": list(parts)}]}


CHAT: list[tuple[Dialect | None, dict[str, Any], str]] = [
    (BOTH, {"n": 2}, "n = 2"),
    (BOTH, {"logprobs": True}, "logprobs"),
    (BOTH, {"top_logprobs": 3}, "top_logprobs"),
    (BOTH, {"logit_bias": {"50256": -100}}, "logit_bias"),
    (BOTH, {"audio": {"voice": "alloy", "format": "wav"}}, "audio"),
    (BOTH, {"modalities": ["text", "audio"]}, "modalities"),
    (BOTH, {"prediction": {"type": "content", "content": "x"}}, "prediction"),
    (BOTH, {"web_search_options": {}}, "web_search_options"),
    (BOTH, {"functions": [{"name": "f"}]}, "functions"),
    (BOTH, {"verbosity": "low"}, "verbosity"),
    (BOTH, {"moderation": {"model": "x"}}, "moderation"),
    (BOTH, {"made_up": 1}, "made_up"),
    (BOTH, {"tools": [{"type": "custom", "custom": {"name": "f"}}]}, "tools[0].type"),
    (BOTH, {"temperature": "hot"}, "temperature"),
    (BOTH, turn({"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}), "input_audio"),
    (BOTH, turn({"type": "file", "file": {"file_id": "f"}}), "file"),
    (
        BOTH,
        turn({"type": "image_url", "image_url": {"url": "data:image/png;base64,x", "detail": "high"}}),
        "detail",
    ),
    (BOTH, {"messages": [{**USER, "name": "bob"}]}, "messages[0].name"),
    (BOTH, {"messages": [USER, {"role": "system", "content": "later"}]}, "system message"),
    (BOTH, {"messages": [USER, {"role": "assistant", "refusal": "no"}]}, "messages[1].refusal"),
    (
        BOTH,
        {
            "messages": [
                USER,
                {
                    "role": "assistant",
                    "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "{"}}],
                },
            ]
        },
        "messages[1].tool_calls[0].function.arguments",
    ),
    (BOTH, {"messages": [USER, {"role": "assistant", "content": "I would"}]}, "assistant's own turn"),
    (BOTH, {"messages": [USER, {"role": "assistant", "content": ""}, USER]}, "without content"),
    (Dialect.ANTHROPIC, {"seed": 1}, "seed"),
    (Dialect.ANTHROPIC, {"presence_penalty": 1}, "presence_penalty"),
    (Dialect.ANTHROPIC, {"frequency_penalty": 1}, "frequency_penalty"),
    (Dialect.ANTHROPIC, {"temperature": 1.5}, "temperature"),
    (Dialect.ANTHROPIC, {"response_format": {"type": "json_object"}}, "without a schema"),
    (
        Dialect.ANTHROPIC,
        turn({"type": "image_url", "image_url": {"url": "data:image/tiff;base64,x"}}),
        "tiff",
    ),
    (Dialect.GEMINI, {"parallel_tool_calls": False}, "parallel_tool_calls"),
    (Dialect.GEMINI, turn({"type": "image_url", "image_url": {"url": "https://x/y.png"}}), "image by URL"),
    (Dialect.GEMINI, {"messages": [{"role": "tool", "tool_call_id": "c", "content": "x"}]}, "no call"),
]
RESPONSES: list[tuple[Dialect | None, dict[str, Any], str]] = [
    (BOTH, {"previous_response_id": "resp_1"}, "previous_response_id"),
    (BOTH, {"conversation": "conv_1"}, "conversation"),
    (BOTH, {"background": True}, "background"),
    (BOTH, {"tools": [{"type": "web_search"}]}, "web_search"),
    (BOTH, {"tools": [{"type": "mcp", "server_label": "x"}]}, "mcp"),
    (BOTH, {"include": ["message.output_text.logprobs"]}, "include"),
    (BOTH, {"truncation": "auto"}, "truncation"),
    (BOTH, {"prompt": {"id": "p"}}, "prompt"),
    (BOTH, {"max_tool_calls": 3}, "max_tool_calls"),
    (BOTH, {"reasoning": {"summary": "auto"}}, "reasoning.summary"),
    (BOTH, {"text": {"verbosity": "low"}}, "text.verbosity"),
    (BOTH, {"input": [{"type": "item_reference", "id": "x"}]}, "item_reference"),
    (BOTH, {"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "x"}]}]}, "input_file"),
    (
        BOTH,
        {"input": [{"type": "function_call", "call_id": "c", "name": "f", "arguments": "["}]},
        "arguments",
    ),
]
MESSAGES: list[tuple[Dialect | None, dict[str, Any], str]] = [
    (BOTH, {"container": "c"}, "container"),
    (BOTH, {"mcp_servers": []}, "mcp_servers"),
    (BOTH, {"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools[0]"),
    (BOTH, {"inference_geo": "us"}, "inference_geo"),
    (BOTH, {"speed": "fast"}, "speed"),
    (BOTH, turn({"type": "document", "source": {"type": "text", "data": "x"}}), "document"),
    (BOTH, turn({"type": "image", "source": {"type": "file", "file_id": "x"}}), "file"),
    (BOTH, turn({"type": "search_result", "title": "x"}), "search_result"),
    (BOTH, {"messages": [{"role": "system", "content": "x"}]}, "system"),
    (BOTH, {"messages": [USER, {"role": "assistant", "content": "I would"}]}, "assistant's own turn"),
    (Dialect.OPENAI, {"top_k": 3}, "top_k"),
    (Dialect.OPENAI, {"thinking": {"type": "enabled", "budget_tokens": 2000}}, "thinking.budget_tokens"),
    (
        Dialect.OPENAI,
        turn({"type": "text", "text": "x"}, {"type": "tool_result", "tool_use_id": "c", "content": "x"}),
        "tool results must come before",
    ),
    (
        Dialect.GEMINI,
        {"tool_choice": {"type": "auto", "disable_parallel_tool_use": True}},
        "disable_parallel_tool_use",
    ),
]
GEMINI: list[tuple[Dialect | None, dict[str, Any], str]] = [
    (BOTH, {"safetySettings": [{"category": "x", "threshold": "BLOCK_NONE"}]}, "safetySettings"),
    (BOTH, {"cachedContent": "cachedContents/x"}, "cachedContent"),
    (BOTH, {"tools": [{"googleSearch": {}}]}, "tools[0].googleSearch"),
    (BOTH, {"tools": [{"codeExecution": {}}]}, "codeExecution"),
    (BOTH, {"generationConfig": {"candidateCount": 2}}, "candidateCount"),
    (BOTH, {"generationConfig": {"responseLogprobs": True}}, "generationConfig.responseLogprobs"),
    (BOTH, {"generationConfig": {"responseModalities": ["IMAGE"]}}, "responseModalities"),
    (BOTH, {"generationConfig": {"speechConfig": {}}}, "speechConfig"),
    (BOTH, {"generationConfig": {"mediaResolution": "LOW"}}, "mediaResolution"),
    (BOTH, {"generationConfig": {"thinkingConfig": {"thinkingLevel": "VAST"}}}, "VAST"),
    (BOTH, gemini({"fileData": {"fileUri": "https://x"}}), "fileData"),
    (BOTH, gemini({"inlineData": {"mimeType": "audio/wav", "data": "x"}}), "audio/wav"),
    (BOTH, gemini({"executableCode": {"code": "x"}}), "executableCode"),
    (BOTH, gemini({"functionResponse": {"name": "f", "response": {}}}), "functionResponse"),
    (
        BOTH,
        {
            "toolConfig": {
                "functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["f", "g"]},
            }
        },
        "allowedFunctionNames",
    ),
    (
        BOTH,
        {"tools": [{"functionDeclarations": [{"name": "f", "parameters": {"type": "THING"}}]}]},
        "tools.functionDeclarations.f.parameters.type",
    ),
    (Dialect.OPENAI, {"generationConfig": {"topK": 3}}, "generationConfig.topK"),
    (
        Dialect.OPENAI,
        {"generationConfig": {"thinkingConfig": {"thinkingBudget": 500}}},
        "generationConfig.thinkingConfig.thinkingBudget",
    ),
    (Dialect.ANTHROPIC, {"generationConfig": {"seed": 3}}, "generationConfig.seed"),
    (
        Dialect.ANTHROPIC,
        {
            "generationConfig": {"thinkingConfig": {"thinkingBudget": 2000}},
            "contents": [
                {"role": "user", "parts": [{"text": "hi"}]},
                {"role": "model", "parts": [{"functionCall": {"name": "f"}}]},
                {"role": "user", "parts": [{"functionResponse": {"name": "f", "response": {}}}]},
            ],
        },
        "thinking budget",
    ),
]
ALL = [
    (kind, dialect, more, words)
    for kind, rows in (
        (Kind.CHAT, CHAT),
        (Kind.RESPONSES, RESPONSES),
        (Kind.MESSAGES, MESSAGES),
        (Kind.GEMINI, GEMINI),
    )
    for only, more, words in rows
    for dialect in ((only,) if only is not None else OTHERS[kind])
]


@pytest.mark.parametrize(("kind", "dialect", "more", "words"), ALL)
def test_every_refusal_names_its_field(
    kind: Kind, dialect: Dialect, more: dict[str, Any], words: str
) -> None:
    """In words for the client."""
    with pytest.raises(Untranslatable) as refused:
        translated(kind, {**least(kind), **more}, dialect)
    assert words in str(refused.value)


@pytest.mark.parametrize("kind", [Kind.COMPLETIONS, Kind.MODELS, Kind.PLAIN])
@pytest.mark.parametrize("dialect", [Dialect.ANTHROPIC, Dialect.GEMINI, Dialect.HTTP])
def test_calls_that_no_other_dialect_has(kind: Kind, dialect: Dialect) -> None:
    """`/v1/completions` above all."""
    with pytest.raises(Untranslatable, match=dialect.value):
        translate(kind, b'{"model":"m","prompt":"x"}', Asked(b'"m"', 0, 0, False, 1, False), target(dialect))


@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'"x"', b"\xff", b"{}", b'{"contents": 3, "input": 3}'])
def test_a_body_that_is_no_call(kind: Kind, body: bytes) -> None:
    """Refused in words, whatever it is."""
    for dialect in OTHERS[kind]:
        with pytest.raises(Untranslatable):
            translate(kind, body, Asked(b'"m"', 0, 0, False, 1, False), target(dialect))


def test_nothing_that_is_tolerated_is_read() -> None:
    """A field is either translated, or stands in the table of those that have no meaning for the answer: each such
    name is one that the reader knows, and each that it knows without giving it a type is in the table."""
    for module in (openai_chat_request, openai_responses_request, anthropic_request, gemini_request):
        fields = {field.encode_name: field.type for field in msgspec.structs.fields(module._Request)}
        untyped = {name for name, kind in fields.items() if kind is Any}
        assert untyped <= set(module.TOLERATED), module.__name__
        assert all(module.TOLERATED.values())


def test_the_documentation_names_all_that_is_left_out() -> None:
    """docs/DIALECTS.md, "What is left out"."""
    page = (Path(__file__).parents[3] / "docs" / "DIALECTS.md").read_text()
    names = re.compile(r"[\w.]+")
    for module in (
        openai_chat_request,
        openai_responses_request,
        anthropic_request,
        gemini_request,
        gemini_schema,
    ):
        for table in ("TOLERATED", "MESSAGE_TOLERATED", "ITEM_TOLERATED", "PART_TOLERATED"):
            for row in getattr(module, table, {}):
                for name in row.split(", "):
                    found = names.match(name)
                    assert found is not None
                    assert f"`{found[0]}" in page or found[0] == "thinking.type", (module.__name__, name)


def test_a_client_of_another_dialect_is_told_its_own_name_for_the_field() -> None:
    """`top_k` is Anthropic's, `generationConfig.topK` Gemini's."""
    with pytest.raises(Untranslatable, match=r"^top_k cannot be said to a target of dialect openai$"):
        translated(Kind.MESSAGES, {**least(Kind.MESSAGES), "top_k": 3}, Dialect.OPENAI)


@pytest.mark.parametrize(
    ("kind", "more", "named"),
    [
        (Kind.RESPONSES, {"previous_response_id": "resp_1"}, "previous_response_id"),
        (Kind.RESPONSES, {"tools": [{"type": "web_search"}]}, "tools[0].type = 'web_search'"),
        (Kind.CHAT, {"tools": [{"type": "custom"}]}, "tools[0].type = 'custom'"),
        (Kind.CHAT, turn({"type": "input_audio"}), "messages[0].content[0].type = 'input_audio'"),
        (Kind.CHAT, {"tools": [{"type": "x" * 999}]}, f"tools[0].type = '{'x' * 63}"),
    ],
)
def test_a_refused_field_is_named_and_no_type_of_a_reader_is(
    kind: Kind, more: dict[str, Any], named: str
) -> None:
    """The client learns what it said that has no translation, not how the reader declares it."""
    with pytest.raises(Untranslatable) as told:
        translated(kind, {**least(kind), **more}, Dialect.ANTHROPIC)
    assert str(told.value) == f"{named} cannot be said to a target of another dialect"


def test_schemas_are_not_followed_without_end() -> None:
    schema: dict[str, Any] = {"type": "STRING"}
    for _ in range(80):
        schema = {"type": "ARRAY", "items": schema}
    config = {"responseMimeType": "application/json", "responseSchema": schema}
    with pytest.raises(Untranslatable, match="deeper"):
        translated(Kind.GEMINI, {**least(Kind.GEMINI), "generationConfig": config}, Dialect.OPENAI)
