"""What is asked of OpenAI's chat completions. Source: OpenAI API reference, "Create chat completion"."""

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
    described,
    image_of,
    joined,
    object_text,
    read_request,
    url_of,
)

NAMES: Final[Mapping[str, str]] = {
    "choice": "tool_choice",
    "parallel": "parallel_tool_calls",
    "temperature": "temperature",
    "top_p": "top_p",
    "seed": "seed",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
    "stop": "stop",
    "format": "response_format",
    "effort": "reasoning_effort",
}
"""Neutral name to this dialect's: what this dialect can say, and nothing else."""

TOLERATED: Final[Mapping[str, str]] = {
    "model": "the route has chosen by it; the target's own name stands in its place",
    "user": "says who asks, for the provider's abuse reports",
    "safety_identifier": "says who asks, for the provider's abuse reports",
    "metadata": "kept by the provider with what it stores, and nothing is stored",
    "store": "translated calls are stateless; the answer is the same",
    "service_tier": "how soon and at what price, not what is answered",
    "prompt_cache_key": "what is cached changes price and time, not the answer",
    "prompt_cache_retention": "what is cached changes price and time, not the answer",
    "prompt_cache_options": "what is cached changes price and time, not the answer",
    "logit_bias": "only when it is empty: no bias",
    "logprobs": "only when false, which is the default",
    "n": "only when 1, which is the default",
    "modalities": "only when it is text alone, which is the default",
}
"""Taken and left out, and why that changes nothing of the answer."""

MESSAGE_TOLERATED: Final[Mapping[str, str]] = {
    "refusal": "of an earlier answer, only when null",
    "annotations": "of an earlier answer: citations of a search that is not repeated",
    "reasoning_content": "of an earlier answer: without the signature of who thought it, nobody takes it back",
}
"""Of a message, so that what a target answered can be sent back as it was."""


class _In(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    pass


class _TextPart(_In, tag_field="type", tag="text"):
    text: str
    prompt_cache_breakpoint: Any = None


class _Url(_In):
    url: str
    detail: Literal["auto"] = "auto"


class _ImagePart(_In, tag_field="type", tag="image_url"):
    image_url: _Url
    prompt_cache_breakpoint: Any = None


class _RefusalPart(_In, tag_field="type", tag="refusal"):
    refusal: str


_Content = str | list[_TextPart | _ImagePart | _RefusalPart] | None


class _Called(_In):
    name: str
    arguments: str = ""


class _ToolCall(_In):
    id: str
    function: _Called
    type: Literal["function"] = "function"
    index: int | None = None


class _System(_In, tag_field="role", tag="system"):
    content: _Content
    name: None = None


class _Developer(_In, tag_field="role", tag="developer"):
    content: _Content
    name: None = None


class _User(_In, tag_field="role", tag="user"):
    content: _Content
    name: None = None


class _Assistant(_In, tag_field="role", tag="assistant"):
    content: _Content = None
    name: None = None
    tool_calls: list[_ToolCall] | None = None
    function_call: None = None
    audio: None = None
    refusal: str | None = None
    annotations: Any = None
    reasoning_content: Any = None


class _ToolMessage(_In, tag_field="role", tag="tool"):
    tool_call_id: str
    content: _Content


class _Function(_In):
    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class _ToolIn(_In):
    type: Literal["function"]
    function: _Function


class _Named(_In):
    name: str


class _ToolChoice(_In):
    type: Literal["function"]
    function: _Named


class _TextFormat(_In, tag_field="type", tag="text"):
    pass


class _ObjectFormat(_In, tag_field="type", tag="json_object"):
    pass


class _Schema(_In):
    name: str
    description: str | None = None
    schema: dict[str, Any] | None = None
    strict: bool | None = None


class _SchemaFormat(_In, tag_field="type", tag="json_schema"):
    json_schema: _Schema


class _StreamOptions(_In):
    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class _Request(_In):
    model: str
    messages: list[_System | _Developer | _User | _Assistant | _ToolMessage]
    tools: list[_ToolIn] | None = None
    tool_choice: Literal["auto", "none", "required"] | _ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    stop: str | list[str] | None = None
    response_format: _TextFormat | _ObjectFormat | _SchemaFormat | None = None
    reasoning_effort: Effort | None = None
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    user: Any = None
    safety_identifier: Any = None
    metadata: Any = None
    store: Any = None
    service_tier: Any = None
    prompt_cache_key: Any = None
    prompt_cache_retention: Any = None
    prompt_cache_options: Any = None
    logit_bias: dict[str, float] | None = None
    logprobs: bool | None = None
    n: int | None = None
    modalities: list[Literal["text"]] | None = None


_REQUEST: Final = msgspec.json.Decoder(_Request)


def read(body: bytes) -> Request:
    """Raises Untranslatable."""
    asked = read_request(body, _REQUEST)
    if asked.n not in (None, 1):
        raise Untranslatable(f"n = {asked.n}: a target of another dialect gives one answer")
    for name, value in (("logprobs", asked.logprobs), ("logit_bias", asked.logit_bias)):
        if value:
            raise Untranslatable(f"{name} cannot be said to a target of another dialect")
    system, messages = _messages(asked)
    limit = asked.max_completion_tokens
    stop = asked.stop
    options = asked.stream_options
    return Request(
        system=system,
        messages=messages,
        tools=tuple(
            Tool(
                name=tool.function.name,
                description=tool.function.description or "",
                schema=tool.function.parameters,
                strict=tool.function.strict,
            )
            for tool in asked.tools or ()
        ),
        choice=_choice(asked.tool_choice),
        parallel=False if asked.parallel_tool_calls is False else None,  # true is the default
        max_tokens=asked.max_tokens if limit is None else limit,
        temperature=asked.temperature,
        top_p=asked.top_p,
        seed=asked.seed,
        presence_penalty=asked.presence_penalty or None,  # 0 is none
        frequency_penalty=asked.frequency_penalty or None,
        stop=() if stop is None else (stop,) if isinstance(stop, str) else tuple(stop),
        format=_format(asked.response_format),
        effort=asked.reasoning_effort,
        stream=bool(asked.stream),
        stream_usage=bool(options is not None and options.include_usage),
    )


def _messages(asked: _Request) -> tuple[tuple[str, ...], tuple[Message, ...]]:
    system: list[str] = []
    messages: list[Message] = []
    names: dict[str, str] = {}
    for place, message in enumerate(asked.messages):
        where = f"messages[{place}]"
        if isinstance(message, _System | _Developer):
            text = joined(_contents(message.content, where), where)
            if not messages:
                system.append(text)
            else:
                messages.append(Message(role="system", parts=(Text(text=text),)))
        elif isinstance(message, _User):
            messages.append(Message(role="user", parts=_contents(message.content, where)))
        elif isinstance(message, _ToolMessage):
            result = Result(
                id=message.tool_call_id,
                name=names.get(message.tool_call_id, ""),
                content=_contents(message.content, where),
            )
            messages.append(Message(role="user", parts=(result,)))
        else:
            calls = _calls(message, where)
            names.update((call.id, call.name) for call in calls)
            if message.refusal:
                raise Untranslatable(f"{where}.refusal cannot be said to a target of another dialect")
            messages.append(Message(role="assistant", parts=(*_contents(message.content, where), *calls)))
    return tuple(system), tuple(messages)


def _contents(content: _Content, where: str) -> tuple[Text | Image, ...]:
    if content is None or content == "":
        return ()
    if isinstance(content, str):
        return (Text(text=content),)
    parts: list[Text | Image] = []
    for number, part in enumerate(content):
        if isinstance(part, _TextPart):
            parts.append(Text(text=part.text))
        elif isinstance(part, _ImagePart):
            parts.append(image_of(part.image_url.url))
        else:
            raise Untranslatable(f"{where}.content[{number}]: a refusal cannot be said to another dialect")
    return tuple(parts)


def _calls(message: _Assistant, where: str) -> list[Call]:
    calls = []
    for number, call in enumerate(message.tool_calls or ()):
        try:
            text = object_text(call.function.arguments, f"{where}.tool_calls[{number}].function.arguments")
        except ValueError as error:
            raise Untranslatable(str(error)) from None
        calls.append(Call(id=call.id, name=call.function.name, arguments=text))
    return calls


def _choice(given: str | _ToolChoice | None) -> Choice | None:
    if given is None:
        return None
    if isinstance(given, _ToolChoice):
        return Choice(mode="tool", name=given.function.name)
    return msgspec.convert({"mode": given}, Choice)


def _format(given: _TextFormat | _ObjectFormat | _SchemaFormat | None) -> Format | None:
    if isinstance(given, _ObjectFormat):
        return Format()
    if isinstance(given, _SchemaFormat):
        said = given.json_schema
        return Format(
            schema=described(said.schema or {}, said.description), name=said.name, strict=said.strict
        )
    return None


# ---------------------------------------------------------------- writing


def write(request: Request, model: bytes) -> bytes:
    """`model` as JSON text. Raises Untranslatable."""
    said: dict[str, Any] = {"model": msgspec.Raw(model), "messages": _said(request)}
    if request.tools:
        said["tools"] = [_tool(tool) for tool in request.tools]
    if request.choice is not None:
        choice = request.choice
        said["tool_choice"] = (
            {"type": "function", "function": {"name": choice.name}} if choice.mode == "tool" else choice.mode
        )
    if request.max_tokens is not None:
        said["max_completion_tokens"] = request.max_tokens
    plain = ("temperature", "top_p", "seed", "presence_penalty", "frequency_penalty", "effort", "parallel")
    for name in plain:
        value = getattr(request, name)
        if value is not None:
            said[NAMES[name]] = value
    if request.stop:
        said["stop"] = list(request.stop)
    if request.format is not None:
        said["response_format"] = _said_format(request.format)
    if request.stream:
        # Without it a stream says nothing of its usage.
        said["stream"] = True
        said["stream_options"] = {"include_usage": True}
    return msgspec.json.encode(said)


def _tool(tool: Tool) -> dict[str, Any]:
    function: dict[str, Any] = {"name": tool.name}
    if tool.description:
        function["description"] = tool.description
    if tool.schema is not None:
        function["parameters"] = tool.schema
    if tool.strict is not None:
        function["strict"] = tool.strict
    return {"type": "function", "function": function}


def _said_format(given: Format) -> dict[str, Any]:
    if given.schema is None:
        return {"type": "json_object"}
    schema: dict[str, Any] = {"name": given.name or "answer", "schema": given.schema}
    if given.strict is not None:
        schema["strict"] = given.strict
    return {"type": "json_schema", "json_schema": schema}


def _said(request: Request) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = [{"role": "system", "content": text} for text in request.system]
    for place, message in enumerate(request.messages):
        if message.role == "assistant":
            messages.append(_said_assistant(message.parts))
            continue
        rest: list[Part] = []
        for part in message.parts:
            if not isinstance(part, Result):
                rest.append(part)
                continue
            if rest:
                raise Untranslatable(f"messages[{place}]: tool results must come before anything else")
            # The dialect has no field for a failed call: words are all there is.
            words = ("Error: " if part.failed else "") + joined(part.content, "a tool's result")
            messages.append({"role": "tool", "tool_call_id": part.id, "content": words})
        if rest or not message.parts:
            messages.append({"role": message.role, "content": _said_content(rest)})
    return messages


def _said_assistant(parts: tuple[Part, ...]) -> dict[str, Any]:
    text = "".join(part.text for part in parts if isinstance(part, Text))
    calls = [
        {"id": part.id, "type": "function", "function": {"name": part.name, "arguments": part.arguments}}
        for part in parts
        if isinstance(part, Call)
    ]
    if any(not isinstance(part, Text | Call) for part in parts):
        raise Untranslatable("an image in an assistant's turn cannot be said to this target")
    said: dict[str, Any] = {"role": "assistant", "content": text if text or not calls else None}
    if calls:
        said["tool_calls"] = calls
    return said


def _said_content(parts: list[Part]) -> str | list[dict[str, Any]]:
    if all(isinstance(part, Text) for part in parts):
        if len(parts) == 1 and isinstance(parts[0], Text):
            return parts[0].text
        return [{"type": "text", "text": part.text} for part in parts if isinstance(part, Text)] or ""
    said: list[dict[str, Any]] = []
    for part in parts:
        if isinstance(part, Text):
            said.append({"type": "text", "text": part.text})
        elif isinstance(part, Image):
            said.append({"type": "image_url", "image_url": {"url": url_of(part)}})
        else:
            raise Untranslatable("a tool call in a user's turn cannot be said to this target")
    return said
