"""How a drill's waits end, and what it keeps of what it saw."""

import asyncio

import pytest
from drill_worlds import document

from ops.client import ControlPlanes, EdgeState, open_client
from ops.drill.sight import Sight, Stopped
from shared.clock import SystemClock
from shared.supervise import Supervisor
from shared.vocabulary.base import Version
from shared.vocabulary.terms import EdgeMode


def sight() -> Sight:
    client = open_client()
    return Sight(edges={}, planes=ControlPlanes(client, []), client=client, clock=SystemClock())


async def test_a_wait_ends_in_time_or_when_stopped() -> None:
    """`until` gives what it sees at once, None after its time, and raises once stopped, now and later."""
    seen = sight()
    assert await seen.until(lambda: "there", timeout_s=5) == "there"
    assert await seen.until(lambda: None, timeout_s=0.01) is None
    async with Supervisor() as supervisor:
        waiting = supervisor.spawn("wait", seen.until(lambda: None, timeout_s=60))
        await asyncio.sleep(0)
        seen.stop("enough")
        seen.stop("too late")
        with pytest.raises(Stopped, match="enough"):
            await waiting
    with pytest.raises(Stopped, match="enough"):
        await seen.pause(60)
    await seen.client.aclose()


async def test_all_serve_needs_every_edge() -> None:
    """An edge that does not answer serves nothing, and is not FRESH."""
    seen = sight()
    seen.states["one"] = EdgeState("one", "us", EdgeMode.FRESH, Version(1, 7), 0.1)
    assert seen.all_serve(["one"], Version(1, 7))
    assert seen.all_fresh(["one"])
    assert not seen.all_serve(["one"], Version(1, 8))
    assert not seen.all_serve(["one", "two"], Version(1, 7))
    assert not seen.all_fresh(["one", "two"])
    await seen.client.aclose()


async def test_each_head_is_kept_once() -> None:
    """With what it planned, so that a move is seen even when it was taken back."""
    seen = sight()
    first, second = document("chat", 4, "alpha-us"), document("chat", 5, "beta-us")
    for one in (first, first, second):
        seen._decided(one.version, {"chat": one})
    assert [str(head.version) for head in seen.heads] == ["1.4", "1.5"]
    assert dict(seen.heads[1].plan) == {("chat", "us", "beta-us"): 1000}
    await seen.client.aclose()
