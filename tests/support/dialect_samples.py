"""The same call and the same answer in every dialect, as the providers' documentation has them."""

import json
from typing import Any

from edge_router.core.body import Asked
from edge_router.core.endpoints import Kind
from edge_router.core.table import Origin, TargetEntry
from edge_router.core.translation import Translation, translate
from shared.vocabulary.terms import Dialect

PNG = "iVBORw0KGgo="
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
CREATED = 1_700_000_000

OTHERS = {
    Kind.CHAT: (Dialect.ANTHROPIC, Dialect.GEMINI),
    Kind.RESPONSES: (Dialect.ANTHROPIC, Dialect.GEMINI),
    Kind.MESSAGES: (Dialect.OPENAI, Dialect.GEMINI),
    Kind.GEMINI: (Dialect.OPENAI, Dialect.ANTHROPIC),
}
PAIRS = [(kind, dialect) for kind, dialects in OTHERS.items() for dialect in dialects]
KIND_OF = {Dialect.OPENAI: Kind.CHAT, Dialect.ANTHROPIC: Kind.MESSAGES, Dialect.GEMINI: Kind.GEMINI}


def target(dialect: Dialect, model: str = "their-model") -> TargetEntry:
    return TargetEntry(
        id="t",
        region="r",
        origin=Origin("http", "h", 80),
        host=b"h",
        base_path=b"/v1",
        model_json=json.dumps(model).encode(),
        dialect=dialect,
        credential=None,
        capacity_inflight=1,
        reasoning=False,
    )


def translated(kind: Kind, call: dict[str, Any], dialect: Dialect, *, stream: bool = False) -> Translation:
    if stream and kind is not Kind.GEMINI:
        call = {**call, "stream": True}
    asked = Asked(b'"m"', 0, 0, stream, 1, False)
    return translate(kind, json.dumps(call).encode(), asked, target(dialect))


def least(kind: Kind) -> dict[str, Any]:
    """The smallest call."""
    if kind is Kind.RESPONSES:
        return {"model": "m", "input": "hi"}
    if kind is Kind.GEMINI:
        return {"contents": [{"parts": [{"text": "hi"}]}]}
    said: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
    return {**said, "max_tokens": 100} if kind is Kind.MESSAGES else said


CALLS: dict[Kind, dict[str, Any]] = {
    Kind.CHAT: {
        "model": "m",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What is this?"},
                    {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}},
                ],
            },
            {
                "role": "assistant",
                "content": "Let me look.",
                "tool_calls": [
                    {
                        "id": "c1",
                        "type": "function",
                        "function": {"name": "f", "arguments": '{"city":"Oslo"}'},
                    },
                    {"id": "c2", "type": "function", "function": {"name": "g", "arguments": "{}"}},
                ],
            },
            {"role": "tool", "tool_call_id": "c1", "content": "cold"},
            {"role": "tool", "tool_call_id": "c2", "content": "late"},
            {"role": "user", "content": "And now?"},
        ],
        "tools": [
            {"type": "function", "function": {"name": "f", "description": "Weather", "parameters": SCHEMA}}
        ],
        "tool_choice": "required",
        "max_tokens": 50,
        "temperature": 0.5,
        "top_p": 0.9,
    },
    Kind.RESPONSES: {
        "model": "m",
        "instructions": "Be brief.",
        "input": [
            {
                "role": "user",
                "content": [
                    {"type": "input_text", "text": "What is this?"},
                    {"type": "input_image", "detail": "auto", "image_url": f"data:image/png;base64,{PNG}"},
                ],
            },
            {
                "type": "message",
                "id": "msg_1",
                "status": "completed",
                "role": "assistant",
                "content": [{"type": "output_text", "text": "Let me look.", "annotations": []}],
            },
            {"type": "function_call", "call_id": "c1", "name": "f", "arguments": '{"city":"Oslo"}'},
            {"type": "function_call", "call_id": "c2", "name": "g", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c1", "output": "cold"},
            {"type": "function_call_output", "call_id": "c2", "output": "late"},
            {"role": "user", "content": "And now?"},
        ],
        "tools": [{"type": "function", "name": "f", "description": "Weather", "parameters": SCHEMA}],
        "tool_choice": "required",
        "max_output_tokens": 50,
        "temperature": 0.5,
        "top_p": 0.9,
    },
    Kind.MESSAGES: {
        "model": "m",
        "max_tokens": 50,
        "system": "Be brief.",
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
                    {"type": "tool_result", "tool_use_id": "c1", "content": "cold"},
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
    Kind.GEMINI: {
        "systemInstruction": {"parts": [{"text": "Be brief."}]},
        "contents": [
            {
                "role": "user",
                "parts": [
                    {"text": "What is this?"},
                    {"inlineData": {"mimeType": "image/png", "data": PNG}},
                ],
            },
            {
                "role": "model",
                "parts": [
                    {"text": "Let me look."},
                    {"functionCall": {"id": "c1", "name": "f", "args": {"city": "Oslo"}}},
                    {"functionCall": {"id": "c2", "name": "g", "args": {}}},
                ],
            },
            {
                "role": "user",
                "parts": [
                    {"functionResponse": {"id": "c1", "name": "f", "response": {"output": "cold"}}},
                    {"functionResponse": {"id": "c2", "name": "g", "response": {"output": "late"}}},
                    {"text": "And now?"},
                ],
            },
        ],
        "tools": [
            {
                "functionDeclarations": [
                    {"name": "f", "description": "Weather", "parametersJsonSchema": SCHEMA}
                ]
            }
        ],
        "toolConfig": {"functionCallingConfig": {"mode": "ANY"}},
        "generationConfig": {"maxOutputTokens": 50, "temperature": 0.5, "topP": 0.9},
    },
}
"""One conversation with everything that all of them can say."""


# ---------------------------------------------------------------- answers: text, then two calls at once

ANSWERS: dict[Dialect, dict[str, Any]] = {
    Dialect.OPENAI: {
        "id": "a1",
        "object": "chat.completion",
        "created": 1,
        "model": "their-model-2",
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": "Grüße, \n",
                    "reasoning_content": "hm",
                    "tool_calls": [
                        {
                            "id": "k1",
                            "type": "function",
                            "function": {"name": "f", "arguments": '{"city": "Bø"}'},
                        },
                        {"id": "k2", "type": "function", "function": {"name": "g", "arguments": "{}"}},
                    ],
                },
                "finish_reason": "tool_calls",
            }
        ],
        "usage": {
            "prompt_tokens": 30,
            "completion_tokens": 12,
            "total_tokens": 42,
            "prompt_tokens_details": {"cached_tokens": 10},
            "completion_tokens_details": {"reasoning_tokens": 5},
        },
    },
    Dialect.ANTHROPIC: {
        "id": "a1",
        "type": "message",
        "role": "assistant",
        "model": "their-model-2",
        "content": [
            {"type": "thinking", "thinking": "hm", "signature": "c2ln"},
            {"type": "redacted_thinking", "data": "eA=="},
            {"type": "text", "text": "Grüße, \n"},
            {"type": "tool_use", "id": "k1", "name": "f", "input": {"city": "Bø"}},
            {"type": "tool_use", "id": "k2", "name": "g", "input": {}},
        ],
        "stop_reason": "tool_use",
        "stop_sequence": None,
        "usage": {
            "input_tokens": 20,
            "cache_read_input_tokens": 10,
            "cache_creation_input_tokens": 0,
            "output_tokens": 12,
            "output_tokens_details": {"thinking_tokens": 5},
        },
    },
    Dialect.GEMINI: {
        "responseId": "a1",
        "modelVersion": "their-model-2",
        "candidates": [
            {
                "index": 0,
                "content": {
                    "role": "model",
                    "parts": [
                        {"text": "hm", "thought": True},
                        {"text": "Grüße, \n", "thoughtSignature": "c2ln"},
                        {"functionCall": {"id": "k1", "name": "f", "args": {"city": "Bø"}}},
                        {"functionCall": {"id": "k2", "name": "g", "args": {}}},
                    ],
                },
                "finishReason": "STOP",
            }
        ],
        "usageMetadata": {
            "promptTokenCount": 30,
            "candidatesTokenCount": 7,
            "thoughtsTokenCount": 5,
            "cachedContentTokenCount": 10,
            "totalTokenCount": 42,
        },
    },
}


def sse(*events: dict[str, Any] | str) -> bytes:
    """Events as their dialect writes them: named where they have a type that is no chunk's."""
    said = b""
    for event in events:
        if isinstance(event, str):
            said += b"data: " + event.encode() + b"\n\n"
            continue
        if "type" in event:
            said += f"event: {event['type']}\n".encode()
        said += b"data: " + json.dumps(event, ensure_ascii=False).encode() + b"\n\n"
    return said


def chunk(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    head = {"id": "a1", "object": "chat.completion.chunk", "created": 1, "model": "their-model-2"}
    return {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


def called(index: int, arguments: str, **named: str) -> dict[str, Any]:
    more = {"id": named["id"], "type": "function"} if named else {}
    function = {"arguments": arguments, **({"name": named["name"]} if named else {})}
    return chunk({"tool_calls": [{"index": index, **more, "function": function}]})


def piece(*parts: dict[str, Any], finish: str | None = None, **more: Any) -> dict[str, Any]:
    candidate: dict[str, Any] = {"index": 0, "content": {"role": "model", "parts": list(parts)}}
    if finish is not None:
        candidate["finishReason"] = finish
    return {"candidates": [candidate], "responseId": "a1", "modelVersion": "their-model-2", **more}


def block(index: int, content: dict[str, Any], *deltas: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"type": "content_block_start", "index": index, "content_block": content},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": index},
    ]


_STARTED = {
    **ANSWERS[Dialect.ANTHROPIC],
    "content": [],
    "stop_reason": None,
    "usage": {"input_tokens": 20, "cache_read_input_tokens": 10, "output_tokens": 1},
}
STREAMS: dict[Dialect, bytes] = {
    Dialect.OPENAI: sse(
        chunk({"role": "assistant", "content": ""}),
        chunk({"reasoning_content": "hm"}),
        chunk({"content": "Grüße"}),
        chunk({"content": ", \n"}),
        called(0, "", id="k1", name="f"),
        called(0, '{"ci'),
        called(0, 'ty": "Bø"}'),
        called(1, "{}", id="k2", name="g"),
        chunk({}, "tool_calls"),
        {**chunk({}), "choices": [], "usage": ANSWERS[Dialect.OPENAI]["usage"]},
        "[DONE]",
    ),
    Dialect.ANTHROPIC: sse(
        {"type": "message_start", "message": _STARTED},
        *block(
            0,
            {"type": "thinking", "thinking": "", "signature": ""},
            {"type": "thinking_delta", "thinking": "hm"},
            {"type": "signature_delta", "signature": "c2ln"},
        ),
        {"type": "ping"},
        *block(
            1,
            {"type": "text", "text": ""},
            {"type": "text_delta", "text": "Grüße"},
            {"type": "text_delta", "text": ", \n"},
        ),
        *block(
            2,
            {"type": "tool_use", "id": "k1", "name": "f", "input": {}},
            {"type": "input_json_delta", "partial_json": ""},
            {"type": "input_json_delta", "partial_json": '{"ci'},
            {"type": "input_json_delta", "partial_json": 'ty": "Bø"}'},
        ),
        *block(3, {"type": "tool_use", "id": "k2", "name": "g", "input": {}}),
        {
            "type": "message_delta",
            "delta": {"stop_reason": "tool_use", "stop_sequence": None},
            "usage": {"output_tokens": 12, "output_tokens_details": {"thinking_tokens": 5}},
        },
        {"type": "message_stop"},
    ),
    Dialect.GEMINI: sse(
        piece({"text": "hm", "thought": True}),
        piece({"text": "Grüße"}),
        piece({"text": ", \n"}),
        piece({"functionCall": {"id": "k1", "name": "f", "args": {"city": "Bø"}}}),
        piece(
            {"functionCall": {"id": "k2", "name": "g", "args": {}}},
            finish="STOP",
            usageMetadata=ANSWERS[Dialect.GEMINI]["usageMetadata"],
        ),
    ),
}
"""The same answer, streamed."""

SEEN = {
    "id": "a1",
    "model": "their-model-2",
    "text": "Grüße, \n",
    "calls": [("k1", "f", {"city": "Bø"}), ("k2", "g", {})],
    "stop": "calls",
    "read": 30,
    "written": 12,
    "cached": 10,
    "thought": 5,
}
"""What a client of any dialect is to see of it."""
