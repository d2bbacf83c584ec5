"""What a browser on the operator's machine must not be tricked into: on loopback the API may ask for no token.

DNS rebinding: a name of the attacker's that resolves to 127.0.0.1 arrives with its own Host, which is
refused. Cross-site writes: a browser sends Origin with every POST, which must be ours; and a form
cannot send JSON, which alone is taken (`bodies`).
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
    network, where a name proves nothing: tokens do, or the operator's word. Origins must match in any case.
    """

    def __init__(self, app: App, *, hosts: frozenset[str]) -> None:
        self._app = app
        self._hosts = hosts

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
        if origin is not None and urlsplit(origin.lower()).netloc != host:
            return 403, "the Origin of a change must be this replica"
        return None


def own_hosts(host: str, port: int, advertised: str | None) -> frozenset[str]:
    """Every way to name a listener on loopback."""
    names = {"localhost", "127.0.0.1", "[::1]", host.lower()}
    hosts = {f"{name}:{port}" for name in names} | names
    if advertised is not None:
        hosts.add(urlsplit(advertised.lower()).netloc)
    return frozenset(hosts)
