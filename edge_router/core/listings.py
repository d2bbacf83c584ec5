"""What a client key may ask for, as each dialect lists models: the same routes' names in three shapes.

Sources: OpenAI "List models", Anthropic "List Models" and "Get a Model", Gemini "models.list" and "models.get". Each
list is one page: `has_more` is false, and there is no `nextPageToken`.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple

import msgspec

from shared.vocabulary.terms import Dialect


class Listing(NamedTuple):
    """The models of one kind of key. `whole` is the answer to a list, by dialect."""

    names: frozenset[str]
    whole: Mapping[Dialect, bytes]

    def entry(self, model: bytes, dialect: Dialect) -> bytes | None:
        """The answer to a question for one; `model` is JSON text. None when it is not there."""
        name = msgspec.json.decode(model)
        return msgspec.json.encode(_ENTRIES[dialect](name)) if name in self.names else None


def listing_of(models: Iterable[str]) -> Listing:
    """The listing of these names, in this order."""
    names = tuple(models)
    return Listing(
        frozenset(names), {dialect: msgspec.json.encode(whole(names)) for dialect, whole in _LISTS.items()}
    )


_SINCE: Final = "1970-01-01T00:00:00Z"
"""A route is no release: it has no date, and the dialects that ask for one get the earliest."""


def _openai(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "leeward"}


def _anthropic(name: str) -> dict[str, Any]:
    return {"type": "model", "id": name, "display_name": name, "created_at": _SINCE}


def _gemini(name: str) -> dict[str, Any]:
    return {
        "name": f"models/{name}",
        "version": "leeward",
        "displayName": name,
        "supportedGenerationMethods": [
            "generateContent",
            "streamGenerateContent",
            "embedContent",
            "batchEmbedContents",
        ],
    }


_ENTRIES: Final[Mapping[Dialect, Callable[[str], dict[str, Any]]]] = {
    Dialect.OPENAI: _openai,
    Dialect.ANTHROPIC: _anthropic,
    Dialect.GEMINI: _gemini,
}
_LISTS: Final[Mapping[Dialect, Callable[[tuple[str, ...]], dict[str, Any]]]] = {
    Dialect.OPENAI: lambda names: {"object": "list", "data": [_openai(name) for name in names]},
    Dialect.ANTHROPIC: lambda names: {
        "data": [_anthropic(name) for name in names],
        "has_more": False,
        "first_id": names[0] if names else None,
        "last_id": names[-1] if names else None,
    },
    Dialect.GEMINI: lambda names: {"models": [_gemini(name) for name in names]},
}
