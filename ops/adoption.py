"""Who works by which version of the configuration: every replica, edge and prober, asked in public."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import httpx2

from ops import presenting
from ops.client import ControlPlanes, get_json
from ops.errors import Unreachable
from shared.vocabulary.terms import Role

POLL_S = 0.2


@dataclass(frozen=True, slots=True)
class Runs:
    """One process and what it works by; None: it does not answer."""

    id: str
    config_version: int | None


async def adopted(
    client: httpx2.AsyncClient, planes: ControlPlanes, version: int, *, within_s: float
) -> tuple[list[Runs], list[Runs]]:
    """Wait until everybody works by `version` or a later one: all heard of, and those who lag after
    `within_s`. The leader has decided by it when the entry `decisions` has it."""
    deadline = asyncio.get_running_loop().time() + within_s
    while True:
        try:
            everybody = await running(client, planes)
            lagging = [one for one in everybody if one.config_version is None or one.config_version < version]
        except Unreachable:
            everybody, lagging = [], [Runs("control planes", None)]
        if not lagging or asyncio.get_running_loop().time() >= deadline:
            return everybody, lagging
        await asyncio.sleep(POLL_S)


async def running(client: httpx2.AsyncClient, planes: ControlPlanes) -> list[Runs]:
    """What the decisions in force, each replica, and every edge and prober that is not silent work by.
    Raises Unreachable."""
    head = (await planes.get("/v1/decisions/current"))["head"]
    edges = (await planes.get("/v1/edges"))["edges"]
    view = await planes.health()
    return [
        Runs("decisions", head["config_version"] if head else 0),
        *await _replicas(client, planes.urls),
        *(Runs(edge["id"], edge["config_version"]) for edge in edges if not edge["silent"]),
        *(
            Runs(source.id, source.config_version)
            for source in view.sources
            if source.role is Role.PROBER and source.fresh
        ),
    ]


async def _replicas(client: httpx2.AsyncClient, urls: Sequence[str]) -> list[Runs]:
    shown = presenting.headers()
    answers = await asyncio.gather(*(get_json(client, f"{url}/v1/leader", headers=shown) for url in urls))
    return sorted(
        (
            Runs(answer["replica"], answer.get("config_version")) if answer else Runs(url, None)
            for url, answer in zip(urls, answers, strict=True)
        ),
        key=lambda one: one.id,
    )
