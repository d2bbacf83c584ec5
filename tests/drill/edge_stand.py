"""One real edge process between real targets (the simulator's processes), and nothing behind it: what the data path
does to its clients' requests needs no control plane.

Written against public HTTP: the edge's own and its admin listener, the simulator's panel.
"""

import asyncio
import hashlib
import json
import os
import socket
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import yaml

from tests.support.processes import Child, until

KEY = {"authorization": "Bearer dev"}
TIMEOUTS = {"connect_s": 0.5, "first_byte_s": 1.0, "ttft_s": 1.0, "idle_s": 1.0, "total_s": 10.0}
WHOLE = 16
"""Tokens of a streamed answer that is whole."""


def fixed_ports(count: int, *, start: int = 26_000) -> list[int]:
    """Free ports below those that the system gives to outgoing connections: a target that is killed must find
    its own again."""
    found: list[int] = []
    for port in range(start + os.getpid() % 1000, 32_000):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            return found
    raise AssertionError("no free ports on this machine")


@dataclass
class Simulated:
    """One target."""

    name: str
    port: int
    admin_port: int
    folder: Path
    child: Child | None = None

    def start(self, *options: str) -> None:
        """Begin, or begin again."""
        self.child = Child(
            [
                *(
                    sys.executable,
                    "-m",
                    "ops.cli",
                    "simulator",
                    "--id",
                    f"{self.name}-here",
                    "--region",
                    "here",
                    "--model",
                    f"{self.name}-1",
                ),
                *("--listen", f"127.0.0.1:{self.port}", "--admin-listen", f"127.0.0.1:{self.admin_port}"),
                *(options or ("--ttft-ms", "1", "--tokens-per-s", "0")),
            ],
            log=self.folder / f"{self.name}.log",
        )

    def stop(self) -> None:
        """Killed, if it runs."""
        if self.child is not None:
            self.child.stop()


@dataclass
class Outcomes:
    """What clients saw of a number of requests."""

    statuses: Counter[int] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    attempts: int = 0
    wrong: list[str] = field(default_factory=list)
    """Answers that looked well and were not."""
    told: int = 0
    """Streams that ended with an error in-band."""

    @property
    def slowest_s(self) -> float:
        return max(self.seconds)

    @property
    def failed(self) -> int:
        return sum(count for status, count in self.statuses.items() if status != 200)


@dataclass
class Stand:
    """The edge and its targets."""

    url: str
    admin_url: str
    edge: Child
    targets: Mapping[str, Simulated]
    http: httpx2.AsyncClient

    async def faults(self, target: str, **faults: Any) -> None:
        """Put them in force at `target`, in place of all others."""
        panel = f"http://127.0.0.1:{self.targets[target].admin_port}/faults"
        (await self.http.put(panel, json=faults)).raise_for_status()

    async def stats(self, target: str) -> dict[str, Any]:
        """The target's own count."""
        answer = await self.http.get(f"http://127.0.0.1:{self.targets[target].admin_port}/stats")
        stats: dict[str, Any] = answer.json()
        return stats

    async def status(self) -> dict[str, Any]:
        """`GET /status` of the edge."""
        status: dict[str, Any] = (await self.http.get(f"{self.admin_url}/status")).json()
        return status

    def sockets(self) -> int:
        """Open file descriptors of the edge that are sockets."""
        return sum(
            1
            for link in Path(f"/proc/{self.edge.pid}/fd").iterdir()
            if os.path.islink(link) and "socket" in os.readlink(link)  # noqa: PTH114, PTH115  (readlink of a gone fd)
        )

    async def calls(
        self, count: int, *, model: str = "chat", stream: bool = False, at_once: int = 4
    ) -> Outcomes:
        """`count` requests, `at_once` at a time, each checked to the last byte."""
        outcomes = Outcomes()
        gate = asyncio.Semaphore(at_once)

        async def one(number: int) -> None:
            async with gate:
                began = time.monotonic()
                body = {
                    "model": model,
                    "stream": stream,
                    "max_tokens": WHOLE,
                    "messages": [{"role": "user", "content": f"question {number}"}],
                }
                text, whole, status, attempts = "", True, 0, 0
                try:
                    async with self.http.stream(
                        "POST", f"{self.url}/v1/chat/completions", json=body, headers=KEY
                    ) as answer:
                        status = answer.status_code
                        attempts = int(answer.headers.get("x-leeward-attempts", "0"))
                        async for piece in answer.aiter_text():
                            text += piece
                except httpx2.HTTPError:
                    whole = False  # broken off, without the end that HTTP asks for
                outcomes.seconds.append(time.monotonic() - began)
                outcomes.statuses[status] += 1
                outcomes.attempts += attempts
                if status == 200:
                    problem = (_stream_problem if stream else _whole_problem)(text, whole=whole)
                    outcomes.told += problem == "told"
                    outcomes.wrong += [problem] if problem not in ("", "told") else []

        await asyncio.gather(*(one(number) for number in range(count)))
        return outcomes


def _whole_problem(text: str, *, whole: bool) -> str:
    if not whole:
        return "told"
    try:
        choice = json.loads(text)["choices"][0]
        good = choice["message"]["content"] and choice["finish_reason"] in ("stop", "length")
    except (ValueError, LookupError, TypeError) as error:
        return repr(error)
    return "" if good else "an answer without content or end"


def _stream_problem(text: str, *, whole: bool) -> str:
    """Empty for a whole stream, `told` for one that ends with an error in-band, else what is wrong."""
    events = [event.removeprefix("data: ") for event in text.split("\n\n") if event.startswith("data: ")]
    if not events or events[-1] != "[DONE]":
        told = bool(events) and "error" in json.loads(events[-1])
        return "told" if told and not whole else "an end that is neither"
    choices = [choice for event in events[:-1] for choice in json.loads(event)["choices"]]
    content = "".join(choice["delta"].get("content") or "" for choice in choices)
    return "" if content and choices[-1]["finish_reason"] else "a clean end of a truncated answer"


def fleet_of(targets: Mapping[str, Simulated], **route: Any) -> dict[str, Any]:
    """Each target a tier of its own, in order."""
    return {
        "regions": [{"id": "here"}],
        "targets": [
            {
                "id": f"{name}-here",
                "provider": name,
                "model": f"{name}-1",
                "region": "here",
                "url": f"http://127.0.0.1:{target.port}/v1",
            }
            for name, target in targets.items()
        ],
        "routes": [
            {
                "id": "chat",
                "match": {"models": ["chat"]},
                "timeouts": TIMEOUTS,
                "tiers": [{"targets": [f"{name}-here"]} for name in targets],
                **route,
            }
        ],
        "client_keys": [{"id": "dev", "sha256": hashlib.sha256(b"dev").hexdigest()}],
    }


@asynccontextmanager
async def edge_stand(
    folder: Path,
    *names: str,
    fleet: Mapping[str, Any] | None = None,
    node: Mapping[str, Any] | None = None,
    **route: Any,
) -> AsyncIterator[Stand]:
    """An edge before the targets `names`, by `fleet` or each in a tier of its own; `route` is more of the route.
    Everything is killed afterwards."""
    ports = fixed_ports(2 * len(names) + 3)
    targets = {name: Simulated(name, ports.pop(), ports.pop(), folder) for name in names}
    listen, admin_listen, nobody = ports
    config = {
        "node": {
            "role": "edge",
            "id": "edge-here",
            "region": "here",
            "state_dir": str(folder / "state"),
            "listen": f"127.0.0.1:{listen}",
            "admin_listen": f"127.0.0.1:{admin_listen}",
            "control_planes": [f"http://127.0.0.1:{nobody}"],
            **(node or {}),
        },
        "fleet": fleet or fleet_of(targets, **route),
    }
    path = folder / "leeward.yaml"
    path.write_text(yaml.safe_dump(config))
    for target in targets.values():
        target.start()
    edge = Child([sys.executable, "-m", "ops.cli", "edge", "--config", str(path)], log=folder / "edge.log")
    try:
        async with httpx2.AsyncClient(timeout=30.0, trust_env=False) as http:
            stand = Stand(
                f"http://127.0.0.1:{listen}", f"http://127.0.0.1:{admin_listen}", edge, targets, http
            )

            async def ready() -> bool:
                places = [f"{stand.admin_url}/readyz"]
                places += [f"http://127.0.0.1:{target.admin_port}/livez" for target in targets.values()]
                try:
                    return all([(await http.get(place)).status_code == 200 for place in places])
                except httpx2.HTTPError:
                    return False

            await until(ready, within_s=40, what=lambda: edge.last_lines())
            yield stand
    finally:
        edge.stop()
        for target in targets.values():
            target.stop()
