"""Who may come in, and which route takes a request: read off the table, before any target is thought of.

The head alone decides first (path, method, key, size), so that nobody without a key can make the edge
read a body; then the body's model decides the route.
"""

import re
from typing import Final

import msgspec

from edge_router.core.answers import Refusal
from edge_router.core.body import Asked, Unreadable, read_call
from edge_router.core.endpoints import ENDPOINTS, PLAIN, Endpoint
from edge_router.core.table import KeyScope, RouteEntry, RouteTable
from edge_router.core.wire import RequestHead
from shared.vocabulary.terms import Dialect

MAX_BODY_BYTES: Final = 32 * 1024 * 1024
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


def admit(table: RouteTable, head: RequestHead) -> Admitted:
    """Whether `head` may come in. Raises Turned."""
    endpoint = ENDPOINTS.get(head.path)
    route = None
    if endpoint is None:
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
            "no valid key was shown: send one as `Authorization: Bearer KEY` or `x-api-key`",
            endpoint.dialect,
            b'www-authenticate: Bearer realm="leeward"\r\n',
        )
    if route is not None and scope.routes is not None and route.id not in scope.routes:
        raise Turned(Refusal.KEY_WITHOUT_ROUTE, f"this key may not use route {route.id}", endpoint.dialect)
    if head.content_length is not None and head.content_length > MAX_BODY_BYTES:
        raise too_large(endpoint.dialect)
    return Admitted(table, endpoint, scope, route)


def route_of(admitted: Admitted, body: bytes) -> tuple[RouteEntry, Asked | None]:
    """The route that takes the request, and for a model call what it asks. Raises Turned."""
    if admitted.route is not None:
        return admitted.route, None
    dialect = admitted.endpoint.dialect
    try:
        asked = read_call(body)
    except Unreadable as error:
        raise Turned(Refusal.BAD_BODY, str(error), dialect) from None
    route = admitted.table.models.get(asked.model)
    if route is None or route.dialect is not dialect:
        name = asked.model[1:-1].decode("utf-8", "replace")[:256]
        raise Turned(Refusal.NO_MODEL, f"there is no model {name!r} here", dialect)
    scope = admitted.scope
    if scope.routes is not None and route.id not in scope.routes:
        raise Turned(Refusal.KEY_WITHOUT_ROUTE, f"this key may not use route {route.id}", dialect)
    return route, asked


def dialect_of(head: RequestHead) -> Dialect:
    """In which envelope to tell the sender of `head` about an error."""
    endpoint = ENDPOINTS.get(head.path)
    return endpoint.dialect if endpoint is not None else Dialect.OPENAI


def too_large(dialect: Dialect) -> Turned:
    """The body is over the limit."""
    return Turned(Refusal.TOO_LARGE, f"the body is over {MAX_BODY_BYTES} bytes", dialect)


def _by_path(table: RouteTable, path: bytes) -> RouteEntry:
    if table.paths and _TRAVERSAL.search(path) is None:
        segments = path.split(b"/", _MAX_SEGMENTS)[:_MAX_SEGMENTS]
        for length in range(len(segments), 0, -1):
            route = table.paths.get(b"/".join(segments[:length]))
            if route is not None:
                return route
    raise Turned(Refusal.NO_PATH, f"there is nothing at {path.decode()[:256]}", Dialect.OPENAI)
