"""A control-plane process, built by hand: adapters, the replica, the API, and the order of the end."""

import asyncio
import os
import random
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from pathlib import Path

from control_plane.ports_alerts import Outgoing
from control_plane.replica import Replica
from shared.boot import next_boot
from shared.clock import Clock, SystemClock
from shared.log import get_logger
from shared.ports import Bus, Coordination
from shared.signals import ended_by_signal
from shared.supervise import Supervisor
from shared.telemetry import Telemetry
from shared.vocabulary.node import BusAddress, NodeFile

log = get_logger(__name__)

INSECURE_LISTEN = "LEEWARD_INSECURE_LISTEN"


async def run(file: NodeFile, *, started: Callable[[], None] | None = None) -> None:
    """Serve until SIGTERM or SIGINT, then end gracefully; `started` is called once the API listens.

    Raises OSError when the address is taken or may not be listened on.
    """
    from control_plane.adapters.webhook import HttpOutgoing
    from shared.adapters.etcd import EtcdStore
    from shared.adapters.kafka import KafkaBus
    from shared.adapters.otel import telemetry_from_env

    node = file.node
    assert node.etcd is not None
    clock = SystemClock()
    async with AsyncExitStack() as stack:
        telemetry = telemetry_from_env(service="leeward-control-plane", node=node.id, region=node.region)
        stack.push_async_callback(telemetry.close)
        store = EtcdStore(node.etcd, clock=clock)
        stack.push_async_callback(store.close)
        outgoing = HttpOutgoing()
        stack.push_async_callback(outgoing.close)
        by_address: dict[BusAddress, Bus] = {}
        for region, address in node.buses.items():
            if address not in by_address:
                by_address[address] = bus = KafkaBus(region, address, client_id=node.id, clock=clock)
                stack.push_async_callback(bus.close)
        await serve(
            file,
            buses={region: by_address[address] for region, address in node.buses.items()},
            store=store,
            clock=clock,
            rng=random.Random(),
            telemetry=telemetry,
            stop=stack.enter_context(ended_by_signal()),
            started=started,
            boot=next_boot(Path(node.state_dir), node.id),
            outgoing=outgoing,
        )


async def serve(
    file: NodeFile,
    *,
    buses: Mapping[str, Bus],
    store: Coordination,
    clock: Clock,
    rng: random.Random,
    telemetry: Telemetry,
    stop: asyncio.Event,
    api: bool = True,
    started: Callable[[], None] | None = None,
    boot: int | None = None,
    outgoing: Outgoing | None = None,
) -> None:
    """Run a replica until `stop`, over whatever ports it is given; without `api` it opens no socket.

    When `stop` is set the replica finishes its write, resigns, and only then stops answering. When
    cancelled it just ends, as a crash would: its lease runs out by itself.
    """
    async with AsyncExitStack() as stack:
        supervisor = await stack.enter_async_context(Supervisor())
        replica = Replica(
            file.node,
            fleet=file.fleet,
            buses=buses,
            store=store,
            clock=clock,
            rng=rng,
            telemetry=telemetry,
            boot=boot,
            outgoing=outgoing,
        )
        if api:
            await stack.enter_async_context(_listening(replica, supervisor))
        replica.start(supervisor)
        if started is not None:
            started()
        await stop.wait()
        log.info("stopping")
        await replica.stop()


def _listening(replica: Replica, supervisor: Supervisor) -> AbstractAsyncContextManager[None]:
    """The API on `node.listen`. Imported here: a replica without API needs no web framework."""
    from control_plane.adapters.listener import bind, listening, server_context
    from control_plane.api.access import is_loopback
    from control_plane.api.build import build
    from control_plane.api.guard import check_listen, own_hosts

    node = replica.node
    assert node.listen is not None
    host = node.listen.rpartition(":")[0]
    check_listen(host, tokens=bool(node.api.tokens), insecure=os.environ.get(INSECURE_LISTEN) == "1")
    if node.api.tokens and node.api.tls is None and not is_loopback(host):
        log.warning("tokens travel in clear: name api.tls, unless something in front of this speaks TLS")
    context = server_context(node.api.tls) if node.api.tls is not None else None
    sock = bind(node.listen)
    port = sock.getsockname()[1]
    hosts = own_hosts(host, port, node.advertise_url) if is_loopback(host) else frozenset()
    log.info("listening", address=f"{host}:{port}")
    return listening(build(replica, hosts=hosts), sock, supervisor, tls=context)
