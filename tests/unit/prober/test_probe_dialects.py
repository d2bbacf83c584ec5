import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prober.core.dialects import judge, question
from prober.core.jobs import SPOKEN, Job
from shared.vocabulary.terms import Dialect
from tests.unit.prober.prober_world import monitor, target

ASKED = [(kind, dialect) for kind, spoken in SPOKEN.items() if kind != "tcp" for dialect in spoken]


def job(kind: str, dialect: Dialect, *capabilities: str, **fields: Any) -> Job:
    return Job(
        target(dialect=dialect, model="org/m 1", capabilities=capabilities),
        monitor(kind, kind=kind, **fields),
    )


def chat_body(dialect: Dialect, text: str | None, *, cut: bool = False, thought: bool = False) -> bytes:
    """One chat answer, as each dialect writes it."""
    if dialect is Dialect.OPENAI:
        message = {"content": text, **({"reasoning_content": "hm"} if thought else {})}
        finish = "length" if cut else "stop"
        body: dict[str, Any] = {
            "id": "x",
            "choices": [{"index": 0, "message": message, "finish_reason": finish}],
            "usage": {"prompt_tokens": 7, "completion_tokens": 3},
        }
    elif dialect is Dialect.ANTHROPIC:
        blocks = [{"type": "thinking", "thinking": "hm"}] if thought else []
        blocks += [{"type": "text", "text": text}] if text is not None else []
        body = {
            "type": "message",
            "content": blocks,
            "stop_reason": "max_tokens" if cut else "end_turn",
            "usage": {"input_tokens": 7, "output_tokens": 3},
        }
    else:
        parts: list[dict[str, Any]] = [{"text": "hm", "thought": True}] if thought else []
        parts += [{"text": text}] if text is not None else []
        body = {
            "candidates": [{"content": {"parts": parts}, "finishReason": "MAX_TOKENS" if cut else "STOP"}],
            "usageMetadata": {
                "promptTokenCount": 7,
                "candidatesTokenCount": 1,
                "thoughtsTokenCount": 2 * thought,
            },
        }
    return json.dumps(body).encode()


@pytest.mark.parametrize("dialect", [Dialect.OPENAI, Dialect.ANTHROPIC, Dialect.GEMINI])
@pytest.mark.parametrize(
    ("text", "cut", "thought", "good"),
    [
        ("I am READY.", False, False, True),
        ("ready", False, True, True),
        ("no", False, False, False),
        ("no", False, True, False),
        (" \n", False, False, False),
        (None, False, False, False),
        (None, False, True, False),
        ("<think>ready?</think>", False, False, False),
        ("<think>yes or no?</think> Ready!", False, False, True),
        ("<think>ready?</think> no", False, False, False),
        ("I am already here", False, False, False),
        (None, True, True, True),
        (None, True, False, True),
        ("", True, False, True),
        ("Let me think about", True, True, True),
        ("Let me think about", True, False, False),
        ("<think>Let me", True, False, True),
    ],
)
def test_a_model_that_works_is_well_and_one_that_does_not_is_garbled(
    dialect: Dialect, text: str | None, cut: bool, thought: bool, good: bool
) -> None:
    """The same answer has the same worth in every dialect; thinking is never a fault, nor an answer."""
    verdict = judge(
        job("chat", dialect, expect_answer="ready"), chat_body(dialect, text, cut=cut, thought=thought)
    )
    assert (verdict.problem is None) is good, verdict


def test_a_reasoning_target_may_be_cut_off_anywhere() -> None:
    """Its capability says that what it wrote before the limit may have been thought."""
    body = chat_body(Dialect.OPENAI, "The user asks", cut=True)
    assert judge(job("chat", Dialect.OPENAI, "reasoning", expect_answer="ready"), body).problem is None


@pytest.mark.parametrize("dialect", [Dialect.OPENAI, Dialect.ANTHROPIC, Dialect.GEMINI])
def test_the_targets_own_count_of_tokens_is_kept(dialect: Dialect) -> None:
    """Cost is charged by what the provider will charge."""
    verdict = judge(job("chat", dialect), chat_body(dialect, "ready", thought=True))
    assert (verdict.tokens_in, verdict.tokens_out) == (7, 3)


@pytest.mark.parametrize(
    ("dialect", "path", "limit"),
    [
        (Dialect.OPENAI, "/chat/completions", ("max_tokens",)),
        (Dialect.ANTHROPIC, "/messages", ("max_tokens",)),
        (Dialect.GEMINI, "/models/org%2Fm%201:generateContent", ("generationConfig", "maxOutputTokens")),
    ],
)
def test_chat_is_limited_in_every_dialect(dialect: Dialect, path: str, limit: tuple[str, ...]) -> None:
    """No probe is answered with more than it was meant to cost."""
    asked = question(job("chat", dialect, max_tokens=5))
    assert (asked.method, asked.path) == ("POST", path)
    assert asked.body is not None
    value = json.loads(asked.body)
    for name in limit:
        value = value[name]
    assert value == 5


def test_reasoning_models_are_limited_in_their_own_word() -> None:
    """OpenAI's reasoning models refuse `max_tokens`; compatible servers may not know the newer name."""
    asked = question(job("chat", Dialect.OPENAI, "reasoning", max_tokens=5, reasoning_max_tokens=700))
    assert asked.body is not None
    body = json.loads(asked.body)
    assert body["max_completion_tokens"] == 700
    assert "max_tokens" not in body


@pytest.mark.parametrize("dialect", [Dialect.OPENAI, Dialect.ANTHROPIC, Dialect.GEMINI])
def test_reasoning_models_have_room_to_think(dialect: Dialect) -> None:
    """Sixteen tokens would end every answer in the first thought, and nothing would ever be compared."""
    asked = question(job("chat", dialect, "reasoning"))
    assert asked.body is not None
    assert b"1024" in asked.body
    assert b"16" not in asked.body


@pytest.mark.parametrize("dialect", [Dialect.OPENAI, Dialect.ANTHROPIC, Dialect.GEMINI])
@pytest.mark.parametrize(("text", "thought"), [(None, True), (None, False), ("<think>Let me", False)])
def test_what_was_cut_off_before_an_answer_is_well_and_says_that_it_was_not_judged(
    dialect: Dialect, text: str | None, thought: bool
) -> None:
    """Our own limit ended it, so it is not the model's fault; but nobody shall think that it was right."""
    asked = job("chat", dialect, expect_answer="ready")
    verdict = judge(asked, chat_body(dialect, text, cut=True, thought=thought))
    assert verdict.problem is None
    assert verdict.remark == "cut off by the token limit before an answer"
    assert judge(asked, chat_body(dialect, "ready")).remark == ""


def test_a_plain_question_carries_its_body() -> None:
    """POST with a body is JSON; without one there is nothing to name."""
    asked = question(job("http", Dialect.HTTP, method="POST", path="/check", body='{"ping": 1}'))
    assert (asked.method, asked.path, asked.body) == ("POST", "/check", b'{"ping": 1}')
    assert asked.headers == {"content-type": "application/json"}
    assert question(job("http", Dialect.HTTP)).headers == {}


def test_anthropic_is_told_its_version() -> None:
    """The Messages API refuses requests without it."""
    assert "anthropic-version" in question(job("chat", Dialect.ANTHROPIC)).headers


@pytest.mark.parametrize(("kind", "dialect"), ASKED)
def test_every_question_that_can_be_put_has_a_judge(kind: str, dialect: Dialect) -> None:
    """No pair of kind and dialect is asked and then not understood."""
    asked = question(job(kind, dialect))
    assert asked.path.startswith("/")
    problem = judge(job(kind, dialect), b"<html>").problem
    assert (problem is None) is (kind == "http")


@settings(max_examples=200)
@given(
    pair=st.sampled_from(ASKED),
    body=st.binary(max_size=200)
    | st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    ["choices", "message", "content", "data", "embedding", "candidates", "parts", "text"]
                ),
                inner,
                max_size=3,
            )
        ),
        max_leaves=12,
    ).map(lambda value: json.dumps(value).encode()),
)
def test_no_body_raises(pair: tuple[str, Dialect], body: bytes) -> None:
    """Whatever a target sends, the answer is a judgement."""
    judge(job(*pair), body)


def test_a_body_beyond_the_limit_is_no_answer() -> None:
    """A model's word is never a megabyte; a page that only has to exist may be."""
    assert judge(job("chat", Dialect.OPENAI), b"{", complete=False).problem == "body too large"
    assert judge(job("http", Dialect.OPENAI), b"{", complete=False).problem is None


@pytest.mark.parametrize(
    ("dialect", "body", "good"),
    [
        (Dialect.OPENAI, {"data": [{"embedding": [0.1, 2]}]}, True),
        (Dialect.OPENAI, {"data": [{"embedding": []}]}, False),
        (Dialect.OPENAI, {"data": []}, False),
        (Dialect.GEMINI, {"embedding": {"values": [0.1]}}, True),
        (Dialect.GEMINI, {"embedding": {"values": []}}, False),
    ],
)
def test_an_embedding_has_a_dimension(dialect: Dialect, body: dict[str, Any], good: bool) -> None:
    """An empty vector is no embedding."""
    assert (judge(job("embedding", dialect), json.dumps(body).encode()).problem is None) is good


def test_an_embedding_is_finite() -> None:
    """A number that no float can hold is refused, however it is written."""
    body = b'{"data":[{"embedding":[1e999]}]}'
    assert judge(job("embedding", Dialect.OPENAI), body).problem is not None


@pytest.mark.parametrize(
    ("vector", "problem"),
    [
        ([0.1, 0.2, 0.3], None),
        ([0.1, 0.2], "embedding of dimension 2, not 3"),
        ([0.0, 0.0, 0.0], "embedding of nothing but zeros"),
    ],
)
@pytest.mark.parametrize("dialect", [Dialect.OPENAI, Dialect.GEMINI])
def test_an_embedding_is_as_long_as_expected_and_points_somewhere(
    dialect: Dialect, vector: list[float], problem: str | None
) -> None:
    """Another dimension is another model, and a vector of zeros is as near to everything as to nothing."""
    body = (
        {"data": [{"embedding": vector}]} if dialect is Dialect.OPENAI else {"embedding": {"values": vector}}
    )
    asked = job("embedding", dialect, expect_dimensions=3)
    assert judge(asked, json.dumps(body).encode()).problem == problem
