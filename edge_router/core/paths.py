"""Which endpoint a request's line asks for, and what it says in the path and the query instead of the body.

    /v1/models, /v1/models/{id}             three dialects share it: `anthropic-version` says Anthropic's, a field or
                                            a key of Google's says Gemini's, else it is OpenAI's
    /v1beta/models, /v1beta/models/{id}     Gemini's
    /v1/models/{id}:{method}, and /v1beta   Gemini's calls; the model may hold slashes and colons, encoded or not:
                                            the last colon counts

A model's name from a path is only ever compared with the configured ones: no target's path is made of it. Google's
clients may show their key in the query; it is taken out there, with every other parameter that is a credential. Other
dialects know no key in the query: at their paths it counts for nothing, and does not go to a provider either.
Sources: "Gemini API: REST reference", "Standard query parameters" (Google Cloud APIs).
"""

import re
from typing import Final, NamedTuple
from urllib.parse import unquote_to_bytes

import msgspec

from edge_router.core.endpoints import ENDPOINTS, GEMINI_METHODS, MODELS_OF, Endpoint
from shared.vocabulary.terms import Dialect


class Asking(NamedTuple):
    """What the request line says. `model` is JSON text, quotes included; None where the path names none."""

    endpoint: Endpoint | None
    model: bytes | None = None
    query: bytes = b""
    """What of it may go on, with its `?`."""
    key: bytes = b""
    """The client's, from the query."""
    objection: str = ""
    """Why the request cannot be served as it is asked."""

    @property
    def streams(self) -> bool:
        """Whether the path asks for a stream."""
        return self.endpoint is _STREAM


def asked_by(path: bytes, query: bytes, client: Dialect) -> Asking:
    """What `path` and `query` ask for; `client` is whose client it seems to be by its fields."""
    if not path.startswith(_MODELS):
        endpoint = ENDPOINTS.get(path)
        return Asking(endpoint, query=query if endpoint is None else _bare(query))
    beta = path.startswith(b"/v1beta")
    name = path[_MODELS_BETA_LENGTH if beta else _MODELS_LENGTH :]
    if name.startswith(b"/"):
        encoded, colon, method = name[1:].rpartition(b":")
        endpoint = GEMINI_METHODS.get(method) if colon else None
        if endpoint is not None:
            return _gemini_call(endpoint, encoded, query)
    elif name:
        return Asking(None, query=query)
    rest, key, _, _ = _without_credentials(query)
    listing = MODELS_OF[Dialect.GEMINI if beta or key else client]
    if not name:
        return Asking(listing, query=rest, key=key)
    model, objection = _model(name[1:])
    return Asking(listing, model, rest, key, objection)


def dialect_at(path: bytes) -> Dialect:
    """In which envelope to speak of a path that is nothing here."""
    if path.startswith(b"/v1beta/"):
        return Dialect.GEMINI
    return Dialect.ANTHROPIC if path.startswith(b"/v1/messages/") else Dialect.OPENAI


_MODELS: Final = (b"/v1/models", b"/v1beta/models")
_MODELS_LENGTH, _MODELS_BETA_LENGTH = map(len, _MODELS)
_STREAM: Final = GEMINI_METHODS[b"streamGenerateContent"]
_KEYS: Final = frozenset({"key", "$key"})
"""Google's, by which a client may show its own."""
_CREDENTIALS: Final = _KEYS | {
    "access_token",
    "oauth_token",
    "api_key",
    "api-key",
    "apikey",
    "subscription-key",
}
_ALT: Final = frozenset({"alt", "$alt"})
_RESHAPING: Final = frozenset({"fields", "$fields", "callback", "$callback"})
"""They make another answer of it than the one that was promised: a part, or a script."""
_MAX_NAME: Final = 512
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")


def _gemini_call(endpoint: Endpoint, encoded: bytes, query: bytes) -> Asking:
    model, objection = _model(encoded)
    rest, key, formats, reshaping = _without_credentials(query)
    if reshaping:
        objection = f"the query parameter {reshaping} is not served: answers are given whole"
    objection = objection or _format_objection(endpoint, formats)
    return Asking(endpoint, model, rest, key, objection)


def _model(encoded: bytes) -> tuple[bytes, str]:
    """The name as JSON text, and what is wrong with it."""
    try:
        name = unquote_to_bytes(encoded).decode("utf-8")
    except UnicodeDecodeError:
        return b'""', "the model's name in the path is not UTF-8"
    if not name or len(name) > _MAX_NAME or _CONTROL.search(name) is not None:
        return b'""', f"the path names no model: 1 to {_MAX_NAME} printable characters"
    return msgspec.json.encode(name), ""


def _without_credentials(query: bytes) -> tuple[bytes, bytes, list[bytes], str]:
    """What is left of a query, the key that it showed, the formats that it asked for, and a parameter that reshapes
    answers. Names are compared as servers read them, decoded."""
    kept: list[bytes] = []
    formats: list[bytes] = []
    key, reshaping = b"", ""
    if not query:
        return b"", key, formats, reshaping
    for pair in query[1:].split(b"&"):
        name, _, value = pair.partition(b"=")
        plain = _plain(name)
        if plain in _CREDENTIALS:
            key = key or (unquote_to_bytes(value) if plain in _KEYS else b"")
        elif plain in _ALT:
            formats.append(unquote_to_bytes(value))
        elif plain in _RESHAPING:
            reshaping = plain
        elif pair:
            kept.append(pair)
    return b"?" + b"&".join(kept) if kept else b"", key, formats, reshaping


def _bare(query: bytes) -> bytes:
    """`query` without credentials, otherwise as it came."""
    if not query:
        return query
    pairs = query[1:].split(b"&")
    kept = [pair for pair in pairs if _plain(pair.partition(b"=")[0]) not in _CREDENTIALS]
    if len(kept) == len(pairs):
        return query
    return b"?" + b"&".join(kept) if kept else b""


def _plain(name: bytes) -> str:
    return unquote_to_bytes(name.replace(b"+", b" ")).decode("latin-1").strip().lower()


def _format_objection(endpoint: Endpoint, formats: list[bytes]) -> str:
    if endpoint is _STREAM:
        if formats == [b"sse"]:
            return ""
        return "streamGenerateContent is served as server-sent events alone: ask with `?alt=sse`"
    if formats in ([], [b"json"]):
        return ""
    return "this method answers with JSON alone: ask without `alt`"
