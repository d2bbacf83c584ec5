"""`python -m tests.simulation SEED…`: one JSON result a line."""

import dataclasses
import json
import sys

from tests.simulation.run import simulate

for seed in sys.argv[1:]:
    print(json.dumps(dataclasses.asdict(simulate(int(seed)))), flush=True)
