"""The drill agent: takes the drills that somebody asked for or a schedule made due, and runs them as the
command line would. Every local stack's keeper hosts one; `leeward drill agent` runs one for a deployment.
"""

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable

from ops.client import Refused
from ops.drill.conduct import Line, conduct, fitting, line_to
from ops.drill.ground import Ground
from ops.drill.ground import of_stack as ground_of_stack
from ops.errors import OpsError, Unreachable
from ops.local.processes import Kind
from ops.local.stack import Stack
from shared.clock import Clock
from shared.log import get_logger
from shared.vocabulary.drill import Drill

log = get_logger(__name__)

POLL_S = 1.0


def runner_name(kind: str) -> str:
    """Who runs, unique among all that run at the same time: `agent on host, pid 12`."""
    return f"{kind} on {socket.gethostname()}, pid {os.getpid()}"[:128]


async def run(
    urls: Callable[[], tuple[str, ...]],
    ground: Callable[[Line], Awaitable[Ground]],
    *,
    clock: Clock,
) -> None:
    """Take and run due drills for ever; cancelled, it undoes what it did and ends.

    `urls` names the control planes to ask, none while there is nobody to ask; `ground` looks at the
    fleet anew for each drill.
    """
    name = runner_name("agent")
    while True:
        if found := urls():
            async with line_to(found) as line:
                try:
                    for drill in await line.register.due():
                        await _take(drill, ground, line, name=name, clock=clock)
                except Unreachable:
                    pass  # asked again in a moment
                except OpsError as error:
                    log.warning("due drills could not be read", error=str(error))
        await asyncio.sleep(POLL_S)


async def of_stack(stack: Stack, *, clock: Clock) -> None:
    """The agent of a local stack, for as long as it runs there."""

    def urls() -> tuple[str, ...]:
        file = stack.read()
        if file is None or file.state != "running":
            return ()
        return tuple(one.url for one in file.processes if one.kind is Kind.CONTROL_PLANE and one.url)

    await run(urls, lambda line: ground_of_stack(line.orders, stack, key=""), clock=clock)


async def _take(
    due: Drill,
    ground: Callable[[Line], Awaitable[Ground]],
    line: Line,
    *,
    name: str,
    clock: Clock,
) -> None:
    try:
        drill = await line.register.claim(due.id, name)
    except Refused as refused:
        log.info("another runner has it", drill=due.id, said=str(refused))
        return
    log.warning("drill begins", drill=drill.id, what=drill.spec.drill, author=drill.author)
    try:
        stage = await ground(line)
        filled = drill.model_copy(update={"spec": fitting(drill.spec, stage)})
        report = await conduct(
            filled,
            stage,
            line,
            name=name,
            clock=clock,
            tell=lambda _: None,
            on_sight=lambda _: None,
        )
    except OpsError as error:
        log.warning("drill cannot be run here", drill=drill.id, error=str(error))
        await _give_back(drill, line, name, str(error))
        return
    log.warning("drill ended", drill=drill.id, outcome=report.outcome, report=report.report_html)


async def _give_back(drill: Drill, line: Line, name: str, reason: str) -> None:
    """End its record, so that nobody waits for it."""
    try:
        await line.register.abort(drill.id, author=name, reason=reason[:512])
    except OpsError as error:
        log.warning("drill could not be ended on record", drill=drill.id, error=str(error))
