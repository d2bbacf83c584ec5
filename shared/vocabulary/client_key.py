"""A client's key, as the fleet's configuration writes it, and what it may take."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from shared.vocabulary.base import ConfigModel, Id, Sha256
from shared.vocabulary.monitor import Text

MAX_RATE = 1_000_000_000


class Priority(StrEnum):
    """Who is turned away first where a route is overloaded: `low`, then `normal`, then `high`."""

    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"


class ClientKey(ConfigModel):
    """A key that clients present; only its hash is kept. Its limits hold at each edge, not over all of them."""

    id: Id
    sha256: Sha256
    routes: tuple[Text, ...] = ("*",)
    """Route ids or shell patterns."""
    requests_per_minute: Annotated[int, Field(ge=1, le=MAX_RATE)] | None = None
    """Unlimited when absent, as are the other two."""
    tokens_per_minute: Annotated[int, Field(ge=1, le=MAX_RATE)] | None = None
    """Read and written together: estimated as a request comes in, corrected by the usage its answer tells."""
    concurrency: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """Requests under way at once."""
    priority: Priority = Priority.NORMAL
