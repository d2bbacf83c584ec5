"""An edge with workers: `python -m bench.workers`. What one and two cost, what a swap pauses, what a death costs.

The edge is the real command in front of nginx, everything on. Where there are only as many cores as workers, load,
upstream and workers compete for them: throughput then says how much of the machine was left for the edge, so CPU
per request, of all the edge's processes, is told beside it, and latency at a rate far below what either could carry.
`BENCH_JSON=FILE` writes the figures, `BENCH_SECONDS` (3) is the length of each run, `BENCH_ROUNDS` (3) how many.
"""

import asyncio
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.edge_process import KEY, fleet
from bench.load import REQUEST, lua
from bench.proxies import Proxy, free_port, start_upstream
from edge_router.core.handover import Handover, Holding, plan_of
from edge_router.core.table import build_table
from edge_router.worker import SWITCH_S, built
from shared.vocabulary.base import NO_VERSION
from shared.vocabulary.config import FleetConfig

CONNECTIONS = 64
LIGHT_PAUSE_S = 0.002
"""Between two requests of each of four connections: some 1,000 requests a second."""


def main() -> int:
    """See the module; returns an exit code."""
    missing = [tool for tool in ("wrk", "taskset") if shutil.which(tool) is None]
    if (
        missing
        or shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin") is None
    ):
        print("bench.workers needs wrk, taskset and nginx: skipped")
        return 0
    seconds = float(os.environ.get("BENCH_SECONDS", "3"))
    rounds = int(os.environ.get("BENCH_ROUNDS", "3"))
    cores = sorted(os.sched_getaffinity(0))
    report: dict[str, Any] = {"cores": len(cores)}
    with tempfile.TemporaryDirectory(prefix="bench-workers-") as scratch:
        where = Path(scratch)
        upstream = start_upstream(where, cores[-1])
        os.sched_setaffinity(upstream.pid, cores)
        try:
            runs: dict[int, list[dict[str, float]]] = {1: [], 2: []}
            for _ in range(rounds):
                for workers, told in runs.items():
                    told.append(_measured(where, upstream.port, workers, seconds))
            for workers, told in runs.items():
                report[f"workers_{workers}"] = {
                    key: round(statistics.median(run[key] for run in told), 3) for key in told[0]
                }
            report["kill"] = _killed(where, upstream.port)
        finally:
            upstream.stop()
    report["swap"] = asyncio.run(_swaps())
    print(json.dumps(report, indent=2))
    if path := os.environ.get("BENCH_JSON"):
        Path(path).write_text(json.dumps(report, indent=2) + "\n")
    return 0


# ---------------------------------------------------------------- processes


class _Edge:
    """A running edge; `pids` are the processes that serve, and the parent."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, admin: int) -> None:
        self.process = process
        self.port = port
        self._admin = admin

    def status(self) -> dict[str, Any]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self._admin}/status", timeout=5) as answer:
            shown: dict[str, Any] = json.load(answer)
            return shown

    @property
    def pids(self) -> list[int]:
        return [self.process.pid, *(worker["pid"] for worker in self.status()["workers"] or ())]

    def cpu_s(self) -> float:
        return sum(Proxy("", 0, self.process, pid).cpu_s() for pid in self.pids)

    def rss_mb(self) -> float:
        return sum(Proxy("", 0, self.process, pid).rss_mb() for pid in self.pids)


@contextmanager
def _edge(where: Path, upstream: int, workers: int) -> Iterator[_Edge]:
    port, admin = free_port(), free_port()
    node = {
        "role": "edge",
        "id": "edge-bench",
        "region": "here",
        "state_dir": str(where / f"state-{port}"),
        "listen": f"127.0.0.1:{port}",
        "admin_listen": f"127.0.0.1:{admin}",
        "control_planes": ["http://127.0.0.1:9"],
        "credentials": {"bench": {"secret": "env:BENCH_KEY", "origins": [f"http://127.0.0.1:{upstream}"]}},
        "timings": {"drain_s": 1.0},
    }
    path = where / f"edge-{port}.yaml"
    path.write_text(json.dumps({"node": node, "fleet": fleet(upstream).model_dump(mode="json")}))
    command = [sys.executable, "-m", "ops.cli", "edge", "--config", str(path), "--log-level", "ERROR"]
    process = subprocess.Popen(
        [*command, "--workers", str(workers)],
        stderr=subprocess.DEVNULL,
        env={**os.environ, "BENCH_KEY": "sk-bench"},
    )
    edge = _Edge(process, port, admin)
    try:
        _until_ready(edge, admin)
        yield edge
    finally:
        process.terminate()
        process.wait(15)


def _until_ready(edge: _Edge, admin: int) -> None:
    until = time.monotonic() + 30
    while time.monotonic() < until:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{admin}/readyz", timeout=1):
                return
        except OSError:
            assert edge.process.poll() is None, "the edge has ended"
            time.sleep(0.05)
    raise RuntimeError("the edge does not serve")


# ---------------------------------------------------------------- one worker, two workers


def _measured(where: Path, upstream: int, workers: int, seconds: float) -> dict[str, float]:
    with _edge(where, upstream, workers) as edge:
        script = lua(where)
        _wrk(edge.port, script, 1.0)
        before, began = edge.cpu_s(), time.monotonic()
        requests, rate = _wrk(edge.port, script, seconds)
        cpu_s, elapsed_s = edge.cpu_s() - before, time.monotonic() - began
        p50, p99 = asyncio.run(_light(edge.port, seconds))
        return {
            "rps": rate,
            "cpu_us_per_request": cpu_s / requests * 1e6,
            "requests_per_cpu_s": requests / cpu_s,
            "cores_used_by_the_edge": cpu_s / elapsed_s,
            "light_p50_ms": p50,
            "light_p99_ms": p99,
            "rss_mb": edge.rss_mb(),
        }


def _wrk(port: int, script: Path, seconds: float) -> tuple[int, float]:
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{max(1, round(seconds))}s", "-s", str(script)]
    text = subprocess.run(
        [*command, f"http://127.0.0.1:{port}/"], check=True, capture_output=True, text=True
    ).stdout
    assert "Non-2xx" not in text, text
    requests = re.search(r"^\s+(\d+) requests in", text, re.MULTILINE)
    rate = re.search(r"^Requests/sec:\s+([0-9.]+)", text, re.MULTILINE)
    assert requests is not None, text
    assert rate is not None, text
    return int(requests[1]), float(rate[1])


_CALL = (
    f"POST /v1/chat/completions HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {KEY}\r\n"
    f"content-type: application/json\r\ncontent-length: {len(REQUEST)}\r\n\r\n{REQUEST}"
).encode()


async def _ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(_CALL)
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200"), head
    length = re.search(rb"content-length: (\d+)", head)
    assert length is not None
    await reader.readexactly(int(length[1]))


async def _light(port: int, seconds: float) -> tuple[float, float]:
    """p50 and p99 in milliseconds at some 1,000 requests a second."""
    times: list[float] = []
    until = time.monotonic() + seconds

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while time.monotonic() < until:
            began = time.perf_counter()
            await _ask(reader, writer)
            times.append((time.perf_counter() - began) * 1000)
            await asyncio.sleep(LIGHT_PAUSE_S)
        writer.close()

    await asyncio.gather(*(client() for _ in range(4)))
    times.sort()
    return times[len(times) // 2], times[int(len(times) * 0.99)]


# ---------------------------------------------------------------- a worker's death


def _killed(where: Path, upstream: int) -> dict[str, float]:
    """kill -9 of one of two workers under load, and how long until both serve again."""
    with _edge(where, upstream, 2) as edge:
        return asyncio.run(_kill_one(edge))


async def _kill_one(edge: _Edge) -> dict[str, float]:
    done = failed = 0
    stop = False

    async def client() -> None:
        nonlocal done, failed
        while not stop:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
                while not stop:
                    await _ask(reader, writer)
                    done += 1
            except (OSError, asyncio.IncompleteReadError):
                failed += 1

    clients = [asyncio.create_task(client()) for _ in range(CONNECTIONS)]
    await asyncio.sleep(1.0)
    victim = (await asyncio.to_thread(edge.status))["workers"][0]
    os.kill(victim["pid"], signal.SIGKILL)
    began = time.monotonic()
    before, serving = done, 0
    while serving < 2:
        await asyncio.sleep(0.02)
        told = (await asyncio.to_thread(edge.status))["workers"]
        serving = sum(worker["serves"] and worker["pid"] != victim["pid"] for worker in told)
        assert time.monotonic() < began + 30
    back_s, meanwhile = time.monotonic() - began, done - before
    stop = True
    await asyncio.gather(*clients)
    return {
        "connections": CONNECTIONS,
        "connections_of_the_killed": victim["connections"],
        "failed": failed,
        "served_meanwhile": meanwhile,
        "both_serve_again_s": round(back_s, 3),
    }


# ---------------------------------------------------------------- a swap


async def _swaps() -> dict[str, float]:
    """The longest pause of a loop beside which a table of 10,000 targets and 1,000 routes is built as a worker does,
    and how long that takes: with a new configuration, and when a decision has changed."""
    sys.setswitchinterval(SWITCH_S)
    one, other = (
        FleetConfig(config_version=version, fleet=fleet(9, targets=10, routes=1000)) for version in (1, 2)
    )
    handover = Handover()
    holding = Holding(lambda *parts: build_table(*parts, region="here"))
    await built(holding, handover.hand(plan_of(one, {}, NO_VERSION, region="here"), None))
    report: dict[str, float] = {}
    for name, config in (("configuration", other), ("decision", other)):
        pauses, times = [], []
        for _ in range(5):
            if name == "configuration":
                config = config.model_copy()
            hand = handover.hand(plan_of(config, {}, NO_VERSION, region="here"), None)
            pause_ms, took_ms = await _pause_of(holding, hand)
            pauses.append(pause_ms)
            times.append(took_ms)
        report[f"{name}_longest_pause_ms"] = round(max(pauses), 1)
        report[f"{name}_median_pause_ms"] = round(statistics.median(pauses), 1)
        report[f"{name}_took_ms"] = round(statistics.median(times), 1)
    return report


async def _pause_of(holding: Holding, hand: Any) -> tuple[float, float]:
    longest, done = 0.0, asyncio.Event()

    async def tick() -> None:
        nonlocal longest
        last = time.perf_counter()
        while not done.is_set():
            await asyncio.sleep(0)
            now = time.perf_counter()
            longest, last = max(longest, now - last), now

    ticking = asyncio.create_task(tick())
    began = time.perf_counter()
    await built(holding, hand)
    took_s = time.perf_counter() - began
    done.set()
    await ticking
    return longest * 1000, took_s * 1000


if __name__ == "__main__":
    sys.exit(main())
