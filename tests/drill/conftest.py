"""One local stack for all drills, and a place for the figures they measure."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic

import psutil
import pytest
from local_stack import LocalStack, free_port_base, processes_of, seconds_since, wait_for

FIGURES = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[FIGURES] = []


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.drill)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print what the drills measured, whether or not output is captured."""
    if figures := config.stash[FIGURES]:
        terminalreporter.section("figures")
        for figure in figures:
            terminalreporter.write_line(figure)


@pytest.fixture(scope="session")
def figure(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Puts a line into the summary."""
    return request.config.stash[FIGURES].append


@pytest.fixture(scope="session")
def running_stack(
    tmp_path_factory: pytest.TempPathFactory, figure: Callable[[str], None]
) -> Iterator[LocalStack]:
    """Three regions, started once; gone afterwards, whatever happened."""
    stack = LocalStack(tmp_path_factory.mktemp("drill") / "a stack", free_port_base())
    begun = monotonic()
    started = stack.up()
    ready_s = seconds_since(begun)
    try:
        assert started.returncode == 0, started.stdout + started.stderr
        figure(f"up: ready after {ready_s:.1f} s")
        wait_for("verdicts", lambda: set(stack.verdicts().values()) == {"HEALTHY"}, timeout_s=20)
        wait_for("a plan", lambda: stack.fresh() and stack.documents(), timeout_s=20)
        stack.note_baseline()
        yield stack
    finally:
        stack.http.close()
        stack.leeward("kill", *stack.regions, "--signal", "CONT")
        down = stack.leeward("down")
        leftovers = processes_of(stack.state_dir)
        for process in leftovers:
            with contextlib.suppress(psutil.Error):
                process.kill()
        assert down.returncode == 0, down.stderr
        assert not leftovers, f"`down` left {leftovers}"


@pytest.fixture
def stack(running_stack: LocalStack) -> LocalStack:
    """The stack, everything in it alive and as it was in the beginning."""
    if not running_stack.well():
        running_stack.heal()
    return running_stack
