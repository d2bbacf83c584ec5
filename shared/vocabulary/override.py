"""Override: what an operator orders against the automatic course, for a time, with a name and a reason."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import AwareDatetime, ConfigDict, Field, StringConstraints, model_validator

from shared.vocabulary.base import Id, Message, Permille

ONE_LINE = "^[^\\x00-\\x1f\\x7f-\\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff]*$"
"""No control, line or direction characters: what is on record is printed on terminals and pages."""

Words = Annotated[
    str, StringConstraints(min_length=1, max_length=512, strip_whitespace=True, pattern=ONE_LINE)
]
Author = Annotated[
    str, StringConstraints(min_length=1, max_length=128, strip_whitespace=True, pattern=ONE_LINE)
]

MAX_OVERRIDE_S = 30 * 86_400.0


class OverrideSpec(Message):
    """What is ordered.

    drain    the targets of `region`, or `target`, take no part; in every route, or in `route` alone
    pin      `route` uses the targets of `region`, or `target`, before all others, while any of them
             can serve; for all clients, or those of the region `clients`
    weights  the targets of `route` that `weights` names share its traffic in that proportion, as
             long as they can serve; for all clients, or those of `clients`
    freeze   nobody leaves by itself; in every route, or in `route` alone

    Whoever is DOWN stays out in spite of a pin or a weight; whoever policy bars stays barred. Of
    several pins and weights for the same clients of a route the newest governs; the one before it
    does again when that has ended.
    """

    kind: Literal["drain", "pin", "weights", "freeze"]
    region: Id | None = None
    target: Id | None = None
    route: Id | None = None
    clients: Id | None = None
    weights: Mapping[Id, Permille] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _complete(self) -> Self:
        whom = [self.region, self.target]
        if self.kind in ("drain", "pin") and whom.count(None) != 1:
            raise ValueError(f"a {self.kind} names a region or a target, and not both")
        if self.kind in ("weights", "freeze") and whom.count(None) != 2:
            raise ValueError(f"a {self.kind} names neither region nor target")
        if self.kind in ("pin", "weights") and self.route is None:
            raise ValueError(f"a {self.kind} names its route")
        if self.clients is not None and self.kind not in ("pin", "weights"):
            raise ValueError(f"a {self.kind} is for all clients")
        if (self.kind == "weights") != bool(self.weights):
            raise ValueError("weights belong to the kind weights, which needs them")
        if self.weights and not any(self.weights.values()):
            raise ValueError("weights must not all be 0")
        return self


class OverrideRequest(OverrideSpec):
    """The body of `POST /v1/overrides`. A field that is not known is refused: it is a misspelt one."""

    model_config = ConfigDict(extra="forbid")

    reason: Words
    author: Author
    for_s: Annotated[float, Field(gt=0, le=MAX_OVERRIDE_S, allow_inf_nan=False)] | None = None
    """How long it holds; or `expires_at`, until when. One of the two, at most 30 days ahead."""
    expires_at: AwareDatetime | None = None
    forced: bool = False
    """Give it even though it leaves a route nobody healthy."""

    @model_validator(mode="after")
    def _ends(self) -> Self:
        if (self.for_s is None) == (self.expires_at is None):
            raise ValueError("say how long it holds: for_s or expires_at, and not both")
        return self

    @property
    def spec(self) -> OverrideSpec:
        """What is ordered, without by whom, why and how long."""
        return OverrideSpec(**{name: getattr(self, name) for name in OverrideSpec.model_fields})


class Ended(Message):
    """An override was lifted before its time."""

    at: AwareDatetime
    by: Author
    reason: Words


class Override(Message):
    """An order on record: the value of `overrides/<id>`. Only `ended` ever changes in it."""

    schema_version: Literal[1] = 1
    id: Id
    """`drain-17`: its kind, and the number of its entry in the audit."""
    n: Annotated[int, Field(ge=0, le=2**53)] = 0
    """That number: of two overrides the one with the greater is the newer, whatever clocks say."""
    spec: OverrideSpec
    reason: Words
    author: Author
    created_at: AwareDatetime
    expires_at: AwareDatetime
    """When it ends by itself, by the leader's clock."""
    forced: bool = False
    """Given although it leaves a route nobody healthy."""
    ended: Ended | None = None

    def holds(self, now: datetime) -> bool:
        """Whether it is in force at `now`."""
        return self.ended is None and now < self.expires_at

    @property
    def over_at(self) -> datetime:
        """When it ended, or will."""
        return self.expires_at if self.ended is None else min(self.ended.at, self.expires_at)
