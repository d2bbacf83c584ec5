"""A target's answer reaches the client in its own dialect: as its SDK reads it, nothing lost, nothing made up."""

import json
from typing import Any

import pytest

from edge_router.core.dialects.carrying import WHOLE_BYTES
from edge_router.core.endpoints import Kind
from edge_router.core.relay import Problem, Verdict
from edge_router.core.tokens import Tokens
from shared.vocabulary.terms import Dialect, Outcome
from tests.support.dialect_samples import ANSWERS, CREATED, PAIRS, SEEN, least, translated
from tests.support.dialect_views import seen


def answered(kind: Kind, dialect: Dialect, answer: Any, call: dict[str, Any] | None = None) -> Any:
    relay = translated(kind, call or least(kind), dialect).relay(CREATED)
    return relay, relay.feed(json.dumps(answer).encode(), True)


@pytest.mark.parametrize(("kind", "dialect"), PAIRS)
def test_a_whole_answer_in_every_pair(kind: Kind, dialect: Dialect) -> None:
    """Text, calls with their ids and arguments, stop reason, usage and the target's own model."""
    relay, step = answered(kind, dialect, ANSWERS[dialect])
    assert (step.verdict, relay.problem) == (Verdict.COMPLETE, None)
    assert seen(kind, step.content) == SEEN
    assert relay.tokens == Tokens(30, 12)


@pytest.mark.parametrize(("kind", "dialect"), PAIRS)
def test_thinking_is_shown_to_whom_has_asked_for_it_alone(kind: Kind, dialect: Dialect) -> None:
    """Its tokens are counted everywhere; its text would come back with the next turn, unsigned."""
    call = least(kind)
    _, step = answered(kind, dialect, ANSWERS[dialect], call)
    assert b'"hm"' not in step.content
    if kind is Kind.GEMINI:
        call["generationConfig"] = {"thinkingConfig": {"includeThoughts": True}}
        _, step = answered(kind, dialect, ANSWERS[dialect], call)
        parts = json.loads(step.content)["candidates"][0]["content"]["parts"]
        assert parts[0] == {"text": "hm", "thought": True}


def stopped(dialect: Dialect, reason: str) -> dict[str, Any]:
    """An answer of text that ended for `reason`."""
    if dialect is Dialect.OPENAI:
        choice = {"index": 0, "message": {"role": "assistant", "content": "x"}, "finish_reason": reason}
        return {"id": "a", "model": "m", "choices": [choice]}
    if dialect is Dialect.ANTHROPIC:
        content = [{"type": "text", "text": "x"}]
        return {
            "id": "a",
            "model": "m",
            "content": content,
            "stop_reason": reason,
            "usage": {"input_tokens": 1},
        }
    candidate = {"content": {"parts": [{"text": "x"}]}, "finishReason": reason}
    return {"candidates": [candidate], "responseId": "a", "modelVersion": "m", "usageMetadata": {}}


STOPS = {
    Dialect.OPENAI: {"stop": "end", "length": "length", "content_filter": "filtered"},
    Dialect.ANTHROPIC: {
        "end_turn": "end",
        "stop_sequence": "sequence",
        "max_tokens": "length",
        "model_context_window_exceeded": "length",
        "refusal": "filtered",
    },
    Dialect.GEMINI: {
        "STOP": "end",
        "MAX_TOKENS": "length",
        "SAFETY": "filtered",
        "RECITATION": "filtered",
        "PROHIBITED_CONTENT": "filtered",
    },
}


@pytest.mark.parametrize(
    ("kind", "dialect", "reason"), [(k, d, reason) for k, d in PAIRS for reason in STOPS[d]]
)
def test_every_reason_to_stop(kind: Kind, dialect: Dialect, reason: str) -> None:
    """As the tables of the answer modules have it; a stop sequence is an ordinary end where there is no word for it."""
    _, step = answered(kind, dialect, stopped(dialect, reason))
    expected = STOPS[dialect][reason]
    if expected == "sequence" and kind is not Kind.MESSAGES:
        expected = "end"
    assert seen(kind, step.content)["stop"] == expected


@pytest.mark.parametrize(("kind", "dialect"), PAIRS)
@pytest.mark.parametrize("reason", ["pause_turn", "MALFORMED_FUNCTION_CALL", "OTHER", "something_new"])
def test_a_reason_to_stop_that_has_no_word_is_no_good_end(kind: Kind, dialect: Dialect, reason: str) -> None:
    """An answer never looks better than it is."""
    relay, step = answered(kind, dialect, stopped(dialect, reason))
    assert step == (b"", Verdict.BROKEN)
    assert reason in relay.problem.message
    assert relay.problem.outcome is Outcome.GARBLED


@pytest.mark.parametrize("kind", [Kind.MESSAGES, Kind.GEMINI])
def test_a_refusal_of_openai_is_text_that_was_filtered(kind: Kind) -> None:
    answer = stopped(Dialect.OPENAI, "stop")
    answer["choices"][0]["message"] = {"role": "assistant", "content": None, "refusal": "I will not."}
    _, step = answered(kind, Dialect.OPENAI, answer)
    assert seen(kind, step.content)["text"] == "I will not."
    assert seen(kind, step.content)["stop"] == "filtered"


@pytest.mark.parametrize("kind", [Kind.CHAT, Kind.RESPONSES, Kind.MESSAGES])
def test_a_prompt_that_gemini_has_blocked_is_filtered(kind: Kind) -> None:
    answer = {"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 4}}
    _, step = answered(kind, Dialect.GEMINI, answer)
    told = seen(kind, step.content)
    assert (told["text"], told["stop"], told["read"]) == ("", "filtered", 4)


@pytest.mark.parametrize("kind", [Kind.MESSAGES, Kind.GEMINI])
def test_a_call_that_the_client_has_chosen_ends_in_a_call(kind: Kind) -> None:
    """OpenAI says `stop` there; an Anthropic client acts on `tool_use` alone."""
    answer = json.loads(json.dumps(ANSWERS[Dialect.OPENAI]))
    answer["choices"][0]["finish_reason"] = "stop"
    _, step = answered(kind, Dialect.OPENAI, answer)
    assert seen(kind, step.content)["stop"] == "calls"


def test_calls_without_an_id_get_one_that_stays() -> None:
    """Gemini's older API has none; the same answer gives the same ids, and two equal calls two of them."""
    answer = json.loads(json.dumps(ANSWERS[Dialect.GEMINI]))
    parts = answer["candidates"][0]["content"]["parts"]
    parts[2:] = [{"functionCall": {"name": "f", "args": {"a": 1}}}] * 2
    first, again = (
        [
            name
            for name, _, _ in seen(Kind.MESSAGES, answered(Kind.MESSAGES, Dialect.GEMINI, answer)[1].content)[
                "calls"
            ]
        ]
        for _ in range(2)
    )
    assert first == again
    assert len(set(first)) == 2
    assert all(name.startswith("call_") and name.replace("_", "").isalnum() for name in first)


BAD = {
    "two choices": (Dialect.OPENAI, lambda a: a["choices"].append(a["choices"][0])),
    "arguments that are no object": (
        Dialect.OPENAI,
        lambda a: a["choices"][0]["message"]["tool_calls"][0]["function"].update(arguments='{"city": "B'),
    ),
    "a call without a name": (
        Dialect.OPENAI,
        lambda a: a["choices"][0]["message"]["tool_calls"][0]["function"].update(name=None),
    ),
    "a server tool": (
        Dialect.ANTHROPIC,
        lambda a: a["content"].append(
            {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}
        ),
    ),
    "code": (
        Dialect.GEMINI,
        lambda a: a["candidates"][0]["content"]["parts"].append({"executableCode": {"code": "1"}}),
    ),
    "two candidates": (
        Dialect.GEMINI,
        lambda a: a["candidates"].append({**a["candidates"][0], "index": 1}),
    ),
    "an error under a 200": (Dialect.ANTHROPIC, lambda a: a.update(error={"message": "no"})),
}


@pytest.mark.parametrize("what", BAD)
def test_what_the_client_cannot_be_told_is_not_left_out(what: str) -> None:
    """Nothing of such an answer goes out, so that the request can still move."""
    dialect, spoil = BAD[what]
    answer = json.loads(json.dumps(ANSWERS[dialect]))
    spoil(answer)
    kind = Kind.MESSAGES if dialect is Dialect.OPENAI else Kind.CHAT
    relay, step = answered(kind, dialect, answer)
    assert step == (b"", Verdict.BROKEN)
    assert relay.problem.outcome is Outcome.GARBLED


def test_a_whole_answer_is_held_until_it_is_whole() -> None:
    relay = translated(Kind.CHAT, least(Kind.CHAT), Dialect.ANTHROPIC).relay()
    body = json.dumps(ANSWERS[Dialect.ANTHROPIC]).encode()
    for at in range(len(body)):
        assert relay.feed(body[at : at + 1], False) == (b"", Verdict.HOLD)
    step = relay.feed(b"", True)
    assert seen(Kind.CHAT, step.content) == SEEN


def test_a_whole_answer_that_was_cut_is_broken() -> None:
    relay = translated(Kind.CHAT, least(Kind.CHAT), Dialect.ANTHROPIC).relay()
    problem = Problem(Outcome.FAILED, "connection_terminated", "cut")
    relay.feed(json.dumps(ANSWERS[Dialect.ANTHROPIC]).encode()[:-1], False)
    assert relay.cut(problem) == (b"", Verdict.BROKEN)
    assert relay.problem is problem


def test_no_more_than_8_mib_of_an_answer_is_held() -> None:
    relay = translated(Kind.CHAT, least(Kind.CHAT), Dialect.ANTHROPIC).relay()
    assert relay.feed(b" " * WHOLE_BYTES, False).verdict is Verdict.HOLD
    assert relay.feed(b" ", False) == (b"", Verdict.BROKEN)
    assert relay.problem is not None
    assert str(WHOLE_BYTES) in relay.problem.message
