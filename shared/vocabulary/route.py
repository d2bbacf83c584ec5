"""A route, as the fleet's configuration writes it: what it matches, its tiers, deadlines and choices."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from shared.vocabulary.base import ConfigModel, Id, Permille, PositiveSeconds
from shared.vocabulary.degradation import Degradation
from shared.vocabulary.monitor import Path, Text
from shared.vocabulary.terms import Strategy, StreamRecovery

MAX_TARGETS = 100_000


class RouteMatch(ConfigModel):
    """Which requests a route takes."""

    models: tuple[Text, ...] = ()
    """Exact values of the request's `model`."""
    paths: tuple[Path, ...] = ()
    """Path prefixes of plain HTTP requests, for routes whose targets speak `http`."""


class RouteTimeouts(ConfigModel):
    """Deadlines of one request. The client's own remaining budget wins where it is shorter."""

    connect_s: PositiveSeconds = 2.0
    ttft_s: PositiveSeconds = 20.0
    """To the first byte of a streamed answer."""
    ttft_reasoning_s: PositiveSeconds = 300.0
    first_byte_s: PositiveSeconds | None = None
    """To the first byte of an answer that is not streamed; `total_s` when absent, for such an answer may
    rightly take as long as it takes to write it. Shorter, and a silent target can be replaced in time."""
    idle_s: PositiveSeconds = 60.0
    """Between two chunks of a stream."""
    idle_reasoning_s: PositiveSeconds = 300.0
    total_s: PositiveSeconds = 600.0


class RouteTier(ConfigModel):
    """Targets that serve the route equally well."""

    targets: Annotated[tuple[Id, ...], Field(min_length=1, max_length=MAX_TARGETS)]
    candidates: Annotated[tuple[Id, ...], Field(max_length=MAX_TARGETS)] = ()
    """Those of `targets` that take no part until a rollout brings them in."""

    @property
    def established(self) -> tuple[Id, ...]:
        """The targets that need no rollout."""
        return tuple(target for target in self.targets if target not in self.candidates)


class Score(ConfigModel):
    """Coefficients of the strategy `score`; only their proportions count."""

    latency: Annotated[float, Field(ge=0, le=1000)] = 0.5
    success: Annotated[float, Field(ge=0, le=1000)] = 0.3
    load: Annotated[float, Field(ge=0, le=1000)] = 0.2

    @model_validator(mode="after")
    def _counts(self) -> Self:
        if not (self.latency or self.success or self.load):
            raise ValueError("all coefficients are 0: nothing would count")
        return self


class Route(ConfigModel):
    """What a client asks for."""

    id: Id
    match: RouteMatch
    tiers: Annotated[tuple[RouteTier, ...], Field(min_length=1, max_length=16)]
    timeouts: RouteTimeouts = RouteTimeouts()
    strategy: Strategy = Strategy.WEIGHTED
    score: Score = Score()
    residency: tuple[Id, ...] | None = None
    """Regions in which its targets may stand; everywhere when absent."""
    max_ejected_permille: Permille = 500
    """Most of its targets that an edge leaves out for a mere share of failures; 1000: no bound."""
    degradation: Degradation | None = None
    """What clients get when no target answers; an error when absent."""
    check_json: bool = False
    """Answers to requests for JSON are read and, where the request has a schema, held against it."""
    stream_recovery: StreamRecovery = StreamRecovery.TERMINATE
    """What becomes of a stream that is cut, stalls or is garbled in the middle of an answer."""
    stream_usage: bool = False
    """Ask OpenAI chat and completions streams for their usage where the client did not, and keep it back
    from that client: what the edge counts is then true."""

    @property
    def asks_of_streams(self) -> str:
        """The field by which it asks for more than that broken streams end in-band, if one does."""
        if self.stream_recovery is not StreamRecovery.TERMINATE:
            return "stream_recovery"
        return "stream_usage" if self.stream_usage else ""
