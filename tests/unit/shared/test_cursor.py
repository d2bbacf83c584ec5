"""A position in a log, and whether that log is still the one it belongs to."""

import pytest

from shared.adapters.cursor import Cursor
from shared.ports import Record


def record(offset: int, value: bytes = b"v") -> Record:
    return Record("t", 0, offset, b"k", value, (), 1_000 + offset)


def read_to(position: int, goal: int = 10) -> Cursor:
    """A cursor that has read records 0 to `position` - 1."""
    cursor = Cursor(0, goal)
    cursor.take([record(offset) for offset in range(position)])
    return cursor


def test_taking_records_moves_behind_the_last_one() -> None:
    """Offsets may have holes, as compaction leaves them."""
    cursor = Cursor(0, goal=10)
    assert list(cursor.take([record(3), record(7)])) == [record(3), record(7)]
    assert (cursor.position, cursor.caught_up) == (8, False)
    cursor.take([record(9)])
    assert cursor.caught_up


def test_the_same_log_goes_on_without_a_gap() -> None:
    """After a reconnection the last known record is fetched again, recognised, and not given out twice."""
    cursor = read_to(5)
    assert not cursor.resume(0, 8, again=False)
    assert (cursor.seek_to, cursor.position) == (4, 5)
    fetched = [record(4), record(5)]
    assert cursor.recognises(fetched)
    assert list(cursor.take(fetched)) == [record(5)]
    assert cursor.seek_to == 6


@pytest.mark.parametrize("bounds", [(0, 4), (6, 9), (0, 0)], ids=["shorter", "deleted", "empty"])
def test_a_position_outside_the_log_is_a_loss(bounds: tuple[int, int]) -> None:
    """Whether the log is shorter now or its beginning was deleted: read from its beginning, to a goal in reach."""
    cursor = read_to(5)
    assert cursor.resume(*bounds, again=False)
    assert (cursor.position, cursor.goal, cursor.doubtful) == (bounds[0], min(10, bounds[1]), False)


def test_another_record_at_the_known_offset_is_another_log() -> None:
    """A broker that came back empty and was filled beyond the position is found out."""
    cursor = read_to(5)
    cursor.resume(0, 20, again=False)
    assert not cursor.recognises([record(4, b"other")])
    assert not cursor.recognises([record(6)])
    cursor.forsake()
    assert cursor.resume(0, 20, again=False)
    assert cursor.position == 0


def test_nothing_fetched_yet_proves_nothing() -> None:
    """Doubt stays until a record has been seen."""
    cursor = read_to(5)
    cursor.resume(0, 5, again=False)
    assert cursor.recognises([])
    assert list(cursor.take([])) == []
    assert cursor.doubtful


def test_state_is_read_again_from_its_beginning_without_a_gap() -> None:
    """`again` starts over though nothing is lost."""
    cursor = read_to(5)
    assert not cursor.resume(1, 8, again=True)
    assert (cursor.position, cursor.doubtful) == (1, False)


def test_waiting_records_that_do_not_come_are_overdue() -> None:
    """Only those that already waited at the last check, and only when nothing moved since."""
    cursor = read_to(5)
    assert not cursor.overdue(5)
    assert not cursor.overdue(7)  # they came after the last check
    assert cursor.overdue(7)
    cursor.take([record(5)])
    assert not cursor.overdue(7)


def test_an_unreadable_record_is_passed() -> None:
    """And what came before it can no longer serve to recognise the log."""
    cursor = read_to(5)
    cursor.skip()
    cursor.resume(0, 9, again=False)
    assert (cursor.position, cursor.seek_to, cursor.doubtful) == (6, 6, False)
