"""The two bases of all models, identifiers, versions, and the canonical JSON that is hashed.

Messages ignore unknown fields, so that a newer writer can talk to an older reader; configuration
forbids them, so that a misspelt key is an error and not a silent default.
"""

import hashlib
import json
from typing import Annotated, Any, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

SCHEMA_VERSION = 1
"""The `schema_version` of every message this release writes."""

Id = Annotated[
    str,
    StringConstraints(pattern=r"^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?$"),
]
"""A name of a region, target, route, monitor or process: lower case, 1 to 63 characters, safe in a
topic, an etcd key, a URL path, a file name and a metric label."""

Permille = Annotated[int, Field(ge=0, le=1000)]
PositiveSeconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
SecretRef = Annotated[str, StringConstraints(pattern=r"^(env:[A-Za-z_][A-Za-z0-9_]*|file:.+)$")]
"""Where a secret is: `env:NAME` or `file:PATH`. Resolved where it is used, never logged."""
Traceparent = Annotated[
    str, StringConstraints(pattern=r"^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$")
]
"""W3C Trace Context, section 3.2: version, trace id, parent id, flags."""


class Message(BaseModel):
    """Base of everything that travels: immutable, tolerant of unknown fields."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    def canonical(self) -> bytes:
        """These fields as canonical JSON; equal messages give equal bytes on every machine."""
        return canonical_json(self.model_dump(mode="json"))


class ConfigModel(BaseModel):
    """Base of everything an operator writes: immutable, unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def canonical_json(value: Any) -> bytes:
    """`value` as UTF-8 JSON with sorted keys and no white space: the form that is hashed.

    Raises ValueError on NaN or infinity, which JSON cannot say.
    """
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def sha256_hex(raw: bytes) -> str:
    """SHA-256 of `raw` as 64 lower-case hex digits."""
    return hashlib.sha256(raw).hexdigest()


class Version(NamedTuple):
    """`(generation, seq)`, ordered as a pair; `seq` counts commits, `generation` restarts of etcd.

    Written `generation.seq`. `0.0` is the configuration's own order, before any decision.
    """

    generation: int
    seq: int

    def __str__(self) -> str:
        return f"{self.generation}.{self.seq}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """The version written as `generation.seq`; raises ValueError on anything else."""
        generation, dot, seq = text.partition(".")
        if not (dot and generation.isascii() and generation.isdigit() and seq.isascii() and seq.isdigit()):
            raise ValueError(f"not a version: {text!r}; write GENERATION.SEQ, as in 1.7")
        return cls(int(generation), int(seq))


NO_VERSION = Version(0, 0)
