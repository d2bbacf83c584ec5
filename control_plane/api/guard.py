"""What a browser on the operator's machine must not be tricked into: on loopback the API may ask for no token.

DNS rebinding: a name of the attacker's that resolves to 127.0.0.1 arrives with its own Host, which is
refused. Cross-site writes: a browser sends Origin with every POST, which must be ours, by scheme, host
and port; and a form cannot send JSON, which alone is taken (`bodies`).
"""

from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

from control_plane.api.access import is_loopback
from control_plane.api.problems import problem

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
App = Callable[[Any, Any, Any], Awaitable[None]]

WRITES = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_PORTS = {"http": 80, "https": 443}


class ListenRefused(PermissionError):
    """Listening there would let anybody on the network steer the fleet."""


def check_listen(host: str, *, tokens: bool, insecure: bool) -> None:
    """Raises ListenRefused for an address that other machines can reach, where whoever reaches it may do
    everything: without `tokens`, unless the operator insists.

    `LEEWARD_INSECURE_LISTEN=1` is that insistence: for container networks where something else guards
    the port.
    """
    if tokens or insecure or is_loopback(host):
        return
    raise ListenRefused(
        f"listen {host!r} is reachable from other machines and the API has no tokens: name some under "
        "node.api.tokens (`leeward token` makes one), listen on 127.0.0.1, or set "
        "LEEWARD_INSECURE_LISTEN=1 where the network itself is trusted"
    )


class Guard:
    """ASGI middleware: refuses foreign Hosts, and writes from foreign Origins.

    `hosts` are the values of Host that are ours, lower case; empty where the listener is open to the
    network, where a name proves nothing: tokens do, or the operator's word. Origins must match in any case:
    the request's own scheme and Host, or `advertised`, where something in front of this speaks TLS.
    """

    def __init__(self, app: App, *, hosts: frozenset[str], advertised: str | None = None) -> None:
        self._app = app
        self._hosts = hosts
        self._advertised = None if advertised is None else _origin(advertised)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            refusal = self._refusal(scope)
            if refusal is not None:
                status, detail = refusal
                await problem(status, detail, instance=scope["path"])(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        host = headers.get(b"host", "").lower()
        if self._hosts and host not in self._hosts:
            return 421, "this replica is not the host that the request names"
        if scope["method"] not in WRITES:
            return None
        origin = headers.get(b"origin")
        if origin is None:
            return None
        named, ours = _origin(origin), _origin(f"{scope['scheme']}://{host}")
        # Who was asked by another name than the advertised one is not what stands in front of us.
        fronted = named is not None and named == self._advertised and ours is not None and named[1] == ours[1]
        if named is None or (named != ours and not fronted):
            return 403, "the Origin of a change must be this replica, by scheme, host and port"
        return None


def _origin(url: str) -> tuple[str, str, int] | None:
    """Scheme, host and port; None for what is no origin of the web, as `null` is none."""
    try:
        parts = urlsplit(url.lower())
        if parts.scheme not in _PORTS or not parts.hostname:
            return None
        return parts.scheme, parts.hostname, parts.port or _PORTS[parts.scheme]
    except ValueError:
        return None


def own_hosts(host: str, port: int, advertised: str | None) -> frozenset[str]:
    """Every way to name a listener on loopback."""
    names = {"localhost", "127.0.0.1", "[::1]", host.lower()}
    hosts = {f"{name}:{port}" for name in names} | names
    if advertised is not None:
        hosts.add(urlsplit(advertised.lower()).netloc)
    return frozenset(hosts)
