"""Pytest plugin of the bus contract: it runs against every broker at hand, and the summary says which, and why
the others did not.

A broker is started once for the session and restarted by the tests that break it; topics are each test's own.
"""

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack

import pytest

from tests.support.brokers import BROKERS, Broker, running

RAN = pytest.StashKey[dict[str, str]]()
MARKS = {"apache": [pytest.mark.kafka_apache], "container": [pytest.mark.kafka_apache, pytest.mark.slow]}


@pytest.fixture(
    scope="session", params=[pytest.param(name, marks=MARKS.get(name, []), id=name) for name in BROKERS]
)
def session_broker(request: pytest.FixtureRequest) -> Iterator[Broker]:
    """Each broker at hand, running."""
    name: str = request.param
    ran = request.config.stash.setdefault(RAN, {})
    reason = BROKERS[name].why_not()
    if reason is not None:
        ran[name] = f"not run: {reason}"
        pytest.skip(reason)
    ran[name] = "ran"
    stack = AsyncExitStack()
    with asyncio.Runner() as runner:
        try:
            yield runner.run(stack.enter_async_context(running(name)))
        finally:
            runner.run(stack.aclose())


@pytest.fixture
def broker(request: pytest.FixtureRequest, session_broker: Broker) -> Broker:
    """As `session_broker`, for tests that it is able to take: `@pytest.mark.needs("restart")`."""
    for mark in request.node.iter_markers("needs"):
        missing = set(mark.args) - session_broker.can
        if missing:
            pytest.skip(f"{session_broker.name} cannot {', '.join(sorted(missing))}")
    return session_broker


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say which brokers the contract ran against."""
    ran = config.stash.get(RAN, {})
    if ran:
        terminalreporter.section("bus contract")
        for name in BROKERS:
            terminalreporter.write_line(f"{name:<12} {ran.get(name, 'not selected')}")
