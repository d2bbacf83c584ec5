"""The closed lists: what an attempt came to, what is concluded of a target, how an edge stands."""

from enum import StrEnum


class Outcome(StrEnum):
    """What one attempt at a target came to. A client's own fault is none of these."""

    OK = "OK"
    SLOW = "SLOW"
    """Answered rightly, later than the monitor's `slow_ms`."""
    THROTTLED = "THROTTLED"
    """429, or 503/529 that says so: alive, at its limit."""
    REFUSED = "REFUSED"
    """No connection: refused, reset while connecting, unreachable, name not found."""
    FAILED = "FAILED"
    """Connected, then a 5xx or a connection that broke before an answer."""
    TIMED_OUT = "TIMED_OUT"
    GARBLED = "GARBLED"
    """Answered, but wrong, malformed or truncated."""

    @property
    def good(self) -> bool:
        """Whether the target did its work."""
        return self in _GOOD

    @property
    def counts_down(self) -> bool:
        """Whether it counts towards DOWN. THROTTLED never does: a busy target is alive."""
        return self in _COUNTS_DOWN


_GOOD = frozenset({Outcome.OK, Outcome.SLOW})
_COUNTS_DOWN = frozenset({Outcome.REFUSED, Outcome.FAILED, Outcome.TIMED_OUT, Outcome.GARBLED})


class Verdict(StrEnum):
    """What is concluded of a target, a vantage's sight of it, or a region."""

    HEALTHY = "HEALTHY"
    DEGRADED = "DEGRADED"
    DOWN = "DOWN"
    UNKNOWN = "UNKNOWN"
    """Nobody fresh says anything. Silence is never DOWN."""


class EdgeMode(StrEnum):
    """How old the last word from the control plane is, by monotonic receipt time."""

    FRESH = "FRESH"
    """A new Beat within 30 s."""
    STALE = "STALE"
    """Older, or nothing confirmed by a Beat since this edge started."""
    STATIC = "STATIC"
    """None for 5 min."""


class Dialect(StrEnum):
    """The protocol a target speaks."""

    OPENAI = "openai"
    ANTHROPIC = "anthropic"
    GEMINI = "gemini"
    HTTP = "http"


class Strategy(StrEnum):
    """How an edge chooses among the targets of one tier; always multiplied by the decision's weights."""

    WEIGHTED = "weighted"
    ROUND_ROBIN = "round_robin"
    RANDOM = "random"
    LEAST_CONNECTIONS = "least_connections"
    LATENCY = "latency"
    COST = "cost"
    SCORE = "score"
    HASH = "hash"


class StreamRecovery(StrEnum):
    """What an edge does about a stream that breaks after something of it has reached the client."""

    TERMINATE = "terminate"
    """End it with an in-band error event of the dialect."""
    RESUME = "resume"
    """Let another target bring the rest, where that can be done without a lost or doubled token."""
    HOLD = "hold"
    """Keep it back until it is complete, so that one that breaks can still move."""


class Role(StrEnum):
    """What a process is."""

    PROBER = "prober"
    CONTROL_PLANE = "control-plane"
    EDGE = "edge"


class ApiRole(StrEnum):
    """What a token of the control plane's API is for."""

    VIEWER = "viewer"
    """Reads."""
    OPERATOR = "operator"
    """And steers: overrides, rollouts, drills, plans."""
    ADMIN = "admin"
    """And owns: configuration, backup, restore."""
    EDGE = "edge"
    """Follows, and says what it applied; nothing else."""
