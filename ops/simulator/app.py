"""The process `leeward simulator`: one simulated target on one port, its fault panel on another."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from ops.simulator.faults import NO_FAULTS, Faults, Flap, Panel
from ops.simulator.http1 import Site
from ops.simulator.identity import Identity
from ops.simulator.panel_api import PanelApi
from ops.simulator.target import Pace, Target
from shared.clock import Clock, SystemClock
from shared.signals import ended_by_signal
from shared.supervise import Supervisor

DRAIN_S = 2.0


async def run(
    *,
    id: str,  # noqa: A002  (the word that the whole vocabulary has for it)
    region: str,
    provider: str,
    model: str,
    port: int,
    admin_port: int,
    host: str = "127.0.0.1",
    admin_host: str | None = None,
    ttft_ms: float = 20.0,
    tokens_per_s: float = 200.0,
    started: Callable[[], None] | None = None,
) -> None:
    """Serve until cancelled, SIGTERM or SIGINT; then let answers under way finish for 2 s.

    `admin_host` is `host` when absent. `started` is called once both ports listen. Raises OSError when one of them is taken.
    """
    with ended_by_signal() as ended:
        async with Simulator(
            Identity(id=id, region=region, provider=provider, model=model),
            host=host,
            port=port,
            admin_host=admin_host,
            admin_port=admin_port,
            pace=Pace(ttft_ms=ttft_ms, tokens_per_s=tokens_per_s),
            drain_s=DRAIN_S,
        ):
            if started is not None:
                started()
            await ended.wait()


class Simulator:
    """One simulated target, as an async context. Port 0 takes any free one; `url` and `admin_url` say which."""

    def __init__(
        self,
        identity: Identity,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        admin_host: str | None = None,
        admin_port: int = 0,
        pace: Pace | None = None,
        drain_s: float = 0.0,
        clock: Clock | None = None,
    ) -> None:
        self._supervisor = Supervisor()
        self._panel = Panel()
        self._target = Target(identity, pace or Pace(0.0, 0.0), self._panel, clock or SystemClock())
        self._site = Site(
            self._target.handle,
            host=host,
            port=port,
            supervisor=self._supervisor,
            on_accept=self._target.accepted,
        )
        api = PanelApi(
            self._target, self._panel, self._in_force, self.apply, lambda: len(self._site.connections)
        )
        self._admin = Site(api.handle, host=admin_host or host, port=admin_port, supervisor=self._supervisor)
        self._drain_s = drain_s
        self._endings: dict[str, _Ending] = {}
        self._flap: Flap | None = None
        self._flapping: asyncio.Task[None] | None = None
        self._flapped_down = False

    @property
    def url(self) -> str:
        """Base URL of the model port."""
        return f"http://{self._site.host}:{self._site.port}/v1"

    @property
    def admin_url(self) -> str:
        """Base URL of the admin port."""
        return f"http://{self._admin.host}:{self._admin.port}"

    async def __aenter__(self) -> Self:
        try:
            await self._site.open()
            await self._admin.open()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Stop listening, end everything."""
        for ending in self._endings.values():
            ending.task.cancel()
        if self._flapping is not None:
            self._flapping.cancel()
        await self._site.shut(drain_s=self._drain_s)
        await self._admin.shut()
        await self._supervisor.stop()

    async def apply(self, faults: Faults, owner: str = "") -> None:
        """Put `faults` in force in place of all others of this owner; returns once the listener does as
        it is told. Raises BadFaults when there are too many owners."""
        self._panel.put(faults, owner)
        ending = self._endings.pop(owner, None)
        if ending is not None:
            ending.task.cancel()
        if faults.for_s is not None:
            at = asyncio.get_running_loop().time() + faults.for_s
            self._endings[owner] = _Ending(at, self._supervisor.spawn("fault-end", self._end(owner, at)))
        await self._follow()

    def _in_force(self, owner: str) -> tuple[Faults, float | None]:
        ending = self._endings.get(owner)
        left = None if ending is None else ending.at - asyncio.get_running_loop().time()
        return self._panel.held(owner), left

    async def _end(self, owner: str, at: float) -> None:
        await asyncio.sleep(at - asyncio.get_running_loop().time())
        self._endings.pop(owner, None)
        self._panel.put(NO_FAULTS, owner)
        await self._follow()

    async def _follow(self) -> None:
        """Have the listener do as the panel now says."""
        flap = self._panel.flap
        if flap != self._flap:
            self._flap = flap
            self._flapped_down = flap is not None
            if self._flapping is not None:
                self._flapping.cancel()
            self._flapping = None if flap is None else self._supervisor.spawn("flap", self._flaps(flap))
        await self._set_listener()

    async def _flaps(self, flap: Flap) -> None:
        while True:
            await asyncio.sleep(flap.down_s)
            self._flapped_down = False
            await self._set_listener()
            await asyncio.sleep(flap.up_s)
            self._flapped_down = True
            await self._set_listener()

    async def _set_listener(self) -> None:
        await (self._site.shut() if self._panel.refuses or self._flapped_down else self._site.open())


@dataclass(frozen=True, slots=True)
class _Ending:
    """When an owner's faults are undone, by the loop's clock."""

    at: float
    task: asyncio.Task[None]
