"""From a switch to what is kept of it, and back: a restart goes through the same rules as any news."""

from collections.abc import Callable
from typing import Any, TypeVar

from edge_router.core.follow import Follower
from edge_router.core.signals import Apply, ConfigSeen, DocumentSeen, Effect, Event, HeadSeen
from edge_router.ports import Kept, Recalled
from shared.vocabulary.config import Fleet, FleetConfig

TableT = TypeVar("TableT")


def kept_of(applied: Apply[Any], *, follower: Follower[Any]) -> Kept:
    """What must survive a restart so that `applied` can be served again."""
    return Kept(
        config=applied.config.raw,
        head=None if applied.head is None else applied.head.raw,
        documents=tuple(document.raw for document in applied.documents.values()),
        version=applied.version,
        seen=follower.seen,
    )


def cold_start(
    recalled: Recalled, fleet: Fleet | None, *, fresh: Callable[[], Follower[TableT]], now: float
) -> tuple[Follower[TableT], list[Effect[TableT]], Kept | None]:
    """A follower that serves by the best there is, the effects that say so, and the file it came from.

    The newest file that can be served by; else the node file's fleet in its own order; else nothing
    yet. A file may be undamaged and yet of no use: written for another region, or by another release.
    """
    for kept in recalled.kept:
        follower, effects = _fed(fresh(), events_of(kept), now)
        if follower.config is not None and follower.version == kept.version:
            follower.remember(recalled.seen)
            return follower, effects, kept
    events: list[Event] = []
    if fleet is not None:
        events.append(ConfigSeen(FleetConfig(config_version=0, fleet=fleet).model_dump_json().encode()))
    follower, effects = _fed(fresh(), events, now)
    follower.remember(recalled.seen)
    return follower, effects, None


def events_of(kept: Kept) -> list[Event]:
    """The configuration last, so that there is one switch, to the head, and none on the way."""
    head: list[Event] = [] if kept.head is None else [HeadSeen(kept.head)]
    return [*head, *(DocumentSeen(raw) for raw in kept.documents), ConfigSeen(kept.config)]


def _fed(
    follower: Follower[TableT], events: list[Event], now: float
) -> tuple[Follower[TableT], list[Effect[TableT]]]:
    return follower, [effect for event in events for effect in follower.step(event, now)]
