"""Reading control planes and edges over HTTP."""

from collections.abc import Callable

import httpx2
import pytest

from ops.client import ControlPlanes, Refused, edge_state
from ops.errors import Bad, Unreachable
from shared.vocabulary.base import Version
from shared.vocabulary.terms import EdgeMode

Handler = Callable[[httpx2.Request], httpx2.Response]


def client(handler: Handler) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(transport=httpx2.MockTransport(handler))


async def test_the_first_replica_that_answers_is_asked_first_next_time() -> None:
    """Dead replicas cost one attempt, not one each time."""
    asked: list[str] = []

    def handler(request: httpx2.Request) -> httpx2.Response:
        asked.append(request.url.host)
        if request.url.host == "dead":
            raise httpx2.ConnectError("refused", request=request)
        if request.url.host == "sick":
            return httpx2.Response(503)
        return httpx2.Response(200, json={"leader": None})

    async with client(handler) as http:
        planes = ControlPlanes(http, ["http://dead", "http://sick", "http://well"])
        assert await planes.leader() is None
        assert await planes.leader() is None
    assert asked == ["dead", "sick", "well", "well"]


async def test_nobody_answers() -> None:
    """Unreachable, exit code 3, with the addresses tried."""

    def handler(request: httpx2.Request) -> httpx2.Response:
        raise httpx2.ConnectTimeout("late", request=request)

    async with client(handler) as http:
        with pytest.raises(Unreachable, match="http://one, http://two") as error:
            await ControlPlanes(http, ["http://one", "http://two"]).get("/v1/leader")
    assert error.value.exit_code == 3


async def test_a_refusal_comes_in_the_replicas_own_words() -> None:
    """A problem+json's detail is the message; another replica is not asked."""
    problem = {"title": "Not Found", "status": 404, "detail": "no decision 9.9"}
    async with client(lambda _: httpx2.Response(404, json=problem)) as http:
        with pytest.raises(Refused, match=r"no decision 9\.9") as error:
            await ControlPlanes(http, ["http://one"]).get("/v1/decisions/9.9")
    assert (error.value.status, error.value.exit_code) == (404, 1)


async def test_an_answer_that_is_no_json_is_bad() -> None:
    """Whoever listens there is no control plane."""
    async with client(lambda _: httpx2.Response(200, text="<html>")) as http:
        with pytest.raises(Bad, match="no JSON"):
            await ControlPlanes(http, ["http://one"]).get("/v1/health")


@pytest.mark.parametrize(
    "answer",
    [
        httpx2.Response(200, json={"id": "e"}),
        httpx2.Response(200, json={"id": "e", "region": "r", "mode": "NEW", "decision": "1.2"}),
        httpx2.Response(200, json=[]),
        httpx2.Response(500),
        httpx2.Response(200, text="hello"),
    ],
)
async def test_what_is_no_edge_is_none(answer: httpx2.Response) -> None:
    """Anything that does not read as an edge's status counts as no answer."""
    async with client(lambda _: answer) as http:
        assert await edge_state(http, "http://edge") is None


async def test_an_edge_is_confirmed_by_a_beat_and_a_decision() -> None:
    """FRESH on a decision; not STALE, and not on the configuration's own order."""
    said = {"id": "e", "region": "r", "mode": "FRESH", "decision": "1.2", "beat_age_s": 0.5}
    async with client(lambda _: httpx2.Response(200, json=said)) as http:
        state = await edge_state(http, "http://edge")
        assert state is not None
        assert (state.decision, state.mode, state.confirmed) == (Version(1, 2), EdgeMode.FRESH, True)
        said["decision"] = "0.0"
        state = await edge_state(http, "http://edge")
        assert state is not None
        assert not state.confirmed
        said.update(decision="1.2", mode="STALE")
        state = await edge_state(http, "http://edge")
        assert state is not None
        assert not state.confirmed


async def test_a_change_is_sent_once() -> None:
    """To the first replica that can be reached; when its answer does not come, nobody else is asked, and
    the operator is told to look."""
    asked: list[str] = []

    def handler(request: httpx2.Request) -> httpx2.Response:
        asked.append(f"{request.method} {request.url.host}")
        if request.url.host == "dead":
            raise httpx2.ConnectError("refused", request=request)
        if request.url.host == "slow":
            raise httpx2.ReadTimeout("late", request=request)
        assert request.headers["content-type"] == "application/json"
        assert request.headers["if-match"] == '"1-x"'
        return httpx2.Response(200, json={"said": request.content.decode()})

    async with client(handler) as http:
        planes = ControlPlanes(http, ["http://dead", "http://well"])
        done = await planes.change("PUT", "/v1/config", {"a": 1}, headers={"if-match": '"1-x"'})
        assert done == {"said": '{"a": 1}'}
        with pytest.raises(Unreachable, match="look whether it was done"):
            await ControlPlanes(http, ["http://slow", "http://well"]).change("POST", "/v1/x")
    assert asked == ["PUT dead", "PUT well", "POST slow"]


async def test_a_refusal_carries_its_faults() -> None:
    """Each with its place, for the operator to mend."""
    problem = {"title": "no", "status": 422, "faults": [{"where": "fleet.routes[0]", "what": "is empty"}]}
    async with client(lambda _: httpx2.Response(422, json=problem)) as http:
        with pytest.raises(Refused) as refused:
            await ControlPlanes(http, ["http://one"]).change("PUT", "/v1/config", {})
    assert refused.value.faults == ("fleet.routes[0]: is empty",)
