"""What of an edge's limits one of its workers holds.

Limits are stated per edge. The kernel spreads connections over the workers evenly in the long run, so each holds
an equal part; what is left over is dealt out by name, so that it is not always the same worker that has more.

at least one    A limit below the number of workers would leave some of them with nothing, and whoever the kernel
                sent to those would be turned away although others had room. So each has one at least, and such a
                limit may be exceeded by what the workers are more.
"""

from dataclasses import dataclass
from typing import Final
from zlib import crc32


@dataclass(frozen=True, slots=True)
class Share:
    """The part of worker number `index` (from 0) among `of`."""

    index: int = 0
    of: int = 1

    def part(self, total: int, name: str = "") -> int:
        """Of a limit of `total`; `name` says whose limit it is. The parts of all workers sum to `total`, where
        that is no less than their number."""
        if self.of == 1:
            return total
        each, rest = divmod(total, self.of)
        mine = (self.index + crc32(name.encode())) % self.of
        return max(1, each + (mine < rest))


WHOLE: Final = Share()
"""Of an edge in one process."""
