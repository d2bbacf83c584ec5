"""Gemini's calls through the edge, at the level of bytes: what reaches a Gemini target, and in which words the edge
itself answers Google's clients. What its official client makes of it: test_edge_dialects."""

import json

import pytest

from edge_router.core.table import ResolvedCredential
from tests.support.data_path import END, Conversation, Target, World, answer, chunk, request, serving

WORLD = World(dialect="gemini")
BODY = b'{ "contents":[{"parts":[{"text":"hi"}]}] }'
GOOD = b'{"candidates":[{"content":{"parts":[{"text":"a"}]},"finishReason":"STOP"}]}'
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
PATH = "/v1beta/models/chat:generateContent"
STREAM = "/v1beta/models/chat:streamGenerateContent?alt=sse"


def piece(text: str, finish: str = "") -> bytes:
    ended = f',"finishReason":"{finish}"' if finish else ""
    return f'data: {{"candidates":[{{"content":{{"parts":[{{"text":"{text}"}}]}}{ended}}}]}}\r\n\r\n'.encode()


async def test_a_call_reaches_its_target_as_it_came_under_the_targets_model_and_key() -> None:
    """The path names the target's model, the body is untouched, the client's key goes nowhere."""
    target = Target(answer(GOOD))
    await target.start()
    origin = ("http", "127.0.0.1", target.port)
    await target.stop()
    credentials = {"p": ResolvedCredential(b"x-goog-api-key", b"g-secret", frozenset({origin}))}
    world = World(dialect="gemini", target={"credential": "p"})
    async with serving({"alpha": target}, world, credentials=credentials) as edge:
        by_field = await edge.ask(BODY, path=PATH, key=None, fields="x-goog-api-key: dev\r\n")
        by_query = await edge.ask(BODY, path=f"{PATH}?key=dev&x=1", key=None)
    assert (by_field.status, by_field.body) == (by_query.status, by_query.body) == (200, GOOD)
    assert by_field.fields["x-leeward-target"] == "alpha"
    assert target.seen[0].line == "POST /v1/models/m-alpha:generateContent HTTP/1.1"
    assert target.seen[1].line == "POST /v1/models/m-alpha:generateContent?x=1 HTTP/1.1"
    for seen in target.seen:
        assert seen.body == BODY
        assert seen.fields["x-goog-api-key"] == "g-secret"
        assert b"dev" not in seen.raw_head


async def test_a_stream_ends_when_its_answer_has() -> None:
    """Events pass as they came; one that stops early ends with an error in Google's words and no clean end."""

    async def whole(talk: Conversation) -> None:
        await talk.send(HEAD, chunk(piece("a")), chunk(piece("b", "STOP")), END)

    async def cut(talk: Conversation) -> None:
        await talk.send(HEAD, chunk(piece("a")), END)

    async with serving({"alpha": Target(whole)}, WORLD) as edge:
        got = await edge.ask(BODY, path=STREAM)
    assert (got.status, got.body, got.clean) == (200, piece("a") + piece("b", "STOP"), True)
    async with serving({"alpha": Target(cut)}, WORLD) as edge:
        got = await edge.ask(BODY, path=STREAM)
    assert got.body.startswith(piece("a") + b'data: {"error":')
    assert not got.clean


async def test_a_refused_prompt_is_an_answer_and_an_error_in_a_stream_is_not() -> None:
    """`promptFeedback.blockReason` ends an answer; an error before anything moves the request."""

    async def blocked(talk: Conversation) -> None:
        await talk.send(HEAD, chunk(b'data: {"promptFeedback":{"blockReason":"SAFETY"}}\n\n'), END)

    async def busy(talk: Conversation) -> None:
        await talk.send(HEAD, chunk(b'data: {"error":{"code":503,"status":"UNAVAILABLE"}}\n\n'), END)

    async with serving({"alpha": Target(busy), "beta": Target(blocked)}, WORLD) as edge:
        got = await edge.ask(BODY, path=STREAM)
    assert (got.fields["x-leeward-target"], got.fields["x-leeward-attempts"], got.clean) == (
        "beta",
        "2",
        True,
    )
    assert b"SAFETY" in got.body


@pytest.mark.parametrize(
    ("path", "method", "body", "status", "named"),
    [
        ("/v1beta/models/none:generateContent", "POST", BODY, 404, "NOT_FOUND"),
        ("/v1beta/models/chat:countTokens", "POST", BODY, 404, "NOT_FOUND"),
        ("/v1beta/cachedContents", "POST", BODY, 404, "NOT_FOUND"),
        ("/v1beta/models/none", "GET", b"", 404, "NOT_FOUND"),
        ("/v1beta/models", "POST", BODY, 405, "INVALID_ARGUMENT"),
        (PATH, "GET", b"", 405, "INVALID_ARGUMENT"),
        (PATH, "POST", b'{"contents":[],"contents":[]}', 400, "INVALID_ARGUMENT"),
        ("/v1beta/models/chat:streamGenerateContent", "POST", BODY, 400, "INVALID_ARGUMENT"),
        ("/v1beta/models/%ff:generateContent", "POST", BODY, 400, "INVALID_ARGUMENT"),
    ],
)
async def test_what_cannot_be_served_is_told_in_googles_words(
    path: str, method: str, body: bytes, status: int, named: str
) -> None:
    """Its client finds code, status and message where it looks for them; no target is asked."""
    target = Target(answer(GOOD))
    async with serving({"alpha": target}, WORLD) as edge:
        got = await edge.ask(body, path=path, method=method)
        stranger = await edge.ask(body, path=PATH, key="nobody")
    error = json.loads(got.body)["error"]
    assert (got.status, error["code"], error["status"]) == (status, status, named)
    assert json.loads(stranger.body)["error"]["status"] == "UNAUTHENTICATED"
    assert not target.seen


async def test_no_key_is_told_back() -> None:
    """Neither of a request that is refused nor of one that is malformed."""
    async with serving({"alpha": Target(answer(GOOD))}, WORLD) as edge:
        for path in ("/v1beta/models/none:generateContent", "/v1beta/nothing", "/v1/models/none"):
            got = await edge.ask(BODY, path=f"{path}?key=s3cret", key=None)
            assert b"s3cret" not in got.body


async def test_models_are_listed_as_the_client_expects() -> None:
    """One path, three dialects: by the fields of the request; single entries too."""
    fields = {
        "openai": "",
        "anthropic": "anthropic-version: 2023-06-01\r\n",
        "gemini": "x-goog-api-client: c\r\n",
    }
    async with serving({"alpha": Target(answer(GOOD))}, WORLD) as edge:
        lists = {
            dialect: json.loads((await edge.ask(b"", path="/v1/models", method="GET", fields=line)).body)
            for dialect, line in fields.items()
        }
        entries = {
            dialect: json.loads((await edge.ask(b"", path="/v1/models/chat", method="GET", fields=line)).body)
            for dialect, line in fields.items()
        }
        missing = await edge.ask(b"", path="/v1/models/none", method="GET", fields=fields["anthropic"])
        beta = json.loads((await edge.ask(b"", path="/v1beta/models", method="GET")).body)
    assert lists["openai"]["data"] == [entries["openai"]]
    assert entries["openai"]["object"] == "model"
    assert lists["anthropic"]["data"] == [entries["anthropic"]]
    assert entries["anthropic"]["type"] == "model"
    assert lists["gemini"]["models"] == beta["models"] == [entries["gemini"]]
    assert entries["gemini"]["name"] == "models/chat"
    assert (missing.status, json.loads(missing.body)["type"]) == (404, "error")


async def test_the_key_of_a_query_counts_for_google_alone() -> None:
    """OpenAI's paths take keys in fields; what their query says is the target's business."""
    async with serving({"alpha": Target()}) as edge, edge.client() as client:
        client.write(request(path="/v1/chat/completions?key=dev", key=None))
        assert (await client.read()).status == 401


async def test_a_plain_route_may_serve_what_the_edge_does_not() -> None:
    """Gemini's other methods and resources, below a path of one's own choice; its calls stay the edge's."""
    target = Target(answer(b'{"totalTokens":1}'))
    async with serving({"alpha": target}, World(dialect="http", paths=("/v1beta",))) as edge:
        counted = await edge.ask(BODY, path="/v1beta/models/x:countTokens?key=dev", key=None)
        stored = await edge.ask(b"", path="/v1beta/files/1", method="GET")
        called = await edge.ask(BODY, path="/v1beta/models/x:generateContent")
    assert (counted.status, stored.status, called.status) == (200, 200, 404)
    assert [seen.line.split()[1] for seen in target.seen] == [
        "/v1/v1beta/models/x:countTokens",
        "/v1/v1beta/files/1",
    ]
