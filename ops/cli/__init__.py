"""The `leeward` command line.

Lives here: commands, their options, what they print, and exit codes. Does not live here: anything
that does the work; commands call `ops.local`, `ops.drill`, `ops.client` or a deployable's `run`.

A process of the fleet (`leeward edge …`) takes a short way that imports neither typer nor rich: a
local stack starts fifteen of them at once.
"""

import sys

PROCESSES = {
    "control-plane": "Run one control-plane replica.",
    "edge": "Run one edge router.",
    "prober": "Run one prober.",
    "simulator": "Run one simulated model endpoint.",
    "keeper": "Run what undoes the faults of a local stack.",
}
"""The commands that are a process, as `leeward --help` lists them,"""
INTERNAL = frozenset({"keeper"})
"""less those that nobody but `leeward up` starts."""


def main() -> int:
    """The `leeward` script; returns its exit code. Expected failures are a line on stderr."""
    arguments = sys.argv[1:]
    from ops.cli.failures import reported

    if arguments and arguments[0] in PROCESSES:
        from ops.cli.serve import serve

        return reported(lambda: serve(arguments))
    from ops.cli.app import run

    return reported(run)
