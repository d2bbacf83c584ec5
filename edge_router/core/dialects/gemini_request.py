"""What is asked of Gemini's generateContent.

Sources: Gemini API reference, "Method: models.generateContent", "Content", "GenerationConfig", "Caching" (for
FunctionCall, FunctionResponse and ToolConfig); guides "Function calling", "Thinking", "Thought signatures".

    calls        have an id only in newer versions of the API. Where a client sends none, a result belongs to the
                 oldest call of its name that has none yet
    signatures   Gemini 3 refuses a call of an earlier turn without the signature it gave to it. For calls that another
                 model made, the guide names a value that stands for "none was made here": FOREIGN_SIGNATURE
    results      are objects: text stands under `output`, or `error` for a call that failed
    strict       tools are held to their schema by the mode VALIDATED
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

import msgspec

from edge_router.core.dialects.gemini_names import camel
from edge_router.core.dialects.gemini_schema import json_schema
from edge_router.core.dialects.neutral import (
    Call,
    Choice,
    Effort,
    Format,
    Image,
    Message,
    Part,
    Request,
    Result,
    Text,
    Tool,
    Untranslatable,
    as_json,
    filled,
    joined,
    merged,
    raw,
    untranslatable,
    without_system,
)

FOREIGN_SIGNATURE: Final = "skip_thought_signature_validator"

NAMES: Final[Mapping[str, str]] = {
    "choice": "toolConfig.functionCallingConfig",
    "temperature": "generationConfig.temperature",
    "top_p": "generationConfig.topP",
    "top_k": "generationConfig.topK",
    "seed": "generationConfig.seed",
    "presence_penalty": "generationConfig.presencePenalty",
    "frequency_penalty": "generationConfig.frequencyPenalty",
    "stop": "generationConfig.stopSequences",
    "format": "generationConfig.responseJsonSchema",
    "effort": "generationConfig.thinkingConfig.thinkingLevel",
    "thinking_budget": "generationConfig.thinkingConfig.thinkingBudget",
}
"""Neutral name to this dialect's: what this dialect can say, and nothing else."""

TOLERATED: Final[Mapping[str, str]] = {
    "model": "the path names it; the route has chosen by it",
    "labels": "by which the provider's bill is sorted",
    "serviceTier": "how soon and at what price, not what is answered",
    "store": "translated calls are stateless; the answer is the same",
    "candidateCount": "only when 1, which is the default",
    "responseModalities": "only when it is text alone, which is the default",
    "thoughtSignature": "of an earlier turn: only the provider that signed it takes it back",
    "thought": "parts that are thinking, of an earlier turn: they are for people to read",
    "displayName": "a name for people to read",
}
"""Taken and left out, and why that changes nothing of the answer."""

LEVELS: Final[Mapping[str, str]] = {
    "minimal": "MINIMAL",
    "low": "LOW",
    "medium": "MEDIUM",
    "high": "HIGH",
    "xhigh": "XHIGH",
    "max": "XHIGH",
}
"""OpenAI's levels in these: `max` has no level of its own. `none` is a thinking budget of 0."""
_EFFORTS: Final[Mapping[str, Effort]] = {
    "MINIMAL": "minimal",
    "LOW": "low",
    "MEDIUM": "medium",
    "HIGH": "high",
    "XHIGH": "xhigh",
}
_MODES: Final[Mapping[str, str]] = {"auto": "AUTO", "none": "NONE", "required": "ANY", "tool": "ANY"}


class _In(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, rename="camel"):
    pass


class _Blob(_In):
    mime_type: str
    data: str
    display_name: Any = None


class _CallIn(_In):
    name: str
    id: str | None = None
    args: dict[str, Any] | None = None


class _ResponseIn(_In):
    name: str
    response: dict[str, Any]
    id: str | None = None


class _PartIn(_In):
    text: str | None = None
    inline_data: _Blob | None = None
    function_call: _CallIn | None = None
    function_response: _ResponseIn | None = None
    thought: bool | None = None
    thought_signature: Any = None


class _Content(_In):
    parts: list[_PartIn]
    role: Literal["user", "model", "function", "system", ""] | None = None


class _Declared(_In):
    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    parameters_json_schema: dict[str, Any] | None = None


class _ToolIn(_In):
    function_declarations: list[_Declared] | None = None


class _Calling(_In):
    mode: Literal["MODE_UNSPECIFIED", "AUTO", "ANY", "NONE"] | None = None
    allowed_function_names: list[str] | None = None


class _ToolConfig(_In):
    function_calling_config: _Calling | None = None


class _ThinkingIn(_In):
    include_thoughts: bool | None = None
    thinking_budget: int | None = None
    thinking_level: str | None = None


class _Config(_In):
    temperature: float | None = None
    top_p: float | None = None
    top_k: float | None = None
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    max_output_tokens: int | None = None
    stop_sequences: list[str] | None = None
    response_mime_type: Literal["text/plain", "application/json", ""] | None = None
    response_schema: dict[str, Any] | None = None
    response_json_schema: dict[str, Any] | None = None
    thinking_config: _ThinkingIn | None = None
    candidate_count: int | None = None
    response_modalities: list[Literal["TEXT"]] | None = None


class _Request(_In):
    contents: list[_Content] | _Content
    system_instruction: _Content | None = None
    tools: list[_ToolIn] | None = None
    tool_config: _ToolConfig | None = None
    generation_config: _Config | None = None
    model: Any = None
    labels: Any = None
    service_tier: Any = None
    store: Any = None


def read(body: bytes) -> Request:
    """Whether it is streamed is not the body's to say. Raises Untranslatable."""
    try:
        asked = msgspec.convert(camel(msgspec.json.decode(body)), _Request)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise untranslatable(error) from None
    config = asked.generation_config or _Config()
    if config.candidate_count not in (None, 1):
        raise Untranslatable(
            f"generationConfig.candidateCount = {config.candidate_count}: a target of another dialect gives one"
        )
    thinking = config.thinking_config or _ThinkingIn()
    budget = thinking.thinking_budget
    contents = asked.contents if isinstance(asked.contents, list) else [asked.contents]
    calls = _CallIds()
    return Request(
        system=_system(asked.system_instruction),
        messages=tuple(_message(content, calls) for content in contents),
        tools=tuple(_tool(one) for tool in asked.tools or () for one in tool.function_declarations or ()),
        choice=_choice(asked.tool_config),
        max_tokens=config.max_output_tokens,
        temperature=config.temperature,
        top_p=config.top_p,
        top_k=None if config.top_k is None else int(config.top_k),
        seed=config.seed,
        presence_penalty=config.presence_penalty or None,  # 0 is none
        frequency_penalty=config.frequency_penalty or None,
        stop=tuple(config.stop_sequences or ()),
        format=_format(config),
        effort=_effort(thinking),
        thinking_budget=budget if budget is not None and budget > 0 else None,  # -1: the model decides
        show_thinking=bool(thinking.include_thoughts),
    )


class _CallIds:
    """Which call a result belongs to, where the client names none."""

    def __init__(self) -> None:
        self._open: dict[str, list[str]] = {}
        self._count = 0

    def begun(self, call: _CallIn) -> str:
        name = call.id or f"call_{self._count}"
        self._count += 1
        self._open.setdefault(call.name, []).append(name)
        return name

    def answered(self, response: _ResponseIn) -> str:
        waiting = self._open.get(response.name) or []
        if response.id is not None:
            if response.id in waiting:
                waiting.remove(response.id)
            return response.id
        if not waiting:
            raise Untranslatable(
                f"a functionResponse of {response.name!r} that no functionCall has asked for"
            )
        return waiting.pop(0)


def _system(content: _Content | None) -> tuple[str, ...]:
    if content is None:
        return ()
    texts = []
    for part in content.parts:
        if part.text is None:
            raise Untranslatable("systemInstruction may only hold text")
        texts.append(part.text)
    return tuple(texts)


def _message(content: _Content, calls: _CallIds) -> Message:
    if content.role == "system":
        raise Untranslatable("contents.role system: put it into systemInstruction")
    parts = (_part(part, calls) for part in content.parts if not part.thought)
    return Message(
        role="assistant" if content.role == "model" else "user",
        parts=tuple(part for part in parts if part is not None),
    )


def _part(part: _PartIn, calls: _CallIds) -> Part | None:
    if part.text is not None:
        return Text(text=part.text) if part.text else None
    if part.inline_data is not None:
        blob = part.inline_data
        if not blob.mime_type.startswith("image/"):
            raise Untranslatable(f"inlineData of type {blob.mime_type!r} cannot be said to another dialect")
        # Written in base64 for URLs by some SDKs; the others take the plain alphabet alone.
        return Image(mime=blob.mime_type, content=blob.data.replace("-", "+").replace("_", "/"))
    if part.function_call is not None:
        call = part.function_call
        return Call(id=calls.begun(call), name=call.name, arguments=as_json(call.args or {}))
    if part.function_response is not None:
        given = part.function_response
        text, failed = _told(given.response)
        return Result(id=calls.answered(given), name=given.name, content=(Text(text=text),), failed=failed)
    return None


def _told(response: dict[str, Any]) -> tuple[str, bool]:
    """Text, and whether the call failed."""
    if len(response) == 1:
        for name in ("output", "error"):
            if name in response:
                value = response[name]
                return value if isinstance(value, str) else as_json(value), name == "error"
    return as_json(response), False


def _tool(given: _Declared) -> Tool:
    schema = given.parameters_json_schema
    if schema is None and given.parameters is not None:
        schema = json_schema(given.parameters, f"tools.functionDeclarations.{given.name}.parameters")
    return Tool(name=given.name, description=given.description or "", schema=schema)


def _choice(given: _ToolConfig | None) -> Choice | None:
    calling = given.function_calling_config if given is not None else None
    if calling is None:
        return None
    names = calling.allowed_function_names or []
    if calling.mode == "ANY" and len(names) == 1:
        return Choice(mode="tool", name=names[0])
    if names:
        raise Untranslatable(
            f"{NAMES['choice']}.allowedFunctionNames: a choice of several cannot be said to another dialect"
        )
    if calling.mode == "ANY":
        return Choice(mode="required")
    return Choice(mode="none" if calling.mode == "NONE" else "auto")


def _format(config: _Config) -> Format | None:
    if config.response_mime_type != "application/json":
        return None
    if config.response_json_schema is not None:
        return Format(schema=config.response_json_schema)
    if config.response_schema is not None:
        return Format(schema=json_schema(config.response_schema, "generationConfig.responseSchema"))
    return Format()


def _effort(thinking: _ThinkingIn) -> Effort | None:
    if thinking.thinking_budget == 0:
        return "none"
    if thinking.thinking_level is None:
        return None
    effort = _EFFORTS.get(thinking.thinking_level.upper())
    if effort is None:
        raise Untranslatable(f"{NAMES['effort']} = {thinking.thinking_level[:64]!r} is not known")
    return effort


# ---------------------------------------------------------------- writing


def write(request: Request, _model: bytes) -> bytes:
    """The model is named by the path. Raises Untranslatable."""
    turns = merged(without_system(request.messages))
    said: dict[str, Any] = {
        "contents": [
            {"role": "model" if turn.role == "assistant" else "user", "parts": _said_parts(filled(turn))}
            for turn in turns
        ]
    }
    if request.system:
        said["systemInstruction"] = {"parts": [{"text": text} for text in request.system]}
    if request.tools:
        said["tools"] = [{"functionDeclarations": [_said_tool(tool) for tool in request.tools]}]
    calling = _said_choice(request)
    if calling:
        said["toolConfig"] = {"functionCallingConfig": calling}
    config = _said_config(request)
    if config:
        said["generationConfig"] = config
    return msgspec.json.encode(said)


def _said_parts(parts: Sequence[Part]) -> list[dict[str, Any]]:
    said = [_said(part) for part in parts]
    first = next((part for part in said if "functionCall" in part), None)
    if first is not None:
        first["thoughtSignature"] = FOREIGN_SIGNATURE  # of calls made at once, the first alone has one
    return said


def _said(part: Part) -> dict[str, Any]:
    match part:
        case Text(text=text):
            return {"text": text}
        case Image():
            if part.url is not None:
                raise Untranslatable("an image by URL cannot be said to this target: send it as a data URL")
            return {"inlineData": {"mimeType": part.mime, "data": part.content}}
        case Call():
            call = {"id": part.id, "name": part.name, "args": raw(part.arguments)}
            return {"functionCall": call}
        case Result():
            if not part.name:
                raise Untranslatable("a tool's result that no call in the messages has asked for")
            told = {"error" if part.failed else "output": joined(part.content, "a tool's result")}
            return {"functionResponse": {"id": part.id, "name": part.name, "response": told}}
        case _:
            raise Untranslatable("thinking cannot be said to a target of another dialect")


def _said_tool(tool: Tool) -> dict[str, Any]:
    said: dict[str, Any] = {"name": tool.name}
    if tool.description:
        said["description"] = tool.description
    if tool.schema is not None:
        said["parametersJsonSchema"] = tool.schema
    return said


def _said_choice(request: Request) -> dict[str, Any]:
    choice = request.choice or Choice(mode="auto")
    if choice.mode == "tool":
        return {"mode": "ANY", "allowedFunctionNames": [choice.name]}
    if choice.mode == "auto" and any(tool.strict for tool in request.tools):
        return {"mode": "VALIDATED"}
    return {} if request.choice is None else {"mode": _MODES[choice.mode]}


def _said_config(request: Request) -> dict[str, Any]:
    given: dict[str, Any] = {
        "temperature": request.temperature,
        "topP": request.top_p,
        "topK": request.top_k,
        "seed": request.seed,
        "presencePenalty": request.presence_penalty,
        "frequencyPenalty": request.frequency_penalty,
        "maxOutputTokens": request.max_tokens,
        "stopSequences": list(request.stop) or None,
    }
    config = {name: value for name, value in given.items() if value is not None}
    if request.format is not None:
        config["responseMimeType"] = "application/json"
        if request.format.schema is not None:
            config["responseJsonSchema"] = request.format.schema
    if request.effort == "none":
        config["thinkingConfig"] = {"thinkingBudget": 0}
    elif request.thinking_budget is not None:
        config["thinkingConfig"] = {"thinkingBudget": request.thinking_budget}
    elif request.effort is not None:
        config["thinkingConfig"] = {"thinkingLevel": LEVELS[request.effort]}
    return config
