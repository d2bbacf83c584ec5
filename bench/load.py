"""How a proxy is put under load, and what is read off it: wrk for requests, `bench.streams` for streams."""

import json
import re
import statistics
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from bench.edge_process import KEY
from bench.proxies import Proxy

CONNECTIONS = 64
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


def lua(where: Path) -> Path:
    """wrk's script: the request that it sends again and again."""
    script = where / "post.lua"
    script.write_text(f"""
wrk.method = "POST"
wrk.path = "/v1/chat/completions"
wrk.headers["content-type"] = "application/json"
wrk.headers["authorization"] = "Bearer {KEY}"
wrk.body = '{REQUEST}'
""")
    return script


def measure_one(figures: Figures, proxy: Proxy, script: Path, core: int, seconds: float) -> None:
    """One round: many connections, then one."""
    before = proxy.cpu_s()
    many = load(proxy, script, core, CONNECTIONS, seconds)
    figures.cpu_us.append((proxy.cpu_s() - before) / max(1.0, many["requests"]) * 1e6)
    one = load(proxy, script, core, 1, max(1.0, seconds / 2))
    figures.rps.append(many["rps"])
    figures.p50_ms.append(many["p50_ms"])
    figures.p99_ms.append(many["p99_ms"])
    figures.p50_c1_ms.append(one["p50_ms"])
    figures.rss_mb = max(figures.rss_mb, proxy.rss_mb())
    figures.errors += int(many["errors"] + one["errors"])


_UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 6e4}


def load(proxy: Proxy, script: Path, core: int, connections: int, seconds: float) -> dict[str, float]:
    """wrk's figures for one run."""
    url = f"http://127.0.0.1:{proxy.port}/"
    wrk = ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--timeout", "30s"]
    command = ["taskset", "-c", str(core), *wrk]
    text = subprocess.run(
        [*command, "--latency", "-s", str(script), url], check=True, capture_output=True, text=True
    ).stdout
    percentiles = {
        name: float(value) * _UNITS[unit]
        for name, value, unit in re.findall(r"^\s+(50|99)%\s+([0-9.]+)(us|ms|s|m)\s*$", text, re.MULTILINE)
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


def stream_load(proxy: Proxy, core: int, streams: int) -> dict[str, float]:
    """`streams` streams at once: what each event cost the proxy, and when the first came."""
    before = proxy.cpu_s()
    command = [sys.executable, "-m", "bench.streams", "load", str(proxy.port), str(streams)]
    text = subprocess.run(["taskset", "-c", str(core), *command], check=True, capture_output=True, text=True)
    got: dict[str, float] = json.loads(text.stdout)
    got["cpu_per_event_us"] = (proxy.cpu_s() - before) / max(1, got["events"]) * 1e6
    got["incomplete"] = streams - got["complete"]
    return got


def first_event_ms(proxy: Proxy, core: int, count: int = 300) -> float:
    """Median time to a stream's first event, one stream after the other."""
    command = [sys.executable, "-m", "bench.streams", "first", str(proxy.port), str(count)]
    text = subprocess.run(["taskset", "-c", str(core), *command], check=True, capture_output=True, text=True)
    got: dict[str, float] = json.loads(text.stdout)
    return got["first_ms_p50"]
