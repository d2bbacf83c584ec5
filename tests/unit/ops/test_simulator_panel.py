"""The fault panel is not for web pages."""

import json
from typing import Any

import pytest

from ops.simulator.faults import Faults, Panel
from ops.simulator.http1 import Request
from ops.simulator.identity import Identity
from ops.simulator.panel_api import PanelApi
from ops.simulator.target import Pace, Target
from shared.clock import SystemClock


class Answered:
    """A connection that keeps the last answer."""

    status = 0
    body: Any = None

    async def respond(self, status: int, body: bytes = b"", **more: Any) -> None:
        self.status, self.body = status, json.loads(body)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", "/faults"),
        ("DELETE", "/faults"),
        ("PUT", "/faults/ann"),
        ("DELETE", "/requests"),
        ("GET", "/stats"),
    ],
)
async def test_what_names_an_origin_is_refused(method: str, path: str) -> None:
    """Its own, too: whoever is asked by a browser cannot tell a page of its own from another's."""
    applied: list[Faults] = []

    async def apply(faults: Faults, owner: str) -> None:
        applied.append(faults)

    def read(owner: str) -> tuple[Faults, float | None]:
        return Faults(), None

    panel = Panel()
    target = Target(Identity("a", "east", "p", "m"), Pace(0, 0), panel, SystemClock())
    api = PanelApi(target, panel, read, apply, lambda: 0)
    body = b'{"for_s": 5}'

    async def status(**headers: str) -> int:
        answered = Answered()
        await api.handle(answered, Request(method, path, headers, body))  # type: ignore[arg-type]
        return answered.status

    for origin in ("http://evil.example", "http://127.0.0.1:7650", "null"):
        assert await status(origin=origin) == 403
    assert not applied
    assert await status() == 200
