"""A local stack of three regions for `bench-brain`, every process real, and what its measurements share.

The targets are simulators of the bench itself and not of the stack, because it kills them. Monitors probe every
250 ms; leaving and coming back are quick, so that a run is over soon.
"""

import asyncio
import json
import socket
import statistics
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from ops.client import ControlPlanes
from ops.local import fleet as built_in
from shared.clock import SystemClock
from shared.vocabulary.config import Fleet

PROBE_S = 0.25
POLL_S = 0.01
LIMIT_S = 30.0
CLOCK = SystemClock()


class Stack:
    """A running stack and its simulators, which are ours to kill."""

    def __init__(self, scratch: Path) -> None:
        self.state_dir = scratch / "stack"
        self.base = free_block()
        self.simulators: dict[str, subprocess.Popen[bytes]] = {}

    def leeward(self, *arguments: str) -> str:
        """Run a command against this stack; its output."""
        command = [sys.executable, "-m", "ops.cli", *arguments, "--state-dir", str(self.state_dir)]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout

    def status(self) -> Any:
        """`leeward status -o json`."""
        return json.loads(self.leeward("status", "-o", "json"))

    def admin_url(self, target: str) -> str:
        """The fault panel of `target`."""
        return f"http://127.0.0.1:{self._port(target) + 100}"

    def start_simulator(self, target: str) -> None:
        """A model endpoint where the fleet says it is."""
        listen, admin = f"127.0.0.1:{self._port(target)}", f"127.0.0.1:{self._port(target) + 100}"
        arguments = ["--id", target, "--listen", listen, "--admin-listen", admin]
        self.simulators[target] = subprocess.Popen(
            [sys.executable, "-m", "ops.cli", "simulator", *arguments], stderr=subprocess.DEVNULL
        )

    def kill_simulator(self, target: str) -> None:
        """SIGKILL, and wait for it."""
        process = self.simulators.pop(target)
        process.kill()
        process.wait()

    def _port(self, target: str) -> int:
        provider, _, region = target.partition("-")
        return built_in.target_port(provider, built_in.REGIONS.index(region), port_base=self.base)


@contextmanager
def stack(scratch: Path, *, probe_s: float = PROBE_S) -> Iterator[Stack]:
    """A stack whose edges serve a confirmed decision; gone afterwards, with its simulators."""
    running = Stack(scratch)
    config = quick_fleet(running.base, probe_s=probe_s).model_dump(mode="json")
    file = scratch / "fleet.yaml"
    file.write_text(yaml.safe_dump({"fleet": config}))
    try:
        for target in config["targets"]:
            running.start_simulator(target["id"])
        running.leeward("up", "--detach", "--port-base", str(running.base), "--config", str(file))
        yield running
    finally:
        if (running.state_dir / "stack.json").exists():
            running.leeward("down")
        for target in [*running.simulators]:
            running.kill_simulator(target)


def quick_fleet(port_base: int, *, probe_s: float = PROBE_S) -> Fleet:
    """The built-in fleet, probed every `probe_s`, whose targets leave and come back within a second."""
    config = built_in.local_fleet(port_base=port_base).model_dump(mode="json")
    for monitor in config["monitors"]:
        monitor |= {"interval_s": probe_s, "timeout_s": 0.8 * probe_s}
    config["policy"] |= {"ramp_s": 0.5, "hold_down_s": 0.1, "hold_down_cap_s": 0.2}
    return Fleet.model_validate(config)


async def calm(planes: ControlPlanes) -> bool:
    """Whether every target is HEALTHY and back in all decisions with its full weight."""
    view = await planes.health()
    version, documents = await planes.in_force()
    if any(target.verdict != "HEALTHY" for target in view.targets):
        return False
    if any(document.excluded for document in documents.values()):
        return False
    await asyncio.sleep(1.2)
    return (await planes.in_force())[0] == version


async def until(what: Callable[[], Awaitable[object]], *, limit_s: float = LIMIT_S) -> Any:
    """What `what` finds, polled until it finds something. Raises TimeoutError after `limit_s`."""
    async with asyncio.timeout(limit_s):
        while True:
            if found := await what():
                return found
            await asyncio.sleep(POLL_S)


def spread(name: str, values_ms: Sequence[float]) -> dict[str, int]:
    """`<name>_ms_p50` and `<name>_ms_p99`; with fewer than a hundred values the latter is the greatest."""
    ranked = sorted(values_ms)
    return {
        f"{name}_ms_p50": round(statistics.median(ranked)),
        f"{name}_ms_p99": round(ranked[min(len(ranked) - 1, int(len(ranked) * 0.99))]),
    }


def free_block() -> int:
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
