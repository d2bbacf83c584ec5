"""Jobs: which monitor is run against which target from one vantage."""

from dataclasses import dataclass

from shared.vocabulary.config import Fleet, Monitor, Target
from shared.vocabulary.terms import Dialect

Key = tuple[str, str]
"""`(target id, monitor id)`: one thing that is known, one line in the events."""

SPOKEN: dict[str, frozenset[Dialect]] = {
    "http": frozenset(Dialect),
    "tcp": frozenset(Dialect),
    "chat": frozenset({Dialect.OPENAI, Dialect.ANTHROPIC, Dialect.GEMINI}),
    "embedding": frozenset({Dialect.OPENAI, Dialect.GEMINI}),
}
"""Dialects that each kind of monitor can ask its question in."""


@dataclass(frozen=True, slots=True)
class Job:
    """One monitor, one target."""

    target: Target
    monitor: Monitor

    @property
    def key(self) -> Key:
        return (self.target.id, self.monitor.id)

    @property
    def max_tokens(self) -> int:
        """What a chat answer may be long, thoughts and all."""
        reasoning = "reasoning" in self.target.capabilities
        return self.monitor.reasoning_max_tokens if reasoning else self.monitor.max_tokens

    def asks_the_same_of(self, other: "Job") -> bool:
        """Whether what is known of `other` holds for this one too: the same question at the same place.
        Pace and thresholds may differ."""
        mine, theirs = self.monitor, other.monitor
        return (
            self.target.url == other.target.url
            and self.target.dialect is other.target.dialect
            and self.target.model == other.target.model
            and (mine.kind, mine.method, mine.path) == (theirs.kind, theirs.method, theirs.path)
        )


def jobs_of(fleet: Fleet, vantage: str) -> tuple[tuple[Job, ...], tuple[Job, ...]]:
    """What probers in `vantage` do, and what they were told to but cannot: a monitor whose question
    the target's dialect has no words for."""
    told = [
        Job(target, monitor) for target in fleet.targets for monitor in fleet.monitors_of(target, vantage)
    ]
    possible = tuple(job for job in told if job.target.dialect in SPOKEN[job.monitor.kind])
    impossible = tuple(job for job in told if job.target.dialect not in SPOKEN[job.monitor.kind])
    return possible, impossible
