"""What holds for every test: nothing is left behind.

A coroutine test that leaves an asyncio task running fails; a session that leaves a child process or a listening
socket fails as a whole. `--seeds N` sets how many simulated runs `tests/simulation` makes.
"""

import asyncio
import functools
import inspect
import os
from collections.abc import Iterator
from typing import Any

import psutil
import pytest
import structlog
from hypothesis import settings

# One run is like another, on every machine; `HYPOTHESIS_PROFILE=explore` (as in `make test-all`) looks further.
settings.register_profile("same", derandomize=True)
settings.register_profile("explore", max_examples=500)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))

GRACE_TURNS = 50
"""Turns of the loop that tasks get to end by themselves once a test has returned."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seeds", type=int, default=20, help="simulated runs (default 20)")
    parser.addoption("--seed", type=int, default=None, help="replay this one simulated run")


def pytest_itemcollected(item: pytest.Item) -> None:
    """Wrap every coroutine test so that tasks it leaves running fail it."""
    function = getattr(item, "obj", None)
    if function is None or not inspect.iscoroutinefunction(function):
        return

    @functools.wraps(function)
    async def checked(*args: Any, **kwargs: Any) -> None:
        before = asyncio.all_tasks()
        await function(*args, **kwargs)
        for _ in range(GRACE_TURNS):
            left = asyncio.all_tasks() - before
            if not left:
                return
            await asyncio.sleep(0)
        await asyncio.sleep(0.05)
        left = asyncio.all_tasks() - before
        assert not left, f"the test left tasks running: {sorted(task.get_name() for task in left)}"

    item.obj = checked  # type: ignore[attr-defined]


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Fail the session when a process it started still runs, or a port it opened still listens."""
    own = psutil.Process()
    _, children = psutil.wait_procs(own.children(recursive=True), timeout=3)
    leftovers = [f"process {child.pid}: {' '.join(child.cmdline())[:120]}" for child in children]
    leftovers += [
        f"port {connection.laddr.port}"
        for connection in own.net_connections(kind="tcp")
        if connection.status == psutil.CONN_LISTEN
    ]
    if leftovers:
        reporter = session.config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None:
            reporter.write_line("left behind:\n  " + "\n  ".join(leftovers), red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(autouse=True)
def _logs_as_they_were() -> Iterator[None]:
    """A command under test may quiet the logs of its process, which is ours."""
    yield
    structlog.reset_defaults()
