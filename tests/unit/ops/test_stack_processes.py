"""Which process a record means, and how it is ended."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ops.local.processes import Kind, Launcher, ProcessRecord, log_tail, start_time, stop_all

OBEDIENT = "import sys; print('hello', flush=True); sys.stdin.read(); import signal; signal.pause()"
STUBBORN = (
    "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); signal.pause()"
)


def record(tmp_path: Path, program: str) -> ProcessRecord:
    return ProcessRecord(
        id="child",
        kind=Kind.EDGE,
        region="here",
        argv=(sys.executable, "-c", program),
        env={"LEEWARD_TEST": "1"},
        cwd=str(tmp_path),
        log=str(tmp_path / "logs" / "child.log"),
        ports={},
    )


@pytest.fixture
def launcher() -> Iterator[Launcher]:
    launched = Launcher()
    yield launched
    for child in launched._children.values():
        child.kill()
        child.wait()


def until_said(child: ProcessRecord, word: str) -> None:
    with subprocess.Popen(["tail", "-n", "+1", "-F", child.log], stdout=subprocess.PIPE, text=True) as tail:
        assert tail.stdout is not None
        for line in tail.stdout:
            if word in line:
                break
        tail.kill()


def test_a_launched_process_is_alive_until_it_ends(tmp_path: Path, launcher: Launcher) -> None:
    """Alive from its start, also while stopped; not once it ended, even before anybody collected it."""
    child = launcher.launch(record(tmp_path, OBEDIENT))
    assert child.alive
    until_said(child, "hello")
    assert child.send(signal.SIGSTOP)
    assert child.alive
    assert not stop_all([child], grace_s=10.0)
    assert not child.alive
    assert not child.send(signal.SIGKILL)


def test_a_reused_pid_is_somebody_else(tmp_path: Path, launcher: Launcher) -> None:
    """A record whose start time differs is not alive and is never signalled."""
    child = launcher.launch(record(tmp_path, OBEDIENT))
    assert child.started is not None
    impostor = child.model_copy(update={"started": child.started - 1})
    assert not impostor.alive
    assert not impostor.send(signal.SIGKILL)
    assert child.alive


def test_who_does_not_hear_is_killed(tmp_path: Path, launcher: Launcher) -> None:
    """After the grace the rest is killed, and named."""
    child = launcher.launch(record(tmp_path, STUBBORN))
    until_said(child, "ready")
    assert stop_all([child], grace_s=0.1, launcher=launcher) == [child]
    assert not child.alive


def test_a_missing_program_is_an_error(tmp_path: Path, launcher: Launcher) -> None:
    """OSError, for the caller to say which process it was."""
    ghost = record(tmp_path, "").model_copy(update={"argv": ("/nonexistent/program",)})
    with pytest.raises(OSError, match="No such file"):
        launcher.launch(ghost)


def test_no_process_has_no_start_time() -> None:
    """A pid that cannot exist has none; this process has one, and keeps it."""
    assert start_time(2**22 + 1) is None
    assert start_time(1) == start_time(1) is not None


def test_the_end_of_a_log(tmp_path: Path) -> None:
    """The last lines only, bounded; an absent log has none."""
    child = record(tmp_path, "")
    assert log_tail(child) == []
    Path(child.log).parent.mkdir()
    Path(child.log).write_text("".join(f"line {number}\n" for number in range(10_000)))
    assert log_tail(child, lines=2) == ["line 9998", "line 9999"]
    assert len(log_tail(child, lines=10_000, limit=100)) < 20
