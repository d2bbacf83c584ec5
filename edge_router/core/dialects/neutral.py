"""What every dialect can be read into and written from.

A reader raises Untranslatable for what it finds in a request that has no place here, a writer for what its dialect
cannot say: nothing is left out silently. What is left out on purpose, because it has no meaning for the answer, is
a table TOLERATED of each reader, with the reason. A reader of answers raises Garbled.
"""

import re
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any, Final, Literal, NamedTuple, TypeVar

import msgspec


class Untranslatable(ValueError):
    """What a client asks for cannot be said in the target's dialect: names the field, in words for the client."""


class Garbled(ValueError):
    """A target's answer is not what its dialect promises, or holds what the client's cannot say."""


class Stop(Enum):
    """Why a model stopped."""

    END = "end"
    SEQUENCE = "sequence"
    LENGTH = "length"
    CALLS = "calls"
    FILTERED = "filtered"


class Text(msgspec.Struct, frozen=True, kw_only=True):
    """Words."""

    text: str


class Image(msgspec.Struct, frozen=True, kw_only=True):
    """By `url`, or as `content` (base64) of type `mime`."""

    url: str | None = None
    mime: str = ""
    content: str = ""


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """A tool that the model wants called. `arguments` is the JSON text of an object."""

    id: str
    name: str
    arguments: str


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What a tool call gave."""

    id: str
    name: str = ""
    content: tuple[Text | Image, ...] = ()
    failed: bool = False


class Thinking(msgspec.Struct, frozen=True, kw_only=True):
    """A model's reasoning, where an answer shows it. Of a request's earlier turns it is left out by every reader."""

    text: str


Part = Text | Image | Call | Result | Thinking


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """A turn. `system` stands among the messages only where the conversation had begun before it."""

    role: Literal["user", "assistant", "system"]
    parts: tuple[Part, ...]


class Tool(msgspec.Struct, frozen=True, kw_only=True):
    """A function that the model may call; `schema` is the JSON Schema of its arguments."""

    name: str
    description: str = ""
    schema: Mapping[str, Any] | None = None
    strict: bool | None = None


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """Whether to call tools: `tool` is the one that `name` says."""

    mode: Literal["auto", "none", "required", "tool"]
    name: str = ""


class Format(msgspec.Struct, frozen=True, kw_only=True):
    """The answer is JSON, by a JSON Schema where one is given."""

    schema: Mapping[str, Any] | None = None
    name: str = ""
    strict: bool | None = None


Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """A generation. None is "not said", and then the target's own default holds."""

    messages: tuple[Message, ...]
    system: tuple[str, ...] = ()
    tools: tuple[Tool, ...] = ()
    choice: Choice | None = None
    parallel: bool | None = None
    """Several calls in one turn allowed?"""
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    stop: tuple[str, ...] = ()
    format: Format | None = None
    effort: Effort | None = None
    thinking_budget: int | None = None
    """Tokens; the dialects that count thinking by tokens rather than by effort."""
    show_thinking: bool = False
    """Whether the client wants to see it, where the target shows it."""
    stream: bool = False
    stream_usage: bool = True
    """Whether the client wants to know the usage of a stream."""


OPTIONAL: Final = (
    "choice",
    "parallel",
    "temperature",
    "top_p",
    "top_k",
    "seed",
    "presence_penalty",
    "frequency_penalty",
    "stop",
    "format",
    "effort",
    "thinking_budget",
)
"""What of a request not every dialect can say."""


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens. `read` includes what came from or went into a cache, `written` includes thinking."""

    read: int = 0
    written: int = 0
    cache_read: int = 0
    cache_written: int = 0
    thought: int = 0


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """A whole answer, by the name that the target gives to its model."""

    id: str
    model: str
    parts: tuple[Part, ...]
    stop: Stop
    usage: Usage


# ---------------------------------------------------------------- a stream's steps


class Begun(NamedTuple):
    """The answer's name."""

    id: str
    model: str


class Said(NamedTuple):
    """More text."""

    text: str


class Thought(NamedTuple):
    """More thinking."""

    text: str


class Calls(NamedTuple):
    """A tool call begins; its arguments follow by `key`: for one that takes none the empty object, or from OpenAI nothing."""

    key: int
    id: str
    name: str


class Arguments(NamedTuple):
    """More of the JSON text of a call's arguments."""

    key: int
    text: str


class Stopped(NamedTuple):
    """The model is done."""

    stop: Stop


class Counted(NamedTuple):
    """Usage as far as it is known; a later one replaces an earlier."""

    usage: Usage


class Failure(NamedTuple):
    """An error as a target tells it, in-band or in place of an answer. `type` as the target's dialect names it."""

    type: str
    message: str
    code: str | None = None


Delta = Begun | Said | Thought | Calls | Arguments | Stopped | Counted | Failure


# ---------------------------------------------------------------- reading

_Read = TypeVar("_Read")
_UNKNOWN: Final = re.compile(r"Object contains unknown field `(.*?)`(?: - at `\$\.?(.*?)`)?$")

_REFUSED: Final = re.compile(
    r"(?:Expected `null`, got `.*?`|Invalid (?:enum )?value (?P<value>.*?)) - at `\$\.(?P<field>.*?)`$",
    re.DOTALL,
)
_MOST_SHOWN: Final = 64


def read_request(body: bytes, decoder: "msgspec.json.Decoder[_Read]") -> _Read:
    """The request that `body` is. Raises Untranslatable, naming a field that the reader does not know."""
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise untranslatable(error) from None


def untranslatable(error: Exception) -> Untranslatable:
    """What is wrong about a request, by the decoder's words for it."""
    said = str(error)
    unknown, refused = _UNKNOWN.search(said), _REFUSED.match(said)
    if unknown is not None:
        field, place = unknown.groups()
        where = f"{place}.{field}" if place else field
    elif refused is not None:
        value = refused["value"]
        where = refused["field"] if value is None else f"{refused['field']} = {value[:_MOST_SHOWN]}"
    else:
        return Untranslatable(f"the request cannot be translated: {said}")
    return Untranslatable(f"{where} cannot be said to a target of another dialect")


def object_text(arguments: str, where: str) -> str:
    """`arguments` if it is the JSON text of an object; a model that has none to give may leave it empty.
    Raises ValueError."""
    text = arguments.strip() or "{}"
    try:
        _OBJECT.decode(text)
    except msgspec.DecodeError:
        raise ValueError(f"{where} is not a JSON object") from None
    return text


def described(schema: Mapping[str, Any], description: str | None) -> Mapping[str, Any]:
    """`schema` with what is said of it beside it, unless it says so itself: the others have no other place for it."""
    return schema if description is None else {"description": description, **schema}


def as_json(value: Any) -> str:
    """JSON text, compact."""
    return msgspec.json.encode(value).decode()


def raw(text: str) -> msgspec.Raw:
    """JSON text, to stand in a document as it is."""
    return msgspec.Raw(text.encode())


_OBJECT: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_DATA_URL: Final = re.compile(r"data:([a-z]+/[a-z0-9.+-]+);base64,(.*)", re.DOTALL | re.IGNORECASE)


def image_of(url: str) -> Image:
    """The image at `url`, which may hold it (RFC 2397)."""
    held = _DATA_URL.fullmatch(url)
    return Image(mime=held[1].lower(), content=held[2]) if held is not None else Image(url=url)


def url_of(image: Image) -> str:
    """The reverse of `image_of`."""
    return image.url if image.url is not None else f"data:{image.mime};base64,{image.content}"


def joined(content: Sequence[Text | Image], where: str) -> str:
    """Text alone, for a place that takes no image. Raises Untranslatable."""
    texts = []
    for part in content:
        if isinstance(part, Image):
            raise Untranslatable(f"an image in {where} cannot be said to this target")
        texts.append(part.text)
    return "".join(texts)


def merged(messages: Sequence[Message]) -> list[Message]:
    """Turns of one speaker in a row as one turn, for dialects in which speakers alternate."""
    turns: list[Message] = []
    for message in messages:
        if turns and turns[-1].role == message.role:
            turns[-1] = Message(role=message.role, parts=turns[-1].parts + message.parts)
        else:
            turns.append(message)
    return turns


def filled(turn: Message) -> list[Part]:
    """The parts of `turn` without empty texts, which say nothing and which Anthropic and Gemini do not take.
    Raises Untranslatable when that leaves none."""
    parts = [part for part in turn.parts if part != Text(text="")]
    if not parts:
        raise Untranslatable("a message without content cannot be said to this target")
    return parts


def without_system(messages: Sequence[Message]) -> Sequence[Message]:
    """`messages`, for dialects whose system prompt stands before the conversation. Raises Untranslatable."""
    if any(message.role == "system" for message in messages):
        raise Untranslatable(
            "a system message after the conversation has begun cannot be said to this target: put it first"
        )
    return messages
