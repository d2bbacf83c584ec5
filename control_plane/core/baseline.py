"""Baseline: what is usual for one figure of one target, by hour of day.

The theory. A figure comes once per window and is gathered in blocks. Of a full block the median and the
median absolute deviation are taken, exactly; they stay what they are while up to half of a block is out of
the usual, where a mean would follow the first outlier (Hampel 1974, "The influence curve and its role in
robust estimation"). Times 1.4826 the deviation estimates the standard deviation of a normal figure. A
block's two numbers then flow into the norm of its hour (UTC), and into one of all hours, with a weight of
1/n for the n-th block and never less than `SHARE`: an exponential average over blocks, which forgets.

Who learns from figures that are out of the usual would call a fault usual after a while. So the caller
clips them at its limit first (winsorising), and a lasting change becomes the norm in hours, not minutes.

Bounded: 25 norms of three numbers and one block, some 700 bytes for one figure. It lives in the memory of
one replica: each warms its own, and says nothing until its first block is full.
"""

from array import array
from dataclasses import dataclass
from statistics import median
from typing import Final, NamedTuple

BLOCK: Final = 60
"""Figures in a block: ten minutes of the default windows, six blocks to the hour."""
FIRST_BLOCK: Final = 30
"""The very first block closes earlier, for a cold replica knows nothing until then."""
LEAST: Final = 12
"""An hour that ends leaves a block of so many at least, or none."""
SHARE: Final = 0.1
"""Of a new block in its norm, at least."""
NORMAL: Final = 1.4826
"""Standard deviations in one median absolute deviation of a normal distribution."""
ALL_HOURS: Final = 24
_FIELDS: Final = 3


class Norm(NamedTuple):
    """The usual value, and how far values usually stray from it: an estimate of the standard deviation."""

    median: float
    deviation: float


@dataclass(frozen=True, slots=True, eq=False)
class Baseline:
    """Norms by hour, and the block under way. Its arrays are never changed, only replaced."""

    norms: "array[float]"
    """For each hour, then for all hours: median, deviation, blocks."""
    block: "array[float]"
    hour: int = 0
    """In which the block was begun."""


UNLEARNT: Final = Baseline(array("f", bytes(4 * _FIELDS * (ALL_HOURS + 1))), array("f"))


def usual(baseline: Baseline, hour: int) -> tuple[Norm, ...]:
    """The norms there are for `hour` (0 to 23): its own and that of all hours; none before the first block."""
    return tuple(
        Norm(baseline.norms[at], baseline.norms[at + 1])
        for at in (hour * _FIELDS, ALL_HOURS * _FIELDS)
        if baseline.norms[at + 2]
    )


def learn(baseline: Baseline, value: float, hour: int) -> Baseline:
    """The baseline after one more figure."""
    if baseline.block and hour != baseline.hour:
        baseline = _closed(baseline)
    block = baseline.block + array("f", (value,))
    grown = Baseline(baseline.norms, block, hour)
    first = not baseline.norms[ALL_HOURS * _FIELDS + 2]
    return _closed(grown) if len(block) >= (FIRST_BLOCK if first else BLOCK) else grown


def _closed(baseline: Baseline) -> Baseline:
    block = baseline.block
    if len(block) < LEAST:
        return Baseline(baseline.norms, array("f"), baseline.hour)
    middle = median(block)
    deviation = NORMAL * median(abs(value - middle) for value in block)
    norms = baseline.norms[:]
    for at in (baseline.hour * _FIELDS, ALL_HOURS * _FIELDS):
        blocks = norms[at + 2] + 1
        share = max(SHARE, 1 / blocks)
        norms[at] += share * (middle - norms[at])
        norms[at + 1] += share * (deviation - norms[at + 1])
        norms[at + 2] = min(blocks, 1_000.0)
    return Baseline(norms, array("f"), baseline.hour)
