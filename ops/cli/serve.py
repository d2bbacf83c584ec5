"""The commands that are a process: `control-plane`, `edge`, `prober`, `simulator`, `keeper`.

Parsed with argparse, without typer and rich: see the package's charter.
"""

import argparse
import importlib
from collections.abc import Sequence
from pathlib import Path

from ops.cli import PROCESSES
from ops.errors import Bad, Usage
from shared import log
from shared.clock import skew_asked_for
from shared.config_file import load
from shared.secrets import SecretError
from shared.vocabulary.node import MAX_WORKERS
from shared.vocabulary.terms import Role

DEFAULT_CONFIG = Path("leeward.yaml")
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")

_APPS = {
    Role.CONTROL_PLANE: "control_plane.app",
    Role.EDGE: "edge_router.app",
    Role.PROBER: "prober.app",
}


def serve(arguments: Sequence[str]) -> int:
    """Run the process that `arguments` (command first) describe, until it is told to end."""
    command = arguments[0]
    if command == "simulator":
        from ops.simulator.command import main

        return main(arguments[1:])
    if command == "keeper":
        from ops.keeper.command import main as keep

        return keep(arguments[1:])
    parser = argparse.ArgumentParser(prog=f"leeward {command}", description=PROCESSES[command])
    parser.add_argument(
        "--config", type=Path, default=DEFAULT_CONFIG, help="the node file (default: %(default)s)"
    )
    parser.add_argument("--log-level", choices=LEVELS, default="INFO", help="default: %(default)s")
    if command == Role.EDGE:
        parser.add_argument(
            "--workers",
            type=int,
            metavar="N",
            help="processes that serve, 1 to 64, in place of the node file's `workers`",
        )
    chosen = parser.parse_args(arguments[1:])
    return run_node(
        Role(command),
        config=chosen.config,
        log_level=chosen.log_level,
        workers=getattr(chosen, "workers", None),
    )


def tell_skew(node: str) -> None:
    """Say it loudly when this process's wall clock is off on purpose. Raises Usage for a skew that is no
    number."""
    try:
        skew_s = skew_asked_for()
    except ValueError as error:
        raise Usage(str(error)) from None
    if skew_s:
        log.get_logger(__name__).critical(
            "WALL CLOCK OFF ON PURPOSE: a drill's clock_skew is in force", node=node, skew_s=skew_s
        )


def run_node(role: Role, *, config: Path, log_level: str, workers: int | None = None) -> int:
    """Run one deployable from its node file; returns 0 after a graceful end. `workers` overrules the file's.

    Raises ConfigError for a faulty file, Usage for another role's, Bad when it cannot listen.
    """
    import uvloop

    file = load(config)
    if workers is not None:
        if not 1 <= workers <= MAX_WORKERS:
            raise Usage(f"--workers takes 1 to {MAX_WORKERS}, not {workers}")
        file = file.model_copy(update={"node": file.node.model_copy(update={"workers": workers})})
    node = file.node
    if node.role is not role:
        raise Usage(f"{config} is for `leeward {node.role.value}`: its node.role says so")
    log.configure(role=role.value, node=node.id, region=node.region, level=log_level)
    tell_skew(node.id)
    deployable = importlib.import_module(_APPS[role])
    try:
        uvloop.run(deployable.run(file))
    except SecretError as error:
        raise Usage(str(error)) from None
    except OSError as error:
        raise Bad(f"{node.id} cannot start: {error}") from None
    return 0
