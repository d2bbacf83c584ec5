"""JSON that was promised is held against its promise, in bounded time whatever a client writes as its schema."""

import json
import time
from time import perf_counter
from typing import Any

import pytest

from edge_router.core.endpoints import Kind
from edge_router.core.ladder.call import GEMINI
from edge_router.core.ladder.promised import Promise, promise_of, stream_keeps, whole_keeps

SCHEMA = {
    "type": "object",
    "properties": {"age": {"type": "integer", "minimum": 0}},
    "required": ["age"],
    "additionalProperties": False,
}
FORM = {"type": "json_schema", "schema": SCHEMA}


def promised(kind: str, **members: Any) -> Promise | None:
    return promise_of(kind, json.dumps({"model": "m", **members}).encode())


@pytest.mark.parametrize(
    ("kind", "members"),
    [
        (
            Kind.CHAT,
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}},
        ),
        (Kind.RESPONSES, {"text": {"format": {"name": "x", **FORM}}}),
        (Kind.MESSAGES, {"output_config": {"format": FORM}}),
        (Kind.MESSAGES, {"output_format": FORM}),
        (
            GEMINI,
            {"generationConfig": {"responseMimeType": "application/json", "responseJsonSchema": SCHEMA}},
        ),
    ],
)
def test_a_schema_is_found_where_each_dialect_has_it(kind: str, members: dict[str, Any]) -> None:
    """As its own text."""
    got = promised(kind, **members)
    assert got is not None
    assert json.loads(got.schema) == SCHEMA


@pytest.mark.parametrize(
    ("kind", "members", "expected"),
    [
        (Kind.CHAT, {"response_format": {"type": "json_object"}}, Promise()),
        (Kind.RESPONSES, {"text": {"format": {"type": "json_object"}}}, Promise()),
        (GEMINI, {"generationConfig": {"responseMimeType": "application/json"}}, Promise()),
        (Kind.CHAT, {}, None),
        (Kind.CHAT, {"response_format": None}, None),
        (Kind.CHAT, {"response_format": {"type": "text"}}, None),
        (Kind.CHAT, {"response_format": 5}, None),
        (Kind.CHAT, {"text": "x", "response_format": {"type": "json_object"}}, Promise()),
        (Kind.RESPONSES, {"text": {"verbosity": "low"}}, None),
        (Kind.MESSAGES, {"output_config": {"effort": "low"}}, None),
        (Kind.EMBEDDINGS, {"response_format": {"type": "json_object"}}, None),
    ],
)
def test_json_without_a_schema_and_no_json(
    kind: str, members: dict[str, Any], expected: Promise | None
) -> None:
    """What is malformed is left to the target to refuse."""
    assert promised(kind, **members) == expected


def chat(text: str | None, finish: str = "stop", **more: Any) -> bytes:
    message = {"role": "assistant", "content": text, **more}
    return json.dumps({"choices": [{"index": 0, "message": message, "finish_reason": finish}]}).encode()


def chunks(*texts: str, finish: str = "stop") -> bytes:
    deltas: list[dict[str, Any]] = [{"delta": {"content": text}, "finish_reason": None} for text in texts]
    deltas.append({"delta": {}, "finish_reason": finish})
    events = [json.dumps({"choices": [{"index": 0, **delta}]}) for delta in deltas]
    return b"".join(b"data: %b\n\n" % event.encode() for event in events)


WITH_SCHEMA = Promise(json.dumps(SCHEMA).encode())


@pytest.mark.parametrize(
    ("text", "any_json", "by_schema"),
    [
        ('{"age": 3}', True, True),
        (' {"age":3}\n', True, True),
        ('{"age": -3}', True, False),
        ('{"age": 3, "name": "x"}', True, False),
        ("[]", True, False),
        ('Sure! {"age": 3}', False, False),
        ('```json\n{"age": 3}\n```', False, False),
        ('{"age": 3', False, False),
        ("", False, False),
    ],
)
def test_an_answer_is_held_against_its_promise(text: str, any_json: bool, by_schema: bool) -> None:
    """Whole and streamed alike, in every dialect."""
    message = {"content": [{"type": "text", "text": text}], "stop_reason": "end_turn"}
    output = [{"type": "reasoning"}, {"type": "message", "content": [{"type": "output_text", "text": text}]}]
    response = {"status": "completed", "output": output}
    gemini = {"candidates": [{"content": {"parts": [{"text": text}]}, "finishReason": "STOP"}]}
    blocks = [
        {"type": "content_block_delta", "delta": {"type": "text_delta", "text": text[:4]}},
        {"type": "content_block_delta", "delta": {"type": "text_delta", "text": text[4:]}},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}},
    ]
    for promise, expected in ((Promise(), any_json), (WITH_SCHEMA, by_schema)):
        assert whole_keeps(Kind.CHAT, promise, chat(text)) is expected
        assert whole_keeps(Kind.MESSAGES, promise, json.dumps(message).encode()) is expected
        assert whole_keeps(Kind.RESPONSES, promise, json.dumps(response).encode()) is expected
        assert whole_keeps(GEMINI, promise, json.dumps(gemini).encode()) is expected
        assert stream_keeps(Kind.CHAT, promise, chunks(text[:3], text[3:])) is expected
        events = b"".join(b"data: %b\n\n" % json.dumps(block).encode() for block in blocks)
        assert stream_keeps(Kind.MESSAGES, promise, events) is expected
        last = json.dumps({"type": "response.completed", "response": response}).encode()
        assert stream_keeps(Kind.RESPONSES, promise, b"data: %b\n\n" % last) is expected
        assert stream_keeps(GEMINI, promise, b"data: %b\n\n" % json.dumps(gemini).encode()) is expected


@pytest.mark.parametrize(
    "answer",
    [
        chat('{"age"', "length"),
        chat(None, "tool_calls"),
        chat(None, refusal="I will not"),
        chat("", "content_filter"),
    ],
)
def test_an_answer_that_did_not_end_by_itself_promised_nothing(answer: bytes) -> None:
    """Its finish reason tells the client; another target would be cut at the same length."""
    assert whole_keeps(Kind.CHAT, WITH_SCHEMA, answer)


def test_a_stream_cut_by_its_length_promised_nothing() -> None:
    """The same, event by event."""
    assert stream_keeps(Kind.CHAT, WITH_SCHEMA, chunks('{"age"', finish="length"))


def test_answers_of_another_shape_keep_no_promise() -> None:
    """Rather a failure than a guess."""
    assert not whole_keeps(Kind.CHAT, Promise(), b'{"choices":[{}]}')
    assert not whole_keeps(Kind.MESSAGES, Promise(), b'{"stop_reason":"end_turn"}')


DOUBLED = {
    "$ref": "#/$defs/d0",
    "$defs": {
        **{f"d{n}": {"anyOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(40)},
        "d40": {"type": "string"},
    },
}
TREE = {"properties": {"c": {"anyOf": [{"$ref": "#"}, {"$ref": "#"}]}, "x": {"type": "string"}}}


def nested(levels: int) -> Any:
    value: Any = {"x": 1}
    for _ in range(levels):
        value = {"c": value}
    return value


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        (DOUBLED, {"age": 3}),
        (TREE, nested(60)),
        ({"$ref": "#"}, 1),
        ({"allOf": [{"$ref": "#"}]}, 1),
        ({"$ref": "http://127.0.0.1:9/schema"}, 1),
        ({"$id": "http://127.0.0.1:9/", "$ref": "other"}, 1),
        ({"$dynamicRef": "#x"}, 1),
        ({"$ref": "#/nowhere"}, 1),
        ({"type": "no such type"}, 1),
        ({"pattern": "("}, "a"),
        ({"pattern": "(a)\\1"}, "a"),
        ({"enum": ["x" * 70_000]}, 1),
        ("not a schema", 1),
    ],
)
def test_a_schema_beyond_the_bounds_is_not_used(schema: Any, value: Any) -> None:
    """Nothing hangs, overflows or is fetched; the answer must still be JSON."""
    promise = Promise(json.dumps(schema).encode())
    began = perf_counter()
    assert whole_keeps(Kind.CHAT, promise, chat(json.dumps(value)))
    assert not whole_keeps(Kind.CHAT, promise, chat("no JSON"))
    assert perf_counter() - began < 1.0


def test_a_long_answer_is_held_against_an_ordinary_schema() -> None:
    """A hundred thousand characters times a few parts need no counting."""
    schema = {
        "type": "array",
        "items": {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}},
    }
    promise = Promise(json.dumps(schema).encode())
    rows: list[dict[str, Any]] = [{"n": n} for n in range(10_000)]
    assert whole_keeps(Kind.CHAT, promise, chat(json.dumps(rows)))
    rows[-1] = {}
    assert not whole_keeps(Kind.CHAT, promise, chat(json.dumps(rows)))


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"items": {"enum": [{"a": i} for i in range(4000)]}}, [{"a": 3999}] * 2000 + [0]),
        ({"items": {"enum": [[["x" * 8] * 9, i] for i in range(500)]}}, [[["x" * 8] * 9, 499]] * 1500 + [0]),
        ({"items": {"const": [[1] * 900] * 20}}, [[[1] * 900] * 20] * 200 + [0]),
        ({"allOf": [{"pattern": "[a-z]{900}" + str(i)} for i in range(2000)]}, "a"),
        (
            {"patternProperties": {"[a-z]{900}" + str(i): False for i in range(2000)}, "maxProperties": 0},
            {"a": 1},
        ),
        ({"items": {"multipleOf": 1e-300}}, [1e300] * 500 + [0.5e-300]),
        ({"multipleOf": 10**16}, 7),
        ({"items": {"multipleOf": 1e-9}}, [1e300] * 3000 + [0.5e-9]),
    ],
)
def test_what_takes_long_to_compare_compile_or_divide_is_not_used(schema: Any, value: Any) -> None:
    """Small schemas, each worth a second of the loop's time: the answer must be JSON, and that is all."""
    body = chat(json.dumps(value))
    promise = Promise(json.dumps(schema).encode())
    began = time.process_time()
    assert whole_keeps(Kind.CHAT, promise, body)
    assert time.process_time() - began < 0.25


def test_ordinary_constants_patterns_and_multiples_are_used() -> None:
    """Of a size that people write."""
    schema = {
        "properties": {
            "code": {"enum": [f"c{i}" for i in range(300)]},
            "zip": {"pattern": "^[0-9]{5}$"},
            "price": {"multipleOf": 0.01},
        }
    }
    promise = Promise(json.dumps(schema).encode())
    assert whole_keeps(Kind.CHAT, promise, chat('{"code":"c299","zip":"12345","price":1.25}'))
    for broken in ('{"code":"c300"}', '{"zip":"1234"}', '{"price":1.255}'):
        assert not whole_keeps(Kind.CHAT, promise, chat(broken))


def test_recursion_within_bounds_is_used() -> None:
    """Lists and trees that refer to themselves are ordinary schemas."""
    schema = {
        "$ref": "#/$defs/node",
        "$defs": {
            "node": {
                "type": "object",
                "properties": {
                    "v": {"type": "integer"},
                    "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
                },
                "required": ["v", "next"],
            }
        },
    }
    promise = Promise(json.dumps(schema).encode())
    good: Any = {"v": 1, "next": {"v": 2, "next": None}}
    assert whole_keeps(Kind.CHAT, promise, chat(json.dumps(good)))
    good["next"]["v"] = "2"
    assert not whole_keeps(Kind.CHAT, promise, chat(json.dumps(good)))


def test_a_schema_that_repeats_itself_for_ever_costs_little_to_refuse() -> None:
    """A pattern that others would try for ever is linear here, and the answer long."""
    promise = Promise(b'{"type":"string","pattern":"^(a+)+$"}')
    began = perf_counter()
    assert not whole_keeps(Kind.CHAT, promise, chat(json.dumps("a" * 50_000 + "!")))
    assert perf_counter() - began < 0.5
