"""Exponential backoff with full jitter, as pure arithmetic over a random source that the caller owns.

Full jitter (a uniform draw between 0 and the cap of the attempt) spreads a crowd that failed
together better than equal or no jitter: AWS Architecture Blog, "Exponential Backoff And Jitter".
"""

import random
from dataclasses import dataclass, field


@dataclass(slots=True)
class Backoff:
    """Delays for one retrying loop: `next()` after a failure, `reset()` after a success.

    Bounded by `cap_s`, never below `floor_s`, so that a loop can neither spin nor fall asleep.
    """

    base_s: float = 0.1
    cap_s: float = 2.0
    floor_s: float = 0.02
    rng: random.Random = field(default_factory=random.Random)
    _failures: int = field(default=0, init=False)

    def next(self) -> float:
        """Seconds to wait before the next attempt."""
        ceiling = min(self.cap_s, self.base_s * 2 ** min(self._failures, 30))
        self._failures += 1
        return max(self.floor_s, self.rng.uniform(0.0, ceiling))

    def reset(self) -> None:
        """Start again from the base."""
        self._failures = 0
