"""The Kafka topics (contract): names, keys, and how they are made where they are missing."""

from collections.abc import Mapping
from dataclasses import dataclass, field

HEALTH = "leeward.health.v1"
DECISIONS = "leeward.decisions.v1"
BEATS = "leeward.beats.v1"
CONFIG = "leeward.config.v1"
ACKS = "leeward.acks.v1"
DLQ = "leeward.dlq.v1"


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """A topic as `create_topics` makes it."""

    name: str
    partitions: int
    config: Mapping[str, str] = field(default_factory=dict)


_HOUR = str(3_600_000)
_WEEK = str(7 * 24 * 3_600_000)
_PLAIN = {"compression.type": "uncompressed"}
"""The broker unpacks what it is sent, and refuses a bomb that would burst every reader."""
_COMPACT = _PLAIN | {"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0.1"}

TOPICS: tuple[TopicSpec, ...] = (
    TopicSpec(HEALTH, 3, _PLAIN | {"retention.ms": _WEEK}),
    TopicSpec(DECISIONS, 1, _COMPACT),
    TopicSpec(BEATS, 1, _PLAIN | {"retention.ms": _HOUR}),
    TopicSpec(CONFIG, 1, _COMPACT),
    TopicSpec(ACKS, 1, _PLAIN | {"retention.ms": _HOUR}),
    TopicSpec(DLQ, 1, _PLAIN | {"retention.ms": _WEEK}),
)
"""Health events keep a week, for `replay`; beats and acks are worthless after minutes."""
