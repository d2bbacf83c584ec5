"""`POST /v1/plan` over the ASGI app."""

from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from control_plane.api.build import build
from control_plane.ports import InForce
from shared.vocabulary.monitor import Monitor
from shared.vocabulary.terms import Verdict
from tests.support.still_replica import FLEET, LISTEN, StillReplica


@pytest.fixture
def replica() -> StillReplica:
    """alpha-east DOWN and out, alpha-west HEALTHY and carrying everything."""
    return StillReplica()


@pytest.fixture
async def client(replica: StillReplica) -> AsyncIterator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(app=build(replica, hosts=frozenset()))
    async with httpx2.AsyncClient(transport=transport, base_url=f"http://{LISTEN}") as client:
        yield client


async def ask(client: httpx2.AsyncClient, **question: Any) -> httpx2.Response:
    return await client.post("/v1/plan", json=question)


def recovered(replica: StillReplica) -> None:
    """Everybody answers."""
    assert replica.health is not None
    up = {"verdict": Verdict.HEALTHY, "hard": False, "votes": ()}
    targets = tuple(target.model_copy(update=up) for target in replica.health.targets)
    replica.health = replica.health.model_copy(update={"targets": targets})


async def test_as_things_are(client: httpx2.AsyncClient, replica: StillReplica) -> None:
    """The present course, written out: alpha-east is to come back for its own clients."""
    recovered(replica)
    answer = (await ask(client)).json()
    assert (answer["version"], answer["config_version"]) == ("1.7", 1)
    assert answer["safe"]
    assert answer["refusals"] == []
    (clients,) = answer["changes"]
    assert (clients["route"], clients["region"]) == ("chat", "east")
    shares = {each["target"]: each["in_the_end_permille"] for each in clients["targets"]}
    assert shares == {"alpha-east": 1000, "alpha-west": 0}


async def test_who_is_assumed_down_is_left_out(client: httpx2.AsyncClient, replica: StillReplica) -> None:
    """By the target's name or its region's, with the reason in words."""
    recovered(replica)
    for name in ("alpha-west", "west"):
        answer = (await ask(client, assume_down=[name])).json()
        assert {
            (clients["region"], share["target"]): share["in_the_end_permille"]
            for clients in answer["changes"]
            for share in clients["targets"]
        } == {
            (region, target): 1000 * (target == "alpha-east")
            for region in ("east", "west")
            for target in ("alpha-east", "alpha-west")
        }
        assert [(each["target"], each["by"]) for each in answer["excluded"]] == [("alpha-west", "auto")]
        assert any("alpha-west left the traffic" in said for said in answer["said"])


async def test_draining_the_last_one_is_refused(client: httpx2.AsyncClient) -> None:
    """As giving that order would be; so the plan is not safe."""
    answer = (await ask(client, overrides=[{"kind": "drain", "target": "alpha-west"}])).json()
    assert not answer["safe"]
    assert any("nobody who answers would be left" in refusal for refusal in answer["refusals"])


async def test_another_fleet(client: httpx2.AsyncClient, replica: StillReplica) -> None:
    """It is decided by, under the next version, and what would be refused is told."""
    recovered(replica)
    fleet = FLEET.model_dump(mode="json")
    fleet["routes"][0]["tiers"] = [{"targets": ["alpha-east"]}]
    answer = (await ask(client, fleet=fleet)).json()
    ends = {
        each["target"]: each["in_the_end_permille"]
        for clients in answer["changes"]
        for each in clients["targets"]
    }
    assert ends == {"alpha-east": 1000, "alpha-west": 0}
    assert any("configuration changed" in said for said in answer["said"])


@pytest.mark.parametrize(
    ("question", "where"),
    [
        ({"nonsense": 1}, "nonsense"),
        ({"assume_down": [7]}, "assume_down.0"),
        ({"overrides": [{"kind": "drain"}]}, "overrides.0"),
    ],
)
async def test_a_question_of_no_shape(client: httpx2.AsyncClient, question: Any, where: str) -> None:
    """422 with the place."""
    answer = await ask(client, **question)
    assert answer.status_code == 422
    assert where in answer.json()["faults"][0]["where"]


@pytest.mark.parametrize(
    ("question", "said"),
    [
        ({"assume_down": ["mars"]}, "'mars' is neither a region (east, west) nor a target"),
        ({"without_overrides": ["drain-9"]}, "no override 'drain-9'"),
        ({"overrides": [{"kind": "drain", "target": "nobody"}]}, "no target 'nobody'"),
    ],
)
async def test_a_question_about_what_is_not_there(
    client: httpx2.AsyncClient, question: Any, said: str
) -> None:
    """409, in words."""
    answer = await ask(client, **question)
    assert answer.status_code == 409
    assert said in answer.json()["detail"]


async def test_a_fleet_that_contradicts_itself(client: httpx2.AsyncClient) -> None:
    """422 with the place, as for a configuration that is to be put in force."""
    fleet = FLEET.model_dump(mode="json")
    fleet["routes"][0]["tiers"] = [{"targets": ["gamma"]}]
    answer = await ask(client, fleet=fleet)
    assert answer.status_code == 422
    (fault,) = answer.json()["faults"]
    assert "routes[0]" in fault["where"]
    assert "gamma" in fault["what"]


async def test_the_fleet_as_it_is_shown_is_taken(client: httpx2.AsyncClient) -> None:
    """With its monitors: what `GET /v1/config` gives can be asked about."""
    fleet = FLEET.model_dump(mode="json")
    fleet["monitors"] = [Monitor(id="http", kind="http", expect_status=("2xx",)).model_dump(mode="json")]
    assert (await ask(client, fleet=fleet)).status_code == 200


async def test_without_etcd_or_configuration_it_says_try_later(
    client: httpx2.AsyncClient, replica: StillReplica
) -> None:
    """503 with Retry-After."""
    replica.etcd_answers = False
    answer = await ask(client)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    replica.etcd_answers, replica.force = True, InForce()
    assert (await ask(client)).status_code == 503
