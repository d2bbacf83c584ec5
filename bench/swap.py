"""How long the loop that serves stands still when a table of ten thousand targets is taken: `python -m bench.swap`.

The follower, the table builder and the gateway of the edge, fed as its loops feed them: a new configuration (read ahead
in a thread), a document for each of its thousand routes, and the head that puts all of them in force at once. A pause
is how much later than asked for a sleep of 1 ms ends.
"""

import asyncio
import json
import random
import time
from datetime import UTC, datetime

import uvloop
from prometheus_client import CollectorRegistry

from bench.edge_process import fleet
from edge_router.adapters.gateway import Gateway
from edge_router.adapters.interpreter import settle, uncollected
from edge_router.core.follow import Follower
from edge_router.core.rebuild import TableBuilder
from edge_router.core.signals import Apply, ConfigSeen, DocumentSeen, Event, HeadSeen
from edge_router.core.table import RouteTable, build_table
from shared.clock import SystemClock
from shared.supervise import Supervisor
from shared.telemetry import NoTelemetry
from shared.vocabulary.base import NO_VERSION, sha256_hex
from shared.vocabulary.config import Fleet, FleetConfig
from shared.vocabulary.decision import DecidedTier, Decision, Head, RegionDecision, Term, WeightedTarget

TARGETS, ROUTES = 10, 1000
EVENTS_AT_ONCE = 20
"""As `edge_router.loops.follow` takes them before it lets others go on."""


class _Pauses:
    """The longest, since it was last asked."""

    def __init__(self) -> None:
        self.longest_s = 0.0

    async def watch(self) -> None:
        while True:
            began = time.perf_counter()
            await asyncio.sleep(0.001)
            self.longest_s = max(self.longest_s, time.perf_counter() - began - 0.001)

    async def longest_ms(self) -> float:
        """Of the work just done, whose last pause is only seen when the loop has gone on."""
        await asyncio.sleep(0.02)
        longest_s, self.longest_s = self.longest_s, 0.0
        return longest_s * 1000


def _config(version: int, of: Fleet) -> bytes:
    return FleetConfig(config_version=version, fleet=of).model_dump_json().encode()


def _document(route: str, seq: int, config_version: int, first: int) -> bytes:
    """Everything goes to two of the route's targets."""
    name = route.removeprefix("chat") or "0"
    weighted = tuple(
        WeightedTarget(id=f"t{name}-{(first + place) % TARGETS}", weight_permille=500) for place in (0, 1)
    )
    return Decision(
        route=route,
        generation=1,
        seq=seq,
        config_version=config_version,
        regions={"here": RegionDecision(tiers=(DecidedTier(share_permille=1000, targets=weighted),))},
        decided_at=datetime.now(UTC),
        term=Term(holder="bench", epoch=1),
    ).canonical()


def _head(seq: int, config_version: int, documents: dict[str, tuple[int, bytes]]) -> bytes:
    refs = {route: (number, sha256_hex(raw)) for route, (number, raw) in documents.items()}
    return Head(generation=1, seq=seq, config_version=config_version, routes=refs).canonical()


async def measured() -> dict[str, float]:
    """Milliseconds, by what was taken."""
    of = fleet(9, targets=TARGETS, routes=ROUTES)
    names = [route.id for route in of.routes]
    first, second = _config(1, of), _config(2, of)
    began = {name: (at, _document(name, at, 1, 0)) for at, name in enumerate(names, start=1)}
    moved = {name: (at, _document(name, at, 1, 1)) for at, name in enumerate(names, start=len(names) + 1)}
    one = {**moved, names[0]: (3 * ROUTES, _document(names[0], 3 * ROUTES, 1, 2))}
    builder = TableBuilder("here")
    follower: Follower[RouteTable] = Follower(
        build=builder, expect=builder.expect, fresh_s=30.0, static_s=300.0, started_at=time.monotonic()
    )
    small = FleetConfig(config_version=0, fleet=fleet(9))
    async with Supervisor() as supervisor:
        gateway = Gateway(
            edge_id="edge-bench",
            region="here",
            table=build_table(small, {}, NO_VERSION, region="here"),
            credentials={},
            clock=SystemClock(),
            rng=random.Random(7),
            telemetry=NoTelemetry(),
            supervisor=supervisor,
            registry=CollectorRegistry(),
        )

        def hear(event: Event) -> None:
            for effect in follower.step(event, time.monotonic()):
                if isinstance(effect, Apply):
                    gateway.swap(effect.table)

        async def take(documents: dict[str, tuple[int, bytes]]) -> None:
            for number, (_, raw) in enumerate(documents.values(), start=1):
                hear(DocumentSeen(raw))
                if number % EVENTS_AT_ONCE == 0:
                    await asyncio.sleep(0)

        settle()
        pauses = _Pauses()
        watch = asyncio.create_task(pauses.watch())
        figures = {"quiet": await pauses.longest_ms()}
        for what, config in (("first_config", first), ("config", second)):
            await asyncio.to_thread(uncollected(builder.read_ahead), config)
            hear(ConfigSeen(config))
            figures[what] = await pauses.longest_ms()
        del figures["first_config"]
        for seq, (what, documents) in enumerate(
            (("began", began), ("all_routes", moved), ("one_route", one)), start=4 * ROUTES
        ):
            await take(documents)
            figures[f"{what}_documents"] = await pauses.longest_ms()
            hear(HeadSeen(_head(seq, 1, documents)))
            figures[what] = await pauses.longest_ms()
        assert follower.version.seq == 4 * ROUTES + 2, "every head was put in force"
        assert gateway.table.head == follower.version
        watch.cancel()
    return {
        "swap_config_ms": figures["config"],
        "swap_documents_ms": figures["all_routes_documents"],
        "swap_all_routes_ms": figures["all_routes"],
        "swap_one_route_ms": figures["one_route"],
        "loop_quiet_ms": figures["quiet"],
    }


if __name__ == "__main__":
    print(json.dumps({what: round(pause_ms, 1) for what, pause_ms in uvloop.run(measured()).items()}))
