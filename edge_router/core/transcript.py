"""What the client already has of a stream, and how another target's events are made to follow on it.

A resumed stream is to look like one stream, so this reads what events mean, dialect by dialect:

    text       what an event adds to the answer. Only text can be compared, so only text can be resumed
    mark       an event that comes once in a stream (its beginning, a block's end, the finish reason): what the
               client has had is not said again
    inexact    something that no second answer can be trusted to repeat (a tool call, reasoning, a refusal,
               log probabilities, a second choice or content block). Once it is out, nothing can be resumed

    identity   `id` and `created`, of Responses also the item's id and the sequence numbers, stay those of the first
               target: clients put events together by them. `model`, `system_fingerprint` and `usage` are left as the
               target wrote them that sent the event: they say who has answered.

Field sources: OpenAI "Chat Completions: streaming" and "Responses: streaming events", Anthropic "Streaming Messages".
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

import msgspec

from edge_router.core.endpoints import Kind

KEPT_CHARACTERS: Final = 1024 * 1024
"""Of an answer's text. A longer one is no longer resumable, and what was kept is let go."""

Json = dict[str, Any]


class Part(NamedTuple):
    """One event, as far as resuming goes; all empty for pings and the like."""

    text: str = ""
    mark: str = ""
    inexact: str = ""


class Transcript:
    """One stream as its client has it."""

    __slots__ = ("_identity", "_kind", "_pieces", "_size", "inexact", "marks", "sequence")

    def __init__(self, kind: Kind) -> None:
        self._kind = kind
        self._pieces: list[str] = []
        self._size = 0
        self._identity: Json = {}
        self.marks: set[str] = set()
        self.inexact = ""
        """Why it cannot be resumed."""
        self.sequence = -1
        """Number of the last event, in the dialect that counts them."""

    @property
    def text(self) -> str:
        """The answer so far."""
        text = "".join(self._pieces)
        self._pieces = [text]
        return text

    @property
    def closed(self) -> bool:
        """Whether the client has been told that the text is whole."""
        return not _CLOSING.isdisjoint(self.marks)

    def note(self, event: Json, part: Part) -> None:
        """An event goes to the client."""
        if part.mark:
            self.marks.add(part.mark)
        if part.inexact and not self.inexact:
            self.give_up(f"{part.inexact} had begun")
        if part.text and not self.inexact:
            self._pieces.append(part.text)
            self._size += len(part.text)
            if self._size > KEPT_CHARACTERS:
                self.give_up(f"the answer is longer than {KEPT_CHARACTERS} characters")
        if self._kind is Kind.RESPONSES:
            number = event.get("sequence_number")
            if isinstance(number, int):
                self.sequence = number
        if (
            self._kind is Kind.RESPONSES or len(self._identity) < 2
        ):  # an empty chunk may come before the first
            self._identity |= identity_of(self._kind, event)

    def give_up(self, why: str) -> None:
        """It cannot be resumed from here on."""
        self.inexact = why
        self._pieces.clear()

    def adopt(self, event: Json, text: str | None, names: Json) -> Json | None:
        """Another target's event as one of this stream; None when nothing of it is left to say. `text`
        replaces its own where it has any; `names` is the identity of its own stream. Changes `event`."""
        if self._kind in (Kind.CHAT, Kind.COMPLETIONS):
            return self._adopt_chunk(event, text)
        if self._kind is Kind.MESSAGES:
            if text is not None:
                event["delta"]["text"] = text
            return event
        aliases = {names[what]: self._identity[what] for what in names if what in self._identity}
        adopted: Json = _renamed(event, aliases)
        if text is not None:
            adopted["delta"] = text
        adopted["sequence_number"] = self.sequence + 1
        return adopted

    def _adopt_chunk(self, event: Json, text: str | None) -> Json | None:
        for name, value in self._identity.items():
            if name in event:
                event[name] = value
        choices = event.get("choices")
        if not choices:
            return event
        choice = choices[0]
        if self._kind is Kind.COMPLETIONS:
            if text is not None:
                choice["text"] = text
            return event
        delta = _member(choice, "delta")
        role = delta.pop("role", None)
        if text is not None:
            delta["content"] = text
        says = any(delta.values()) or choice.get("finish_reason") is not None or event.get("usage")
        return None if role is not None and not says else event


def fields_of(raw: bytes) -> tuple[str, bytes]:
    """Name and data of one event, whose lines end with LF."""
    if raw.startswith(b"data: ") and raw.find(b"\n") == len(raw) - 2:
        return "", raw[6:-2]
    name, data = "", []
    for line in raw.split(b"\n"):
        field, _, value = line.partition(b":")
        if field == b"data":
            data.append(value.removeprefix(b" "))
        elif field == b"event":
            name = value.removeprefix(b" ").decode("utf-8", "replace")
    return name, b"\n".join(data)


def event_of(name: str, event: Json) -> bytes:
    """The bytes of an event."""
    line = b"event: %b\n" % name.encode() if name else b""
    return b"%bdata: %b\n\n" % (line, msgspec.json.encode(event))


def read(kind: Kind, event: Json, name: str) -> Part:
    """What an event means; it has been checked to be of the dialect."""
    return _READERS[kind](event, name)


def identity_of(kind: Kind, event: Json) -> Json:
    """By what a stream's events are known to belong together."""
    if kind is Kind.RESPONSES:
        found = {}
        for name in ("response", "item"):
            inner = event.get(name)
            if isinstance(inner, dict) and isinstance(inner.get("id"), str) and not event.get("output_index"):
                found[name] = inner["id"]
        return found
    if kind is Kind.MESSAGES:
        return {}
    return {name: event[name] for name in ("id", "created") if event.get(name)}


def only_usage(event: Json) -> bool:
    """Whether it is the extra event that `stream_options.include_usage` brings."""
    return event.get("choices") == [] and isinstance(event.get("usage"), dict)


def _member(event: Json, name: str) -> Json:
    """An object within an event; empty where something else stands there."""
    inner = event.get(name)
    return inner if isinstance(inner, dict) else {}


def _renamed(value: Any, aliases: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        return aliases.get(value, value)
    if isinstance(value, dict):
        return {name: _renamed(inner, aliases) for name, inner in value.items()}
    if isinstance(value, list):
        return [_renamed(inner, aliases) for inner in value]
    return value


# ---------------------------------------------------------------- OpenAI: chat and completions

_FINISH: Final = "finish"


def _read_chat(event: Json, _name: str) -> Part:
    choices = event.get("choices")
    if not choices:
        return Part()
    choice = choices[0]
    if len(choices) > 1 or choice.get("index"):
        return Part(inexact="a second choice")
    text = inexact = ""
    for name, value in _member(choice, "delta").items():
        if name == "content" and isinstance(value, str):
            text = value
        elif value and name != "role":
            inexact = _KNOWN_DELTAS.get(name, f"`{name[:32]}`")
    if choice.get("logprobs"):
        inexact = "log probabilities"
    return Part(text, _FINISH if choice.get("finish_reason") is not None else "", inexact)


def _read_completion(event: Json, _name: str) -> Part:
    choices = event.get("choices")
    if not choices:
        return Part()
    choice = choices[0]
    if len(choices) > 1 or choice.get("index"):
        return Part(inexact="a second choice")
    inexact = "log probabilities" if choice.get("logprobs") else ""
    return Part(choice.get("text") or "", _FINISH if choice.get("finish_reason") is not None else "", inexact)


_KNOWN_DELTAS: Final[Mapping[str, str]] = {
    "tool_calls": "a tool call",
    "function_call": "a tool call",
    "refusal": "a refusal",
    "reasoning_content": "reasoning",
    "reasoning": "reasoning",
    "audio": "audio",
}

# ---------------------------------------------------------------- Anthropic: messages


def _read_message_event(event: Json, name: str) -> Part:
    kind = event.get("type") or name
    if kind.startswith("content_block_"):
        if event.get("index"):
            return Part(inexact="a second content block")
        if kind == "content_block_start":
            block = _member(event, "content_block")
            if block.get("type") != "text":
                return Part(inexact=_KNOWN_BLOCKS.get(str(block.get("type")), "a block that is not text"))
            return Part(mark=kind, inexact="text before any delta" if block.get("text") else "")
        if kind == "content_block_delta":
            delta = _member(event, "delta")
            if delta.get("type") != "text_delta" or not isinstance(delta.get("text"), str):
                return Part(inexact="a delta that is not text")
            return Part(delta["text"])
    return Part() if kind == "ping" else Part(mark=kind)


_KNOWN_BLOCKS: Final[Mapping[str, str]] = {
    "tool_use": "a tool call",
    "server_tool_use": "a tool call",
    "thinking": "reasoning",
    "redacted_thinking": "reasoning",
}

# ---------------------------------------------------------------- OpenAI: responses


def _read_response_event(event: Json, name: str) -> Part:
    kind = event.get("type") or name
    if kind == "keepalive":
        return Part()
    if event.get("output_index"):
        return Part(inexact="a second output item")
    if event.get("content_index"):
        return Part(inexact="a second content part")
    if kind == "response.output_text.delta":
        if event.get("logprobs"):
            return Part(inexact="log probabilities")
        return Part(event["delta"]) if isinstance(event.get("delta"), str) else Part(inexact="an odd delta")
    if kind == "response.output_item.added":
        item = str(_member(event, "item").get("type"))
        if item != "message":
            return Part(inexact=_KNOWN_ITEMS.get(item, "an item that is not text"))
    if kind == "response.content_part.added" and _member(event, "part").get("type") != "output_text":
        return Part(inexact="a part that is not text")
    return Part(mark=kind) if kind in _RESPONSE_MARKS else Part(inexact=f"`{kind[:48]}`")


_KNOWN_ITEMS: Final[Mapping[str, str]] = {"function_call": "a tool call", "reasoning": "reasoning"}
_RESPONSE_MARKS: Final = frozenset(
    f"response.{what}"
    for what in (
        *("created", "in_progress", "queued", "completed", "incomplete", "failed"),
        *("output_item.added", "content_part.added", "output_text.done"),
        *("content_part.done", "output_item.done"),
    )
)
_CLOSING: Final = frozenset(
    {
        _FINISH,
        "content_block_stop",
        "message_delta",
        "response.output_text.done",
        "response.content_part.done",
    }
)

_READERS: Final[Mapping[Kind, Callable[[Json, str], Part]]] = {
    Kind.CHAT: _read_chat,
    Kind.COMPLETIONS: _read_completion,
    Kind.RESPONSES: _read_response_event,
    Kind.MESSAGES: _read_message_event,
}
