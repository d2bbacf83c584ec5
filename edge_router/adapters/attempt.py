"""The attempt under way of one request, and its end: whatever ends it, and however often, its lane hears of it once."""

import asyncio
from abc import ABC

from edge_router.adapters.lane import Lane
from edge_router.adapters.upstream import Connection
from shared.vocabulary.terms import Outcome


class Attempt(ABC):
    """See the module."""

    __slots__ = ("__dict__",)

    attempts = 0
    _connecting: asyncio.Task[None] | None = None
    _connection: Connection | None = None
    _ended = 0
    """Which attempt was the last that ended."""
    _lane: Lane
    _trial: bool

    def _drop_attempt(self) -> bool:
        """Stop what is under way towards the target; whether there was anything."""
        connecting, self._connecting = self._connecting, None
        connection, self._connection = self._connection, None
        if connecting is not None:
            connecting.cancel()
        if connection is not None:
            connection.abort()
        return connecting is not None or connection is not None

    def _end_at_lane(self, outcome: Outcome | None, now: float, *, answered: bool = False) -> None:
        """The attempt has ended otherwise than well, if it had not. None: nothing of it is the target's fault; it may
        have `answered`."""
        if self._ended == self.attempts:
            return
        self._ended = self.attempts
        if answered and outcome is None:
            self._lane.answered_client_fault(now)
        else:
            self._lane.ended(outcome, now, trial=self._trial)
