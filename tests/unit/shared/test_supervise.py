"""Supervisor: loops are restarted, counted, and gone when it is left."""

import asyncio

import pytest

from shared.supervise import Supervisor


async def test_a_failing_loop_is_run_again_and_counted() -> None:
    """One failure neither ends the loop nor the process."""
    runs = 0
    done = asyncio.Event()

    async def loop() -> None:
        nonlocal runs
        runs += 1
        if runs < 3:
            raise RuntimeError("lost")
        done.set()

    async with Supervisor() as supervisor:
        supervisor.start("observe", loop)
        await asyncio.wait_for(done.wait(), 10)
        assert supervisor.failures == {"observe": 2}


async def test_leaving_cancels_and_awaits_everything() -> None:
    """A loop's `finally` has run by the time the supervisor is left."""
    cleaned = []

    async def loop() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned.append(True)

    async with Supervisor() as supervisor:
        supervisor.start("a", loop)
        supervisor.start("b", loop)
        await asyncio.sleep(0)
    assert cleaned == [True, True]
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_an_error_of_spawned_work_is_counted_and_not_lost() -> None:
    """`spawn` runs once; its task still raises to whoever awaits it."""

    async def work() -> None:
        raise ValueError("once")

    async with Supervisor() as supervisor:
        task = supervisor.spawn("write", work())
        with pytest.raises(ValueError, match="once"):
            await task
        await asyncio.sleep(0)
        assert supervisor.failures == {"write": 1}
