"""Asking a target in its own dialect for a client that speaks another, and answering the client in its own.

One Translation per attempt: the request for the target, how its answer is to be judged, and the relay that carries
the answer over. What cannot be said in the target's dialect is Untranslatable: the request may go to another target,
and where there is none the client is told which field it was. See docs/DIALECTS.md for what is translated to what.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple
from urllib.parse import quote

import msgspec

from edge_router.core.body import Asked
from edge_router.core.dialects import (
    anthropic_answer,
    anthropic_request,
    embeddings,
    gemini_answer,
    gemini_request,
    openai_chat_answer,
    openai_chat_request,
    openai_responses_answer,
    openai_responses_request,
)
from edge_router.core.dialects.carrying import CarriedEvents, CarriedWhole, Reader, Writer
from edge_router.core.dialects.failures import Envelope, read_failure, write_failure
from edge_router.core.dialects.neutral import OPTIONAL, Answer, Failure, Garbled, Request, Untranslatable
from edge_router.core.endpoints import Endpoint, Kind
from edge_router.core.relay import Relay
from edge_router.core.table import TargetEntry
from edge_router.core.tokens import Tokens
from shared.vocabulary.terms import Dialect

__all__ = ["Translation", "Untranslatable", "translate"]


class _Client(NamedTuple):
    """How a client's kind of call is read, and its answer written."""

    envelope: Envelope
    names: Mapping[str, str]
    read: Callable[[bytes], Request]
    write: Callable[[Answer, Request, int], bytes]
    writer: Callable[[Request, int], Writer]


class _Target(NamedTuple):
    """How a target's dialect is written, and its answer read."""

    endpoint: Endpoint
    names: Mapping[str, str]
    write: Callable[[Request, bytes], bytes]
    read: Callable[[bytes], Answer]
    reader: Callable[[], Reader]
    lines: bytes


_CLIENTS: Final[Mapping[Kind, _Client]] = {
    Kind.CHAT: _Client(
        Envelope.OPENAI,
        openai_chat_request.NAMES,
        openai_chat_request.read,
        openai_chat_answer.write,
        openai_chat_answer.Writer,
    ),
    Kind.RESPONSES: _Client(
        Envelope.RESPONSES,
        openai_responses_request.NAMES,
        openai_responses_request.read,
        openai_responses_answer.write,
        openai_responses_answer.Writer,
    ),
    Kind.GEMINI: _Client(
        Envelope.GEMINI,
        gemini_request.NAMES,
        gemini_request.read,
        gemini_answer.write,
        gemini_answer.Writer,
    ),
    Kind.MESSAGES: _Client(
        Envelope.ANTHROPIC,
        anthropic_request.NAMES,
        anthropic_request.read,
        anthropic_answer.write,
        anthropic_answer.Writer,
    ),
}
_TARGETS: Final[Mapping[Dialect, _Target]] = {
    Dialect.OPENAI: _Target(
        Endpoint(Kind.CHAT, b"POST", Dialect.OPENAI, b"/chat/completions", "chat"),
        openai_chat_request.NAMES,
        openai_chat_request.write,
        openai_chat_answer.read,
        openai_chat_answer.Reader,
        b"",
    ),
    Dialect.ANTHROPIC: _Target(
        Endpoint(Kind.MESSAGES, b"POST", Dialect.ANTHROPIC, b"/messages", "chat"),
        anthropic_request.NAMES,
        anthropic_request.write,
        anthropic_answer.read,
        anthropic_answer.Reader,
        b"anthropic-version: 2023-06-01\r\n",
    ),
    Dialect.GEMINI: _Target(
        Endpoint(Kind.GEMINI, b"POST", Dialect.GEMINI, b"/models", "chat"),
        gemini_request.NAMES,
        gemini_request.write,
        gemini_answer.read,
        gemini_answer.Reader,
        b"",
    ),
}


class _EmbedClient(NamedTuple):
    envelope: Envelope
    target: Dialect
    """The only other dialect that has embeddings."""
    read: Callable[[bytes], embeddings.Embed]
    write: Callable[[embeddings.Vectors, embeddings.Embed], bytes]


class _EmbedTarget(NamedTuple):
    endpoint: Endpoint
    write: Callable[[embeddings.Embed, bytes], bytes]
    read: Callable[[bytes], embeddings.Vectors]


_EMBED_CLIENTS: Final[Mapping[Kind, _EmbedClient]] = {
    Kind.EMBEDDINGS: _EmbedClient(
        Envelope.OPENAI, Dialect.GEMINI, embeddings.read_openai, embeddings.write_openai_answer
    ),
    Kind.GEMINI_EMBEDDINGS: _EmbedClient(
        Envelope.GEMINI, Dialect.OPENAI, embeddings.read_gemini, embeddings.write_gemini_answer
    ),
}
_EMBED_TARGETS: Final[Mapping[Dialect, _EmbedTarget]] = {
    Dialect.OPENAI: _EmbedTarget(
        Endpoint(Kind.EMBEDDINGS, b"POST", Dialect.OPENAI, b"/embeddings", "embeddings"),
        embeddings.write_openai,
        embeddings.read_openai_answer,
    ),
    Dialect.GEMINI: _EmbedTarget(
        Endpoint(Kind.GEMINI_EMBEDDINGS, b"POST", Dialect.GEMINI, b"/models", "embeddings"),
        embeddings.write_gemini,
        embeddings.read_gemini_answer,
    ),
}


@dataclass(frozen=True, slots=True)
class Translation:
    """One attempt at a target of another dialect."""

    endpoint: Endpoint
    """The target's: what `judge` and the budget go by."""
    suffix: bytes
    """Behind the target's base path, query included."""
    body: bytes
    lines: bytes
    """Header lines that the target's dialect asks for, each with its CR LF."""
    content_type: bytes
    """Of the client's answer, where that is a 200."""
    envelope: Envelope
    """The client's."""
    _relay: Callable[[int], Relay]

    def relay(self, created: int = 0) -> Relay:
        """What carries the target's answer over. `created` is Unix time in seconds, for dialects that state it.
        A stream's is a relay.Events."""
        return self._relay(created)

    def error(self, status: int, body: bytes) -> bytes:
        """The target's error in the client's envelope; where the target said none that can be read, by its status."""
        failure = read_failure(body) or Failure("", f"the target answered with status {status}")
        return write_failure(self.envelope, status, failure)


def translate(kind: Kind, body: bytes, asked: Asked, target: TargetEntry) -> Translation:
    """What a client's call of `kind` is for `target`, whose dialect is another. Raises Untranslatable."""
    try:
        if kind in _EMBED_CLIENTS:
            return _embedding(_EMBED_CLIENTS[kind], body, target)
        return _generation(kind, body, asked, target)
    except RecursionError:
        raise Untranslatable("the body is nested too deeply") from None


def _generation(kind: Kind, body: bytes, asked: Asked, target: TargetEntry) -> Translation:
    client, named = _CLIENTS.get(kind), _TARGETS.get(target.dialect)
    if client is None or named is None:
        raise Untranslatable(f"{kind.value} cannot be said to a target of dialect {target.dialect.value}")
    request = client.read(body)
    if request.stream != asked.stream:
        request = msgspec.structs.replace(request, stream=asked.stream)
    _check(request, client, named, target.dialect)
    if request.messages and request.messages[-1].role == "assistant":
        # Anthropic goes on in the words that stand there, the others begin anew.
        raise Untranslatable(
            "a conversation that ends with the assistant's own turn means another thing there"
        )
    endpoint = named.endpoint

    def relay(created: int) -> Relay:
        if request.stream:
            return CarriedEvents(endpoint.kind, named.reader(), client.writer(request, created))
        return CarriedWhole(endpoint.kind, carry(created))

    def carry(created: int) -> Callable[[bytes], tuple[bytes, Tokens]]:
        def carried(content: bytes) -> tuple[bytes, Tokens]:
            answer = named.read(content)
            usage = answer.usage
            return client.write(answer, request, created), Tokens(usage.read, usage.written)

        return carried

    suffix = endpoint.suffix
    if endpoint.kind is Kind.GEMINI:
        verb = b":streamGenerateContent?alt=sse" if request.stream else b":generateContent"
        suffix += b"/%b%b" % (_in_path(target), verb)
    return Translation(
        endpoint=endpoint,
        suffix=suffix,
        body=named.write(request, target.model_json),
        lines=named.lines,
        content_type=b"text/event-stream" if request.stream else b"application/json",
        envelope=client.envelope,
        _relay=relay,
    )


def _embedding(client: _EmbedClient, body: bytes, target: TargetEntry) -> Translation:
    named = _EMBED_TARGETS.get(target.dialect)
    if named is None or target.dialect is not client.target:
        raise Untranslatable(f"embeddings cannot be said to a target of dialect {target.dialect.value}")
    embed = client.read(body)
    model = msgspec.json.decode(target.model_json, type=str)

    def carry(content: bytes) -> tuple[bytes, Tokens]:
        vectors = named.read(content)
        if len(vectors.vectors) != len(embed.texts):
            raise Garbled(f"{len(vectors.vectors)} vectors for {len(embed.texts)} texts")
        if not vectors.model:
            vectors = msgspec.structs.replace(vectors, model=model)
        return client.write(vectors, embed), Tokens(vectors.read)

    endpoint = named.endpoint
    suffix = endpoint.suffix
    if endpoint.kind is Kind.GEMINI_EMBEDDINGS:
        suffix += b"/%b:batchEmbedContents" % _in_path(target)
    return Translation(
        endpoint=endpoint,
        suffix=suffix,
        body=named.write(embed, target.model_json),
        lines=b"",
        content_type=b"application/json",
        envelope=client.envelope,
        _relay=lambda _created: CarriedWhole(endpoint.kind, carry),
    )


def _check(request: Request, client: _Client, target: _Target, dialect: Dialect) -> None:
    for name in OPTIONAL:
        if getattr(request, name) not in (None, ()) and name not in target.names:
            raise Untranslatable(
                f"{client.names[name]} cannot be said to a target of dialect {dialect.value}"
            )


def _in_path(target: TargetEntry) -> bytes:
    """The model's name as one segment of a path."""
    return quote(msgspec.json.decode(target.model_json, type=str), safe="").encode()
