"""One local stack for all drills, and a place for the figures they measure."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic

import psutil
import pytest
from fault_rows import Rows
from local_stack import LocalStack, free_port_base, processes_of, seconds_since, wait_for
from wired_stack import WiredStack, wired_stack

from tests.support import etcd

FIGURES = pytest.StashKey[list[str]]()
ROWS = pytest.StashKey[Rows]()
BESIDE = pytest.StashKey[list[LocalStack]]()
"""The shared stack, while it runs."""


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "every_etcd: run on the wheel's etcd and on the newer one of `make etcd`"
    )
    config.stash[FIGURES] = []
    config.stash[ROWS] = Rows()
    config.stash[BESIDE] = []


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """The wired stack runs on the etcd at hand; where etcd is what is tested, on a newer one too."""
    if "wired" in metafunc.fixturenames:
        every = metafunc.definition.get_closest_marker("every_etcd") is not None
        runs = etcd.BINARIES if every else etcd.BINARIES[:1]
        metafunc.parametrize("running_wired", runs, indirect=True, scope="session")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.drill)
    # The shared stack stands still while a wired one runs, so it is done with by then.
    items.sort(key=lambda item: "wired" in getattr(item, "fixturenames", ()))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print what the drills measured, whether or not output is captured."""
    config.stash[ROWS].report(terminalreporter)
    if figures := config.stash[FIGURES]:
        terminalreporter.section("figures")
        for figure in figures:
            terminalreporter.write_line(figure)


@pytest.fixture(scope="session")
def figure(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Puts a line into the summary."""
    return request.config.stash[FIGURES].append


@pytest.fixture(scope="session")
def row(request: pytest.FixtureRequest) -> Rows:
    """Notes a row of the fault table: `row(1, "leader killed", "5.1 s", limit="7 s")`."""
    return request.config.stash[ROWS]


@pytest.fixture(scope="session")
def running_stack(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, figure: Callable[[str], None]
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
        request.config.stash[BESIDE].append(stack)
        yield stack
    finally:
        request.config.stash[BESIDE].clear()
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
    if not (running_stack.all_run() and running_stack.well()):
        running_stack.heal()
    return running_stack


@pytest.fixture(scope="session")
def running_wired(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[WiredStack]:
    """A stack with breakable links on one of the etcds at hand; the shared one stands still meanwhile."""
    runs: str = request.param
    if reason := etcd.why_not(runs):
        pytest.skip(reason)
    beside = list(request.config.stash[BESIDE])
    for stack in beside:
        stack.leeward("kill", *stack.regions, "--signal", "STOP")
    try:
        home, base = tmp_path_factory.mktemp("wired") / "stack", free_port_base(start=26_400)
        with wired_stack(home, base, etcd_runs=runs) as stack:
            yield stack
    finally:
        for stack in beside:
            stack.leeward("kill", *stack.regions, "--signal", "CONT")


@pytest.fixture
def wired(running_wired: WiredStack) -> WiredStack:
    """The wired stack, everything in it alive and whole and as it was in the beginning."""
    running_wired.mend()
    if not (running_wired.all_run() and running_wired.well()):
        running_wired.heal()
    return running_wired
