"""The HTTP contract of overrides and of the audit, over the ASGI app."""

from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from control_plane.api.build import build
from control_plane.api.guard import own_hosts
from tests.support.still_replica import LISTEN, StillReplica

PROBLEM = "application/problem+json"
DRAIN = {"kind": "drain", "region": "east", "reason": "new racks", "author": "ann", "for_s": 1800}
WORD = {"author": "bob", "reason": "done"}


@pytest.fixture
def replica() -> StillReplica:
    return StillReplica()


@pytest.fixture
async def client(replica: StillReplica) -> AsyncIterator[httpx2.AsyncClient]:
    app = build(replica, hosts=own_hosts("127.0.0.1", 7100, None))
    transport = httpx2.ASGITransport(app=app)
    async with httpx2.AsyncClient(transport=transport, base_url=f"http://{LISTEN}") as client:
        yield client


async def test_what_is_in_force_comes_with_the_time_it_has_left(client: httpx2.AsyncClient) -> None:
    """What is over is left out, unless it is asked for."""
    (drain,) = (await client.get("/v1/overrides")).json()["overrides"]
    assert (drain["id"], drain["state"], drain["remaining_s"]) == ("drain-17", "IN_FORCE", 1800.0)
    every = (await client.get("/v1/overrides?all=true")).json()["overrides"]
    assert [(each["id"], each["state"], each["remaining_s"] > 0) for each in every] == [
        ("drain-17", "IN_FORCE", True),
        ("freeze-9", "LIFTED", False),
    ]
    assert every[1]["ended"]["by"] == "bob"


async def test_a_new_override_has_a_place(client: httpx2.AsyncClient) -> None:
    """201 with Location, and what its giver should know."""
    answer = await client.post("/v1/overrides", json=DRAIN)
    assert (answer.status_code, answer.headers["location"]) == (201, "/v1/overrides/drain-18")
    assert answer.json()["spec"] == {
        "kind": "drain",
        "region": "east",
        "target": None,
        "route": None,
        "clients": None,
        "weights": {},
    }
    assert answer.json()["warnings"] == ["route chat: nearly full"]
    known = await client.get("/v1/overrides/drain-17")
    assert (known.status_code, known.json()["author"]) == (200, "ann")
    assert (await client.get("/v1/overrides/drain-99")).status_code == 404


@pytest.mark.parametrize(
    "wrong",
    [
        {"target": "alpha-east"},
        {"region": None},
        {"for_s": None},
        {"expires_at": "2030-01-01T13:00:00Z"},
        {"for_s": 0},
        {"for_s": 31 * 86_400},
        {"for_s": "1800"},
        {"author": " "},
        {"reason": ""},
        {"kind": "stop"},
        {"clients": "west"},
        {"weights": {"alpha-east": 1}},
        {"kind": "pin"},
        {"kind": "weights", "region": None, "route": "chat", "weights": {"alpha-east": 0}},
        {"expires": "tomorrow"},
    ],
)
async def test_an_override_must_be_whole(
    client: httpx2.AsyncClient, replica: StillReplica, wrong: dict[str, Any]
) -> None:
    """Whom, why, by whom and how long, each said once and to the letter; a misspelt field is no field."""
    answer = await client.post("/v1/overrides", json={**DRAIN, **wrong})
    assert (answer.status_code, answer.headers["content-type"]) == (422, PROBLEM), answer.text
    assert replica.overrides.given == []


async def test_what_must_not_be_is_a_conflict_unless_forced(
    client: httpx2.AsyncClient, replica: StillReplica
) -> None:
    """The problem names the routes."""
    refused = await client.post("/v1/overrides", json={**DRAIN, "region": "west"})
    assert (refused.status_code, refused.headers["content-type"]) == (409, PROBLEM)
    assert "chat in east, west" in refused.json()["detail"]
    forced = await client.post("/v1/overrides", json={**DRAIN, "region": "west", "forced": True})
    assert forced.status_code == 201
    assert [request.forced for request in replica.overrides.given] == [True]


async def test_lifting_says_by_whom(client: httpx2.AsyncClient) -> None:
    """With a body, for the audit; 404 for what is not on record."""
    lifted = await client.request("DELETE", "/v1/overrides/drain-17", json=WORD)
    assert (lifted.status_code, lifted.json()["state"]) == (200, "LIFTED")
    assert lifted.json()["ended"]["by"] == "bob"
    assert (await client.request("DELETE", "/v1/overrides/drain-99", json=WORD)).status_code == 404
    assert (await client.request("DELETE", "/v1/overrides/drain-17", json={})).status_code == 422
    assert (await client.delete("/v1/overrides/drain-17")).status_code == 415


async def test_an_unknown_outcome_is_said_to_be_one(
    client: httpx2.AsyncClient, replica: StillReplica
) -> None:
    """503 when etcd is away, with the place to look; and when others were faster, where nothing was done."""
    replica.overrides.etcd_answers = False
    for answer in (
        await client.post("/v1/overrides", json=DRAIN),
        await client.request("DELETE", "/v1/overrides/drain-17", json=WORD),
    ):
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert "/v1/audit" in answer.json()["detail"]
    replica.overrides.etcd_answers, replica.overrides.busy = True, True
    answer = await client.post("/v1/overrides", json=DRAIN)
    assert (answer.status_code, "try again" in answer.json()["detail"]) == (503, True)


async def test_pages_of_strangers_give_no_orders(client: httpx2.AsyncClient, replica: StillReplica) -> None:
    """No other media type than JSON, no other Origin than ours."""
    form = await client.post("/v1/overrides", data={"kind": "freeze"})
    strange = await client.post("/v1/overrides", json=DRAIN, headers={"origin": "http://evil.example"})
    assert (form.status_code, strange.status_code) == (415, 403)
    assert replica.overrides.given == []


async def test_the_audit_is_newest_first_and_can_be_narrowed(client: httpx2.AsyncClient) -> None:
    """By number, by kind of action, by author."""

    async def found(query: str) -> list[int]:
        return [entry["n"] for entry in (await client.get(f"/v1/audit{query}")).json()["entries"]]

    assert await found("") == [17, 16, 15]
    assert await found("?limit=1") == [17]
    assert await found("?action=override.") == [17, 16]
    assert await found("?author=ann&action=config.apply") == [15]
