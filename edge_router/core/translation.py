"""Asking a target in its own dialect for a client that speaks another, and answering the client in its own.

One Translation per attempt: the request for the target, how its answer is to be judged, and the relay that carries
the answer over. What cannot be said in the target's dialect is Untranslatable: the request may go to another target,
and where there is none the client is told which field it was. See docs/DIALECTS.md for what is translated to what.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import msgspec

from edge_router.core.body import Asked
from edge_router.core.dialects import (
    anthropic_answer,
    anthropic_request,
    openai_chat_answer,
    openai_chat_request,
)
from edge_router.core.dialects.carrying import CarriedEvents, CarriedWhole, Reader, Writer
from edge_router.core.dialects.failures import Envelope, read_failure, write_failure
from edge_router.core.dialects.neutral import OPTIONAL, Answer, Failure, Request, Untranslatable
from edge_router.core.endpoints import Endpoint, Kind
from edge_router.core.relay import Relay
from edge_router.core.table import TargetEntry
from shared.vocabulary.terms import Dialect

__all__ = ["Translation", "Untranslatable", "translate"]


class _Client(NamedTuple):
    """How a client's kind of call is read, and its answer written."""

    envelope: Envelope
    names: Mapping[str, str]
    read: Callable[[bytes], Request]
    write: Callable[..., bytes]
    writer: Callable[..., Writer]


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
    client, named = _CLIENTS.get(kind), _TARGETS.get(target.dialect)
    if client is None or named is None:
        raise Untranslatable(
            f"{kind.value} cannot be translated for a target of dialect {target.dialect.value}"
        )
    request = client.read(body)
    if request.stream != asked.stream:
        request = msgspec.structs.replace(request, stream=asked.stream)
    _check(request, client, named, target.dialect)

    def relay(created: int) -> Relay:
        if not request.stream:
            return CarriedWhole(
                named.endpoint.kind, named.read, lambda answer: client.write(answer, created=created)
            )
        writer = client.writer(
            created=created, usage=request.stream_usage, thinking=bool(request.show_thinking)
        )
        return CarriedEvents(named.endpoint.kind, named.reader(), writer)

    return Translation(
        endpoint=named.endpoint,
        suffix=_suffix(named.endpoint, request, target),
        body=named.write(request, target.model_json),
        lines=named.lines,
        content_type=b"text/event-stream" if request.stream else b"application/json",
        envelope=client.envelope,
        _relay=relay,
    )


def _check(request: Request, client: _Client, target: _Target, dialect: Dialect) -> None:
    for name in OPTIONAL:
        value: Any = getattr(request, name)
        if value not in (None, ()) and name not in target.names:
            raise Untranslatable(
                f"{client.names[name]} cannot be said to a target of dialect {dialect.value}"
            )


def _suffix(endpoint: Endpoint, request: Request, target: TargetEntry) -> bytes:
    if endpoint.kind is not Kind.GEMINI:
        return endpoint.suffix
    model = quote(msgspec.json.decode(target.model_json, type=str), safe="").encode()
    verb = b":streamGenerateContent?alt=sse" if request.stream else b":generateContent"
    return b"%b/%b%b" % (endpoint.suffix, model, verb)
