"""A whole edge as a process of its own, before targets and a control plane that live in the test."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from shared.vocabulary.config import Fleet
from tests.support.data_path import Answer, Client
from tests.support.processes import HOST, Child, free_ports, temporary_directory, until


@dataclass
class EdgeProcess:
    """One that runs. Addresses are its own; `session` is for its admin listener."""

    child: Child
    port: int
    admin: str
    node: Path
    session: aiohttp.ClientSession
    seen_pids: set[int] = field(default_factory=set)

    async def status(self) -> dict[str, Any]:
        async with self.session.get(f"{self.admin}/status") as response:
            shown: dict[str, Any] = await response.json()
        self.seen_pids |= {worker["pid"] for worker in shown.get("workers") or ()}
        return shown

    async def workers(self) -> list[dict[str, Any]]:
        """Those that serve."""
        return [worker for worker in (await self.status())["workers"] if worker["serves"]]

    async def metric(self, name: str, **labels: str) -> float:
        """The sum of the samples called `name` that have at least these labels."""
        async with self.session.get(f"{self.admin}/metrics") as response:
            text = await response.text()
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        reader, writer = await asyncio.open_connection(HOST, self.port, limit=2**20)
        async with Client(reader, writer) as client:
            yield client

    async def ask(self, body: bytes, **how: Any) -> Answer:
        """One request on a connection of its own, which the kernel gives to any of the workers."""
        async with self.client() as client:
            return await client.ask(body, **how)

    async def until_serving(self, workers: int, within_s: float = 30.0) -> None:
        """Until so many workers serve."""

        async def serve() -> bool:
            assert self.child.alive, self.child.last_lines()
            with suppress(aiohttp.ClientError, KeyError, TypeError):
                return len(await self.workers()) == workers
            return False

        await until(serve, within_s=within_s, what=self.child.last_lines)

    async def until_gone(self, pids: set[int], within_s: float = 15.0) -> None:
        """Until none of these processes is left."""

        async def gone() -> bool:
            return not any(runs(pid) for pid in pids)

        await until(gone, within_s=within_s, what=lambda: f"left: {[pid for pid in pids if runs(pid)]}")


def runs(pid: int) -> bool:
    """Whether there is such a process, and not just its name on the list of the dead."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except (FileNotFoundError, ProcessLookupError):
        return False


def kill(pid: int, number: signal.Signals = signal.SIGKILL) -> None:
    """Send it a signal."""
    os.kill(pid, number)


@asynccontextmanager
async def edge_process(
    fleet: Fleet, *arguments: str, timings: Mapping[str, float] | None = None, **node: Any
) -> AsyncIterator[EdgeProcess]:
    """`leeward edge` in us-east with a node file of its own; gone afterwards, with all that it started."""
    port, admin = free_ports(2)
    with temporary_directory("edge") as directory:
        path = directory / "edge.yaml"
        path.write_text(
            json.dumps(
                {
                    "node": {
                        "role": "edge",
                        "id": "edge-us-east",
                        "region": "us-east",
                        "state_dir": str(directory / "state"),
                        "listen": f"{HOST}:{port}",
                        "admin_listen": f"{HOST}:{admin}",
                        "control_planes": ["http://127.0.0.1:9"],
                        "timings": {"drain_s": 5.0, **(timings or {})},
                        **node,
                    },
                    "fleet": fleet.model_dump(mode="json"),
                }
            )
        )
        argv = [sys.executable, "-m", "ops.cli", "edge", "--config", str(path), *arguments]
        async with aiohttp.ClientSession() as session:
            with Child(argv, log=directory / "edge.log") as child:
                edge = EdgeProcess(child, port, f"http://{HOST}:{admin}", path, session)
                try:
                    yield edge
                finally:
                    for pid in edge.seen_pids:
                        with suppress(ProcessLookupError):
                            os.kill(pid, signal.SIGKILL)
