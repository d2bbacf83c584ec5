"""One chain of spans, over OTLP/HTTP, from a failed probe to the edge that applied the decision it led to.

Prober, control plane and edge run as in production, each with its own tracer provider and exporter; only Kafka and
etcd are the in-memory ones, which carry headers and documents all the same.
"""

import asyncio
import random
from collections.abc import Callable
from typing import Any

import pytest

from control_plane.replica import Replica
from edge_router import app as edge_app
from edge_router.app import Outside
from edge_router.core.table import RouteTable
from prober import app as prober_app
from shared.adapters.memory import MemoryBroker, MemoryStore
from shared.adapters.otel import telemetry_from_env
from shared.clock import SystemClock
from shared.supervise import Supervisor
from shared.telemetry import Telemetry
from shared.vocabulary.config import Fleet
from shared.vocabulary.node import Node
from tests.simulation.faulty import HttpPath, MemoryDisk, RecordedServing, Truth, WorldProbe
from tests.support.otlp import OtlpReceiver, ReceivedSpan

REGION = "us-east"
DEAD = "alpha-us-east"


def fleet() -> Fleet:
    return Fleet.model_validate(
        {
            "regions": [{"id": REGION}],
            "targets": [
                {
                    "id": target,
                    "provider": "p",
                    "model": "m",
                    "region": REGION,
                    "url": "http://127.0.0.1:9/v1",
                }
                for target in (DEAD, "beta-us-east")
            ],
            "monitors": [{"id": "http", "kind": "http", "interval_s": 0.2, "timeout_s": 0.1}],
            "routes": [
                {
                    "id": "chat",
                    "match": {"models": ["chat"]},
                    "tiers": [{"targets": [DEAD]}, {"targets": ["beta-us-east"]}],
                }
            ],
        }
    )


def node(role: str, **more: Any) -> Node:
    fields = {
        "role": role,
        "id": f"{role}-1",
        "region": REGION,
        "state_dir": "/nowhere",
        "buses": {REGION: "127.0.0.1:9"},
    }
    return Node.model_validate({**fields, **more})


async def until(what: Callable[[], Any], *, within_s: float = 20.0) -> Any:
    """The first true value of `what`; fails when there is none in time."""
    async with asyncio.timeout(within_s):
        while not (value := what()):
            await asyncio.sleep(0.02)
    return value


@pytest.mark.timeout(90)
async def test_a_failed_probe_and_the_edge_that_followed_are_one_chain(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """probe -> publish -> fold -> decide -> commit, publish -> receive -> apply: one trace, without a gap."""
    async with OtlpReceiver() as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.endpoint)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
        telemetries = {
            service: telemetry_from_env(service=f"leeward-{service}", node=f"{service}-1", region=REGION)
            for service in ("prober", "control-plane", "edge")
        }
        try:
            await _live_through_a_failure(telemetries)
        finally:
            for telemetry in telemetries.values():
                await telemetry.close()
        _assert_chain(receiver.spans)


async def _live_through_a_failure(telemetries: dict[str, Telemetry]) -> None:
    """Start the three, let the target die, wait until the edge serves by the decision that left it out."""
    clock, truth = SystemClock(), Truth()
    broker = MemoryBroker(REGION, clock=clock, rng=random.Random(1))
    store = MemoryStore(rng=random.Random(2))
    tables: list[RouteTable] = []

    def serving(table: RouteTable, *_: Any) -> RecordedServing:
        return RecordedServing(table, tables.append)

    async with Supervisor() as supervisor:
        replica = Replica(
            node("control-plane", listen="127.0.0.1:1", etcd={"endpoints": ["127.0.0.1:1"]}),
            fleet=fleet(),
            buses={REGION: broker.bus("cp")},
            store=store.client("cp"),
            clock=clock,
            rng=random.Random(3),
            telemetry=telemetries["control-plane"],
        )
        replica.start(supervisor)
        edge = Outside(
            bus=broker.bus("edge"),
            control_plane=HttpPath({}),
            store=MemoryDisk(),
            make_serving=serving,
            clock=clock,
            telemetry=telemetries["edge"],
            rng=random.Random(4),
        )
        edge_node = node("edge", listen="127.0.0.1:1")
        supervisor.spawn("edge", edge_app.serve(edge_node, fleet(), edge, boot=1, ended=asyncio.Event()))
        supervisor.spawn(
            "prober",
            prober_app.serve(
                node=node("prober"),
                fleet=fleet(),
                boot=1,
                bus=broker.bus("prober"),
                probe=WorldProbe(REGION, truth, random.Random(5)),
                clock=clock,
                telemetry=telemetries["prober"],
                rng=random.Random(6),
            ),
        )
        await until(lambda: tables and tables[-1].head.seq >= 1)
        await until(lambda: (view := replica.view()) and all(t.verdict == "HEALTHY" for t in view.targets))
        truth.down.add(DEAD)
        await until(
            lambda: not any(c.target.id == DEAD for t in tables[-1].routes["chat"].tiers for c in t.weighted)
        )
        await replica.stop()


def _assert_chain(spans: list[ReceivedSpan]) -> None:
    by_id = {span.span_id: span for span in spans}

    def ancestors(span: ReceivedSpan) -> list[str]:
        names = []
        while span.parent_id in by_id:
            span = by_id[span.parent_id]
            names.append(f"{span.service} {span.name}")
        return names

    failed = [span for span in spans if span.name == "probe" and span.attributes["leeward.target"] == DEAD]
    (probe,) = [span for span in failed if span.attributes["leeward.state"] == "DOWN" and span.failed][:1]
    trace = [span for span in spans if span.trace_id == probe.trace_id]
    before = [
        "leeward-control-plane decide",
        "leeward-control-plane fold",
        "leeward-prober publish leeward.health.v1",
        "leeward-prober probe",
    ]
    (applied,) = [span for span in trace if span.name == "apply"]
    assert applied.attributes["leeward.path"] == "bus", "the only path of this test's world"
    assert ancestors(applied) == [
        "leeward-edge receive leeward.decisions.v1",
        "leeward-control-plane publish leeward.decisions.v1",
        *before,
    ]
    (commit,) = [span for span in trace if span.name == "commit"]
    assert ancestors(commit) == before
    decision = {
        span.attributes["leeward.decision"] for span in trace if "leeward.decision" in span.attributes
    }
    assert len(decision) == 1, decision
    known = {span.trace_id for span in spans}
    dangling = [(span.name, link) for span in spans for link in span.links if link[0] not in known]
    assert not dangling, "links lead to nothing that was recorded"
    assert all(span.parent_id in by_id for span in trace if span is not probe), "a gap in the chain"
