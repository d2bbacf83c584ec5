"""Drains past their end: they hold while anybody leads, and give way when nobody does."""

from datetime import datetime, timedelta

import pytest

from edge_router.core.follow import Follower
from edge_router.core.lapse import LAPSE_S
from edge_router.core.signals import (
    BeatSeen,
    ConfigSeen,
    DocumentSeen,
    Ease,
    Event,
    HeadSeen,
    Tick,
)
from edge_router.core.table import RouteTable, build_table
from tests.support.edge_worlds import AT, ToyControlPlane

END = AT + timedelta(minutes=30)
DRAINED = "beta-eu-west"


class Edge:
    """A follower in `us-east` over real tables; `now` counts from AT, where the only Beat is heard."""

    def __init__(self, cp: ToyControlPlane, *, live: bool = True) -> None:
        self.now = 0.0
        self.follower: Follower[RouteTable] = Follower(
            build=lambda config, documents, head: build_table(config, documents, head, region="us-east"),
            fresh_s=30,
            static_s=300,
            started_at=0.0,
        )
        word: Event = BeatSeen(cp.beat()) if live else HeadSeen(cp.heads[-1].canonical())
        for event in (ConfigSeen(cp.configs[-1]), *map(DocumentSeen, cp.documents.values()), word):
            self.follower.step(event, self.now)

    def tick(self, now: float, *, at: datetime | None = None) -> list[set[str]]:
        """Whom `chat` may ask in the last resort, for each table that the tick brings; the wall clock is
        right unless told."""
        self.now = now
        effects = self.follower.step(Tick(at or AT + timedelta(seconds=now)), now)
        return [last_resort(effect.table) for effect in effects if isinstance(effect, Ease)]


def last_resort(table: RouteTable) -> set[str]:
    """Of `chat`."""
    return {candidate.target.id for candidate in table.routes["chat"].last_resort}


def drained(*, by: str = "operator", until: datetime | None = END) -> ToyControlPlane:
    """A head under which one target is excluded."""
    cp = ToyControlPlane()
    exclusion = {"target": DRAINED, "by": by, "reason": "drained by ann: new racks", "expires_at": until}
    cp.commit(excluded=[exclusion])
    return cp


PAST = 30 * 60 + LAPSE_S + 1


def test_a_drain_holds_to_its_end_and_five_minutes_more() -> None:
    """Then the target is asked again, after all others, by a table of the same version."""
    edge = Edge(drained())
    assert edge.tick(301.0) == []
    assert edge.tick(PAST - 2) == []
    assert edge.tick(PAST) == [{DRAINED}]
    assert edge.tick(PAST + 60) == []
    assert edge.follower.version == (1, 1)


def test_while_somebody_leads_a_drain_holds() -> None:
    """The leader decides when it is over, whatever this edge's clock says."""
    cp = drained()
    edge = Edge(cp)
    for now in range(0, int(PAST) + 600, 100):
        assert edge.tick(float(now)) == []
        edge.follower.step(BeatSeen(cp.beat()), float(now))


def test_the_first_beat_puts_the_drain_back() -> None:
    """Until the leader has decided."""
    cp = drained()
    edge = Edge(cp)
    assert edge.tick(PAST) == [{DRAINED}]
    edge.follower.step(BeatSeen(cp.beat()), PAST + 1)
    assert edge.tick(PAST + 1.2) == [set()]
    assert edge.tick(PAST + 30) == []


def test_a_clock_that_steps_ahead_opens_nothing() -> None:
    """The leader's own time, carried on from its last Beat, has a say."""
    edge = Edge(drained())
    assert edge.tick(400.0, at=AT + timedelta(days=365)) == []
    assert edge.tick(PAST, at=AT) == []
    assert edge.tick(PAST + 2, at=AT + timedelta(days=365)) == [{DRAINED}]


def test_an_edge_that_has_heard_no_leader_goes_by_its_own_clock() -> None:
    """As one does that starts from its file while all else is gone."""
    edge = Edge(drained(), live=False)
    assert edge.tick(299.0, at=END + timedelta(days=1)) == []
    assert edge.tick(302.0, at=END + timedelta(days=1)) == [{DRAINED}]


@pytest.mark.parametrize(("by", "until"), [("policy", END), ("policy", None), ("operator", None)])
def test_what_has_no_end_stays_excluded(by: str, until: datetime | None) -> None:
    """And so does what policy excludes."""
    assert Edge(drained(by=by, until=until)).tick(PAST) == []


def test_a_new_head_is_judged_anew() -> None:
    """What the head before had let lapse is no word on this one."""
    cp = drained()
    edge = Edge(cp)
    assert edge.tick(PAST) == [{DRAINED}]
    cp.commit()
    for event in (*map(DocumentSeen, cp.documents.values()), HeadSeen(cp.heads[-1].canonical())):
        edge.follower.step(event, PAST + 1)
    assert edge.follower.version == (1, 2)
    assert edge.tick(PAST + 2) == []
