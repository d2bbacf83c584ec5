"""The edge's data plane as a process of its own, without a control plane: `python -m bench.edge_process PORT UPSTREAM`.

The same Gateway as in production, with client keys, credentials, breakers, windows and metrics; two targets in
two tiers at one upstream, served in the configuration's own order. With OTEL_EXPORTER_OTLP_ENDPOINT it traces.
"""

import asyncio
import hashlib
import random
import signal
import sys

import uvloop
from prometheus_client import CollectorRegistry

from edge_router.adapters.gateway import Gateway
from edge_router.adapters.interpreter import settle
from edge_router.core.table import ResolvedCredential, build_table
from shared.adapters.otel import telemetry_from_env
from shared.clock import SystemClock
from shared.log import configure
from shared.supervise import Supervisor
from shared.vocabulary.base import NO_VERSION
from shared.vocabulary.config import (
    ClientKey,
    Fleet,
    FleetConfig,
    Region,
    Route,
    RouteMatch,
    RouteTier,
    Target,
)

KEY = "dev"


def fleet(upstream: int, *, targets: int = 2, routes: int = 1) -> Fleet:
    """`routes` routes of `targets` targets each; the first takes the model `chat`."""
    every = [
        Target(
            id=f"t{route}-{number}",
            provider="bench",
            model="m",
            region="here",
            url=f"http://127.0.0.1:{upstream}/v1",
            credential="bench",
            capacity_inflight=100_000,
        )
        for route in range(routes)
        for number in range(targets)
    ]
    return Fleet(
        regions=(Region(id="here"),),
        targets=tuple(every),
        routes=tuple(
            Route(
                id=f"chat{route}" if route else "chat",
                match=RouteMatch(models=(f"chat{route}" if route else "chat",)),
                tiers=(RouteTier(targets=tuple(f"t{route}-{number}" for number in range(targets))),),
            )
            for route in range(routes)
        ),
        client_keys=(ClientKey(id="dev", sha256=hashlib.sha256(KEY.encode()).hexdigest()),),
    )


async def serve(port: int, upstream: int, *, targets: int, routes: int) -> None:
    """Until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    config = FleetConfig(config_version=0, fleet=fleet(upstream, targets=targets, routes=routes))
    credential = ResolvedCredential(
        b"authorization", b"Bearer sk-bench", frozenset({("http", "127.0.0.1", upstream)})
    )
    async with Supervisor() as supervisor:
        gateway = Gateway(
            edge_id="edge-bench",
            region="here",
            table=build_table(config, {}, NO_VERSION, region="here"),
            credentials={"bench": credential},
            clock=SystemClock(),
            rng=random.Random(7),
            telemetry=telemetry_from_env(service="leeward-edge", node="edge-bench", region="here"),
            supervisor=supervisor,
            registry=CollectorRegistry(),
        )
        await gateway.start("127.0.0.1", port)
        settle()
        await stop.wait()
        await gateway.drain(1.0)


def main() -> None:
    """See the module."""
    configure(role="edge", node="edge-bench", region="here", level="WARNING")
    port, upstream, *size = (int(word) for word in sys.argv[1:])
    targets, routes = (size[0], size[1]) if size else (2, 1)
    uvloop.run(serve(port, upstream, targets=targets, routes=routes))


if __name__ == "__main__":
    main()
