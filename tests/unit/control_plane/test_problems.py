"""What a write that failed is told as: one table for overrides, rollouts, configurations, restores and drills."""

import pytest

from control_plane.api.problems import ApiError, written
from control_plane.core.backup import Damaged
from control_plane.core.config_check import Finding, Judgement
from control_plane.ports import Busy, InUse, NotKept, Objected, Stale, TooLarge, Unfit
from shared.ports import Refused, Unavailable

GRPC = "StatusCode.UNAVAILABLE: failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:2379"
HARM = Objected(Judgement(objections=(Finding(where="routes.chat", what="it would be empty"),)))


async def told(error: Exception, **words: str) -> ApiError:
    async def write() -> None:
        raise error

    with pytest.raises(ApiError) as found:
        await written(write(), **words)
    return found.value


@pytest.mark.parametrize(
    ("error", "status", "detail"),
    [
        (NotKept("no override 'drain-9' is on record"), 404, "no override 'drain-9' is on record"),
        (Unfit("it runs", "it is drained"), 409, "it runs; it is drained"),
        (InUse("operators have made 3 changes"), 409, "operators have made 3 changes"),
        (HARM, 409, "refused unless forced: it would be empty"),
        (Stale("version 4 is in force"), 412, "version 4 is in force"),
        (TooLarge("5 MiB"), 413, "5 MiB"),
        (Damaged("cut short"), 422, "cut short"),
        (Busy("other changes were made"), 503, "other changes were made"),
    ],
)
async def test_a_refusal_keeps_its_words(error: Exception, status: int, detail: str) -> None:
    """And may be opened by what was not done."""
    plain = await told(error)
    assert (plain.status, plain.detail) == (status, detail)
    assert (await told(error, undone="nothing was restored")).detail == f"nothing was restored: {detail}"


async def test_harm_is_told_part_by_part() -> None:
    """Each objection with its place."""
    faults = (await told(HARM)).faults
    assert faults is not None
    assert [(fault.where, fault.what) for fault in faults] == [("routes.chat", "it would be empty")]


async def test_of_a_lost_etcd_operators_hear_no_library() -> None:
    """That it does not answer, and where it will be seen whether it was done; never that it was not."""
    lost = await told(Unavailable(GRPC), look="GET /v1/config/versions", undone="nothing was restored")
    assert lost.status == 503
    assert lost.headers == {"retry-after": "1"}
    assert lost.detail == "etcd does not answer; GET /v1/config/versions will tell whether it was done"
    refused = await told(Refused("permission denied"))
    assert refused.detail.startswith("etcd refuses this replica (permission denied); GET /v1/audit will tell")
    assert (await told(Busy("x"))).headers == {"retry-after": "1"}


async def test_what_is_done_is_handed_on() -> None:
    """The answer, untouched."""

    async def write() -> str:
        return "drain-1"

    assert await written(write()) == "drain-1"
