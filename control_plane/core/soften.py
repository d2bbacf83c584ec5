"""Leaving on soft evidence: a little of a route's weight at a time.

Soft evidence (slow failures, 5xx, timeouts after connecting; figures out of the usual) may be wrong, and
a mass of weight moved on it may do more harm than the fault. So within `soft_interval_s` it moves at most
`soft_move_permille` of a route's weight in any client region, counted over all targets that leave or
yield softly. In the order of the configuration each gives up as much as still fits: a target whose whole
weight fits leaves at once, a stand-by has none and leaves for free.

Caution takes a target to the part that health advises and no further; when the advice ends it gets all
back at once, but no sooner than the next move would be due, so that advice to and fro moves nothing more
often than that.

What a part is worth depends on the parts of the others, so moves are measured on the weights they
lead to, and not computed from the parts.
"""

from collections.abc import Callable, Mapping
from datetime import datetime

from control_plane.core.memory import RouteMemory
from control_plane.core.standing import FULL
from shared.vocabulary.config import Policy

Held = Mapping[str, Mapping[str, int]]
"""Client region -> target -> its part of the route's traffic, in millionths."""


def may_move(memory: RouteMemory, policy: Policy, now: datetime) -> bool:
    """Whether the last soft move is long enough ago; one in the future was on another clock."""
    moved_at = memory.soft_moved_at
    return moved_at is None or moved_at > now or (now - moved_at).total_seconds() >= policy.soft_interval_s


def move(
    has: Mapping[str, int],
    goals: Mapping[str, int],
    held: Callable[[Mapping[str, int]], Held],
    policy: Policy,
) -> dict[str, int]:
    """The parts after one move of those in `has` towards their `goals`, which are lower; `held` gives the
    weights that such parts lead to."""
    budget = policy.soft_move_permille * FULL
    before = held(has)
    after = dict(has)

    def fits(target: str, part: int) -> bool:
        return _moved(before, held({**after, target: part}), goals) <= budget

    exhausted = False
    for target, goal in goals.items():
        if fits(target, goal):
            after[target] = goal
        elif not exhausted:
            after[target] = _least(
                goal,
                has[target],
                lambda part, target=target: fits(target, part),  # type: ignore[misc]
            )
            exhausted = True
    return after


def _moved(before: Held, after: Held, movers: Mapping[str, int]) -> int:
    """What the `movers` lose together, in the client region where that is most."""
    return max(
        (
            sum(max(0, had.get(target, 0) - after[region].get(target, 0)) for target in movers)
            for region, had in before.items()
        ),
        default=0,
    )


def _least(low: int, high: int, fits: Callable[[int], bool]) -> int:
    """The least part that fits, given that `low` does not and `high` (no move at all) does."""
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(middle) else (middle, high)
    return high
