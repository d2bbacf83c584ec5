"""The model's name is found, and only found, where every JSON reader finds it."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_router.core.body import Unreadable, read_call


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"chat"}',
        b' \r\n{ "model" \t:\n "chat" } ',
        b'{"messages":[{"model":"other"}],"model":"chat"}',
        b'{"x":"\\"model\\":\\"other\\"","model":"chat"}',
        b'{"x":"\\u0022","y":{"model":"other"},"mod\\u0065l":"chat"}',
        b'{"a":"model","model":"chat"}',
        b'{"a":["model",{"model":["model"]}],"model":"chat","b":"model"}',
        '{"a":"é😀","model":"chat"}'.encode(),
    ],
)
def test_only_the_top_level_model_is_taken(body: bytes) -> None:
    """Nested, quoted or escaped look-alikes are not mistaken for it, and splicing changes nothing else."""
    asked = read_call(body)
    assert asked.model == b'"chat"'
    assert body[asked.start : asked.end] == b'"chat"'
    spliced = json.loads(body[: asked.start] + b'"m"' + body[asked.end :])
    assert spliced == {**json.loads(body), "model": "m"}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b'"model"',
        b"{}",
        b'{"model":null}',
        b'{"model":["chat"]}',
        b'{"model":"chat"',
        b'{"model":"chat",}',
        b'{"model":"chat"}{}',
        b'{"model":"chat","model":"chat"}',
        b'{"model":"chat","a":1,"a":1}',
        b'{"a":1,"\\u0061":2,"model":"chat"}',
        b'{"mod\\u0065l":"x","model":"chat"}',
        b"{'model':'chat'}",
        b'{"model":"chat" "a":1}',
        b'{model:"chat"}',
        b'{"model":"chat","a":tru}',
    ],
)
def test_what_two_readers_could_read_differently_is_refused(body: bytes) -> None:
    """No JSON object, no model, or a key twice."""
    with pytest.raises(Unreadable):
        read_call(body)


KEYS = st.sampled_from(["a", "b", "é", 'q"', "\\", "mode", "models", "c:d"])
VALUES = st.sampled_from(
    [None, 0, -1.5, "", "model", '"model":"x"', "é\n\\", {"model": "x"}, [{"model": ["model"]}, []], {}]
)


@settings(max_examples=100, deadline=None)
@given(
    st.dictionaries(KEYS, VALUES, max_size=5),
    st.text('abé\\"', max_size=4),
    st.booleans(),
    st.integers(0, 5),
    st.sampled_from([None, 1]),
)
def test_splicing_is_replacing_the_value_of_model(
    rest: dict, model: str, ascii_only: bool, place: int, indent: int | None
) -> None:
    """For any object, in any order and spelling: the same as json.loads, assign, dumps."""
    members = list(rest.items())
    members.insert(place, ("model", model))
    body = json.dumps(dict(members), ensure_ascii=ascii_only, indent=indent).encode()
    asked = read_call(body)
    spliced = json.loads(body[: asked.start] + b'"target"' + body[asked.end :])
    assert spliced == {**rest, "model": "target"}


def test_what_else_is_read_of_a_call() -> None:
    """Streaming, the number of choices, and whether the request belongs to one provider's state."""
    assert not read_call(b'{"model":"m","stream":false}').stream
    assert read_call(b'{"model":"m","stream": true ,"n":4}').choices == 4
    assert read_call(b'{"model":"m","n":"4"}').choices == 1
    assert read_call(b'{"model":"m","previous_response_id":"r"}').bound
    assert not read_call(b'{"model":"m","previous_response_id":null,"background":false}').bound


def test_a_body_nested_beyond_reason_is_the_clients_fault() -> None:
    """The decoder gives up before the stack does; that must not end the connection."""
    for depth in (5_000, 200_000):
        with pytest.raises(Unreadable, match="nested too deeply"):
            read_call(b'{"model":"chat","messages":' + b"[" * depth + b"]" * depth + b"}")
