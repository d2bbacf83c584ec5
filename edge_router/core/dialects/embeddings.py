"""Embeddings: OpenAI's one call, Gemini's two.

Sources: OpenAI API reference, "Create embeddings"; Gemini API reference, "Method: models.embedContent" and
"Method: models.batchEmbedContents". Anthropic has none.

    task         Gemini's `taskType` and `title` change the vector, and OpenAI has no word for them: refused
    tokens       OpenAI takes texts as token numbers of its own models: no other model can read those
    usage        Gemini may not say how many tokens it took; then 0 is told
"""

import base64
import struct
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

import msgspec

from edge_router.core.dialects.gemini_names import camel
from edge_router.core.dialects.neutral import Garbled, Untranslatable, read_request, untranslatable


class Embed(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked. `single`: the client's dialect asked for one vector, and is answered with one."""

    texts: tuple[str, ...]
    dimensions: int | None = None
    base64: bool = False
    """The client wants its vectors as base64 of little-endian 32-bit floats."""
    single: bool = False


class Vectors(msgspec.Struct, frozen=True, kw_only=True):
    """What is answered, in the order asked."""

    vectors: tuple[Sequence[float], ...]
    model: str
    read: int = 0
    """Tokens."""


TOLERATED: Final[Mapping[str, str]] = {
    "model": "the route has chosen by it; the target's own name stands in its place",
    "user": "says who asks, for the provider's abuse reports",
}
"""Taken and left out, and why that changes nothing of the answer."""


# ---------------------------------------------------------------- OpenAI


class _In(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    pass


class _OpenAI(_In):
    model: str
    input: str | list[str]
    dimensions: int | None = None
    encoding_format: Literal["float", "base64"] | None = None
    user: Any = None


class _Vector(msgspec.Struct):
    embedding: list[float] | str
    index: int = 0


class _Counts(msgspec.Struct):
    prompt_tokens: int | None = None


class _List(msgspec.Struct):
    data: list[_Vector]
    model: str = ""
    usage: _Counts | None = None


_OPENAI: Final = msgspec.json.Decoder(_OpenAI)
_LIST: Final = msgspec.json.Decoder(_List)


def read_openai(body: bytes) -> Embed:
    """Raises Untranslatable."""
    asked = read_request(body, _OPENAI)
    texts = (asked.input,) if isinstance(asked.input, str) else tuple(asked.input)
    if not texts:
        raise Untranslatable("input is empty")
    return Embed(texts=texts, dimensions=asked.dimensions, base64=asked.encoding_format == "base64")


def write_openai(embed: Embed, model: bytes) -> bytes:
    """`model` as JSON text."""
    said: dict[str, Any] = {"model": msgspec.Raw(model), "input": list(embed.texts)}
    if embed.dimensions is not None:
        said["dimensions"] = embed.dimensions
    return msgspec.json.encode({**said, "encoding_format": "float"})


def read_openai_answer(content: bytes) -> Vectors:
    """Raises Garbled, or msgspec.DecodeError."""
    told = _LIST.decode(content)
    ordered = sorted(told.data, key=lambda vector: vector.index)
    vectors = []
    for vector in ordered:
        if isinstance(vector.embedding, str):
            raise Garbled("a vector in base64 where numbers were asked for")
        vectors.append(vector.embedding)
    read = told.usage.prompt_tokens if told.usage is not None else None
    return Vectors(vectors=tuple(vectors), model=told.model, read=read or 0)


def write_openai_answer(answer: Vectors, embed: Embed) -> bytes:
    """The list of embeddings."""
    return msgspec.json.encode(
        {
            "object": "list",
            "data": [
                {"object": "embedding", "index": place, "embedding": _encoded(vector, embed)}
                for place, vector in enumerate(answer.vectors)
            ],
            "model": answer.model,
            "usage": {"prompt_tokens": answer.read, "total_tokens": answer.read},
        }
    )


def _encoded(vector: Sequence[float], embed: Embed) -> Sequence[float] | str:
    if not embed.base64:
        return vector
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


# ---------------------------------------------------------------- Gemini


class _TextPart(_In):
    text: str


class _Content(_In):
    parts: list[_TextPart]
    role: Any = None


class _One(_In, rename="camel"):
    content: _Content
    model: Any = None
    output_dimensionality: int | None = None


class _Batch(_In):
    requests: list[_One]
    model: Any = None


class _Values(msgspec.Struct):
    values: list[float]


class _UsageIn(msgspec.Struct, rename="camel"):
    prompt_token_count: int | None = None


class _Embedded(msgspec.Struct, rename="camel"):
    embedding: _Values | None = None
    embeddings: list[_Values] = []
    usage_metadata: _UsageIn | None = None


_EMBEDDED: Final = msgspec.json.Decoder(_Embedded)


def read_gemini(body: bytes) -> Embed:
    """Of either call: a batch has `requests`. Raises Untranslatable."""
    try:
        told = camel(msgspec.json.decode(body))
        batch = isinstance(told, dict) and "requests" in told
        asked = msgspec.convert(told, _Batch).requests if batch else [msgspec.convert(told, _One)]
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise untranslatable(error) from None
    dimensions = {one.output_dimensionality for one in asked}
    if len(dimensions) != 1:
        raise Untranslatable("requests: none, or of several outputDimensionality, cannot be said in one call")
    return Embed(
        texts=tuple("".join(part.text for part in one.content.parts) for one in asked),
        dimensions=dimensions.pop(),
        single=not batch,
    )


def write_gemini(embed: Embed, model: bytes) -> bytes:
    """Always a batch: one vector is a batch of one."""
    name = f"models/{msgspec.json.decode(model, type=str)}"
    more = {} if embed.dimensions is None else {"outputDimensionality": embed.dimensions}
    return msgspec.json.encode(
        {
            "requests": [
                {"model": name, "content": {"parts": [{"text": text}]}, **more} for text in embed.texts
            ]
        }
    )


def read_gemini_answer(content: bytes) -> Vectors:
    """Its model is not said: the caller knows it. Raises msgspec.DecodeError."""
    told = _EMBEDDED.decode(content)
    vectors = told.embeddings if told.embedding is None else [told.embedding]
    read = told.usage_metadata.prompt_token_count if told.usage_metadata is not None else None
    return Vectors(vectors=tuple(vector.values for vector in vectors), model="", read=read or 0)


def write_gemini_answer(answer: Vectors, embed: Embed) -> bytes:
    """As the client's call has it: one vector, or a batch of them."""
    values = [{"values": vector} for vector in answer.vectors]
    said: dict[str, Any] = {"embedding": values[0]} if embed.single else {"embeddings": values}
    return msgspec.json.encode({**said, "usageMetadata": {"promptTokenCount": answer.read}})
