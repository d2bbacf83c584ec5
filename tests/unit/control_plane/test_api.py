"""The HTTP contract of a replica, over the ASGI app."""

from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from control_plane.api.build import build
from control_plane.api.guard import Guard, ListenRefused, check_listen, own_hosts
from control_plane.ports import InForce, LeaderView
from tests.support.still_replica import LISTEN, StillReplica, ack

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


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nowhere", 404),
        ("DELETE", "/v1/health", 405),
        ("GET", "/v1/decisions?limit=0", 422),
        ("GET", "/v1/decisions/first", 422),
        ("GET", "/v1/decisions/9.9", 404),
        ("GET", "/v1/health/regions/mars", 404),
        ("GET", "/v1/health/targets/UPPER", 422),
    ],
)
async def test_every_error_is_a_problem(
    client: httpx2.AsyncClient, method: str, path: str, status: int
) -> None:
    """RFC 9457, whoever finds the fault: routing, validation or the operation."""
    answer = await client.request(method, path)
    assert answer.status_code == status
    assert answer.headers["content-type"] == PROBLEM
    assert answer.json()["status"] == status
    assert answer.json()["title"]


async def test_an_unexpected_failure_is_a_problem_too(replica: StillReplica) -> None:
    """500 says so, and nothing of the inside."""

    def broken() -> Any:
        raise RuntimeError("secret inside")

    replica.edges = broken  # type: ignore[method-assign]
    app = build(replica, hosts=frozenset())
    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url=f"http://{LISTEN}") as client:
        answer = await client.get("/v1/edges")
    assert (answer.status_code, answer.headers["content-type"]) == (500, PROBLEM)
    assert "secret" not in answer.text


async def test_without_a_configuration_health_says_try_later(
    client: httpx2.AsyncClient, replica: StillReplica
) -> None:
    """503 with Retry-After, and /v1/config has nothing to show."""
    replica.health, replica.force = None, InForce()
    answer = await client.get("/v1/health")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert (await client.get("/v1/config")).status_code == 404


async def test_readiness_has_reasons_and_liveness_none(
    client: httpx2.AsyncClient, replica: StillReplica
) -> None:
    """Liveness depends on nothing; readiness says what is missing."""
    assert (await client.get("/readyz")).json() == {"ready": True, "reasons": []}
    replica.reasons = ["etcd has not been read yet"]
    assert (await client.get("/livez")).status_code == 200
    answer = await client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json() == {"ready": False, "reasons": ["etcd has not been read yet"]}


async def test_a_region_comes_with_its_targets_and_observers(client: httpx2.AsyncClient) -> None:
    """Those that stand in it, and those that observe from it."""
    east = (await client.get("/v1/health/regions/east")).json()
    west = (await client.get("/v1/health/regions/west")).json()
    assert [target["id"] for target in east["target_health"]] == ["alpha-east"]
    assert east["observers"] == []
    assert [source["id"] for source in west["observers"]] == ["prober-west"]


async def test_a_target_comes_with_evidence_and_history(client: httpx2.AsyncClient) -> None:
    """The verdict per vantage with the event behind it, and what it was before."""
    target = (await client.get("/v1/health/targets/alpha-east")).json()
    assert target["verdict"] == "DOWN"
    assert target["votes"][0]["evidence"][0]["source"] == "prober-west"
    assert target["history"][0]["was"] == "HEALTHY"


async def test_the_timeline_is_newest_first_and_bounded(client: httpx2.AsyncClient) -> None:
    """With who decided, what changed, and why, in codes and in words."""
    commits = (await client.get("/v1/decisions?limit=2")).json()["decisions"]
    assert [commit["version"] for commit in commits] == ["1.7", "1.6"]
    assert [commit["in_force"] for commit in commits] == [True, False]
    assert commits[0]["term"] == {"holder": "control-plane-east", "epoch": 12}
    assert commits[0]["reasons"][0]["code"] == "TARGET_DOWN"
    assert "alpha-east left the traffic" in commits[0]["said"][0]


async def test_current_is_the_head_with_its_documents(client: httpx2.AsyncClient) -> None:
    """A document for each route the head names."""
    current = (await client.get("/v1/decisions/current")).json()
    assert current["version"] == "1.7"
    assert [document["route"] for document in current["documents"]] == list(current["head"]["routes"])


async def test_why_gives_reasons_and_evidence(client: httpx2.AsyncClient, replica: StillReplica) -> None:
    """Any kept commit, from memory or etcd; 503 when etcd would be needed and is away."""
    why = (await client.get("/v1/decisions/1.5")).json()
    assert why["commit"]["in_force"] is False
    assert why["evidence"][0]["detail"] == "connect ECONNREFUSED"
    assert why["said"] == ["Target alpha-east left the traffic: down 2, hard yes."]
    replica.etcd_answers = False
    assert (await client.get("/v1/decisions/1.5")).status_code == 503


async def test_edges_are_measured_against_the_head(client: httpx2.AsyncClient) -> None:
    """Commits behind, and a Beat's age carried on since the edge said it."""
    east, west = (await client.get("/v1/edges")).json()["edges"]
    assert (east["behind"], east["silent"], east["beat_age_s"]) == (0, False, 0.7)
    assert (west["behind"], west["silent"]) == (2, True)


async def test_leader_is_null_while_nobody_leads(client: httpx2.AsyncClient, replica: StillReplica) -> None:
    """Id, region and epoch while somebody does."""
    known = (await client.get("/v1/leader")).json()
    assert known["leader"] == {
        "id": "control-plane-east",
        "region": "east",
        "epoch": 12,
        "url": f"http://{LISTEN}",
    }
    assert known["role"] == "leader"
    replica.known = LeaderView(None, False, None)
    assert (await client.get("/v1/leader")).json()["leader"] is None


async def test_config_is_cached_by_its_etag(client: httpx2.AsyncClient, replica: StillReplica) -> None:
    """The committed bytes, and 304 to whoever has them."""
    first = await client.get("/v1/config")
    assert first.content == replica.force.config_raw
    again = await client.get("/v1/config", headers={"if-none-match": f'"0-x", {first.headers["etag"]}'})
    assert (again.status_code, again.content) == (304, b"")


async def test_acks_are_taken_as_json_and_to_the_letter(
    client: httpx2.AsyncClient, replica: StillReplica
) -> None:
    """204 for a right one; nothing else gets in."""
    body = ack().model_dump_json()
    json = {"content-type": "application/json"}
    assert (await client.post("/v1/acks", content=body, headers=json)).status_code == 204
    assert replica.acks == [ack()]
    for wrong, headers, status in (
        (body, {"content-type": "text/plain"}, 415),
        (body, {}, 415),
        (body, {**json, "origin": "http://evil.example"}, 403),
        (body, {**json, "origin": f"https://{LISTEN}"}, 403),
        (body, {**json, "origin": "http://127.0.0.1:7101"}, 403),
        (body, {**json, "origin": "null"}, 403),
        (body, {**json, "origin": "http://127.0.0.1:port"}, 403),
        (body, {**json, "host": "evil.example:7100"}, 421),
        (body.replace('"ack":1', '"ack":true'), json, 422),
        ("{", json, 422),
        (ack(generation=2**50).model_dump_json(), json, 409),
        (" " * 70_000 + body, json, 413),
    ):
        answer = await client.post("/v1/acks", content=wrong, headers=headers)
        assert (answer.status_code, answer.headers["content-type"]) == (status, PROBLEM), answer.text
    assert len(replica.acks) == 1
    own = {**json, "origin": f"http://{LISTEN}"}
    assert (await client.post("/v1/acks", content=body, headers=own)).status_code == 204


async def test_what_stands_in_front_may_speak_tls() -> None:
    """Under the advertised address alone; a port that the scheme implies needs not be said."""
    done = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        done.append(scope["scheme"])

    async def send(message: Any) -> None:
        pass

    async def taken(scheme: str, host: str, origin: str, advertised: str | None = None) -> bool:
        headers = [(b"host", host.encode()), (b"origin", origin.encode())]
        scope = {"type": "http", "method": "POST", "path": "/", "scheme": scheme, "headers": headers}
        done.clear()
        await Guard(app, hosts=frozenset(), advertised=advertised)(scope, None, send)  # type: ignore[arg-type]
        return bool(done)

    assert await taken("https", "cp.example:443", "https://CP.example")
    assert await taken("http", "cp.example", "https://cp.example", "https://cp.example")
    assert not await taken("http", "other.example", "https://cp.example", "https://cp.example")
    assert not await taken("http", "cp.example", "https://cp.example")
    assert not await taken("https", "cp.example", "http://cp.example")


async def test_a_name_of_somebody_elses_is_not_answered(client: httpx2.AsyncClient) -> None:
    """DNS rebinding: reads are refused too, under any name that is not ours."""
    answer = await client.get("/v1/health", headers={"host": "attacker.example"})
    assert (answer.status_code, answer.headers["content-type"]) == (421, PROBLEM)
    assert (await client.get("/v1/health", headers={"host": "localhost:7100"})).status_code == 200


async def test_the_stream_is_server_sent_events(client: httpx2.AsyncClient, replica: StillReplica) -> None:
    """What the hub yields, as it is; a full house is a 503."""
    answer = await client.get("/v1/stream")
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.content == b"".join(replica.events)
    replica.full = True
    assert (await client.get("/v1/stream")).status_code == 503


@pytest.mark.parametrize("path", ["/", "/app.js", "/app.css"])
async def test_the_page_may_use_only_what_is_its_own(client: httpx2.AsyncClient, path: str) -> None:
    """A policy without `unsafe-inline` or another origin; nobody may frame it; asked again, 304."""
    answer = await client.get(path)
    assert answer.status_code == 200
    policy = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == policy["frame-ancestors"] == policy["form-action"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    again = await client.get(path, headers={"if-none-match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "127.8.8.8"])
def test_loopback_may_be_listened_on(host: str) -> None:
    """Nobody else reaches it."""
    check_listen(host, tokens=False, insecure=False)


@pytest.mark.parametrize("host", ["0.0.0.0", "10.0.0.1", "[::]", "leeward.example"])
def test_other_addresses_need_tokens_or_the_operators_word(host: str) -> None:
    """The error says what to do, and either is honoured."""
    with pytest.raises(ListenRefused, match=r"leeward token.*LEEWARD_INSECURE_LISTEN"):
        check_listen(host, tokens=False, insecure=False)
    check_listen(host, tokens=False, insecure=True)
    check_listen(host, tokens=True, insecure=False)
