"""The newest word of each edge, whichever way it came."""

from datetime import UTC, datetime

from control_plane.loops.edges import FORGET_S, REBORN_S, EdgeTable
from tests.support.still_replica import ack


class Hand:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.at = 100.0

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.at, UTC)

    def monotonic(self) -> float:
        return self.at


def test_the_greatest_boot_and_number_win() -> None:
    """Order and duplicates do not matter."""
    clock = Hand()
    table = EdgeTable(clock)
    newest = ack(2, boot=4, seq=9)
    for word in (ack(5, boot=3), newest, ack(9, boot=3), ack(1, boot=4), newest):
        table.apply(word, received_at=clock.at, via="bus")
    (record,) = table.records()
    assert record.ack == newest


def test_age_is_counted_from_receipt() -> None:
    """On this replica's own monotonic clock; an hour of silence is forgotten."""
    clock = Hand()
    table = EdgeTable(clock)
    table.apply(ack(1), received_at=clock.at - 2, via="http")
    clock.at += 3
    (record,) = table.records()
    assert (record.age_s, record.via) == (5.0, "http")
    clock.at += FORGET_S
    assert table.records() == []


def test_an_edge_that_lost_its_boot_number_is_believed_after_a_silence() -> None:
    """Its state directory was emptied: it starts at boot 1 again."""
    clock = Hand()
    table = EdgeTable(clock)
    table.apply(ack(500, boot=9), received_at=clock.at, via="bus")
    reborn = ack(1, boot=1)
    assert not table.apply(reborn, received_at=clock.at + 1, via="bus")
    assert table.apply(reborn, received_at=clock.at + REBORN_S + 1, via="bus")
