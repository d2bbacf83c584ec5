"""Injectors over the real things: what was put ends when its driver says nothing more, and when it is gone."""

import asyncio
import os
import random
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
from prometheus_client import CollectorRegistry

from edge_router.adapters.fault_panel import routes
from edge_router.core.fault_filter import FaultFilter
from ops.client import ControlPlanes
from ops.drill.injectors.make import HttpInjectors
from ops.drill.ports import Injector, Place
from ops.simulator.app import Simulator
from ops.simulator.identity import identity_of
from shared.admin import serve_admin
from shared.clock import SystemClock
from shared.vocabulary.drill import DrillFault
from tests.support.keeper import Kept, until


@asynccontextmanager
async def injector(fault: dict[str, Any], place: Place, kept: Kept | None = None) -> AsyncIterator[Injector]:
    """One whose driver's client lives no longer than the block."""
    async with httpx2.AsyncClient(trust_env=False) as client:
        injectors = HttpInjectors(client, ControlPlanes(client, []), stack=kept and kept.stack)
        yield injectors.at(DrillFault.model_validate(fault), place, author="drill-1", reason="rehearsed")


async def seen(look: Any, timeout_s: float = 15.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not await look():
            await asyncio.sleep(0.05)


async def test_the_panel_undoes_what_its_driver_left() -> None:
    """Put, renewed, and gone by itself; undone at once when asked."""
    async with (
        Simulator(identity_of("alpha-us-east")) as target,
        httpx2.AsyncClient(trust_env=False) as client,
    ):

        async def fails() -> bool:
            return (await client.get(f"{target.url}/models")).status_code == 503

        place = Place("drill-1.0", "alpha-us-east", url=target.admin_url, targets=("alpha-us-east",))
        async with injector({"fault": "errors", "by": "panel"}, place) as made:
            await made.put(for_s=60)
            assert await fails()
            await made.undo()
            assert not await fails()
            await made.undo()
            await made.put(for_s=60)
            await made.renew(for_s=0.5)
        assert await fails()

        async def well() -> bool:
            return not await fails()

        await seen(well)


async def test_a_partition_cuts_off_one_regions_probers() -> None:
    """Those of the region get no answer, everybody else does."""
    async with Simulator(identity_of("alpha-us-east")) as target:
        place = Place("drill-1.0", "w", url=target.admin_url, targets=("alpha-us-east",), observer="eu-west")
        async with (
            injector({"fault": "partition", "by": "panel", "processes": ["prober"]}, place) as made,
            httpx2.AsyncClient(trust_env=False, timeout=0.5) as client,
        ):
            await made.put(for_s=60)

            async def answered(agent: str) -> bool:
                try:
                    answer = await client.get(f"{target.url}/models", headers={"user-agent": agent})
                except httpx2.ReadTimeout:
                    return False
                return answer.status_code == 200

            assert not await answered("leeward-prober/eu-west")
            assert await answered("leeward-prober/us-east")
            assert await answered("python")


async def test_the_edges_filter_undoes_what_its_driver_left() -> None:
    """As the panel does."""
    clock = SystemClock()
    faults = FaultFilter(random.Random(1).random)
    server = await serve_admin(
        "127.0.0.1:0",
        registry=CollectorRegistry(),
        ready=lambda: None,
        status=dict,
        more=routes(faults, clock=clock),
    )
    try:
        place = Place("drill-1.0", "edge", url=server.url, targets=("alpha-us-east",))
        async with injector({"fault": "refuse", "by": "edge"}, place) as made:
            await made.put(for_s=60)
            await made.undo()
            assert faults.strike("alpha-us-east", clock.monotonic()) is None
            await made.put(for_s=60)
            await made.renew(for_s=0.5)
        assert faults.strike("alpha-us-east", clock.monotonic()) is not None

        async def over() -> bool:
            return faults.strike("alpha-us-east", clock.monotonic()) is None

        await seen(over)
    finally:
        await server.close()


async def test_the_keeper_undoes_what_its_driver_left(tmp_path: Path) -> None:
    """By its time to live; and a driver that finds the keeper gone undoes it from what is on file."""
    kept = await asyncio.to_thread(Kept, tmp_path)
    try:
        place = Place("drill-1.0", "edge-a", url=kept.url, processes=("edge-a",))
        async with injector({"fault": "stop", "by": "stack"}, place) as made:
            await made.put(for_s=0.5)
        assert kept.state("edge-a") == "T"
        await asyncio.to_thread(until, "it goes on", lambda: kept.lives("edge-a"))
        async with injector({"fault": "stop", "by": "stack"}, place, kept) as made:
            await made.put(for_s=200)
            outer, inner = kept.record("keeper").pid, kept.inner()
            assert outer is not None
            os.kill(outer, signal.SIGSTOP)  # or it would start the inner one again
            os.kill(inner, signal.SIGKILL)
            os.kill(outer, signal.SIGKILL)
            await asyncio.to_thread(until, "it is gone", lambda: not kept.record("keeper").alive)
            assert kept.state("edge-a") == "T"
            await made.undo()
            assert kept.lives("edge-a")
    finally:
        await asyncio.to_thread(kept.close)
