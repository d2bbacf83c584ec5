"""Bytes and messages on the buses: counted on a small stack, calculated for a large one by the same formulae.

Counted by a consumer on every bus, key, value and headers; with traffic through every edge, so that the edges have
windows to tell. `docs/SCALING.md` explains the formulae; here they are held against what was counted.
"""

import asyncio
import json
import math
import statistics
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from bench.brain_passive import traffic
from bench.brain_stack import CLOCK, Stack
from ops.client import ControlPlanes, open_client
from shared.adapters.kafka import KafkaBus
from shared.ports import Record
from shared.supervise import Supervisor
from shared.topics import ACKS, BEATS, CONFIG, DECISIONS, HEALTH
from shared.vocabulary.base import canonical_json
from shared.vocabulary.health import MAX_ENTRIES, MAX_EVENT_BYTES
from shared.vocabulary.node import BusAddress, Timings

COUNTED_S = 20.0
WINDOWS_PER_EVENT = 1000


@dataclass(frozen=True, slots=True)
class Bytes:
    """What things weigh on a bus, as counted."""

    message: float
    """Key and headers of one message, and the fields of a HealthEvent beside its entries."""
    probe: float
    """One ProbeState."""
    window: float
    """One PassiveWindow."""
    load: float
    """One RouteLoad."""
    beat: float
    """A Beat without its routes."""
    route_ref: float
    """One route in a Beat."""
    ack: float
    share: float
    """One weighted target, for one client region, in a Decision."""


@dataclass(frozen=True, slots=True)
class Fleet:
    """What a large deployment is made of. Each region has one bus, one prober, `edges` edges."""

    regions: int
    targets: int
    routes: int
    per_route: int
    """Targets of a route."""
    monitors: int = 1
    """On each target."""
    edges: int = 1
    """In each region."""
    busy: int = 0
    """Targets that an edge sends traffic to,"""
    busy_routes: int = 0
    """and routes that it has requests of."""
    changes_per_s: float = 0.0
    """Documents that are decided anew."""


LARGE: Mapping[str, Fleet] = {
    "10x2000": Fleet(
        regions=10,
        targets=2_000,
        routes=50,
        per_route=40,
        edges=2,
        busy=200,
        busy_routes=50,
        changes_per_s=1.0,
    ),
    "100x50000": Fleet(
        regions=100,
        targets=50_000,
        routes=1_250,
        per_route=40,
        edges=2,
        busy=500,
        busy_routes=250,
        changes_per_s=25.0,
    ),
}
"""Regions x targets. An edge's traffic goes to the targets near it; a target falls and comes back, by the ramp in
four documents, once in two hours."""


@dataclass(frozen=True, slots=True)
class Rate:
    """On one bus."""

    messages_per_s: float
    bytes_per_s: float


def calculated(fleet: Fleet, weigh: Bytes, timings: Timings) -> dict[str, Rate]:
    """What one region's bus is told, by topic."""
    probes = fleet.targets * fleet.monitors
    at_most = min(MAX_ENTRIES, int(MAX_EVENT_BYTES / weigh.probe))
    rounds = math.ceil(probes / at_most) / timings.round_s
    windows = fleet.edges * max(
        math.ceil(fleet.busy / WINDOWS_PER_EVENT) / timings.passive_s, 1 / timings.round_s
    )
    beats = 1 / timings.beat_s
    acks = fleet.edges / timings.round_s
    return {
        HEALTH: Rate(
            rounds + windows,
            (rounds + windows) * weigh.message
            + probes * weigh.probe / timings.round_s
            + fleet.edges * (fleet.busy * weigh.window + fleet.busy_routes * weigh.load) / timings.passive_s,
        ),
        BEATS: Rate(beats, beats * (weigh.beat + fleet.routes * weigh.route_ref)),
        ACKS: Rate(acks, acks * weigh.ack),
        DECISIONS: Rate(
            fleet.changes_per_s,
            fleet.changes_per_s * (weigh.message + fleet.regions * fleet.per_route * weigh.share),
        ),
    }


async def counted(stack: Stack) -> dict[str, Any]:
    """`bus_*`: rates of one bus, counted and calculated, and what is calculated for large fleets."""
    status = stack.status()
    records: dict[str, list[Record]] = defaultdict(list)
    buses = [
        KafkaBus(
            each["region"],
            BusAddress(bootstrap=(each["bootstrap"],), fetch_max_wait_ms=100, replication_factor=1),
            client_id="bench-traffic",
            clock=CLOCK,
        )
        for each in status["buses"]
    ]
    try:
        async with traffic([edge["url"] for edge in status["edges"]], clients=2), Supervisor() as supervisor:
            await asyncio.sleep(3.0)
            for bus in buses:
                supervisor.start(f"count-{bus.region}", lambda bus=bus: _count(bus, records))  # type: ignore[misc]
            await asyncio.sleep(1.0)
            records.clear()
            await asyncio.sleep(COUNTED_S)
    finally:
        await asyncio.gather(*(bus.close() for bus in buses))
    documents = await _documents(status)
    return _figures(records, _weighed(records, documents), buses=len(buses), targets=len(stack.simulators))


async def _count(bus: KafkaBus, records: Mapping[str, list[Record]]) -> None:
    async for batch in bus.consume([HEALTH, BEATS, ACKS, DECISIONS, CONFIG], start="end"):
        for record in batch.records:
            records[record.topic].append(record)


async def _documents(status: Any) -> list[Any]:
    """The decisions in force."""
    async with open_client() as client:
        planes = ControlPlanes(client, [replica["url"] for replica in status["control_planes"]])
        return list((await planes.get("/v1/decisions/current"))["documents"])


def _figures(
    records: Mapping[str, list[Record]], weigh: Bytes, *, buses: int, targets: int
) -> dict[str, Any]:
    local = Fleet(
        regions=buses,
        targets=targets,
        routes=2,
        per_route=targets,
        monitors=2,
        busy=1,
        busy_routes=1 if weigh.load else 0,
    )
    counted_rates = {topic: _rate(found, buses) for topic, found in records.items() if found}
    return {
        "bus_counted": _table(counted_rates),
        "bus_expected": _table(calculated(local, weigh, Timings())),
        "bus_weights": {each.name: round(getattr(weigh, each.name)) for each in fields(weigh)},
        "bus_calculated": {
            name: _table(calculated(fleet, weigh, Timings())) for name, fleet in LARGE.items()
        },
    }


def _weighed(records: Mapping[str, list[Record]], documents: list[Any]) -> Bytes:
    events = [(record, json.loads(record.value or b"{}")) for record in records[HEALTH]]
    entries = {
        kind: [_length(entry) for _, event in events for entry in event.get(kind, ())]
        for kind in ("probes", "passive", "routes")
    }
    beats = [(record, json.loads(record.value or b"{}")) for record in records[BEATS]]
    refs = [_length({name: ref}) - 1 for _, beat in beats for name, ref in beat["routes"].items()]
    shares = [
        _length(target) + 1
        for document in documents
        for region in document["regions"].values()
        for tier in region["tiers"]
        for target in tier["targets"]
    ]
    whole = sum(_weight(record) for record, _ in events)
    return Bytes(
        message=(whole - sum(sum(lengths) for lengths in entries.values())) / max(1, len(events)),
        probe=_mean(entries["probes"]),
        window=_mean(entries["passive"]),
        load=_mean(entries["routes"]),
        beat=_mean([_weight(record) for record, _ in beats]) - sum(refs) / max(1, len(beats)),
        route_ref=_mean(refs),
        ack=_mean([_weight(record) for record in records[ACKS]]),
        share=_mean(shares),
    )


def _rate(records: list[Record], buses: int) -> Rate:
    per_s = 1 / COUNTED_S / buses
    return Rate(len(records) * per_s, sum(_weight(record) for record in records) * per_s)


def _weight(record: Record) -> int:
    """Key, value and headers; what the protocol adds for a batch is not seen here."""
    headers = sum(len(name) + len(value) for name, value in record.headers)
    return len(record.key or b"") + len(record.value or b"") + headers


def _length(value: Any) -> int:
    """As JSON, with the comma behind it."""
    return len(canonical_json(value)) + 1


def _mean(values: list[int]) -> float:
    return statistics.mean(values) if values else 0.0


def _table(rates: Mapping[str, Rate]) -> dict[str, dict[str, float]]:
    return {
        topic: {"messages_per_s": round(rate.messages_per_s, 2), "bytes_per_s": round(rate.bytes_per_s)}
        for topic, rate in sorted(rates.items())
    }
