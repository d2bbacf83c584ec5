"""Who may ask what: a role for every operation, and a token for every caller.

invariant   An operation without a role in `ROLES` cannot be served: the application is not built.
closed      Where tokens are configured, whoever has none is told 401 before anything else is looked at,
            names of things that do not exist included.
guessing    Tokens are 256 random bits (`leeward token`), so guessing is hopeless; what is bounded is the
            noise, by peer. A right token is let in at any time: behind one address stand many callers,
            and one with an old token must not lock the others out.
"""

import hashlib
import hmac
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from math import ceil
from re import Pattern
from typing import Any

from fastapi.routing import iter_route_contexts
from starlette.routing import BaseRoute

from control_plane.api.problems import problem
from control_plane.caller import CALLER, Caller
from shared.clock import Clock
from shared.log import get_logger
from shared.vocabulary.node import ANONYMOUS, Api, ApiToken
from shared.vocabulary.terms import ApiRole

log = get_logger(__name__)

Scope = dict[str, Any]
Receive = Callable[[], Any]
Send = Callable[[Any], Any]
App = Callable[[Any, Any, Any], Any]

OPEN = frozenset[ApiRole]()
"""Nobody needs a token for it."""
ALL = frozenset(ApiRole)
OWN = frozenset({ApiRole.ADMIN})
STEER = OWN | {ApiRole.OPERATOR}
READ = STEER | {ApiRole.VIEWER}
FOLLOW = READ | {ApiRole.EDGE}
REPORT = OWN | {ApiRole.EDGE}

METRICS = "/metrics"
ROLES: Mapping[str, frozenset[ApiRole]] = {
    "GET /": OPEN,
    "GET /app.css": OPEN,
    "GET /app.js": OPEN,
    "GET /livez": OPEN,
    "GET /readyz": OPEN,
    "GET /metrics": READ,
    "GET /openapi.json": READ,
    "GET /v1/whoami": ALL,
    "GET /v1/health": READ,
    "GET /v1/health/regions/{region}": READ,
    "GET /v1/health/targets/{target}": READ,
    "GET /v1/decisions": READ,
    "GET /v1/decisions/current": READ,
    "GET /v1/decisions/{version}": READ,
    "GET /v1/edges": READ,
    "GET /v1/leader": READ,
    "GET /v1/audit": READ,
    "GET /v1/live": READ,
    "GET /v1/stream": FOLLOW,
    "POST /v1/acks": REPORT,
    "POST /v1/plan": STEER,
    "GET /v1/overrides": READ,
    "POST /v1/overrides": STEER,
    "GET /v1/overrides/{name}": READ,
    "DELETE /v1/overrides/{name}": STEER,
    "GET /v1/rollouts": READ,
    "POST /v1/rollouts": STEER,
    "GET /v1/rollouts/{name}": READ,
    "POST /v1/rollouts/{name}/abort": STEER,
    "POST /v1/rollouts/{name}/end": STEER,
    "GET /v1/drills": READ,
    "POST /v1/drills": STEER,
    "GET /v1/drills/catalogue": READ,
    "GET /v1/drills/schedules": READ,
    "POST /v1/drills/schedules": STEER,
    "DELETE /v1/drills/schedules/{name}": STEER,
    "GET /v1/drills/{name}": READ,
    "GET /v1/drills/{name}/report": READ,
    "POST /v1/drills/{name}/claim": STEER,
    "PUT /v1/drills/{name}/progress": STEER,
    "POST /v1/drills/{name}/finish": STEER,
    "POST /v1/drills/{name}/abort": STEER,
    "GET /v1/config": READ,
    "PUT /v1/config": OWN,
    "GET /v1/config/versions": READ,
    "GET /v1/config/versions/{version}": READ,
    "POST /v1/config/rollback": OWN,
    "GET /v1/backup": OWN,
    "POST /v1/restore": OWN,
}
"""`METHOD /path/{parameter}` -> who may, whatever the parameters are called."""

MAX_PEERS = 1_024
WRONG_PER_WINDOW = 20
WINDOW_S = 60.0
FORWARDED = frozenset({b"forwarded", b"via", b"x-forwarded-for", b"x-real-ip"})
"""Written by whoever passes on the request of another: then the peer is not who asks."""


class Unstated(LookupError):
    """An operation for which `ROLES` names no role."""


@dataclass(frozen=True, slots=True)
class Gate:
    """An operation, and who may."""

    method: str
    path: Pattern[str]
    roles: frozenset[ApiRole]


def gates(
    routes: Sequence[BaseRoute], *, roles: Mapping[str, frozenset[ApiRole]] = ROLES
) -> tuple[Gate, ...]:
    """One for every operation of `routes`, in the order in which the router looks at them. Raises Unstated."""
    stated = {_shape(operation): who for operation, who in roles.items()}
    found = []
    for route in iter_route_contexts(routes):
        for method in sorted(route.methods or ()):
            operation = f"{'GET' if method == 'HEAD' else method} {route.path}"
            if (who := stated.get(_shape(operation))) is None:
                raise Unstated(f"{operation} has no role: say in control_plane/api/access.py who may ask it")
            found.append(Gate(method, route.path_regex, who))
        if not route.methods:
            raise Unstated(f"{route.path} serves any method: who may ask it cannot be said")
    return tuple(found)


def _shape(operation: str) -> str:
    """Without the names of the parameters."""
    return "/".join("{}" if part.startswith("{") else part for part in operation.split("/"))


class Tokens:
    """The tokens of the node file."""

    def __init__(
        self,
        tokens: Iterable[ApiToken],
        *,
        equal: Callable[[bytes, bytes], bool] = hmac.compare_digest,
    ) -> None:
        self._known = [(bytes.fromhex(token.sha256), Caller(token.id, token.role)) for token in tokens]
        self._equal = equal

    def __bool__(self) -> bool:
        return bool(self._known)

    def find(self, token: bytes) -> Caller | None:
        """Whose it is. Takes as long for a wrong one as for a right one, whichever it is."""
        digest = hashlib.sha256(token).digest()
        found = None
        for known, caller in self._known:
            if self._equal(known, digest):
                found = caller
        return found


class Brake:
    """How many wrong tokens each peer may present in a minute. Bounded: of too many peers, those that
    began longest ago are forgotten."""

    def __init__(self) -> None:
        self._wrong: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def wait_s(self, peer: str, now: float) -> float:
        """Note one more at `now`, monotonic; how long to wait before the next, 0 while there are few."""
        began, count = self._wrong.get(peer, (now, 0))
        if now - began >= WINDOW_S:
            began, count = now, 0
            self._wrong.pop(peer, None)
        self._wrong[peer] = (began, min(count + 1, WRONG_PER_WINDOW + 1))
        if len(self._wrong) > MAX_PEERS:
            self._wrong.popitem(last=False)
        return began + WINDOW_S - now if count >= WRONG_PER_WINDOW else 0.0


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer in the place of what was asked for."""

    status: int
    detail: str
    headers: Mapping[str, str]


class Access:
    """ASGI middleware: says who asks, and lets through what they may. Leaves the caller in
    `control_plane.caller.CALLER` for as long as the request lasts."""

    def __init__(self, app: App, *, api: Api, gates: Sequence[Gate], clock: Clock) -> None:
        self._app = app
        self._api = api
        self._gates = gates
        self._clock = clock
        self._tokens = Tokens(api.tokens)
        self._brake = Brake()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        roles = self._roles(scope)
        caller = self._caller(scope, roles)
        if isinstance(caller, Caller) and roles:
            caller = _permitted(caller, roles, scope)
        if isinstance(caller, Refusal):
            answer = problem(caller.status, caller.detail, instance=scope["path"], headers=caller.headers)
            await answer(scope, receive, send)
            return
        mark = CALLER.set(caller)
        try:
            await self._app(scope, receive, send)
        finally:
            CALLER.reset(mark)

    def _caller(self, scope: Scope, roles: frozenset[ApiRole] | None) -> Caller | Refusal | None:
        """Who asks; None for somebody without a token at what is open."""
        if not self._tokens:
            return Caller(ANONYMOUS, ApiRole.ADMIN)
        if roles == OPEN:
            return None
        presented = [value for name, value in scope["headers"] if name.lower() == b"authorization"]
        if not presented:
            if self._api.anonymous_loopback and from_this_machine(scope):
                return Caller(ANONYMOUS, ApiRole.ADMIN)
            return Refusal(401, "this replica wants a token: Authorization: Bearer TOKEN", _challenge())
        if (token := bearer(presented)) is None:
            return Refusal(401, "Authorization must be one Bearer token", _challenge("invalid_request"))
        caller = self._tokens.find(token)
        return caller if caller is not None else self._wrong(scope)

    def _wrong(self, scope: Scope) -> Refusal:
        peer = str((scope.get("client") or ("unknown",))[0])
        wait_s = self._brake.wait_s(peer, self._clock.monotonic())
        if wait_s > 0:
            return Refusal(429, "too many wrong tokens from there", {"retry-after": f"{ceil(wait_s)}"})
        log.warning("a wrong token was presented", peer=peer)
        return Refusal(401, "no such token", _challenge("invalid_token"))

    def _roles(self, scope: Scope) -> frozenset[ApiRole] | None:
        """Who may; None where there is no such operation, which the router then says."""
        for gate in self._gates:
            if gate.method == scope["method"] and gate.path.match(scope["path"]):
                open_metrics = self._api.metrics_open and scope["path"] == METRICS
                return OPEN if open_metrics else gate.roles
        return None


def _permitted(caller: Caller, roles: frozenset[ApiRole], scope: Scope) -> Caller | Refusal:
    if caller.role in roles:
        return caller
    may = ", ".join(role.value for role in ApiRole if role in roles)
    return Refusal(
        403,
        f"{caller.name} is {caller.role.value}; {scope['method']} {scope['path']} is for {may}",
        _challenge("insufficient_scope"),
    )


def bearer(presented: Sequence[bytes]) -> bytes | None:
    """The token of one `Authorization: Bearer` (RFC 6750, section 2.1); None for anything else."""
    if len(presented) != 1:
        return None
    scheme, _, token = presented[0].strip().partition(b" ")
    token = token.strip()
    return token if scheme.lower() == b"bearer" and token and b" " not in token else None


def from_this_machine(scope: Scope) -> bool:
    """Whether a process of this machine asks for itself, by a name of this machine.

    What a proxy here passes on is somebody else's; and by another name it may be a page that
    somebody's browser here was tricked into loading (`guard`).
    """
    headers = [(name.lower(), value) for name, value in scope["headers"]]
    if any(name in FORWARDED for name, _ in headers):
        return False
    host = next((value.decode("latin-1") for name, value in headers if name == b"host"), "")
    name = host[: host.rfind("]") + 1] if host.startswith("[") else host.partition(":")[0]
    peer = scope.get("client")
    return peer is not None and is_loopback(str(peer[0])) and is_loopback(name.lower())


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches it."""
    bare = host.strip("[]")
    if bare == "localhost":
        return True
    try:
        return ip_address(bare).is_loopback
    except ValueError:
        return False


def _challenge(error: str | None = None) -> dict[str, str]:
    """RFC 6750, section 3: no error code where no token was presented."""
    return {"www-authenticate": 'Bearer realm="leeward"' + (f', error="{error}"' if error else "")}
