"""What is asked of Anthropic's messages.

Sources: Anthropic API reference, "Create a Message"; "Tool use", "Structured outputs" (`output_config.format`),
"Effort" (`output_config.effort`), "Extended thinking".

    sampling     `temperature`, `top_p` and `top_k` are passed on within the range that the API has for them; newer
                 models take none, and then it is the target that says so
    max_tokens   must be said here and need not elsewhere: DEFAULT_MAX_TOKENS stands in
"""

import hashlib
import re
from collections.abc import Mapping
from typing import Any, Final, Literal

import msgspec

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
    merged,
    raw,
    read_request,
    without_system,
)

DEFAULT_MAX_TOKENS: Final = 4096
"""For clients whose dialect leaves it open. Every model takes it."""

NAMES: Final[Mapping[str, str]] = {
    "choice": "tool_choice",
    "parallel": "tool_choice.disable_parallel_tool_use",
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "stop": "stop_sequences",
    "format": "output_config.format",
    "effort": "output_config.effort",
    "thinking_budget": "thinking.budget_tokens",
}
"""Neutral name to this dialect's: what this dialect can say, and nothing else."""

TOLERATED: Final[Mapping[str, str]] = {
    "model": "the route has chosen by it; the target's own name stands in its place",
    "metadata": "says who asks, for the provider's abuse reports",
    "service_tier": "how soon and at what price, not what is answered",
    "cache_control": "what is cached changes price and time, not the answer",
}
"""Taken and left out, and why that changes nothing of the answer."""

PART_TOLERATED: Final[Mapping[str, str]] = {
    "cache_control": "what is cached changes price and time, not the answer",
    "citations": "of an earlier answer, or null: where its words came from",
    "caller": "of an earlier answer: a call made by the model itself, the only ones that can be read",
    "thinking, redacted_thinking": "of an earlier turn: only the provider that signed them takes them back",
    "thinking.display": "how the provider shows its thinking, which is not carried over",
    "thinking.type adaptive": "the model decides whether to think, as it does elsewhere where nothing is said",
    "eager_input_streaming": "how the arguments of a call are streamed, not what they are",
}
"""Of parts of it."""

EFFORTS: Final[Mapping[str, str]] = {
    "minimal": "low",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "xhigh",
    "max": "max",
}
"""OpenAI's levels in these: `minimal` has no level of its own. `none` switches thinking off."""
_CHOICES: Final[Mapping[str, str]] = {"auto": "auto", "none": "none", "required": "any", "tool": "tool"}
_ID: Final = re.compile(r"[a-zA-Z0-9_-]{1,128}")
_MIMES: Final = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})


class _In(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    pass


class _TextBlock(_In, tag_field="type", tag="text"):
    text: str
    cache_control: Any = None
    citations: Any = None


class _Base64(_In, tag_field="type", tag="base64"):
    media_type: str
    data: str


class _Url(_In, tag_field="type", tag="url"):
    url: str


class _ImageBlock(_In, tag_field="type", tag="image"):
    source: _Base64 | _Url
    cache_control: Any = None


class _Direct(_In, tag_field="type", tag="direct"):
    pass


class _ToolUse(_In, tag_field="type", tag="tool_use"):
    id: str
    name: str
    input: dict[str, Any]
    caller: _Direct | None = None
    cache_control: Any = None


class _ToolResult(_In, tag_field="type", tag="tool_result"):
    tool_use_id: str
    content: str | list[_TextBlock | _ImageBlock] | None = None
    is_error: bool | None = None
    cache_control: Any = None


class _ThinkingBlock(_In, tag_field="type", tag="thinking"):
    thinking: str
    signature: str = ""


class _Redacted(_In, tag_field="type", tag="redacted_thinking"):
    data: str


_Block = _TextBlock | _ImageBlock | _ToolUse | _ToolResult | _ThinkingBlock | _Redacted


class _MessageIn(_In):
    role: Literal["user", "assistant"]
    content: str | list[_Block]


class _ToolIn(_In):
    name: str
    input_schema: dict[str, Any]
    description: str | None = None
    type: Literal["custom"] | None = None
    strict: bool | None = None
    cache_control: Any = None
    eager_input_streaming: Any = None


class _ToolChoice(_In):
    type: Literal["auto", "any", "tool", "none"]
    name: str = ""
    disable_parallel_tool_use: bool | None = None


class _FormatIn(_In):
    type: Literal["json_schema"]
    schema: dict[str, Any]


class _Output(_In):
    effort: Effort | None = None
    format: _FormatIn | None = None


class _ThinkingIn(_In):
    type: Literal["enabled", "adaptive", "disabled"]
    budget_tokens: int | None = None
    display: Any = None


class _Request(_In):
    model: str
    max_tokens: int
    messages: list[_MessageIn]
    system: str | list[_TextBlock] | None = None
    tools: list[_ToolIn] | None = None
    tool_choice: _ToolChoice | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop_sequences: list[str] | None = None
    output_config: _Output | None = None
    thinking: _ThinkingIn | None = None
    stream: bool | None = None
    metadata: Any = None
    service_tier: Any = None
    cache_control: Any = None


_REQUEST: Final = msgspec.json.Decoder(_Request)


def read(body: bytes) -> Request:
    """Raises Untranslatable."""
    asked = read_request(body, _REQUEST)
    output = asked.output_config or _Output()
    thinking = asked.thinking
    choice = asked.tool_choice
    modes: dict[str, Any] = {"auto": "auto", "any": "required", "tool": "tool", "none": "none"}
    effort: Effort | None = "none" if thinking is not None and thinking.type == "disabled" else output.effort
    system = asked.system or ()
    names: dict[str, str] = {}
    return Request(
        system=(system,) if isinstance(system, str) else tuple(block.text for block in system),
        messages=tuple(
            Message(role=message.role, parts=_parts(message.content, names)) for message in asked.messages
        ),
        tools=tuple(
            Tool(
                name=tool.name,
                description=tool.description or "",
                schema=tool.input_schema,
                strict=tool.strict,
            )
            for tool in asked.tools or ()
        ),
        choice=None if choice is None else Choice(mode=modes[choice.type], name=choice.name),
        parallel=False if choice is not None and choice.disable_parallel_tool_use else None,
        max_tokens=asked.max_tokens,
        temperature=asked.temperature,
        top_p=asked.top_p,
        top_k=asked.top_k,
        stop=tuple(asked.stop_sequences or ()),
        format=None if output.format is None else Format(schema=output.format.schema),
        effort=effort,
        thinking_budget=None if thinking is None else thinking.budget_tokens,
        stream=bool(asked.stream),
    )


def _parts(content: str | list[_Block], names: dict[str, str]) -> tuple[Part, ...]:
    if isinstance(content, str):
        return (Text(text=content),)
    parts: list[Part] = []
    for block in content:
        if isinstance(block, _TextBlock | _ImageBlock):
            parts.append(_content(block))
        elif isinstance(block, _ToolUse):
            names[block.id] = block.name
            parts.append(Call(id=block.id, name=block.name, arguments=as_json(block.input)))
        elif isinstance(block, _ToolResult):
            given = block.content or ()
            told = (Text(text=given),) if isinstance(given, str) else tuple(map(_content, given))
            parts.append(
                Result(
                    id=block.tool_use_id,
                    name=names.get(block.tool_use_id, ""),
                    content=told,
                    failed=bool(block.is_error),
                )
            )
    return tuple(parts)


def _content(block: _TextBlock | _ImageBlock) -> Text | Image:
    if isinstance(block, _TextBlock):
        return Text(text=block.text)
    source = block.source
    if isinstance(source, _Url):
        return Image(url=source.url)
    return Image(mime=source.media_type, content=source.data)


# ---------------------------------------------------------------- writing


def write(request: Request, model: bytes) -> bytes:
    """`model` as JSON text. Raises Untranslatable."""
    messages = merged(without_system(request.messages))
    said: dict[str, Any] = {
        "model": msgspec.Raw(model),
        "max_tokens": _max_tokens(request),
        "messages": [{"role": turn.role, "content": _blocks(turn)} for turn in messages],
    }
    if request.system:
        said["system"] = [{"type": "text", "text": text} for text in request.system if text]
    if request.tools:
        said["tools"] = [_tool(tool) for tool in request.tools]
    choice = _said_choice(request)
    if choice is not None:
        said["tool_choice"] = choice
    if request.temperature is not None:
        if not 0 <= request.temperature <= 1:
            raise Untranslatable(f"temperature {request.temperature} cannot be said here: at most 1")
        said["temperature"] = request.temperature
    for name in ("top_p", "top_k"):
        if getattr(request, name) is not None:
            said[name] = getattr(request, name)
    if request.stop:
        said["stop_sequences"] = list(request.stop)
    said |= _said_thinking(request, messages)
    if request.format is not None:
        if request.format.schema is None:
            raise Untranslatable("JSON without a schema cannot be said to this target: give a JSON Schema")
        output = said.setdefault("output_config", {})
        output["format"] = {"type": "json_schema", "schema": request.format.schema}
    if request.stream:
        said["stream"] = True
    return msgspec.json.encode(said)


def _max_tokens(request: Request) -> int:
    """Thinking counts towards it here, so what stands in for the client's word leaves room for that."""
    if request.max_tokens is not None:
        return request.max_tokens
    return DEFAULT_MAX_TOKENS + (request.thinking_budget or 0)


def _said_thinking(request: Request, messages: list[Message]) -> dict[str, Any]:
    if request.thinking_budget:
        turns = [turn for turn in messages if turn.role == "assistant"]
        if turns and any(isinstance(part, Call) for part in turns[-1].parts):
            raise Untranslatable(
                "a thinking budget after a tool call cannot be said to this target: it wants the thinking before "
                "the call back with its own signature"
            )
        return {"thinking": {"type": "enabled", "budget_tokens": request.thinking_budget}}
    if request.effort == "none":
        return {"thinking": {"type": "disabled"}}
    return {} if request.effort is None else {"output_config": {"effort": EFFORTS[request.effort]}}


def _said_choice(request: Request) -> dict[str, Any] | None:
    choice = request.choice
    if choice is None and (request.parallel is not False or not request.tools):
        return None
    said: dict[str, Any] = {"type": _CHOICES[choice.mode if choice is not None else "auto"]}
    if choice is not None and choice.mode == "tool":
        said["name"] = choice.name
    if request.parallel is False and said["type"] != "none":
        said["disable_parallel_tool_use"] = True
    return said


def _tool(tool: Tool) -> dict[str, Any]:
    said: dict[str, Any] = {"name": tool.name, "input_schema": {"type": "object", **(tool.schema or {})}}
    if tool.description:
        said["description"] = tool.description
    if tool.strict is not None:
        said["strict"] = tool.strict
    return said


def _blocks(turn: Message) -> list[dict[str, Any]]:
    parts = filled(turn)
    results = [part for part in parts if isinstance(part, Result)]
    if results and any(not isinstance(part, Result) for part in parts[: len(results)]):
        raise Untranslatable("tool results must come before anything else of a user's turn")
    return [_block(part) for part in parts]


def _block(part: Part) -> dict[str, Any]:
    match part:
        case Text(text=text):
            return {"type": "text", "text": text}
        case Image():
            return {"type": "image", "source": _source(part)}
        case Call():
            called = {"type": "tool_use", "id": _id(part.id), "name": part.name}
            return {**called, "input": raw(part.arguments)}
        case Result():
            told: dict[str, Any] = {"type": "tool_result", "tool_use_id": _id(part.id)}
            told["content"] = [_block(one) for one in part.content if one != Text(text="")]
            return {**told, "is_error": True} if part.failed else told
        case _:
            raise Untranslatable("thinking cannot be said to a target of another dialect")


def _source(image: Image) -> dict[str, Any]:
    if image.url is not None:
        return {"type": "url", "url": image.url}
    if image.mime not in _MIMES:
        raise Untranslatable(f"an image of type {image.mime!r} cannot be said to this target")
    return {"type": "base64", "media_type": image.mime, "data": image.content}


def _id(name: str) -> str:
    """Call ids are letters, digits, _ and - here; any other is told by its hash, always the same."""
    return name if _ID.fullmatch(name) else f"call_{hashlib.sha256(name.encode()).hexdigest()[:24]}"
