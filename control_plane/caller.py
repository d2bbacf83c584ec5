"""Who asks: set by the API for as long as it carries out a request, read where it goes on record.

Not handed down through every desk and loop: they neither decide by it nor pass it on, and one that
forgot to would leave a change without its name.
"""

from contextvars import ContextVar
from dataclasses import dataclass

from shared.vocabulary.node import ANONYMOUS
from shared.vocabulary.terms import ApiRole


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks something of the API."""

    name: str
    """The id of the token; `node.ANONYMOUS` without one."""
    role: ApiRole


CALLER: ContextVar[Caller | None] = ContextVar("caller", default=None)
"""None outside a request: the leader acts by itself."""


def asked_by() -> str:
    """The id of the token under which this is done; empty where none was used."""
    caller = CALLER.get()
    return caller.name if caller is not None and caller.name != ANONYMOUS else ""
