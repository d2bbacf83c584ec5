"""The Anthropic dialect: `POST /v1/messages`, streamed and not, and its error envelope.

Shapes follow the Messages API reference and are checked with the official client.
"""

from collections.abc import Iterator

import msgspec

from ops.simulator import answers
from ops.simulator.identity import Identity
from ops.simulator.reply import (
    BadRequest,
    Event,
    Json,
    Reply,
    ToolCall,
    digest,
    event,
    text_of,
    token_limit,
    turn_of,
)

_KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    529: "overloaded_error",
}


def messages(request: Json, _identity: Identity, _created: int) -> Reply:
    """One message. `max_tokens` is required, as the API requires it."""
    limit = token_limit(request, "max_tokens")
    if limit is None:
        raise BadRequest("max_tokens: Field required", param="max_tokens")
    listed = request.get("tools") or ()
    tools = tuple(str(tool.get("name")) for tool in listed if isinstance(tool, dict))
    turn = turn_of(request.get("messages"), tools=tools, system=text_of(request.get("system")))
    choice = request.get("tool_choice")
    choice = choice if isinstance(choice, dict) else {"type": "auto"}
    forced = {"any": tools[0] if tools else None, "tool": choice.get("name")}.get(str(choice.get("type")))
    call = None if choice.get("type") == "none" else turn.tool_call(forced if forced in tools else None)
    told = turn.answer(limit)
    tokens = answers.count_tokens(call.arguments) if call else len(told.tokens)
    message = {
        "id": f"msg_{digest('message', turn.prompt)}",
        "type": "message",
        "role": "assistant",
        "model": request["model"],
        "content": [_tool_use(call)] if call else [{"type": "text", "text": told.text}],
        "stop_reason": "tool_use" if call else "end_turn" if told.complete else "max_tokens",
        "stop_sequence": None,
        "usage": {"input_tokens": turn.prompt_tokens, "output_tokens": tokens},
    }
    if request.get("stream"):
        return Reply(events=_events(message, told, call), tokens=tokens)
    return Reply(body=msgspec.json.encode(message), tokens=tokens)


def error(status: int, message: str) -> bytes:
    """The error envelope."""
    kind = _KINDS.get(status, "api_error" if status >= 500 else "invalid_request_error")
    return msgspec.json.encode({"type": "error", "error": {"type": kind, "message": message}})


def _events(message: Json, told: answers.Answer, call: ToolCall | None) -> Iterator[Event]:
    def say(kind: str, *, token: bool = False, **fields: object) -> Event:
        return event({"type": kind, **fields}, name=kind, token=token)

    opening = {
        **message,
        "content": [],
        "stop_reason": None,
        "usage": {**message["usage"], "output_tokens": 1},
    }
    yield say("message_start", message=opening)
    block = {**_tool_use(call), "input": {}} if call else {"type": "text", "text": ""}
    yield say("content_block_start", index=0, content_block=block)
    yield say("ping")
    if call:
        for start in range(0, len(call.arguments), 16):
            piece = {"type": "input_json_delta", "partial_json": call.arguments[start : start + 16]}
            yield say("content_block_delta", token=True, index=0, delta=piece)
    else:
        for token in told.tokens:
            yield say("content_block_delta", token=True, index=0, delta={"type": "text_delta", "text": token})
    yield say("content_block_stop", index=0)
    yield say(
        "message_delta",
        delta={"stop_reason": message["stop_reason"], "stop_sequence": None},
        usage={"output_tokens": message["usage"]["output_tokens"]},
    )
    yield say("message_stop")


def _tool_use(call: ToolCall) -> Json:
    return {
        "type": "tool_use",
        "id": f"toolu_{digest(call.name, call.arguments)}",
        "name": call.name,
        "input": msgspec.json.decode(call.arguments),
    }
