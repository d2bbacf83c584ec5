"""How a monitor's question is put in each dialect, and whether the answer is one.

A probe asks whether a model works, not whether it is clever:

    ended, with the expected words         well
    ended, with others, or with none       GARBLED, thoughts or not: a client would have got the same
    cut off while it was thinking          well, and the detail says that nothing could be judged. It worked
                                           for as long as our own limit let it; the limit is what is wrong
    cut off before its first word          the same: many servers hide the thoughts that were spent
    cut off in the middle of other words   GARBLED: asked for a word, it went on and on
    malformed                              GARBLED
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote

import msgspec

from prober.core.jobs import Job
from prober.core.known_answer import says, spoken
from shared.vocabulary.monitor import Monitor
from shared.vocabulary.terms import Dialect

ANTHROPIC_VERSION: Final = "2023-06-01"
"""The version header that the Messages API requires."""
UNJUDGED: Final = "cut off by the token limit before an answer"


@dataclass(frozen=True, slots=True)
class Question:
    """One request, relative to the target's `url`. The credential is not part of it."""

    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None


@dataclass(frozen=True, slots=True)
class Judgement:
    """What an answer's body is worth: `problem` says what is wrong with it, in words of our own; `remark`
    what else should be known of one that is well."""

    problem: str | None = None
    remark: str = ""
    tokens_in: int | None = None
    tokens_out: int | None = None


@dataclass(frozen=True, slots=True)
class _Said:
    """A chat answer, whatever its dialect."""

    text: str
    cut: bool
    """Whether it ended because `max_tokens` were spent."""
    thought: bool
    """Whether there was reasoning beside the text."""
    tokens_in: int | None
    tokens_out: int | None


def question(job: Job) -> Question:
    """What to send for `job`. Raises KeyError for a kind and dialect that do not go together."""
    if job.monitor.kind == "http":
        return _plain(job.monitor)
    return _QUESTIONS[job.monitor.kind, job.target.dialect](job)


def judge(job: Job, body: bytes, *, complete: bool = True) -> Judgement:
    """Whether `body`, of an answer with an expected status, is what was asked for.

    `complete` is False when reading stopped at the size limit. Never raises, whatever the body.
    """
    if job.monitor.kind == "http":
        return _judge_text(job, body)
    if not complete:
        return Judgement("body too large")
    try:
        return _JUDGES[job.monitor.kind, job.target.dialect](job, body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Judgement(f"not a {job.target.dialect.value} {job.monitor.kind} answer")


# ---------------------------------------------------------------- questions


def _plain(monitor: Monitor) -> Question:
    if monitor.body is None:
        return Question(monitor.method, monitor.path)
    return Question(monitor.method, monitor.path, {"content-type": "application/json"}, monitor.body.encode())


def _json(path: str, body: dict[str, Any], headers: Mapping[str, str] | None = None) -> Question:
    return Question(
        "POST", path, {"content-type": "application/json", **(headers or {})}, msgspec.json.encode(body)
    )


def _openai_chat(job: Job) -> Question:
    # OpenAI's reasoning models refuse `max_tokens`; many compatible servers refuse or ignore
    # `max_completion_tokens`, and ignoring it would cost a whole answer. Capability decides.
    reasoning = "reasoning" in job.target.capabilities
    return _json(
        "/chat/completions",
        {
            "model": job.target.model,
            "messages": [{"role": "user", "content": job.monitor.prompt}],
            "max_completion_tokens" if reasoning else "max_tokens": job.max_tokens,
        },
    )


def _anthropic_chat(job: Job) -> Question:
    return _json(
        "/messages",
        {
            "model": job.target.model,
            "messages": [{"role": "user", "content": job.monitor.prompt}],
            "max_tokens": job.max_tokens,
        },
        {"anthropic-version": ANTHROPIC_VERSION},
    )


def _gemini_chat(job: Job) -> Question:
    return _json(
        f"/models/{quote(job.target.model, safe='')}:generateContent",
        {
            "contents": [{"role": "user", "parts": [{"text": job.monitor.prompt}]}],
            "generationConfig": {"maxOutputTokens": job.max_tokens},
        },
    )


def _openai_embedding(job: Job) -> Question:
    return _json("/embeddings", {"model": job.target.model, "input": job.monitor.prompt})


def _gemini_embedding(job: Job) -> Question:
    return _json(
        f"/models/{quote(job.target.model, safe='')}:embedContent",
        {"content": {"parts": [{"text": job.monitor.prompt}]}},
    )


# ---------------------------------------------------------------- answers


class _OpenAiMessage(msgspec.Struct):
    content: str | list[dict[str, Any]] | None = None
    refusal: str | None = None
    reasoning: str | None = None
    """OpenRouter, vLLM;"""
    reasoning_content: str | None = None
    """DeepSeek, older vLLM."""


class _OpenAiChoice(msgspec.Struct):
    message: _OpenAiMessage
    finish_reason: str | None = None


class _OpenAiDetails(msgspec.Struct):
    reasoning_tokens: int | None = None


class _OpenAiUsage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    completion_tokens_details: _OpenAiDetails | None = None


class _OpenAiAnswer(msgspec.Struct):
    choices: list[_OpenAiChoice]
    usage: _OpenAiUsage | None = None


class _AnthropicBlock(msgspec.Struct):
    type: str
    text: str | None = None


class _AnthropicUsage(msgspec.Struct):
    input_tokens: int | None = None
    output_tokens: int | None = None


class _AnthropicAnswer(msgspec.Struct):
    content: list[_AnthropicBlock]
    stop_reason: str | None = None
    usage: _AnthropicUsage | None = None


class _GeminiPart(msgspec.Struct):
    text: str | None = None
    thought: bool = False


class _GeminiContent(msgspec.Struct):
    parts: list[_GeminiPart] = []


class _GeminiCandidate(msgspec.Struct, rename="camel"):
    content: _GeminiContent | None = None
    finish_reason: str | None = None


class _GeminiUsage(msgspec.Struct, rename="camel"):
    prompt_token_count: int | None = None
    candidates_token_count: int | None = None
    thoughts_token_count: int | None = None


class _GeminiAnswer(msgspec.Struct, rename="camel"):
    candidates: list[_GeminiCandidate]
    usage_metadata: _GeminiUsage | None = None


class _Vector(msgspec.Struct):
    embedding: list[float]


class _OpenAiVectors(msgspec.Struct):
    data: list[_Vector]
    usage: _OpenAiUsage | None = None


class _GeminiValues(msgspec.Struct):
    values: list[float]


class _GeminiVector(msgspec.Struct):
    embedding: _GeminiValues


def _said_openai(body: bytes) -> _Said | None:
    answer = msgspec.json.decode(body, type=_OpenAiAnswer)
    if not answer.choices:
        return None
    choice, usage = answer.choices[0], answer.usage or _OpenAiUsage()
    message = choice.message
    details = usage.completion_tokens_details
    return _Said(
        text=_text(message.content) or message.refusal or "",
        cut=choice.finish_reason == "length",
        thought=bool(
            message.reasoning
            or message.reasoning_content
            or (details is not None and details.reasoning_tokens)
        ),
        tokens_in=usage.prompt_tokens,
        tokens_out=usage.completion_tokens,
    )


def _said_anthropic(body: bytes) -> _Said | None:
    answer = msgspec.json.decode(body, type=_AnthropicAnswer)
    usage = answer.usage or _AnthropicUsage()
    return _Said(
        text="".join(block.text or "" for block in answer.content if block.type == "text"),
        cut=answer.stop_reason == "max_tokens",
        thought=any(block.type in ("thinking", "redacted_thinking") for block in answer.content),
        tokens_in=usage.input_tokens,
        tokens_out=usage.output_tokens,
    )


def _said_gemini(body: bytes) -> _Said | None:
    answer = msgspec.json.decode(body, type=_GeminiAnswer)
    if not answer.candidates:
        return None
    candidate, usage = answer.candidates[0], answer.usage_metadata or _GeminiUsage()
    parts = candidate.content.parts if candidate.content else []
    return _Said(
        text="".join(part.text or "" for part in parts if not part.thought),
        cut=candidate.finish_reason == "MAX_TOKENS",
        thought=bool(usage.thoughts_token_count) or any(part.thought for part in parts),
        tokens_in=usage.prompt_token_count,
        tokens_out=(usage.candidates_token_count or 0) + (usage.thoughts_token_count or 0),
    )


def _text(content: str | list[dict[str, Any]] | None) -> str:
    """OpenAI's `content`: a string, or for some compatible servers a list of typed parts."""
    if isinstance(content, list):
        return "".join(part["text"] for part in content if isinstance(part.get("text"), str))
    return content or ""


def _judge_chat(said: Callable[[bytes], _Said | None]) -> Callable[[Job, bytes], Judgement]:
    def judge_it(job: Job, body: bytes) -> Judgement:
        answer = said(body)
        if answer is None:
            return Judgement("no answer in the body")
        problem = _chat_problem(job, answer)
        remark = UNJUDGED if problem is None and _unjudged(job, answer) else ""
        return Judgement(problem, remark, answer.tokens_in, answer.tokens_out)

    return judge_it


def _chat_problem(job: Job, said: _Said) -> str | None:
    if _unjudged(job, said):
        return None
    text, expected = spoken(said.text), job.monitor.expect_answer
    if not text:
        return "thoughts without an answer" if said.thought or text is None else "empty answer"
    if expected is not None and not says(text, expected):
        return "answer without the expected text"
    return None


def _unjudged(job: Job, said: _Said) -> bool:
    """Whether the answer was cut off before its words, or where they may still have been thoughts."""
    text = spoken(said.text)
    return said.cut and (not text or said.thought or "reasoning" in job.target.capabilities)


def _judge_openai_vector(job: Job, body: bytes) -> Judgement:
    answer = msgspec.json.decode(body, type=_OpenAiVectors)
    usage = answer.usage or _OpenAiUsage()
    problem = _vector_problem(job, answer.data[0].embedding) if answer.data else "no embedding in the body"
    return Judgement(problem, tokens_in=usage.prompt_tokens, tokens_out=0)


def _judge_gemini_vector(job: Job, body: bytes) -> Judgement:
    return Judgement(_vector_problem(job, msgspec.json.decode(body, type=_GeminiVector).embedding.values))


def _vector_problem(job: Job, vector: list[float]) -> str | None:
    expected = job.monitor.expect_dimensions
    if not vector:
        return "embedding of dimension 0"
    if expected is not None and len(vector) != expected:
        return f"embedding of dimension {len(vector)}, not {expected}"
    # JSON cannot say NaN, but an overflowing literal such as 1e999 may be read as infinity.
    if not all(math.isfinite(value) for value in vector):
        return "embedding with a value that is not finite"
    if not any(vector):
        return "embedding of nothing but zeros"
    return None


def _judge_text(job: Job, body: bytes) -> Judgement:
    expected = job.monitor.expect_body
    if expected is not None and expected.encode() not in body:
        return Judgement("body without the expected text")
    return Judgement()


_QUESTIONS: Final[Mapping[tuple[str, Dialect], Callable[[Job], Question]]] = {
    ("chat", Dialect.OPENAI): _openai_chat,
    ("chat", Dialect.ANTHROPIC): _anthropic_chat,
    ("chat", Dialect.GEMINI): _gemini_chat,
    ("embedding", Dialect.OPENAI): _openai_embedding,
    ("embedding", Dialect.GEMINI): _gemini_embedding,
}
_JUDGES: Final[Mapping[tuple[str, Dialect], Callable[[Job, bytes], Judgement]]] = {
    ("chat", Dialect.OPENAI): _judge_chat(_said_openai),
    ("chat", Dialect.ANTHROPIC): _judge_chat(_said_anthropic),
    ("chat", Dialect.GEMINI): _judge_chat(_said_gemini),
    ("embedding", Dialect.OPENAI): _judge_openai_vector,
    ("embedding", Dialect.GEMINI): _judge_gemini_vector,
}
