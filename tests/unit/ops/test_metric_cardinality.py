"""However large the fleet, the number of series stays below what docs/METRICS.md states."""

import random
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from prometheus_client import CollectorRegistry

from control_plane.loops.gauges import Gauges
from control_plane.loops.mirror import Mirror
from control_plane.metrics import Metrics as ControlPlaneMetrics
from edge_router.adapters.figures import BROKEN, EdgeCollector, Figures
from edge_router.adapters.ladder import HIT, STEP_DOWN, Rungs
from edge_router.core.admission import CLEAN
from edge_router.core.loads import Ended
from edge_router.metrics import Metrics as EdgeMetrics
from ops.metric_table import families, rewritten
from prober.metrics import Metrics as ProberMetrics
from shared.clock import SystemClock
from shared.metrics import new_registry
from shared.vocabulary.base import Version
from shared.vocabulary.decision import REASON_CODES
from shared.vocabulary.terms import EdgeMode, Outcome, Verdict
from shared.vocabulary.view import HealthView, RegionHealth

PAGE = Path(__file__).parents[3] / "docs" / "METRICS.md"
TARGETS, ROUTES, KEYS, REGIONS, MONITORS = 2_000, 50, 10_000, 10, 2


def stated(what: str) -> int:
    """The limit in the page: `an edge has at most 40,000 series`."""
    found = re.search(rf"{what}[^.;0-9]* ([0-9]+,[0-9]+)", " ".join(PAGE.read_text(encoding="utf-8").split()))
    assert found is not None, f"docs/METRICS.md states no limit for {what}"
    return int(found[1].replace(",", ""))


def series(registry: CollectorRegistry) -> int:
    return sum(len(family.samples) for family in registry.collect())


def test_an_edge_with_everything_in_use_stays_below_its_limit():
    """Every target with every outcome, every key on every route with every result."""
    figures = Figures()
    rng = random.Random(1)
    for route in range(ROUTES):
        for key in range(KEYS):
            figures.answered(
                f"r{route}", rng.choice((200, 404, 499, 503)), rng.random(), "no_target", tenant=f"k{key}"
            )
        figures.answered(f"r{route}", 200, 0.1, tenant="k1", instead=BROKEN)
        figures.first_byte(f"r{route}", 0.1)
        for status in (200, 302, 404, 503):
            figures.answered(f"r{route}", status, 0.1)
    for turn in range(1, 10):
        figures.turn(turn * 60.0)
        for key in range(KEYS):
            figures.answered(f"r{turn}", 200, 0.1, tenant=f"k{key}")
    rungs = Rungs()
    for route in range(ROUTES):
        for rung in (HIT, STEP_DOWN, "stored", "rules", "static"):
            rungs.used(f"r{route}", rung, hand_off=True)
    for target in range(TARGETS):
        rungs.broke_promise(f"t{target}")
    lanes = [
        SimpleNamespace(
            entry=SimpleNamespace(id=f"t{n}"),
            answers=1,
            totals=dict.fromkeys(Outcome, 1),
            possibly_billed=1,
            inflight=1,
            admission=CLEAN,
            spared=SimpleNamespace(until=9.0, exhausted_until=9.0),
        )
        for n in range(TARGETS)
    ]
    gateway = SimpleNamespace(
        figures=figures,
        rungs=rungs,
        lanes=lambda: lanes,
        clients=(),
        exchanges=(),
        extra_active=0,
        reserved_bytes=0,
        upstream_connections=0,
        monotonic=lambda: 1.0,
        mode=EdgeMode.FRESH,
        fault_filter=None,
    )
    registry = new_registry()
    EdgeMetrics(registry)
    registry.register(EdgeCollector(cast(Any, gateway)))
    count = series(registry)
    assert 25_000 < count <= stated("an edge has at most"), count
    assert sum(ended.requests for ended in figures.ended().values()) == ROUTES * (KEYS + 5) + 9 * KEYS
    assert isinstance(figures.ended()["r0"], Ended)


def test_a_control_plane_does_not_grow_with_targets_and_keys():
    metrics = ControlPlaneMetrics()
    for code in REASON_CODES:
        metrics.reasons.labels(code).inc()
    for region in range(REGIONS):
        for kind in ("probe", "passive", "heartbeat", "ack", "beat"):
            metrics.events.labels(f"region-{region}", kind).inc()
        for topic in ("config", "decisions", "beats"):
            metrics.published.labels(f"region-{region}", topic).inc()
        for metric in (metrics.bus_lag, metrics.bus_reachable):
            metric.labels(f"region-{region}").set(1)
        metrics.gaps.labels(f"region-{region}").inc()
        metrics.publish_failures.labels(f"region-{region}").inc()
    for webhook in range(16):
        for result in ("told", "failed", "given_up", "dropped"):
            metrics.notices.labels(f"w{webhook}", result).inc()
    view = HealthView(
        as_of=datetime(2030, 1, 1, tzinfo=UTC),
        replica="cp",
        status="healthy",
        config_version=1,
        regions=tuple(
            RegionHealth(
                id=f"region-{n}",
                verdict=Verdict.HEALTHY,
                targets_healthy=1,
                targets=1,
                sources_fresh=1,
                sources=1,
            )
            for n in range(REGIONS)
        ),
        targets=(),
        sources=(),
    )
    force = SimpleNamespace(version=Version(1, 1), overrides=(), rollouts=())
    mirror = SimpleNamespace(
        leader=None, beat_age_s=1.0, log=list, in_force=force, drills=SimpleNamespace(drills=())
    )
    gauges = Gauges(
        metrics,
        cast(Mirror, mirror),
        view=lambda: view,
        edges=list,
        config=lambda: None,
        shed=lambda: {(f"r{r}", f"region-{n}"): 1 for r in range(ROUTES) for n in range(REGIONS)},
        queues=lambda: {"dead_letters": 0, "notices": 0},
        clock=SystemClock(),
    )
    gauges.measure()
    count = series(metrics.registry)
    assert 800 < count <= stated("a control plane"), count


def test_a_prober_has_as_many_as_it_has_jobs():
    registry = new_registry()
    metrics = ProberMetrics(registry)
    keys = [(f"t{target}", f"m{monitor}") for target in range(TARGETS) for monitor in range(MONITORS)]
    for key in keys:
        for outcome in Outcome:
            metrics.probes.labels(*key, outcome.value).inc()
        for metric in (metrics.up, metrics.interval):
            metric.labels(*key).set(1)
        metrics.cost.labels(*key).inc(0)
        metrics.duration.labels(key[1]).observe(1)
    assert 30_000 < series(registry) <= stated("a prober"), series(registry)
    metrics.forget(keys)
    assert series(registry) < 100


def test_the_page_shows_the_metrics_that_there_are():
    page = PAGE.read_text(encoding="utf-8")
    assert rewritten(page) == page, "run: python -m ops.metric_table docs/METRICS.md"


@pytest.mark.parametrize("family", families(), ids=lambda family: family.name)
def test_names_follow_the_convention(family):
    """prometheus.io/docs/practices/naming: one prefix, base units, `_total` for what only rises."""
    assert re.fullmatch(r"leeward(_[a-z0-9]+)+", family.name)
    assert family.name.endswith("_total") == (family.kind == "counter")
    assert not re.search(r"_(ms|milliseconds|us|kb|kib|mb|percent)(_|$)", family.name)
    assert family.text
    assert not set(family.labels) & {"le", "quantile", "job", "instance"}


def test_no_name_is_used_twice():
    names: Iterable[str] = [name for family in families() for name in family.series]
    assert len(set(names)) == len(list(names))
