"""How many requests a route may have under way, as the fleet's configuration writes it."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from shared.vocabulary.base import ConfigModel

Concurrency = Annotated[int, Field(ge=1, le=1_000_000)]


class Overload(ConfigModel):
    """A limit on a route's requests under way at one edge, found by watching how long they take: the time to
    the first token of streams, the whole time of others. What is over it is turned away at once."""

    min_concurrency: Concurrency = 4
    """Never fewer, however slow the targets are."""
    initial_concurrency: Concurrency = 20
    """Before anything is known; doubles every second for as long as it is used up and nothing slows down."""
    max_concurrency: Concurrency = 10_000
    tolerance: Annotated[float, Field(ge=1.2, le=20, allow_inf_nan=False)] = 2.0
    """Slower than the usual by more than this many times is overload."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.min_concurrency <= self.initial_concurrency <= self.max_concurrency:
            raise ValueError("initial_concurrency must lie between min_concurrency and max_concurrency")
        return self
