"""The keeper's inner process, built by hand."""

import asyncio
import os
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

from aiohttp import web

from ops.drill import agent
from ops.keeper import panel, traces
from ops.keeper.faults import Faults
from ops.local.stack import Stack
from shared.admin import MAX_BODY_BYTES, no_browsers
from shared.clock import Clock, SystemClock
from shared.log import get_logger
from shared.signals import ended_by_signal
from shared.supervise import Supervisor

log = get_logger(__name__)

ORPHANED = 3
"""Exit code of an inner process whose outer one was killed."""
GUARD_POLL_S = 0.25
LOCK_WAIT_S = 2.0
"""Undoing is tried again, and `leeward down` waits for the keeper while it holds the lock."""
BACKLOG = 128


async def run(
    state_dir: Path,
    *,
    host: str = "127.0.0.1",
    port: int,
    outer: int | None = None,
    started: Callable[[int], None] | None = None,
    clock: Clock | None = None,
) -> int:
    """Keep until SIGTERM or SIGINT, or until `outer`, the process that started this one, is gone; then
    undo every fault. Returns the exit code.

    `started` is called with the port once it listens. Raises OSError when the port is taken.
    """
    stack, clock = Stack(state_dir, lock_wait_s=LOCK_WAIT_S), clock or SystemClock()
    faults = Faults(stack, clock=clock)
    app = web.Application(middlewares=[no_browsers], client_max_size=MAX_BODY_BYTES)
    panel.install(app, faults)
    traces.install(app)
    async with AsyncExitStack() as held:
        ended = held.enter_context(ended_by_signal())
        supervisor = await held.enter_async_context(Supervisor())
        supervisor.start("faults", faults.run)
        supervisor.start("drill agent", lambda: agent.of_stack(stack, clock=clock))
        bound = await _listen(app, host, port, held)
        log.info("keeper listens", port=bound, state_dir=str(state_dir))
        if started is not None:
            started(bound)
        waiting = {supervisor.spawn("end", ended.wait())}
        if outer is not None:
            waiting.add(supervisor.spawn("guard", _until_gone(outer)))
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if ended.is_set():
            # `leeward kill` lets go of the lock at once; `down` keeps it, and ends every fault itself.
            await faults.undo_all(lock_wait_s=0.5)
            code = 0
        else:
            log.critical("the outer keeper is gone: undoing every fault, then ending")
            await faults.undo_all(lock_wait_s=10.0)
            code = ORPHANED
    stack.launcher.release()
    return code


async def _listen(app: web.Application, host: str, port: int, held: AsyncExitStack) -> int:
    """Serve `app` while `held` is open; gives the port as bound."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0, handle_signals=False)
    await runner.setup()
    held.push_async_callback(runner.cleanup)
    await web.TCPSite(runner, host, port, backlog=BACKLOG).start()
    return int(runner.addresses[0][1])


async def _until_gone(outer: int) -> None:
    """A process whose parent ends is handed to another one."""
    while os.getppid() == outer:
        await asyncio.sleep(GUARD_POLL_S)
