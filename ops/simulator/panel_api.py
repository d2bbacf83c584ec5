"""The admin port: the fault panel and what tests want to know, as JSON.

GET /livez · GET, PUT, DELETE /faults · GET /stats · GET, DELETE /requests
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from ops.simulator.faults import NO_FAULTS, BadFaults, Faults, decode
from ops.simulator.http1 import Connection, Request
from ops.simulator.reply import Json
from ops.simulator.target import Target


@dataclass(frozen=True, slots=True)
class PanelApi:
    """Handles the requests of the admin port. `apply` returns once the listener does as it is told."""

    target: Target
    read: Callable[[], tuple[Faults, float | None]]
    """The faults in force and the seconds until they are undone."""
    apply: Callable[[Faults], Awaitable[None]]
    connections: Callable[[], int]

    async def handle(self, connection: Connection, request: Request) -> None:
        """Answer one request."""
        match request.method, request.path:
            case "GET", "/livez":
                await self._ok(connection, {"status": "ok", **self._identity()})
            case "GET", "/faults":
                await self._faults(connection)
            case "PUT", "/faults":
                try:
                    faults = decode(request.body)
                except BadFaults as bad:
                    await _problem(connection, 400, str(bad), field=bad.field)
                    return
                await self.apply(faults)
                await self._faults(connection)
            case "DELETE", "/faults":
                await self.apply(NO_FAULTS)
                await self._faults(connection)
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

    async def _faults(self, connection: Connection) -> None:
        faults, left_s = self.read()
        await self._ok(
            connection, {**msgspec.to_builtins(faults), **({} if left_s is None else {"remaining_s": left_s})}
        )

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
