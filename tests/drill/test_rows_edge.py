"""Fault rows 18 to 22 on real processes: what targets may do to a request, and what its client gets all the same."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from edge_stand import TIMEOUTS, edge_stand
from fault_rows import Rows

from tests.support.processes import until

pytestmark = (
    pytest.mark.slow
)  # in `make test` tests/integration/test_edge_*.py show the same on the data path alone

CALLS = 24
AT_ONCE = 4
SLACK_S = 0.7
"""For two cores that do other things besides: deadlines are looked at every 50 ms."""

SILENT: dict[str, tuple[dict[str, Any] | None, float]] = {
    "refuses": (None, 0.0),
    "resets what it accepts": ({"reset": "accept"}, 0.0),
    "resets once it has the request": ({"reset": "request"}, 0.0),
    "accepts and hangs": ({"hang": True}, TIMEOUTS["first_byte_s"]),
    "drips a byte a time": ({"drip": {"bytes": 1, "every_ms": 400}}, TIMEOUTS["total_s"]),
}
"""Faults of the first target (None: it is killed), and how long they may cost a request."""


@pytest.mark.parametrize("what", SILENT)
async def test_a_target_that_does_not_answer_costs_its_own_timeout_and_no_request(
    tmp_path: Path, row: Rows, what: str
) -> None:
    """Row 18: every request is answered by another target, within the timeout, and no connection is left open."""
    faults, costs_s = SILENT[what]
    async with edge_stand(tmp_path, "alpha", "beta") as stand:
        await stand.calls(8, at_once=AT_ONCE)
        before = stand.sockets()
        if faults is None:
            stand.targets["alpha"].stop()
        else:
            await stand.faults("alpha", **faults)
        dripping = "drip" in (faults or {})
        got = await stand.calls(4 if dripping else CALLS, stream=dripping, at_once=AT_ONCE)
        row(
            18,
            what,
            f"{got.failed} of {len(got.seconds)} failed, slowest {got.slowest_s:.2f} s",
            limit=f"0 failed, {costs_s:.1f} s",
            slowest_s=got.slowest_s,
        )
        assert got.statuses == {200: len(got.seconds)}
        assert not got.wrong
        assert got.slowest_s < costs_s + SLACK_S
        # Those to the other target are kept for the next requests: as many as were under way at once.
        await until(
            _returned(lambda: stand.sockets() <= before + AT_ONCE), within_s=10, what="connections are left"
        )


GARBAGE = {
    "a page": {"garbage_200": "html"},
    "half a JSON text": {"garbage_200": "truncated"},
    "nothing": {"garbage_200": "empty"},
    "the JSON of something else": {"garbage_200": "other"},
    "an impossible chunk size": {"bad_chunked": True},
}


@pytest.mark.parametrize("what", GARBAGE)
async def test_garbage_under_a_200_is_a_failure_and_never_an_answer(
    tmp_path: Path, row: Rows, what: str
) -> None:
    """Row 19: counted as GARBLED, replaced by another target's answer; where there is none, an error."""
    async with edge_stand(tmp_path, "alpha", "beta") as stand:
        await stand.faults("alpha", **GARBAGE[what])
        got = await stand.calls(CALLS)
        await stand.faults("beta", **GARBAGE[what])
        alone = await stand.calls(6)
        metrics = (await stand.http.get(f"{stand.admin_url}/metrics")).text
        row(
            19,
            f"200 with {what}",
            f"{got.failed} of {CALLS} failed, {len(got.wrong) + len(alone.wrong)} wrong answers",
            limit="0, 0",
        )
        assert got.statuses == {200: CALLS}
        assert not got.wrong
        assert not alone.statuses[200]
        assert not alone.wrong
        assert 'outcome="GARBLED"' in metrics


BROKEN = {
    "cut": {"cut_after_tokens": 5},
    "reset": {"cut_after_tokens": 5, "cut_as": "reset"},
    "ended early": {"cut_after_tokens": 5, "cut_as": "end"},
    "stalled": {"stall_after_tokens": 5},
    "with a malformed event": {"malformed_chunk_after_tokens": 5},
}


@pytest.mark.parametrize("what", BROKEN)
async def test_a_broken_stream_ends_in_band_and_never_like_a_whole_one(
    tmp_path: Path, row: Rows, what: str
) -> None:
    """Row 20, route without recovery: each client is told, none takes a part for the whole."""
    async with edge_stand(tmp_path, "alpha") as stand:
        await stand.faults("alpha", **BROKEN[what])
        # Three in a row eject, which is none of this test's business.
        got = await stand.calls(2, stream=True, at_once=2)
        row(
            20,
            f"stream {what}, terminate",
            f"{got.told} of {len(got.seconds)} told in-band, {len(got.wrong)} truncated with a clean end",
            limit="all, 0",
        )
        assert not got.wrong
        assert got.told == 2


@pytest.mark.parametrize("said", [1, 10**9, "Fri, 31 Dec 9999 23:59:59 GMT", "soon"])
async def test_a_storm_of_429_is_not_multiplied(tmp_path: Path, row: Rows, said: int | str) -> None:
    """Row 21: the target cools, whatever it says of when; requests go elsewhere, few of them twice."""
    async with edge_stand(tmp_path, "alpha", "beta") as stand:
        await stand.faults("alpha", throttle={"retry_after": said})
        asked = 200
        got = await stand.calls(asked, at_once=8)
        (shown,) = [one for one in (await stand.status())["targets"] if one["target"] == "alpha-here"] or [{}]
        row(
            21,
            f"429, Retry-After {str(said)[:16]}",
            f"{got.attempts / asked:.3f} attempts a request, {got.failed} failed",
            limit="1.2, 0",
            attempts=got.attempts / asked,
        )
        assert got.statuses == {200: asked}
        assert got.attempts <= 1.2 * asked
        assert shown.get("cooling_s", 0.0) <= 600.0


async def test_when_every_target_answers_503_requests_are_not_multiplied(tmp_path: Path, row: Rows) -> None:
    """Row 22: an outage of all is passed on as one; attempts stay within the first move and the budget."""
    async with edge_stand(tmp_path, "alpha", "beta", "gamma") as stand:
        for name in stand.targets:
            await stand.faults(name, status={"code": 503})
        asked = 120
        got = await stand.calls(asked, at_once=40)
        reached = sum([(await stand.stats(name))["requests"] for name in stand.targets])
        row(
            22,
            "all targets 503",
            f"{reached / asked:.2f} attempts a request, {got.failed} of {asked} told so",
            limit="2.75, all",
            attempts=reached / asked,
        )
        assert set(got.statuses) <= {502, 503}
        # At any moment a fifth of those under way may be at their third; that part of a life is a third of it.
        assert reached <= 2.75 * asked


def _returned(holds: Callable[[], bool]) -> Any:
    async def look() -> bool:
        await asyncio.sleep(0)
        return holds()

    return look
