"""`make bench-brain`: what folding and deciding cost, and how long a fault takes through the whole stack, every process real.

    speed      fold, conclude, decide, memory: pure, on one pinned core        `bench.brain_core`
    growth     the same while targets, routes, client regions, targets of a route double
    stages     event in -> committed -> on the bus -> applied; etcd, and the embedded broker or Apache Kafka
    faults     a target is killed -> every edge serves without it; the leader is killed, and told to end
    passive    a target fails live traffic only -> the same
    traffic    bytes and messages on the buses

`BENCH_JSON=FILE` writes the figures. `BENCH_ONLY=speed,stages` runs some of the parts; `BENCH_RUNS` (20),
`BENCH_TAKEOVERS` (3), `BENCH_STAGE_RUNS` (100) and `BENCH_PASSIVE_RUNS` (10) say how often.
"""

import asyncio
import json
import os
import platform
import signal
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bench import brain_core
from bench.brain_faults import faults, takeovers
from bench.brain_passive import passive
from bench.brain_stack import stack
from bench.brain_stages import APACHE, EMBEDDED, stages
from bench.brain_traffic import counted
from shared import log

RUNS = int(os.environ.get("BENCH_RUNS", "20"))
TAKEOVERS = int(os.environ.get("BENCH_TAKEOVERS", "3"))
STAGE_RUNS = int(os.environ.get("BENCH_STAGE_RUNS", "100"))
PASSIVE_RUNS = int(os.environ.get("BENCH_PASSIVE_RUNS", "10"))
PATIENT_S = 1.0
"""Between two probes where the probes are not what is measured."""


def main() -> int:
    """See the module; returns an exit code."""
    log.configure(role="bench", node="brain", region="here", level="WARNING")
    # Ended from outside, it takes its detached stack along.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    chosen = os.environ.get("BENCH_ONLY", ",".join(PARTS)).split(",")
    if unknown := [name for name in chosen if name not in PARTS]:
        print(f"BENCH_ONLY: no part {', '.join(unknown)}; there are {', '.join(PARTS)}", file=sys.stderr)
        return 2
    figures: dict[str, Any] = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    }
    with tempfile.TemporaryDirectory(prefix="leeward-bench-") as scratch:
        for name in chosen:
            folder = Path(scratch) / name
            folder.mkdir()
            found = PARTS[name](folder)
            figures |= found
            _show(found)
    if path := os.environ.get("BENCH_JSON"):
        Path(path).write_text(json.dumps(figures, indent=1) + "\n")
    return 0


def _speed(_: Path) -> dict[str, Any]:
    return {**brain_core.measure("speed"), "rss_mb_per_10k_pairs": brain_core.measure("rss")}


def _growth(_: Path) -> dict[str, Any]:
    return {"growth": brain_core.growth()}


def _stages(scratch: Path) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    for broker in (EMBEDDED, APACHE):
        figures |= asyncio.run(stages(broker, runs=STAGE_RUNS, scratch=scratch))
    return figures


def _faults(scratch: Path) -> dict[str, Any]:
    with stack(scratch) as running:
        return asyncio.run(faults(running, runs=RUNS)) | asyncio.run(takeovers(running, runs=TAKEOVERS))


def _passive(scratch: Path) -> dict[str, Any]:
    with stack(scratch, probe_s=PATIENT_S) as running:
        return asyncio.run(passive(running, runs=PASSIVE_RUNS))


def _traffic(scratch: Path) -> dict[str, Any]:
    with stack(scratch, probe_s=PATIENT_S) as running:
        return asyncio.run(counted(running))


PARTS: Mapping[str, Callable[[Path], dict[str, Any]]] = {
    "speed": _speed,
    "growth": _growth,
    "stages": _stages,
    "faults": _faults,
    "passive": _passive,
    "traffic": _traffic,
}


def _show(figures: Mapping[str, Any]) -> None:
    for name, value in figures.items():
        if name == "growth":
            _show_growth(value)
        elif isinstance(value, dict):
            for inner, figure in value.items():
                print(f"{name + ' ' + inner:44} {figure}", flush=True)
        else:
            print(f"{name:44} {value}", flush=True)


def _show_growth(rows: list[Mapping[str, Any]]) -> None:
    columns = [name for name in rows[0] if name != "factor"]
    print("  ".join(f"{name:>18}" for name in ("factor", *columns)))
    for row in rows:
        print("  ".join(f"{row[name]!s:>18}" for name in ("factor", *columns)), flush=True)


if __name__ == "__main__":
    sys.exit(main())
