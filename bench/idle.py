"""`python -m bench.idle [STATE_DIR]`: CPU and memory of a local stack that is running and asked nothing, over 10 s."""

import json
import sys
import time
from collections import defaultdict
from pathlib import Path

import psutil

SPAN_S = 10.0


def main() -> int:
    """Print a line for each kind of process, and the sum; returns an exit code."""
    state_dir = Path(sys.argv[1] if len(sys.argv) > 1 else ".leeward")
    records = json.loads((state_dir / "stack.json").read_text())["processes"]
    processes = [(record["kind"], psutil.Process(record["pid"])) for record in records]
    before = [sum(process.cpu_times()[:2]) for _, process in processes]
    time.sleep(SPAN_S)
    sums: dict[str, list[float]] = defaultdict(lambda: [0, 0.0, 0.0])
    for (kind, process), spent_s in zip(processes, before, strict=True):
        share = (sum(process.cpu_times()[:2]) - spent_s) / SPAN_S * 100
        for name in (kind, "all"):
            sums[name][0] += 1
            sums[name][1] += share
            sums[name][2] += process.memory_info().rss / 2**20
    for name, (count, share, rss_mb) in sums.items():
        print(f"{name:14} {count:3.0f} processes {share:6.1f} % of a core {rss_mb:8.1f} MB RSS")
    return 0


if __name__ == "__main__":
    sys.exit(main())
