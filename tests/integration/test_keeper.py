"""The keeper over processes that stand for a stack's: every fault ends by itself, whoever dies."""

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ops.keeper.faults import read_file, undo_file
from ops.local.ports import free
from ops.local.processes import stop_all
from shared.clock import SKEW_VARIABLE
from tests.support.keeper import Kept, until


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Kept]:
    if not Path("/proc/self/stat").exists():
        pytest.skip("reads /proc")
    found = Kept(tmp_path)
    yield found
    found.close()


def test_a_kill_ends_with_its_time_to_live(kept: Kept) -> None:
    """Killed at once, there for as long as it is renewed, started again when nobody renews it."""
    before = kept.record("edge-a").pid
    answer = kept.put("d-1", fault="kill", processes=["edge-a"], for_s=1.0)
    assert (answer.status_code, answer.json()["state"]) == (201, "in_force")
    assert not kept.lives("edge-a")
    assert [written.id for written in read_file(kept.state_dir).faults] == ["d-1"]
    assert kept.put("d-1", fault="kill", processes=["edge-a"], for_s=1.5).status_code == 200
    put = time.monotonic()
    until("it is started again", lambda: kept.lives("edge-a"))
    assert time.monotonic() - put > 1.0
    assert kept.record("edge-a").pid != before
    until("nothing is on file", lambda: not read_file(kept.state_dir).faults)
    assert kept.faults() == []


def test_a_stop_ends_with_its_time_to_live(kept: Kept) -> None:
    """Stopped, and continued: the same process."""
    before = kept.record("edge-a").pid
    kept.put("d-1", fault="stop", processes=["edge-a"], for_s=0.5)
    assert kept.state("edge-a") == "T"
    until("it goes on", lambda: kept.lives("edge-a"))
    assert kept.record("edge-a").pid == before


def test_undoing_respects_other_faults(kept: Kept) -> None:
    """What two faults have stopped goes on when the second ends; DELETE undoes at once, and again is 404."""
    kept.put("d-1", fault="stop", processes=["edge-a", "bus-a"], for_s=60)
    kept.put("d-2", fault="stop", processes=["edge-a"], for_s=60)
    assert kept.http.delete(f"{kept.url}/faults/d-1").json()["state"] == "undone"
    assert kept.state("edge-a") == "T"
    assert kept.lives("bus-a")
    assert kept.http.delete(f"{kept.url}/faults/d-2").status_code == 200
    assert kept.lives("edge-a")
    assert kept.http.delete(f"{kept.url}/faults/d-2").status_code == 404


def test_a_skewed_clock_is_a_restart_there_and_back(kept: Kept) -> None:
    """The process runs with its wall clock an hour ahead, then with the right one."""
    log = Path(kept.record("edge-a").log)
    kept.put("d-1", fault="clock_skew", processes=["edge-a"], skew_s=3600, for_s=60)
    lines = until("it told the time", lambda: (said := log.read_text().split())[1:] and said)
    assert kept.record("edge-a").env[SKEW_VARIABLE] == "3600.0"
    kept.http.delete(f"{kept.url}/faults/d-1")
    lines = until("it told the time again", lambda: (said := log.read_text().split())[2:] and said)
    assert lines[0] < lines[2] < lines[1]
    assert SKEW_VARIABLE not in kept.record("edge-a").env


def test_what_cannot_be_is_refused(kept: Kept) -> None:
    """Each with what is wrong; nothing is done."""
    cases = [
        (422, "no nobody here", {"fault": "kill", "processes": ["nobody"], "for_s": 5}),
        (422, "keeper cannot suffer kill", {"fault": "kill", "processes": ["keeper"], "for_s": 5}),
        (422, "edge-a cannot suffer partition", {"fault": "partition", "processes": ["edge-a"], "for_s": 5}),
        (422, "bus-a cannot suffer clock_skew", {"fault": "clock_skew", "skew_s": 1, "processes": ["bus-a"], "for_s": 5}),
        (400, "for_s: ", {"fault": "kill", "processes": ["edge-a"], "for_s": 301}),
        (400, "for_s: Field required", {"fault": "kill", "processes": ["edge-a"]}),
        (400, "skew_s belongs to clock_skew", {"fault": "clock_skew", "processes": ["edge-a"], "for_s": 5}),
        (400, "procesess: Extra inputs", {"fault": "kill", "procesess": ["edge-a"], "for_s": 5}),
    ]  # fmt: skip
    for status, words, order in cases:
        answer = kept.put("d-1", **order)
        assert (answer.status_code, words in answer.json()["detail"]) == (status, True), answer.text
    page = {"origin": "http://evil.example", "content-type": "application/json"}
    body = json.dumps({"fault": "kill", "processes": ["edge-a"], "for_s": 5})
    assert kept.http.put(f"{kept.url}/faults/d-1", content=body, headers=page).status_code == 403
    kept.put("d-1", fault="stop", processes=["edge-a"], for_s=60)
    assert kept.put("d-1", fault="kill", processes=["edge-a"], for_s=5).status_code == 409
    assert all(kept.lives(name) for name in ("bus-a", "prober-a"))


@pytest.mark.parametrize("which", ["inner", "outer"])
def test_killing_either_keeper_undoes_everything(kept: Kept, which: str) -> None:
    """The inner one is started again and undoes what is on file; without the outer one the inner undoes and ends."""
    kept.put("d-1", fault="stop", processes=["edge-a"], for_s=250)
    kept.put("d-2", fault="kill", processes=["prober-a"], for_s=250)
    inner, outer = kept.inner(), kept.record("keeper").pid
    assert outer is not None
    os.kill(inner if which == "inner" else outer, signal.SIGKILL)
    until("both live", lambda: kept.lives("edge-a") and kept.lives("prober-a"))
    until("nothing is on file", lambda: not read_file(kept.state_dir).faults)
    if which == "inner":
        until("it listens again", lambda: not free(kept.port))
        assert kept.faults() == []
    else:
        until("the inner one ends", lambda: not Path(f"/proc/{inner}").exists())
        kept.start("keeper")


def test_when_both_are_killed_the_file_tells_the_next(kept: Kept) -> None:
    """Nobody is left to undo it: `undo_file`, which a runner calls, does; so does the next keeper."""
    kept.put("d-1", fault="stop", processes=["edge-a"], for_s=250)
    kept.put("d-2", fault="stop", processes=["bus-a"], for_s=250)
    inner, outer = kept.inner(), kept.record("keeper").pid
    assert outer is not None
    os.kill(outer, signal.SIGSTOP)  # or it would start the inner one again, or the inner one undo
    os.kill(inner, signal.SIGKILL)
    os.kill(outer, signal.SIGKILL)
    until("both are gone", lambda: not kept.record("keeper").alive)
    assert kept.state("edge-a") == kept.state("bus-a") == "T"
    assert undo_file(kept.state_dir, "d-1") == ["d-1"]
    assert kept.lives("edge-a")
    assert kept.state("bus-a") == "T"
    kept.start("keeper")
    until("the rest is undone", lambda: kept.lives("bus-a"))


def test_the_end_of_the_keeper_is_the_end_of_its_faults(kept: Kept) -> None:
    """TERM undoes everything first; in a stack that was taken down it starts nothing."""
    kept.put("d-1", fault="kill", processes=["edge-a"], for_s=250)
    stop_all([kept.record("keeper")], grace_s=10.0, launcher=kept.stack.launcher)
    assert kept.lives("edge-a")
    kept.start("keeper")
    kept.put("d-1", fault="kill", processes=["edge-a"], for_s=250)
    with kept.stack.locked():
        assert not kept.stack.stop(grace_s=10.0)
    assert not any(record.alive for record in kept.stack.file.processes)
