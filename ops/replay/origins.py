"""Whose buses are read: a control plane's node file names all of them, with how to log in; the local
stack has such files; and where there is none, the command line says `region=host:port`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from ops.errors import Usage
from ops.local.processes import Kind
from ops.local.stack import Stack
from shared.config_file import load
from shared.vocabulary.node import BusAddress, Timings

FETCH_WAIT_MS = 100
"""The embedded broker answers a fetch only when its wait is over."""


@dataclass(frozen=True, slots=True)
class Origins:
    """Where events come from."""

    buses: Mapping[str, BusAddress]
    reconcile_s: float
    """The pace of the leader that reads them."""


def origins(state_dir: Path, *, node: Path | None, buses: Sequence[str], without_stack: bool) -> Origins:
    """By `buses`, or the `node` file, or the local stack in `state_dir`. Raises Usage, ConfigError."""
    if buses and node is not None:
        raise Usage("--bus and --node both say whose buses to read: give one")
    if buses:
        return Origins(dict(_bus(text) for text in buses), Timings().reconcile_s)
    if node is None:
        if without_stack:
            raise Usage("with --url, say whose buses to read: --node FILE or --bus REGION=HOST:PORT")
        node = _of_stack(Stack.find(state_dir))
    file = load(node)
    return Origins(file.node.buses, file.node.timings.reconcile_s)


def _of_stack(stack: Stack) -> Path:
    for record in stack.file.processes:
        path = stack.state_dir / "nodes" / f"{record.id}.yaml"
        if record.kind is Kind.CONTROL_PLANE and path.is_file():
            return path
    raise Usage(f"the stack in {stack.state_dir} has no control plane's node file: name one by --node")


def _bus(text: str) -> tuple[str, BusAddress]:
    region, equals, servers = text.partition("=")
    try:
        if region and equals:
            named = tuple(part.strip() for part in servers.split(","))
            return region, BusAddress(bootstrap=named, fetch_max_wait_ms=FETCH_WAIT_MS)
    except ValidationError:
        pass
    raise Usage(f"--bus {text}: write REGION=HOST:PORT, further servers after commas")
