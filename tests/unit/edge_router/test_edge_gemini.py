"""Gemini at the edge: what is read from a request line, what reaches a target, and when a stream may end."""

import json
from dataclasses import replace

import pytest

from edge_router.core.answers import Refusal, last_event, refuse
from edge_router.core.attempts import Course, judge, judge_error
from edge_router.core.body import Asked, Unreadable
from edge_router.core.endpoints import GEMINI_METHODS, MODELS_OF, Kind
from edge_router.core.error_body import read_error
from edge_router.core.gemini_calls import gemini_wording, read_gemini_call
from edge_router.core.listings import listing_of
from edge_router.core.paths import Asking, asked_by
from edge_router.core.promise import keeps
from edge_router.core.relay import Events, Verdict
from edge_router.core.sse import EventReader
from edge_router.core.table import Origin, TargetEntry
from edge_router.core.tokens import NONE, Tokens, tokens_of
from edge_router.core.wire import parse_request_head, parse_response_head
from shared.vocabulary.terms import Dialect

GENERATE = GEMINI_METHODS[b"generateContent"]
STREAM = GEMINI_METHODS[b"streamGenerateContent"]
BATCH = GEMINI_METHODS[b"batchEmbedContents"]
TARGET = TargetEntry(
    "g", "r", Origin("http", "h", 1), b"h", b"/v1beta", b'"up/stream:1"', Dialect.GEMINI, None, 9, False
)


def asked(path: bytes, query: bytes = b"", client: Dialect = Dialect.OPENAI) -> Asking:
    return asked_by(path, query, client)


# ---------------------------------------------------------------- the request line


@pytest.mark.parametrize(
    ("path", "endpoint", "model"),
    [
        (b"/v1beta/models/chat:generateContent", GENERATE, b'"chat"'),
        (b"/v1/models/chat:generateContent", GENERATE, b'"chat"'),
        (b"/v1beta/models/a%2Fb:generateContent", GENERATE, b'"a/b"'),
        (b"/v1beta/models/a/b:generateContent", GENERATE, b'"a/b"'),
        (b"/v1beta/models/llama:8b:batchEmbedContents", BATCH, b'"llama:8b"'),
        (b"/v1beta/models/%22q%22:generateContent", GENERATE, rb'"\"q\""'),
        (b"/v1/models", MODELS_OF[Dialect.OPENAI], None),
        (b"/v1/models/a%2Fb", MODELS_OF[Dialect.OPENAI], b'"a/b"'),
        (b"/v1beta/models", MODELS_OF[Dialect.GEMINI], None),
        (b"/v1beta/models/llama:8b", MODELS_OF[Dialect.GEMINI], b'"llama:8b"'),
        (b"/v1/modelsx", None, None),
        (b"/v1beta", None, None),
    ],
)
def test_the_path_says_endpoint_and_model(path: bytes, endpoint: object, model: bytes | None) -> None:
    """The last colon separates the method; a name may hold slashes and colons, encoded or not."""
    asking = asked(path)
    assert (asking.endpoint, asking.model, asking.objection) == (endpoint, model, "")


@pytest.mark.parametrize(
    "path", [b"/v1/models/%ff", b"/v1beta/models/:generateContent", b"/v1/models/%00a", b"/v1/models/%0d%0aa"]
)
def test_a_name_that_is_none_is_an_objection(path: bytes) -> None:
    """Not UTF-8, empty, or with control characters."""
    assert asked(path).objection


@pytest.mark.parametrize("client", [Dialect.OPENAI, Dialect.ANTHROPIC, Dialect.GEMINI])
def test_the_list_is_in_the_clients_own_shape(client: Dialect) -> None:
    """Where the path is shared, its fields tell whose client it is."""
    assert asked(b"/v1/models", client=client).endpoint is MODELS_OF[client]
    assert asked(b"/v1/models/x", client=client).endpoint is MODELS_OF[client]


@pytest.mark.parametrize(
    ("query", "rest", "key"),
    [
        (b"?key=secret", b"", b"secret"),
        (b"?a=1&key=secret&b=2", b"?a=1&b=2", b"secret"),
        (b"?%6Bey=secret", b"", b"secret"),
        (b"?KEY=secret&access_token=x&oauth_token=y", b"", b"secret"),
        (b"?key=se%63ret&key=other", b"", b"secret"),
        (b"?api_key=secret&a=1", b"?a=1", b""),
        (b"?", b"", b""),
    ],
)
def test_no_key_stays_in_a_query(query: bytes, rest: bytes, key: bytes) -> None:
    """However it is written; what is not a credential goes on."""
    asking = asked(b"/v1beta/models/m:generateContent", query)
    assert (asking.query, asking.key, asking.objection) == (rest, key, "")


@pytest.mark.parametrize(
    "path", [b"/v1/chat/completions", b"/v1/embeddings", b"/v1/responses", b"/v1/messages"]
)
@pytest.mark.parametrize(
    ("query", "rest"),
    [
        (b"?key=secret", b""),
        (b"?a=1&api_key=secret&b=2", b"?a=1&b=2"),
        (b"?Api-Key=secret&%61ccess_token=x&apikey=y&subscription-key=z&oauth_token=o", b""),
        (
            b"?api-version=2024-10-21&beta=true&alt=x&fields=y",
            b"?api-version=2024-10-21&beta=true&alt=x&fields=y",
        ),
        (b"?&a", b"?&a"),
    ],
)
def test_no_credential_goes_on_in_the_query_of_any_model_call(path: bytes, query: bytes, rest: bytes) -> None:
    """In other dialects it is nobody's key; everything else stays as it was written."""
    asking = asked(path, query)
    assert (asking.query, asking.key) == (rest, b"")
    assert asked(b"/plain", query).query == query


def test_a_key_counts_wherever_google_clients_show_it() -> None:
    """In a field, or in the query; the query's is not in what goes on."""
    line = b"POST /v1beta/models/m:generateContent%b HTTP/1.1\r\nhost: e\r\n%b\r\n"
    field = parse_request_head(line % (b"", b"x-goog-api-key: dev\r\n"))
    query = parse_request_head(line % (b"?key=dev&x=1", b""))
    assert field.key_sha256 == query.key_sha256 != ""
    assert (field.forward, query.query) == (b"", b"?x=1")
    account = parse_request_head(line % (b"", b"x-goog-user-project: p\r\nx-goog-api-client: c\r\n"))
    assert account.forward == b"x-goog-api-client: c\r\n"


def test_a_stream_is_asked_for_as_events() -> None:
    """`alt=sse` and nothing else; a plain call takes no `alt` but json."""
    stream = b"/v1beta/models/m:streamGenerateContent"
    assert asked(stream, b"?alt=sse").streams
    assert not asked(stream, b"?alt=sse").objection
    assert "alt=sse" in asked(stream).objection
    assert asked(stream, b"?alt=json").objection
    assert asked(stream, b"?alt=sse&alt=json").objection
    plain = b"/v1beta/models/m:generateContent"
    assert not asked(plain, b"?alt=json").objection
    assert not asked(plain, b"?alt=json").streams
    assert asked(plain, b"?%24alt=proto").objection


@pytest.mark.parametrize(
    "query", [b"?fields=candidates", b"?a=1&%24fields=x", b"?callback=f", b"?C%61llback=f"]
)
def test_answers_are_given_whole(query: bytes) -> None:
    """A target would be blamed for an answer that its client has had cut or wrapped."""
    assert "not served" in asked(b"/v1beta/models/m:generateContent", query).objection


# ---------------------------------------------------------------- the body


CALL = asked(b"/v1beta/models/m:streamGenerateContent", b"?alt=sse")


def test_what_a_body_asks() -> None:
    """Model and stream stand in the path; candidates in the configuration; what is stored binds."""
    call = read_gemini_call(CALL, b'{"contents":[]}')
    assert call == Asked(b'"m"', 0, 0, True, 1, False)
    assert read_gemini_call(CALL, b'{"generationConfig":{"candidateCount":3}}').choices == 3
    assert read_gemini_call(CALL, b'{"generation_config":{"candidate_count":2}}').choices == 2
    assert read_gemini_call(CALL, b'{"cachedContent":"cachedContents/1"}').bound
    file = b'{"contents":[{"parts":[{"fileData":{"fileUri":"https://generativelanguage.googleapis.com/v1beta/files/x"}}]}]}'
    assert read_gemini_call(CALL, file).bound


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}",
        b'{"contents":[],"contents":[]}',
        b'{"a":1,"\\u0061":2}',
        b'{"generationConfig":[]}',
    ],
)
def test_a_body_that_could_be_read_in_two_ways_is_refused(body: bytes) -> None:
    """Equal keys, escaped or not, and what is no object."""
    with pytest.raises(Unreadable):
        read_gemini_call(CALL, body)


def test_a_body_reaches_its_target_as_it_came() -> None:
    """Byte for byte; the target's own model stands in the path."""
    body = b'{ "contents" : [ {"parts":[{"text":"\xc3\xa9"}]} ],\n "z":1e5}'
    wording = gemini_wording(TARGET, STREAM, b"?x=1", body)
    assert wording.suffix == b"/models/up%2Fstream%3A1:streamGenerateContent?alt=sse&x=1"
    assert wording.body is body
    assert gemini_wording(TARGET, GENERATE, b"?x=1", body).suffix.endswith(b":generateContent?x=1")


def test_where_a_body_repeats_the_model_it_is_the_targets() -> None:
    """At the top and in each of a batch; a text that says "model" changes nothing."""
    top = gemini_wording(TARGET, GENERATE, b"", b'{"m\\u006fdel":"models/m","contents":[]}')
    assert json.loads(top.body) == {"model": "models/up/stream:1", "contents": []}
    batch = b'{"requests":[{"model":"models/m","content":{"parts":[{"text":"a"}]}},{"content":1e2}]}'
    assert gemini_wording(TARGET, BATCH, b"", batch).body == (
        b'{"requests":[{"model":"models/up/stream:1","content":{"parts":[{"text":"a"}]}},{"content":1e2}]}'
    )
    said = b'{ "contents":[{"parts":[{"functionCall":{"args":{"model":"models/m"}}}]}]}'
    assert gemini_wording(TARGET, GENERATE, b"", said).body is said
    odd = b'{"requests":"model", "model2":1}'
    assert gemini_wording(TARGET, BATCH, b"", odd).body is odd


def test_only_gemini_targets_need_a_wording() -> None:
    """Every other dialect's bodies are spliced at targets of the same."""
    assert TARGET.spliced is None
    assert replace(TARGET, dialect=Dialect.ANTHROPIC).spliced is Dialect.ANTHROPIC


# ---------------------------------------------------------------- answers


def event(fields: str) -> bytes:
    return b'data: {"candidates":[{%b}]}\n\n' % fields.encode()


@pytest.mark.parametrize(
    ("raw", "substance", "finished"),
    [
        (event('"content":{"role":"model"}'), False, False),
        (event('"content":{"parts":[{"text":""}]}'), False, False),
        (event('"content":{"parts":[{"text":"a"}]}'), True, False),
        (event('"content":{"parts":[{"text":"","thoughtSignature":"x"}]}'), True, False),
        (event('"content":{"parts":[{"functionCall":{"name":"f"}}]}'), True, False),
        (event('"finishReason":"STOP"'), True, True),
        (event('"finishReason":"FINISH_REASON_UNSPECIFIED"'), False, False),
        (b'data: {"promptFeedback":{"blockReason":"SAFETY"}}\n\n', True, True),
        (b'data: {"usageMetadata":{"promptTokenCount":3}}\n\n', False, False),
    ],
)
def test_events_are_known_for_what_they_mean(raw: bytes, substance: bool, finished: bool) -> None:
    """Anything of an answer, its end, or neither."""
    reader = EventReader(Kind.GEMINI)
    assert reader.feed(raw) == raw
    assert (reader.substance, reader.finished, reader.error, reader.fault) == (substance, finished, "", "")


def test_every_candidate_must_finish() -> None:
    """Of two, both."""
    reader = EventReader(Kind.GEMINI, choices=2)
    reader.feed(event('"index":0,"finishReason":"STOP"'))
    assert not reader.finished
    reader.feed(event('"index":1,"finishReason":"MAX_TOKENS"'))
    assert reader.finished


def test_a_stream_without_a_last_event_ends_with_its_finish_reason() -> None:
    """Nothing is added to it; without a finish reason it is broken; an error is told as it came."""
    text, end = event('"content":{"parts":[{"text":"a"}]}'), event('"finishReason":"STOP"')
    whole = Events(Kind.GEMINI, choices=1)
    assert whole.feed(text, False).verdict is Verdict.PASS
    assert whole.feed(end, False) == (end, Verdict.FINISHING)
    assert whole.feed(b"", True) == (b"", Verdict.COMPLETE)
    cut = Events(Kind.GEMINI, choices=1)
    cut.feed(text, False)
    assert cut.feed(b"", True).verdict is Verdict.BROKEN
    failed = Events(Kind.GEMINI, choices=1)
    failed.feed(text, False)
    told = b'data: {"error":{"code":503,"message":"x","status":"UNAVAILABLE"}}\n\n'
    assert failed.feed(told, False) == (told, Verdict.BROKEN)
    assert failed.problem is not None
    assert failed.problem.told


def test_what_a_whole_answer_promises() -> None:
    """Candidates that have ended, or a refused prompt; vectors."""
    good = b'{"candidates":[{"finishReason":"STOP"}],"usageMetadata":{"promptTokenCount":3,"candidatesTokenCount":4}}'
    assert keeps(Kind.GEMINI, good) == Tokens(3, 4)
    assert keeps(Kind.GEMINI, b'{"promptFeedback":{"blockReason":"SAFETY"}}') is NONE
    for broken in (
        b"{}",
        b'{"candidates":[]}',
        b'{"candidates":[{"finishReason":null}]}',
        b'{"error":{"code":500}}',
        b'{"candidates":[{"finishReason":"ST',
    ):
        assert keeps(Kind.GEMINI, broken) is None
    assert keeps(Kind.GEMINI_EMBEDDINGS, b'{"embedding":{"values":[1.0]}}') is NONE
    assert keeps(Kind.GEMINI_EMBEDDINGS, b'{"embeddings":[{"values":[1.0]}]}') is NONE
    assert keeps(Kind.GEMINI_EMBEDDINGS, b'{"embeddings":[]}') is None
    assert keeps(Kind.GEMINI_EMBEDDINGS, b'{"ok":true}') is None


def test_errors_are_in_googles_envelope() -> None:
    """Code, message and status as its client reads them; our reason stands in the details."""
    raw = refuse(Refusal.NO_MODEL, "there is none", Dialect.GEMINI)
    error = json.loads(raw.partition(b"\r\n\r\n")[2])["error"]
    assert (error["code"], error["status"], error["message"]) == (404, "NOT_FOUND", "there is none")
    assert error["details"][0]["reason"] == "MODEL_NOT_FOUND"
    last = last_event(Kind.GEMINI, "stream_broken", "cut")
    # The client looks for an error at the very beginning of an event.
    assert last.startswith(b'data: {"error":')


def test_one_listing_in_three_shapes() -> None:
    """The same names; one that is not there is None."""
    listing = listing_of(["chat", "embed"])
    assert [row["id"] for row in json.loads(listing.whole[Dialect.OPENAI])["data"]] == ["chat", "embed"]
    anthropic = json.loads(listing.whole[Dialect.ANTHROPIC])
    assert (anthropic["first_id"], anthropic["last_id"], anthropic["has_more"]) == ("chat", "embed", False)
    assert json.loads(listing.whole[Dialect.GEMINI])["models"][1]["name"] == "models/embed"
    entry = listing.entry(b'"chat"', Dialect.GEMINI)
    assert entry is not None
    assert json.loads(entry)["displayName"] == "chat"
    assert listing.entry(b'"other"', Dialect.OPENAI) is None


def test_a_refused_key_is_known_behind_its_400() -> None:
    """Google says so in the details; to the client it would be a riddle, for its own key was good."""

    def course(body: bytes) -> Course:
        head = parse_response_head(b"HTTP/1.1 400 X\r\ncontent-type: application/json\r\n\r\n")
        judgement = judge(head, GENERATE, streamed=False, credential=True)
        return judge_error(judgement, read_error(400, body)).course

    assert course(b'{"error":{"code":400,"details":[{"reason":"API_KEY_INVALID"}]}}') is Course.REPLACE
    assert course(b'{"error":{"code":400,"message":"API_KEY_INVALID?"}}') is Course.PASS


def test_thoughts_are_written_tokens_too() -> None:
    """In an answer in one piece and in the last event of a stream alike."""
    usage = b'"usageMetadata":{"promptTokenCount":3,"candidatesTokenCount":4,"thoughtsTokenCount":5}'
    whole = b'{"candidates":[{"finishReason":"STOP"}],%b}' % usage
    assert keeps(Kind.GEMINI, whole) == tokens_of(b"data: %b\n\n" % whole) == Tokens(3, 9)
