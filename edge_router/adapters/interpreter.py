"""How the interpreter of a serving process shares its time between requests and everything else.

collector    What is there when serving begins (modules, configuration, table) stays: frozen, it is not looked through
             again and again for garbage. Requests make none that is not freed at once.
threads      Spans are exported and large configurations read in threads. One that computes gives the interpreter
             back after at most this long, instead of 5 ms: that is what a request waits behind it.
"""

import gc
import sys
from collections.abc import Callable
from typing import Final

SWITCH_S: Final = 0.0005


def settle() -> None:
    """To be called once, when serving begins."""
    sys.setswitchinterval(SWITCH_S)
    gc.collect()
    gc.freeze()


def uncollected(work: Callable[[bytes], None]) -> Callable[[bytes], None]:
    """`work`, which makes much that stays. For a thread."""

    def working(raw: bytes) -> None:
        gc.disable()
        try:
            work(raw)
        finally:
            gc.freeze()
            gc.enable()

    return working
