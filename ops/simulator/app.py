"""The process `leeward simulator`: one simulated target on one port, its fault panel on another."""

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Self

from ops.simulator.faults import NO_FAULTS, Faults, Panel
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
        self._panel = Panel(on_change=self._changed)
        self._target = Target(identity, pace or Pace(0.0, 0.0), self._panel, clock or SystemClock())
        self._site = Site(
            self._target.handle,
            host=host,
            port=port,
            supervisor=self._supervisor,
            on_accept=self._target.accepted,
        )
        api = PanelApi(self._target, self._in_force, self.apply, lambda: len(self._site.connections))
        self._admin = Site(api.handle, host=admin_host or host, port=admin_port, supervisor=self._supervisor)
        self._drain_s = drain_s
        self._ends_at: float | None = None
        self._schedule: asyncio.Task[None] | None = None

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
        if self._schedule is not None:
            self._schedule.cancel()
        await self._site.shut(drain_s=self._drain_s)
        await self._admin.shut()
        await self._supervisor.stop()

    async def apply(self, faults: Faults) -> None:
        """Put `faults` in force in place of all others; returns once the listener does as it is told."""
        self._panel.put(faults)
        await self._follow(down=faults.refuse or faults.flap is not None)

    def _in_force(self) -> tuple[Faults, float | None]:
        left = None if self._ends_at is None else self._ends_at - asyncio.get_running_loop().time()
        return self._panel.faults, left

    def _changed(self) -> None:
        """Restart the schedule of what changes by itself: the end, and the phases of `flap`."""
        if self._schedule is not None:
            self._schedule.cancel()
            self._schedule = None
        faults = self._panel.faults
        self._ends_at = None
        if faults.for_s is not None:
            self._ends_at = asyncio.get_running_loop().time() + faults.for_s
        if faults.for_s is not None or faults.flap is not None:
            self._schedule = self._supervisor.spawn("fault-schedule", self._run_schedule(faults))

    async def _run_schedule(self, faults: Faults) -> None:
        try:
            async with asyncio.timeout_at(self._ends_at):
                await self._flap(faults)
        except TimeoutError:
            self._schedule = None  # this very task: putting NO_FAULTS must not cancel it
            self._panel.put(NO_FAULTS)
            await self._follow(down=False)

    async def _flap(self, faults: Faults) -> None:
        if faults.flap is None:
            await asyncio.Event().wait()  # for the end
            return
        while True:
            await asyncio.sleep(faults.flap.down_s)
            await self._follow(down=faults.refuse)
            await asyncio.sleep(faults.flap.up_s)
            await self._follow(down=True)

    async def _follow(self, *, down: bool) -> None:
        await (self._site.shut() if down else self._site.open())
