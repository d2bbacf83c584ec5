"""Where a consumer stands in one partition, and whether what it finds there is still the log it knew.

Pure. A broker that comes back empty starts counting at 0 again, so a remembered offset may point past
the end, or, worse, into different records. The first is seen by comparing offsets; the second by
reading the last known record once more and comparing it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from shared.ports import Record


@dataclass(slots=True)
class Cursor:
    """One partition's reading.

    position: the offset to read next. goal: the partition's end when consuming began.
    last: the record before `position`, by which the log is recognised; None when none was read.
    doubtful: the connection was lost since, and `last` has not been met again yet.
    """

    position: int
    goal: int
    last: Record | None = None
    doubtful: bool = False
    _checked: tuple[int, int] | None = None

    @property
    def seek_to(self) -> int:
        """Where to fetch from; `last` is fetched again while in doubt."""
        return self.last.offset if self.doubtful and self.last is not None else self.position

    @property
    def caught_up(self) -> bool:
        """Whether the goal has been reached."""
        return self.position >= self.goal

    def inside(self, beginning: int, end: int) -> bool:
        """Whether the position still exists in a log of these bounds."""
        return beginning <= self.position <= end

    def resume(self, beginning: int, end: int, *, again: bool) -> bool:
        """Continue on a new connection to a log of these bounds; true when records are known lost.

        With `again` the log is read from its beginning whatever happened.
        """
        self._checked = None
        lost = not self.inside(beginning, end)
        if lost or again:
            self.position, self.goal, self.last, self.doubtful = beginning, min(self.goal, end), None, False
        else:
            self.doubtful = self.last is not None and self.last.offset >= beginning
        return lost

    def recognises(self, records: Sequence[Record]) -> bool:
        """Whether what was fetched at `seek_to` belongs to the log as it was known."""
        return not self.doubtful or not records or records[0] == self.last

    def take(self, records: Sequence[Record]) -> Sequence[Record]:
        """Advance over `records` (as fetched at `seek_to`, and recognised); returns the new ones."""
        if self.doubtful and records:
            self.doubtful = False
            records = records[1:]
        if records:
            self.last = records[-1]
            self.position = self.last.offset + 1
        return records

    def forsake(self) -> None:
        """The log is another one: the next `resume` finds the position lost."""
        self.position, self.last, self.doubtful = -1, None, False

    def skip(self) -> None:
        """Give up the record at `position`: it cannot be read."""
        self.position += 1
        self.last, self.doubtful = None, False

    def overdue(self, end: int) -> bool:
        """Called at every check with the log's end: whether records that waited at the last check have
        not begun to arrive since."""
        before, self._checked = self._checked, (self.position, end)
        return before is not None and before[0] == self.position < before[1]
