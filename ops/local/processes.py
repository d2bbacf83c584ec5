"""The processes of a local stack: what is recorded of each, so that any later command can find,
signal and restart exactly them.

A pid alone does not name a process, for pids are used again; the pid with its start time does.
Nothing here signals a process whose start time differs from the record.
"""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path

from pydantic import Field

from shared.clock import SKEW_VARIABLE, STACK_VARIABLE
from shared.vocabulary.base import Id, Message

POLL_S = 0.05


class Kind(StrEnum):
    """What a process is; the words of `--only`."""

    ETCD = "etcd"
    BUS = "bus"
    CONTROL_PLANE = "control-plane"
    PROBER = "prober"
    EDGE = "edge"
    TARGETS = "targets"
    """A simulated model endpoint."""
    KEEPER = "keeper"
    """Undoes what drills break. Of no region, and not one of the words of `--only`."""


class ProcessRecord(Message):
    """One process of a stack, running or not."""

    id: Id
    kind: Kind
    region: Id
    argv: tuple[str, ...]
    env: Mapping[str, str] = Field(default_factory=dict)
    """Set on top of the environment of whoever starts it."""
    cwd: str
    log: str
    """File that takes its output."""
    ports: Mapping[str, int]
    """By name: `listen`, `admin`, `client`, `peer`."""
    url: str | None = None
    admin_url: str | None = None
    pid: int | None = None
    started: float | None = None
    """When `pid` began, as the system counts it (see `start_time`)."""

    @property
    def alive(self) -> bool:
        """Whether the very process recorded here runs. One that ended but was not yet collected does
        not; one that is stopped does."""
        return self.pid is not None and self.started is not None and start_time(self.pid) == self.started

    def send(self, number: signal.Signals) -> bool:
        """Signal it; False when it runs no longer."""
        if not self.alive or self.pid is None:
            return False
        try:
            os.kill(self.pid, number)
        except ProcessLookupError:
            return False
        return True


class Launcher:
    """Starts processes, and collects those of its own that ended, so that none stays a zombie."""

    def __init__(self) -> None:
        self._children: dict[int, subprocess.Popen[bytes]] = {}

    def launch(self, record: ProcessRecord) -> ProcessRecord:
        """Start it in a session of its own (a Ctrl-C at the terminal must not reach it before the
        stack stops things in order); returns the record with its pid.

        Raises OSError when there is no such program.
        """
        log = Path(record.log)
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            child = subprocess.Popen(
                record.argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=record.cwd,
                env=_environment(record),
                start_new_session=True,
            )
        self._children[child.pid] = child
        return record.model_copy(update={"pid": child.pid, "started": start_time(child.pid)})

    def collect(self) -> None:
        """Take leave of own children that ended."""
        for pid in [pid for pid, child in self._children.items() if child.poll() is not None]:
            del self._children[pid]

    def release(self) -> None:
        """Leave the remaining ones to the system: they outlive this process."""
        for child in self._children.values():
            child.returncode = 0  # silences the warning that it still runs, which is what we want
        self._children.clear()


def start_time(pid: int) -> float | None:
    """When `pid` began, in a unit of the system's own; None when no such process runs.

    On Linux in clock ticks since boot, which no step of the wall clock changes.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return None if Path("/proc/self/stat").exists() else _start_time_elsewhere(pid)
    except ProcessLookupError:
        return None
    # `pid (comm) state ppid …`; comm may hold anything, a bracket included (proc_pid_stat(5)).
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZXx" else float(fields[19])


def _environment(record: ProcessRecord) -> dict[str, str]:
    """The caller's environment, less what the program would mistake for its own settings."""
    from ops.local import bus, etcd

    inherited = dict(os.environ)
    if record.kind is Kind.ETCD:
        inherited = etcd.member_env(inherited)
    elif record.kind is Kind.BUS:
        inherited = bus.broker_env(inherited)
    inherited.pop(SKEW_VARIABLE, None)
    return {**inherited, STACK_VARIABLE: record.cwd, **record.env}


def _start_time_elsewhere(pid: int) -> float | None:
    import psutil

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else process.create_time()
    except psutil.Error:
        return None


def stop_all(
    records: Iterable[ProcessRecord], *, grace_s: float, launcher: Launcher | None = None, hurry: bool = False
) -> list[ProcessRecord]:
    """End them: TERM, then KILL for those that are still there after `grace_s` (at once when
    `hurry`). Returns once none runs, at most about 5 s after the KILL; gives those that were killed."""
    waiting = [record for record in records if record.alive]
    for record in waiting:
        record.send(signal.SIGKILL if hurry else signal.SIGTERM)
        record.send(signal.SIGCONT)  # a stopped process hears TERM only when it goes on
    waiting = _await_end(waiting, grace_s, launcher)
    for record in waiting:
        record.send(signal.SIGKILL)
    _await_end(waiting, 5.0, launcher)
    return waiting


def _await_end(
    records: Sequence[ProcessRecord], timeout_s: float, launcher: Launcher | None
) -> list[ProcessRecord]:
    deadline = time.monotonic() + timeout_s
    while True:
        if launcher:
            launcher.collect()
        records = [record for record in records if record.alive]
        if not records or time.monotonic() >= deadline:
            return list(records)
        time.sleep(POLL_S)


def log_tail(record: ProcessRecord, *, lines: int = 12, limit: int = 16_384) -> list[str]:
    """The last lines of its log, read from at most the last `limit` bytes."""
    with contextlib.suppress(OSError), Path(record.log).open("rb") as log:
        size = log.seek(0, os.SEEK_END)
        log.seek(max(0, size - limit))
        return log.read().decode(errors="replace").splitlines()[-lines:]
    return []
