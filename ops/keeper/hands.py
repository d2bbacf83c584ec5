"""What the keeper does to processes, and how each is undone. Everything here blocks, and changes the
stack only under its lock, as `leeward kill` and `start` do.

kill          SIGKILL; undone by starting them from their records
stop          SIGSTOP; undone by SIGCONT
partition     of etcd members, buses and targets, which others talk to: SIGSTOP as well. To its peers a stopped
              server is what one behind a lost link is, half open: the kernel takes connections, nothing
              is answered. It is not a partition to itself: it does not go on alone meanwhile, and hears
              all it missed afterwards. Hence not for what decides by itself (control plane, prober,
              edge): links between those need proxies or a firewall
clock_skew    of our own processes: started again with their wall clock off. Undone the same way, so
              that both ends are a restart
"""

import signal
from collections.abc import Collection, Iterable, Sequence

from ops.errors import Bad
from ops.local.processes import Kind, ProcessRecord, stop_all
from ops.local.stack import Stack, StackFile
from shared.clock import SKEW_VARIABLE

RESTART_GRACE_S = 3.0
"""Between TERM and KILL where a process is started again with another clock."""

_PASSIVE = frozenset({Kind.ETCD, Kind.BUS, Kind.TARGETS})
_OURS = frozenset({Kind.CONTROL_PLANE, Kind.EDGE, Kind.PROBER, Kind.TARGETS})


class Impossible(Bad):
    """These processes cannot suffer this fault; nothing was done."""


def check(stack: Stack, fault: str, processes: Sequence[str]) -> tuple[str, ...]:
    """Those of `processes` that run, which the fault will reach. Raises Impossible."""
    file = stack.file
    if file.state != "running":
        raise Impossible(f"the stack is {file.state}: `leeward up` starts it")
    records = _records(file, processes)
    if unknown := sorted(set(processes) - {record.id for record in records}):
        known = ", ".join(sorted(record.id for record in file.processes if record.kind is not Kind.KEEPER))
        raise Impossible(f"processes: no {', '.join(unknown)} here; there are {known}")
    able = {"partition": _PASSIVE, "clock_skew": _OURS}.get(fault, set(Kind) - {Kind.KEEPER})
    if unable := [record.id for record in records if record.kind not in able]:
        kinds = ", ".join(sorted(kind.value for kind in able))
        raise Impossible(f"processes: {', '.join(unable)} cannot suffer {fault}; it is for {kinds}")
    struck = tuple(record.id for record in records if record.alive)
    if not struck:
        raise Impossible("processes: none of them runs")
    return struck


def do(stack: Stack, fault: str, processes: Sequence[str], *, skew_s: float | None) -> None:
    """Break them. Raises Bad."""
    with stack.locked():
        records = _records(stack.file, processes)
        if fault == "kill":
            stack.send(records, signal.SIGKILL)
        elif fault == "clock_skew":
            _restart(stack, records, skew_s)
        else:
            stack.send(records, signal.SIGSTOP)


def undo(
    stack: Stack,
    fault: str,
    processes: Sequence[str],
    *,
    leave_dead: Collection[str] = (),
    lock_wait_s: float | None = None,
) -> None:
    """Make them as they were; those of `leave_dead` that do not run are not started. Raises Bad.

    In a stack that was taken down there is nothing to undo.
    """
    with stack.locked(lock_wait_s):
        file = stack.read()
        if file is None or file.state == "stopped":
            return
        records = _records(file, processes)
        if fault == "clock_skew":
            _restart(stack, records, None, leave_dead=leave_dead)
        elif fault == "kill":
            stack.launch(record for record in records if record.id not in leave_dead)
        else:
            stack.send(records, signal.SIGCONT)


def _restart(
    stack: Stack, records: Sequence[ProcessRecord], skew_s: float | None, *, leave_dead: Collection[str] = ()
) -> None:
    """Start them again with the wall clock off by `skew_s`, or right when None."""
    stop_all(records, grace_s=RESTART_GRACE_S, launcher=stack.launcher)
    for record in records:
        env = {name: value for name, value in record.env.items() if name != SKEW_VARIABLE}
        if skew_s is not None:
            env[SKEW_VARIABLE] = repr(skew_s)
        changed = record.model_copy(update={"env": env})
        if record.id in leave_dead:
            stack.note(changed)
        else:
            stack.launch([changed])


def _records(file: StackFile, processes: Iterable[str]) -> list[ProcessRecord]:
    """In the stack's own order: what others need comes first."""
    wanted = set(processes)
    return [record for record in file.processes if record.id in wanted]
