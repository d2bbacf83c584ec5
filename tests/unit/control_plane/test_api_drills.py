"""The HTTP contract of drills, over the ASGI app."""

from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from control_plane.api.build import build
from control_plane.api.guard import own_hosts
from shared.vocabulary.drill_policy import DrillPolicy
from tests.support.still_drills import PAGE, REPORT, SPEC
from tests.support.still_replica import LISTEN, StillReplica

PROBLEM = "application/problem+json"
ASKED = {"name": "region-outage", "region": "east", "author": "ann", "reason": "before the launch"}
WORD = {"author": "bob", "reason": "a real outage"}
TOLD = {"runner": "cli-1", "progress": {"phase": "fault", "requests": 7}}
END = {"runner": "cli-1", "progress": {}, "report": REPORT.model_dump(mode="json"), "html": "<p>"}
SCHEDULED = {"id": "nightly", "cron": "0 3 * * *", "request": ASKED}


@pytest.fixture
def replica() -> StillReplica:
    return StillReplica()


@pytest.fixture
async def client(replica: StillReplica) -> AsyncIterator[httpx2.AsyncClient]:
    app = build(replica, hosts=own_hosts("127.0.0.1", 7100, None))
    transport = httpx2.ASGITransport(app=app)
    async with httpx2.AsyncClient(transport=transport, base_url=f"http://{LISTEN}") as client:
        yield client


async def test_the_list_tells_what_one_needs_before_asking(
    client: httpx2.AsyncClient, replica: StillReplica
) -> None:
    """What runs, what came of the others, whether one may begin, and what is scheduled for when."""
    listed = (await client.get("/v1/drills")).json()
    assert (listed["enabled"], listed["blocked"], listed["active"]) == (True, None, "drill-23")
    now, passed = listed["drills"]
    assert (now["id"], now["state"], now["drill"], now["success_rate"]) == (
        "drill-23",
        "RUNNING",
        "region-outage",
        None,
    )
    assert (passed["state"], passed["success_rate"], passed["apply_ms"], passed["has_page"]) == (
        "PASSED",
        1.0,
        950.0,
        True,
    )
    (schedule,) = listed["schedules"]
    assert (schedule["schedule"]["id"], schedule["next_at"]) == ("weekly", "2030-01-07T03:00:00Z")
    assert len((await client.get("/v1/drills?limit=1")).json()["drills"]) == 1
    replica.drills.policy = DrillPolicy(enabled=False)
    listed = (await client.get("/v1/drills")).json()
    assert listed["enabled"] is False
    assert "switched off" in listed["blocked"]


async def test_the_catalogue_has_whole_specs(client: httpx2.AsyncClient) -> None:
    (found,) = (await client.get("/v1/drills/catalogue")).json()["drills"]
    assert found == SPEC.model_dump(mode="json")


async def test_a_new_drill_has_a_place(client: httpx2.AsyncClient) -> None:
    """201 with Location; refused with the reason."""
    answer = await client.post("/v1/drills", json=ASKED)
    assert (answer.status_code, answer.headers["location"]) == (201, "/v1/drills/drill-24")
    assert (answer.json()["state"], answer.json()["author"]) == ("DUE", "ann")
    refused = await client.post("/v1/drills", json={**ASKED, "region": "west"})
    assert (refused.status_code, refused.headers["content-type"]) == (409, PROBLEM)
    assert "drill 'drill-23' (region-outage, of ann" in refused.json()["detail"]
    unknown = await client.post("/v1/drills", json={**ASKED, "name": "flood"})
    assert unknown.json()["detail"] == "no built-in drill 'flood'; there is region-outage"


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": None},
        {"spec": SPEC.model_dump(mode="json")},
        {"hold_s": 0},
        {"hold_s": 4000},
        {"author": " "},
        {"reason": ""},
        {"regoin": "east"},
        {"region": "East"},
    ],
)
async def test_a_request_that_says_too_little_or_too_much_is_not_taken(
    client: httpx2.AsyncClient, wrong: dict[str, Any]
) -> None:
    answer = await client.post("/v1/drills", json={**ASKED, **wrong})
    assert (answer.status_code, answer.headers["content-type"]) == (422, PROBLEM)
    assert answer.json()["faults"]


async def test_a_spec_that_cannot_be_is_told_by_its_place(client: httpx2.AsyncClient) -> None:
    """What the injector cannot do is said with who can."""
    spec = {**SPEC.model_dump(mode="json"), "faults": [{"fault": "latency", "by": "stack", "ms": 5}]}
    answer = await client.post("/v1/drills", json={**ASKED, "name": None, "spec": spec})
    fault = answer.json()["faults"][0]
    assert fault["where"] == "body.spec.faults.0"
    assert "stack cannot do latency: by edge, panel it can be done" in fault["what"]


async def test_a_runner_is_heard_and_another_is_not(client: httpx2.AsyncClient) -> None:
    assert (await client.post("/v1/drills/drill-23/claim", json={"runner": "cli-1"})).status_code == 200
    told = await client.put("/v1/drills/drill-23/progress", json=TOLD)
    assert told.json()["progress"]["requests"] == 7
    ended = await client.post("/v1/drills/drill-23/finish", json=END)
    assert (ended.status_code, ended.json()["state"]) == (200, "PASSED")
    for method, path, body in (
        ("POST", "claim", {"runner": "eve"}),
        ("PUT", "progress", {**TOLD, "runner": "eve"}),
        ("POST", "finish", {**END, "runner": "eve"}),
    ):
        answer = await client.request(method, f"/v1/drills/drill-23/{path}", json=body)
        assert (answer.status_code, answer.json()["detail"]) == (
            409,
            "drill 'drill-23' is run by cli-1, and not by eve",
        )
        gone = await client.request(method, f"/v1/drills/drill-99/{path}", json=body)
        assert gone.status_code == 404


async def test_words_beyond_their_bounds_are_refused(client: httpx2.AsyncClient) -> None:
    """Too many events, too long a page, a record that would be too large, a number that JSON lacks."""
    event = {"at_ms": 1.0, "event": "x"}
    many = {**TOLD, "progress": {"timeline": [event] * 501}}
    assert (await client.put("/v1/drills/drill-23/progress", json=many)).status_code == 422
    long = {**END, "html": "x" * 1_000_001}
    assert (await client.post("/v1/drills/drill-23/finish", json=long)).status_code == 422
    huge = {**END, "report": {**END["report"], "drill": "huge"}}  # type: ignore[dict-item]
    assert (await client.post("/v1/drills/drill-23/finish", json=huge)).status_code == 413
    flood = b'{"runner": "' + b"x" * 1024 * 1024 + b'"}'
    headers = {"content-type": "application/json"}
    answer = await client.put("/v1/drills/drill-23/progress", content=flood, headers=headers)
    assert answer.status_code == 413
    infinite = b'{"runner": "cli-1", "progress": {"timeline": [{"at_ms": 1e999, "event": "x"}]}}'
    answer = await client.put("/v1/drills/drill-23/progress", content=infinite, headers=headers)
    assert answer.status_code == 422


async def test_an_abort_says_who_and_why(client: httpx2.AsyncClient) -> None:
    stopped = (await client.post("/v1/drills/drill-23/abort", json=WORD)).json()
    assert (stopped["stop"]["by"], stopped["stop"]["reason"]) == ("bob", "a real outage")
    over = await client.post("/v1/drills/drill-9/abort", json=WORD)
    assert (over.status_code, over.json()["detail"]) == (
        409,
        "drill 'drill-9' is PASSED: there is nothing to abort",
    )


async def test_a_page_is_shown_as_a_strangers(client: httpx2.AsyncClient) -> None:
    """Sandboxed without an origin of ours: it can neither read the API nor have it change anything."""
    answer = await client.get("/v1/drills/drill-9/report")
    assert (answer.status_code, answer.content) == (200, PAGE)
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["x-content-type-options"] == "nosniff"
    policy = [part.strip() for part in answer.headers["content-security-policy"].split(";")]
    assert "sandbox" in policy
    assert not any("script" in part for part in policy)
    assert "default-src 'none'" in policy
    assert "form-action 'none'" in policy
    assert not any("allow-same-origin" in part or "connect-src" in part for part in policy)
    # What such a page would send: an opaque origin.
    written = await client.post("/v1/drills", json=ASKED, headers={"origin": "null"})
    assert written.status_code == 403
    assert (await client.get("/v1/drills/drill-23/report")).status_code == 404


async def test_a_schedule_comes_and_goes(client: httpx2.AsyncClient) -> None:
    """With what is wrong about its cron expression said in words."""
    made = await client.post("/v1/drills/schedules", json=SCHEDULED)
    assert (made.status_code, made.json()["cron"]) == (201, "0 3 * * *")
    for cron, said in (
        ("0 3 * * 1 2030", "has 6 fields"),
        ("0 25 * * *", "Bad hour"),
        ("0 3 31 2 *", "Bad day"),
    ):
        wrong = await client.post("/v1/drills/schedules", json={**SCHEDULED, "cron": cron})
        assert (wrong.status_code, wrong.json()["faults"][0]["where"]) == (422, "body.cron")
        assert said in wrong.json()["faults"][0]["what"]
    taken = await client.post("/v1/drills/schedules", json={**SCHEDULED, "id": "weekly"})
    assert taken.status_code == 409
    (known,) = (await client.get("/v1/drills/schedules")).json()["schedules"]
    assert known["schedule"]["id"] == "weekly"
    removed = await client.request("DELETE", "/v1/drills/schedules/weekly", json=WORD)
    assert removed.status_code == 204
    assert (await client.request("DELETE", "/v1/drills/schedules/never", json=WORD)).status_code == 404


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/v1/drills", ASKED),
        ("POST", "/v1/drills/drill-23/claim", {"runner": "cli-1"}),
        ("PUT", "/v1/drills/drill-23/progress", TOLD),
        ("POST", "/v1/drills/drill-23/finish", END),
        ("POST", "/v1/drills/drill-23/abort", WORD),
        ("POST", "/v1/drills/schedules", SCHEDULED),
        ("DELETE", "/v1/drills/schedules/weekly", WORD),
    ],
)
async def test_every_write_is_guarded_and_says_when_etcd_is_gone(
    client: httpx2.AsyncClient, replica: StillReplica, method: str, path: str, body: dict[str, Any]
) -> None:
    """A foreign page cannot begin a drill; a form cannot; without etcd it is 503, soon to be tried again."""
    foreign = await client.request(method, path, json=body, headers={"origin": "http://evil.example"})
    assert foreign.status_code == 403
    form = await client.request(method, path, content=b"name=region-outage")
    assert form.status_code == 415
    replica.drills.etcd_answers = False
    silent = await client.request(method, path, json=body)
    assert (silent.status_code, silent.headers["retry-after"]) == (503, "1")
    assert "etcd" in silent.json()["detail"]
    replica.drills.etcd_answers, replica.drills.busy = True, True
    assert (await client.request(method, path, json=body)).status_code == 503


async def test_what_is_known_is_shown_without_etcd(client: httpx2.AsyncClient, replica: StillReplica) -> None:
    """Reading is from memory."""
    replica.drills.etcd_answers = False
    for path in ("", "/catalogue", "/schedules", "/drill-23"):
        assert (await client.get(f"/v1/drills{path}")).status_code == 200
    assert (await client.get("/v1/drills/drill-99")).status_code == 503
