"""What becomes of a fault that could not be done."""

import asyncio
import os
import signal
from collections.abc import Iterable
from pathlib import Path

import pytest

from ops.errors import Bad
from ops.keeper.faults import FaultOrder, Faults, read_file
from ops.local.processes import Kind, ProcessRecord, start_time
from ops.local.stack import Stack, StackFile
from shared.clock import SystemClock
from shared.supervise import Supervisor

STOP = FaultOrder(fault="stop", processes=("edge-a",), for_s=300.0)


class FullDisk(Stack):
    """A stack of one process, this one, which no signal reaches. The first `failing` signals, one after
    the other, raise what a full disk does, though they were sent."""

    def __init__(self, state_dir: Path, *, failing: int) -> None:
        super().__init__(state_dir)
        self.failing = failing
        self.sent: list[signal.Signals] = []
        record = ProcessRecord(
            id="edge-a",
            kind=Kind.EDGE,
            region="a",
            argv=("true",),
            cwd=str(state_dir),
            log=str(state_dir / "log"),
            ports={},
            pid=os.getpid(),
            started=start_time(os.getpid()),
        )
        self.write(
            StackFile(
                state="running",
                detached=True,
                port_base=20_000,
                regions=("a",),
                simulated=True,
                fleet_sha="",
                processes=(record,),
            )
        )

    def send(self, records: Iterable[ProcessRecord], number: signal.Signals) -> list[ProcessRecord]:
        self.sent.append(number)
        if len(self.sent) <= self.failing:
            raise OSError(28, "No space left on device")
        return list(records)


@pytest.mark.parametrize("failing", [1, 2])
async def test_what_was_half_done_is_undone(tmp_path: Path, failing: int) -> None:
    """Whatever went wrong, and at once, not after its time to live; again, when the undoing fails so too."""
    stack = FullDisk(tmp_path, failing=failing)
    faults = Faults(stack, clock=SystemClock())
    with pytest.raises(OSError, match="No space left"):
        await faults.put("d-1", STOP)
    (held,) = faults.shown()
    assert (held["state"], held["remaining_s"]) == ("undoing", 0.0)
    assert [written.id for written in read_file(tmp_path).faults] == ["d-1"]
    for _ in range(failing - 1):
        with pytest.raises(Bad, match="No space left"):
            await faults.drop("d-1")
    async with Supervisor() as supervisor, asyncio.timeout(20):
        supervisor.start("faults", faults.run)
        while faults.shown() or read_file(tmp_path).faults:
            await asyncio.sleep(0)
    assert stack.sent == [signal.SIGSTOP, *[signal.SIGCONT] * failing]


async def test_what_could_not_be_written_down_is_not_done(tmp_path: Path) -> None:
    """And leaves no fault behind that nobody ends."""
    stack = FullDisk(tmp_path, failing=0)
    faults = Faults(stack, clock=SystemClock())
    (tmp_path / "keeper").write_text("in the way of a folder")
    with pytest.raises(Bad, match="cannot be kept"):
        await faults.put("d-1", STOP)
    assert faults.shown() == []
    assert stack.sent == []
