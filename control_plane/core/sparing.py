"""Limits that edges have learned: who is at its account's limit for long is moved last for all clients.

Edges share providers' accounts, so a 429 that one of them got is waiting for the others. An edge spares such a
target by itself for as long as it was told, and says so (`cooling_s`); the decision tells the rest.

soft        moved last in its tier, never out: when all others are full it is asked after all
long        only what an edge means to spare for `LONG_S` yet: a shorter wait is over before a decision pays,
            and costs each edge one attempt
steady      for `LEAST_S` at least, so that there are two changes in two minutes at most. A limit that is reached again
            each time it is lifted would else move the traffic to and fro with every Retry-After
its end     when no fresh edge spares it any more. Who falls silent has said nothing
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Final, Literal

from shared.vocabulary.health import PassiveWindow
from shared.vocabulary.view import TargetHealth

LONG_S: Final = 20.0
LEAST_S: Final = 120.0

Cooling = Literal["", "briefly", "long"]


def cooling_in(windows: Iterable[PassiveWindow]) -> Cooling:
    """What the windows of one region's edges say of a target."""
    most_s = max((window.cooling_s for window in windows), default=0.0)
    return "long" if most_s >= LONG_S else "briefly" if most_s > 0.0 else ""


def spare(
    before: Mapping[str, datetime], healths: Iterable[TargetHealth], *, routed: frozenset[str], now: datetime
) -> dict[str, datetime]:
    """Target -> since when it is moved last. `before` is the same of the last decision; who is not in view
    stays as it was."""
    spared = {target: min(since, now) for target, since in before.items() if target in routed}
    for health in healths:
        target = health.id
        if target in before:
            since = spared.get(target, now)
            cooling = any(summary.cooling for summary in health.passive)
            if not cooling and (now - since).total_seconds() >= LEAST_S:
                spared.pop(target, None)
            continue
        for summary in health.passive:  # most have none, and there may be very many
            if summary.cooling == "long" and target in routed:
                spared[target] = now
    return spared
