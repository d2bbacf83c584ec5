"""`leeward up`: from nothing to a stack in which every edge serves a confirmed decision."""

import asyncio
import os
import shutil
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

from ops.client import edge_state, open_client
from ops.errors import Bad, OpsError, Usage
from ops.local import bus, etcd, nodes, ports
from ops.local.nodes import Blueprint
from ops.local.processes import Kind, ProcessRecord, log_tail, start_time
from ops.local.stack import GRACE_S, Stack, StackFile
from shared.vocabulary.base import canonical_json, sha256_hex
from shared.vocabulary.node import Credential

READY_TIMEOUT_S = 60.0
"""Far above what a start takes, so that only a stack that never gets ready meets it."""
_POLL_S = 0.1


class Interrupted(OpsError):
    """Somebody asked to stop before the stack was ready."""

    exit_code = 130


def blueprint(
    *, state_dir: Path, port_base: int, regions: Sequence[str] | None, config: Path | None
) -> Blueprint:
    """What to build, from the command line. Raises Usage for what makes no sense, ConfigError for a
    faulty `config`."""
    from ops.local.fleet import REGIONS, local_fleet

    if config is None:
        chosen = tuple(regions) if regions else REGIONS
        try:
            fleet = local_fleet(chosen, port_base=port_base)
        except ValueError as error:
            raise Usage(f"--regions: {error}") from None
        credentials: Mapping[str, Credential] = {}
    else:
        from shared.config_file import load_fleet

        fleet, credentials = load_fleet(config), _credentials(config)
        known = tuple(region.id for region in fleet.regions)
        chosen = tuple(regions) if regions else known
        if unknown := [region for region in chosen if region not in known]:
            raise Usage(f"--regions: {config} has no region {', '.join(unknown)}; it has {', '.join(known)}")
    plan = Blueprint(
        state_dir=state_dir.resolve(),
        port_base=port_base,
        regions=chosen,
        fleet=fleet,
        simulated=config is None,
        credentials=credentials,
    )
    for region in chosen:
        plan.ports(region)  # refuses a block that does not fit, before anything starts
    return plan


def _credentials(config: Path) -> Mapping[str, Credential]:
    """Those of the file's `node:`, when it has one: the stack's probers and edges need them as well."""
    import yaml

    from shared.config_file import load

    content = yaml.safe_load(config.read_text())
    return load(config).node.credentials if isinstance(content, dict) and "node" in content else {}


async def start(plan: Blueprint, *, detached: bool, say: Callable[[str], None], stop: asyncio.Event) -> Stack:
    """Start everything and wait until it is ready; when that fails, stop what was started.

    Raises Bad with the process at fault and its last log lines, Interrupted when `stop` was set.
    Call with nobody holding the lock; holds it meanwhile.
    """
    stack = Stack(plan.state_dir)
    with stack.locked():
        _make_room(stack, say)
        records = nodes.records(plan)
        ports.require_free((record.id, port) for record in records for port in record.ports.values())
        _prepare(stack, plan, records, detached=detached, say=say)
        try:
            await _bring_up(stack, stop, say)
        except BaseException:
            await asyncio.to_thread(stack.stop, grace_s=3.0)
            raise
        supervised = not detached
        stack.write(
            stack.file.model_copy(
                update={
                    "state": "running",
                    "supervisor_pid": os.getpid() if supervised else None,
                    "supervisor_started": start_time(os.getpid()) if supervised else None,
                }
            )
        )
    return stack


def _make_room(stack: Stack, say: Callable[[str], None]) -> None:
    """Refuse beside a stack that runs; clear away what a crashed one left."""
    previous = stack.read()
    if previous is None:
        return
    if stack.running():
        raise Bad(
            f"a stack already runs in {stack.state_dir}: `leeward down` stops it; "
            "another --state-dir and --port-base start a second one"
        )
    leftovers = [record.id for record in previous.processes if record.alive]
    if leftovers:
        say(f"stopping what an earlier stack left running: {', '.join(leftovers)}")
        stack.stop(grace_s=GRACE_S)


def _prepare(
    stack: Stack,
    plan: Blueprint,
    records: Sequence[ProcessRecord],
    *,
    detached: bool,
    say: Callable[[str], None],
) -> None:
    """Write the node files and the record; forget an etcd whose cluster or fleet was another one."""
    fleet_sha = sha256_hex(canonical_json(plan.fleet.model_dump(mode="json")))
    previous = stack.read()
    if previous is not None and (previous.fleet_sha, previous.port_base, previous.regions) != (
        fleet_sha,
        plan.port_base,
        plan.regions,
    ):
        say("regions, ports or fleet differ from the last start: etcd begins empty")
        for folder in (plan.state_dir / "data").glob("etcd-*"):
            shutil.rmtree(folder)
    nodes.write_node_files(plan)
    (plan.state_dir / "keeper" / "faults.json").unlink(missing_ok=True)  # they ended with their processes
    for record in records:
        Path(record.log).unlink(missing_ok=True)
        if record.kind is Kind.ETCD:
            (plan.state_dir / "data" / record.id).mkdir(parents=True, exist_ok=True, mode=0o700)
    stack.write(
        StackFile(
            state="starting",
            detached=detached,
            supervisor_pid=os.getpid(),
            supervisor_started=start_time(os.getpid()),
            port_base=plan.port_base,
            regions=plan.regions,
            simulated=plan.simulated,
            fleet_sha=fleet_sha,
            processes=tuple(records),
        )
    )


async def _bring_up(stack: Stack, stop: asyncio.Event, say: Callable[[str], None]) -> None:
    first = (Kind.KEEPER, Kind.ETCD, Kind.BUS, Kind.TARGETS)
    begun = time.monotonic()
    stack.launch(record for record in stack.file.processes if record.kind in first)
    await _until(stack, stop, _foundations_up, "etcd and the buses")
    say(f"etcd and buses up after {time.monotonic() - begun:.1f} s")
    stack.launch(record for record in stack.file.processes if record.kind not in first)
    await _until(stack, stop, _edges_confirmed, "the edges' first confirmed decision")
    say(f"ready after {time.monotonic() - begun:.1f} s")


async def _until(
    stack: Stack,
    stop: asyncio.Event,
    missing: Callable[[Sequence[ProcessRecord]], Awaitable[list[ProcessRecord]]],
    what: str,
) -> None:
    """Poll `missing` until it has nothing left; meanwhile every process started must stay alive."""
    deadline = time.monotonic() + READY_TIMEOUT_S
    while True:
        processes = stack.file.processes
        stack.launcher.collect()
        for record in processes:
            if record.pid is not None and not record.alive:
                raise Bad(f"{record.id} ended while starting{last_words(record)}")
        left = await missing(processes)
        if not left:
            return
        if stop.is_set():
            raise Interrupted("interrupted")
        if time.monotonic() >= deadline:
            culprits = "".join(f"\n{record.id}: not ready{last_words(record)}" for record in left)
            raise Bad(f"gave up after {READY_TIMEOUT_S:.0f} s waiting for {what}{culprits}")
        await asyncio.sleep(_POLL_S)


async def _foundations_up(processes: Sequence[ProcessRecord]) -> list[ProcessRecord]:
    """Those of the keeper, etcd and the buses that do not answer yet."""

    async def answers(record: ProcessRecord) -> bool:
        if record.kind is Kind.ETCD:
            return await etcd.is_up(record.ports["client"])
        if record.kind is Kind.KEEPER:
            return await asyncio.to_thread(ports.answers, record.ports["listen"])
        return await bus.is_up(record.ports["listen"])

    needed = [record for record in processes if record.kind in (Kind.KEEPER, Kind.ETCD, Kind.BUS)]
    up = await asyncio.gather(*(answers(record) for record in needed))
    return [record for record, answered in zip(needed, up, strict=True) if not answered]


async def _edges_confirmed(processes: Sequence[ProcessRecord]) -> list[ProcessRecord]:
    """The edges that do not yet serve a decision confirmed by a Beat."""
    edges = [record for record in processes if record.kind is Kind.EDGE]
    async with open_client() as client:
        states = await asyncio.gather(*(edge_state(client, edge.admin_url or "") for edge in edges))
    return [edge for edge, state in zip(edges, states, strict=True) if state is None or not state.confirmed]


def last_words(record: ProcessRecord) -> str:
    """The end of its log, indented below a message that introduces it."""
    lines = log_tail(record)
    if not lines:
        return f" (its log {record.log} is empty)"
    return f"; the end of {record.log}:\n" + "\n".join(f"    {line}" for line in lines)
