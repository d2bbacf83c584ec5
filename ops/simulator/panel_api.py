"""The admin port: the fault panel and what tests want to know, as JSON.

GET /livez · GET, PUT, DELETE /faults · GET, PUT, DELETE /faults/{owner} · GET /stats · GET, DELETE /requests
"""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from ops.simulator.faults import NO_FAULTS, BadFaults, Faults, Panel, decode, decode_owned
from ops.simulator.http1 import Connection, Request
from ops.simulator.reply import Json
from ops.simulator.target import Target

_OWNER = re.compile(r"[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class PanelApi:
    """Handles the requests of the admin port. `apply` returns once the listener does as it is told."""

    target: Target
    panel: Panel
    read: Callable[[str], tuple[Faults, float | None]]
    """An owner's faults in force and the seconds until they are undone."""
    apply: Callable[[Faults, str], Awaitable[None]]
    connections: Callable[[], int]

    async def handle(self, connection: Connection, request: Request) -> None:
        """Answer one request. None that a web page sends: browsers name the page's Origin, nobody else does."""
        if "origin" in request.headers:
            await _problem(connection, 403, "a web page may not do this: the request names an Origin")
            return
        if request.path.startswith("/faults/"):
            await self._owned(connection, request, request.path.removeprefix("/faults/"))
            return
        match request.method, request.path:
            case "GET", "/livez":
                await self._ok(connection, {"status": "ok", **self._identity()})
            case "GET", "/faults":
                await self._faults(connection, "")
            case "PUT", "/faults":
                await self._put(connection, request, "")
            case "DELETE", "/faults":
                await self.apply(NO_FAULTS, "")
                await self._faults(connection, "")
            case "GET", "/stats":
                await self._ok(connection, self._stats())
            case "GET", "/requests":
                await self._ok(connection, {"requests": list(self.target.recent)})
            case "DELETE", "/requests":
                self.target.recent.clear()
                await self._ok(connection, {"requests": []})
            case _, "/livez" | "/faults" | "/stats" | "/requests":
                await _problem(connection, 405, f"{request.path} does not take {request.method}")
            case _:
                await _problem(connection, 404, f"no {request.path} here")

    async def _owned(self, connection: Connection, request: Request, owner: str) -> None:
        """The faults of one owner, which may be put for a while only."""
        if _OWNER.fullmatch(owner) is None:
            await _problem(connection, 400, "an owner is 1 to 63 of a-z 0-9 . _ -", field="owner")
        elif request.method == "PUT":
            await self._put(connection, request, owner)
        elif request.method not in ("GET", "DELETE"):
            await _problem(connection, 405, f"/faults/{owner} does not take {request.method}")
        elif owner not in self.panel.owned:
            await _problem(connection, 404, f"{owner} holds no faults: they were never put, or have ended")
        else:
            if request.method == "DELETE":
                await self.apply(NO_FAULTS, owner)
            await self._faults(connection, owner)

    async def _put(self, connection: Connection, request: Request, owner: str) -> None:
        try:
            await self.apply((decode_owned if owner else decode)(request.body), owner)
        except BadFaults as bad:
            await _problem(connection, 400, str(bad), field=bad.field)
            return
        await self._faults(connection, owner)

    async def _faults(self, connection: Connection, owner: str) -> None:
        shown = self._shown(owner)
        if not owner and (owners := sorted(filter(None, self.panel.owned))):
            shown["owners"] = {each: self._shown(each) for each in owners}
        await self._ok(connection, shown)

    def _shown(self, owner: str) -> Json:
        faults, left_s = self.read(owner)
        return {**msgspec.to_builtins(faults), **({} if left_s is None else {"remaining_s": left_s})}

    async def _ok(self, connection: Connection, value: Any) -> None:
        await connection.respond(200, msgspec.json.encode(value))

    def _identity(self) -> Json:
        identity = self.target.identity
        return {
            "id": identity.id,
            "region": identity.region,
            "provider": identity.provider,
            "model": identity.model,
        }

    def _stats(self) -> Json:
        stats = self.target.stats
        return {
            **self._identity(),
            "requests": stats.requests,
            "inflight": stats.inflight,
            "connections": self.connections(),
            "aborted": stats.aborted,
            "faulted": stats.faulted,
            "tokens_sent": stats.tokens_sent,
            "by_path": dict(stats.by_path),
        }


async def _problem(connection: Connection, status: int, detail: str, *, field: str | None = None) -> None:
    """RFC 9457."""
    body: Json = {"type": "about:blank", "status": status, "detail": detail}
    if field is not None:
        body["field"] = field
    await connection.respond(status, msgspec.json.encode(body), content_type="application/problem+json")
