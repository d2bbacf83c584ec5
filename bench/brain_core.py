"""What the pure core costs: fold, decide, and memory, without Kafka and etcd."""

import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import psutil

from control_plane.core.conclude import conclude
from control_plane.core.decide import Proposal, decide
from control_plane.core.fold import EventFold
from control_plane.core.memory import Memory
from shared.vocabulary.config import Fleet, FleetConfig
from shared.vocabulary.decision import Decision, Term
from shared.vocabulary.health import HealthEvent, ProbeState
from shared.vocabulary.terms import Outcome, Role
from shared.vocabulary.view import HealthView

START = datetime(2030, 1, 1, tzinfo=UTC)
TERM = Term(holder="bench", epoch=1)
BATCH = 200


def fleet(*, targets: int, regions: int, routes: int) -> FleetConfig:
    """`targets` spread over `regions` and, in two tiers each, over `routes`."""
    names = [f"region-{index}" for index in range(regions)]
    ids = [f"target-{index}" for index in range(targets)]
    per_route = targets // routes
    return FleetConfig(
        config_version=1,
        fleet=Fleet.model_validate(
            {
                "regions": [{"id": name} for name in names],
                "targets": [
                    {
                        "id": name,
                        "provider": "p",
                        "model": "m",
                        "region": names[index % regions],
                        "url": "http://h/v1",
                    }
                    for index, name in enumerate(ids)
                ],
                "monitors": [{"id": "http", "kind": "http"}],
                "routes": [
                    {
                        "id": f"route-{index}",
                        "match": {"models": [f"model-{index}"]},
                        "tiers": [
                            {"targets": ids[index * per_route : index * per_route + per_route // 2]},
                            {"targets": ids[index * per_route + per_route // 2 : (index + 1) * per_route]},
                        ],
                    }
                    for index in range(routes)
                ],
            }
        ),
    )


def events(config: FleetConfig, *, seq: int, down: frozenset[str] = frozenset()) -> list[bytes]:
    """One round of all probers, as it arrives: batches of 200 targets."""
    at = START + timedelta(seconds=seq)
    batches = []
    ids = [target.id for target in config.fleet.targets]
    for region in config.fleet.regions:
        for first in range(0, len(ids), BATCH):
            states = tuple(_state(target, target in down, at) for target in ids[first : first + BATCH])
            event = HealthEvent(
                kind="probe",
                source=f"prober-{region.id}",
                role=Role.PROBER,
                vantage=region.id,
                boot=1,
                seq=seq * 1000 + first,
                observed_at=at,
                probes=states,
            )
            batches.append(event.canonical())
    return batches


def fold_results_per_s(*, rounds: int = 5) -> float:
    """Probe results decoded from JSON and folded, per second of one core: 3 regions, 2,000 targets."""
    config = fleet(targets=2000, regions=3, routes=50)
    fold = EventFold()
    raws = [events(config, seq=seq) for seq in range(rounds + 1)]
    _take(fold, raws[0])
    rates = []
    for raw in raws[1:]:
        began = time.perf_counter()
        _take(fold, raw)
        rates.append(6000 / (time.perf_counter() - began))
    return statistics.median(rates)


def decide_ms(*, rounds: int = 5) -> tuple[float, float]:
    """(from nothing, after one target's change) in ms: 2,000 targets, 50 routes of 40, 10 client regions."""
    config = fleet(targets=2000, regions=10, routes=50)
    fold = EventFold()
    _take(fold, events(config, seq=1))
    view = _look(fold, config, 1, None)
    first = _decide(config, view, None)
    assert first is not None
    nothing = [_timed(lambda: _decide(config, view, None)) for _ in range(rounds)]
    changes = []
    for number in range(rounds):
        _take(fold, events(config, seq=2 + number, down=frozenset({f"target-{number}"})))
        view = _look(fold, config, 2 + number, view)
        changes.append(_timed(lambda view=view: _decide(config, view, first)))  # type: ignore[misc]
    return statistics.median(nothing), statistics.median(changes)


def rss_mb_per_10k_pairs() -> float:
    """Growth of this process for 20,000 (vantage, target) pairs, halved. Run it in a fresh process."""
    config = fleet(targets=2000, regions=10, routes=50)
    raws = events(config, seq=1)
    process = psutil.Process()
    before = process.memory_info().rss
    fold = EventFold()
    _take(fold, raws)
    after = process.memory_info().rss
    assert len(fold.sources) == 10
    return (after - before) / 2**20 / 2


def _take(fold: EventFold, raws: list[bytes]) -> None:
    for raw in raws:
        fold.apply(HealthEvent.model_validate_json(raw), received_at=1000.0)


def _look(fold: EventFold, config: FleetConfig, second: int, previous: HealthView | None) -> HealthView:
    now = START + timedelta(seconds=second)
    return conclude(fold, config, replica="bench", now=now, monotonic=1000.0, previous=previous)


def _decide(config: FleetConfig, view: HealthView, previous: Proposal | None) -> Proposal | None:
    documents: dict[str, Decision] = dict(previous.documents) if previous else {}
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


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1000


def _state(target: str, down: bool, at: datetime) -> ProbeState:
    return ProbeState(
        target=target,
        monitor="http",
        state="DOWN" if down else "UP",
        consecutive_good=0 if down else 9,
        consecutive_bad=9 if down else 0,
        outcome=Outcome.REFUSED if down else Outcome.OK,
        hard=down,
        latency_ms=5,
        latency_ms_p50=5,
        latency_ms_p99=9,
        probed_at=at,
        changed_at=START,
        interval_s=1.0,
    )
