"""From a drill on record to its report, kept: what the command line and the agent have in common."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2

from ops.client import ControlPlanes, DrillRegister, open_client
from ops.drill.ground import Ground
from ops.drill.html import checked_template, page
from ops.drill.injectors.make import HttpInjectors
from ops.drill.runner import Done, Runner, Told
from ops.drill.scope import places, resolve, where_it_strikes
from ops.drill.sight import Sight
from ops.drill.spans import tell_trace
from ops.errors import Usage
from shared.clock import Clock
from shared.vocabulary.drill import Drill, DrillSpec
from shared.vocabulary.status import DrillReport

TRACE_URL = "LEEWARD_TRACE_URL"
"""Where a backend shows a trace: `http://HOST/PATH/{id}`."""
POLL_TIMEOUT_S = 0.5
"""Less than a drill's figures: a poll that hangs on something half dead must not hide the rest."""


@dataclass(frozen=True, slots=True)
class Line:
    """What a runner talks to a fleet by. Polls give up soon, orders do not."""

    polls: httpx2.AsyncClient
    orders: httpx2.AsyncClient
    planes: ControlPlanes

    @property
    def register(self) -> DrillRegister:
        """The control plane's record of drills."""
        return DrillRegister(self.planes)


@asynccontextmanager
async def line_to(urls: tuple[str, ...]) -> AsyncIterator[Line]:
    """Clients for as long as it is open."""
    async with open_client(timeout_s=POLL_TIMEOUT_S) as polls, open_client() as orders:
        yield Line(polls, orders, ControlPlanes(orders, urls))


def fitting(spec: DrillSpec, ground: Ground) -> DrillSpec:
    """The drill with its region filled in. Raises Usage where it makes no sense on this ground."""
    if not ground.key and spec.load.source == "drill":
        raise Usage(
            "nobody said what clients present to edges: give --key env:NAME, or use `load.source: traffic`"
        )
    filled = where_it_strikes(spec, ground.terrain)
    asked = resolve(filled, ground.terrain).asked
    hidden = [edge.id for edge in ground.terrain.edges if edge.id in asked and not edge.url]
    if hidden and spec.load.source == "drill":
        raise Usage(f"{', '.join(hidden)} advertise no URL to send requests to: use `load.source: traffic`")
    places(filled, ground.terrain, drill="drill")
    return filled


async def conduct(
    drill: Drill,
    ground: Ground,
    line: Line,
    *,
    name: str,
    clock: Clock,
    tell: Callable[[Told], None],
    on_sight: Callable[[Sight], None],
) -> DrillReport:
    """Run a claimed drill to its end, and keep its report here and on record. `on_sight` gets what can
    stop it. Raises Usage where it makes no sense on this ground."""
    sight = Sight(
        edges={edge.id: edge.admin_url for edge in ground.terrain.edges},
        planes=ControlPlanes(line.polls, ground.planes),
        client=line.polls,
        clock=clock,
    )
    links = _links(ground)
    runner = Runner(
        drill,
        ground,
        name=name,
        sight=sight,
        register=line.register,
        injectors=HttpInjectors(line.orders, line.planes, stack=ground.stack),
        clock=clock,
        tell=tell,
    )
    on_sight(sight)
    done = await runner.run()
    html = page(done.report, done.data, at=clock.now(), **links)
    kept = await asyncio.to_thread(_keep, ground.folder, drill.id, done, html)
    told = await runner.recorder.finish(kept, html)
    if told is not None:
        kept = kept.model_copy(update={"failures": (*kept.failures, f"the report is not on record: {told}")})
    keeper = ground.terrain.keeper if ground.stack is not None else None
    await tell_trace(kept, done.data, runner=name, keeper=keeper, now=clock.now())
    return kept


def _links(ground: Ground) -> dict[str, str]:
    """What the page points to: decisions at a control plane; traces where LEEWARD_TRACE_URL says, else at a
    local stack's keeper. Raises Usage."""
    found = {"explain_url": f"{ground.planes[0]}/v1/decisions/{{version}}"} if ground.planes else {}
    wanted = os.environ.get(TRACE_URL)
    if wanted:
        try:
            found["trace_url"] = checked_template(wanted, "{id}")
        except ValueError as error:
            raise Usage(f"{TRACE_URL}: {error}") from None
    elif ground.stack is not None and ground.terrain.keeper is not None:
        found["trace_url"] = f"{ground.terrain.keeper}/traces/{{id}}"
    return found


def _keep(folder: Path, drill: str, done: Done, html: str) -> DrillReport:
    """Three files named after the drill: the report, the whole measurement, the page."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{drill}-{done.report.drill}"
    kept = done.report.model_copy(update={"report_html": str((folder / f"{stem}.html").resolve())})
    (folder / f"{stem}.json").write_text(kept.model_dump_json(indent=2) + "\n")
    (folder / f"{stem}.measured.json").write_text(done.data.model_dump_json() + "\n")
    (folder / f"{stem}.html").write_text(html)
    return kept
