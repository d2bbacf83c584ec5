"""Two calls are the same when their meaning is; and a machine's calls are never answered by a text."""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_router.core.endpoints import Kind
from edge_router.core.ladder.call import DELIVERY, GEMINI, MAX_CALL_BYTES, MAX_TEXT_CHARS, Call, read

TALK = [{"role": "user", "content": "hi"}]
PLAIN: dict[str, dict[str, Any]] = {
    Kind.CHAT: {"model": "m", "messages": TALK},
    Kind.MESSAGES: {"model": "m", "max_tokens": 9, "messages": TALK},
    Kind.RESPONSES: {"model": "m", "input": "hi"},
    Kind.COMPLETIONS: {"model": "m", "prompt": "hi"},
    GEMINI: {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]},
}


def call(kind: str = Kind.CHAT, fields: bytes = b"", **members: Any) -> Call | None:
    return read(kind, json.dumps({**PLAIN[kind], **members}).encode(), fields)


def digest(kind: str = Kind.CHAT, fields: bytes = b"", **members: Any) -> bytes:
    got = call(kind, fields, **members)
    assert got is not None
    return got.digest


scalars = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
)
names = st.sampled_from(["temperature", "seed", "stop", "x_anything", "ünï", "max_tokens"])


def shuffled(value: Any, draw: st.DataObject) -> Any:
    """The same value with every object's members in another order."""
    if isinstance(value, dict):
        order = draw.draw(st.permutations(list(value)))
        return {name: shuffled(value[name], draw) for name in order}
    return [shuffled(item, draw) for item in value] if isinstance(value, list) else value


@settings(suppress_health_check=[HealthCheck.too_slow])  # the first text builds hypothesis' tables of Unicode
@given(extra=st.dictionaries(names, values, max_size=4), draw=st.data())
def test_order_white_space_and_escapes_change_nothing(extra: dict[str, Any], draw: st.DataObject) -> None:
    """The form in which a call is written is not part of what it asks."""
    body = {**PLAIN[Kind.CHAT], **extra}
    one = read(Kind.CHAT, json.dumps(body, ensure_ascii=True).encode())
    dense = json.dumps(shuffled(body, draw), ensure_ascii=False, separators=(",", ":"))
    loose = json.dumps(shuffled(body, draw), ensure_ascii=True, indent=draw.draw(st.integers(0, 4)))
    assert one is not None
    for text in (dense, loose):
        assert read(Kind.CHAT, text.encode("utf-8", "surrogatepass")) == one


@given(one=values, other=values)
def test_different_members_make_different_calls(one: Any, other: Any) -> None:
    """Whatever is not left out by name counts, the kind of a number included."""
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert (digest(temperature=one) == digest(temperature=other)) == same


@pytest.mark.parametrize("name", sorted(DELIVERY))
def test_how_an_answer_is_delivered_is_left_out(name: str) -> None:
    """Every member of the list, and with its reason."""
    assert digest(**{name: "x"}) == digest(**{name: "y"}) == digest()
    assert DELIVERY[name]


def test_kind_versions_and_query_count() -> None:
    """The same JSON at another endpoint, version or beta is another call; other fields are not looked at."""
    body = json.dumps({"model": "m", "messages": TALK}).encode()
    chat, message = read(Kind.CHAT, body), read(Kind.MESSAGES, body)
    assert chat is not None
    assert message is not None
    assert chat.digest != message.digest
    fields = [
        b"",
        b"anthropic-version: 1\r\n",
        b"anthropic-beta: x\r\n",
        b"openai-beta: x\r\n",
        b"\r\nquery:?v=1",
    ]
    assert len({digest(fields=field) for field in fields}) == len(fields)
    assert digest(fields=b"user-agent: a\r\naccept: b\r\n") == digest()
    assert digest(fields=b"query:?v=1&alt=sse&key=k") == digest(fields=b"query:?v=1")
    assert digest(fields=b"query:?alt=sse") == digest(fields=b"query:")
    assert digest(fields=fields[1] + fields[2]) == digest(fields=fields[2] + fields[1])


@pytest.mark.parametrize(
    ("kind", "member"),
    [
        (Kind.CHAT, {"tools": [{"type": "function"}]}),
        (Kind.CHAT, {"tools": [{"type": "function"}], "tool_choice": "none"}),
        (Kind.CHAT, {"functions": [{}]}),
        (Kind.CHAT, {"response_format": {"type": "json_object"}}),
        (Kind.CHAT, {"response_format": {"type": "json_schema", "json_schema": {}}}),
        (Kind.CHAT, {"modalities": ["text", "audio"]}),
        (Kind.CHAT, {"audio": {"voice": "x"}}),
        (Kind.CHAT, {"logprobs": True}),
        (Kind.CHAT, {"n": 2}),
        (Kind.CHAT, {"web_search_options": {"search_context_size": "low"}}),
        (Kind.CHAT, {"messages": [*TALK, {"role": "tool", "tool_call_id": "1", "content": "3"}]}),
        (Kind.CHAT, {"messages": [*TALK, {"role": "assistant", "tool_calls": [{"id": "1"}]}]}),
        (Kind.CHAT, {"messages": [*TALK, {"role": "function", "name": "f", "content": "3"}]}),
        (Kind.COMPLETIONS, {"n": 2}),
        (Kind.COMPLETIONS, {"prompt": ["a", "b"]}),
        (Kind.COMPLETIONS, {"prompt": [1, 2]}),
        (Kind.RESPONSES, {"tools": [{"type": "web_search"}]}),
        (Kind.RESPONSES, {"text": {"format": {"type": "json_schema", "name": "x", "schema": {}}}}),
        (Kind.RESPONSES, {"previous_response_id": "resp_1"}),
        (Kind.RESPONSES, {"conversation": "conv_1"}),
        (Kind.RESPONSES, {"prompt": {"id": "pmpt_1"}}),
        (Kind.RESPONSES, {"input": [{"type": "function_call_output", "call_id": "1", "output": "3"}]}),
        (Kind.MESSAGES, {"tools": [{"name": "f"}]}),
        (Kind.MESSAGES, {"mcp_servers": [{"url": "https://x"}]}),
        (Kind.MESSAGES, {"output_format": {"type": "json_schema", "schema": {}}}),
        (Kind.MESSAGES, {"output_config": {"format": {"type": "json_schema", "schema": {}}}}),
        (
            Kind.MESSAGES,
            {"messages": [{"role": "user", "content": [{"type": "tool_result", "content": "3"}]}]},
        ),
        (GEMINI, {"tools": [{"functionDeclarations": []}]}),
        (GEMINI, {"cached_content": "cachedContents/1"}),
        (GEMINI, {"generationConfig": {"responseMimeType": "application/json"}}),
        (GEMINI, {"generation_config": {"response_schema": {"type": "STRING"}}}),
        (GEMINI, {"generationConfig": {"candidateCount": 2}}),
        (GEMINI, {"generationConfig": {"responseModalities": ["IMAGE"]}}),
        (GEMINI, {"contents": [{"role": "user", "parts": [{"functionResponse": {"name": "f"}}]}]}),
    ],
)
def test_what_a_machine_reads_is_never_degraded(kind: str, member: dict[str, Any]) -> None:
    """Tools, response formats, several answers, other media, and what one provider keeps."""
    assert call(kind) is not None
    assert call(kind, **member) is None


@pytest.mark.parametrize(
    ("kind", "member"),
    [
        (Kind.CHAT, {"tools": [], "response_format": {"type": "text"}, "n": 1, "modalities": ["text"]}),
        (Kind.CHAT, {"tools": None, "logprobs": False}),
        (Kind.RESPONSES, {"text": {"format": {"type": "text"}, "verbosity": "low"}, "background": False}),
        (Kind.MESSAGES, {"output_config": {"effort": "low"}, "thinking": {"type": "enabled"}}),
        (GEMINI, {"generationConfig": {"temperature": 0, "responseMimeType": "text/plain"}}),
    ],
)
def test_the_same_members_with_a_harmless_value_may_be(kind: str, member: dict[str, Any]) -> None:
    """What says "text" or "none" in so many words asks for a text."""
    assert call(kind, **member) is not None


@pytest.mark.parametrize("kind", [Kind.EMBEDDINGS, Kind.PLAIN, Kind.MODELS])
def test_other_endpoints_never_are(kind: Kind) -> None:
    """Vectors of another model, or none, are worse than an error."""
    assert read(kind, b'{"model":"m","input":"x"}') is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"model":"m","messages":[{"role":"user","role":"system","content":"a"}]}',
        b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"x":"' + b"a" * MAX_CALL_BYTES + b'"}',
    ],
)
def test_what_cannot_be_read_in_one_way_is_the_same_as_nothing(body: bytes) -> None:
    """Equal keys at any depth, depths beyond reason, and bodies too large to read in passing."""
    assert read(Kind.CHAT, body) is None


@pytest.mark.parametrize(
    ("kind", "members", "text"),
    [
        (
            Kind.CHAT,
            {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]},
            "a",
        ),
        (
            Kind.CHAT,
            {
                "messages": [
                    *TALK,
                    {"role": "user", "content": [{"type": "text", "text": "x"}, {"type": "image_url"}]},
                ]
            },
            "x",
        ),
        (Kind.RESPONSES, {"input": "q"}, "q"),
        (
            Kind.RESPONSES,
            {"input": [{"role": "user", "content": [{"type": "input_text", "text": "q"}]}]},
            "q",
        ),
        (Kind.MESSAGES, {"messages": [{"role": "user", "content": [{"type": "text", "text": "q"}]}]}, "q"),
        (GEMINI, {"contents": [{"parts": [{"text": "q"}, {"text": "r"}]}]}, "q\nr"),
        (Kind.CHAT, {"messages": [{"role": "user", "content": "y" * 9999}]}, "y" * MAX_TEXT_CHARS),
        (Kind.CHAT, {"messages": "odd"}, ""),
    ],
)
def test_rules_are_held_against_the_users_last_message(kind: str, members: dict[str, Any], text: str) -> None:
    """Not the system's, not the model's own; its beginning, without what is no text."""
    got = call(kind, **members)
    assert got is not None
    assert got.text == text


def test_usage_in_a_stream_is_noted() -> None:
    """It decides which events the client is owed."""
    got = call(stream=True, stream_options={"include_usage": True})
    assert got is not None
    assert got.stream
    assert got.usage


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"m","messages":[{"role":"user","content":"\xed\xa0\x80"}]}',
        b'{"model":"m","messages":[{"role":"user","content":"\\ud800"}]}',
        b'{"model":"\\udfff","messages":[{"role":"user","content":"hi"}]}',
        '{"model":"m","messages":[{"role":"user","content":"hi"}]}'.encode("utf-16"),
    ],
    ids=["raw surrogate", "escaped surrogate", "in the model", "UTF-16"],
)
def test_what_is_no_text_is_not_read(body: bytes) -> None:
    """What cannot be encoded again would break whoever compares or answers with it."""
    assert read(Kind.CHAT, body) is None
