"""Backup and restore over HTTP."""

from collections.abc import AsyncIterator

import httpx2
import pytest

from control_plane.api.build import build
from control_plane.api.guard import own_hosts
from control_plane.core.backup import decode
from tests.support.still_replica import LISTEN, StillReplica

LINES = {"content-type": "application/x-ndjson"}
WHO = "author=ada&reason=because"


@pytest.fixture
def replica() -> StillReplica:
    return StillReplica()


@pytest.fixture
async def client(replica: StillReplica) -> AsyncIterator[httpx2.AsyncClient]:
    app = build(replica, hosts=own_hosts("127.0.0.1", 7100, None))
    transport = httpx2.ASGITransport(app=app)
    async with httpx2.AsyncClient(transport=transport, base_url=f"http://{LISTEN}") as client:
        yield client


async def test_a_backup_is_lines_that_prove_themselves(
    client: httpx2.AsyncClient, replica: StillReplica
) -> None:
    """What comes can be read by whoever knows the form; a version that is not kept is a 404."""
    answer = await client.get("/v1/backup")
    assert answer.headers["content-type"] == LINES["content-type"]
    assert decode(answer.content, name="answer")[0].manifest.version == "1.7"
    assert (await client.get("/v1/backup?since=1.7")).status_code == 200
    assert (await client.get("/v1/backup?since=1.3")).status_code == 404
    assert (await client.get("/v1/backup?since=yesterday")).status_code == 422
    replica.etcd_answers = False
    assert (await client.get("/v1/backup")).status_code == 503


async def test_only_what_is_whole_is_restored(client: httpx2.AsyncClient, replica: StillReplica) -> None:
    """A good one is, with who and why; a changed or cut one is refused before anybody is asked."""
    raw = (await client.get("/v1/backup")).content
    done = await client.post(f"/v1/restore?{WHO}", content=raw, headers=LINES)
    assert (done.status_code, done.json()["generation"]) == (200, 2)
    assert (replica.archive.orders[0].author, replica.archive.orders[0].reason) == ("ada", "because")
    for wrong in (raw[:-5], raw.replace(b'"text":"1"', b'"text":"2"'), b"", b"{}\n"):
        answer = await client.post(f"/v1/restore?{WHO}", content=wrong, headers=LINES)
        assert answer.status_code == 422, wrong
        assert "nothing was restored" in answer.json()["detail"]
    assert len(replica.archive.orders) == 1


async def test_over_what_operators_wrote_it_must_be_forced(
    client: httpx2.AsyncClient, replica: StillReplica
) -> None:
    """409 says what is there."""
    raw = (await client.get("/v1/backup")).content
    replica.archive.in_use = True
    refused = await client.post(f"/v1/restore?{WHO}", content=raw, headers=LINES)
    assert refused.status_code == 409
    forced = await client.post(f"/v1/restore?{WHO}&forced=true", content=raw, headers=LINES)
    assert forced.status_code == 200


async def test_a_page_elsewhere_restores_nothing(client: httpx2.AsyncClient, replica: StillReplica) -> None:
    """The media type is one that no form can send; and somebody must answer for it."""
    raw = (await client.get("/v1/backup")).content
    for headers in ({"content-type": "text/plain"}, {**LINES, "origin": "http://evil.example"}):
        assert (await client.post(f"/v1/restore?{WHO}", content=raw, headers=headers)).status_code in (
            415,
            403,
        )
    assert (await client.post("/v1/restore", content=raw, headers=LINES)).status_code == 422
    assert not replica.archive.orders
