"""Whatever a client or a target sends, a translation has an answer to it: a refusal in words, or a broken relay."""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_router.core.body import Asked
from edge_router.core.endpoints import Kind
from edge_router.core.relay import Problem, Verdict
from edge_router.core.translation import Untranslatable, translate
from shared.vocabulary.terms import Dialect, Outcome
from tests.support.dialect_samples import (
    ANSWERS,
    CALLS,
    OTHERS,
    PAIRS,
    STREAMS,
    least,
    sse,
    target,
    translated,
)
from tests.support.dialect_views import documents, seen, seen_stream

ASKED = Asked(b'"m"', 0, 0, False, 1, False)
CUT = Problem(Outcome.FAILED, "connection_terminated", "cut")
ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**30), 10**30),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
    st.just([]),
    st.just({}),
    st.just([{"type": "text", "text": "x"}]),
    st.dictionaries(
        st.sampled_from(["type", "text", "id", "error", "content", "role"]), st.text("ax", max_size=2)
    ),
)


def spoiled(draw: st.DrawFn, value: Any) -> Any:
    """`value` with some of its parts replaced, left out or doubled."""
    match draw(st.integers(0, 30)):
        case 0:
            return draw(ODD)
        case 1 if isinstance(value, dict) and value:
            left = draw(st.sampled_from(sorted(value)))
            return {name: one for name, one in value.items() if name != left}
        case 2 if isinstance(value, list):
            return value + value
        case 3 if isinstance(value, dict):
            return {**value, draw(st.sampled_from(["extra", "index", "error", "n"])): draw(ODD)}
    if isinstance(value, dict):
        return {name: spoiled(draw, one) for name, one in value.items()}
    if isinstance(value, list):
        return [spoiled(draw, one) for one in value]
    return value


@settings(max_examples=150, deadline=None)
@given(pair=st.sampled_from(PAIRS), data=st.data())
def test_a_call_is_translated_or_refused(pair: tuple[Kind, Dialect], data: st.DataObject) -> None:
    """Never anything else; what is sent is JSON that any reader takes."""
    kind, dialect = pair
    call = data.draw(st.composite(lambda draw: spoiled(draw, CALLS[kind]))())
    try:
        given = translate(kind, json.dumps(call).encode(), ASKED, target(dialect))
    except Untranslatable as refused:
        assert str(refused)  # noqa: PT017
        return
    assert isinstance(json.loads(given.body), dict)


@settings(max_examples=150, deadline=None)
@given(pair=st.sampled_from(PAIRS), data=st.data())
def test_an_answer_is_carried_over_or_broken(pair: tuple[Kind, Dialect], data: st.DataObject) -> None:
    """And what is carried over is what the client's SDK reads."""
    kind, dialect = pair
    answer = data.draw(st.composite(lambda draw: spoiled(draw, ANSWERS[dialect]))())
    relay = translated(kind, least(kind), dialect).relay()
    step = relay.feed(json.dumps(answer).encode(), True)
    if step.verdict is Verdict.COMPLETE:
        seen(kind, step.content)
    else:
        assert step == (b"", Verdict.BROKEN)
        assert relay.problem is not None


@settings(max_examples=150, deadline=None)
@given(pair=st.sampled_from(PAIRS), data=st.data())
def test_a_stream_is_carried_over_or_broken(pair: tuple[Kind, Dialect], data: st.DataObject) -> None:
    """And where it ends well, the client's SDK can put it together."""
    kind, dialect = pair
    call = {**least(kind), "stream_options": {"include_usage": True}} if kind is Kind.CHAT else least(kind)
    events = data.draw(
        st.composite(lambda draw: [spoiled(draw, one) for one in documents(STREAMS[dialect])])()
    )
    stream = sse(*(one if isinstance(one, dict) else json.dumps(one) for one in events))
    relay = translated(kind, call, dialect, stream=True).relay()
    step = relay.feed(stream, False)
    last = relay.cut(CUT) if step.verdict is not Verdict.BROKEN else step
    assert last.verdict in (Verdict.BROKEN, Verdict.COMPLETE)
    if last.verdict is Verdict.COMPLETE:
        # Arguments are handed on as they come: those that a model has written badly are the client's to read.
        with suppress(json.JSONDecodeError):
            seen_stream(kind, step.content + last.content)


@settings(max_examples=80, deadline=None)
@given(pair=st.sampled_from(PAIRS), status=st.integers(400, 599), body=st.binary(max_size=60))
def test_an_error_is_always_told(pair: tuple[Kind, Dialect], status: int, body: bytes) -> None:
    kind, dialect = pair
    assert json.loads(translated(kind, least(kind), dialect).error(status, body))["error"]["message"]


DEEP = b'{"a":' * 100_000


@pytest.mark.parametrize("kind", [*OTHERS, Kind.EMBEDDINGS, Kind.GEMINI_EMBEDDINGS])
@pytest.mark.parametrize("at", [b"%b", b'{"model":%b', b'{"messages":%b', b'{"contents":%b', b'{"input":%b'])
def test_what_is_nested_without_end_is_refused(kind: Kind, at: bytes) -> None:
    """The decoder's RecursionError is nobody else's."""
    for dialect in OTHERS.get(kind, (Dialect.GEMINI if kind is Kind.EMBEDDINGS else Dialect.OPENAI,)):
        with pytest.raises(Untranslatable):
            translate(kind, at % DEEP, ASKED, target(dialect))


@pytest.mark.parametrize(("kind", "dialect"), PAIRS)
def test_an_error_that_is_nested_without_end_is_told(kind: Kind, dialect: Dialect) -> None:
    assert b"status 500" in translated(kind, least(kind), dialect).error(500, DEEP)


@pytest.mark.parametrize("kind", [Kind.MESSAGES, Kind.GEMINI])
def test_arguments_that_are_nested_without_end_are_garbled(kind: Kind) -> None:
    answer = json.loads(json.dumps(ANSWERS[Dialect.OPENAI]))
    answer["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"] = DEEP.decode()
    relay = translated(kind, least(kind), Dialect.OPENAI).relay()
    assert relay.feed(json.dumps(answer).encode(), True) == (b"", Verdict.BROKEN)
