"""Embeddings, between the two dialects that have them."""

import base64
import json
import struct
from typing import Any

import pytest
from google.genai.types import ContentEmbedding
from openai.types import CreateEmbeddingResponse
from openai.types.embedding_create_params import EmbeddingCreateParams
from pydantic import TypeAdapter

from edge_router.core.endpoints import Kind
from edge_router.core.relay import Verdict
from edge_router.core.tokens import Tokens
from edge_router.core.translation import Untranslatable
from shared.vocabulary.terms import Dialect, Outcome
from tests.support.dialect_samples import translated

ONE = {"model": "models/m", "content": {"parts": [{"text": "a"}]}, "outputDimensionality": 2}
BATCH = {"requests": [ONE, {**ONE, "content": {"role": "user", "parts": [{"text": "b"}, {"text": "c"}]}}]}
VECTORS = [[0.5, -1.0], [0.25, 3.0]]
OPENAI_ANSWER = {
    "object": "list",
    "data": [{"object": "embedding", "index": n, "embedding": VECTORS[n]} for n in (1, 0)],
    "model": "their-model-2",
    "usage": {"prompt_tokens": 4, "total_tokens": 4},
}
GEMINI_ANSWER = {
    "embeddings": [{"values": values} for values in VECTORS],
    "usageMetadata": {"promptTokenCount": 4},
}


def test_openai_to_gemini() -> None:
    """A batch, whatever the number."""
    call = {"model": "m", "input": ["a", "bc"], "dimensions": 2, "user": "u", "encoding_format": "float"}
    given = translated(Kind.EMBEDDINGS, call, Dialect.GEMINI)
    assert given.suffix == b"/models/their-model:batchEmbedContents"
    assert given.endpoint.kind is Kind.GEMINI_EMBEDDINGS
    part = {"model": "models/their-model", "outputDimensionality": 2}
    assert json.loads(given.body) == {
        "requests": [{**part, "content": {"parts": [{"text": text}]}} for text in ("a", "bc")]
    }
    relay = given.relay()
    step = relay.feed(json.dumps(GEMINI_ANSWER).encode(), True)
    answer = CreateEmbeddingResponse.model_validate_json(step.content, strict=True)
    assert [one.embedding for one in answer.data] == VECTORS
    assert [one.index for one in answer.data] == [0, 1]
    assert (answer.model, answer.usage.prompt_tokens) == ("their-model", 4)
    assert relay.tokens == Tokens(4)  # type: ignore[attr-defined]


def test_openai_clients_that_want_base64_get_it() -> None:
    """The official SDK does, unasked."""
    given = translated(
        Kind.EMBEDDINGS, {"model": "m", "input": "a", "encoding_format": "base64"}, Dialect.GEMINI
    )
    step = given.relay().feed(json.dumps({"embeddings": [{"values": VECTORS[0]}]}).encode(), True)
    text = json.loads(step.content)["data"][0]["embedding"]
    assert list(struct.unpack("<2f", base64.b64decode(text))) == VECTORS[0]


def test_gemini_batch_to_openai() -> None:
    """In the order asked, in whatever order they come."""
    given = translated(Kind.GEMINI_EMBEDDINGS, BATCH, Dialect.OPENAI)
    said = json.loads(given.body)
    TypeAdapter(EmbeddingCreateParams).validate_python(said)
    assert said == {"model": "their-model", "input": ["a", "bc"], "dimensions": 2, "encoding_format": "float"}
    assert given.suffix == b"/embeddings"
    answer = json.loads(given.relay().feed(json.dumps(OPENAI_ANSWER).encode(), True).content)
    assert [ContentEmbedding.model_validate(one).values for one in answer["embeddings"]] == VECTORS


def test_gemini_single_to_openai() -> None:
    """One vector is answered as one."""
    given = translated(Kind.GEMINI_EMBEDDINGS, ONE, Dialect.OPENAI)
    answer = {**OPENAI_ANSWER, "data": OPENAI_ANSWER["data"][1:]}
    said = json.loads(given.relay().feed(json.dumps(answer).encode(), True).content)
    assert said["embedding"] == {"values": VECTORS[0]}
    assert "embeddings" not in said


@pytest.mark.parametrize(
    ("kind", "dialect", "call", "words"),
    [
        (Kind.EMBEDDINGS, Dialect.ANTHROPIC, {"model": "m", "input": "a"}, "anthropic"),
        (Kind.GEMINI_EMBEDDINGS, Dialect.ANTHROPIC, ONE, "anthropic"),
        (Kind.EMBEDDINGS, Dialect.GEMINI, {"model": "m", "input": [1, 2]}, "input"),
        (Kind.EMBEDDINGS, Dialect.GEMINI, {"model": "m", "input": []}, "empty"),
        (Kind.EMBEDDINGS, Dialect.GEMINI, {"model": "m", "input": "a", "made_up": 1}, "made_up"),
        (Kind.GEMINI_EMBEDDINGS, Dialect.OPENAI, {**ONE, "taskType": "RETRIEVAL_QUERY"}, "taskType"),
        (Kind.GEMINI_EMBEDDINGS, Dialect.OPENAI, {**ONE, "title": "x"}, "title"),
        (Kind.GEMINI_EMBEDDINGS, Dialect.OPENAI, {"requests": []}, "requests"),
        (
            Kind.GEMINI_EMBEDDINGS,
            Dialect.OPENAI,
            {"requests": [ONE, {**ONE, "outputDimensionality": 3}]},
            "outputDimensionality",
        ),
        (
            Kind.GEMINI_EMBEDDINGS,
            Dialect.OPENAI,
            {"content": {"parts": [{"inlineData": {"mimeType": "image/png", "data": "x"}}]}},
            "inlineData",
        ),
    ],
)
def test_what_cannot_be_said_is_refused(
    kind: Kind, dialect: Dialect, call: dict[str, Any], words: str
) -> None:
    with pytest.raises(Untranslatable) as refused:
        translated(kind, call, dialect)
    assert words in str(refused.value)


@pytest.mark.parametrize("answer", [{"embeddings": []}, {"embeddings": [{"values": [1.0]}]}, {}])
def test_too_few_vectors_are_no_answer(answer: dict[str, Any]) -> None:
    relay = translated(Kind.EMBEDDINGS, {"model": "m", "input": ["a", "b"]}, Dialect.GEMINI).relay()
    assert relay.feed(json.dumps(answer).encode(), True) == (b"", Verdict.BROKEN)
    assert relay.problem is not None
    assert relay.problem.outcome is Outcome.GARBLED
