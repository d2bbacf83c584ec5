"""Row 29 of the fault table: whoever comes back, or carries on alone, is given what the plan says and no more."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest
from fault_rows import Rows
from local_stack import LocalStack, wait_for
from sightings import parts_of, without
from traffic import Traffic

pytestmark = pytest.mark.slow

CLIENTS = 6
"""In each region, each asking again as soon as it has its answer: so many requests are under way, always."""
CAPACITY = 8
"""Of each target: two of the first tier cannot carry what three did, and the second tier takes the rest."""
LATENCY_MS = 350.0
WINDOW_S = 2.0
MOST = 1.2
ROUNDING = 0.5
"""Requests: of so few, a tenth is no whole one."""


@dataclass
class Loads:
    """What targets carry, by their own word, and what decisions plan for them, sampled while the context is open."""

    stack: LocalStack
    samples: list[tuple[float, dict[str, float], dict[str, float]]] = field(default_factory=list)
    """When, requests under way at each target, requests planned for each."""

    def __enter__(self) -> Self:
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="loads", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        self._thread.join(timeout=10)

    def excess(self, *, since: float) -> tuple[float, str]:
        """The most that a target carried over a window, as a multiple of the most planned for it there; and where."""
        worst, where = 0.0, "nothing was sampled"
        moments = [sample for sample in self.samples if sample[0] >= since]
        for first in range(len(moments)):
            window = [sample for sample in moments[first:] if sample[0] < moments[first][0] + WINDOW_S]
            if len(window) < 5:
                continue
            for target in window[0][1]:
                carried = sum(sample[1].get(target, 0.0) for sample in window) / len(window)
                planned = max(sample[2].get(target, 0.0) for sample in window)
                ratio = max(0.0, carried - ROUNDING) / max(planned, 0.1)
                if ratio > worst:
                    worst, where = ratio, f"{target}: {carried:.1f} where {planned:.1f} were planned"
        return worst, where

    def peak(self) -> float:
        """The most that any target had under way at any moment."""
        return max((most for _, carried, _ in self.samples for most in carried.values()), default=0.0)

    def _run(self) -> None:
        watcher = LocalStack(self.stack.state_dir, self.stack.port_base, self.stack.regions)
        panels = {
            name: record["admin_url"]
            for name, record in watcher.processes().items()
            if name.startswith(("alpha-", "beta-"))
        }
        while not self._end.wait(0.1):
            said = {name: watcher._json(f"{url}/stats") for name, url in panels.items()}
            carried = {name: float(stats["inflight"]) if stats else 0.0 for name, stats in said.items()}
            planned: dict[str, float] = {}
            chat = watcher.documents().get("chat")
            if chat is not None:
                for part, permille in parts_of({"chat": chat["regions"]}).items():
                    target = part.rsplit("/", 1)[1]
                    planned[target] = planned.get(target, 0.0) + CLIENTS * permille / 1000
            self.samples.append((time.monotonic(), carried, planned))
        watcher.http.close()


@contextmanager
def small_slow_targets(stack: LocalStack, folder: Path) -> Iterator[None]:
    """Targets that take long and can carry little; brought back afterwards."""
    before = stack.ask_plane("/v1/config")
    assert isinstance(before, dict)
    fleet: dict[str, Any] = json.loads(json.dumps(before["fleet"]))
    for target in fleet["targets"]:
        target["capacity_inflight"] = CAPACITY
    for monitor in fleet["monitors"]:
        if monitor["kind"] == "chat":
            monitor.update(interval_s=30.0, timeout_s=5.0)
    fleet["policy"]["health"]["baseline"] = False
    small = folder / "small.yaml"
    small.write_text(json.dumps({"fleet": fleet}))
    stack.do("config", "apply", str(small), "--reason", "small and slow")
    records = stack.processes()
    panels = [record["admin_url"] for name, record in records.items() if name.startswith(("alpha-", "beta-"))]
    slow = {"latency_ms": LATENCY_MS, "only": {"paths": ["/v1/chat"]}, "for_s": 600}
    with ExitStack() as undo:
        undo.callback(
            stack.do, "config", "rollback", str(before["config_version"]), "--reason", "as it was before"
        )
        for panel in panels:
            stack.http.put(f"{panel}/faults", json=slow).raise_for_status()
            undo.callback(stack.http.delete, f"{panel}/faults")
        yield


def test_a_cold_region_recovers(stack: LocalStack, row: Rows, tmp_path: Path) -> None:
    """Its targets come back under full load: they are led in step by step, and the survivors never carry more than
    was planned for them."""
    region = stack.regions[1]
    victims = [f"alpha-{region}", f"beta-{region}"]
    with (
        small_slow_targets(stack, tmp_path),
        Traffic(stack, stack.regions * CLIENTS) as traffic,
        Loads(stack) as loads,
    ):
        time.sleep(3.0)
        stack.kill(*victims)
        wait_for(
            "decisions without them", lambda: all(without(stack, each) for each in victims), timeout_s=20
        )
        settled_at = time.monotonic() + WINDOW_S
        time.sleep(3 * WINDOW_S)
        stack.start(*victims)
        panel = f"{stack.processes()[victims[0]]['admin_url']}/faults"
        slow = {"latency_ms": LATENCY_MS, "only": {"paths": ["/v1/chat"]}, "for_s": 600}
        stack.http.put(panel, json=slow).raise_for_status()
        wait_for(
            "all of its traffic to be back", lambda: _share(stack, victims[0], region) >= 990, timeout_s=60
        )
        time.sleep(2 * WINDOW_S)
        excess, where = loads.excess(since=settled_at)
    row(
        29,
        "a region's targets come back under load: load against plan",
        f"{excess:.2f} x at most ({where}), peak {loads.peak():.0f} of {CAPACITY} in flight, "
        f"{len(traffic.failed())} of {len(traffic.answers)} failed",
        limit="1.2 x",
        excess=excess,
    )
    assert excess <= MOST
    assert not traffic.failed()


def test_every_edge_and_replica_restarts_at_once(stack: LocalStack, row: Rows, tmp_path: Path) -> None:
    """A region is out of capacity when everything that routes is killed and comes back: the edges go on by what they
    had on disk, and nobody gets more than that plan says."""
    region = stack.regions[1]
    victim = f"alpha-{region}"
    routers = [f"{kind}-{each}" for each in stack.regions for kind in ("edge", "control-plane")]
    with small_slow_targets(stack, tmp_path), Loads(stack) as loads:
        with Traffic(stack, stack.regions * CLIENTS):
            time.sleep(3.0)
            stack.kill(victim)
            wait_for("decisions without it", lambda: without(stack, victim), timeout_s=20)
            time.sleep(WINDOW_S)
        stack.kill(*routers)
        stack.start(*routers)
        wait_for("every edge to serve", lambda: all(stack.edge(each) for each in stack.regions), timeout_s=30)
        wait_for("a leader", stack.leader, timeout_s=30)
        with Traffic(stack, stack.regions * CLIENTS) as traffic:
            serving_at = time.monotonic()
            time.sleep(5 * WINDOW_S)
        excess, where = loads.excess(since=serving_at)
        stack.start(victim)
    row(
        29,
        "all edges and replicas killed and started: load against plan",
        f"{excess:.2f} x at most ({where}), peak {loads.peak():.0f} of {CAPACITY} in flight, "
        f"{len(traffic.failed())} of {len(traffic.answers)} failed",
        limit="1.2 x",
        excess=excess,
    )
    assert excess <= MOST
    assert not traffic.failed()


def _share(stack: LocalStack, target: str, region: str) -> float:
    """Of its own region's chats, permille."""
    chat = stack.documents().get("chat")
    return parts_of({"chat": chat["regions"]}).get(f"chat/{region}/{target}", 0.0) if chat else 0.0
