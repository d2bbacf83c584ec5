"""What OpenAI's chat completions answer, whole and as a stream.

Sources: OpenAI API reference, "The chat completion object" and "The chat completion chunk object".

    thinking     OpenAI never shows it here, it counts it (`reasoning_tokens`), and so does a translated answer. Servers
                 that show it do so in `reasoning_content`, which is read for clients whose dialect has a place for it;
                 it is not written, for a client that sends it back with the next turn has its call refused by OpenAI
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from edge_router.core.dialects.failures import Envelope, failure_of, write_event
from edge_router.core.dialects.neutral import (
    Answer,
    Arguments,
    Begun,
    Call,
    Calls,
    Counted,
    Delta,
    Failure,
    Garbled,
    Part,
    Request,
    Said,
    Stop,
    Stopped,
    Text,
    Thinking,
    Thought,
    Usage,
    object_text,
)

READ_STOPS: Final[Mapping[str, Stop]] = {
    "stop": Stop.END,
    "length": Stop.LENGTH,
    "tool_calls": Stop.CALLS,
    "function_call": Stop.CALLS,
    "content_filter": Stop.FILTERED,
}
WRITE_STOPS: Final[Mapping[Stop, str]] = {
    Stop.END: "stop",
    Stop.SEQUENCE: "stop",
    Stop.LENGTH: "length",
    Stop.CALLS: "tool_calls",
    Stop.FILTERED: "content_filter",
}


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: str | None = None


class _ToolCall(msgspec.Struct):
    id: str | None = None
    function: _Function | None = None
    index: int = 0


class _Said(msgspec.Struct):
    """A whole message, or a stream's delta."""

    content: str | None = None
    reasoning_content: str | None = None
    refusal: str | None = None
    tool_calls: list[_ToolCall] | None = None


class _Choice(msgspec.Struct):
    index: int = 0
    finish_reason: str | None = None
    message: _Said | None = None
    delta: _Said | None = None


class _Cached(msgspec.Struct):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None


class _Reasoned(msgspec.Struct):
    reasoning_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _Cached | None = None
    completion_tokens_details: _Reasoned | None = None


class _Document(msgspec.Struct):
    """A completion or a chunk of one."""

    id: str | None = None
    model: str | None = None
    choices: list[_Choice] = []
    usage: _Usage | None = None
    error: Any = None


_DOCUMENT: Final = msgspec.json.Decoder(_Document)


def read_usage(told: _Usage | None) -> Usage:
    """Tokens; what is not said is 0."""
    if told is None:
        return Usage()
    cached = told.prompt_tokens_details or _Cached()
    reasoned = told.completion_tokens_details or _Reasoned()
    return Usage(
        read=told.prompt_tokens or 0,
        written=told.completion_tokens or 0,
        cache_read=cached.cached_tokens or 0,
        cache_written=cached.cache_write_tokens or 0,
        thought=reasoned.reasoning_tokens or 0,
    )


def write_usage(usage: Usage) -> dict[str, Any]:
    """The `usage` object."""
    return {
        "prompt_tokens": usage.read,
        "completion_tokens": usage.written,
        "total_tokens": usage.read + usage.written,
        "prompt_tokens_details": {
            "cached_tokens": usage.cache_read,
            "cache_write_tokens": usage.cache_written,
        },
        "completion_tokens_details": {"reasoning_tokens": usage.thought},
    }


def read(content: bytes) -> Answer:
    """Raises Garbled, or msgspec.DecodeError."""
    told = _DOCUMENT.decode(content)
    if len(told.choices) != 1 or told.choices[0].message is None:
        raise Garbled(f"{len(told.choices)} choices where one was asked for")
    choice = told.choices[0]
    message = choice.message
    assert message is not None
    parts: list[Part] = []
    if message.reasoning_content:
        parts.append(Thinking(text=message.reasoning_content))
    if message.content:
        parts.append(Text(text=message.content))
    if message.refusal:
        parts.append(Text(text=message.refusal))
    for call in message.tool_calls or ():
        function = call.function
        if function is None or not function.name or not call.id:
            raise Garbled("a tool call that is no function's")
        parts.append(
            Call(id=call.id, name=function.name, arguments=_object(function.arguments or "", function.name))
        )
    stop = _stop(choice.finish_reason, called=bool(message.tool_calls))
    if message.refusal and stop is Stop.END:
        stop = Stop.FILTERED
    return Answer(
        id=told.id or "", model=told.model or "", parts=tuple(parts), stop=stop, usage=read_usage(told.usage)
    )


def _object(arguments: str, name: str) -> str:
    try:
        return object_text(arguments, f"what the model would call {name} with")
    except ValueError as error:
        raise Garbled(str(error)) from None


def _stop(reason: str | None, *, called: bool) -> Stop:
    stop = READ_STOPS.get(reason or "stop")
    if stop is None:
        raise Garbled(f"the finish reason {str(reason)[:64]!r} has no translation")
    # Where the client has said which tool to call, OpenAI says `stop` of a call.
    return Stop.CALLS if called and stop is Stop.END else stop


def write(answer: Answer, request: Request, created: int) -> bytes:
    """`created` is Unix time, in seconds."""
    calls = [
        {"id": part.id, "type": "function", "function": {"name": part.name, "arguments": part.arguments}}
        for part in answer.parts
        if isinstance(part, Call)
    ]
    text = "".join(part.text for part in answer.parts if isinstance(part, Text))
    message: dict[str, Any] = {"role": "assistant", "content": text or None if calls else text}
    message["refusal"] = None
    if calls:
        message["tool_calls"] = calls
    return msgspec.json.encode(
        {
            "id": answer.id,
            "object": "chat.completion",
            "created": created,
            "model": answer.model,
            "choices": [
                {
                    "index": 0,
                    "message": message,
                    "logprobs": None,
                    "finish_reason": WRITE_STOPS[answer.stop],
                }
            ],
            "usage": write_usage(answer.usage),
        }
    )


class Reader:
    """A stream of chunks, event by event."""

    def __init__(self) -> None:
        self._begun = False
        self._known: set[int] = set()
        self._refused = False

    def read(self, _name: str, data: bytes) -> Iterator[Delta]:
        """What one event says. Raises Garbled."""
        if data == b"[DONE]":
            return
        chunk = _DOCUMENT.decode(data)
        if chunk.error is not None:
            yield failure_of(chunk.error) or Failure("", "the target ended its answer with an error")
            return
        if not self._begun:
            self._begun = True
            yield Begun(chunk.id or "", chunk.model or "")
        for choice in chunk.choices:
            if choice.index:
                raise Garbled("a second choice where one was asked for")
            if choice.delta is not None:
                yield from self._said(choice.delta)
            if choice.finish_reason:
                stop = _stop(choice.finish_reason, called=bool(self._known))
                yield Stopped(Stop.FILTERED if self._refused and stop is Stop.END else stop)
        if chunk.usage is not None:
            yield Counted(read_usage(chunk.usage))

    def _said(self, delta: _Said) -> Iterator[Delta]:
        if delta.reasoning_content:
            yield Thought(delta.reasoning_content)
        if delta.content:
            yield Said(delta.content)
        if delta.refusal:
            self._refused = True
            yield Said(delta.refusal)
        for call in delta.tool_calls or ():
            function = call.function or _Function()
            if call.index not in self._known:
                if not call.id or not function.name:
                    raise Garbled("a tool call that begins without its id and name")
                self._known.add(call.index)
                yield Calls(call.index, call.id, function.name)
            if function.arguments:
                yield Arguments(call.index, function.arguments)


class Writer:
    """A stream of chunks, step by step."""

    def __init__(self, request: Request, created: int) -> None:
        self._created = created
        self._tells_usage = request.stream_usage
        self._usage = Usage()
        self._begun = Begun("", "")
        self._places: dict[int, int] = {}

    def write(self, delta: Delta) -> bytes:
        """The events that say it."""
        match delta:
            case Begun():
                self._begun = delta
                return self._chunk({"role": "assistant", "content": ""})
            case Said(text):
                return self._chunk({"content": text})
            case Thought():
                return b""
            case Calls(key, name_id, name):
                place = self._places[key] = len(self._places)
                function = {"name": name, "arguments": ""}
                call = {"index": place, "id": name_id, "type": "function", "function": function}
                return self._chunk({"tool_calls": [call]})
            case Arguments(key, text):
                more = {"index": self._places[key], "function": {"arguments": text}}
                return self._chunk({"tool_calls": [more]})
            case Stopped(stop):
                return self._chunk({}, WRITE_STOPS[stop])
            case Counted(usage):
                self._usage = usage
                return b""
            case Failure():
                return write_event(Envelope.OPENAI, delta)

    def end(self) -> bytes:
        """What stands after the last step."""
        told = b""
        if self._tells_usage:
            told = self._event({"choices": [], "usage": write_usage(self._usage)})
        return told + b"data: [DONE]\n\n"

    def _chunk(self, delta: dict[str, Any], finish: str | None = None) -> bytes:
        return self._event({"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})

    def _event(self, more: dict[str, Any]) -> bytes:
        chunk = {
            "id": self._begun.id,
            "object": "chat.completion.chunk",
            "created": self._created,
            "model": self._begun.model,
            **more,
        }
        return b"data: %b\n\n" % msgspec.json.encode(chunk)
