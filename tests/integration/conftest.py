"""The edge's data path runs on uvloop in production, so its tests do; all others on asyncio's own loop."""

import asyncio
from collections.abc import Callable, Mapping

import pytest
import uvloop

DATA_PATH = (
    "test_edge_serving",
    "test_edge_malformed",
    "test_edge_failover",
    "test_edge_streams",
    "test_edge_limits",
)


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """One factory for each module, so that no test runs twice."""
    if item.path.stem in DATA_PATH:
        return {"uvloop": uvloop.new_event_loop}
    return {"asyncio": asyncio.new_event_loop}
