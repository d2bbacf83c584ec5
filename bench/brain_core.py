"""What the pure core costs on one core: fold, conclude, decide, and memory, without Kafka and etcd.

`python -m bench.brain_core FIGURE` prints one of `speed`, `rss`, `size` and `sizes` (these two for `{"targets": 4000}`
or the like) as JSON. The process pins itself to the machine's last core, so that whatever else runs may stay on the
others; every time is a median.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import psutil

from control_plane.core.conclude import conclude
from control_plane.core.decide import Proposal, decide
from control_plane.core.fold import EventFold
from control_plane.core.memory import Memory
from control_plane.loops import decode
from shared.vocabulary.base import canonical_json
from shared.vocabulary.config import Fleet, FleetConfig
from shared.vocabulary.decision import Decision, Term
from shared.vocabulary.health import HealthEvent, ProbeState, RouteLoad
from shared.vocabulary.terms import Outcome, Role
from shared.vocabulary.view import HealthView

START = datetime(2030, 1, 1, tzinfo=UTC)
TERM = Term(holder="bench", epoch=1)
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
BATCH = 200
MONOTONIC_S = 1000.0


@dataclass(frozen=True, slots=True)
class Size:
    """How much there is to decide. A route's targets follow on those of the route before it, so that
    with the defaults each target serves one route, and each factor can grow alone."""

    targets: int = 2000
    routes: int = 50
    regions: int = 10
    """Where clients are, where targets stand, and from where they are watched."""
    per_route: int = 40


def speed() -> dict[str, float]:
    """Everything but the memory, at the size that the promises name."""
    return {
        "fold_results_per_s": round(fold_results_per_s()),
        **sizes(Size()),
        **decide_ms(Size()),
        **{
            name.replace("decide_", "decide_loaded_"): ms
            for name, ms in decide_ms(Size(), inflight=300.0).items()
            if name in ("decide_ms", "decide_change_ms")
        },
    }


def growth() -> list[dict[str, Any]]:
    """The same times while one factor at a time doubles, twice. Each size has a process of its own: what one
    leaves in caches and heap slows the next."""
    base = Size()
    sizes = [("none", 1, base)]
    for factor in ("targets", "routes", "regions", "per_route"):
        sizes += [
            (factor, times, replace(base, **{factor: times * getattr(base, factor)})) for times in (2, 4)
        ]
    return [
        {"factor": factor, "times": times, **asdict(size), **measure("size", json.dumps(asdict(size)))}
        for factor, times, size in sizes
    ]


def fold_results_per_s(*, rounds: int = 9) -> float:
    """Probe results decoded from JSON and folded, per second of one core: 3 regions, 2,000 targets."""
    config = fleet(Size(regions=3))
    fold = EventFold()
    raws = [events(config, seq=seq) for seq in range(rounds + 1)]
    take(fold, raws[0])
    took = [_timed_ms(partial(take, fold, raw)) for raw in raws[1:]]
    return 2000 * 3 / statistics.median(took) * 1000


def decide_ms(size: Size, *, runs: int = 15, inflight: float = 0.0) -> dict[str, float]:
    """Milliseconds: `decide_ms` from nothing; `decide_cold_ms` the same for a configuration never seen
    before; `conclude_change_ms` and `decide_change_ms` after one target went DOWN, another each time.

    `inflight` requests are under way on each route from each region. A target carries 256: with 300 the two
    of a region's first tier suffice, and one alone does not, so that each fall makes a plan by capacity."""
    config = fleet(size)
    fold = EventFold()
    take(fold, events(config, seq=1))
    if inflight:
        take(fold, loads(config, inflight))
    view = _look(fold, config, None)
    first = _decide(config, view, None)
    assert first is not None
    nothing = [_timed_ms(partial(_decide, config, view, None)) for _ in range(runs)]
    concluded: list[float] = []
    decided: list[float] = []
    for run in range(runs):
        target = {f"target-{run}"}
        take(fold, events(config, seq=2 + 2 * run, only=target, down=target))
        concluded.append(_timed_ms(partial(_look, fold, config, view)))
        seen = _look(fold, config, view)
        decided.append(_timed_ms(partial(_decide, config, seen, first)))
        take(fold, events(config, seq=3 + 2 * run, only=target))
        view = _look(fold, config, seen)
    new = [FleetConfig.model_validate(config.model_dump()) for _ in range(5)]
    cold = [_timed_ms(partial(_decide, each, view, None)) for each in new]
    took = {
        "decide_ms": nothing,
        "decide_cold_ms": cold,
        "conclude_change_ms": concluded,
        "decide_change_ms": decided,
    }
    return {name: round(statistics.median(values), 2) for name, values in took.items()}


def sizes(size: Size) -> dict[str, int]:
    """Bytes of what is kept, sent and shown whole: each grows as `docs/SCALING.md` says."""
    config = fleet(size)
    fold = EventFold()
    take(fold, events(config, seq=1))
    view = _look(fold, config, None)
    first = _decide(config, view, None)
    assert first is not None
    documents = [len(document.canonical()) for document in first.documents.values()]
    return {
        "head_bytes": len(first.head.canonical()),
        "document_bytes": round(statistics.mean(documents)),
        "config_bytes": len(canonical_json(config.model_dump(mode="json"))),
        "view_bytes": len(view.canonical()),
    }


def rss_mb_per_10k_pairs() -> float:
    """Growth of this process for 20,000 (vantage, target) pairs, halved. For a fresh process."""
    config = fleet(Size())
    raws = events(config, seq=1)
    process = psutil.Process()
    before = process.memory_info().rss
    fold = EventFold()
    take(fold, raws)
    after = process.memory_info().rss
    assert len(fold.sources) == 10
    return round((after - before) / 2**20 / 2, 1)


def fleet(size: Size) -> FleetConfig:
    """A configuration of that size, every route's targets in two tiers of equal length."""
    names = [f"region-{index}" for index in range(size.regions)]
    ids = [f"target-{index}" for index in range(size.targets)]
    half = size.per_route // 2
    routes = []
    for number in range(size.routes):
        own = [ids[(number * size.per_route + place) % len(ids)] for place in range(size.per_route)]
        routes.append(
            {
                "id": f"route-{number}",
                "match": {"models": [f"model-{number}"]},
                "tiers": [{"targets": own[:half]}, {"targets": own[half:]}],
            }
        )
    targets = [
        {"id": name, "provider": "p", "model": "m", "region": names[index % len(names)], "url": "http://h/v1"}
        for index, name in enumerate(ids)
    ]
    return FleetConfig(
        config_version=1,
        fleet=Fleet.model_validate(
            {
                "regions": [{"id": name} for name in names],
                "targets": targets,
                "monitors": [{"id": "http", "kind": "http"}],
                "routes": routes,
            }
        ),
    )


def events(
    config: FleetConfig, *, seq: int, down: Iterable[str] = (), only: Iterable[str] | None = None
) -> list[bytes]:
    """What all probers say of their targets, or of `only` some, as it arrives: `BATCH` states a message."""
    at = START + timedelta(seconds=seq)
    ids = [target.id for target in config.fleet.targets] if only is None else sorted(only)
    fallen = frozenset(down)
    raws = []
    for region in config.fleet.regions:
        for first in range(0, len(ids), BATCH):
            event = HealthEvent(
                kind="probe",
                source=f"prober-{region.id}",
                role=Role.PROBER,
                vantage=region.id,
                boot=1,
                seq=seq * 1000 + first // BATCH,
                observed_at=at,
                probes=tuple(_state(target, target in fallen, at) for target in ids[first : first + BATCH]),
                traceparent=TRACE,
            )
            raws.append(event.model_dump_json().encode())
    return raws


def loads(config: FleetConfig, inflight: float) -> list[bytes]:
    """What one edge in each region reports of every route's demand."""
    return [
        HealthEvent(
            kind="passive",
            source=f"edge-{region.id}",
            role=Role.EDGE,
            vantage=region.id,
            boot=1,
            seq=1,
            observed_at=START,
            routes=tuple(
                RouteLoad(route=route.id, inflight=inflight, requests=int(10 * inflight), window_s=10.0)
                for route in config.fleet.routes
            ),
        )
        .model_dump_json()
        .encode()
        for region in config.fleet.regions
    ]


def take(fold: EventFold, raws: Iterable[bytes]) -> None:
    """Decode and fold, as an observer does with what a bus gives it."""
    for raw in raws:
        fold.apply(decode.health_event(raw, now=START + timedelta(hours=1)), received_at=MONOTONIC_S)


def measure(figure: str, *arguments: str) -> Any:
    """`figure` by name, measured in a process of its own: pinned, and with a heap of its own."""
    argv = [sys.executable, "-m", "bench.brain_core", figure, *arguments]
    return json.loads(subprocess.run(argv, capture_output=True, text=True, check=True).stdout)


def _look(fold: EventFold, config: FleetConfig, previous: HealthView | None) -> HealthView:
    now = START + timedelta(seconds=50)
    return conclude(fold, config, replica="bench", now=now, monotonic=MONOTONIC_S, previous=previous)


def _decide(config: FleetConfig, view: HealthView, previous: Proposal | None) -> Proposal | None:
    documents: Mapping[str, Decision] = previous.documents if previous else {}
    return decide(
        config,
        view,
        previous.head if previous else None,
        documents,
        previous.memory if previous else Memory(),
        generation=1,
        term=TERM,
        now=START + timedelta(seconds=100),
        traceparent=None,
    )


def _timed_ms(work: Callable[[], object]) -> float:
    """Of this process's own CPU: what others take of the core does not count, and nothing here waits."""
    began = time.process_time()
    work()
    return (time.process_time() - began) * 1000


def _state(target: str, down: bool, at: datetime) -> ProbeState:
    return ProbeState(
        target=target,
        monitor="http",
        state="DOWN" if down else "UP",
        consecutive_good=0 if down else 9,
        consecutive_bad=9 if down else 0,
        outcome=Outcome.REFUSED if down else Outcome.OK,
        hard=down,
        detail="connect ECONNREFUSED" if down else "status 200",
        latency_ms=5.125,
        latency_ms_p50=5.25,
        latency_ms_p99=9.5,
        probed_at=at,
        changed_at=START,
        interval_s=1.0,
        traceparent=TRACE,
    )


FIGURES: Mapping[str, Callable[..., Any]] = {
    "speed": speed,
    "size": lambda size: decide_ms(Size(**json.loads(size)), runs=9),
    "rss": rss_mb_per_10k_pairs,
    "sizes": lambda size: sizes(Size(**json.loads(size))),
}

if __name__ == "__main__":
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    print(json.dumps(FIGURES[sys.argv[1]](*sys.argv[2:])))
