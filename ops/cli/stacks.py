"""Commands that change the local stack: `up`, `down`, `kill`, `start`."""

import asyncio
import json
import os
import shlex
import signal
import time
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ops.cli.failures import complain
from ops.cli.output import STATE_DIR, StateDirOption
from ops.errors import Bad, Usage
from ops.local import ports
from ops.local.nodes import Blueprint
from ops.local.processes import Kind, ProcessRecord, stop_all
from ops.local.stack import DEFAULT_STATE_DIR, GRACE_S, Stack
from shared.clock import SystemClock
from shared.signals import ended_by_signal

LISTEN_TIMEOUT_S = 10.0

OnlyOption = Annotated[
    str | None,
    typer.Option("--only", help="Comma list of etcd, bus, control-plane, prober, edge, targets."),
]
NamesArgument = Annotated[
    list[str], typer.Argument(metavar="REGION|PROCESS...", help="All of them, at once.")
]


class Signal(StrEnum):
    """What `kill` may send."""

    KILL = "KILL"
    TERM = "TERM"
    STOP = "STOP"
    CONT = "CONT"


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command("up")(up)
    app.command("down")(down)
    app.command("kill")(kill)
    app.command("start")(start)


def up(
    detach: Annotated[bool, typer.Option("--detach", help="Return once it is ready.")] = False,
    state_dir: StateDirOption = STATE_DIR,
    port_base: Annotated[
        int, typer.Option(min=1024, max=65_535 - ports.BLOCK, help=f"It uses {ports.BLOCK} ports from here.")
    ] = 7000,
    regions: Annotated[
        str | None, typer.Option(help="Comma list; us-east,eu-west,ap-south or the file's when absent.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="Your fleet instead of the built-in one; no simulators then.")
    ] = None,
) -> int:
    """Start a whole multi-region stack on this machine."""
    from ops.local.up import blueprint

    chosen = [part.strip() for part in regions.split(",") if part.strip()] if regions is not None else None
    if chosen == []:
        raise Usage("--regions names no region")
    plan = blueprint(state_dir=state_dir, port_base=port_base, regions=chosen, config=config)
    return asyncio.run(_up(plan, detach=detach))


async def _up(plan: Blueprint, *, detach: bool) -> int:
    from ops.local.up import start as bring_up

    with ended_by_signal(signal.SIGHUP) as stop:
        begun = time.monotonic()
        stack = await bring_up(plan, detached=detach, say=_say, stop=stop)
        _say(_welcome(plan, time.monotonic() - begun))
        if detach:
            stack.launcher.release()
            return 0
        from ops.local.live import watch

        try:
            await watch(stack, stop)
        finally:
            await _take_down(stack)
    return 0


async def _take_down(stack: Stack) -> None:
    """Stop in order; one more Ctrl-C kills what is left at once."""
    if stack.file.state == "stopped":
        return
    _say("stopping; once more Ctrl-C to kill")
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, lambda: stop_all(stack.file.processes, grace_s=0, hurry=True))

    def stop() -> list[ProcessRecord]:
        with stack.locked():
            return stack.stop()

    _tell_killed(await asyncio.to_thread(stop))


def down(state_dir: StateDirOption = STATE_DIR) -> None:
    """Stop the local stack. What its processes keep stays, for the next `up`."""
    stack = Stack.find(state_dir)
    running = sum(record.alive for record in stack.file.processes)
    if stack.supervised():
        _ask_supervisor(stack)
    with stack.locked():
        _tell_killed(stack.stop())
    _say(f"stopped {running} processes" if running else "nothing ran")


def _ask_supervisor(stack: Stack) -> None:
    """Let the foreground `up` do it, so that it does not watch a stack vanish."""
    pid = stack.file.supervisor_pid
    if pid is None:
        return
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + 3 * GRACE_S
    while stack.supervised() and stack.file.state != "stopped" and time.monotonic() < deadline:
        time.sleep(0.1)


def kill(
    names: NamesArgument,
    only: OnlyOption = None,
    send: Annotated[Signal, typer.Option("--signal", case_sensitive=False)] = Signal.KILL,
    state_dir: StateDirOption = STATE_DIR,
) -> None:
    """Kill processes of the local stack, at once and without warning. Says when, to the millisecond."""
    stack = Stack.find(state_dir)
    chosen = stack.select(names, _kinds(only))
    with stack.locked():
        at = _now()
        reached = stack.send(chosen, signal.Signals[f"SIG{send.value}"])
    for record in chosen:
        _say(f"{send.value} {record.id} at {at}" if record in reached else f"{record.id} does not run")


def start(names: NamesArgument, only: OnlyOption = None, state_dir: StateDirOption = STATE_DIR) -> None:
    """Start processes of the local stack again, as they were."""
    stack = Stack.find(state_dir)
    with stack.locked():
        if stack.file.state == "stopped":
            raise Bad("the stack is down: `leeward up` starts it")
        chosen = stack.select(names, _kinds(only))
        at = _now()
        started = stack.launch(chosen)
    for record in chosen:
        new = next((each for each in started if each.id == record.id), None)
        _say(f"started {record.id}, pid {new.pid}, at {at}" if new else f"{record.id} runs already")
    _await_listening(started)
    _tell_leftovers(stack)
    stack.launcher.release()


def _tell_leftovers(stack: Stack) -> None:
    """Faults whose keeper was killed with everything that would have undone them."""
    from ops.keeper.faults import read_file

    keeper = stack.keeper()
    if keeper is not None and not keeper.alive and (left := read_file(stack.state_dir).faults):
        names = ", ".join(f"{each.fault} of {', '.join(each.processes)}" for each in left)
        complain(f"the keeper is dead and has left {names}: `leeward start keeper` undoes it")


def _await_listening(started: Sequence[ProcessRecord]) -> None:
    """Wait until each listens. Raises Bad when one ends instead; one that only takes long is told of."""
    from ops.local.up import last_words

    waiting = list(started)
    deadline = time.monotonic() + LISTEN_TIMEOUT_S
    while waiting and time.monotonic() < deadline:
        for record in tuple(waiting):
            if not record.alive:
                raise Bad(f"{record.id} ended while starting{last_words(record)}")
            if all(ports.answers(port) for port in record.ports.values()):
                waiting.remove(record)
        time.sleep(0.05)
    for record in waiting:
        complain(f"{record.id} runs, pid {record.pid}, but does not listen yet; see {record.log}")


def _kinds(only: str | None) -> list[Kind] | None:
    if only is None:
        return None
    words = [word.strip() for word in only.split(",") if word.strip()]
    known = [kind.value for kind in Kind if kind is not Kind.KEEPER]
    if not words or (unknown := [word for word in words if word not in known]):
        raise Usage(f"--only takes {', '.join(known)}; not {', '.join(unknown) if words else 'nothing'}")
    return [Kind(word) for word in words]


def _welcome(plan: Blueprint, seconds: float) -> str:
    """What is where, and a first request to try."""
    width = max(len(region) for region in plan.regions)
    lines = [f"leeward is up after {seconds:.1f} s"]
    for region in plan.regions:
        at = plan.ports(region)
        lines.append(
            f"  {region:<{width}}  edge http://{ports.HOST}:{at.edge}"
            f"  control plane http://{ports.HOST}:{at.control_plane}"
        )
    edge = f"http://{ports.HOST}:{plan.ports(plan.regions[0]).edge}"
    model = next((name for route in plan.fleet.routes for name in route.match.models), "MODEL")
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "hello"}]})
    key, quote = ("dev", "'") if plan.simulated else ("$LEEWARD_KEY", '"')
    elsewhere = plan.state_dir != DEFAULT_STATE_DIR.resolve()
    where = f" --state-dir {shlex.quote(str(plan.state_dir))}" if elsewhere else ""
    return "\n".join(
        [
            *lines,
            "try it:",
            f"  curl -i {edge}/v1/chat/completions -H {quote}authorization: Bearer {key}{quote} \\",
            f"    -H 'content-type: application/json' -d '{body}'",
            f"  leeward status{where}",
        ]
    )


def _tell_killed(killed: Sequence[ProcessRecord]) -> None:
    if killed:
        complain(f"had to kill {', '.join(record.id for record in killed)}")


def _now() -> str:
    return SystemClock().now().isoformat(timespec="milliseconds")


def _say(line: str) -> None:
    print(line, flush=True)
