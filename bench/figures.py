"""What counting one request costs on the edge: `python -m bench.figures`. Best of many runs, in nanoseconds, so that a
busy machine says the same as a quiet one."""

import json
import os
import timeit
from pathlib import Path

from edge_router.adapters.figures import Figures
from edge_router.core.endpoints import Kind
from edge_router.core.promise import keeps
from edge_router.core.tokens import tokens_of

RUNS = 40
LOOPS = 20_000
ANSWER = (
    b'{"id":"c","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"'
    + b"x" * 300
    + b'"},"finish_reason":"stop"}],"usage":{"prompt_tokens":12,"completion_tokens":34,"total_tokens":46}}'
)
SILENT = ANSWER[: ANSWER.index(b',"usage"')] + b"}"
CHUNK = b'data: {"id":"c","choices":[],"usage":{"prompt_tokens":12,"completion_tokens":34}}\n\n'


def measured() -> dict[str, float]:
    """Nanoseconds by what is done."""
    figures = Figures()
    for number in range(1000):
        figures.answered("chat", 200, 0.1, tenant=f"t{number}")
    done = {
        "a request of a named tenant": lambda: figures.answered("chat", 200, 0.012, tenant="t3"),
        "a request of another tenant": lambda: figures.answered("chat", 200, 0.012, tenant="t999"),
        "checking an answer, tokens read": lambda: keeps(Kind.CHAT, ANSWER),
        "the same, of one without usage": lambda: keeps(Kind.CHAT, SILENT),
        "the tokens of a stream's end": lambda: tokens_of(CHUNK),
        "the first byte of a stream": lambda: figures.first_byte("chat", 0.012),
    }
    return {
        what: min(timeit.repeat(work, number=LOOPS, repeat=RUNS)) / LOOPS * 1e9 for what, work in done.items()
    }


def main() -> None:
    """Print the figures; write them where BENCH_JSON says."""
    figures = measured()
    for what, cost_ns in figures.items():
        print(f"{what:32} {cost_ns:7.0f} ns")
    if path := os.environ.get("BENCH_JSON"):
        Path(path).write_text(json.dumps({what: round(cost) for what, cost in figures.items()}))


if __name__ == "__main__":
    main()
