"""The metrics of an edge's workers: taken out of a registry in a worker, put into one in the parent."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from edge_router.adapters.worker_process import WorkerProcess
from edge_router.core.series import Family, Retired, merge

_KEPT_KINDS: Final = ("counter", "gauge", "histogram")


def families_of(registry: CollectorRegistry) -> list[Family]:
    """What a scrape of it would give."""
    return [
        Family(
            metric.name,
            metric.documentation,
            metric.type,
            {(sample.name, tuple(sample.labels.items())): sample.value for sample in metric.samples},
        )
        for metric in registry.collect()
        if metric.type in _KEPT_KINDS
    ]


class WorkersCollector(Collector):
    """What a scrape of the parent sees: all workers as one edge, and each as a process."""

    def __init__(
        self, workers: Callable[[], Sequence[WorkerProcess]], retired: Retired, restarts: dict[int, int]
    ) -> None:
        self._workers = workers
        self._retired = retired
        self._restarts = restarts

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        workers = self._workers()
        for family in merge([self._retired.families, *(worker.families for worker in workers)]):
            metric = Metric(family.name, family.text, family.kind)
            metric.samples = [
                Sample(name, dict(labels), value) for (name, labels), value in family.samples.items()
            ]
            yield metric
        yield from self._processes(workers)

    def _processes(self, workers: Sequence[WorkerProcess]) -> Iterator[Metric]:
        up = GaugeMetricFamily("leeward_edge_worker_up", "1 while the worker serves.", labels=("worker",))
        cpu = CounterMetricFamily(
            "leeward_edge_worker_cpu_seconds", "CPU time of the worker that runs now.", labels=("worker",)
        )
        memory = GaugeMetricFamily(
            "leeward_edge_worker_resident_bytes", "Resident memory of the worker.", labels=("worker",)
        )
        lag = GaugeMetricFamily(
            "leeward_edge_worker_loop_lag_seconds",
            "How late the worker's event loop woke, the worst of 15 s.",
            labels=("worker",),
        )
        swap = GaugeMetricFamily(
            "leeward_edge_worker_swap_seconds",
            "From the parent's last hand to serving by it.",
            labels=("worker",),
        )
        for worker in workers:
            name, report = (str(worker.index),), worker.report
            up.add_metric(name, float(worker.serves))
            swap.add_metric(name, worker.swap_s)
            if report is not None:
                cpu.add_metric(name, report.cpu_s)
                memory.add_metric(name, report.rss_bytes)
                lag.add_metric(name, report.lag_s)
        restarts = CounterMetricFamily(
            "leeward_edge_worker_restarts",
            "Times the worker ended and was started again.",
            labels=("worker",),
        )
        for index, count in sorted(self._restarts.items()):
            restarts.add_metric((str(index),), count)
        yield from (up, cpu, memory, lag, swap, restarts)
