"""One prober process, built by hand."""

import asyncio
import random
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from prober.core.board import Board
from prober.core.schedule import Schedule
from prober.loops.follow import Follow
from prober.loops.observe import Observe
from prober.loops.publish import Publish
from prober.metrics import Metrics
from prober.ports import Probe
from shared.backoff import Backoff
from shared.boot import next_boot
from shared.clock import Clock, SystemClock
from shared.log import get_logger
from shared.metrics import new_registry, watch_process
from shared.ports import Bus
from shared.signals import ended_by_signal
from shared.supervise import Supervisor
from shared.telemetry import Telemetry
from shared.vocabulary.config import Fleet
from shared.vocabulary.node import Node, NodeFile

log = get_logger(__name__)


async def run(file: NodeFile, *, started: Callable[[], None] | None = None) -> None:
    """Probe until cancelled, or told to end by SIGTERM or SIGINT; then return with everything released.

    `started` is called once the admin listener answers and the loops run. Raises OSError when the
    admin address cannot be bound.
    """
    # Heavy libraries are imported where a process is about to need them, not where tests look in.
    from prober.adapters.probes import Probes
    from shared.adapters.kafka import KafkaBus
    from shared.adapters.otel import telemetry_from_env

    node, clock = file.node, SystemClock()
    boot = next_boot(Path(node.state_dir), node.id, clock=clock)
    async with AsyncExitStack() as held:
        telemetry = telemetry_from_env(service="leeward-prober", node=node.id, region=node.region)
        held.push_async_callback(telemetry.close)
        bus = KafkaBus(node.region, node.buses[node.region], client_id=node.id, clock=clock)
        held.push_async_callback(bus.close)
        probe = Probes(credentials=node.credentials, clock=clock, region=node.region)
        held.push_async_callback(probe.close)
        ended = held.enter_context(ended_by_signal())
        supervisor = await held.enter_async_context(Supervisor())
        serving = supervisor.spawn(
            "prober",
            serve(
                node=node,
                fleet=file.fleet,
                boot=boot,
                bus=bus,
                probe=probe,
                clock=clock,
                telemetry=telemetry,
                rng=random.Random(),
                started=started,
            ),
        )
        ending = supervisor.spawn("end", ended.wait())
        await asyncio.wait({serving, ending}, return_when=asyncio.FIRST_COMPLETED)
        if serving.done():
            serving.result()
        log.info("prober ends")


async def serve(
    *,
    node: Node,
    fleet: Fleet | None,
    boot: int,
    bus: Bus,
    probe: Probe,
    clock: Clock,
    telemetry: Telemetry,
    rng: random.Random,
    started: Callable[[], None] | None = None,
) -> None:
    """A prober over the given adapters, until cancelled. It closes none of them."""
    registry = new_registry()
    metrics = Metrics(registry)
    board = Board()
    async with AsyncExitStack() as held:
        supervisor = await held.enter_async_context(Supervisor())
        observe = Observe(
            board=board,
            schedule=Schedule(start=rng.random(), draw=rng.random),
            probe=probe,
            clock=clock,
            telemetry=telemetry,
            supervisor=supervisor,
            metrics=metrics,
            draw=rng.random,
            on_news=lambda: publish.nudge(),
        )
        follow = Follow(
            vantage=node.region, bus=bus, metrics=metrics, apply=observe.replace, backoff=Backoff(rng=rng)
        )
        publish = Publish(
            source=node.id,
            vantage=node.region,
            boot=boot,
            round_s=node.timings.round_s,
            board=board,
            bus=bus,
            clock=clock,
            telemetry=telemetry,
            metrics=metrics,
            config_version=lambda: follow.config_version,
            backoff=Backoff(rng=rng),
        )

        def status() -> dict[str, Any]:
            return {
                "id": node.id,
                "region": node.region,
                "boot": boot,
                "seq": publish.seq,
                "config_version": follow.config_version,
                "bus_reachable": bus.reachable,
                "probes": [state.model_dump(mode="json") for state in board.states()],
            }

        if node.admin_listen is not None:
            _watch(node, registry, supervisor, clock)
            measure = partial(_measure, metrics, bus)
            await _listen(node.admin_listen, held, registry, follow, status=status, measure=measure)
        if fleet is not None:
            follow.seed(fleet)
        supervisor.start("observe", observe.run)
        supervisor.start("publish", publish.run)
        supervisor.start("follow", follow.run)
        log.info("prober runs", boot=boot, jobs=len(board.jobs))
        if started is not None:
            started()
        await asyncio.Event().wait()


def _watch(node: Node, registry: CollectorRegistry, supervisor: Supervisor, clock: Clock) -> None:
    """Tell of the process itself too."""
    lag = watch_process(
        registry,
        role=node.role.value,
        node=node.id,
        region=node.region,
        restarts=supervisor.failures,
        clock=clock,
    )
    supervisor.start("lag", lag.run)


def _measure(metrics: Metrics, bus: Bus) -> None:
    metrics.bus_reachable.set(bus.reachable)


async def _listen(
    address: str,
    held: AsyncExitStack,
    registry: CollectorRegistry,
    follow: Follow,
    *,
    status: Callable[[], dict[str, Any]],
    measure: Callable[[], None],
) -> None:
    """Answer on the admin address for as long as `held` is open."""
    from shared.admin import serve_admin

    def why_not_ready() -> str | None:
        return None if follow.known else "no fleet yet, neither from the file nor from the bus"

    admin = await serve_admin(address, registry=registry, ready=why_not_ready, status=status, measure=measure)
    held.push_async_callback(admin.close)
