from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from shared.boot import MAX_BOOT, next_boot


@dataclass
class WallClock:
    """A clock that shows `seconds`."""

    seconds: float = 1_000_000.0

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.seconds, UTC)

    def monotonic(self) -> float:
        return 0.0


def test_each_start_is_later_than_the_one_before(tmp_path: Path) -> None:
    """Restarts within one second still rise."""
    clock = WallClock()
    boots = [next_boot(tmp_path, "prober-us-east", clock=clock) for _ in range(5)]
    assert boots == sorted(set(boots))


def test_a_clock_that_steps_back_does_not_lower_it(tmp_path: Path) -> None:
    """The number on disk wins over a clock that is behind it."""
    first = next_boot(tmp_path, "p", clock=WallClock(2_000_000))
    assert next_boot(tmp_path, "p", clock=WallClock(1_000_000)) == first + 1


@pytest.mark.parametrize(
    "content", [b"", b"seven\n", b"-3\n", b"\xff\x00", b"9" * 60, str(MAX_BOOT).encode()]
)
def test_a_damaged_file_gives_a_surely_greater_number(tmp_path: Path, content: bytes) -> None:
    """Garbage on disk neither stops the process nor makes it unheard."""
    earlier = next_boot(tmp_path, "p", clock=WallClock(1_000_000))
    (tmp_path / "p.boot").write_bytes(content)
    later = next_boot(tmp_path, "p", clock=WallClock(1_000_060))
    assert earlier < later < MAX_BOOT
    assert (tmp_path / "p.boot").read_text() == f"{later}\n"


def test_an_emptied_state_directory_gives_a_greater_number(tmp_path: Path) -> None:
    """A container that lost its disk is heard at once after its restart."""
    earlier = next_boot(tmp_path / "a", "p", clock=WallClock(1_000_000))
    assert next_boot(tmp_path / "b", "p", clock=WallClock(1_000_060)) > earlier


def test_an_unwritable_state_directory_does_not_stop_the_process(tmp_path: Path) -> None:
    """With no place to keep the number, the clock orders restarts."""
    (tmp_path / "file").write_text("in the way")
    first = next_boot(tmp_path / "file", "p", clock=WallClock(1_000_000))
    assert next_boot(tmp_path / "file", "p", clock=WallClock(1_000_005)) > first


def test_names_do_not_share_a_number_and_nothing_else_is_left(tmp_path: Path) -> None:
    """Each name has its own file, and no temporary one stays."""
    next_boot(tmp_path, "a", clock=WallClock())
    next_boot(tmp_path, "b", clock=WallClock())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.boot", "b.boot"]
