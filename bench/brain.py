"""`make bench-brain`: what folding and deciding cost, and how long a fault takes through the whole stack, every process real.

A stack of three regions is started with probes every 250 ms; targets are killed one at a time, and three moments are
measured from the kill: a control plane says DOWN, a decision leaves the target out, every edge serves by it. Then the
leader is killed, and told to end. Polling every 10 ms bounds the resolution. `BENCH_JSON=FILE` writes the figures.
"""

import asyncio
import json
import os
import platform
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import yaml

from bench import brain_core
from ops.client import ControlPlanes, edge_state
from ops.drill.sight import version_without
from ops.local import fleet as built_in
from shared.clock import SystemClock

RUNS = int(os.environ.get("BENCH_RUNS", "20"))
TAKEOVERS = int(os.environ.get("BENCH_TAKEOVERS", "3"))
PROBE_S = 0.25
POLL_S = 0.01
LIMIT_S = 30.0
CLOCK = SystemClock()


def main() -> int:
    """See the module; returns an exit code."""
    figures: dict[str, Any] = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    }
    figures["fold_results_per_s"] = round(brain_core.fold_results_per_s())
    nothing, change = brain_core.decide_ms()
    figures["decide_ms"], figures["decide_change_ms"] = round(nothing, 1), round(change, 1)
    rss = subprocess.run(
        [sys.executable, "-c", "from bench import brain_core; print(brain_core.rss_mb_per_10k_pairs())"],
        capture_output=True,
        text=True,
        check=True,
    )
    figures["rss_mb_per_10k_pairs"] = round(float(rss.stdout), 1)
    with tempfile.TemporaryDirectory(prefix="leeward-bench-") as scratch, _stack(Path(scratch)) as stack:
        figures |= asyncio.run(_through_the_stack(stack))
    for name, value in figures.items():
        print(f"{name:28} {value}")
    if path := os.environ.get("BENCH_JSON"):
        Path(path).write_text(json.dumps(figures, indent=1) + "\n")
    return 0


class Stack:
    """A running stack and its simulators, which are ours to kill."""

    def __init__(self, scratch: Path) -> None:
        self.state_dir = scratch / "stack"
        self.base = _free_block()
        self.simulators: dict[str, subprocess.Popen[bytes]] = {}

    def leeward(self, *arguments: str) -> str:
        """Run a command against this stack; its output."""
        command = [sys.executable, "-m", "ops.cli", *arguments, "--state-dir", str(self.state_dir)]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout

    def start_simulator(self, target: str) -> None:
        """A model endpoint where the fleet says it is."""
        provider, _, region = target.partition("-")
        port = built_in.target_port(provider, built_in.REGIONS.index(region), port_base=self.base)
        arguments = [
            "--id",
            target,
            "--listen",
            f"127.0.0.1:{port}",
            "--admin-listen",
            f"127.0.0.1:{port + 100}",
        ]
        self.simulators[target] = subprocess.Popen(
            [sys.executable, "-m", "ops.cli", "simulator", *arguments], stderr=subprocess.DEVNULL
        )

    def kill_simulator(self, target: str) -> None:
        """SIGKILL, and wait for it."""
        process = self.simulators.pop(target)
        process.kill()
        process.wait()


@contextmanager
def _stack(scratch: Path) -> Iterator[Stack]:
    stack = Stack(scratch)
    config = built_in.local_fleet(port_base=stack.base).model_dump(mode="json")
    for monitor in config["monitors"]:
        monitor |= {"interval_s": PROBE_S, "timeout_s": 0.2}
    config["policy"] |= {"ramp_s": 0.5, "hold_down_s": 0.1, "hold_down_cap_s": 0.2}
    file = scratch / "fleet.yaml"
    file.write_text(yaml.safe_dump({"fleet": config}))
    try:
        for target in config["targets"]:
            stack.start_simulator(target["id"])
        stack.leeward("up", "--detach", "--port-base", str(stack.base), "--config", str(file))
        yield stack
    finally:
        if (stack.state_dir / "stack.json").exists():
            stack.leeward("down")
        for target in [*stack.simulators]:
            stack.kill_simulator(target)


async def _through_the_stack(stack: Stack) -> dict[str, Any]:
    status = json.loads(stack.leeward("status", "-o", "json"))
    edges = [edge["admin_url"] for edge in status["edges"]]
    urls = [replica["url"] for replica in status["control_planes"]]
    spans: dict[str, list[float]] = {"detected": [], "decided": [], "applied": []}
    async with httpx2.AsyncClient(timeout=2.0, trust_env=False) as client:
        planes = ControlPlanes(client, urls)
        targets = [*stack.simulators]
        for run in range(RUNS):
            target = targets[run % len(targets)]
            await _until(lambda: _calm(planes))
            for name, ms in (await _fault(stack, client, planes, edges, target)).items():
                spans[name].append(ms)
            stack.start_simulator(target)
        await _until(lambda: _calm(planes))
        kills = [await _takeover(stack, client, "KILL") for _ in range(TAKEOVERS)]
        terms = [await _takeover(stack, client, "TERM") for _ in range(TAKEOVERS)]
    figures: dict[str, Any] = {"fault_runs": RUNS}
    for name, values in spans.items():
        ranked = sorted(values)
        figures[f"fault_{name}_ms_p50"] = round(statistics.median(ranked))
        figures[f"fault_{name}_ms_p99"] = round(ranked[min(len(ranked) - 1, int(len(ranked) * 0.99))])
    figures["takeover_kill_ms"] = round(statistics.median(kills))
    figures["takeover_term_ms"] = round(statistics.median(terms))
    return figures


async def _fault(
    stack: Stack, client: httpx2.AsyncClient, planes: ControlPlanes, edges: list[str], target: str
) -> dict[str, float]:
    """Kill `target`; ms until it is detected, decided upon, and applied on all edges."""
    before, _ = await planes.in_force()
    # A kill must not always fall at the same moment between two probes.
    await asyncio.sleep(PROBE_S * (int.from_bytes(os.urandom(2)) / 65536))
    began = CLOCK.monotonic()
    stack.kill_simulator(target)

    async def detected() -> object:
        return next(t for t in (await planes.health()).targets if t.id == target).verdict == "DOWN"

    async def decided() -> object:
        _, documents = await planes.in_force()
        return version_without(documents, frozenset({target}), after=before)

    async def timed(what: Callable[[], Awaitable[object]]) -> tuple[float, Any]:
        found = await _until(what)
        return (CLOCK.monotonic() - began) * 1000, found

    async def followed() -> tuple[float, float]:
        decided_ms, version = await timed(decided)

        async def applied() -> object:
            states = await asyncio.gather(*(edge_state(client, url) for url in edges))
            return all(state is not None and state.decision >= version for state in states)

        return decided_ms, (await timed(applied))[0]

    (detected_ms, _), (decided_ms, applied_ms) = await asyncio.gather(timed(detected), followed())
    return {"detected": detected_ms, "decided": decided_ms, "applied": applied_ms}


async def _takeover(stack: Stack, client: httpx2.AsyncClient, name: str) -> float:
    """Signal the leader; ms until another replica says that it leads. The first one is started again."""
    status = json.loads(stack.leeward("status", "-o", "json"))
    leader, epoch = status["leader"]["id"], status["leader"]["epoch"]
    others = [replica["url"] for replica in status["control_planes"] if replica["id"] != leader]
    pid = next(replica["pid"] for replica in status["control_planes"] if replica["id"] == leader)

    async def another() -> object:
        found = await asyncio.gather(*(ControlPlanes(client, [url]).leader() for url in others))
        return any(one is not None and one.id != leader and one.epoch > epoch for one in found)

    began = CLOCK.monotonic()
    os.kill(pid, signal.Signals[f"SIG{name}"])
    await _until(another)
    took_ms = (CLOCK.monotonic() - began) * 1000
    await asyncio.sleep(1.0)
    stack.leeward("start", leader)
    await asyncio.sleep(2.0)
    return took_ms


async def _calm(planes: ControlPlanes) -> bool:
    """Whether every target is HEALTHY and back in all decisions with its full weight."""
    view = await planes.health()
    version, documents = await planes.in_force()
    if any(target.verdict != "HEALTHY" for target in view.targets):
        return False
    if any(document.excluded for document in documents.values()):
        return False
    await asyncio.sleep(1.2)
    return (await planes.in_force())[0] == version


async def _until(what: Callable[[], Awaitable[object]]) -> Any:
    """What `what` finds, polled until it finds something. Raises TimeoutError after `LIMIT_S`."""
    async with asyncio.timeout(LIMIT_S):
        while True:
            if found := await what():
                return found
            await asyncio.sleep(POLL_S)


def _free_block() -> int:
    """A port base whose whole block is free now."""
    for base in range(21000, 31000, 1000):
        ports = [base + offset for offset in range(100, 800, 50)]
        try:
            for port in ports:
                with socket.socket() as probe:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        return base
    raise OSError("no free block of ports between 21000 and 31000")


if __name__ == "__main__":
    sys.exit(main())
