"""What a target gets of a call: checked by the types of the official SDK of its dialect."""

import json
from typing import Any

from anthropic.types.message_create_params import MessageCreateParamsNonStreaming
from google.genai import types as gemini
from openai.types.chat.completion_create_params import CompletionCreateParamsNonStreaming
from pydantic import TypeAdapter

from edge_router.core.endpoints import Kind
from shared.vocabulary.terms import Dialect
from tests.support.dialect_samples import CALLS, SCHEMA, least, translated


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


def schema_tool(**more: Any) -> list[dict[str, Any]]:
    return [{"type": "function", "function": {"name": "f", "parameters": SCHEMA, **more}}]
