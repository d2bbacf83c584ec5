"""What a client key may ask for, and how much: computed once, when the table is built.

A key is looked up by its SHA-256. That look-up compares hashes in a time that may tell how much of two hashes is
equal, and this is of no use to anybody: to steer the hash of a guess towards a known one is to invert SHA-256
bit by bit, and the hash of a guess says nothing about a neighbouring guess. So the comparison leaks nothing about
the key itself, which is what a comparison in constant time is for; the key is never compared at all.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final, NamedTuple

from edge_router.core.listings import Listing, listing_of
from shared.vocabulary.client_key import ClientKey, Priority
from shared.vocabulary.route import Route

_EVERYTHING: Final = ("*",)


class KeyLimits(NamedTuple):
    """What a key may take of one edge. None for as much as it likes."""

    requests_per_minute: int | None
    tokens_per_minute: int | None
    concurrency: int | None


@dataclass(frozen=True, slots=True)
class KeyScope:
    """What a client key may ask for."""

    routes: frozenset[str] | None
    """None for all."""
    models: Listing
    tenant: str
    """The key's id, by which its requests are counted."""
    limits: KeyLimits | None = None
    """None for a key without any, which then costs a request nothing more than this look."""
    priority: Priority = Priority.NORMAL


def scopes_of(keys: Iterable[ClientKey], routes: Sequence[Route]) -> dict[str, KeyScope]:
    """By SHA-256 of the key, hex. Keys are many and what they reach is of few kinds, so equal ones are resolved
    once."""
    known: dict[tuple[str, ...], tuple[frozenset[str] | None, Listing]] = {}
    scopes: dict[str, KeyScope] = {}
    for key in keys:
        reach = known.get(key.routes)
        if reach is None:
            reach = known[key.routes] = _reach(key.routes, routes)
        limits = KeyLimits(key.requests_per_minute, key.tokens_per_minute, key.concurrency)
        scopes[key.sha256] = KeyScope(*reach, key.id, None if limits == _UNLIMITED else limits, key.priority)
    return scopes


_UNLIMITED: Final = KeyLimits(None, None, None)


def _reach(patterns: tuple[str, ...], routes: Sequence[Route]) -> tuple[frozenset[str] | None, Listing]:
    mine = [route for route in routes if any(fnmatchcase(route.id, pattern) for pattern in patterns)]
    listing = listing_of(model for route in mine for model in route.match.models)
    everything = patterns == _EVERYTHING
    return None if everything else frozenset(r.id for r in mine), listing
