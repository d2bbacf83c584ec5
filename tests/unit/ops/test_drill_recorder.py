"""A drill's line to its record."""

from dataclasses import dataclass, field

import pytest
from drill_worlds import AT, ManualClock, record, spec
from test_drill_judge import course, judged
from test_drill_runner import Book

from ops.client import Refused
from ops.drill.recorder import FINISH_TIMEOUT_S, Recorder
from ops.errors import Unreachable
from shared.vocabulary.drill import Drill, DrillEnd, Progress, Stop


@dataclass
class Away(Book):
    """Cannot be asked at the end; `said` is what it then raises."""

    clock: ManualClock = field(default_factory=ManualClock)
    said: Exception = field(default_factory=lambda: Unreachable("no control plane answers"))
    asked: int = 0

    async def finish(self, drill: str, end: DrillEnd) -> Drill:
        self.asked += 1
        self.clock.at += FINISH_TIMEOUT_S + 1
        raise self.said


def recorder(book: Book, clock: ManualClock, stops: list[str]) -> Recorder:
    return Recorder(book, book.drill, "runner", clock=clock, progress=Progress, stop=stops.append)


async def test_an_abort_is_heard_with_its_reason() -> None:
    """So is a record that somebody else has ended."""
    stops: list[str] = []
    book = Book(record(spec()), stop=Stop(at=AT, by="ann", reason="enough"))
    await recorder(book, ManualClock(), stops).tell()
    over = Book(record(spec()).model_copy(update={"state": "ABORTED", "note": "its runner is gone"}))
    await recorder(over, ManualClock(), stops).tell()
    assert stops == ["aborted by ann: enough", "its record says ABORTED: its runner is gone"]


async def test_a_word_that_must_arrive_raises_when_it_does_not() -> None:
    """Whoever is about to break something hears of it."""
    book = Book(record(spec()), deaf=lambda _: True)
    with pytest.raises(Unreachable):
        await recorder(book, ManualClock(), []).tell()


async def test_the_report_is_not_waited_for_for_ever() -> None:
    """What could not be put on record is said, and the drill ends all the same."""
    away = Away(record(spec()))
    told = await recorder(away, away.clock, []).finish(judged(course()), "page")
    assert told == "no control plane answers"
    assert away.asked == 1
    refused = Away(record(spec()), said=Refused(413, "too large"))
    assert await recorder(refused, refused.clock, []).finish(judged(course()), "page") == "too large"
