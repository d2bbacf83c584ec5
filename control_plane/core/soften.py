"""Leaving on soft evidence: a little of a route's weight at a time.

Soft evidence (slow failures, 5xx, timeouts after connecting) may be wrong, and a mass of weight moved
on it may do more harm than the fault. So within `soft_interval_s` it moves at most
`soft_move_permille` of a route's weight in any client region, counted over all targets that leave
softly. In the order of the configuration each gives up as much as still fits: a target whose whole
weight fits leaves at once, a stand-by has none and leaves for free.

What a part is worth depends on the parts of the others, so moves are measured on the weights they
lead to, and not computed from the parts.
"""

from collections.abc import Callable, Mapping, Sequence
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
    kept: Mapping[str, int], leaving: Sequence[str], held: Callable[[Mapping[str, int]], Held], policy: Policy
) -> dict[str, int]:
    """`kept` after one move of the `leaving`; `held` gives the weights that a `kept` leads to."""
    budget = policy.soft_move_permille * FULL
    before = held(kept)
    after = dict(kept)

    def fits(target: str, part: int) -> bool:
        return _moved(before, held({**after, target: part}), leaving) <= budget

    exhausted = False
    for target in leaving:
        if fits(target, 0):
            after[target] = 0
        elif not exhausted:
            after[target] = _least(kept[target], lambda part, target=target: fits(target, part))  # type: ignore[misc]
            exhausted = True
    return after


def _moved(before: Held, after: Held, leaving: Sequence[str]) -> int:
    """What the `leaving` lose together, in the client region where that is most."""
    return max(
        (
            sum(max(0, had.get(target, 0) - after[region].get(target, 0)) for target in leaving)
            for region, had in before.items()
        ),
        default=0,
    )


def _least(most: int, fits: Callable[[int], bool]) -> int:
    """The least part that fits, given that 0 does not and `most` (no move at all) does."""
    low, high = 0, most
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(middle) else (middle, high)
    return high
