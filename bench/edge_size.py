"""What size costs the edge: tables, memory after many requests, and long prompts."""

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

from bench.edge_process import KEY
from bench.load import CONNECTIONS, Figures, load, measure_one
from bench.proxies import Proxy, start_edge, start_upstream

LARGE = (10, 1000)
SMALL = (10, 1)
PROMPT_BYTES = 2**20
PROMPTS = 200


def measure_size(
    where: Path, script: Path, *, cores: tuple[int, int], rounds: int, seconds: float
) -> dict[str, float]:
    """Requests a second with 10,000 targets on 1,000 routes, and with 10 on one; interleaved."""
    proxy_core, load_core = cores
    upstream = start_upstream(where, load_core)
    proxies: list[Proxy] = []
    try:
        proxies.append(start_edge(where, upstream.port, proxy_core, size=SMALL, name="small"))
        proxies.append(start_edge(where, upstream.port, proxy_core, size=LARGE, name="large"))
        figures = {proxy.name: Figures() for proxy in proxies}
        for proxy in proxies:
            load(proxy, script, load_core, CONNECTIONS, 1.0)
        for number in range(rounds):
            for proxy in proxies if number % 2 else proxies[::-1]:
                measure_one(figures[proxy.name], proxy, script, load_core, seconds)
    finally:
        for proxy in [*proxies, upstream]:
            proxy.stop()
    small, large = (figures[name].summary() for name in ("small", "large"))
    return {
        "rps_10_targets": small["rps"],
        "rps_10000_targets": large["rps"],
        "rps_large_vs_small": round(large["rps"] / small["rps"], 3),
        "cpu_large_vs_small": round(large["cpu_us"] / small["cpu_us"], 3),
        "rss_mb_10000_targets": large["rss_mb"],
    }


def measure_swap(core: int, rounds: int) -> dict[str, float]:
    """The loop's longest pauses while such a table is taken: medians of several processes."""
    runs: list[dict[str, float]] = []
    for _ in range(rounds):
        command = ["taskset", "-c", str(core), sys.executable, "-m", "bench.swap"]
        runs.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
    return {what: round(statistics.median(run[what] for run in runs), 1) for what in runs[0]}


def measure_memory(where: Path, script: Path, *, cores: tuple[int, int], requests: int) -> dict[str, float]:
    """Resident memory after a warm-up, after half of `requests`, and after all of them."""
    proxy_core, load_core = cores
    upstream = start_upstream(where, load_core)
    try:
        edge = start_edge(where, upstream.port, proxy_core)
    except RuntimeError:
        upstream.stop()
        raise
    try:
        load(edge, script, load_core, CONNECTIONS, 2.0)
        began_mb, seen, done = edge.rss_mb(), [], 0.0
        while done < requests:
            done += load(edge, script, load_core, CONNECTIONS, 5.0)["requests"]
            seen.append((done, edge.rss_mb()))
    finally:
        edge.stop()
        upstream.stop()
    half_mb = next(rss_mb for count, rss_mb in seen if count >= requests / 2)
    return {
        "requests": int(done),
        "rss_mb_warm": round(began_mb, 1),
        "rss_mb_half": round(half_mb, 1),
        "rss_mb_end": round(seen[-1][1], 1),
    }


def measure_prompt(where: Path, *, cores: tuple[int, int]) -> dict[str, float]:
    """CPU of the edge for a prompt of a MiB, beyond that for one of a few bytes; and what a copy and a scan of as many
    bytes cost here, and what the kernel takes to hand them in and out."""
    proxy_core, load_core = cores
    upstream = start_upstream(where, load_core)
    try:
        edge = start_edge(where, upstream.port, proxy_core)
    except RuntimeError:
        upstream.stop()
        raise
    try:
        costs_us = {}
        for name, size in (("short", 16), ("long", PROMPT_BYTES)):
            script = where / f"{name}.lua"
            script.write_text(f"""
wrk.method = "POST"
wrk.path = "/v1/chat/completions"
wrk.headers["content-type"] = "application/json"
wrk.headers["authorization"] = "Bearer {KEY}"
wrk.body = '{{"model":"chat","messages":[{{"role":"user","content":"' .. string.rep("x", {size}) .. '"}}]}}'
""")
            load(edge, script, load_core, 1, 1.0)
            before = edge.cpu_s()
            got = load(edge, script, load_core, 1, 3.0)
            costs_us[name] = (edge.cpu_s() - before) / got["requests"] * 1e6
    finally:
        edge.stop()
        upstream.stop()
    return {
        "mib_us": round(costs_us["long"] - costs_us["short"], 1),
        "copy_and_scan_us": round(_copy_and_scan_us(), 1),
        "read_call_us": round(_read_call_us(), 1),
    }


def _copy_and_scan_us() -> float:
    """A copy of a MiB, and a look at each of its bytes."""
    source, place = b"x" * PROMPT_BYTES, bytearray(PROMPT_BYTES)
    best = float("inf")
    for _ in range(PROMPTS):
        began = time.perf_counter()
        place[:] = source
        source.translate(None, b"")
        best = min(best, time.perf_counter() - began)
    return best * 1e6


def _read_call_us() -> float:
    """What the edge itself does to find the model in it."""
    from edge_router.core.body import read_call

    body = b'{"model":"chat","messages":[{"role":"user","content":"' + b"x" * PROMPT_BYTES + b'"}]}'
    best = float("inf")
    for _ in range(PROMPTS):
        began = time.perf_counter()
        read_call(body)
        best = min(best, time.perf_counter() - began)
    return best * 1e6
