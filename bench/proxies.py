"""The upstream and the proxies under measurement, as real processes: how each is configured and started.

Each proxy gets what it needs to be fast (kept-alive upstream connections, no access log), and each that can
retry is told to. The edge runs with everything on: keys, routing by model, breakers, budget, passive windows,
metrics.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

COMPLETION = json.dumps(
    {
        "id": "chatcmpl-0123456789abcdef",
        "object": "chat.completion",
        "created": 1790000000,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "The lee side of a hill is the calm one."},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 24, "completion_tokens": 10, "total_tokens": 34},
    },
    separators=(",", ":"),
)


@dataclass
class Proxy:
    """One process and where it listens. `pid` is the process that does the work."""

    name: str
    port: int
    process: subprocess.Popen[bytes]
    pid: int

    def cpu_s(self) -> float:
        """CPU time so far, user and system."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def rss_mb(self) -> float:
        """Resident memory."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
        return 0.0

    def stop(self) -> None:
        """End it."""
        self.process.terminate()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def free_port() -> int:
    """A port that is free at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start_upstream(where: Path, core: int) -> Proxy:
    """nginx that returns one fixed completion to anything."""
    port = free_port()
    body = f"""
    server {{
      listen 127.0.0.1:{port} backlog=4096;
      location / {{ default_type application/json; return 200 '{COMPLETION}'; }}
    }}"""
    return _start_nginx("upstream", where, port, body, core)


def start_nginx(where: Path, upstream: int, core: int) -> Proxy:
    """nginx as a proxy, one worker."""
    port = free_port()
    body = f"""
    upstream target {{ server 127.0.0.1:{upstream}; keepalive 256; keepalive_requests 100000000; }}
    server {{
      listen 127.0.0.1:{port} backlog=4096;
      location / {{
        proxy_pass http://target; proxy_http_version 1.1; proxy_set_header Connection "";
        proxy_next_upstream error timeout http_502 http_503; proxy_buffering off;
      }}
    }}"""
    return _start_nginx("nginx", where, port, body, core)


def start_envoy(where: Path, upstream: int, core: int) -> Proxy | None:
    """Envoy, concurrency 1, a route with retries; None where it is not installed."""
    binary = shutil.which("envoy", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}")
    if binary is None:
        return None
    port = free_port()
    config = where / f"envoy-{port}.json"
    config.write_text(json.dumps(_envoy_config(port, upstream)))
    command = [
        binary,
        "-c",
        str(config),
        "--concurrency",
        "1",
        "--log-level",
        "error",
        "--disable-hot-restart",
    ]
    return start("envoy", command, port, where, core)


def start_edge(
    where: Path,
    upstream: int,
    core: int,
    *,
    sink: int | None = None,
    size: tuple[int, int] = (2, 1),
    name: str = "edge",
) -> Proxy:
    """Our edge, one process, serving in its own order: `size` is targets of each route, and routes. With the port of
    a `sink` it traces one request in a hundred to there."""
    port = free_port()
    command = [sys.executable, "-m", "bench.edge_process", *map(str, (port, upstream, *size))]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    if sink is not None:
        environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = f"http://127.0.0.1:{sink}"
        if sampler := os.environ.get("BENCH_SAMPLER"):
            environment |= {
                "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
                "OTEL_TRACES_SAMPLER_ARG": sampler,
            }
    return start(name, command, port, where, core, within_s=60.0, environment=environment)


def start_sink(where: Path, core: int) -> Proxy:
    """Where spans go."""
    port = free_port()
    return start("sink", [sys.executable, "-m", "bench.otlp_sink", str(port)], port, where, core)


def start_stream_target(where: Path, core: int, *, rate_hz: float, events: int) -> Proxy:
    """The target of the stream measurement."""
    port = free_port()
    command = [sys.executable, "-m", "bench.streams", "target", str(port), str(rate_hz), str(events)]
    return start("stream-target", command, port, where, core)


def _start_nginx(name: str, where: Path, port: int, server: str, core: int) -> Proxy:
    home = where / f"{name}-{port}"
    (home / "logs").mkdir(parents=True)
    config = home / "nginx.conf"
    config.write_text(f"""
daemon off; master_process off; worker_processes 1; pid {home}/pid; error_log {home}/error.log crit;
events {{ worker_connections 8192; }}
http {{
    access_log off; keepalive_requests 100000000; keepalive_timeout 300s; client_max_body_size 64m;
    client_body_temp_path {home}/body; proxy_temp_path {home}/proxy; fastcgi_temp_path {home}/fastcgi;
    uwsgi_temp_path {home}/uwsgi; scgi_temp_path {home}/scgi;
    {server}
}}
""")
    binary = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    assert binary is not None, "checked by the caller"
    return start(
        name, [binary, "-p", str(home), "-c", str(config), "-e", f"{home}/error.log"], port, where, core
    )


def start(
    name: str,
    command: list[str],
    port: int,
    where: Path,
    core: int,
    *,
    within_s: float = 15.0,
    environment: dict[str, str] | None = None,
) -> Proxy:
    """Start a process on `core`, and wait until it listens. Raises RuntimeError with the end of its output."""
    log = where / f"{name}-{port}.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            ["taskset", "-c", str(core), *command], stdout=out, stderr=out, env=environment
        )
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        if process.poll() is not None:
            break
        try:
            socket.create_connection(("127.0.0.1", port), 0.2).close()
        except OSError:
            time.sleep(0.05)
        else:
            return Proxy(name, port, process, process.pid)
    process.kill()
    raise RuntimeError(f"{name} did not start:\n{log.read_text()[-2000:]}")


def _envoy_config(port: int, upstream: int) -> dict[str, object]:
    def address(number: int) -> dict[str, object]:
        return {"socket_address": {"address": "127.0.0.1", "port_value": number}}

    manager = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
    router = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
    route = {
        "match": {"prefix": "/"},
        "route": {
            "cluster": "target",
            "timeout": "600s",
            "retry_policy": {"retry_on": "connect-failure,refused-stream,reset,5xx", "num_retries": 2},
        },
    }
    http = {
        "@type": manager,
        "stat_prefix": "edge",
        "codec_type": "HTTP1",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {"@type": router}}],
    }
    filters = [{"name": "envoy.filters.network.http_connection_manager", "typed_config": http}]
    endpoint = {"lb_endpoints": [{"endpoint": {"address": address(upstream)}}]}
    limits = {"max_connections": 4096, "max_requests": 4096, "max_pending_requests": 4096}
    cluster = {
        "name": "target",
        "type": "STATIC",
        "connect_timeout": "2s",
        "circuit_breakers": {"thresholds": [limits]},
        "load_assignment": {"cluster_name": "target", "endpoints": [endpoint]},
    }
    listener = {"name": "edge", "address": address(port), "filter_chains": [{"filters": filters}]}
    return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}
