"""How long a fault takes through the whole stack, and a leader to be followed by another.

Targets are killed one at a time, and three moments are measured from the kill: a control plane says DOWN, a
decision leaves the target out, every edge serves by it. Then the leader is killed, and told to end. Polling
every 10 ms bounds the resolution.
"""

import asyncio
import os
import signal
import statistics
from collections.abc import Awaitable, Callable
from typing import Any

import httpx2

from bench.brain_stack import CLOCK, PROBE_S, Stack, calm, spread, until
from ops.client import ControlPlanes, edge_state
from ops.drill.plans import version_without
from shared.vocabulary.base import Version


async def faults(stack: Stack, *, runs: int) -> dict[str, Any]:
    """`fault_*`: from the kill of a target to what is seen."""
    status = stack.status()
    edges = [edge["admin_url"] for edge in status["edges"]]
    spans: dict[str, list[float]] = {"detected": [], "decided": [], "applied": []}
    async with httpx2.AsyncClient(timeout=2.0, trust_env=False) as client:
        planes = ControlPlanes(client, [replica["url"] for replica in status["control_planes"]])
        targets = [*stack.simulators]
        for run in range(runs):
            target = targets[run % len(targets)]
            await until(lambda: calm(planes))
            for name, ms in (await _fault(stack, client, planes, edges, target)).items():
                spans[name].append(ms)
            stack.start_simulator(target)
        await until(lambda: calm(planes))
    figures: dict[str, Any] = {"fault_runs": runs}
    for name, values in spans.items():
        figures |= spread(f"fault_{name}", values)
    return figures


async def takeovers(stack: Stack, *, runs: int) -> dict[str, Any]:
    """`takeover_*`: from the signal until another replica says that it leads."""
    async with httpx2.AsyncClient(timeout=2.0, trust_env=False) as client:
        kills = [await _takeover(stack, client, "KILL") for _ in range(runs)]
        terms = [await _takeover(stack, client, "TERM") for _ in range(runs)]
    return {
        "takeover_kill_ms": round(statistics.median(kills)),
        "takeover_term_ms": round(statistics.median(terms)),
    }


async def applied_everywhere(client: httpx2.AsyncClient, edges: list[str], version: Version) -> bool:
    """Whether every edge serves `version` or a later one."""
    states = await asyncio.gather(*(edge_state(client, url) for url in edges))
    return all(state is not None and state.decision >= version for state in states)


async def _fault(
    stack: Stack, client: httpx2.AsyncClient, planes: ControlPlanes, edges: list[str], target: str
) -> dict[str, float]:
    """Kill `target`; ms until it is detected, decided upon, and applied on all edges."""
    before, _ = await planes.in_force()
    # A kill must not always fall at the same moment between two probes.
    await asyncio.sleep(PROBE_S * (int.from_bytes(os.urandom(2)) / 65536))
    began = CLOCK.monotonic()
    stack.kill_simulator(target)

    async def detected() -> object:
        return next(t for t in (await planes.health()).targets if t.id == target).verdict == "DOWN"

    async def decided() -> object:
        _, documents = await planes.in_force()
        return version_without(documents, frozenset({target}), after=before)

    async def timed(what: Callable[[], Awaitable[object]]) -> tuple[float, Any]:
        found = await until(what)
        return (CLOCK.monotonic() - began) * 1000, found

    async def followed() -> tuple[float, float]:
        decided_ms, version = await timed(decided)
        applied_ms, _ = await timed(lambda: applied_everywhere(client, edges, version))
        return decided_ms, applied_ms

    (detected_ms, _), (decided_ms, applied_ms) = await asyncio.gather(timed(detected), followed())
    return {"detected": detected_ms, "decided": decided_ms, "applied": applied_ms}


async def _takeover(stack: Stack, client: httpx2.AsyncClient, name: str) -> float:
    """Signal the leader; ms until another replica says that it leads. The first one is started again."""
    status = stack.status()
    leader, epoch = status["leader"]["id"], status["leader"]["epoch"]
    others = [replica["url"] for replica in status["control_planes"] if replica["id"] != leader]
    pid = next(replica["pid"] for replica in status["control_planes"] if replica["id"] == leader)

    async def another() -> object:
        found = await asyncio.gather(*(ControlPlanes(client, [url]).leader() for url in others))
        return any(one is not None and one.id != leader and one.epoch > epoch for one in found)

    began = CLOCK.monotonic()
    os.kill(pid, signal.Signals[f"SIG{name}"])
    await until(another)
    took_ms = (CLOCK.monotonic() - began) * 1000
    await asyncio.sleep(1.0)
    stack.leeward("start", leader)
    await asyncio.sleep(2.0)
    return took_ms
