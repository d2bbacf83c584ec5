"""Where a drill takes place: the fleet, where its parts are reached, and what may be done to them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx2

from ops import status
from ops.client import ControlPlanes
from ops.drill.scope import Edge, Part, Terrain
from ops.errors import Bad
from ops.local.fleet import CLIENT_KEY
from ops.local.processes import Kind
from ops.local.stack import Stack
from ops.simulator.answers import is_whole
from shared.vocabulary.config import Fleet, FleetConfig
from shared.vocabulary.status import StackStatus

KEEPER = "keeper"


@dataclass(frozen=True, slots=True)
class Ground:
    """A fleet under drill."""

    terrain: Terrain
    planes: tuple[str, ...]
    """URLs of control planes, any of which answers any question."""
    key: str
    """What clients present to edges; empty where nothing is sent."""
    folder: Path
    """Where reports are kept."""
    stack: Stack | None = None
    """Of a local stack."""
    is_whole: Callable[[str], bool] | None = None
    """Whether a text is a complete answer, where that can be known."""

    @property
    def fleet(self) -> Fleet:
        """The configuration in force."""
        return self.terrain.fleet

    async def status(self, client: httpx2.AsyncClient) -> StackStatus:
        """How all of it is. Raises Unreachable."""
        if self.stack is not None:
            return await status.of_stack(client, self.stack.file)
        return await status.of_url(client, self.planes[0])


async def of_stack(client: httpx2.AsyncClient, stack: Stack, *, key: str) -> Ground:
    """A local stack as its records tell it; without a `key`, the one of the built-in fleet where it runs
    that. Raises Unreachable, and Bad where it has no keeper."""
    file = stack.file
    planes = tuple(one.url for one in file.processes if one.kind is Kind.CONTROL_PLANE and one.url)
    keeper = next((one.url for one in file.processes if one.kind.value == KEEPER), None)
    if keeper is None:
        raise Bad(
            "this stack has no keeper, for it was started by an older release: `leeward down`, then `up`"
        )
    return Ground(
        terrain=Terrain(
            fleet=await _fleet(client, planes),
            edges=tuple(
                Edge(one.id, one.region, one.url or "", one.admin_url)
                for one in file.processes
                if one.kind is Kind.EDGE
            ),
            parts=tuple(
                Part(one.id, one.kind.value, one.region) for one in file.processes if one.kind.value != KEEPER
            ),
            panels={
                one.id: one.admin_url
                for one in file.processes
                if one.kind is Kind.TARGETS and one.admin_url is not None
            },
            keeper=keeper,
        ),
        planes=planes,
        key=key or (CLIENT_KEY if file.simulated else ""),
        folder=stack.state_dir / "drills",
        stack=stack,
        is_whole=is_whole if file.simulated else None,
    )


async def of_url(client: httpx2.AsyncClient, url: str, *, key: str, folder: Path) -> Ground:
    """A deployment, as one control plane tells it. Raises Unreachable."""
    planes = (url.rstrip("/"),)
    acked: Mapping[str, list[Mapping[str, str | None]]] = await ControlPlanes(client, planes).get("/v1/edges")
    return Ground(
        terrain=Terrain(
            fleet=await _fleet(client, planes),
            edges=tuple(
                Edge(str(one["id"]), str(one["region"]), one["url"] or "", one.get("admin_url"))
                for one in acked["edges"]
                if not one.get("silent")
            ),
        ),
        planes=planes,
        key=key,
        folder=folder,
    )


async def _fleet(client: httpx2.AsyncClient, planes: tuple[str, ...]) -> Fleet:
    answer = await ControlPlanes(client, planes).get("/v1/config")
    return FleetConfig.model_validate(answer, extra="ignore").fleet
