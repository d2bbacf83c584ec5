"""The paths that the data plane serves (contract), and what each promises."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from shared.vocabulary.terms import Dialect


class Kind(StrEnum):
    """What is asked for, which decides how an answer is judged."""

    CHAT = "chat"
    COMPLETIONS = "completions"
    EMBEDDINGS = "embeddings"
    RESPONSES = "responses"
    MESSAGES = "messages"
    GEMINI = "gemini"
    GEMINI_EMBEDDINGS = "gemini_embeddings"
    MODELS = "models"
    PLAIN = "plain"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One path. `suffix` is appended to the target's `url`, which carries the version prefix."""

    kind: Kind
    method: bytes
    dialect: Dialect
    suffix: bytes
    operation: str
    """`gen_ai.operation.name` of the OpenTelemetry conventions."""


ENDPOINTS: Final[Mapping[bytes, Endpoint]] = {
    b"/v1/chat/completions": Endpoint(Kind.CHAT, b"POST", Dialect.OPENAI, b"/chat/completions", "chat"),
    b"/v1/completions": Endpoint(
        Kind.COMPLETIONS, b"POST", Dialect.OPENAI, b"/completions", "text_completion"
    ),
    b"/v1/embeddings": Endpoint(Kind.EMBEDDINGS, b"POST", Dialect.OPENAI, b"/embeddings", "embeddings"),
    b"/v1/responses": Endpoint(Kind.RESPONSES, b"POST", Dialect.OPENAI, b"/responses", "chat"),
    b"/v1/messages": Endpoint(Kind.MESSAGES, b"POST", Dialect.ANTHROPIC, b"/messages", "chat"),
    b"/v1/models": Endpoint(Kind.MODELS, b"GET", Dialect.OPENAI, b"/models", "models"),
}
GEMINI_METHODS: Final[Mapping[bytes, Endpoint]] = {
    b"generateContent": Endpoint(
        Kind.GEMINI, b"POST", Dialect.GEMINI, b":generateContent", "generate_content"
    ),
    b"streamGenerateContent": Endpoint(
        Kind.GEMINI, b"POST", Dialect.GEMINI, b":streamGenerateContent?alt=sse", "generate_content"
    ),
    b"embedContent": Endpoint(
        Kind.GEMINI_EMBEDDINGS, b"POST", Dialect.GEMINI, b":embedContent", "embeddings"
    ),
    b"batchEmbedContents": Endpoint(
        Kind.GEMINI_EMBEDDINGS, b"POST", Dialect.GEMINI, b":batchEmbedContents", "embeddings"
    ),
}
"""Gemini's calls, by what follows the model in the path; `suffix` comes behind `/models/{model}`
("Gemini API: REST reference")."""
MODELS_OF: Final[Mapping[Dialect, Endpoint]] = {
    Dialect.OPENAI: ENDPOINTS[b"/v1/models"],
    Dialect.ANTHROPIC: Endpoint(Kind.MODELS, b"GET", Dialect.ANTHROPIC, b"/models", "models"),
    Dialect.GEMINI: Endpoint(Kind.MODELS, b"GET", Dialect.GEMINI, b"/models", "models"),
}
"""The list of models, and each entry of it."""
PLAIN: Final = Endpoint(Kind.PLAIN, b"", Dialect.HTTP, b"", "http")
"""Any path that a route takes by its prefix."""

IDEMPOTENT: Final = frozenset({b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE", b"TRACE"})
"""RFC 9110, section 9.2.2."""
