"""Who may come in, and which route takes a request: read off the table, before any target is thought of.

The head alone decides first (path, method, key, size), so that nobody without a key can make the edge
read a body; then the body's model decides the route.
"""

import re
from typing import Final

import msgspec

from edge_router.core.answers import Refusal
from edge_router.core.body import Asked, Unreadable, read_call
from edge_router.core.endpoints import PLAIN, Endpoint, Kind
from edge_router.core.gemini_calls import read_gemini_call
from edge_router.core.keys import KeyScope
from edge_router.core.paths import dialect_at
from edge_router.core.table import RouteEntry, RouteTable
from edge_router.core.wire import RequestHead
from shared.vocabulary.terms import Dialect

_MAX_SEGMENTS: Final = 32
_TRAVERSAL: Final = re.compile(rb"/\.\.?(?:/|$)|//|%(?:2[ef]|5c|00)|;", re.IGNORECASE)
"""What servers resolve in different ways, and so could lead out of a route's prefix."""


class Turned(Exception):
    """A request that is answered by the edge itself. `fields` are header lines for it."""

    def __init__(self, refusal: Refusal, message: str, dialect: Dialect, fields: bytes = b"") -> None:
        super().__init__(message)
        self.refusal = refusal
        self.message = message
        self.dialect = dialect
        self.fields = fields


class Admitted(msgspec.Struct, frozen=True):
    """A request that may come in. `route` is known before the body only for plain paths."""

    table: RouteTable
    endpoint: Endpoint
    scope: KeyScope
    route: RouteEntry | None


def admit(table: RouteTable, head: RequestHead, most_bytes: int) -> Admitted:
    """Whether `head` may come in, with a body of `most_bytes` at most. Raises Turned."""
    endpoint = head.asking.endpoint
    route = None
    if endpoint is None or (endpoint.kind is Kind.MODELS and _asks_otherwise(head)):
        route = _by_path(table, head.path)
        endpoint = PLAIN
    elif head.method != endpoint.method:
        raise Turned(
            Refusal.WRONG_METHOD,
            f"{head.path.decode()} takes {endpoint.method.decode()}",
            endpoint.dialect,
            b"allow: %b\r\n" % endpoint.method,
        )
    scope = table.keys.get(head.key_sha256)
    if scope is None:
        raise Turned(
            Refusal.NO_KEY,
            "no valid key was shown: send one as `Authorization: Bearer KEY`, `x-api-key` or `x-goog-api-key`",
            endpoint.dialect,
            b'www-authenticate: Bearer realm="leeward"\r\n',
        )
    if route is not None and scope.routes is not None and route.id not in scope.routes:
        raise Turned(Refusal.KEY_WITHOUT_ROUTE, f"this key may not use route {route.id}", endpoint.dialect)
    if head.content_length is not None and head.content_length > most_bytes:
        raise too_large(endpoint.dialect, most_bytes)
    if head.asking.objection:
        raise Turned(Refusal.MALFORMED, head.asking.objection, endpoint.dialect)
    return Admitted(table, endpoint, scope, route)


def route_of(admitted: Admitted, head: RequestHead, body: bytes) -> tuple[RouteEntry, Asked | None]:
    """The route that takes the request, and for a model call what it asks. Raises Turned."""
    if admitted.route is not None:
        return admitted.route, None
    dialect = admitted.endpoint.dialect
    try:
        asked = read_call(body) if head.asking.model is None else read_gemini_call(head.asking, body)
    except Unreadable as error:
        raise Turned(Refusal.BAD_BODY, str(error), dialect) from None
    route = admitted.table.models.get(asked.model)
    if route is None or route.dialect is Dialect.HTTP:
        raise _no_model(asked.model, dialect)
    scope = admitted.scope
    if scope.routes is not None and route.id not in scope.routes:
        raise Turned(Refusal.KEY_WITHOUT_ROUTE, f"this key may not use route {route.id}", dialect)
    return route, asked


def listed(admitted: Admitted, head: RequestHead) -> bytes:
    """The models that the key may ask for, or the one that the path names. Raises Turned."""
    dialect, model = admitted.endpoint.dialect, head.asking.model
    if model is None:
        return admitted.scope.models.whole[dialect]
    entry = admitted.scope.models.entry(model, dialect)
    if entry is None:
        raise _no_model(model, dialect)
    return entry


def dialect_of(head: RequestHead) -> Dialect:
    """In which envelope to tell the sender of `head` about an error."""
    endpoint = head.asking.endpoint
    return endpoint.dialect if endpoint is not None else dialect_at(head.path)


def too_large(dialect: Dialect, most_bytes: int) -> Turned:
    """The body is over the limit."""
    return Turned(Refusal.TOO_LARGE, f"the body is over {most_bytes} bytes", dialect)


def _no_model(model: bytes, dialect: Dialect) -> Turned:
    name = model[1:-1].decode("utf-8", "replace")[:256]
    return Turned(Refusal.NO_MODEL, f"there is no model {name!r} here", dialect)


def _by_path(table: RouteTable, path: bytes) -> RouteEntry:
    if table.paths and _TRAVERSAL.search(path) is None:
        segments = path.split(b"/", _MAX_SEGMENTS)[:_MAX_SEGMENTS]
        for length in range(len(segments), 0, -1):
            route = table.paths.get(b"/".join(segments[:length]))
            if route is not None:
                return route
    raise Turned(Refusal.NO_PATH, f"there is nothing at {path.decode()[:256]}", dialect_at(path))


def _asks_otherwise(head: RequestHead) -> bool:
    """Whether what looks like an entry of the models' list is something else below it: most likely a method of
    Gemini's that is not served here, which a plain route may serve."""
    return head.asking.model is not None and head.method != b"GET"
