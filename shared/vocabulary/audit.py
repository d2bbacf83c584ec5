"""AuditEntry: who changed what, when and why."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, Field

from shared.vocabulary.base import Message, Traceparent
from shared.vocabulary.override import Author, Words


class AuditEntry(Message):
    """The value of `audit/<n>`: one change that a person, or the leader for one, made."""

    schema_version: Literal[1] = 1
    n: Annotated[int, Field(ge=1, le=2**53)]
    """Rises by 1 with each change; a restored etcd may give a number again."""
    at: AwareDatetime
    author: Author
    """As given by the caller; a replica's id where the leader acted by itself."""
    by: Annotated[str, Field(max_length=128)] = ""
    """The id of the API token under which it was asked for; empty where none was used."""
    action: Annotated[str, Field(pattern=r"^[a-z]+\.[a-z]+$", max_length=64)]
    """`override.create`, `config.apply`, `rollout.start` …"""
    subject: Annotated[str, Field(max_length=256)]
    """What was changed: an override's id, `config 7`, a rollout's id."""
    reason: Words
    values: Mapping[str, Any] = Field(default_factory=dict)
    """The change itself, in small."""
    replica: Annotated[str, Field(max_length=128)] = ""
    """Which replica took it."""
    traceparent: Traceparent | None = None
