"""Who may ask what: every operation of the application, by every role."""

import hashlib
import hmac
import inspect
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest
from fastapi import APIRouter, FastAPI
from fastapi.routing import iter_route_contexts

from control_plane.api.access import (
    MAX_PEERS,
    ROLES,
    WINDOW_S,
    WRONG_PER_WINDOW,
    Access,
    Brake,
    Tokens,
    Unstated,
    bearer,
    gates,
)
from control_plane.api.build import build
from control_plane.api.guard import own_hosts
from control_plane.caller import CALLER, Caller, asked_by
from shared.clock import Clock, SystemClock
from shared.vocabulary.node import Api, ApiToken, Node
from shared.vocabulary.terms import ApiRole
from tests.support.still_replica import LISTEN, NODE, StillReplica

PROBLEM = "application/problem+json"
OPEN = {"GET /", "GET /app.js", "GET /app.css", "GET /livez", "GET /readyz"}
EDGES = {"GET /v1/stream", "POST /v1/acks", "GET /v1/whoami"}
ADMINS = re.compile(
    r"(GET /v1/backup|POST /v1/restore|PUT /v1/config|POST /v1/config/rollback|POST /v1/acks)$"
)
REMOTE = ("192.0.2.7", 40_000)


def secret(role: ApiRole) -> str:
    """The token of the role."""
    return f"token-of-{role.value}"


def token(name: str, role: ApiRole, word: str) -> ApiToken:
    """As the node file has it."""
    return ApiToken(id=name, role=role, sha256=hashlib.sha256(word.encode()).hexdigest())


TOKENS = tuple(token(f"{role.value}-1", role, secret(role)) for role in ApiRole)
GUARDED = Api(tokens=TOKENS)


class Guarded(StillReplica):
    """A still replica whose node file has `api`."""

    def __init__(self, api: Api = GUARDED) -> None:
        super().__init__()
        self.node: Node = NODE.model_copy(update={"api": api})


def operations() -> list[tuple[str, str]]:
    """(method, path template) of everything that the application serves."""
    routes = build(StillReplica(), hosts=frozenset()).routes
    return sorted(
        (method, str(route.path))
        for route in iter_route_contexts(routes)
        for method in route.methods or ()
        if method != "HEAD"
    )


def may(role: ApiRole, operation: str) -> bool:
    """The roles as the documentation states them; apart from the table that is tested."""
    if operation in OPEN or role is ApiRole.ADMIN:
        return True
    if role is ApiRole.EDGE:
        return operation in EDGES
    if ADMINS.match(operation):
        return False
    return role is ApiRole.OPERATOR or operation.startswith("GET ")


async def passed(scope: Any, receive: Any, send: Any) -> None:
    """An application that says as whom it was asked."""
    caller = CALLER.get()
    name = caller.name if caller is not None else "nobody"
    headers = [(b"x-caller", name.encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


class Still:
    """A clock set by hand."""

    def __init__(self) -> None:
        self.at = 1000.0

    def monotonic(self) -> float:
        return self.at

    def now(self) -> Any:
        raise AssertionError("nothing here asks for the time of day")


def access(api: Api = GUARDED, *, clock: Clock | None = None) -> Access:
    """Before an application that lets everything pass."""
    routes = build(StillReplica(), hosts=frozenset()).routes
    return Access(passed, api=api, gates=gates(routes), clock=clock or SystemClock())


@asynccontextmanager
async def asking(app: Any, *, peer: tuple[str, int] = REMOTE) -> AsyncIterator[httpx2.AsyncClient]:
    """A client at `peer`."""
    transport = httpx2.ASGITransport(app=app, client=peer)
    async with httpx2.AsyncClient(transport=transport, base_url=f"http://{LISTEN}") as client:
        yield client


def bearing(word: str) -> dict[str, str]:
    """The header."""
    return {"authorization": f"Bearer {word}"}


@pytest.mark.parametrize(("method", "path"), operations())
async def test_every_operation_by_every_role(method: str, path: str) -> None:
    """Nobody 401, the wrong role 403, the right one let in: for each operation there is."""
    operation = f"{method} {path}"
    url = re.sub(r"\{[^}]+\}", "x-1", path)
    async with asking(access()) as client:
        nobody = await client.request(method, url)
        wrong = await client.request(method, url, headers=bearing("guessed"))
        by_role = {role: await client.request(method, url, headers=bearing(secret(role))) for role in ApiRole}
    refused = 200 if operation in OPEN else 401
    assert (nobody.status_code, wrong.status_code) == (refused, refused)
    if refused == 401:
        assert nobody.headers["www-authenticate"] == 'Bearer realm="leeward"'
        assert wrong.headers["www-authenticate"] == 'Bearer realm="leeward", error="invalid_token"'
        assert nobody.headers["content-type"] == wrong.headers["content-type"] == PROBLEM
    for role, answer in by_role.items():
        assert answer.status_code == (200 if may(role, operation) else 403), (operation, role)
        if answer.status_code == 403:
            assert answer.headers["content-type"] == PROBLEM
            assert "insufficient_scope" in answer.headers["www-authenticate"]
            assert role.value in answer.json()["detail"]
        elif operation not in OPEN:
            assert answer.headers["x-caller"] == f"{role.value}-1"


def test_the_table_names_nothing_that_is_not_served() -> None:
    """A line left behind would be a promise about nothing."""
    served = {f"{method} {re.sub(r'{[^}]+}', '{}', path)}" for method, path in operations()}
    stated = {re.sub(r"{[^}]+}", "{}", operation) for operation in ROLES}
    assert stated - served == set()


def test_an_operation_without_a_role_is_not_served() -> None:
    """The application is not even built; the error says where to put it."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    router = APIRouter(prefix="/v1")

    @router.post("/surprise")
    async def surprise() -> None: ...

    app.include_router(router)
    with pytest.raises(Unstated, match=r"POST /v1/surprise has no role: say in control_plane/api/access\.py"):
        gates(app.routes)


async def test_without_a_token_nothing_is_told_of_what_exists() -> None:
    """401 for a path that is not there, too; with a token, 404 as ever."""
    app = build(Guarded(), hosts=own_hosts("127.0.0.1", 7100, None))
    async with asking(app) as client:
        assert (await client.get("/nowhere")).status_code == 401
        assert (await client.delete("/v1/health")).status_code == 401
        viewer = bearing(secret(ApiRole.VIEWER))
        assert (await client.get("/nowhere", headers=viewer)).status_code == 404
        assert (await client.delete("/v1/health", headers=viewer)).status_code == 405


async def test_the_page_and_the_life_signs_are_open_and_the_data_is_not() -> None:
    """Over the application itself."""
    async with asking(build(Guarded(), hosts=own_hosts("127.0.0.1", 7100, None))) as client:
        answers = {
            path: (await client.get(path)).status_code for path in ("/", "/livez", "/readyz", "/metrics")
        }
        assert answers == {"/": 200, "/livez": 200, "/readyz": 200, "/metrics": 401}
        assert (await client.get("/v1/edges")).status_code == 401
        assert (await client.head("/openapi.json")).status_code == 401
        assert (await client.get("/v1/edges", headers=bearing(secret(ApiRole.VIEWER)))).status_code == 200


async def test_metrics_may_be_opened_alone() -> None:
    """For a Prometheus that can present no token."""
    opened = GUARDED.model_copy(update={"metrics_open": True})
    async with asking(build(Guarded(opened), hosts=frozenset())) as client:
        assert (await client.get("/metrics")).status_code == 200
        assert (await client.get("/v1/leader")).status_code == 401


async def test_whoami_says_as_whom_one_is_taken() -> None:
    """The id of the token and its role; without tokens, anybody is everything."""
    async with asking(build(Guarded(), hosts=frozenset())) as client:
        edge = await client.get("/v1/whoami", headers=bearing(secret(ApiRole.EDGE)))
    assert edge.json() == {"name": "edge-1", "role": "edge"}
    async with asking(build(StillReplica(), hosts=frozenset())) as client:
        assert (await client.get("/v1/whoami")).json() == {"name": "anonymous", "role": "admin"}


@pytest.mark.parametrize("peer", ["127.0.0.1", "::1"])
async def test_this_machine_may_be_let_in_without_a_token(peer: str) -> None:
    """Where the node file says so; a token that is presented counts all the same."""
    trusting = GUARDED.model_copy(update={"anonymous_loopback": True})
    async with asking(access(trusting), peer=(peer, 4)) as client:
        assert (await client.put("/v1/config")).headers["x-caller"] == "anonymous"
        viewer = await client.put("/v1/config", headers=bearing(secret(ApiRole.VIEWER)))
        assert viewer.status_code == 403
        assert (await client.get("/v1/edges", headers=bearing("guessed"))).status_code == 401
    async with asking(access(), peer=(peer, 4)) as client:
        assert (await client.get("/v1/edges")).status_code == 401


@pytest.mark.parametrize(
    "headers",
    [
        {"x-forwarded-for": "203.0.113.5"},
        {"forwarded": "for=203.0.113.5"},
        {"via": "1.1 proxy"},
        {"host": "attacker.example:7100"},
        {"host": "10.0.0.3:7100"},
    ],
)
async def test_what_is_passed_on_is_not_this_machines_own(headers: dict[str, str]) -> None:
    """A proxy here speaks for others, and a foreign Host is a page that was tricked into asking."""
    trusting = GUARDED.model_copy(update={"anonymous_loopback": True})
    async with asking(access(trusting), peer=("127.0.0.1", 4)) as client:
        assert (await client.get("/v1/edges", headers=headers)).status_code == 401


async def test_a_foreign_origin_is_refused_with_the_right_token_too() -> None:
    """`Guard` stands before it: a page elsewhere must not be able to kill a region."""
    async with asking(build(Guarded(), hosts=own_hosts("127.0.0.1", 7100, None))) as client:
        headers = {
            **bearing(secret(ApiRole.ADMIN)),
            "origin": "http://attacker.example",
            "content-type": "application/json",
        }
        answer = await client.post("/v1/overrides", json={}, headers=headers)
        assert (answer.status_code, "Origin" in answer.json()["detail"]) == (403, True)
        foreign = await client.get("/v1/edges", headers={**headers, "host": "attacker.example"})
        assert foreign.status_code == 421


async def test_wrong_tokens_are_bounded_by_peer_and_right_ones_never() -> None:
    """429 with Retry-After after so many; another peer, and a right token, are not its business."""
    clock = Still()
    app = access(clock=clock)
    async with asking(app) as client, asking(app, peer=("192.0.2.8", 4)) as other:
        wrong = [
            (await client.get("/v1/edges", headers=bearing("guessed"))).status_code
            for _ in range(WRONG_PER_WINDOW)
        ]
        assert set(wrong) == {401}
        clock.at += 1
        late = await client.get("/v1/edges", headers=bearing("guessed"))
        assert (late.status_code, late.headers["retry-after"]) == (429, f"{WINDOW_S - 1:.0f}")
        assert (await other.get("/v1/edges", headers=bearing("guessed"))).status_code == 401
        assert (await client.get("/v1/edges", headers=bearing(secret(ApiRole.VIEWER)))).status_code == 200
        clock.at += WINDOW_S
        assert (await client.get("/v1/edges", headers=bearing("guessed"))).status_code == 401


def test_the_brake_remembers_a_bounded_number_of_peers() -> None:
    """However many addresses somebody has."""
    brake = Brake()
    for number in range(MAX_PEERS * 2):
        brake.wait_s(f"peer-{number}", 0.0)
    assert len(brake._wrong) == MAX_PEERS


def test_comparison_takes_the_same_time_for_every_token() -> None:
    """hmac.compare_digest by default, on digests of one length, against all of them, found or not."""
    assert inspect.signature(Tokens).parameters["equal"].default is hmac.compare_digest
    asked: list[tuple[bytes, bytes]] = []

    def noting(known: bytes, digest: bytes) -> bool:
        asked.append((known, digest))
        return hmac.compare_digest(known, digest)

    tokens = Tokens(TOKENS, equal=noting)
    assert tokens.find(secret(ApiRole.VIEWER).encode()) == Caller("viewer-1", ApiRole.VIEWER)
    right = len(asked)
    assert tokens.find(b"guessed") is None
    assert right == len(asked) - right == len(TOKENS)
    assert {len(part) for pair in asked for part in pair} == {32}


@pytest.mark.parametrize(
    ("presented", "found"),
    [
        ([b"Bearer abc"], b"abc"),
        ([b"bearer  abc "], b"abc"),
        ([b"Basic abc"], None),
        ([b"Bearer"], None),
        ([b"Bearer a b"], None),
        ([b"Bearer a", b"Bearer b"], None),
    ],
)
def test_a_bearer_token_is_read_to_the_letter(presented: list[bytes], found: bytes | None) -> None:
    """RFC 6750; two of them are none."""
    assert bearer(presented) == found


async def test_the_caller_is_known_only_while_the_request_lasts() -> None:
    """What goes on record is the token's id; for those without a token, nothing."""
    seen: list[str] = []

    async def noting(scope: Any, receive: Any, send: Any) -> None:
        seen.append(asked_by())
        await passed(scope, receive, send)

    routes = build(StillReplica(), hosts=frozenset()).routes
    for api in (GUARDED, Api()):
        app = Access(noting, api=api, gates=gates(routes), clock=SystemClock())
        async with asking(app) as client:
            await client.get("/v1/edges", headers=bearing(secret(ApiRole.VIEWER)))
    assert seen == ["viewer-1", ""]
    assert (CALLER.get(), asked_by()) == (None, "")
