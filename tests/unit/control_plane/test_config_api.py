"""Changing the configuration over HTTP: conditions, faults, objections, and who may."""

from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx2
import pytest

from control_plane.api.build import build
from control_plane.api.guard import own_hosts
from control_plane.core.config_check import Finding, Judgement
from tests.support.still_replica import FLEET, LISTEN, StillReplica

PROBLEM = "application/problem+json"


@pytest.fixture
def replica() -> StillReplica:
    return StillReplica()


@pytest.fixture
async def client(replica: StillReplica) -> AsyncIterator[httpx2.AsyncClient]:
    app = build(replica, hosts=own_hosts("127.0.0.1", 7100, None))
    transport = httpx2.ASGITransport(app=app)
    async with httpx2.AsyncClient(transport=transport, base_url=f"http://{LISTEN}") as client:
        yield client


def body(**more: Any) -> dict[str, Any]:
    """A change of one policy field, as good as can be; `more` goes over it."""
    fleet = FLEET.model_dump(mode="json")
    fleet["policy"]["automatic"] = False
    return {"author": "ada", "reason": "because", "fleet": fleet, **more}


async def put(
    client: httpx2.AsyncClient, content: Any, *, headers: Mapping[str, str], query: str = ""
) -> httpx2.Response:
    return await client.put(f"/v1/config{query}", json=content, headers=dict(headers))


async def test_a_change_names_what_it_was_prepared_from(
    client: httpx2.AsyncClient, replica: StillReplica
) -> None:
    """428 without a tag, 412 with an old one; with the right one it is made, and said what it was."""
    etag = replica.configs.head(2).etag
    assert (await put(client, body(), headers={})).status_code == 428
    stale = await put(client, body(), headers={"if-match": '"1-0000000000000000"'})
    assert (stale.status_code, stale.headers["content-type"]) == (412, PROBLEM)
    done = (await put(client, body(), headers={"if-match": etag})).json()
    assert (done["applied"], done["config_version"], done["was"], done["audit"]) == (True, 3, 2, 9)
    assert [change["field"] for change in done["changes"]] == ["automatic"]
    assert replica.configs.orders[-1].author == "ada"
    anyway = await put(client, body(), headers={"if-match": "*"})
    assert anyway.status_code == 200


async def test_a_dry_run_changes_nothing(client: httpx2.AsyncClient, replica: StillReplica) -> None:
    """It says what would come of it, objections included, with status 200."""
    replica.configs.judgement = Judgement(objections=(Finding(where="routes[0]", what="empty"),))
    said = await put(client, body(), headers={"if-match": "*"}, query="?dry_run=true")
    assert said.status_code == 200
    assert said.json()["applied"] is False
    assert said.json()["objections"] == [{"where": "routes[0]", "what": "empty"}]


async def test_objections_are_a_conflict_unless_forced(
    client: httpx2.AsyncClient, replica: StillReplica
) -> None:
    """409 with each place; `forced` overrules."""
    replica.configs.judgement = Judgement(objections=(Finding(where="routes[0]", what="empty"),))
    refused = await put(client, body(), headers={"if-match": "*"})
    assert (refused.status_code, refused.headers["content-type"]) == (409, PROBLEM)
    assert refused.json()["faults"] == [{"where": "routes[0]", "what": "empty"}]
    forced = await put(client, body(forced=True), headers={"if-match": "*"})
    assert forced.json()["applied"] is True


async def test_every_fault_of_a_fleet_is_named_as_a_files_would_be(client: httpx2.AsyncClient) -> None:
    """All at once: types, unknown fields, cross-references, each with its path."""
    fleet = body()["fleet"]
    fleet["targets"][0].update(url="ftp://x", nope=1)
    fleet["routes"][0]["tiers"][0]["targets"][1] = "nobody"
    answer = await put(client, body(fleet=fleet), headers={"if-match": "*"})
    assert (answer.status_code, answer.headers["content-type"]) == (422, PROBLEM)
    faults = {fault["where"]: fault["what"] for fault in answer.json()["faults"]}
    assert faults["fleet.targets[0].url"] == "must be an http:// or https:// URL with a host"
    assert "is not a known key" in faults["fleet.targets[0].nope"]
    assert faults["fleet.routes[0].tiers[0].targets[1]"] == "no target 'nobody'"


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"{", 422),
        (b"[]", 422),
        (b'{"fleet": []}', 422),
        (b'{"author": "ada", "reason": "r"}', 422),
        (b'{"author": "ada", "reason": "r", "fleet": null}', 422),
        (b'{"author": "ada", "reason": "r", "fleet": {}, "force": true}', 422),
        (b'{"author": "", "reason": "r", "fleet": {}}', 422),
        (b"[" * 100_000, 422),
        (b" " * (4 * 1024 * 1024 + 1), 413),
    ],
)
async def test_what_is_no_change_is_refused(client: httpx2.AsyncClient, content: bytes, status: int) -> None:
    """As a problem, whatever it is."""
    headers = {"content-type": "application/json", "if-match": "*"}
    answer = await client.put("/v1/config", content=content, headers=headers)
    assert (answer.status_code, answer.headers["content-type"]) == (status, PROBLEM)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"content-type": "text/plain"}, 415),
        ({"content-type": "application/json", "origin": "http://evil.example"}, 403),
        ({"content-type": "application/json", "host": "evil.example:7100"}, 421),
    ],
)
async def test_a_page_elsewhere_changes_nothing(
    client: httpx2.AsyncClient, replica: StillReplica, headers: dict[str, str], status: int
) -> None:
    """Neither as a form, nor from another origin, nor under another name."""
    for method, path in (("PUT", "/v1/config"), ("POST", "/v1/config/rollback")):
        answer = await client.request(method, path, content=b"{}", headers={"if-match": "*", **headers})
        assert answer.status_code == status
    assert not replica.configs.orders


async def test_versions_are_kept_and_come_back(client: httpx2.AsyncClient, replica: StillReplica) -> None:
    """Newest first, the one in force marked; each with its content and tag; and a rollback to one."""
    listed = (await client.get("/v1/config/versions")).json()["versions"]
    assert [(one["config_version"], one["in_force"]) for one in listed] == [(2, True), (1, False)]
    first = await client.get("/v1/config/versions/1")
    assert first.json()["config_version"] == 1
    assert first.headers["etag"] == replica.configs.head(1).etag
    assert (await client.get("/v1/config/versions/7")).status_code == 404
    back = {"to": 1, "author": "ada", "reason": "because"}
    assert (await client.post("/v1/config/rollback", json=back)).status_code == 200
    assert (await client.post("/v1/config/rollback", json={**back, "to": 7})).status_code == 404
    wrong = {"if-match": '"9-"'}
    assert (await client.post("/v1/config/rollback", json=back, headers=wrong)).status_code == 412


async def test_without_etcd_nobody_is_left_guessing(
    client: httpx2.AsyncClient, replica: StillReplica
) -> None:
    """503, and where to look whether it was done."""
    replica.etcd_answers = False
    assert (await client.get("/v1/config/versions")).status_code == 503
    answer = await put(client, body(), headers={"if-match": "*"})
    assert answer.status_code == 503
    assert "/v1/config/versions" in answer.json()["detail"]


async def test_a_resource_names_all_its_methods(client: httpx2.AsyncClient) -> None:
    """405 with every method of the path, whichever operation the router met first."""
    answer = await client.delete("/v1/config")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, PUT")
