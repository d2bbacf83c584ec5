"""The OpenAI dialect: chat completions, completions, embeddings, models, and its error envelope.

Shapes follow the OpenAPI description of the API (github.com/openai/openai-openapi) and are checked
with the official client.
"""

import base64
import struct
from collections.abc import Iterator
from typing import Any

import msgspec

from ops.simulator import answers
from ops.simulator.identity import Identity
from ops.simulator.reply import (
    BadRequest,
    Event,
    Json,
    Reply,
    ToolCall,
    Turn,
    digest,
    event,
    token_limit,
    turn_of,
)

DONE = Event(b"data: [DONE]\n\n")
MAX_INPUTS = 2048


def chat(request: Json, identity: Identity, created: int) -> Reply:
    """`POST /v1/chat/completions`."""
    if request.get("n", 1) != 1:
        raise BadRequest("only n = 1 is simulated", param="n")
    turn = turn_of(request.get("messages"), tools=_tool_names(request))
    call = None if request.get("tool_choice") == "none" else turn.tool_call(_forced_tool(request, turn))
    limit = token_limit(request, "max_completion_tokens", "max_tokens")
    told = turn.answer(limit)
    finish = "tool_calls" if call else "stop" if told.complete else "length"
    tokens = answers.count_tokens(call.arguments) if call else len(told.tokens)
    usage = _usage(turn.prompt_tokens, tokens)
    common = {
        "id": f"chatcmpl-{digest('chat', turn.prompt)}",
        "created": created,
        "model": request["model"],
        "system_fingerprint": identity.fingerprint,
    }
    if request.get("stream"):
        deltas = _call_deltas(call) if call else _text_deltas(told)
        chunk = {**common, "object": "chat.completion.chunk"}
        return Reply(events=_chunks(chunk, deltas, finish, _streamed_usage(request, usage)), tokens=tokens)
    message: Json = {"role": "assistant", "content": None if call else told.text, "refusal": None}
    if call:
        message["tool_calls"] = [_call(call)]
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
    whole = {**common, "object": "chat.completion", "choices": [choice], "usage": usage}
    return Reply(body=msgspec.json.encode(whole), tokens=tokens)


def completions(request: Json, identity: Identity, created: int) -> Reply:
    """`POST /v1/completions`, for one prompt."""
    prompt = request.get("prompt")
    if isinstance(prompt, list) and len(prompt) == 1:
        prompt = prompt[0]
    if not isinstance(prompt, str):
        raise BadRequest("prompt must be one string", param="prompt")
    told = answers.answer(prompt, token_limit(request, "max_tokens"))
    finish = "stop" if told.complete else "length"
    usage = _usage(answers.count_tokens(prompt), len(told.tokens))
    common = {
        "id": f"cmpl-{digest('completion', prompt)}",
        "object": "text_completion",
        "created": created,
        "model": request["model"],
        "system_fingerprint": identity.fingerprint,
    }

    def choice(text: str, finish: str | None) -> Json:
        return {"index": 0, "text": text, "logprobs": None, "finish_reason": finish}

    def stream() -> Iterator[Event]:
        for token in told.tokens:
            yield event({**common, "choices": [choice(token, None)]}, token=True)
        yield event({**common, "choices": [choice("", finish)]})
        if streamed_usage := _streamed_usage(request, usage):
            yield event({**common, "choices": [], "usage": streamed_usage})
        yield DONE

    if request.get("stream"):
        return Reply(events=stream(), tokens=len(told.tokens))
    whole = {**common, "choices": [choice(told.text, finish)], "usage": usage}
    return Reply(body=msgspec.json.encode(whole), tokens=len(told.tokens))


def embeddings(request: Json, _identity: Identity, _created: int) -> Reply:
    """`POST /v1/embeddings`. Vectors follow from the text alone."""
    given = request.get("input")
    inputs: list[Any] = given if isinstance(given, list) and not _is_tokens(given) else [given]
    if not 1 <= len(inputs) <= MAX_INPUTS:
        raise BadRequest(f"input must hold 1 to {MAX_INPUTS} texts", param="input")
    if any(not _is_tokens(text) and not (isinstance(text, str) and text) for text in inputs):
        raise BadRequest("input must be text, tokens, or a list of either, and not empty", param="input")
    dimensions = token_limit(request, "dimensions") or answers.DEFAULT_DIMENSIONS
    if dimensions > answers.MAX_DIMENSIONS:
        raise BadRequest(f"dimensions must be at most {answers.MAX_DIMENSIONS}", param="dimensions")
    encoding = request.get("encoding_format", "float")
    if encoding not in ("float", "base64"):
        raise BadRequest("encoding_format must be float or base64", param="encoding_format")
    rows = []
    for index, text in enumerate(inputs):
        vector = answers.embedding(text if isinstance(text, str) else repr(text), dimensions)
        rows.append(
            {
                "object": "embedding",
                "index": index,
                "embedding": vector if encoding == "float" else _base64(vector),
            }
        )
    tokens = sum(answers.count_tokens(text) if isinstance(text, str) else len(text) for text in inputs)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    whole = {"object": "list", "data": rows, "model": request["model"], "usage": usage}
    return Reply(body=msgspec.json.encode(whole))


def models(identity: Identity, created: int) -> Json:
    """`GET /v1/models`. Carries Anthropic's fields too, which share the path."""
    return {
        "object": "list",
        "data": [model(identity, created)],
        "has_more": False,
        "first_id": identity.model,
        "last_id": identity.model,
    }


def model(identity: Identity, created: int) -> Json:
    """One entry of it, `GET /v1/models/{id}`."""
    return {
        "id": identity.model,
        "object": "model",
        "created": created,
        "owned_by": identity.provider,
        "type": "model",
        "display_name": identity.model,
        "created_at": "2026-01-01T00:00:00Z",
    }


def error(status: int, message: str, *, param: str | None = None, code: str | None = None) -> bytes:
    """The error envelope."""
    kind = {401: "authentication_error", 404: "not_found_error", 429: code or "rate_limit_error"}.get(
        status, "server_error" if status >= 500 else "invalid_request_error"
    )
    return msgspec.json.encode({"error": {"message": message, "type": kind, "param": param, "code": code}})


# ---------------------------------------------------------------- details of chat


def _chunks(
    chunk: Json, deltas: Iterator[tuple[Json, bool]], finish: str, usage: Json | None
) -> Iterator[Event]:
    # With include_usage every chunk but the last carries a null usage (API reference, "Streaming").
    tail: Json = {"usage": None} if usage else {}

    def choice(delta: Json, finish: str | None = None) -> Json:
        return {
            **chunk,
            "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}],
            **tail,
        }

    yield event(choice({"role": "assistant", "content": ""}))
    for delta, token in deltas:
        yield event(choice(delta), token=token)
    yield event(choice({}, finish))
    if usage:
        yield event({**chunk, "choices": [], "usage": usage})
    yield DONE


def _text_deltas(told: answers.Answer) -> Iterator[tuple[Json, bool]]:
    for token in told.tokens:
        yield {"content": token}, True


def _call_deltas(call: ToolCall) -> Iterator[tuple[Json, bool]]:
    opening = _call(call)
    opening["function"]["arguments"] = ""
    yield {"tool_calls": [{"index": 0, **opening}]}, False
    for piece in _pieces(call.arguments):
        yield {"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}, True


def _call(call: ToolCall) -> Json:
    return {
        "id": f"call_{digest(call.name, call.arguments)}",
        "type": "function",
        "function": {"name": call.name, "arguments": call.arguments},
    }


def _pieces(text: str, size: int = 16) -> Iterator[str]:
    for start in range(0, len(text), size):
        yield text[start : start + size]


def _tool_names(request: Json) -> tuple[str, ...]:
    tools = request.get("tools") or ()
    functions = (tool.get("function") for tool in tools if isinstance(tool, dict))
    return tuple(
        name
        for function in functions
        if isinstance(function, dict) and isinstance(name := function.get("name"), str)
    )


def _forced_tool(request: Json, turn: Turn) -> str | None:
    choice = request.get("tool_choice")
    if choice == "required" and turn.tools:
        return turn.tools[0]
    function = choice.get("function") if isinstance(choice, dict) else None
    name = function.get("name") if isinstance(function, dict) else None
    return name if name in turn.tools else None


def _usage(prompt_tokens: int, completion_tokens: int) -> Json:
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }


def _streamed_usage(request: Json, usage: Json) -> Json | None:
    options = request.get("stream_options")
    return usage if isinstance(options, dict) and options.get("include_usage") else None


def _is_tokens(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(token, int) for token in value)


def _base64(vector: list[float]) -> str:
    """Little-endian float32, as the official client unpacks it."""
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
