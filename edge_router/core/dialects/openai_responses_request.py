"""What is asked of OpenAI's responses, as far as it is stateless: text, images, function tools, instructions, JSON.

Source: OpenAI API reference, "Create a model response". Only read: a client of another dialect asks an OpenAI target by
chat completions, which more servers speak.
"""

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
    Request,
    Result,
    Text,
    Tool,
    Untranslatable,
    described,
    image_of,
    joined,
    object_text,
    untranslatable,
)

NAMES: Final[Mapping[str, str]] = {
    "choice": "tool_choice",
    "parallel": "parallel_tool_calls",
    "temperature": "temperature",
    "top_p": "top_p",
    "format": "text.format",
    "effort": "reasoning.effort",
}
"""Neutral name to this dialect's."""

TOLERATED: Final[Mapping[str, str]] = {
    "model": "the route has chosen by it; the target's own name stands in its place",
    "user": "says who asks, for the provider's abuse reports",
    "safety_identifier": "says who asks, for the provider's abuse reports",
    "metadata": "kept by the provider with what it stores, and nothing is stored",
    "store": "translated calls are stateless: the answer says `store: false`, and its id cannot be referred to",
    "service_tier": "how soon and at what price, not what is answered",
    "prompt_cache_key": "what is cached changes price and time, not the answer",
    "prompt_cache_retention": "what is cached changes price and time, not the answer",
    "prompt_cache_options": "what is cached changes price and time, not the answer",
    "stream_options": "how events are padded against eavesdroppers",
    "include": "only reasoning.encrypted_content: a translated answer holds no reasoning item that it could be in",
    "truncation": "only when disabled, which is the default",
    "background": "only when false, which is the default",
    "previous_response_id": "only when null",
    "conversation": "only when null",
    "top_logprobs": "only when 0, which is the default",
}
"""Taken and left out, and why that changes nothing of the answer."""

ITEM_TOLERATED: Final[Mapping[str, str]] = {
    "id, status, phase": "of an earlier answer's items: where they stood, not what they say",
    "annotations, logprobs": "of an earlier answer's text",
    "reasoning": "items of an earlier turn: only the provider that wrote them can read them",
}
"""Of items, so that what a target answered can be sent back as it was."""


class _In(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    pass


class _InputText(_In, tag_field="type", tag="input_text"):
    text: str
    prompt_cache_breakpoint: Any = None


class _OutputText(_In, tag_field="type", tag="output_text"):
    text: str
    annotations: Any = None
    logprobs: Any = None


class _InputImage(_In, tag_field="type", tag="input_image"):
    image_url: str
    detail: Literal["auto"] = "auto"
    file_id: None = None
    prompt_cache_breakpoint: Any = None


_Content = str | list[_InputText | _OutputText | _InputImage]


class _MessageIn(_In, tag_field="type", tag="message"):
    role: Literal["user", "assistant", "system", "developer"]
    content: _Content
    id: Any = None
    status: Any = None
    phase: Any = None


class _CallIn(_In, tag_field="type", tag="function_call"):
    call_id: str
    name: str
    arguments: str
    id: Any = None
    status: Any = None


class _OutputIn(_In, tag_field="type", tag="function_call_output"):
    call_id: str
    output: _Content
    id: Any = None
    status: Any = None


class _ReasoningIn(_In, tag_field="type", tag="reasoning"):
    id: Any = None
    summary: Any = None
    content: Any = None
    encrypted_content: Any = None
    status: Any = None


class _ToolIn(_In):
    type: Literal["function"]
    name: str
    parameters: dict[str, Any] | None = None
    description: str | None = None
    strict: bool | None = None


class _ToolChoice(_In):
    type: Literal["function"]
    name: str


class _TextFormat(_In, tag_field="type", tag="text"):
    pass


class _ObjectFormat(_In, tag_field="type", tag="json_object"):
    pass


class _SchemaFormat(_In, tag_field="type", tag="json_schema"):
    name: str
    schema: dict[str, Any]
    description: str | None = None
    strict: bool | None = None


class _TextIn(_In):
    format: _TextFormat | _ObjectFormat | _SchemaFormat | None = None


class _Reasoning(_In):
    effort: Effort | None = None


class _Request(_In):
    model: str
    input: str | list[_MessageIn | _CallIn | _OutputIn | _ReasoningIn]
    instructions: str | None = None
    tools: list[_ToolIn] | None = None
    tool_choice: Literal["auto", "none", "required"] | _ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    max_output_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    text: _TextIn | None = None
    reasoning: _Reasoning | None = None
    stream: bool | None = None
    stream_options: Any = None
    store: Any = None
    user: Any = None
    safety_identifier: Any = None
    metadata: Any = None
    service_tier: Any = None
    prompt_cache_key: Any = None
    prompt_cache_retention: Any = None
    prompt_cache_options: Any = None
    include: list[Literal["reasoning.encrypted_content"]] | None = None
    truncation: Literal["disabled"] | None = None
    background: Literal[False] | None = None
    previous_response_id: None = None
    conversation: None = None
    top_logprobs: Literal[0] | None = None


def read(body: bytes) -> Request:
    """Raises Untranslatable."""
    try:
        told = msgspec.json.decode(body)
        items = told.get("input") if isinstance(told, dict) else None
        for item in items if isinstance(items, list) else ():
            if isinstance(item, dict):
                item.setdefault("type", "message")  # the one that may be left out
        asked = msgspec.convert(told, _Request)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise untranslatable(error) from None
    system, messages = _messages(asked)
    return Request(
        system=system,
        messages=messages,
        tools=tuple(
            Tool(
                name=tool.name, description=tool.description or "", schema=tool.parameters, strict=tool.strict
            )
            for tool in asked.tools or ()
        ),
        choice=_choice(asked.tool_choice),
        parallel=False if asked.parallel_tool_calls is False else None,  # true is the default
        max_tokens=asked.max_output_tokens,
        temperature=asked.temperature,
        top_p=asked.top_p,
        format=_format(asked.text),
        effort=None if asked.reasoning is None else asked.reasoning.effort,
        stream=bool(asked.stream),
    )


def _messages(asked: _Request) -> tuple[tuple[str, ...], tuple[Message, ...]]:
    system = [asked.instructions] if asked.instructions else []
    if isinstance(asked.input, str):
        return tuple(system), (Message(role="user", parts=(Text(text=asked.input),)),)
    messages: list[Message] = []
    names: dict[str, str] = {}
    for place, item in enumerate(asked.input):
        where = f"input[{place}]"
        if isinstance(item, _MessageIn):
            content = _contents(item.content)
            if item.role in ("user", "assistant"):
                messages.append(Message(role="user" if item.role == "user" else "assistant", parts=content))
            elif messages:
                text = joined(content, where)
                messages.append(Message(role="system", parts=(Text(text=text),)))
            else:
                system.append(joined(content, where))
        elif isinstance(item, _CallIn):
            names[item.call_id] = item.name
            try:
                text = object_text(item.arguments, f"{where}.arguments")
            except ValueError as error:
                raise Untranslatable(str(error)) from None
            call = Call(id=item.call_id, name=item.name, arguments=text)
            if messages and messages[-1].role == "assistant":
                call_turn = Message(role="assistant", parts=(*messages.pop().parts, call))
            else:
                call_turn = Message(role="assistant", parts=(call,))
            messages.append(call_turn)
        elif isinstance(item, _OutputIn):
            result = Result(id=item.call_id, name=names.get(item.call_id, ""), content=_contents(item.output))
            messages.append(Message(role="user", parts=(result,)))
    return tuple(system), tuple(messages)


def _contents(content: _Content) -> tuple[Text | Image, ...]:
    if isinstance(content, str):
        return (Text(text=content),) if content else ()
    return tuple(
        image_of(part.image_url) if isinstance(part, _InputImage) else Text(text=part.text)
        for part in content
    )


def _choice(given: str | _ToolChoice | None) -> Choice | None:
    if given is None:
        return None
    if isinstance(given, _ToolChoice):
        return Choice(mode="tool", name=given.name)
    return msgspec.convert({"mode": given}, Choice)


def _format(text: _TextIn | None) -> Format | None:
    given = text.format if text is not None else None
    if isinstance(given, _ObjectFormat):
        return Format()
    if isinstance(given, _SchemaFormat):
        return Format(schema=described(given.schema, given.description), name=given.name, strict=given.strict)
    return None
