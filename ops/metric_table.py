"""The table of all metrics, read off the code itself: `python -m ops.metric_table docs/METRICS.md` writes it anew
between the two marks of that page. Alert rules and dashboards are checked against the same list.
"""

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, cast

from prometheus_client import CollectorRegistry

from control_plane.metrics import Metrics as ControlPlaneMetrics
from edge_router.adapters.figures import EdgeCollector, Figures
from edge_router.adapters.ladder import Rungs
from edge_router.adapters.worker_figures import WorkersCollector
from edge_router.core.series import Retired
from edge_router.metrics import Metrics as EdgeMetrics
from prober.metrics import Metrics as ProberMetrics
from shared.clock import SystemClock
from shared.metrics import LoopLag, ProcessFigures
from shared.vocabulary.terms import EdgeMode

BEGIN = "<!-- the table: python -m ops.metric_table docs/METRICS.md -->"
END = "<!-- end of the table -->"
Of = Literal["every process", "edge", "control plane", "prober"]


@dataclass(frozen=True, slots=True)
class Family:
    """One metric as its readers name it."""

    name: str
    kind: str
    labels: tuple[str, ...]
    text: str
    of: Of

    @property
    def series(self) -> tuple[str, ...]:
        """The names under which it is scraped."""
        if self.kind == "histogram":
            return (f"{self.name}_bucket", f"{self.name}_count", f"{self.name}_sum")
        return (self.name,)


def families() -> list[Family]:
    """All there are, by process and name."""
    clock = SystemClock()
    edge = CollectorRegistry()
    EdgeMetrics(edge)
    idle = SimpleNamespace(
        figures=Figures(),
        rungs=Rungs(),
        lanes=tuple,
        clients=(),
        exchanges=(),
        extra_active=0,
        reserved_bytes=0,
        upstream_connections=0,
        mode=EdgeMode.STALE,
        monotonic=clock.monotonic,
        fault_filter=SimpleNamespace(struck={}, shown=lambda now: ()),
    )
    edge.register(EdgeCollector(cast(Any, idle)))
    edge.register(WorkersCollector(lambda: (), Retired(), {}))
    prober = CollectorRegistry()
    ProberMetrics(prober)
    every = CollectorRegistry()
    every.register(
        ProcessFigures(role="edge", node="n", region="r", lag=LoopLag(clock), restarts={}, clock=clock)
    )
    registries: tuple[tuple[CollectorRegistry, Of], ...] = (
        (every, "every process"),
        (edge, "edge"),
        (ControlPlaneMetrics().registry, "control plane"),
        (prober, "prober"),
    )
    return [
        family for registry, of in registries for family in sorted(_of(registry, of), key=lambda f: f.name)
    ]


def _of(registry: CollectorRegistry, of: Of) -> Iterator[Family]:
    # What has labels and no samples yet says neither name nor labels when it is collected, so both are
    # asked of the collectors themselves.
    for collector in list(registry._collector_to_names):
        declared = getattr(collector, "_labelnames", None)
        found: Iterable[Any] = collector.collect()
        for family in found:
            labels = declared if declared is not None else getattr(family, "_labelnames", ())
            name = f"{family.name}_total" if family.type == "counter" else family.name
            yield Family(name, family.type, tuple(labels or ()), family.documentation, of)


def table() -> str:
    """As Markdown, a part for each kind of process."""
    lines = []
    of: str = ""
    for family in families():
        if family.of != of:
            of = family.of
            lines += [
                "",
                f"### {of[0].upper()}{of[1:]}",
                "",
                "| metric | kind | labels | what |",
                "|---|---|---|---|",
            ]
        labels = ", ".join(f"`{label}`" for label in family.labels) or "–"
        text = family.text.replace("|", "\\|").rstrip(".")
        lines.append(f"| `{family.name}` | {family.kind} | {labels} | {text} |")
    return "\n".join(lines).strip() + "\n"


def rewritten(page: str) -> str:
    """`page` with the present table between its marks. Raises ValueError when it has none."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page lacks {BEGIN if not begin else END!r}")
    return f"{before}{BEGIN}\n\n{table()}\n{END}{after}"


def main() -> None:
    """Write the table into the page that is named."""
    path = Path(sys.argv[1])
    path.write_text(rewritten(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
