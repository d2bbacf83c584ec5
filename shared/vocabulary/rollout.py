"""Rollout: a new target or model takes over from the old by steps, watched, and back by itself if worse."""

from typing import Annotated, Literal, Self

from pydantic import AwareDatetime, Field, model_validator

from shared.vocabulary.base import Id, Message, Permille
from shared.vocabulary.override import Author, Words

MAX_BAKE_S = 7 * 86_400.0


class RolloutStep(Message):
    """So much of the tier's traffic, for at least so long."""

    permille: Annotated[int, Field(ge=1, le=1000)]
    bake_s: Annotated[float, Field(ge=0, le=MAX_BAKE_S)] = 300.0


class RolloutLimits(Message):
    """How much worse than the old the new may be (compared over the bake time, in live traffic)."""

    min_attempts: Annotated[int, Field(ge=1, le=1_000_000)] = 50
    """Of the new in a step; before that it is neither promoted nor blamed for rates."""
    error_permille_over: Permille = 20
    """Error rate of the new minus that of the old."""
    latency_ratio: Annotated[float, Field(ge=1.0, le=100.0)] = 1.5
    """Mean latency of the new to that of the old."""
    garbled_permille_over: Permille = 20
    """Garbled answers of the new minus those of the old."""
    stalled_s: Annotated[float, Field(gt=0, le=2_592_000)] = 86_400.0
    """Without `min_attempts` for so long after a step's bake time, it is rolled back as untried."""


class RolloutSpec(Message):
    """What is rolled out. `targets` share the step's permille of the tier they stand in, in every
    client region; the tier's others, the old, share the rest."""

    route: Id
    targets: Annotated[tuple[Id, ...], Field(min_length=1, max_length=100)]
    steps: Annotated[tuple[RolloutStep, ...], Field(min_length=1, max_length=20)] = (
        RolloutStep(permille=10),
        RolloutStep(permille=100),
        RolloutStep(permille=500),
        RolloutStep(permille=1000),
    )
    """Strictly rising. One step of 1000 is blue/green."""
    limits: RolloutLimits = RolloutLimits()

    @model_validator(mode="after")
    def _rising(self) -> Self:
        shares = [step.permille for step in self.steps]
        if shares != sorted(set(shares)):
            raise ValueError("the steps must rise strictly")
        if len(set(self.targets)) != len(self.targets):
            raise ValueError("a target stands twice")
        return self


class Baseline(Message):
    """What the old did in live traffic before the step under way."""

    attempts: Annotated[int, Field(ge=0)] = 0
    failed: Annotated[int, Field(ge=0)] = 0
    garbled: Annotated[int, Field(ge=0)] = 0
    latency_ms: Annotated[float, Field(ge=0)] = 0.0
    """Mean; 0 without attempts."""


class Rollout(Message):
    """The value of `rollouts/<id>`.

    RUNNING      at `step`, since `step_since`
    PROMOTED     the last step was baked: its permille stays in force until the record is ended
    ROLLED_BACK  the leader found the new worse: the new have weight 0 until the record is ended
    ABORTED      an operator ended the trial: as ROLLED_BACK
    """

    schema_version: Literal[1] = 1
    id: Id
    spec: RolloutSpec
    state: Literal["RUNNING", "PROMOTED", "ROLLED_BACK", "ABORTED"] = "RUNNING"
    step: Annotated[int, Field(ge=0, le=19)] = 0
    step_since: AwareDatetime
    created_at: AwareDatetime
    author: Author
    reason: Words
    outcome: str = ""
    """Why it was promoted or rolled back, with the figures."""
    old_before: Baseline = Baseline()
    """What the new are held against while the old have hardly any traffic; kept here for whoever leads next."""

    @property
    def permille(self) -> int:
        """What the new get of their tier's traffic now."""
        return self.spec.steps[self.step].permille if self.state in ("RUNNING", "PROMOTED") else 0
