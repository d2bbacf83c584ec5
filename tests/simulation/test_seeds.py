"""Seeded runs of the whole system on virtual time. `--seeds N` runs the first N; `--seed K` replays one and prints its trace.

Set iteration depends on the interpreter's hash seed, so the runs take place in children with PYTHONHASHSEED=0:
a seed means the same run on every machine.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
WORKERS = max(1, os.cpu_count() or 1)
PER_SEED_S = 60.0
SHOWN = 60
"""Last lines of a failing run's trace."""


def run(seeds: list[int]) -> Iterator[dict[str, Any]]:
    """Results of `seeds`, from one child process."""
    child = subprocess.run(
        [sys.executable, "-m", "tests.simulation", *map(str, seeds)],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        timeout=PER_SEED_S * len(seeds),
        check=False,
    )
    assert child.returncode == 0, child.stderr[-4000:]
    for line in child.stdout.splitlines():
        yield json.loads(line)


@pytest.mark.timeout(3600)
def test_no_seed_breaks_an_invariant(pytestconfig: pytest.Config, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever happens, every invariant of the checkers holds at every moment, and after the last fault all edges
    come to serve the committed head, use only what lives, and stay there without a further decision."""
    only = pytestconfig.getoption("--seed")
    seeds = [only] if only is not None else list(range(1, pytestconfig.getoption("--seeds") + 1))
    from concurrent.futures import ThreadPoolExecutor

    shares = [share for index in range(WORKERS) if (share := seeds[index::WORKERS])]
    with ThreadPoolExecutor(len(shares)) as pool:
        results = [result for part in pool.map(lambda share: list(run(share)), shares) for result in part]
    assert len(results) == len(seeds)
    hours = sum(result["virtual_s"] for result in results) / 3600
    with capsys.disabled():
        print(
            f"\nsimulation: {len(results)} seeds, {hours:.2f} simulated hours, "
            f"{sum(r['faults'] for r in results)} faults, {sum(r['commits'] for r in results)} decisions"
        )
    failed = sorted((result for result in results if result["broken"]), key=lambda result: result["seed"])
    for result in failed[:3]:
        trace = "\n".join(result["trace"][-SHOWN:])
        print(
            f"seed {result['seed']}: {result['broken']}\nreplay: pytest tests/simulation --seed {result['seed']}\n{trace}\n"
        )
    assert not failed, f"seeds {[result['seed'] for result in failed]}: {failed[0]['broken']}"


def test_a_seed_is_the_same_run_every_time() -> None:
    """Two runs of one seed, in two processes, leave the same trace: a failing seed can be replayed."""
    first, second = ([result["trace_sha"] for result in run([5, 6])] for _ in range(2))
    assert first == second
