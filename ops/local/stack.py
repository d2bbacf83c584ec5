"""A local stack as its state directory tells it: `stack.json`, and who may change it.

.leeward/
  stack.json      every process: command, ports, pid and start time
  .lock           held by whoever changes the stack
  nodes/*.yaml    what each process was started from
  data/           what the processes keep, by id; survives `down`
  keeper/         faults in force, as the keeper wrote them down
  logs/<id>.log
"""

import contextlib
import fcntl
import os
import signal
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from ops.errors import Bad, Usage
from ops.local.processes import Kind, Launcher, ProcessRecord, start_time, stop_all
from shared.vocabulary.base import Message

DEFAULT_STATE_DIR = Path(".leeward")
LOCK_WAIT_S = 10.0
GRACE_S = 12.0
"""Between TERM and KILL: above the `drain_s` of the nodes."""

_STOP_ORDER = (Kind.PROBER, Kind.EDGE, Kind.CONTROL_PLANE, Kind.TARGETS, Kind.BUS, Kind.ETCD, Kind.KEEPER)
"""Whoever needs others goes before them: a leader resigns while etcd still answers."""


class StackFile(Message):
    """`stack.json`."""

    schema_version: Literal[1] = 1
    state: Literal["starting", "running", "stopped"]
    detached: bool
    supervisor_pid: int | None = None
    """The `leeward up` that starts it or, in the foreground, watches it."""
    supervisor_started: float | None = None
    port_base: int
    regions: tuple[str, ...]
    simulated: bool
    fleet_sha: str
    processes: tuple[ProcessRecord, ...]


class Stack:
    """One local stack. Reads show what is recorded now, by whichever command; changes need `locked`."""

    def __init__(self, state_dir: Path, *, lock_wait_s: float = LOCK_WAIT_S) -> None:
        self.state_dir = state_dir.resolve()
        self._lock_wait_s = lock_wait_s
        self.launcher = Launcher()

    @classmethod
    def find(cls, state_dir: Path) -> "Stack":
        """The stack in `state_dir`; raises Usage when there is none."""
        stack = cls(state_dir)
        if stack.read() is None:
            raise Usage(f"no stack in {state_dir}: start one with `leeward up`, or name another --state-dir")
        return stack

    def read(self) -> StackFile | None:
        """What is recorded; None when nothing is. Raises Bad for a file that makes no sense."""
        try:
            return StackFile.model_validate_json((self.state_dir / "stack.json").read_bytes())
        except FileNotFoundError:
            return None
        except ValidationError:
            raise Bad(f"{self.state_dir / 'stack.json'} is damaged; remove it to start afresh") from None

    @property
    def file(self) -> StackFile:
        """What is recorded; raises Usage when nothing is."""
        found = self.read()
        if found is None:
            raise Usage(f"no stack in {self.state_dir}")
        return found

    def write(self, file: StackFile) -> None:
        """Record it, in one step that cannot leave half a file."""
        target = self.state_dir / "stack.json"
        scratch = target.with_suffix(".tmp")
        scratch.write_text(file.model_dump_json(indent=1) + "\n")
        scratch.chmod(0o600)
        scratch.replace(target)

    @contextlib.contextmanager
    def locked(self, wait_s: float | None = None) -> Iterator[None]:
        """Only one command changes a stack at a time; raises Bad when another does not finish in time."""
        self.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        deadline = time.monotonic() + (self._lock_wait_s if wait_s is None else wait_s)
        with (self.state_dir / ".lock").open("w") as lock:
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() >= deadline:
                        raise Bad(f"another command is changing the stack in {self.state_dir}") from None
                    time.sleep(0.1)
            yield

    # ------------------------------------------------------------ choosing

    def select(self, names: Sequence[str], only: Iterable[Kind] | None = None) -> list[ProcessRecord]:
        """The processes that `names` (regions or process ids) mean, of the kinds in `only`.

        Raises Usage for a name that means nothing.
        """
        file = self.file
        kinds = set(only) if only is not None else set(Kind)
        ids = {record.id for record in file.processes}
        for name in names:
            if name not in ids and name not in file.regions:
                raise Usage(
                    f"no region or process {name!r}; regions: {', '.join(file.regions)}; "
                    f"processes: {', '.join(sorted(ids))}"
                )
        return [
            record
            for record in file.processes
            if (record.id in names or (record.region in names and record.kind is not Kind.KEEPER))
            and record.kind in kinds
        ]

    def keeper(self) -> ProcessRecord | None:
        """The process that undoes faults; a stack started by an older version has none."""
        return next((record for record in self.file.processes if record.kind is Kind.KEEPER), None)

    def running(self) -> bool:
        """Whether somebody still answers for this stack: its `leeward up`, or, once detached, any of
        its processes. What a crashed `up` left behind does not count."""
        file = self.read()
        if file is None or file.state == "stopped":
            return False
        if self.supervised():
            return True
        return file.state == "running" and file.detached and any(record.alive for record in file.processes)

    def supervised(self) -> bool:
        """Whether another `leeward up` is in charge of it."""
        file = self.read()
        return (
            file is not None
            and file.supervisor_pid is not None
            and file.supervisor_pid != os.getpid()
            and start_time(file.supervisor_pid) == file.supervisor_started
        )

    # ------------------------------------------------------------ changing (call inside `locked`)

    def launch(self, records: Iterable[ProcessRecord]) -> list[ProcessRecord]:
        """Start those that do not run, recording each as soon as it does."""
        started = []
        for record in records:
            if not record.alive:
                try:
                    launched = self.launcher.launch(record)
                except OSError as error:
                    raise Bad(f"{record.id} cannot be started: {error}") from None
                self.note(launched)
                started.append(launched)
        return started

    def send(self, records: Iterable[ProcessRecord], number: signal.Signals) -> list[ProcessRecord]:
        """Signal those that run, and give them; after KILL, wait until they are gone."""
        reached = [record for record in records if record.send(number)]
        if number is signal.SIGKILL:
            stop_all(reached, grace_s=2.0, launcher=self.launcher, hurry=True)
        return reached

    def stop(self, *, grace_s: float = GRACE_S, hurry: bool = False) -> list[ProcessRecord]:
        """End everything, in an order that lets each finish properly; gives those that had to be killed."""
        killed = []
        for group in _stop_groups(self.file.processes):
            killed += stop_all(group, grace_s=grace_s, launcher=self.launcher, hurry=hurry)
        stopped = tuple(
            record.model_copy(update={"pid": None, "started": None}) for record in self.file.processes
        )
        self.write(
            self.file.model_copy(
                update={
                    "state": "stopped",
                    "processes": stopped,
                    "supervisor_pid": None,
                    "supervisor_started": None,
                }
            )
        )
        return killed

    def note(self, changed: ProcessRecord) -> None:
        """Record one process anew."""
        file = self.file
        processes = tuple(changed if record.id == changed.id else record for record in file.processes)
        self.write(file.model_copy(update={"processes": processes}))


def _stop_groups(processes: Sequence[ProcessRecord]) -> Iterator[list[ProcessRecord]]:
    """Who is stopped at once. etcd members go one by one: a leader hands over to a member that stays,
    and would wait seven seconds for one that is leaving too."""
    for kind in _STOP_ORDER:
        group = [record for record in processes if record.kind is kind]
        if kind is Kind.ETCD:
            yield from ([record] for record in group)
        else:
            yield group
