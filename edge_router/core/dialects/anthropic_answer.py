"""What Anthropic's messages answer, whole and as a stream.

Sources: Anthropic API reference, "Create a Message", "Streaming Messages" and "Handling stop reasons".

    thinking     its text is read, its signature is not: only the provider that made it can check it. None is written:
                 a block without a good signature is refused when it comes back with the next turn. A stream says
                 `ping` in its place. `redacted_thinking` is unreadable by design
    usage        `input_tokens` counts what did not come from a cache; the neutral form and the others count all
    ping, and    passed over, as the documentation asks clients to do with events and members they do not know
    new events
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
    as_json,
    raw,
)

READ_STOPS: Final[Mapping[str, Stop]] = {
    "end_turn": Stop.END,
    "stop_sequence": Stop.SEQUENCE,
    "max_tokens": Stop.LENGTH,
    "model_context_window_exceeded": Stop.LENGTH,
    "tool_use": Stop.CALLS,
    "refusal": Stop.FILTERED,
}
"""`pause_turn` is of server tools, which a translated request cannot have asked for."""
WRITE_STOPS: Final[Mapping[Stop, str]] = {
    Stop.END: "end_turn",
    Stop.SEQUENCE: "stop_sequence",
    Stop.LENGTH: "max_tokens",
    Stop.CALLS: "tool_use",
    Stop.FILTERED: "refusal",
}


class _Block(msgspec.Struct):
    type: str
    text: str = ""
    thinking: str = ""
    id: str = ""
    name: str = ""
    input: Any = None


class _Thoughts(msgspec.Struct):
    thinking_tokens: int | None = None


class _Usage(msgspec.Struct):
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    output_tokens_details: _Thoughts | None = None


class _Message(msgspec.Struct):
    id: str = ""
    model: str = ""
    content: list[_Block] = []
    stop_reason: str | None = None
    usage: _Usage | None = None


class _Delta(msgspec.Struct):
    type: str = ""
    text: str = ""
    thinking: str = ""
    partial_json: str = ""
    stop_reason: str | None = None


class _Event(msgspec.Struct):
    type: str = ""
    index: int = 0
    message: _Message | None = None
    content_block: _Block | None = None
    delta: _Delta | None = None
    usage: _Usage | None = None
    error: Any = None


_MESSAGE: Final = msgspec.json.Decoder(_Message)
_EVENT: Final = msgspec.json.Decoder(_Event)
_UNREADABLE: Final = frozenset({"redacted_thinking"})
_SILENT_DELTAS: Final = frozenset({"signature_delta"})


def read_usage(told: _Usage | None) -> Usage:
    """Tokens; what is not said is 0."""
    if told is None:
        return Usage()
    read, written = told.cache_read_input_tokens or 0, told.cache_creation_input_tokens or 0
    thoughts = told.output_tokens_details or _Thoughts()
    return Usage(
        read=(told.input_tokens or 0) + read + written,
        written=told.output_tokens or 0,
        cache_read=read,
        cache_written=written,
        thought=thoughts.thinking_tokens or 0,
    )


def write_usage(usage: Usage) -> dict[str, Any]:
    """The `usage` object."""
    said: dict[str, Any] = {
        "input_tokens": max(0, usage.read - usage.cache_read - usage.cache_written),
        "cache_creation_input_tokens": usage.cache_written,
        "cache_read_input_tokens": usage.cache_read,
        "output_tokens": usage.written,
    }
    if usage.thought:
        said["output_tokens_details"] = {"thinking_tokens": usage.thought}
    return said


def read(content: bytes) -> Answer:
    """Raises Garbled, or msgspec.DecodeError."""
    message = _MESSAGE.decode(content)
    return Answer(
        id=message.id,
        model=message.model,
        parts=tuple(part for block in message.content for part in _parts(block)),
        stop=_stop(message.stop_reason),
        usage=read_usage(message.usage),
    )


def _parts(block: _Block) -> Iterator[Part]:
    if block.type == "text":
        yield Text(text=block.text)
    elif block.type == "thinking":
        yield Thinking(text=block.thinking)
    elif block.type == "tool_use":
        if not isinstance(block.input, dict) or not block.id or not block.name:
            raise Garbled("a tool use without its id, its name, or an object for its input")
        yield Call(id=block.id, name=block.name, arguments=as_json(block.input))
    elif block.type not in _UNREADABLE:
        raise Garbled(f"a content block {block.type[:64]!r} has no translation")


def _stop(reason: str | None) -> Stop:
    stop = READ_STOPS.get(reason or "")
    if stop is None:
        raise Garbled(f"the stop reason {str(reason)[:64]!r} has no translation")
    return stop


def write(answer: Answer, request: Request, created: int) -> bytes:
    """The message."""
    content: list[dict[str, Any]] = []
    for part in answer.parts:
        match part:
            case Text(text=text):
                content.append({"type": "text", "text": text})
            case Thinking():
                pass
            case Call():
                called = {"type": "tool_use", "id": part.id, "name": part.name}
                content.append({**called, "input": raw(part.arguments)})
            case _:
                raise Garbled("an image in an answer has no translation")
    return msgspec.json.encode(
        {
            "id": answer.id,
            "type": "message",
            "role": "assistant",
            "model": answer.model,
            "content": content,
            "stop_reason": WRITE_STOPS[answer.stop],
            "stop_sequence": None,
            "usage": write_usage(answer.usage),
        }
    )


class Reader:
    """A stream of events, one by one."""

    def __init__(self) -> None:
        self._usage = _Usage()
        self._calls: dict[int, str] = {}
        """By block: the arguments to be said at its end, unless they come before."""

    def read(self, name: str, data: bytes) -> Iterator[Delta]:
        """What one event says. Raises Garbled."""
        event = _EVENT.decode(data)
        match event.type or name:
            case "message_start":
                message = event.message or _Message()
                yield Begun(message.id, message.model)
                yield self._count(message.usage)
            case "content_block_start" if event.content_block is not None:
                yield from self._block(event.index, event.content_block)
            case "content_block_delta" if event.delta is not None:
                yield from self._delta(event.index, event.delta)
            case "content_block_stop":
                if self._calls.get(event.index):
                    yield Arguments(event.index, self._calls[event.index])
                    self._calls[event.index] = ""
            case "message_delta":
                yield self._count(event.usage)
                if event.delta is not None and event.delta.stop_reason:
                    yield Stopped(_stop(event.delta.stop_reason))
            case "content_block_start" | "content_block_delta":
                raise Garbled("an event of a content block that says nothing of it")
            case "error":
                yield failure_of(event.error) or Failure("", "the target ended its answer with an error")

    def _block(self, index: int, block: _Block) -> Iterator[Delta]:
        for part in _parts(block) if block.type != "tool_use" else ():
            if isinstance(part, Text) and part.text:
                yield Said(part.text)
            elif isinstance(part, Thinking) and part.text:
                yield Thought(part.text)
        if block.type == "tool_use":
            if not block.id or not block.name:
                raise Garbled("a tool use without its id or name")
            self._calls[index] = as_json(block.input) if block.input else "{}"
            yield Calls(index, block.id, block.name)

    def _delta(self, index: int, delta: _Delta) -> Iterator[Delta]:
        match delta.type:
            case "text_delta":
                yield Said(delta.text)
            case "thinking_delta":
                yield Thought(delta.thinking)
            case "input_json_delta":
                if index not in self._calls:
                    raise Garbled("arguments of a call that has not begun")
                if delta.partial_json:
                    self._calls[index] = ""
                    yield Arguments(index, delta.partial_json)
            case other if other not in _SILENT_DELTAS:
                raise Garbled(f"a delta {other[:64]!r} has no translation")

    def _count(self, told: _Usage | None) -> Counted:
        """Counts are cumulative, and an event need not repeat those that have not changed."""
        for field in _Usage.__struct_fields__ if told is not None else ():
            value = getattr(told, field)
            if value is not None:
                setattr(self._usage, field, value)
        return Counted(read_usage(self._usage))


class Writer:
    """A stream of events: blocks one after the other, none of them empty."""

    def __init__(self, request: Request, created: int) -> None:
        self._usage = Usage()
        self._stop: Stop | None = None
        self._index = -1
        self._open: str | int | None = None
        """The block under way: a kind, or the key of a call."""

    def write(self, delta: Delta) -> bytes:
        """The events that say it. Raises Garbled."""
        match delta:
            case Begun(name, model):
                message: dict[str, Any] = {"id": name, "type": "message", "role": "assistant"}
                message |= {"model": model, "content": [], "stop_reason": None, "stop_sequence": None}
                message["usage"] = write_usage(self._usage)
                return _event("message_start", {"message": message})
            case Said(text):
                return self._block("text", {"type": "text", "text": ""}) + self._delta(
                    {"type": "text_delta", "text": text}
                )
            case Thought():
                return _event("ping", {})
            case Calls(key, name_id, name):
                return self._block(key, {"type": "tool_use", "id": name_id, "name": name, "input": {}})
            case Arguments(key, text):
                if self._open != key:
                    raise Garbled("arguments of two calls by turns")
                return self._delta({"type": "input_json_delta", "partial_json": text})
            case Stopped(stop):
                self._stop = stop
                return b""
            case Counted(usage):
                self._usage = usage
                return b""
            case Failure():
                return write_event(Envelope.ANTHROPIC, delta)

    def end(self) -> bytes:
        """What stands after the last step: usage comes after the stop reason in other dialects, so both wait."""
        delta = {"stop_reason": WRITE_STOPS[self._stop or Stop.END], "stop_sequence": None}
        return (
            self._close()
            + _event("message_delta", {"delta": delta, "usage": write_usage(self._usage)})
            + _event("message_stop", {})
        )

    def _block(self, kind: str | int, block: dict[str, Any]) -> bytes:
        if self._open == kind:
            return b""
        closing = self._close()
        self._index += 1
        self._open = kind
        return closing + _event("content_block_start", {"index": self._index, "content_block": block})

    def _delta(self, delta: dict[str, Any]) -> bytes:
        return _event("content_block_delta", {"index": self._index, "delta": delta})

    def _close(self) -> bytes:
        if self._open is None:
            return b""
        self._open = None
        return _event("content_block_stop", {"index": self._index})


def _event(name: str, more: dict[str, Any]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name.encode(), msgspec.json.encode({"type": name, **more}))
