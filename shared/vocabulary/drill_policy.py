"""`fleet.drills`: what drills may do in this fleet, and when."""

from collections.abc import Collection, Iterator
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from shared.vocabulary.base import ConfigModel

Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
DAYS: tuple[Day, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
"""As `date.weekday` counts them."""
Words = Annotated[str, StringConstraints(min_length=1, max_length=512)]


class BlockedWindow(ConfigModel):
    """When no drill may begin. In UTC."""

    days: tuple[Day, ...] = ()
    """On which it begins; every day when empty."""
    start: Annotated[str, StringConstraints(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$")]
    end: Annotated[str, StringConstraints(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$")]
    """Before `start`, or the same: on the next day."""
    reason: Words = "blocked"


class DrillPolicy(ConfigModel):
    """`fleet.drills`: what drills may do in this fleet."""

    enabled: bool = True
    """The master switch: off, none begins and the one under way is aborted."""
    blocked: Annotated[tuple[BlockedWindow, ...], Field(max_length=100)] = ()
    min_regions: Annotated[int, Field(ge=0, le=200)] = 1
    """No drill may leave fewer regions with a target that answers."""


def drill_problems(
    policy: DrillPolicy, regions: Collection[str]
) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """What is wrong with it, each with its place below `drills`; `regions` are the fleet's."""
    if policy.min_regions > len(regions):
        yield ("min_regions",), f"no drill could ever begin: the fleet has {len(regions)} regions"
