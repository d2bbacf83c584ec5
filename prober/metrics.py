"""What a prober counts, under the names that dashboards read. Labels are as many as its jobs, and leave with them."""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from prober.core.counters import Finding, State
from prober.core.jobs import Job, Key
from shared.vocabulary.terms import Outcome

_UP: dict[State, float] = {"UP": 1.0, "DOWN": 0.0, "UNKNOWN": float("nan")}


class Metrics:
    """The metrics of one prober, in `registry`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"leeward_prober_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"leeward_prober_{name}", text, labels, registry=registry)

        self.probes = counter(
            "probes", "Probes that told something, by outcome", "target", "monitor", "outcome"
        )
        self.up = gauge("target_up", "1 UP, 0 DOWN, NaN UNKNOWN", "target", "monitor")
        self.interval = gauge("probe_interval_seconds", "Pace at the moment", "target", "monitor")
        self.duration = Histogram(
            "leeward_prober_probe_seconds",
            "How long probes took, whatever their outcome",
            ["monitor"],
            buckets=(0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30),
            registry=registry,
        )
        self.untold = counter("probes_without_finding", "Probes that failed on this side", "monitor")
        self.cost = counter(
            "probe_cost_usd", "What probes cost, by list price, in US dollars", "target", "monitor"
        )
        self.unpaid = counter(
            "probes_over_cost_ceiling", "Probes not sent, to stay below the ceiling", "monitor"
        )
        self.skipped = gauge("probes_skipped", "Scheduled probes passed over after a pause of this process")
        self.inflight = gauge("probes_inflight", "Probes under way")
        self.jobs = gauge("jobs", "Targets times monitors")
        self.events = counter("events", "Events by what became of them", "result")
        self.entries = counter("event_entries", "States told in published events")
        self.bus_reachable = gauge("bus_reachable", "1 while the region's bus answers")
        self.config_version = gauge("config_version", "Version of the fleet in force")
        self.config_refused = counter("config_refused", "Messages on the config topic that were not taken")

    def probed(self, job: Job, finding: Finding, state: State) -> None:
        """Count one finding."""
        self.probes.labels(*job.key, finding.outcome.value).inc()
        self.up.labels(*job.key).set(_UP[state])
        self.duration.labels(job.monitor.id).observe(finding.latency_ms / 1000)

    def forget(self, keys: Iterable[Key]) -> None:
        """Drop the labels of jobs that are gone."""
        for key in keys:
            self.up.remove(*key)
            self.interval.remove(*key)
            self.cost.remove(*key)
            for outcome in Outcome:
                self.probes.remove(*key, outcome.value)
