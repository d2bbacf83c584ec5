"""The express way of a stream, for one exchange: what happens to an ordinary event that nobody else wants to see."""

from collections.abc import Callable
from typing import Protocol

from edge_router.core.express import Form


class _Timed(Protocol):
    deadline: float
    _limit_at: float


class _Clock(Protocol):
    coarse_now: float


def passing(
    exchange: _Timed, form: Form, send: Callable[[bytes], None], clock: _Clock, idle_s: float
) -> Callable[[bytes], bool]:
    """What the exchange does with an event that may pass, for chunks of this form: whether it was one. A closure, for
    with a thousand streams what an event costs is the memory that it touches."""
    fits, limit_at = form.fits, exchange._limit_at

    def express(data: bytes) -> bool:
        if not fits(data):
            return False
        send(data)
        idle_at = clock.coarse_now + idle_s
        exchange.deadline = idle_at if idle_at < limit_at else limit_at  # noqa: FURB136  (min() is a call)
        return True

    return express
