"""HealthEvent: what one source knows, told as absolute state.

Because an event is state and not an increment, the fold keeps the greatest `(boot, seq)` per source
and entry: loss, duplicates, delay and reordering cannot change where it ends.
"""

from typing import Annotated, Literal

from pydantic import AwareDatetime, Field

from shared.vocabulary.base import Id, Message, Traceparent
from shared.vocabulary.terms import Outcome, Role

MAX_EVENT_BYTES = 900_000
"""Below Kafka's default `max.message.bytes` of 1,048,588. Sources split what is larger by target."""
MAX_ENTRIES = 2_000
"""Targets in one event."""
QUALITY_RESULTS = 100
"""Answers over which a source keeps count of the wrong ones. It counts itself, and tells the state of
the count, so that no reader has to count events."""

Ms = Annotated[float, Field(ge=0, le=86_400_000, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0, le=2**53)]


class ProbeState(Message):
    """What one prober's monitor knows of one target; the prober itself ran the counters."""

    target: Id
    monitor: Id
    state: Literal["UP", "DOWN", "UNKNOWN"]
    """UNKNOWN until a counter has first been filled."""
    consecutive_good: Count
    consecutive_bad: Count
    outcome: Outcome
    """Of the last probe."""
    hard: bool = False
    """Whether the run of bad outcomes ends in as many hard ones as make DOWN (REFUSED, reset before an
    answer, TIMED_OUT while connecting): evidence on which a target may leave at once."""
    detail: Annotated[str, Field(max_length=256)] = ""
    """The last outcome in a few words: `connect ECONNREFUSED`, `status 503`."""
    latency_ms: Ms
    latency_ms_p50: Ms
    """Over the last probes that were answered, at most 20; 0 when there is none."""
    latency_ms_p99: Ms
    probed_at: AwareDatetime
    changed_at: AwareDatetime
    """When `state` last changed."""
    interval_s: Annotated[float, Field(gt=0, le=86_400)]
    """The pace at the moment, by which a reader judges staleness."""
    judged: Count = 0
    """Of the last `QUALITY_RESULTS` answers, how many there are yet; 0 where no answer is known."""
    garbled: Count = 0
    """Of these, wrong ones."""
    traceparent: Traceparent | None = None
    """The span of the probe that last changed `state`."""


class PassiveWindow(Message):
    """What one edge saw of one target in live traffic over the last `window_s`."""

    target: Id
    window_s: Annotated[float, Field(gt=0, le=3600)]
    counts: dict[Outcome, Count]
    """Attempts by outcome."""
    latency_ms_p50: Ms = 0.0
    latency_ms_p99: Ms = 0.0
    latency_ms_mean: Ms = 0.0
    ttft_ms_p50: Ms = 0.0
    ttft_ms_p99: Ms = 0.0
    good_age_s: Annotated[float, Field(ge=0, le=3600, allow_inf_nan=False)] | None = None
    """Since an answer was last complete and right; absent when none was in the window."""
    judged: Count = 0
    """Of the last `QUALITY_RESULTS` answers since traffic last paused, how many there are yet."""
    garbled: Count = 0
    """Of these, wrong or truncated ones."""
    inflight: Count = 0
    admission: Literal["ADMITTING", "EJECTED", "PROBATION"] = "ADMITTING"
    broken_run: Count = 0
    """Attempts that ended REFUSED, FAILED or TIMED_OUT since the target last did its work."""
    cooling_s: Annotated[float, Field(ge=0, le=86_400)] = 0.0
    """How much longer the edge will spare it after a 429."""
    quota_exhausted: bool = False
    """It is spared because its account has no quota or no money left."""


class RouteLoad(Message):
    """What one edge carries of one route: the demand that capacity is planned by."""

    route: Id
    inflight: Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]
    """Requests under way, mean over the window."""
    requests: Count = 0
    """Of clients, that ended in the window."""
    failed: Count = 0
    """Of these, without a good answer."""
    window_s: Annotated[float, Field(gt=0, le=3600)]


class HealthEvent(Message):
    """One message on `leeward.health.v1`, key = `source`."""

    schema_version: Literal[1] = 1
    kind: Literal["probe", "passive", "heartbeat"]
    """`heartbeat` carries neither list; the other kinds are heartbeats too."""
    source: Id
    """The process: `prober-us-east`."""
    role: Role
    vantage: Id
    """The region it observes from."""
    boot: Count
    """Raised, on disk, at every start of the source."""
    seq: Count
    """Raised with every event of one boot."""
    observed_at: AwareDatetime
    config_version: Count = 0
    """The fleet the source works by."""
    probes: Annotated[tuple[ProbeState, ...], Field(max_length=MAX_ENTRIES)] = ()
    passive: Annotated[tuple[PassiveWindow, ...], Field(max_length=MAX_ENTRIES)] = ()
    routes: Annotated[tuple[RouteLoad, ...], Field(max_length=MAX_ENTRIES)] = ()
    """By edges only."""
    traceparent: Traceparent | None = None
