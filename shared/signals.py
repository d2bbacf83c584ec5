"""How every process learns that it is to end."""

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def ended_by_signal(*also: signal.Signals) -> Iterator[asyncio.Event]:
    """An event that SIGTERM and SIGINT set, and `also`, instead of what they do by themselves. In the main
    thread only."""
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGTERM, signal.SIGINT, *also)
    for number in numbers:
        loop.add_signal_handler(number, ended.set)
    try:
        yield ended
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
