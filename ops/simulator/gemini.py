"""The Gemini dialect: generateContent, streamed and not, embedContent, batchEmbedContents, models, error envelope.

Shapes follow the Gemini API's REST reference and are checked with the official client. Streams are server-sent
events (`?alt=sse`) without a last event of their own: the finish reason ends the answer.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import unquote

import msgspec

from ops.simulator import answers
from ops.simulator.identity import Identity
from ops.simulator.reply import BadRequest, Event, Json, Reply, ToolCall, Turn, digest, event, token_limit

_STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_PATH = re.compile(r"/v1(?:beta)?/models/(?P<model>.+):(?P<method>[A-Za-z]+)")
MODELS_PATH = "/v1beta/models"
CLIENT_FIELDS = frozenset({"x-goog-api-key", "x-goog-api-client"})
"""By which Google's client is known at `/v1/models`, which the dialects share."""
MAX_INPUTS = 100


class Called(NamedTuple):
    """A call: its model and method are in the path."""

    model: str
    method: str

    @property
    def stream(self) -> bool:
        """Whether it asks for events."""
        return self.method == "streamGenerateContent"

    @property
    def known(self) -> bool:
        """Whether there is such a method."""
        return self.method in _METHODS


def called(path: str) -> Called | None:
    """The call that a path is, if it is one."""
    match = _PATH.fullmatch(path)
    return None if match is None else Called(unquote(match["model"]), match["method"])


def answer(call: Called, request: Json, identity: Identity) -> Reply:
    """The answer to `call`. Raises BadRequest."""
    return _METHODS[call.method](request, identity, call.stream)


def models(identity: Identity) -> Json:
    """`GET /v1beta/models`."""
    return {"models": [model(identity)]}


def model(identity: Identity) -> Json:
    """One entry of it, `GET /v1beta/models/{id}`."""
    return {
        "name": f"models/{identity.model}",
        "version": "001",
        "displayName": identity.model,
        "inputTokenLimit": 1_000_000,
        "outputTokenLimit": answers.MAX_TOKENS,
        "supportedGenerationMethods": list(_METHODS),
    }


def error(status: int, message: str) -> bytes:
    """The error envelope, google.rpc.Status."""
    named = _STATUSES.get(status, "INVALID_ARGUMENT" if status < 500 else "INTERNAL")
    return msgspec.json.encode({"error": {"code": status, "message": message, "status": named}})


# ---------------------------------------------------------------- generateContent


def _generate(request: Json, identity: Identity, stream: bool) -> Reply:
    config = _object(request, "generationConfig")
    if config.get("candidateCount", 1) != 1:
        raise BadRequest("only candidateCount = 1 is simulated", param="generationConfig.candidateCount")
    tools = tuple(_tool_names(request.get("tools")))
    turn = _turn(request, tools)
    calling = _object(_object(request, "toolConfig"), "functionCallingConfig")
    mode = calling.get("mode", "AUTO")
    allowed = calling.get("allowedFunctionNames") or tools
    forced = next((name for name in allowed if name in tools), None) if mode == "ANY" else None
    call = None if mode == "NONE" else turn.tool_call(forced)
    told = turn.answer(token_limit(config, "maxOutputTokens"))
    tokens = answers.count_tokens(call.arguments) if call else len(told.tokens)
    common = {
        "usageMetadata": {
            "promptTokenCount": turn.prompt_tokens,
            "candidatesTokenCount": tokens,
            "totalTokenCount": turn.prompt_tokens + tokens,
        },
        "modelVersion": identity.model,
        "responseId": digest("generate", turn.prompt),
    }
    finish = "STOP" if call or told.complete else "MAX_TOKENS"
    if stream:
        return Reply(events=_events(common, told, call, finish), tokens=tokens)
    part = _call(call) if call else {"text": told.text}
    whole = {"candidates": [_candidate([part], finish)], **common}
    return Reply(body=msgspec.json.encode(whole), tokens=tokens)


def _events(common: Json, told: answers.Answer, call: ToolCall | None, finish: str) -> Iterator[Event]:
    # A function call comes in one piece; of text, the last piece carries the finish reason.
    parts: list[Json] = [_call(call)] if call else [{"text": token} for token in told.tokens]
    usage = common["usageMetadata"]
    for place, part in enumerate(parts):
        last = place == len(parts) - 1
        counts = usage if last else {"promptTokenCount": usage["promptTokenCount"]}
        candidate = _candidate([part], finish if last else None)
        yield event({"candidates": [candidate], **common, "usageMetadata": counts}, token=True)


def _candidate(parts: list[Json], finish: str | None) -> Json:
    candidate: Json = {"content": {"parts": parts, "role": "model"}, "index": 0}
    return candidate if finish is None else {**candidate, "finishReason": finish}


def _call(call: ToolCall) -> Json:
    arguments = msgspec.json.decode(call.arguments)
    return {
        "functionCall": {
            "id": f"call_{digest(call.name, call.arguments)}",
            "name": call.name,
            "args": arguments,
        }
    }


def _turn(request: Json, tools: tuple[str, ...]) -> Turn:
    contents = request.get("contents")
    if not isinstance(contents, list) or not contents:
        raise BadRequest("contents is not specified", param="contents")
    prompt = prefill = ""
    tokens = answers.count_tokens(_text(request.get("systemInstruction")))
    answered = False
    for i, content in enumerate(contents):
        role = content.get("role", "user") if isinstance(content, dict) else None
        if role not in ("user", "model", "function"):
            raise BadRequest("Please use a valid role: user, model.", param=f"contents[{i}].role")
        text = _text(content)
        tokens += answers.count_tokens(text)
        prefill = text if role == "model" else ""
        answered = role == "function" or any("functionResponse" in part for part in _parts(content))
        if role == "user" and not answered:
            prompt = text
    return Turn(prompt, prefill, answered, tokens, tools)


def _tool_names(tools: Any) -> Iterator[str]:
    for tool in tools if isinstance(tools, list) else ():
        for function in tool.get("functionDeclarations") or () if isinstance(tool, dict) else ():
            if isinstance(function, dict) and isinstance(function.get("name"), str):
                yield function["name"]


def _parts(content: Any) -> list[Json]:
    parts = content.get("parts") if isinstance(content, dict) else None
    return [part for part in parts if isinstance(part, dict)] if isinstance(parts, list) else []


def _text(content: Any) -> str:
    return "".join(part["text"] for part in _parts(content) if isinstance(part.get("text"), str))


def _object(request: Json, name: str) -> Json:
    value = request.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise BadRequest(f"{name} is not an object", param=name)
    return value


# ---------------------------------------------------------------- embeddings


def _embed(request: Json, _identity: Identity, _stream: bool) -> Reply:
    return Reply(body=msgspec.json.encode({"embedding": {"values": _vector(request, "content")}}))


def _embed_batch(request: Json, identity: Identity, _stream: bool) -> Reply:
    requests = request.get("requests")
    if not isinstance(requests, list) or not 1 <= len(requests) <= MAX_INPUTS:
        raise BadRequest(f"requests must hold 1 to {MAX_INPUTS} requests", param="requests")
    rows = []
    for i, one in enumerate(requests):
        if not isinstance(one, dict) or one.get("model") != f"models/{identity.model}":
            raise BadRequest(
                "The model of each request must be the one in the path", param=f"requests[{i}].model"
            )
        rows.append({"values": _vector(one, f"requests[{i}].content")})
    return Reply(body=msgspec.json.encode({"embeddings": rows}))


def _vector(request: Json, param: str) -> list[float]:
    text = _text(request.get("content"))
    if not text:
        raise BadRequest("content contains an empty Part.", param=param)
    dimensions = token_limit(request, "outputDimensionality") or answers.DEFAULT_DIMENSIONS
    if dimensions > answers.MAX_DIMENSIONS:
        raise BadRequest(f"outputDimensionality must be at most {answers.MAX_DIMENSIONS}", param=param)
    return answers.embedding(text, dimensions)


_METHODS: Mapping[str, Callable[[Json, Identity, bool], Reply]] = {
    "generateContent": _generate,
    "streamGenerateContent": _generate,
    "embedContent": _embed,
    "batchEmbedContents": _embed_batch,
}
