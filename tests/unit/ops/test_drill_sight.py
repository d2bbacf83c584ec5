"""What a drill takes for an answer to its fault, and how its waits end."""

import asyncio
from datetime import UTC, datetime

import pytest

from ops.client import ControlPlanes, EdgeState, open_client
from ops.drill.sight import Sight, Stopped, version_with, version_without
from shared.clock import SystemClock
from shared.supervise import Supervisor
from shared.vocabulary.base import Version
from shared.vocabulary.decision import (
    DecidedTier,
    Decision,
    Exclusion,
    RegionDecision,
    Term,
    WeightedTarget,
)
from shared.vocabulary.terms import EdgeMode

DEAD = frozenset({"alpha-eu", "beta-eu"})


def document(route: str, seq: int, *targets: str, excluded: tuple[str, ...] = ()) -> Decision:
    weights = [1000] + [0] * (len(targets) - 1)
    tier = DecidedTier(
        share_permille=1000,
        targets=tuple(
            WeightedTarget(id=target, weight_permille=weight)
            for target, weight in zip(targets, weights, strict=True)
        ),
    )
    return Decision(
        route=route,
        generation=1,
        seq=seq,
        config_version=1,
        regions={"us": RegionDecision(tiers=(tier,))},
        excluded=tuple(Exclusion(target=target, by="auto", reason="down") for target in excluded),
        decided_at=datetime(2030, 1, 1, tzinfo=UTC),
        term=Term(holder="cp", epoch=1),
    )


def by_route(*documents: Decision) -> dict[str, Decision]:
    return {each.route: each for each in documents}


def test_leaving_takes_every_route_and_every_target() -> None:
    """The version that left them is the newest document's, once no route uses any of them."""
    before = Version(1, 4)
    partly = by_route(document("chat", 5, "alpha-us", "beta-eu"), document("embed", 5, "alpha-us"))
    assert version_without(partly, DEAD, after=before) is None
    wholly = by_route(document("chat", 6, "alpha-us"), document("embed", 5, "alpha-us"))
    assert version_without(wholly, DEAD, after=before) == Version(1, 6)


def test_what_was_in_force_before_is_no_answer() -> None:
    """A route that never used the targets does not count as having left them."""
    documents = by_route(document("chat", 4, "alpha-us"))
    assert version_without(documents, DEAD, after=Version(1, 4)) is None
    assert version_without({}, DEAD, after=Version(1, 4)) is None


def test_return_is_the_end_of_every_exclusion() -> None:
    """Back when nobody excludes any of them, in a decision made since."""
    out = by_route(document("chat", 7, "alpha-us", excluded=("beta-eu",)))
    assert version_with(out, DEAD, after=Version(1, 6)) is None
    back = by_route(document("chat", 8, "alpha-us", "alpha-eu", excluded=("somebody-else",)))
    assert version_with(back, DEAD, after=Version(1, 6)) == Version(1, 8)
    assert version_with(back, DEAD, after=Version(1, 8)) is None


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
    """An edge that does not answer serves nothing."""
    seen = sight()
    seen.states["one"] = EdgeState("one", "us", EdgeMode.FRESH, Version(1, 7), 0.1)
    assert seen.all_serve(["one"], Version(1, 7))
    assert not seen.all_serve(["one"], Version(1, 8))
    assert not seen.all_serve(["one", "two"], Version(1, 7))
    await seen.client.aclose()
