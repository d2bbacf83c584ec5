"""A model call, read for the ladder: may it be degraded, what is it the same as, what does its last message say.

Two calls are the same when their JSON is, whatever its order, white space and escapes, and when the fields of the
head that change answers are. Left out are only the members of `DELIVERY`. Numbers are told apart as Python's json does:
1 and 1.0 are two calls. An object that has a key twice may be read in two ways, so it is the same as nothing.

Never degraded are calls that a text cannot answer, or a machine reads: tools, response formats, embeddings, several
answers, other media, log probabilities, and what is bound to one provider's state. Names are those of the API
references: OpenAI "Create chat completion", "Create completion", "Create a model response"; Anthropic "Create a
Message"; Gemini "GenerateContentRequest" and "GenerationConfig".
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from edge_router.core.endpoints import Kind

GEMINI: Final = "gemini"
"""The value of its Kind: the tables of this package are keyed by values."""
MAX_CALL_BYTES: Final = 256 * 1024
"""Reading a larger one would hold up the loop for over 2 ms: it is not degraded."""
MAX_TEXT_CHARS: Final = 4096
"""Of the last message, from its beginning: what rules are held against."""

DELIVERY: Final[Mapping[str, str]] = {
    "model": "the key has the route instead: all names of a route mean one thing",
    "stream": "how the answer is delivered, not what it says",
    "stream_options": "likewise; whether usage was asked for is seen to when the answer is given",
    "user": "names an end user, for the provider's abuse monitoring",
    "safety_identifier": "its successor",
    "metadata": "labels of the request",
    "prompt_cache_key": "where the provider caches the prompt",
    "prompt_cache_retention": "and for how long",
    "service_tier": "at which price and pace it is served",
}
"""Top-level members that two calls may differ in and still be the same, each with its reason."""

VARYING: Final = (b"anthropic-version:", b"anthropic-beta:", b"openai-beta:", b"query:")
"""Lines that change what is answered: fields of the head, and the query as one."""

_OPENAI_NEVER: Final = frozenset({"tools", "functions", "response_format", "modalities", "audio", "logprobs"})
_NEVER: Final[Mapping[str, frozenset[str]]] = {
    Kind.CHAT: _OPENAI_NEVER | {"web_search_options", "n"},
    Kind.COMPLETIONS: frozenset({"logprobs", "n", "best_of"}),
    Kind.RESPONSES: frozenset(
        {"tools", "text", "prompt", "previous_response_id", "conversation", "background"}
    ),
    Kind.MESSAGES: frozenset({"tools", "mcp_servers", "container", "output_format", "output_config"}),
    GEMINI: frozenset({"tools", "cachedcontent", "generationconfig"}),
}
"""Members that bar a call, unless they have one of the values below. Gemini's are written in two ways, `toolConfig`
and `tool_config`: here without the underscores, in lower case."""


class Call(NamedTuple):
    """What the ladder needs of one."""

    digest: bytes
    """SHA-256 of what makes it the same as another."""
    text: str
    """The beginning of the user's last message."""
    model: str
    stream: bool
    usage: bool
    """A stream with usage was asked for, as OpenAI's chat has it."""


def read(kind: str, body: bytes, fields: bytes = b"") -> Call | None:
    """The call `body` of an endpoint of `kind`, with the lines `fields` of its head; None when it must not be
    degraded."""
    never = _NEVER.get(kind)
    if never is None or not body or len(body) > MAX_CALL_BYTES:
        return None
    try:
        # Decoded here: of bytes, json accepts surrogates, UTF-16 and what else is not UTF-8 (RFC 8259, section 8.1).
        members = json.loads(body.decode(), object_pairs_hook=_object)
        if not isinstance(members, dict) or _is_barred(kind, never, members):
            return None
        text = _TEXTS[kind](members)
        if text is None:
            return None
        text, model = text[:MAX_TEXT_CHARS], str(members.get("model", ""))
        (text + model).encode()  # a lone surrogate may be escaped: that is JSON, and no text
        same = {name: value for name, value in members.items() if name not in DELIVERY}
        canonical = json.dumps(same, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    except (ValueError, RecursionError):
        return None
    lines = b"\r\n".join(sorted(_plain(line) for line in fields.splitlines() if line.startswith(VARYING)))
    options = members.get("stream_options")
    return Call(
        digest=hashlib.sha256(b"%b\n%b\n%b" % (kind.encode(), lines, canonical.encode())).digest(),
        text=text,
        model=model,
        stream=members.get("stream") is True,
        usage=isinstance(options, dict) and options.get("include_usage") is True,
    )


def _plain(line: bytes) -> bytes:
    """A query without its parameters `alt` (how Gemini's answers are delivered) and `key` (who asks)."""
    if not line.startswith(b"query:"):
        return line
    parameters = line[6:].lstrip(b"?").split(b"&")
    return b"query:" + b"&".join(one for one in parameters if not one.startswith((b"alt=", b"key=")))


class _Ambiguous(ValueError):
    """A key stands twice in an object."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise _Ambiguous
    return members


# ---------------------------------------------------------------- never


def _is_barred(kind: str, never: frozenset[str], members: Mapping[str, Any]) -> bool:
    for name, value in members.items():
        plain = name.replace("_", "").lower() if kind == GEMINI else name
        if plain in never and value and value not in _HARMLESS.get(plain, ()):
            harmless = _HARMLESS_PARTS.get(plain)
            if harmless is None or not harmless(value):
                return True
    return any(_is_tool_talk(item) for item in _items(kind, members))


def _no_format(value: Any) -> bool:
    """`text` of a response and `output_config` of a message: barred only for their `format`."""
    if not isinstance(value, dict):
        return False
    form = value.get("format")
    return form is None or (isinstance(form, dict) and form.get("type") == "text")


_GENERATION_NEVER: Final = frozenset(
    {"responseschema", "responsejsonschema", "responselogprobs", "speechconfig", "imageconfig"}
)


def _plain_generation(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    for name, part in value.items():
        plain = name.replace("_", "").lower()
        if plain in _GENERATION_NEVER and part:
            return False
        if plain == "responsemimetype" and part not in (None, "", "text/plain"):
            return False
        if plain == "responsemodalities" and part not in (None, [], ["TEXT"]):
            return False
        if plain == "candidatecount" and part not in (None, 1):
            return False
    return True


_HARMLESS: Final[Mapping[str, tuple[Any, ...]]] = {
    "n": (1,),
    "best_of": (1,),
    "modalities": (["text"],),
    "response_format": ({"type": "text"},),
}
_HARMLESS_PARTS: Final[Mapping[str, Callable[[Any], bool]]] = {
    "text": _no_format,
    "output_config": _no_format,
    "generationconfig": _plain_generation,
}
_TALK: Final = frozenset({"message", "reasoning", ""})


def _items(kind: str, members: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The turns of the conversation, as far as they are objects."""
    turns = members.get(_TURNS.get(kind, ""))
    if isinstance(turns, list):
        yield from (turn for turn in turns if isinstance(turn, dict))


_TURNS: Final[Mapping[str, str]] = {
    Kind.CHAT: "messages",
    Kind.MESSAGES: "messages",
    Kind.RESPONSES: "input",
    GEMINI: "contents",
}


def _is_tool_talk(turn: Mapping[str, Any]) -> bool:
    """Whether a turn is a tool's call or result: in a conversation of that kind a machine reads the answers."""
    if turn.get("role") in ("tool", "function") or turn.get("tool_calls") or turn.get("function_call"):
        return True
    if str(turn.get("type") or "") not in _TALK:
        return True
    content = turn.get("content", turn.get("parts"))
    if not isinstance(content, list):
        return False
    return any(
        isinstance(part, dict)
        and ("tool" in str(part.get("type") or "") or any("function" in name.lower() for name in part))
        for part in content
    )


# ---------------------------------------------------------------- the last message


def _of_turns(kind: str, members: Mapping[str, Any]) -> str | None:
    text = None
    for turn in _items(kind, members):
        if turn.get("role", "user") == "user":
            text = _text_of(turn.get("content", turn.get("parts")))
    return text or ""


def _text_of(content: Any) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    parts = (part.get("text") for part in content if isinstance(part, dict))
    return "\n".join(part for part in parts if isinstance(part, str))


def _of_input(members: Mapping[str, Any]) -> str | None:
    said = members.get("input")
    return said if isinstance(said, str) else _of_turns(Kind.RESPONSES, members)


def _of_prompt(members: Mapping[str, Any]) -> str | None:
    """None for several prompts, or tokens."""
    prompt = members.get("prompt")
    return prompt if isinstance(prompt, str) else None


_TEXTS: Final[Mapping[str, Callable[[Mapping[str, Any]], str | None]]] = {
    Kind.CHAT: lambda members: _of_turns(Kind.CHAT, members),
    Kind.COMPLETIONS: _of_prompt,
    Kind.RESPONSES: _of_input,
    Kind.MESSAGES: lambda members: _of_turns(Kind.MESSAGES, members),
    GEMINI: lambda members: _of_turns(GEMINI, members),
}
