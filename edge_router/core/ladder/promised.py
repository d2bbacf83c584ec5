"""JSON that a request's response format promises: which it is, and whether an answer keeps it.

asked for    OpenAI chat `response_format`, its Responses `text.format`, Anthropic `output_config.format` (and its
             forerunner `output_format`), Gemini `generationConfig.responseMimeType` with `responseJsonSchema`
read         the text of every choice that ended by itself. Where a model hit its length, refused, or called a tool, no
             JSON was promised: the finish reason says so to the client
schema       draft 2020-12, by jsonschema-rs. Of an answer of 150 bytes with nine rules: 0.4 us, jsonschema 212 us;
             fastjsonschema 2.2 us, but it makes Python code of what a client sent, 2.9 ms for each schema (here 24 us)
bounded      A client writes the schema, and a small one can make any validator work for ever: `anyOf` two references, each
             of them likewise, and so on. So a schema is used up to 64 KiB, 64 levels and references within itself. Spread
             out, references followed, most have some dozens of parts: times the answer's length, that bounds the work.
             Where it does not (recursion, large answers), the steps on this very answer are counted beforehand, up to
             `MAX_STEPS`. Members of `enum` and `const` count as parts: each value is compared with all of them. Patterns
             are counted (compiling one takes to 0.3 ms), and `multipleOf` must be of an ordinary size: it is reckoned
             in fractions of any length. Beyond these the answer must still be JSON, but is not held against the schema. Nothing is
             ever fetched.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple

import jsonschema_rs
import msgspec

from edge_router.core.decoding import UNREADABLE
from edge_router.core.endpoints import Kind
from edge_router.core.ladder.assemble import events_of
from edge_router.core.ladder.call import GEMINI

MAX_SCHEMA_BYTES: Final = 64 * 1024
MAX_LEVELS: Final = 64
MAX_PARTS: Final = 1000
"""Of a schema, spread out."""
MAX_WORK: Final = 2_000_000
"""Parts of a schema times characters of an answer: below, no step needs to be counted. At 20 to 50 ns a step, and a
value having two characters at least, this is 50 ms at the very worst."""
MAX_STEPS: Final = 5000
"""Counting them takes 12 ms."""
MAX_ANSWER_BYTES: Final = 4 * 1024 * 1024
"""Of an answer that is kept back, or in mind, to be checked: a larger one is not handed on."""
_PATTERN_BYTES: Final = 256 * 1024
MAX_PATTERNS: Final = 64
"""Of a schema, names by pattern included."""
MULTIPLES: Final = (1e-9, 1e15)
"""The least and the greatest `multipleOf`."""


class Promise(NamedTuple):
    """JSON was asked for; `schema` is its schema as JSON text, empty when any JSON will do."""

    schema: bytes = b""


class _Form(msgspec.Struct):
    type: str = ""
    schema: msgspec.Raw = msgspec.Raw(b"")


class _Nested(msgspec.Struct):
    schema: msgspec.Raw = msgspec.Raw(b"")


class _Holder(msgspec.Struct):
    format: _Form | None = None


class _Generation(msgspec.Struct, rename="camel"):
    response_mime_type: str = ""
    response_json_schema: msgspec.Raw = msgspec.Raw(b"")


class _Request(msgspec.Struct):
    response_format: msgspec.Raw = msgspec.Raw(b"")
    text: msgspec.Raw = msgspec.Raw(b"")
    output_format: msgspec.Raw = msgspec.Raw(b"")
    output_config: msgspec.Raw = msgspec.Raw(b"")
    generationConfig: msgspec.Raw = msgspec.Raw(b"")  # noqa: N815  (as Gemini writes it)


class _ChatForm(msgspec.Struct):
    type: str = ""
    json_schema: _Nested | None = None


_REQUEST: Final = msgspec.json.Decoder(_Request)
_CHAT_FORM: Final = msgspec.json.Decoder(_ChatForm | None)
_FORM: Final = msgspec.json.Decoder(_Form | None)
_HOLDER: Final = msgspec.json.Decoder(_Holder | None)
_GENERATION: Final = msgspec.json.Decoder(_Generation | None)


def promise_of(kind: str, body: bytes) -> Promise | None:
    """What JSON the call `body` asks for; None when none."""
    find = _PROMISES.get(kind)
    if find is None:
        return None
    try:
        return find(_REQUEST.decode(body))
    except UNREADABLE:
        return None  # the target will say what is wrong with it


def _of_chat(request: _Request) -> Promise | None:
    form = _CHAT_FORM.decode(request.response_format or b"null")
    if form is None or form.type not in ("json_object", "json_schema"):
        return None
    return Promise(bytes(form.json_schema.schema) if form.json_schema is not None else b"")


def _of_form(form: _Form | None) -> Promise | None:
    if form is None or form.type not in ("json_object", "json_schema"):
        return None
    return Promise(bytes(form.schema))


def _of_response(request: _Request) -> Promise | None:
    holder = _HOLDER.decode(request.text or b"null")
    return None if holder is None else _of_form(holder.format)


def _of_message(request: _Request) -> Promise | None:
    holder = _HOLDER.decode(request.output_config or b"null")
    form = holder.format if holder is not None else None
    return _of_form(form or _FORM.decode(request.output_format or b"null"))


def _of_gemini(request: _Request) -> Promise | None:
    generation = _GENERATION.decode(request.generationConfig or b"null")
    if generation is None or generation.response_mime_type != "application/json":
        return None
    return Promise(bytes(generation.response_json_schema))


_PROMISES: Final[Mapping[str, Callable[[_Request], Promise | None]]] = {
    Kind.CHAT: _of_chat,
    Kind.RESPONSES: _of_response,
    Kind.MESSAGES: _of_message,
    GEMINI: _of_gemini,
}

# ---------------------------------------------------------------- kept or not


def whole_keeps(kind: str, promise: Promise, content: bytes) -> bool:
    """Whether the answer `content`, which is what its endpoint promises, holds the JSON that was asked for."""
    try:
        events = [msgspec.json.decode(content)]
    except UNREADABLE:
        return False
    return _keeps(promise, _SAID[kind], events)


def stream_keeps(kind: str, promise: Promise, content: bytes) -> bool:
    """The same for the events of a stream up to its finish reason."""
    try:
        events = list(events_of(content))
    except UNREADABLE:
        return False
    return _keeps(promise, _STREAMED[kind], events)


def _keeps(
    promise: Promise, said: Callable[[list[dict[str, Any]]], Iterator[str]], events: list[dict[str, Any]]
) -> bool:
    try:
        return all(_is_promised(promise, text) for text in said(events))
    except (KeyError, IndexError, TypeError, AttributeError):
        return False


def _is_promised(promise: Promise, text: str) -> bool:
    try:
        value = msgspec.json.decode(text)
    except UNREADABLE:
        return False
    schema = _usable(promise.schema)
    if schema is None:
        return True
    if schema.parts * len(text) > MAX_WORK and _steps(schema.root, value) > MAX_STEPS:
        return True
    try:
        return schema.validator.is_valid(value)
    except ValueError:
        return True  # a reference leads nowhere: the schema's fault


def _of_choices(events: list[dict[str, Any]]) -> Iterator[str]:
    for choice in events[0]["choices"]:
        message = choice["message"]
        if choice.get("finish_reason") == "stop" and not message.get("refusal"):
            yield message.get("content") or ""


def _of_chunks(events: list[dict[str, Any]]) -> Iterator[str]:
    texts: dict[int, list[str]] = {}
    promised: dict[int, bool] = {}
    for event in events:
        for choice in event.get("choices", ()):
            index, delta = choice.get("index", 0), choice.get("delta") or {}
            texts.setdefault(index, []).append(delta.get("content") or "")
            if delta.get("refusal") or choice.get("finish_reason"):
                stopped = choice.get("finish_reason") == "stop" and not delta.get("refusal")
                promised[index] = promised.get(index, True) and stopped
    return ("".join(texts[index]) for index, stopped in promised.items() if stopped)


def _of_output(events: list[dict[str, Any]]) -> Iterator[str]:
    response = events[-1].get("response") or events[-1]
    if response.get("status", "completed") != "completed":
        return
    for item in response["output"]:
        if item["type"] == "message" and all(part["type"] == "output_text" for part in item["content"]):
            yield "".join(part["text"] for part in item["content"])


def _of_blocks(events: list[dict[str, Any]]) -> Iterator[str]:
    message = events[0]
    if message.get("stop_reason") in _OF_ITSELF:
        yield "".join(block["text"] for block in message["content"] if block["type"] == "text")


def _of_block_deltas(events: list[dict[str, Any]]) -> Iterator[str]:
    deltas = [event.get("delta") or {} for event in events]
    if any(delta.get("stop_reason") in _OF_ITSELF for delta in deltas):
        yield "".join(delta["text"] for delta in deltas if delta.get("type") == "text_delta")


def _of_candidates(events: list[dict[str, Any]]) -> Iterator[str]:
    """Gemini's stream is a row of answers of the same form."""
    candidates = [candidate for event in events for candidate in event.get("candidates", ())]
    for index in sorted({candidate.get("index", 0) for candidate in candidates}):
        mine = [candidate for candidate in candidates if candidate.get("index", 0) == index]
        if any(candidate.get("finishReason") == "STOP" for candidate in mine):
            parts = [part for c in mine for part in (c.get("content") or {}).get("parts", ())]
            if not any("functionCall" in part for part in parts):
                yield "".join(part.get("text", "") for part in parts if not part.get("thought"))


_OF_ITSELF: Final = ("end_turn", "stop_sequence")
_Said = Callable[[list[dict[str, Any]]], Iterator[str]]
_SAID: Final[Mapping[str, _Said]] = {
    Kind.CHAT: _of_choices,
    Kind.RESPONSES: _of_output,
    Kind.MESSAGES: _of_blocks,
    GEMINI: _of_candidates,
}
_STREAMED: Final[Mapping[str, _Said]] = {
    **_SAID,
    Kind.CHAT: _of_chunks,
    Kind.MESSAGES: _of_block_deltas,
}

# ---------------------------------------------------------------- schemas


class _Schema(NamedTuple):
    validator: jsonschema_rs.Draft202012Validator
    root: Any
    parts: float
    """Spread out; infinite when recursive."""


@lru_cache(maxsize=128)
def _usable(text: bytes) -> _Schema | None:
    """A schema, compiled; None for none, and for one beyond the bounds."""
    if not text or len(text) > MAX_SCHEMA_BYTES:
        return None
    try:
        root = msgspec.json.decode(text)
        if not _is_contained(root, 0) or not _is_modest(root):
            return None
        patterns = jsonschema_rs.RegexOptions(size_limit=_PATTERN_BYTES, dfa_size_limit=_PATTERN_BYTES)
        return _Schema(
            jsonschema_rs.Draft202012Validator(root, pattern_options=patterns, offline=True),
            root,
            _parts(root),
        )
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None


_ELSEWHERE: Final = frozenset({"$id", "$anchor", "$dynamicRef", "$dynamicAnchor", "$recursiveRef"})


def _is_contained(node: Any, level: int) -> bool:
    """Whether a schema is flat enough, and refers to nothing but its own parts, by pointer."""
    if level > MAX_LEVELS:
        return False
    if isinstance(node, list):
        return all(_is_contained(part, level + 1) for part in node)
    if not isinstance(node, dict):
        return True
    if any(name in node for name in _ELSEWHERE):
        return False
    reference = node.get("$ref", "#")
    if isinstance(reference, str) and not (reference == "#" or reference.startswith("#/")):
        return False
    return all(_is_contained(part, level + 1) for part in node.values())


def _is_modest(root: Any) -> bool:
    """Whether neither compiling a schema's patterns nor dividing by its numbers takes long."""
    patterns = 0
    nodes = [root]
    while nodes:
        node = nodes.pop()
        if isinstance(node, list):
            nodes += node
        if not isinstance(node, dict):
            continue
        named = node.get("patternProperties")
        patterns += isinstance(node.get("pattern"), str) + (len(named) if isinstance(named, dict) else 0)
        divisor = node.get("multipleOf")
        if isinstance(divisor, int | float) and not MULTIPLES[0] <= divisor <= MULTIPLES[1]:
            return False
        nodes += node.values()
    return patterns <= MAX_PATTERNS


_CONSTANTS: Final = ("enum", "const")
_DIVIDING: Final = 100
"""Dividing 1e300 by 1e-9 takes 22 us."""


def _constants(node: dict[str, Any]) -> int:
    """How many values, nested ones included, a value at `node` is compared with; dividing counts as `_DIVIDING`."""
    count = _DIVIDING if "multipleOf" in node else 0
    values = [node[name] for name in _CONSTANTS if name in node]
    while values:
        value = values.pop()
        count += 1
        values += _children(value)
    return count


_IN_PLACE: Final = ("not", "if", "then", "else")
_IN_PLACE_LISTS: Final = ("allOf", "anyOf", "oneOf")
_OF_CHILDREN: Final = ("items", "contains", "additionalProperties", "propertyNames", "unevaluatedProperties")
_BY_NAME: Final = ("patternProperties", "dependentSchemas")


def _parts(root: Any) -> float:
    """How many subschemas `root` has with every reference put in its place; infinite from `MAX_PARTS` on."""
    count = 0
    nodes = [root]
    while nodes:
        node = nodes.pop()
        count += 1
        if count > MAX_PARTS:
            return float("inf")
        if not isinstance(node, dict):
            continue
        count += _constants(node)
        if isinstance(node.get("$ref"), str):
            nodes.append(_pointed(root, node["$ref"]))
        nodes += [node[name] for name in (*_IN_PLACE, *_OF_CHILDREN, "unevaluatedItems") if name in node]
        for name in (*_IN_PLACE_LISTS, "prefixItems"):
            nodes += node[name] if isinstance(node.get(name), list) else []
        for name in (*_BY_NAME, "properties"):
            nodes += node[name].values() if isinstance(node.get(name), dict) else []
    return count


def _steps(root: Any, value: Any) -> int:
    """How many pairs of a subschema and a value validating may look at, counted to just over `MAX_STEPS`. Never
    fewer than it does: what is tried one after the other is counted as if all were, down to every child."""
    steps = 0
    pairs = [(root, value)]
    while pairs and steps <= MAX_STEPS:
        node, at = pairs.pop()
        steps += 1
        if not isinstance(node, dict):
            continue
        steps += _constants(node)
        reference = node.get("$ref")
        if isinstance(reference, str):
            pairs.append((_pointed(root, reference), at))
        pairs += [(node[name], at) for name in _IN_PLACE if name in node]
        for name in _IN_PLACE_LISTS:
            pairs += [(part, at) for part in node.get(name, ())]
        for name in _BY_NAME:
            named = node.get(name)
            if isinstance(named, dict):
                children = [at] if name == "dependentSchemas" else _children(at)
                pairs += [(part, child) for part in named.values() for child in children]
        properties = node.get("properties")
        if isinstance(properties, dict) and isinstance(at, dict):
            pairs += [(properties[name], child) for name, child in at.items() if name in properties]
        for name in _OF_CHILDREN:
            if isinstance(node.get(name), dict):
                pairs += [(node[name], child) for child in _children(at)]
        if isinstance(node.get("prefixItems"), list) and isinstance(at, list):
            pairs += zip(node["prefixItems"], at, strict=False)
        if isinstance(node.get("unevaluatedItems"), dict) and isinstance(at, list):
            pairs += [(node["unevaluatedItems"], child) for child in at]
    return steps


def _children(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def _pointed(root: Any, reference: str) -> Any:
    """What a JSON pointer (RFC 6901) in a fragment leads to; None where it leads nowhere."""
    at = root
    for token in reference[2:].split("/") if len(reference) > 1 else ():
        name = token.replace("~1", "/").replace("~0", "~")
        if isinstance(at, dict):
            at = at.get(name)
        elif isinstance(at, list) and name.isdigit() and int(name) < len(at):
            at = at[int(name)]
        else:
            return None
    return at
