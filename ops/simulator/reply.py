"""What a dialect makes of a request: a whole body, or the events of a stream; before any fault touches it."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec

from ops.simulator import answers

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Event:
    """One server-sent event; `token` where it carries a token of the answer."""

    raw: bytes
    token: bool = False


@dataclass(frozen=True, slots=True)
class Reply:
    """`events` for a stream, else `body`. `tokens` were produced for it: they take time."""

    body: bytes = b""
    events: Iterator[Event] | None = None
    tokens: int = 0


class BadRequest(Exception):
    """The client's own fault, in the terms of OpenAI's error object."""

    def __init__(
        self, message: str, *, param: str | None = None, code: str | None = None, status: int = 400
    ) -> None:
        super().__init__(message)
        self.param = param
        self.code = code
        self.status = status


@dataclass(frozen=True, slots=True)
class ToolCall:
    """The call that the model wants made."""

    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Turn:
    """A conversation, reduced to what the model looks at."""

    prompt: str
    """The last user message."""
    prefill: str = ""
    """The last message where it is the assistant's: the answer goes on from there."""
    answered_tool: bool = False
    """The last message is a tool's result."""
    prompt_tokens: int = 0
    tools: tuple[str, ...] = field(default=())

    def answer(self, max_tokens: int | None) -> answers.Answer:
        """What the model says."""
        return answers.after_prefill(answers.answer(self.prompt, max_tokens), self.prefill)

    def tool_call(self, forced: str | None = None) -> ToolCall | None:
        """The tool the prompt asks for by name, or the one it is told to use."""
        if self.answered_tool:
            return None
        name = forced or next((tool for tool in self.tools if tool in self.prompt), None)
        if name is None:
            return None
        return ToolCall(name, msgspec.json.encode({"text": self.prompt}).decode())


def event(data: Any, *, name: str | None = None, token: bool = False) -> Event:
    """`data` as one server-sent event, named where the dialect names them."""
    prefix = f"event: {name}\n".encode() if name else b""
    return Event(b"%bdata: %b\n\n" % (prefix, msgspec.json.encode(data)), token=token)


def digest(*parts: str) -> str:
    """24 hex digits that follow from `parts`: ids are as deterministic as answers."""
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:24]


def text_of(content: Any) -> str:
    """The text of a message's content: a string, or a list of parts of which some are text."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        texts = (part.get("text") for part in content if isinstance(part, dict))
        return "".join(text for text in texts if isinstance(text, str))
    return ""


def token_limit(request: Json, *names: str) -> int | None:
    """The first of these fields that is given. Raises BadRequest."""
    for name in names:
        value = request.get(name)
        if value is not None:
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise BadRequest(f"{name} must be a whole number of at least 1", param=name)
            return value
    return None


def turn_of(messages: Any, *, tools: tuple[str, ...] = (), system: str = "") -> Turn:
    """A list of `{role, content}`, OpenAI's or Anthropic's. Raises BadRequest."""
    if not isinstance(messages, list) or not messages:
        raise BadRequest("messages must be a list of at least one message", param="messages")
    prompt = prefill = ""
    tokens = answers.count_tokens(system)
    answered = False
    for i, message in enumerate(messages):
        role = message.get("role") if isinstance(message, dict) else None
        if role not in ("system", "developer", "user", "assistant", "tool"):
            raise BadRequest(f"messages[{i}].role is not one that is known", param=f"messages[{i}].role")
        content = message.get("content")
        text = text_of(content)
        tokens += answers.count_tokens(text)
        prefill = text if role == "assistant" else ""
        answered = role == "tool" or (role == "user" and _is_tool_result(content))
        if role == "user" and not answered:
            prompt = text
    return Turn(prompt, prefill, answered, tokens, tools)


def _is_tool_result(content: Any) -> bool:
    return isinstance(content, list) and any(
        isinstance(part, dict) and part.get("type") == "tool_result" for part in content
    )
