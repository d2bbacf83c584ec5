"""A drill against the local stack: which region, what breaking and mending it means, and where the
report goes."""

import asyncio
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx2

from ops import status
from ops.client import ControlPlanes, open_client
from ops.drill import region_outage
from ops.drill.html import page
from ops.drill.load import Load
from ops.drill.region_outage import Scope
from ops.drill.sight import Sight
from ops.errors import Bad, Usage
from ops.local.processes import Kind
from ops.local.stack import Stack, StackFile
from shared.clock import Clock
from shared.vocabulary.status import DrillReport

RATE_PER_S = 30.0
READY_TIMEOUT_S = 30.0
POLL_TIMEOUT_S = 0.5
"""Less than a drill's figures: a poll that hangs on something half dead must not hide the rest."""


@dataclass(frozen=True, slots=True)
class LocalRegion:
    """A region of a local stack, killed with SIGKILL and started from its record."""

    stack: Stack
    region: str

    async def kill(self) -> None:
        """Every process in it."""
        await asyncio.to_thread(self._kill)

    async def restore(self) -> None:
        """Every process in it that does not run."""
        await asyncio.to_thread(self._restore)

    def _kill(self) -> None:
        with self.stack.locked():
            self.stack.send(self.stack.select([self.region]), signal.SIGKILL)

    def _restore(self) -> None:
        with self.stack.locked():
            self.stack.launch(self.stack.select([self.region]))


async def run_region_outage(
    stack: Stack,
    region: str,
    *,
    clock: Clock,
    on_sight: Callable[[Sight], None],
    rate_per_s: float = RATE_PER_S,
) -> DrillReport:
    """Run the drill on `region`; writes and names its HTML report. `on_sight` gets what can stop it.

    Raises Usage for a stack it makes no sense on, Bad when the stack is not well to begin with.
    """
    file = stack.file
    if region not in file.regions:
        raise Usage(f"no region {region!r}; the stack has {', '.join(file.regions)}")
    if not file.simulated:
        raise Usage("a region outage needs targets it can kill: this stack's are external")
    if len(file.regions) < 2:
        raise Usage("a region outage needs a second region that survives it")
    await _require_well(file, clock)
    scope = _scope(file, region, etcd_leader=await _etcd_leader(file))
    edges = {record.id: record for record in file.processes if record.kind is Kind.EDGE}
    planes = [record.url for record in file.processes if record.kind is Kind.CONTROL_PLANE and record.url]
    load = Load(
        [(edge, edges[edge].url or "") for edge in scope.survivors], rate_per_s=rate_per_s, clock=clock
    )
    async with open_client(timeout_s=POLL_TIMEOUT_S) as client:
        sight = Sight(
            edges={edge: record.admin_url or "" for edge, record in edges.items()},
            planes=ControlPlanes(client, planes),
            client=client,
            clock=clock,
        )
        on_sight(sight)
        report = await region_outage.run(
            scope, ground=LocalRegion(stack, region), sight=sight, load=load, clock=clock
        )
    stack.launcher.release()
    return _keep(report, stack.state_dir / "drills", clock)


def _scope(file: StackFile, region: str, *, etcd_leader: str | None) -> Scope:
    edges = tuple(record for record in file.processes if record.kind is Kind.EDGE)
    return Scope(
        region=region,
        targets=frozenset(
            record.id for record in file.processes if record.kind is Kind.TARGETS and record.region == region
        ),
        survivors=tuple(edge.id for edge in edges if edge.region != region),
        edges=tuple(edge.id for edge in edges),
        etcd_leader_inside=etcd_leader == region,
    )


async def _etcd_leader(file: StackFile) -> str | None:
    """The region of etcd's own leader, by the members' metrics; None when none says so."""
    members = [record for record in file.processes if record.kind is Kind.ETCD]
    async with open_client() as client:
        for member in members:
            try:
                text = (await client.get(f"{member.url}/metrics")).text
            except httpx2.HTTPError:
                continue
            if "\netcd_server_is_leader 1\n" in text:
                return member.region
    return None


async def _require_well(file: StackFile, clock: Clock) -> None:
    """A drill on a sick stack measures the sickness. Raises Bad."""
    deadline = clock.monotonic() + READY_TIMEOUT_S
    async with open_client() as client:
        while True:
            now = await status.of_stack(client, file)
            if status.is_good(now):
                return
            if clock.monotonic() >= deadline:
                raise Bad("the stack is not well, so nothing was broken: see `leeward status`")
            await asyncio.sleep(0.25)


def _keep(report: DrillReport, folder: Path, clock: Clock) -> DrillReport:
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{clock.now():%Y%m%dT%H%M%SZ}-{report.drill}"
    kept = report.model_copy(update={"report_html": str(folder / f"{name}.html")})
    (folder / f"{name}.json").write_text(kept.model_dump_json(indent=2) + "\n")
    (folder / f"{name}.html").write_text(page(kept, at=clock.now()))
    return kept
