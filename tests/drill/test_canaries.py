"""No secret comes out anywhere; and webhooks reach whoever should be told. On a stack of its own, with real providers'
secrets, clients' keys and prompts standing in as canaries."""

import gzip
import hashlib
import hmac
import json
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml
from local_stack import LEEWARD, LocalStack, free_port_base, processes_of, wait_for

from ops.local.fleet import local_fleet, target_admin_port, target_port

REGION = "solo"
CLIENT_KEY = "ck-canary-5f3d81"
WRONG_KEY = "ck-wrong-canary-77ab02"
PROVIDER_SECRET = "sk-canary-provider-9b1e44"
PROMPT = "canary prompt 2c64d0: my account number is 0042"
HOOK_PATH = "/hooks/T0canary/B0url-canary-aa90"
HOOK_SECRET = "hmac-canary-31c7"
CANARIES = (CLIENT_KEY, WRONG_KEY, PROVIDER_SECRET, "canary prompt", HOOK_PATH.rsplit("/", 1)[1], HOOK_SECRET)


@dataclass
class Receiver:
    """Webhooks and traces arrive here; the first two notices are turned away."""

    notices: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    attempts: int = 0
    traces: list[bytes] = field(default_factory=list)
    url: str = ""

    def take(self, path: str, headers: dict[str, str], body: bytes) -> int:
        if path == "/v1/traces":
            self.traces.append(gzip.decompress(body) if headers.get("content-encoding") == "gzip" else body)
            return 200
        if path != HOOK_PATH:
            return 404
        self.attempts += 1
        if self.attempts <= 2:
            return 503
        self.notices.append((headers, body))
        return 204

    def events(self) -> list[tuple[str, str, str]]:
        said = [json.loads(body) for _, body in self.notices]
        return [(notice["event"], notice["subject"], notice["state"]) for notice in said]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """On a free port."""
    taken = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            status = taken.take(
                self.path, {name.lower(): value for name, value in self.headers.items()}, body
            )
            self.send_response(status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *args: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    taken.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield taken
    server.shutdown()
    thread.join()
    server.server_close()


def config(directory: Path, base: int, receiver: Receiver) -> Path:
    """A node file with a fleet of one region, whose providers want a secret and whose alerts go to `receiver`."""
    (directory / "provider").write_text(PROVIDER_SECRET + "\n")
    (directory / "hook").write_text(receiver.url + HOOK_PATH)
    (directory / "hmac").write_text(HOOK_SECRET)
    fleet = local_fleet([REGION], port_base=base).model_dump(mode="json", exclude_defaults=True)
    for target in fleet["targets"]:
        target["credential"] = "provider"
    fleet["client_keys"] = [{"id": "acme", "sha256": hashlib.sha256(CLIENT_KEY.encode()).hexdigest()}]
    fleet["alerts"] = {
        "webhooks": [
            {"id": "ops", "url_from": f"file:{directory / 'hook'}", "secret": f"file:{directory / 'hmac'}"}
        ],
        "settle_s": 1.0,
    }
    origins = [
        f"http://127.0.0.1:{target_port(provider, 0, port_base=base)}" for provider in ("alpha", "beta")
    ]
    node = {
        "role": "edge",
        "id": "unused",
        "region": REGION,
        "state_dir": "unused",
        "listen": "127.0.0.1:1",
        "buses": {REGION: "127.0.0.1:1"},
        "credentials": {"provider": {"secret": f"file:{directory / 'provider'}", "origins": origins}},
    }
    path = directory / "leeward.yaml"
    path.write_text(yaml.safe_dump({"node": node, "fleet": fleet}))
    return path


class Targets:
    """The simulated providers, which a stack with a configuration of its own does not bring."""

    def __init__(self, base: int, directory: Path) -> None:
        self._base, self._directory = base, directory
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, provider: str) -> None:
        listen = f"127.0.0.1:{target_port(provider, 0, port_base=self._base)}"
        admin = f"127.0.0.1:{target_admin_port(provider, 0, port_base=self._base)}"
        with (self._directory / f"{provider}.log").open("ab") as log:
            self.running[provider] = subprocess.Popen(
                [
                    LEEWARD,
                    "simulator",
                    "--id",
                    f"{provider}-{REGION}",
                    "--listen",
                    listen,
                    "--admin-listen",
                    admin,
                ],
                stdout=log,
                stderr=log,
            )

    def kill(self, provider: str) -> None:
        process = self.running.pop(provider)
        process.send_signal(signal.SIGKILL)
        process.wait(10)

    def close(self) -> None:
        for provider in tuple(self.running):
            self.kill(provider)


def ask(stack: LocalStack, key: str, **more: Any) -> httpx2.Response:
    body = {"model": "chat", "messages": [{"role": "user", "content": PROMPT}], **more}
    url = f"{stack.edge_url(REGION)}/v1/chat/completions"
    return stack.http.post(url, headers={"authorization": f"Bearer {key}"}, json=body, timeout=15.0)


def said(stack: LocalStack) -> dict[str, bytes]:
    """Everything that the processes answer to whoever looks, by URL."""
    plane, status = stack.plane_url(REGION), stack.status()
    paths = [
        path
        for path, methods in stack.http.get(f"{plane}/openapi.json").json()["paths"].items()
        if "get" in methods and "{" not in path and path not in ("/v1/stream", "/v1/live", "/v1/backup")
    ]
    assert len(paths) > 8, paths
    urls = [plane + path for path in (*paths, "/metrics", "/v1/backup", f"/v1/health/targets/alpha-{REGION}")]
    version = status["edges"][0]["decision"]
    urls += [f"{plane}/v1/decisions/{version}"]
    prober = next(process for name, process in stack.processes().items() if name.startswith("prober-"))
    for admin in (status["edges"][0]["admin_url"], prober["admin_url"]):
        urls += [f"{admin}/status", f"{admin}/metrics", f"{admin}/readyz"]
    answers = {url: stack.http.get(url) for url in urls}
    assert sum(answer.status_code == 200 for answer in answers.values()) > 12, answers
    return {url: answer.content + repr(answer.headers).encode() for url, answer in answers.items()}


def written(stack: LocalStack) -> dict[str, bytes]:
    """Everything on disk: logs, etcd's own files, what edges keep, node files."""
    return {
        str(path.relative_to(stack.state_dir)): path.read_bytes()
        for path in stack.state_dir.rglob("*")
        if path.is_file()
    }


@pytest.mark.timeout(240)
def test_no_secret_comes_out_and_webhooks_reach_their_receiver(
    tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Requests that are served, refused, streamed, moved and failed; then everything that anybody could read is
    searched for the client's keys, the provider's secret, the prompt, and the webhook's URL and secret."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
    secrets, base = tmp_path / "secrets", free_port_base(start=28_000)
    secrets.mkdir()
    stack = LocalStack(tmp_path / "stack", base, (REGION,))
    targets = Targets(base, tmp_path)
    with ExitStack() as held:
        held.callback(stack.http.close)
        held.callback(targets.close)
        for provider in ("alpha", "beta"):
            targets.start(provider)
        held.callback(lambda: [process.kill() for process in processes_of(stack.state_dir)])
        started = stack.leeward(
            "up", "--detach", "--port-base", str(base), "--config", str(config(secrets, base, receiver))
        )
        assert started.returncode == 0, started.stdout + started.stderr
        held.callback(lambda: stack.leeward("down"))
        wait_for("verdicts", lambda: set(stack.verdicts().values()) == {"HEALTHY"}, timeout_s=30)

        assert ask(stack, CLIENT_KEY).status_code == 200
        assert ask(stack, CLIENT_KEY, stream=True).status_code == 200
        assert ask(stack, WRONG_KEY).status_code == 401
        assert ask(stack, CLIENT_KEY, model=PROMPT[:20]).status_code == 404
        targets.kill("alpha")
        moved = [ask(stack, CLIENT_KEY) for _ in range(5)]
        assert {answer.status_code for answer in moved} == {200}
        firing = ("PROVIDER_DOWN", "alpha", "firing")
        wait_for("the provider's alarm", lambda: firing in receiver.events(), timeout_s=40)
        targets.kill("beta")
        assert ask(stack, CLIENT_KEY).status_code in (502, 503)
        wait_for(
            "the region's alarm", lambda: ("REGION_DOWN", REGION, "firing") in receiver.events(), timeout_s=40
        )
        for provider in ("alpha", "beta"):
            targets.start(provider)
        over = ("REGION_DOWN", REGION, "resolved")
        wait_for("that it is over", lambda: over in receiver.events(), timeout_s=60)
        wait_for("traces", lambda: any(b"leeward.target" in body for body in receiver.traces), timeout_s=20)
        everything = {**said(stack), **written(stack)}
        logs = b"".join(text for name, text in everything.items() if name.startswith("logs/"))

    found = {
        (place, canary)
        for place, text in everything.items()
        for canary in CANARIES
        if canary.encode() in text
    }
    found |= {("traces", c) for c in CANARIES if any(c.encode() in body for body in receiver.traces)}
    found |= {("notices", c) for c in CANARIES if any(c.encode() in body for _, body in receiver.notices)}
    assert not found
    assert any(b'tenant="acme"' in text for text in everything.values()), "its name is no secret"
    assert sum(len(text) for text in everything.values()) > 100_000, "nothing was looked through"
    _check_logs(logs)
    _check_notices(receiver)


def _check_logs(logs: bytes) -> None:
    """A line for each decision and failover, with ids."""
    lines = [json.loads(line) for line in logs.splitlines() if line.startswith(b"{")]
    failovers = [line for line in lines if line.get("event") == "failover"]
    assert failovers
    assert {"request_id", "route", "decision", "failed", "error", "target"} <= failovers[0].keys()
    decided = [line for line in lines if line.get("event") == "decided"]
    assert decided
    assert {"version", "reasons", "trace_id", "routes"} <= decided[0].keys()
    assert {line["level"] for line in (*failovers, *decided)} == {"info"}


def _check_notices(receiver: Receiver) -> None:
    """Signed as documented, told once each in spite of two refusals, and the resolved ones name what began."""
    assert receiver.attempts == len(receiver.notices) + 2
    ids = [headers["x-leeward-id"] for headers, _ in receiver.notices]
    assert len(set(ids)) == len(ids)
    for headers, body in receiver.notices:
        signed = headers["x-leeward-timestamp"].encode() + b"." + body
        expected = hmac.new(HOOK_SECRET.encode(), signed, hashlib.sha256).hexdigest()
        assert headers["x-leeward-signature"] == f"sha256={expected}"
    told = [json.loads(body) for _, body in receiver.notices]
    began = {notice["alarm"] for notice in told if notice["state"] == "firing"}
    assert {notice["alarm"] for notice in told if notice["state"] == "resolved"} <= began
    assert all("/v1/decisions/" in notice["links"]["decision"] for notice in told)
