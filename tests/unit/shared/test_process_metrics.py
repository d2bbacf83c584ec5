"""What every process says of itself, on virtual time."""

import asyncio

from prometheus_client import generate_latest

from shared.metrics import SECONDS, LoopLag, new_registry, watch_process
from shared.supervise import Supervisor
from tests.simulation.virtual_time import NodeClock, VirtualTimeLoop


class Busy(NodeClock):
    """A clock that jumps while nobody sleeps: the loop was held up."""

    extra_s = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.extra_s


def test_the_lag_of_a_loop_is_remembered_for_a_scrape_and_then_forgotten():
    loop = VirtualTimeLoop()

    async def story() -> None:
        clock = Busy(loop)
        lag = LoopLag(clock)
        async with Supervisor() as supervisor:
            supervisor.start("lag", lag.run)
            await asyncio.sleep(5.1)
            assert lag.worst_s < 0.001
            clock.extra_s = 0.75
            await asyncio.sleep(1.0)
            assert abs(lag.worst_s - 0.75) < 0.001
            await asyncio.sleep(SECONDS - 2)
            assert abs(lag.worst_s - 0.75) < 0.001
            await asyncio.sleep(4)
            assert lag.worst_s < 0.001

    try:
        loop.run_until_complete(story())
    finally:
        loop.close()


def test_a_process_tells_what_it_is_and_what_failed_in_it():
    loop = VirtualTimeLoop()
    try:
        clock = NodeClock(loop)
        registry = new_registry()
        restarts = {"report": 2}
        watch_process(registry, role="edge", node="edge-1", region="east", restarts=restarts, clock=clock)
        text = generate_latest(registry).decode()
    finally:
        loop.close()
    assert 'node="edge-1",region="east",role="edge"' in text.split("leeward_build_info{")[1]
    assert 'leeward_process_loop_restarts_total{loop="report"} 2.0' in text
    assert "process_resident_memory_bytes" in text
    assert "_created" not in text
